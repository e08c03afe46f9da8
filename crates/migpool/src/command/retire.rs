//! `migpool retire`: what the charts run before `helm uninstall` takes the rights away.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use cluster::Retired;
use tracing::{info, warn};

use crate::failure::Failure;
use crate::runtime::start_log;

/// Delete migpool's DaemonSets and wait until their pods have ended, so that they can take what is theirs from the nodes.
#[derive(Debug, Args)]
pub(crate) struct Retire {
    /// The namespace of the DaemonSets
    #[arg(long, value_name = "NAME")]
    namespace: String,
    /// A DaemonSet; give it again for another one
    #[arg(long = "daemonset", value_name = "NAME", required = true)]
    daemonsets: Vec<String>,
    /// How long to wait for the pods of each
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// How to reach the cluster from outside of it
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
}

impl Retire {
    /// Takes them away, one after the other. Pods that don't end in time are said and are no failure: whoever uninstalls
    /// must not be held up by a node that is down.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        start_log();
        for name in &self.daemonsets {
            let kubeconfig = self.kubeconfig.as_deref();
            let retired = cluster::retire(kubeconfig, &self.namespace, name, self.timeout).await;
            let object = format!("DaemonSet {}/{name}", self.namespace);
            match retired.map_err(Failure::of)? {
                Retired::Gone => info!("{object} and its pods have ended"),
                Retired::Absent => info!("{object} is not there"),
                Retired::Ending => warn!(
                    "{object} still has pods after {:?}: labels, taint and conditions may stay on their nodes; \
                     `kubectl get pods --namespace {} --output wide` shows which",
                    self.timeout, self.namespace
                ),
            }
        }
        Ok(())
    }
}

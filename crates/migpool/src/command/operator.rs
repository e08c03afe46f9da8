//! `migpool operator`: node pools on a Kubernetes cluster; and the definitions of its custom resources.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use kubernetes::{OperatorConfig, WebhookConfig};

use crate::failure::Failure;
use crate::runtime::{cancelled_by_signals, start_log};

/// Bring the nodes of a Kubernetes cluster to what its NodePools say. Of several operators one acts, and the others wait.
#[derive(Debug, Args)]
pub(crate) struct Operator {
    /// The namespace of the operator: of its Lease, and of its webhook's Secret
    #[arg(long, value_name = "NAMESPACE", env = "NAMESPACE")]
    namespace: String,
    /// What this operator is called among others: its pod's name
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    identity: String,
    /// Reach the API server by this kubeconfig instead of the pod's own token
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Answer /healthz, /readyz and /metrics on this address; nothing listens without it
    #[arg(long, value_name = "ADDRESS:PORT", env = "MIGPOOL_LISTEN")]
    listen: Option<SocketAddr>,
    /// The name of the Lease that the operator that acts holds
    #[arg(long, value_name = "NAME", default_value = "migpool-operator")]
    lease: String,
    /// Answer the API server here when it asks whether a NodePool is to be let in; there is no webhook without it
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "MIGPOOL_WEBHOOK_LISTEN",
        requires = "webhook_service",
        requires = "webhook_secret",
        requires = "webhook_configuration"
    )]
    webhook_listen: Option<SocketAddr>,
    /// The Service by which the API server reaches the webhook
    #[arg(long, value_name = "NAME")]
    webhook_service: Option<String>,
    /// The Secret with the webhook's certificate, which the operator keeps
    #[arg(long, value_name = "NAME")]
    webhook_secret: Option<String>,
    /// The ValidatingWebhookConfiguration, which the operator tells whom to trust
    #[arg(long, value_name = "NAME")]
    webhook_configuration: Option<String>,
    /// Look at Cluster API's MachineDeployments and Machines too
    #[arg(long)]
    cluster_api: bool,
    /// Look after the resource groups, managed clusters and operations of `migpool serve` too
    #[arg(long)]
    arm: bool,
}

impl Operator {
    /// Runs until it is interrupted.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        start_log();
        let cancel = cancelled_by_signals()?;
        let names = (
            self.webhook_service,
            self.webhook_secret,
            self.webhook_configuration,
        );
        let webhook = match (self.webhook_listen, names) {
            (Some(listen), (Some(service), Some(secret), Some(configuration))) => {
                Some(WebhookConfig {
                    listen,
                    service,
                    secret,
                    configuration,
                })
            }
            _ => None,
        };
        let config = OperatorConfig {
            namespace: self.namespace,
            identity: self.identity,
            kubeconfig: self.kubeconfig,
            lease: self.lease,
            listen: self.listen,
            webhook,
            cluster_api: self.cluster_api,
            arm: self.arm,
        };
        // Its state is large, and there is one of it.
        Box::pin(kubernetes::run(config, cancel))
            .await
            .map_err(Failure::of)
    }
}

/// Print the CustomResourceDefinitions of NodePool and GpuNode.
#[derive(Debug, Args)]
pub(crate) struct Crds {}

impl Crds {
    /// Prints them as YAML.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Self {} = self;
        let all = kubernetes::custom_resource_definitions().map_err(Failure::of)?;
        let documents: Vec<String> = all.into_iter().map(|(_, text)| text).collect();
        crate::output::write_line(documents.join("---\n").trim_end())
    }
}

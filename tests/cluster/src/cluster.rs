//! A cluster, and what can be done with it.

mod lifecycle;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::time::Duration;

use serde_json::Value;

use crate::certificates;
use crate::config::Config;
use crate::namespace::{self, Namespace};
use crate::node::{self, Node};
use crate::parts;
use crate::service::{self, Service};
use crate::state::{self, State};
use crate::{cgroups, control_plane, packages, run, wait};

/// Why a cluster did not start, stop, or do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine or the user cannot have one.
    #[error(transparent)]
    Packages(#[from] packages::Error),
    /// Its programs.
    #[error(transparent)]
    Parts(#[from] parts::Error),
    /// Nothing runs in this state folder.
    #[error("no cluster runs with the state folder {0}")]
    NotRunning(PathBuf),
    /// Something runs in this state folder.
    #[error("a cluster runs already with the state folder {0}; stop it first")]
    Running(PathBuf),
    /// A node's name is not one.
    #[error(
        "`{0}` is no name for a node: lower-case letters, digits and dashes, not twice, and not `control-plane`"
    )]
    NodeName(String),
    /// There is no such node.
    #[error("the cluster has no node {name}; it has {}", nodes.join(", "))]
    NoSuchNode {
        /// The name that was asked for.
        name: String,
        /// The nodes that it has.
        nodes: Vec<String>,
    },
    /// The state folder lies where containers' overlays cannot.
    #[error(
        "the state folder {0} lies on an overlay file system, and containers' own overlays cannot lie on one: build into a \
         folder on ext4, xfs or btrfs (CARGO_TARGET_DIR)"
    )]
    Overlay(PathBuf),
    /// More nodes than there are addresses for.
    #[error("{0} nodes are too many: there are addresses for 200")]
    TooManyNodes(usize),
    /// A file of the state folder.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The control plane's namespaces.
    #[error(transparent)]
    Namespace(#[from] namespace::Error),
    /// The cluster's certificates.
    #[error(transparent)]
    Certificates(#[from] certificates::Error),
    /// The cluster's cgroups.
    #[error(transparent)]
    Cgroups(#[from] cgroups::Error),
    /// One of its services.
    #[error(transparent)]
    Service(#[from] service::Error),
    /// One of its nodes.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// A program that was run in it.
    #[error(transparent)]
    Run(#[from] run::Error),
    /// kubectl answered something that is no JSON.
    #[error("kubectl {arguments} does not answer in JSON: {source}")]
    Json {
        /// What it was asked.
        arguments: String,
        /// What is wrong with the answer.
        source: serde_json::Error,
    },
    /// Something did not come, or a process of the cluster does not end.
    #[error(transparent)]
    TimedOut(#[from] wait::TimedOut),
}

/// A running cluster.
///
/// Dropping it stops it when its [`Lifetime`](crate::Lifetime) is that of its owner; the owner's death ends its processes all the same.
#[derive(Debug)]
pub struct Cluster {
    state: State,
    namespace: Namespace,
    nodes: Vec<Node>,
    path: String,
    /// Held open: its closing is what ends the cluster with its owner.
    owner: Option<ChildStdin>,
}

/// How long anything that has to come up may take. On a busy machine that is long.
const PATIENCE: Duration = Duration::from_mins(2);
/// A look must not wait for ever for a server that takes it and does not answer.
const SOON: &str = "--request-timeout=10s";
const CONTROL_NAMESPACE: &str = "control-plane";

impl Cluster {
    /// The cluster that was started with this state folder by whatever process.
    ///
    /// # Errors
    /// When none runs.
    pub fn attach(state_dir: &Path) -> Result<Self, Error> {
        let not_running = || Error::NotRunning(state_dir.to_owned());
        let state = State::open(state_dir).map_err(|_| not_running())?;
        let config: Config =
            state::read_json(&state.path("cluster.json")).map_err(|_| not_running())?;
        let path = std::fs::read_to_string(state.path("path")).map_err(|_| not_running())?;
        let namespace = Namespace::find(&state, CONTROL_NAMESPACE).ok_or_else(not_running)?;
        let nodes = config
            .nodes
            .iter()
            .map(|name| Node::find(&state, &path, name).ok_or_else(not_running))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            state,
            namespace,
            nodes,
            path,
            owner: None,
        })
    }

    /// Stops it and deletes all that is left of it: processes, mounts, networks, cgroups and the state folder.
    ///
    /// # Errors
    /// When something of it cannot be ended or deleted.
    pub fn stop(mut self) -> Result<(), Error> {
        self.owner = None;
        Self::stop_at(self.state.dir())
    }

    /// A program to be run in the control plane's namespaces, on the machine's file system, in this process's folder:
    /// `kubectl`, `helm` and the cluster's other programs are in its `PATH`, and find the cluster.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.namespace.enter("sh");
        command
            .args(["-c", r#"cd "$1"; shift; exec "$@""#, "sh"])
            .arg(std::env::current_dir().unwrap_or_else(|_| "/".into()))
            .arg(program)
            .env("PATH", &self.path)
            .env("KUBECONFIG", self.kubeconfig())
            // What they cache belongs to this cluster, not to the user.
            .env("KUBECACHEDIR", self.state.path("kube"))
            .env("HELM_CACHE_HOME", self.state.path("helm/cache"))
            .env("HELM_CONFIG_HOME", self.state.path("helm/config"))
            .env("HELM_DATA_HOME", self.state.path("helm/data"));
        command
    }

    /// The administrator's client configuration. Its address is one of the cluster's own network.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.kubeconfig("admin")
    }

    /// Runs kubectl and gives what it prints.
    ///
    /// # Errors
    /// When kubectl fails, with its words.
    pub fn kubectl<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String, Error> {
        Ok(run::output(self.command("kubectl").args(arguments))?)
    }

    /// Runs kubectl with `--output json`, and parses what it prints.
    ///
    /// # Errors
    /// When kubectl fails, with its words, or prints no JSON.
    pub fn kubectl_json<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Value, Error> {
        let mut command = self.command("kubectl");
        command.args(arguments).args(["--output", "json"]);
        let text = run::output(&mut command)?;
        serde_json::from_str(&text).map_err(|source| Error::Json {
            arguments: run::describe(&command),
            source,
        })
    }

    /// `kubectl apply` of a manifest.
    ///
    /// # Errors
    /// When kubectl fails, with its words.
    pub fn apply(&self, manifest: &str) -> Result<String, Error> {
        let mut command = self.command("kubectl");
        Ok(run::output_of(
            command.args(["apply", "--filename", "-"]),
            manifest.as_bytes(),
        )?)
    }

    /// Runs helm and gives what it prints.
    ///
    /// # Errors
    /// When helm fails, with its words.
    pub fn helm<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String, Error> {
        Ok(run::output(self.command("helm").args(arguments))?)
    }

    /// One of its nodes.
    ///
    /// # Errors
    /// When it has none of that name.
    pub fn node(&self, name: &str) -> Result<&Node, Error> {
        self.nodes
            .iter()
            .find(|node| node.name() == name)
            .ok_or_else(|| Error::NoSuchNode {
                name: name.to_owned(),
                nodes: self
                    .nodes
                    .iter()
                    .map(|node| node.name().to_owned())
                    .collect(),
            })
    }

    /// Its nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Its API server.
    #[must_use]
    pub fn api_server(&self) -> Service {
        self.service(control_plane::API_SERVER)
    }

    /// Its scheduler.
    #[must_use]
    pub fn scheduler(&self) -> Service {
        self.service(control_plane::SCHEDULER)
    }

    /// Its controller manager.
    #[must_use]
    pub fn controller_manager(&self) -> Service {
        self.service(control_plane::CONTROLLER_MANAGER)
    }

    /// KWOK, which plays nodes that are none: those with the annotation `kwok.x-k8s.io/node=fake`. It does not run until it
    /// is started. Its nodes are heard of once in minutes: see [`Cluster::wait_for_nodes`].
    #[must_use]
    pub fn kwok(&self) -> Service {
        self.service(control_plane::KWOK)
    }

    /// Has the controller manager take a node for dead only after it said nothing for so long; `None` is Kubernetes' own 50
    /// seconds. Restarts it where that is news to it.
    ///
    /// # Errors
    /// When it does not end or start.
    pub fn wait_for_nodes(&self, grace: Option<Duration>) -> Result<(), Error> {
        let grace = grace.unwrap_or(control_plane::NODE_GRACE);
        let program = control_plane::patient_controller_manager(&self.state, &self.path, grace);
        let service = self.controller_manager();
        if service.redefine(&program)? {
            service.restart()?;
        }
        Ok(())
    }

    /// Where the API server writes down each request of a service account, one JSON object of kind `audit.k8s.io/v1` Event a
    /// line, without bodies; nothing is there unless [`Config::audit`](crate::Config::audit) is set.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        control_plane::audit_log(&self.state)
    }

    /// The network namespace of the control plane, from which API server, services' endpoints and nodes can be reached.
    #[must_use]
    pub fn network(&self) -> PathBuf {
        let first = self.namespace.first().as_raw_nonzero();
        PathBuf::from(format!("/proc/{first}/ns/net"))
    }

    fn service(&self, name: &str) -> Service {
        Service::new(&self.state, &self.namespace, name)
    }

    /// The last lines of every log, for a failed test to show.
    #[must_use]
    pub fn logs(&self) -> String {
        let tails = self
            .state
            .logs()
            .into_iter()
            .map(|name| self.state.log_tail(&name));
        tails.collect::<Vec<_>>().join("\n")
    }

    /// Waits until the API server serves, every node is Ready, and pods can be made.
    ///
    /// # Errors
    /// When that does not come within two minutes: with the end of the log of what is late.
    pub fn wait_until_ready(&self) -> Result<(), Error> {
        self.wait_for_api_server()?;
        for node in &self.nodes {
            let what = format!("{} to be Ready", node.name());
            node.kubelet().serves(&what, PATIENCE, || {
                let status = self.kubectl_json(["get", "node", node.name(), SOON]);
                ready(&status.map_err(|error| error.to_string())?)
            })?;
        }
        self.controller_manager()
            .serves("the default service account", PATIENCE, || {
                self.kubectl(["get", "serviceaccount", "default", SOON])
            })?;
        Ok(())
    }

    /// Waits until the API server serves.
    ///
    /// # Errors
    /// When that does not come within two minutes: with the end of its log.
    pub fn wait_for_api_server(&self) -> Result<(), Error> {
        self.api_server().serves("the API server", PATIENCE, || {
            self.kubectl(["get", "--raw", "/readyz", SOON])
        })?;
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.owner.take().is_some()
            && let Err(error) = Self::stop_at(self.state.dir())
        {
            eprintln!("cannot stop the cluster: {error}");
        }
    }
}

/// Whether a node's own status says that it is Ready.
fn ready(node: &Value) -> Result<(), String> {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    let condition = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.get("type").is_some_and(|name| name == "Ready"))
        .ok_or("no condition Ready")?;
    if condition
        .get("status")
        .is_some_and(|status| status == "True")
    {
        Ok(())
    } else {
        Err(condition
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or("not Ready")
            .to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_that_is_not_ready_says_why() {
        let node = |status: &str| {
            json!({"status": {"conditions": [
                {"type": "DiskPressure", "status": "False"},
                {"type": "Ready", "status": status, "message": "no network yet"},
            ]}})
        };
        assert_eq!(ready(&node("False")), Err("no network yet".to_owned()));
        assert_eq!(ready(&node("True")), Ok(()));
        assert!(ready(&json!({})).is_err());
    }

    #[test]
    fn no_cluster_is_attached_to_where_none_runs() {
        let folder = tempfile::tempdir().unwrap();
        for dir in [folder.path().to_owned(), folder.path().join("none")] {
            let error = Cluster::attach(&dir).unwrap_err();
            assert!(matches!(error, Error::NotRunning(_)), "{error}");
        }
    }
}

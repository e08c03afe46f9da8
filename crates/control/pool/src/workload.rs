//! Pods on local nodes.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Invalid;
use crate::key::ClusterKey;
use crate::name::PodName;
use crate::node_name::NodeName;

/// Runs pods, where the backend has no Kubernetes that does.
pub trait Workloads: Send + Sync + 'static {
    /// Runs the Pod of a manifest (YAML or JSON, one document). It is `Pending` until a node has room.
    ///
    /// The pod's name must be `name`. Running the same manifest again is no change; another manifest under the name of a pod
    /// that is there is a [`WorkloadError::Conflict`].
    fn run_pod(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
        manifest: &str,
    ) -> impl Future<Output = Result<Pod, WorkloadError>> + Send;

    /// The pods of a cluster, by name.
    fn pods(
        &self,
        cluster: &ClusterKey,
    ) -> impl Future<Output = Result<Vec<Pod>, WorkloadError>> + Send;

    /// One pod.
    fn pod(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
    ) -> impl Future<Output = Result<Pod, WorkloadError>> + Send;

    /// What a pod's container wrote to standard output and standard error; of the first container if none is named.
    fn pod_logs(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
        container: Option<&str>,
    ) -> impl Future<Output = Result<Vec<u8>, WorkloadError>> + Send;

    /// Ends a pod and gives back what it held.
    fn delete_pod(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
    ) -> impl Future<Output = Result<(), WorkloadError>> + Send;

    /// What a program needs to run as if inside a running pod's container; of the first container if none is named.
    fn exec_environment(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
        container: Option<&str>,
    ) -> impl Future<Output = Result<ExecEnvironment, WorkloadError>> + Send;
}

impl<T: Workloads> Workloads for Arc<T> {
    fn run_pod(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
        manifest: &str,
    ) -> impl Future<Output = Result<Pod, WorkloadError>> + Send {
        T::run_pod(self, cluster, name, manifest)
    }

    fn pods(
        &self,
        cluster: &ClusterKey,
    ) -> impl Future<Output = Result<Vec<Pod>, WorkloadError>> + Send {
        T::pods(self, cluster)
    }

    fn pod(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
    ) -> impl Future<Output = Result<Pod, WorkloadError>> + Send {
        T::pod(self, cluster, name)
    }

    fn pod_logs(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
        container: Option<&str>,
    ) -> impl Future<Output = Result<Vec<u8>, WorkloadError>> + Send {
        T::pod_logs(self, cluster, name, container)
    }

    fn delete_pod(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
    ) -> impl Future<Output = Result<(), WorkloadError>> + Send {
        T::delete_pod(self, cluster, name)
    }

    fn exec_environment(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
        container: Option<&str>,
    ) -> impl Future<Output = Result<ExecEnvironment, WorkloadError>> + Send {
        T::exec_environment(self, cluster, name, container)
    }
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Its name.
    pub name: PodName,
    /// Its namespace; `default` if the manifest names none.
    pub namespace: String,
    /// Its unique id: another pod of the same name has another.
    pub uid: String,
    /// Where it is on its way.
    pub phase: PodPhase,
    /// Why it is `Pending` or `Failed`, and what to know of it; empty when there is nothing to say.
    #[serde(default)]
    pub message: String,
    /// The node that it runs on.
    #[serde(default)]
    pub node: Option<NodeName>,
    /// Its containers.
    #[serde(default)]
    pub containers: Vec<PodContainer>,
    /// When it was asked for.
    pub created: Timestamp,
    /// Things that the person who ran it should know once, such as that an image is not pulled here.
    #[serde(default)]
    pub notices: Vec<String>,
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PodContainer {
    /// Its name.
    pub name: String,
    /// The image that the manifest names.
    pub image: String,
    /// Its process, while it runs.
    #[serde(default)]
    pub pid: Option<u32>,
    /// Its exit code, once it ended; 128 + n when signal n ended it.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// Devices that it holds (`MIG-...`, `GPU-...`), by resource name.
    #[serde(default)]
    pub devices: BTreeMap<String, Vec<String>>,
}

/// Where a pod is on its way, with Kubernetes' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum PodPhase {
    /// No node has room for it, or it is about to start.
    Pending,
    /// It runs.
    Running,
    /// All its containers ended with 0.
    Succeeded,
    /// One of its containers did not.
    Failed,
    /// Being ended.
    Terminating,
}

/// What a program needs to run as if inside a pod's container on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ExecEnvironment {
    /// Environment variables that are set, over those that the program has.
    pub environment: BTreeMap<String, String>,
    /// The folder to run in.
    #[serde(default)]
    pub working_directory: Option<String>,
}

/// Why something about a pod could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// What was asked makes no sense; for a manifest the message has line and column or the field's path.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There is no such pod.
    #[error("pod {0} was not found; `migpool pod list` shows those there are")]
    NotFound(PodName),
    /// The pod is not in a state for it.
    #[error("{0}")]
    Conflict(String),
    /// It did not work.
    #[error("{0}")]
    Failed(String),
}

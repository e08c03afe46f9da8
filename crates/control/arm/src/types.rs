//! The bodies of requests and answers, for this server and for its clients alike.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use pool::{ExecEnvironment, ObservedNode, Pod};

mod agent_pool;
mod deployment;
mod managed_cluster;
mod request;
mod subscription;

pub use agent_pool::*;
pub use deployment::*;
pub use managed_cluster::*;
pub use request::*;
pub use subscription::*;

/// A resource in ARM's envelope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Resource_for_{P}")]
pub struct Resource<P> {
    /// The resource's path.
    #[serde(default)]
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its type, such as `Microsoft.ContainerService/managedClusters/agentPools`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The region, for resources that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Tags, for resources that have them in the envelope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// The version, for resources that have it in the envelope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e_tag: Option<String>,
    /// What is particular to the type.
    pub properties: P,
    /// Other fields (`identity`, `sku`, ...).
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A page of resources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ResourceList_for_{T}")]
pub struct ResourceList<T> {
    /// The resources.
    pub value: Vec<T>,
    /// The URL of the next page; `None` on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_link: Option<String>,
}

impl<T> ResourceList<T> {
    /// The only page.
    #[must_use]
    pub fn of(value: Vec<T>) -> Self {
        Self {
            value,
            next_link: None,
        }
    }
}

/// A resource group.
pub type ResourceGroup = Resource<GroupProperties>;
/// A managed cluster.
pub type ManagedCluster = Resource<ManagedClusterProperties>;
/// An agent pool.
pub type AgentPool = Resource<AgentPoolProperties>;
/// A node of a cluster, migpool's own type.
pub type Node = Resource<ObservedNode>;
/// A pod of a cluster, migpool's own type.
pub type PodResource = Resource<Pod>;
/// What a program needs to run as if inside a pod's container.
pub type PodExecEnvironment = Resource<ExecEnvironment>;

/// What is particular to a resource group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupProperties {
    /// `Succeeded` or `Deleting`.
    pub provisioning_state: String,
}

/// What is particular to a managed cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::managed_cluster::describe)]
pub struct ManagedClusterProperties {
    /// Where it is on its way.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub provisioning_state: String,
    /// What is going on, or why it failed. A property of migpool's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub provisioning_message: String,
    /// Its node pools.
    #[serde(default)]
    pub agent_pool_profiles: Vec<AgentPoolProfile>,
    /// Other fields.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A node pool within the body of its cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentPoolProfile {
    /// The pool's name.
    pub name: String,
    /// The same as in the pool's own body.
    #[serde(flatten)]
    pub properties: AgentPoolProperties,
}

/// How a long-running operation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationResult {
    /// Its id.
    pub name: String,
    /// `InProgress`, `Succeeded`, `Failed` or `Canceled`.
    pub status: String,
    /// When it started.
    pub start_time: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Timestamp>,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorDetail>,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorDetail {
    /// ARM's code.
    pub code: String,
    /// A sentence for a person.
    pub message: String,
    /// The property that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// The body of an answer that is an error, in either of ARM's shapes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum ErrorBody {
    /// ARM's gateway.
    Gateway {
        /// What went wrong.
        error: ErrorDetail,
    },
    /// AKS itself.
    Provider(ErrorDetail),
}

impl ErrorBody {
    /// What went wrong.
    #[must_use]
    pub fn into_detail(self) -> ErrorDetail {
        match self {
            Self::Gateway { error } | Self::Provider(error) => error,
        }
    }
}

//! The bodies about agent pools.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Resource;

/// A machine of an agent pool: a node, as ARM has it.
pub type Machine = Resource<MachineProperties>;
/// The versions that an agent pool can be made with.
pub type AgentPoolAvailableVersions = Resource<AvailableVersions>;
/// To what an agent pool can be upgraded.
pub type AgentPoolUpgradeProfile = Resource<UpgradeProfileProperties>;

/// What is particular to an agent pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::properties::describe)]
pub struct AgentPoolProperties {
    /// How many nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
    /// The VM size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_size: Option<String>,
    /// The GPU instance profile: `MIG1g` to `MIG7g`. It can't be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_instance_profile: Option<String>,
    /// A layout of its own for each GPU. A property of migpool's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layouts: Option<String>,
    /// What is about its GPUs: the MIG strategy and profiles, and what is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_profile: Option<GpuProfile>,
    /// `System` or `User`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Whether it has nodes. It is stopped while its cluster is, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_state: Option<Power>,
    /// Whether a cluster autoscaler is to keep the count within bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_auto_scaling: Option<bool>,
    /// The least number of nodes for the autoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_count: Option<i64>,
    /// The greatest number of nodes for the autoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_count: Option<i64>,
    /// Labels for the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_labels: Option<BTreeMap<String, String>>,
    /// Taints for the nodes: `key=value:effect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_taints: Option<Vec<String>>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// The version of Kubernetes: the one that all nodes run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orchestrator_version: Option<String>,
    /// The same. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_orchestrator_version: Option<String>,
    /// What nodes are started from. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_image_version: Option<String>,
    /// Where the pool is on its way. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning_state: Option<String>,
    /// What is going on, or why it failed. Read-only, a property of migpool's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning_message: Option<String>,
    /// The version. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e_tag: Option<String>,
    /// Other fields.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What is about the GPUs of an agent pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuProfile {
    /// `Install` or `None`; kept. It can't be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// What is about NVIDIA's GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvidia: Option<NvidiaProfile>,
    /// Other fields.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What is about the NVIDIA GPUs of an agent pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NvidiaProfile {
    /// `Unmanaged` or `Managed`; kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_mode: Option<String>,
    /// `None`, `Single` or `Mixed`. It can't be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mig_strategy: Option<String>,
    /// With strategy `Single` the profile to fill every GPU with, with `Mixed` one for each MIG device of a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mig_profiles: Option<Vec<String>>,
    /// Other fields.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Whether something is to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Power {
    /// `Running` or `Stopped`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// What is particular to a machine of an agent pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineProperties {
    /// Its network.
    #[serde(default)]
    pub network: MachineNetwork,
    /// The node's path, for want of a virtual machine's.
    #[serde(default)]
    pub resource_id: String,
    /// What the node was started from.
    #[serde(default)]
    pub node_image_version: String,
    /// Where it is on its way: `Creating`, `Succeeded`, `Failed` or `Deleting`.
    #[serde(default)]
    pub provisioning_state: String,
}

/// The network of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineNetwork {
    /// Its addresses. Nodes are known by their names here: there are none.
    #[serde(default)]
    pub ip_addresses: Vec<MachineAddress>,
}

/// An address of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MachineAddress {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// The address.
    pub ip: String,
}

/// To what an agent pool can be upgraded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeProfileProperties {
    /// The version of Kubernetes that its nodes run.
    pub kubernetes_version: String,
    /// `Linux`.
    pub os_type: String,
    /// Versions that it can be upgraded to.
    #[serde(default)]
    pub upgrades: Vec<AvailableVersion>,
    /// Versions that it can be brought back to.
    #[serde(default)]
    pub recently_used_versions: Vec<AvailableVersion>,
    /// What new nodes are started from.
    pub latest_node_image_version: String,
}

/// The versions that an agent pool can be made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AvailableVersions {
    /// The versions.
    pub agent_pool_versions: Vec<AvailableVersion>,
}

/// A version of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AvailableVersion {
    /// Whether an agent pool gets it when none is asked for.
    #[serde(default)]
    pub default: bool,
    /// The version.
    pub kubernetes_version: String,
    /// Whether it is a preview.
    #[serde(default)]
    pub is_preview: bool,
}

//! `NodePool`, the custom resource by which a person asks for nodes with GPU slices.

#![allow(
    unreachable_pub,
    reason = "the derive of the schema copies the types into a function"
)]
#![allow(
    clippy::doc_markdown,
    reason = "the doc comments of fields are the schema's descriptions, where backticks would be seen"
)]

use std::collections::BTreeMap;

use gpu_node::{Drain, Strategy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use pool::{Rollout, Slices};
use serde::{Deserialize, Serialize};

use crate::record_object::LastOperation;

/// The finalizer of a pool: its nodes are given back first.
pub const FINALIZER: &str = "migpool.dev/nodes";

/// What is wanted of a node pool: so many nodes, whose GPUs are all cut in one way.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "migpool.dev",
    version = "v1alpha1",
    kind = "NodePool",
    plural = "nodepools",
    shortname = "np",
    category = "migpool",
    status = "NodePoolStatus",
    derive = "PartialEq",
    scale(
        spec_replicas_path = ".spec.count",
        status_replicas_path = ".status.nodes",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Profile", type_ = "string", json_path = ".status.profile"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".spec.count"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyNodes"),
    printcolumn(name = "Slices", type_ = "integer", json_path = ".status.slices.total"),
    printcolumn(name = "Slices ready", type_ = "integer", json_path = ".status.slices.ready"),
    printcolumn(name = "In use", type_ = "integer", json_path = ".status.slices.inUse"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    validation = Rule::new("self.metadata.name.matches('^[a-z][a-z0-9]{0,11}(-[0-9a-f]{8})?$')")
        .message("The value of parameter agentPoolProfile.name is invalid: a node pool's name is a lower-case letter and up to 11 more lower-case letters and digits."),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.vmSize) != has(self.nodeSelector)")
    .message("Give either vmSize or nodeSelector: which machines the nodes are."))]
#[x_kube(validation = Rule::new("!(has(self.gpuInstanceProfile) && has(self.layouts))")
    .message("The parameters gpuInstanceProfile and layouts exclude each other. Leave one of them away."))]
#[x_kube(validation = Rule::new("has(self.gpuInstanceProfile) == has(oldSelf.gpuInstanceProfile) && (!has(self.gpuInstanceProfile) || self.gpuInstanceProfile == oldSelf.gpuInstanceProfile)")
    .message("Changing property 'properties.gpuInstanceProfile' is not allowed. Add another node pool with the one that is wanted, and delete this one."))]
#[x_kube(validation = Rule::new("has(self.vmSize) == has(oldSelf.vmSize) && (!has(self.vmSize) || self.vmSize == oldSelf.vmSize)")
    .message("Changing property 'properties.vmSize' is not allowed. Add another node pool with the size that is wanted, and delete this one."))]
#[x_kube(validation = Rule::new("has(self.nodeSelector) == has(oldSelf.nodeSelector) && (!has(self.nodeSelector) || self.nodeSelector == oldSelf.nodeSelector)")
    .message("Changing property 'properties.nodeSelector' is not allowed. Add another node pool with the one that is wanted, and delete this one."))]
#[x_kube(validation = Rule::new("self.migStrategy == oldSelf.migStrategy")
    .message("Changing property 'properties.migStrategy' is not allowed. Add another node pool with the one that is wanted, and delete this one."))]
#[x_kube(validation = Rule::new("has(self.clusterName) == has(oldSelf.clusterName) && (!has(self.clusterName) || self.clusterName == oldSelf.clusterName)")
    .message("Changing property 'properties.clusterName' is not allowed."))]
#[x_kube(validation = Rule::new("has(self.resourceGroup) == has(oldSelf.resourceGroup) && (!has(self.resourceGroup) || self.resourceGroup == oldSelf.resourceGroup)")
    .message("Changing property 'properties.resourceGroup' is not allowed."))]
#[x_kube(validation = Rule::new("has(self.subscription) == has(oldSelf.subscription) && (!has(self.subscription) || self.subscription == oldSelf.subscription)")
    .message("Changing property 'properties.subscription' is not allowed."))]
#[x_kube(validation = Rule::new("self.provider == oldSelf.provider")
    .message("Changing property 'properties.provider' is not allowed. Add another node pool with the one that is wanted, and delete this one."))]
#[x_kube(validation = Rule::new("self.mode != 'System' || self.count >= 1")
    .message("agentPoolProfile.count was 0. It must be greater or equal to minCount:1 for a pool of mode System."))]
pub struct NodePoolSpec {
    /// The cluster that the pool is said to be in, for those who speak ARM; `kubernetes` without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub cluster_name: Option<String>,
    /// The resource group of that cluster; `kubernetes` without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 90))]
    pub resource_group: Option<String>,
    /// The subscription of that resource group; all zeros without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 36, max = 36))]
    pub subscription: Option<String>,
    /// The VM size of the nodes: `Standard_ND96asr_v4`. A node has it by its label node.kubernetes.io/instance-type, or,
    /// without that label, by its GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub vm_size: Option<String>,
    /// Instead of a VM size: the labels of the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16))]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// How many nodes.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 10_000))]
    pub count: i32,
    /// AKS' name for slices that are all alike, as many as fit on every GPU. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_instance_profile: Option<GpuInstanceProfile>,
    /// A layout of its own for each GPU: `3g.20gb,2g.10gb,1g.5gb*2`, `0-3=1g.5gb;4-7=off`, `MIG1g`. It can be changed: the
    /// nodes are brought to another one a few at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub layouts: Option<String>,
    /// How slices are advertised: single (all are nvidia.com/gpu) or mixed (nvidia.com/mig-1g.5gb ..), or none (whole GPUs).
    #[serde(default = "single")]
    pub mig_strategy: Strategy,
    /// Labels for the nodes, besides those that AKS gives them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_labels: BTreeMap<String, String>,
    /// Taints for the nodes: `sku=gpu:NoSchedule`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(regex(pattern = "^[^=:]+(=[^=:]*)?:(NoSchedule|PreferNoSchedule|NoExecute)$"))
    )]
    pub node_taints: Vec<String>,
    /// User, or System: a pool that always has a node.
    #[serde(default)]
    pub mode: Mode,
    /// How many nodes at most are out of work at a time while the layout is changed: a number, or a share such as 10%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// What happens to pods that hold a slice which has to go: never (the change is refused), wait (until they end), evict
    /// (through the API, as far as their PodDisruptionBudgets allow).
    #[serde(default)]
    pub drain: Drain,
    /// Running, or Stopped: without nodes for a while. The count is kept.
    #[serde(default, skip_serializing_if = "Power::is_running")]
    pub power: Power,
    /// Where the nodes come from.
    #[serde(default)]
    pub provider: Provider,
    /// What clients of Azure Resource Manager asked besides. Only migpool writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<Arm>,
}

/// Whether a pool has nodes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum Power {
    /// As many as it counts.
    #[default]
    Running,
    /// None, for a while.
    Stopped,
}

impl Power {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes fields by reference"
    )]
    fn is_running(&self) -> bool {
        *self == Self::Running
    }
}

/// What clients of Azure Resource Manager asked besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Arm {
    /// Tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Properties that mean nothing here and are given back as they came, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<String>,
    /// The bounds of the cluster autoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_scaling: Option<Bounds>,
    /// The list of profiles that the layout was asked by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mig_profiles: Option<ListedProfiles>,
    /// What was asked last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
}

/// The bounds of the cluster autoscaler.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Bounds {
    /// The least number of nodes.
    pub min_count: u32,
    /// The greatest number of nodes.
    pub max_count: u32,
}

/// A list of profiles, and the layout that it means. It holds as long as the pool has that layout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ListedProfiles {
    /// The profiles: MIG1g, MIG3g.
    pub profiles: Vec<String>,
    /// The layout.
    pub layouts: String,
}

/// Where a client of Azure Resource Manager sent the pool. It holds until the status is about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// Which request it was.
    pub id: String,
    /// The state, with ARM's words: Creating, Updating, Scaling, Deleting, Canceled.
    pub state: String,
    /// The operation by which the client follows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Nodes that were named to go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<String>,
}

fn one() -> i32 {
    1
}

fn single() -> Strategy {
    Strategy::Single
}

/// AKS' name for slices that are all alike, as many as fit on every GPU. It cannot be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum GpuInstanceProfile {
    /// Slices of one compute slice: seven on an A100.
    #[serde(rename = "MIG1g")]
    Mig1g,
    /// Of two.
    #[serde(rename = "MIG2g")]
    Mig2g,
    /// Of three.
    #[serde(rename = "MIG3g")]
    Mig3g,
    /// Of four.
    #[serde(rename = "MIG4g")]
    Mig4g,
    /// Of all seven.
    #[serde(rename = "MIG7g")]
    Mig7g,
}

impl GpuInstanceProfile {
    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mig1g => "MIG1g",
            Self::Mig2g => "MIG2g",
            Self::Mig3g => "MIG3g",
            Self::Mig4g => "MIG4g",
            Self::Mig7g => "MIG7g",
        }
    }
}

/// Whether a pool may be empty.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum Mode {
    /// At least one node.
    System,
    /// Any number of nodes.
    #[default]
    User,
}

/// Where the nodes of a pool come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.type == 'ClusterAPI') == has(self.clusterAPI)")
    .message("provider.clusterAPI names the MachineDeployment of a provider of type ClusterAPI, and of no other."))]
pub struct Provider {
    /// Adopt: nodes that are there and in no pool. ClusterAPI: those of a MachineDeployment, which is scaled.
    #[serde(rename = "type", default)]
    pub kind: ProviderKind,
    /// The MachineDeployment.
    #[serde(
        default,
        rename = "clusterAPI",
        skip_serializing_if = "Option::is_none"
    )]
    pub cluster_api: Option<MachineDeploymentReference>,
}

/// The kinds of providers.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum ProviderKind {
    /// Nodes that are there.
    #[default]
    Adopt,
    /// Nodes that Cluster API makes.
    ClusterAPI,
}

/// A `MachineDeployment` of Cluster API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineDeploymentReference {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub machine_deployment: String,
}

/// What there is of a node pool. The operator alone writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePoolStatus {
    /// The generation of the spec that all of this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the pool is on its way, with ARM's words: Creating, Updating, Scaling, Deleting, Succeeded, Failed.
    #[serde(default)]
    pub phase: String,
    /// What a client of Azure Resource Manager asked last, if all of this is about that: the id of spec.arm.asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The last operation that came to an end, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_operation: Option<LastOperation>,
    /// The same in migpool's: the reason of the condition that tells most.
    #[serde(default)]
    pub reason: String,
    /// What is going on, or why it failed; empty when there is nothing to say.
    #[serde(default)]
    pub message: String,
    /// The profile or layout that the nodes are to have now.
    #[serde(default)]
    pub profile: String,
    /// Nodes that are in the pool, those that are leaving it too.
    #[serde(default)]
    pub nodes: u32,
    /// Those that are as asked.
    #[serde(default)]
    pub ready_nodes: u32,
    /// Those that were told the layout that is wanted now.
    #[serde(default)]
    pub updated_nodes: u32,
    /// Their slices.
    #[serde(default)]
    #[schemars(with = "SlicesStatus")]
    pub slices: Slices,
    /// Stopped: they are not to be there, since the pool or its cluster is stopped.
    #[serde(default, skip_serializing_if = "Power::is_running")]
    pub power: Power,
    /// Those of the nodes that were named to go which are still there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<String>,
    /// How far a change of layout has come: `settled` is what all nodes had last, `refused` what a node could not take.
    #[serde(default)]
    #[schemars(with = "RolloutStatus")]
    pub rollout: Rollout,
    /// The labels of the pool's nodes, for the scale subresource.
    #[serde(default)]
    pub selector: String,
    /// Ready, Progressing and Degraded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// How many slices a pool has.
#[derive(schemars::JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(
    dead_code,
    reason = "the schema of a type of the pure core, which knows no schemas"
)]
struct SlicesStatus {
    /// In all.
    total: u64,
    /// Those that can be given to work.
    ready: u64,
    /// Those that some pod holds.
    in_use: u64,
}

/// How far a change of layout has come.
#[derive(schemars::JsonSchema)]
#[expect(
    dead_code,
    reason = "the schema of a type of the pure core, which knows no schemas"
)]
struct RolloutStatus {
    /// The layout that all nodes had last.
    settled: Option<SettledStatus>,
    /// The layout that a node could not take.
    refused: Option<RefusedStatus>,
}

/// A layout that every node of a pool has had.
#[derive(schemars::JsonSchema)]
#[expect(
    dead_code,
    reason = "the schema of a type of the pure core, which knows no schemas"
)]
struct SettledStatus {
    /// The layout; none without MIG.
    layout: Option<String>,
}

/// A layout that a node could not take.
#[derive(schemars::JsonSchema)]
#[expect(
    dead_code,
    reason = "the schema of a type of the pure core, which knows no schemas"
)]
struct RefusedStatus {
    /// The layout; none without MIG.
    layout: Option<String>,
    /// The node.
    node: String,
    /// What it said.
    reason: String,
}

//! The records that are kept: resource groups, clusters, node pools.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use mig::{GpuInstanceProfile, LayoutSpec, MigStrategy, NodeLayout};

use crate::key::{ClusterKey, GroupKey, PoolKey};
use crate::node::Taint;
use crate::node_name::NodeName;
use crate::power::PowerState;
use crate::rollout::{Drain, MaxUnavailable, PoolSummary, Rollout};

/// Where a resource is on its way, with ARM's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProvisioningState {
    /// Asked for, and not yet there for the first time.
    Creating,
    /// There, and something about it is not (or no longer) as asked.
    Updating,
    /// There, and its number of nodes is being changed.
    Scaling,
    /// There, and being stopped: its nodes are being taken away for a while.
    Stopping,
    /// There, and being started after it was stopped.
    Starting,
    /// Being taken away; it is gone when this ends.
    Deleting,
    /// As asked.
    Succeeded,
    /// It can't become as asked by itself; the message says why.
    Failed,
    /// Somebody stopped it on its way. It stays as it is until something is asked of it again.
    Canceled,
}

impl ProvisioningState {
    /// Whether nothing is going on.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }
}

impl fmt::Display for ProvisioningState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A resource group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Which.
    pub key: GroupKey,
    /// The region as the person named it, in ARM's normal form (`southcentralus`).
    pub location: String,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// `Succeeded` or `Deleting`.
    pub provisioning_state: ProvisioningState,
    /// The operation in progress.
    #[serde(default)]
    pub operation: Option<Uuid>,
}

/// A managed cluster. Its node pools are records of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Which.
    pub key: ClusterKey,
    /// The region, in ARM's normal form.
    pub location: String,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// ARM fields of `properties` that mean nothing here; kept and given back.
    #[serde(default)]
    pub properties: Map<String, Value>,
    /// ARM fields beside `properties` (`identity`, `sku`, ...); kept and given back.
    #[serde(default)]
    pub envelope: Map<String, Value>,
    /// Whether its pools are to have nodes. A pool runs only if its cluster does.
    #[serde(default)]
    pub power: PowerState,
    /// Where it is on its way.
    pub provisioning_state: ProvisioningState,
    /// What is going on, or why it failed; empty when there is nothing to say.
    #[serde(default)]
    pub message: String,
    /// The operation in progress.
    #[serde(default)]
    pub operation: Option<Uuid>,
    /// When it was asked for.
    pub created: Timestamp,
}

/// A node pool (ARM's agent pool).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodePool {
    /// Which.
    pub key: PoolKey,
    /// What is wanted.
    pub spec: NodePoolSpec,
    /// Where it is on its way.
    pub provisioning_state: ProvisioningState,
    /// What is going on, or why it failed; empty when there is nothing to say.
    #[serde(default)]
    pub message: String,
    /// The operation in progress.
    #[serde(default)]
    pub operation: Option<Uuid>,
    /// When it was asked for.
    pub created: Timestamp,
    /// How far a change of layout has come.
    #[serde(default)]
    pub rollout: Rollout,
    /// Nodes that are to go whatever their worth, because somebody named them. A node is struck off once it is gone.
    #[serde(default)]
    pub leaving: BTreeSet<NodeName>,
    /// What there is of it, as of the last look.
    #[serde(default)]
    pub seen: PoolSummary,
}

/// What is wanted of a node pool. Made by [`crate::validation::node_pool`], so that it makes sense.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodePoolSpec {
    /// How many nodes.
    pub count: u32,
    /// Which machines its nodes are.
    #[serde(flatten)]
    pub machines: Machines,
    /// The GPU instance profile; every GPU is filled with it. Never together with `layouts`.
    #[serde(default)]
    pub gpu_instance_profile: Option<GpuInstanceProfile>,
    /// How slices are advertised. A property of migpool's own: AKS leaves it to the device plugin's chart.
    pub mig_strategy: MigStrategy,
    /// A layout of its own for each GPU. A property of migpool's own.
    #[serde(default)]
    pub layouts: Option<NodeLayout>,
    /// How many nodes at most are taken out of work at a time for another layout. A property of migpool's own.
    #[serde(default)]
    pub max_unavailable: MaxUnavailable,
    /// What is done about pods that hold a slice which has to go. A property of migpool's own.
    #[serde(default)]
    pub drain: Drain,
    /// System or user pool.
    pub mode: PoolMode,
    /// Whether it is to have nodes; `count` is kept while it is stopped.
    #[serde(default)]
    pub power: PowerState,
    /// The bounds within which a cluster autoscaler would keep the pool; `None` when it is switched off.
    #[serde(default)]
    pub auto_scaling: Option<AutoScaling>,
    /// The profiles that `layouts` was made of, if it was: one to fill every GPU with, or one for each MIG device of a GPU.
    #[serde(default)]
    pub mig_profiles: Vec<GpuInstanceProfile>,
    /// Labels for the nodes, beside those that every node has.
    #[serde(default)]
    pub node_labels: BTreeMap<String, String>,
    /// Taints for the nodes.
    #[serde(default)]
    pub node_taints: Vec<Taint>,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// ARM fields that mean nothing here; kept and given back.
    #[serde(default)]
    pub extra: Map<String, Value>,
}

/// Which machines the nodes of a pool are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Machines {
    /// Those of a VM size, spelled as in the table of [`crate::vm_size`].
    VmSize(String),
    /// Those with all of these labels. What GPUs they have is known once their agents have looked.
    NodeSelector(BTreeMap<String, String>),
}

impl NodePool {
    /// The same pool within a cluster of this power: it is to run only if its cluster is.
    #[must_use]
    pub fn within(&self, cluster: PowerState) -> Self {
        let mut pool = self.clone();
        pool.spec.power = pool.spec.power.within(cluster);
        pool
    }
}

impl Machines {
    /// The VM size: empty for machines that are chosen by their labels.
    #[must_use]
    pub fn vm_size(&self) -> &str {
        match self {
            Self::VmSize(name) => name,
            Self::NodeSelector(_) => "",
        }
    }
}

impl NodePoolSpec {
    /// The VM size: empty for a pool that chooses its nodes by their labels.
    #[must_use]
    pub fn vm_size(&self) -> &str {
        self.machines.vm_size()
    }

    /// Whether its nodes get a layout, of slices.
    #[must_use]
    pub fn is_sliced(&self) -> bool {
        self.layouts.is_some() || self.gpu_instance_profile.is_some()
    }

    /// The layout that every node of the pool gets: `None` without MIG.
    #[must_use]
    pub fn node_layout(&self) -> Option<NodeLayout> {
        let fill = |profile| NodeLayout::uniform(LayoutSpec::Fill(profile));
        self.layouts
            .clone()
            .or_else(|| self.gpu_instance_profile.map(fill))
    }
}

/// The bounds of a cluster autoscaler. There is none in migpool: the count is kept within the bounds, and between them it stays
/// as it is. Machines of a set that Kubernetes' own autoscaler counts follow that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AutoScaling {
    /// The least number of nodes.
    pub min_count: u32,
    /// The greatest number of nodes; not less than `min_count`.
    pub max_count: u32,
}

/// Whether a pool may run the cluster's own pods. A system pool has at least one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PoolMode {
    /// Runs the cluster's own pods; 1 to 1000 nodes.
    System,
    /// For work alone; 0 to 1000 nodes.
    #[default]
    User,
}

impl PoolMode {
    /// The least number of nodes.
    #[must_use]
    pub fn min_count(self) -> u32 {
        match self {
            Self::System => 1,
            Self::User => 0,
        }
    }
}

impl fmt::Display for PoolMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for PoolMode {
    type Err = crate::Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("System") {
            Ok(Self::System)
        } else if text.eq_ignore_ascii_case("User") {
            Ok(Self::User)
        } else {
            Err(crate::Invalid::parameter(
                "agentPoolProfile.mode",
                format!(
                    "The value '{text}' of parameter agentPoolProfile.mode is invalid. Use 'System' or 'User'."
                ),
            ))
        }
    }
}

//! Nodes: what is wanted of one, and what is seen of one.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use mig::{MigStrategy, NodeLayout};

use crate::Invalid;
use crate::key::PoolKey;
use crate::node_name::NodeName;
use crate::rollout::{Drain, Slices};

/// What is wanted of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct NodeSpec {
    /// Its name.
    pub name: NodeName,
    /// The pool that it is in.
    pub pool: PoolKey,
    /// Its VM size, spelled as in the table of [`crate::vm_size`]; empty where it is not known.
    pub vm_size: String,
    /// The layout of its GPUs: `None` leaves MIG off.
    #[serde(default)]
    #[cfg_attr(feature = "schemars", schemars(with = "Option<String>"))]
    pub layout: Option<NodeLayout>,
    /// How its slices are advertised.
    #[cfg_attr(feature = "schemars", schemars(with = "String"))]
    pub mig_strategy: MigStrategy,
    /// The labels that it is given, beside those that it finds by itself.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The taints that it is given.
    #[serde(default)]
    pub taints: Vec<Taint>,
    /// What is done about pods that hold a slice which has to go.
    #[serde(default)]
    pub drain: Drain,
}

/// What is seen of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ObservedNode {
    /// What was asked of it.
    pub spec: NodeSpec,
    /// Where it is on its way.
    pub phase: NodePhase,
    /// Whether it takes work (condition `Ready`).
    pub ready: bool,
    /// What is going on, or why it failed; empty when there is nothing to say.
    #[serde(default)]
    pub message: String,
    /// What it has, by resource name: `cpu` in cores, `memory` in bytes, `nvidia.com/...` in devices.
    #[serde(default)]
    pub capacity: BTreeMap<String, u64>,
    /// What pods may have of it.
    #[serde(default)]
    pub allocatable: BTreeMap<String, u64>,
    /// All its labels, those of feature discovery too.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Kubernetes' node conditions.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Its GPUs with their slices and who holds them.
    #[serde(default)]
    pub gpus: Vec<NodeGpu>,
    /// The board of each GPU by NVML's index, where somebody looked; empty for a GPU without MIG. Without any, the VM size
    /// says what there is.
    #[serde(default)]
    pub boards: BTreeMap<u32, String>,
    /// How many slices it has.
    #[serde(default)]
    pub slices: Slices,
    /// The driver's version, once known.
    #[serde(default)]
    pub driver_version: Option<String>,
    /// When it was made.
    pub created: Timestamp,
}

/// Where a node is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum NodePhase {
    /// Being made: it has not yet advertised what its layout gives.
    Creating,
    /// It runs.
    Running,
    /// It can't become as asked by itself; the message says why. Its provider may still be trying.
    Failed,
    /// Being taken away.
    Deleting,
}

/// A node condition, as Kubernetes has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Ready`, `Partitioned`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One word in camel case.
    pub reason: String,
    /// A sentence.
    #[serde(default)]
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Timestamp,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

/// A GPU of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NodeGpu {
    /// NVML's index.
    pub index: u32,
    /// `GPU-...`.
    pub uuid: String,
    /// The product's name, as NVML has it.
    pub name: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Memory units that placements count in: 8 on an A100. 0 without MIG.
    pub memory_units: u8,
    /// Compute slices: 7 on an A100. 0 without MIG.
    pub compute_slices: u8,
    /// Whether MIG mode is on.
    pub mig_enabled: bool,
    /// Whether work can be given to it.
    pub healthy: bool,
    /// Why it can't be read, for a GPU that is lost or fails; empty otherwise. Its slices are not known then.
    #[serde(default)]
    pub failure: String,
    /// Who holds the whole GPU.
    #[serde(default)]
    pub holder: Option<Holder>,
    /// Its MIG devices, in the order of their placement.
    #[serde(default)]
    pub slices: Vec<NodeSlice>,
}

/// A MIG device of a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NodeSlice {
    /// `MIG-...`.
    pub uuid: String,
    /// `3g.20gb`, or `1c.3g.20gb`.
    pub profile: String,
    /// GPU instance id.
    pub gpu_instance: u32,
    /// Compute instance id.
    pub compute_instance: u32,
    /// First memory unit of its GPU instance.
    pub start: u8,
    /// Memory units of its GPU instance.
    pub size: u8,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Whether work can be given to it.
    pub healthy: bool,
    /// Who holds it.
    #[serde(default)]
    pub holder: Option<Holder>,
}

/// The container that holds a GPU or a slice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Holder {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container of the pod.
    pub container: String,
}

/// A taint: `key=value:effect`, or `key:effect`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Taint {
    /// The key, such as `sku`.
    pub key: String,
    /// The value, such as `gpu`; may be empty.
    pub value: String,
    /// What it does to pods that don't tolerate it.
    pub effect: TaintEffect,
}

/// What a taint does to pods that don't tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum TaintEffect {
    /// They are not placed on the node.
    NoSchedule,
    /// They are placed elsewhere if there is an elsewhere.
    PreferNoSchedule,
    /// They are not placed on the node, and those that run are taken off.
    NoExecute,
}

impl FromStr for Taint {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || {
            Invalid::parameter(
                "agentPoolProfile.nodeTaints",
                format!(
                    "The taint '{text}' is invalid. Write 'key=value:effect' with effect NoSchedule, PreferNoSchedule or NoExecute."
                ),
            )
        };
        let (name, effect) = text.rsplit_once(':').ok_or_else(invalid)?;
        let effect = match effect {
            "NoSchedule" => TaintEffect::NoSchedule,
            "PreferNoSchedule" => TaintEffect::PreferNoSchedule,
            "NoExecute" => TaintEffect::NoExecute,
            _ => return Err(invalid()),
        };
        let (key, value) = name.split_once('=').unwrap_or((name, ""));
        if !crate::validation::is_label_key(key) || !crate::validation::is_label_value(value) {
            return Err(invalid());
        }
        Ok(Self {
            key: key.to_owned(),
            value: value.to_owned(),
            effect,
        })
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if !self.value.is_empty() {
            write!(f, "={}", self.value)?;
        }
        write!(f, ":{:?}", self.effect)
    }
}

impl TryFrom<String> for Taint {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Taint> for String {
    fn from(taint: Taint) -> Self {
        taint.to_string()
    }
}

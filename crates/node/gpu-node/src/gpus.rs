//! A node's GPUs as the cluster sees them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuStatus {
    /// NVML's index.
    pub index: u32,
    /// `GPU-...`; empty where the driver does not tell it.
    #[serde(default)]
    pub uuid: String,
    /// The product's name, as NVML has it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub product: String,
    /// The board, as migpool's table of profiles calls it: `A100-40GB`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub board: String,
    /// Memory in MiB.
    #[serde(default)]
    pub memory_mib: u64,
    /// Memory units that placements count in: 8 on an A100. 0 without MIG.
    #[serde(default)]
    pub memory_units: u8,
    /// Compute slices: 7 on an A100. 0 without MIG.
    #[serde(default)]
    pub compute_slices: u8,
    /// Whether the GPU has MIG at all.
    #[serde(default)]
    pub mig_capable: bool,
    /// Whether MIG mode is on.
    #[serde(default)]
    pub mig_enabled: bool,
    /// Whether work can be given to it.
    pub healthy: bool,
    /// What is wrong with it; empty when nothing is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fault: String,
    /// Its layout, as a layout is written: `1g.5gb*7`, `off`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub layout: String,
    /// Who holds the whole GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// Its MIG devices, in the order of their placement.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<SliceStatus>,
}

/// A MIG device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SliceStatus {
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
    #[serde(default)]
    pub memory_mib: u64,
    /// Whether work can be given to it.
    pub healthy: bool,
    /// Who holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
}

/// The container that holds a GPU or a slice.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container of the pod.
    pub container: String,
}

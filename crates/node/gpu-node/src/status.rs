//! What is seen on a node: the agent's half.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gpus::GpuStatus;

/// What the agent sees on its node, and what it did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuNodeStatus {
    /// The generation of the spec that all of this is about. Less than the object's: the agent has not seen it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the node is on its way, in one word.
    #[serde(default)]
    pub phase: Phase,
    /// What is going on, or what is wrong; a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The layout that the GPUs were brought to; none while they are on their way, or were left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// The layout that the GPUs have, whoever made it, GPU by GPU: `0-7=1g.5gb*7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_layout: Option<String>,
    /// The driver's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_version: Option<String>,
    /// The GPUs in a few words: `8 x A100-40GB`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// How many MIG devices there are.
    #[serde(default)]
    pub slices: u32,
    /// How many of them some pod holds.
    #[serde(default)]
    pub slices_in_use: u32,
    /// How many devices of each resource the kubelet was told of, faulty ones left out: `nvidia.com/mig-1g.5gb: 56`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, u64>,
    /// The GPUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuStatus>,
    /// `Ready` (the wanted layout is there and advertised) and `GPUsHealthy`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// What the last change of layout did, call by call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_actions: Vec<String>,
    /// Who holds what has to go for the wanted layout.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<String>,
    /// The agent's version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent_version: String,
}

/// Where a node's agent is with what was asked of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Not everything was tried yet.
    #[default]
    Starting,
    /// There is no driver, so there is nothing to do.
    Idle,
    /// The GPUs are being brought to the wanted layout.
    Partitioning,
    /// Those who hold what has no room in the wanted layout are waited for.
    Draining,
    /// The wanted layout is there and advertised, or none is wanted.
    Ready,
    /// It works as far as it can; the message says what is wrong.
    Degraded,
    /// The wanted layout cannot be on these GPUs, or must not be made.
    Refused,
    /// The driver did not do it; the agent keeps trying.
    Failed,
    /// The agent has ended.
    Stopped,
    /// A word of a later version of the agent: read, never written.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl Phase {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "Starting",
            Self::Idle => "Idle",
            Self::Partitioning => "Partitioning",
            Self::Draining => "Draining",
            Self::Ready => "Ready",
            Self::Degraded => "Degraded",
            Self::Refused => "Refused",
            Self::Failed => "Failed",
            Self::Stopped => "Stopped",
            Self::Unknown => "Unknown",
        }
    }
}

/// Types and reasons of a `GpuNode`'s conditions.
pub mod reason {
    /// The condition that the wanted layout is there and advertised.
    pub const READY: &str = "Ready";
    /// The condition that nothing is wrong with any GPU.
    pub const GPUS_HEALTHY: &str = "GPUsHealthy";
}

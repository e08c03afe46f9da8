//! Why a layout is refused before anything changes.

use std::collections::BTreeSet;

use mig::{GpuSelector, LayoutError};
use nvml::Gpu;

/// A layout that can't be applied now; nothing was changed. All reasons, on all GPUs.
#[derive(Debug, thiserror::Error)]
#[error(
    "the layout cannot be applied, and nothing was changed: {}",
    list(refusals)
)]
pub struct PlanError {
    /// The reasons, by GPU.
    pub refusals: Vec<Refusal>,
}

fn list(refusals: &[Refusal]) -> String {
    refusals
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// One reason why a layout is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The layout names a GPU that the node doesn't have.
    #[error("there is no GPU {index} on this node; {}", have(present))]
    UnknownGpu {
        /// The index that the layout names.
        index: u32,
        /// The indices that there are.
        present: BTreeSet<u32>,
    },
    /// The node has no GPU that the layout could be for.
    #[error("there is no MIG-capable GPU on this node; is the driver root the right one?")]
    NoGpu,
    /// The GPU can't do MIG.
    #[error("{gpu} is not MIG-capable; its layout can only be 'off'")]
    NotMigCapable {
        /// The GPU.
        gpu: String,
    },
    /// The driver does not let this process see the GPU's instances.
    #[error("{gpu}: this process may not list its GPU instances; run as root")]
    Hidden {
        /// The GPU.
        gpu: String,
    },
    /// The layout is not possible on the GPU's board.
    #[error("{gpu}: {reason}")]
    Layout {
        /// The GPU.
        gpu: String,
        /// What is wrong with the layout, and what the nearest possible is.
        reason: LayoutError,
    },
    /// No set of placements leads from what is there to what is wanted.
    #[error("{gpu}: {reason}")]
    Unreachable {
        /// The GPU.
        gpu: String,
        /// The planner's reason.
        reason: String,
    },
    /// Something that was not created by migpool would have to be destroyed.
    #[error(
        "{gpu}: {what} was not created by migpool and is in the way; use --replace-all to remove it"
    )]
    Foreign {
        /// The GPU.
        gpu: String,
        /// The instance: profile, placement and id.
        what: String,
    },
    /// Something in use would have to be destroyed.
    #[error("{gpu}: {what} would have to go, but is in use by {}; end that first", who.join(", "))]
    InUse {
        /// The GPU.
        gpu: String,
        /// The instance, or the GPU as a whole.
        what: String,
        /// Those who use it.
        who: Vec<String>,
    },
}

fn have(present: &BTreeSet<u32>) -> String {
    if present.is_empty() {
        "it has none".to_owned()
    } else {
        format!("it has {}", GpuSelector::Indices(present.clone()))
    }
}

/// How a GPU is called in messages.
pub(crate) fn gpu_name(gpu: &Gpu) -> String {
    format!("GPU {} ({}, {})", gpu.index, gpu.name, gpu.uuid)
}

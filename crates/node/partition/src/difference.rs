//! What is there compared with what is wanted, without a word on how to get there.

use std::collections::BTreeMap;

use mig::{LayoutError, LayoutSpec, NodeLayout, Profile};
use nvml::{Gpu, Inventory};
use serde::Serialize;

use crate::plan::{layout_for, unknown_gpus};
use crate::refusal::Refusal;

/// One way in which a node is not as a layout says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "difference")]
pub enum Difference {
    /// The layout names a GPU that isn't there.
    #[error("there is no GPU {gpu} on this node")]
    NoSuchGpu {
        /// The index that the layout names.
        gpu: u32,
    },
    /// There is no GPU that the layout could be for.
    #[error("there is no MIG-capable GPU on this node")]
    NoGpu,
    /// The GPU can't be read.
    #[error("GPU {gpu}: cannot be read: {reason}")]
    Unreadable {
        /// Index of the GPU.
        gpu: u32,
        /// Why not.
        reason: String,
    },
    /// The GPU can't be in this layout.
    #[error("GPU {gpu}: {reason}")]
    Impossible {
        /// Index of the GPU.
        gpu: u32,
        /// Why not.
        reason: String,
    },
    /// MIG mode is not as wanted.
    #[error(
        "GPU {gpu}: MIG mode is {}, wanted {}{}", word(*current), word(*wanted),
        later(*current, *pending)
    )]
    Mode {
        /// Index of the GPU.
        gpu: u32,
        /// Whether it is to be on.
        wanted: bool,
        /// Whether it is on.
        current: bool,
        /// Whether it will be on after the next reset.
        pending: bool,
    },
    /// GPU instances that are wanted are not there.
    #[error("GPU {gpu}: {count} {instance} missing")]
    Missing {
        /// Index of the GPU.
        gpu: u32,
        /// Which: `3g.20gb`, or `3g.20gb with compute instances 2c, 1c`.
        instance: String,
        /// How many are missing.
        count: usize,
    },
    /// GPU instances are there that are not wanted.
    #[error("GPU {gpu}: {count} {instance} too many")]
    Unexpected {
        /// Index of the GPU.
        gpu: u32,
        /// Which: as for those missing, or `3g.20gb without compute instances`.
        instance: String,
        /// How many too many.
        count: usize,
    },
}

impl Difference {
    /// The index of the GPU; none for a node without any.
    #[must_use]
    pub const fn gpu(&self) -> Option<u32> {
        match self {
            Self::NoGpu => None,
            Self::NoSuchGpu { gpu }
            | Self::Unreadable { gpu, .. }
            | Self::Impossible { gpu, .. }
            | Self::Mode { gpu, .. }
            | Self::Missing { gpu, .. }
            | Self::Unexpected { gpu, .. } => Some(*gpu),
        }
    }
}

fn later(current: bool, pending: bool) -> String {
    if current == pending {
        String::new()
    } else {
        format!(" (it will be {} after a reset)", word(pending))
    }
}

fn word(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// Every way in which the GPUs that the layout names are not as it says; empty when all are.
/// Placements and ids don't matter, profiles and compute instances do.
#[must_use]
pub fn assert(inventory: &Inventory, layout: &NodeLayout) -> Vec<Difference> {
    let mut differences: Vec<Difference> = unknown_gpus(inventory, layout)
        .into_iter()
        .map(|refusal| match refusal {
            Refusal::UnknownGpu { index, .. } => Difference::NoSuchGpu { gpu: index },
            _ => Difference::NoGpu,
        })
        .collect();
    for gpu in &inventory.gpus {
        if let Some(spec) = layout_for(layout, gpu) {
            compare(gpu, spec, &mut differences);
        }
    }
    for failed in &inventory.failed {
        if layout.for_gpu(failed.index).is_some() {
            let (gpu, reason) = (failed.index, failed.reason.clone());
            differences.push(Difference::Unreadable { gpu, reason });
        }
    }
    differences
}

/// A GPU instance by what counts: its profile and its compute instances' slices, largest first.
pub(crate) type Shape = (Profile, Vec<u8>);

/// The shape of a GPU instance that is there.
pub(crate) fn shape(instance: &nvml::GpuInstance) -> Shape {
    let mut compute: Vec<u8> = instance
        .compute_instances
        .iter()
        .map(|compute| compute.slices)
        .collect();
    compute.sort_unstable_by(|a, b| b.cmp(a));
    (instance.profile, compute)
}

/// The wanted shapes on a GPU; none where MIG is to be off.
pub(crate) fn wanted_shapes(
    gpu: &Gpu,
    spec: &LayoutSpec,
) -> Result<Option<Vec<Shape>>, LayoutError> {
    let Some(layout) = spec.resolve(&gpu.board)? else {
        return Ok(None);
    };
    let shapes = layout
        .instances()
        .iter()
        .map(|wanted| (wanted.profile, wanted.compute_instances()));
    Ok(Some(shapes.collect()))
}

fn compare(gpu: &Gpu, spec: &LayoutSpec, differences: &mut Vec<Difference>) {
    let index = gpu.index;
    let wanted = match (gpu.mig, wanted_shapes(gpu, spec)) {
        (None, _) if *spec == LayoutSpec::Off => return,
        (None, _) => {
            let reason = "not MIG-capable".to_owned();
            return differences.push(Difference::Impossible { gpu: index, reason });
        }
        (Some(_), Err(error)) => {
            let reason = error.to_string();
            return differences.push(Difference::Impossible { gpu: index, reason });
        }
        (Some(mode), Ok(wanted)) => {
            let on = wanted.is_some();
            if mode.current != on || mode.pending != on {
                differences.push(Difference::Mode {
                    gpu: index,
                    wanted: on,
                    current: mode.current,
                    pending: mode.pending,
                });
            }
            wanted.unwrap_or_default()
        }
    };
    let mut balance: BTreeMap<Shape, (usize, usize)> = BTreeMap::new();
    for shape in wanted {
        balance.entry(shape).or_default().0 += 1;
    }
    for instance in &gpu.instances {
        balance.entry(shape(instance)).or_default().1 += 1;
    }
    for (shape, (wanted, there)) in balance {
        let instance = describe(&shape);
        if wanted > there {
            differences.push(Difference::Missing {
                gpu: index,
                instance,
                count: wanted - there,
            });
        } else if there > wanted {
            differences.push(Difference::Unexpected {
                gpu: index,
                instance,
                count: there - wanted,
            });
        }
    }
}

fn describe((profile, compute): &Shape) -> String {
    match compute.as_slice() {
        [] => format!("{profile} without compute instances"),
        [one] if *one == profile.slices() => profile.to_string(),
        several => {
            let names: Vec<String> = several.iter().map(|size| format!("{size}c")).collect();
            format!("{profile} with compute instances {}", names.join(", "))
        }
    }
}

//! The layout that describes what is there.

use std::collections::BTreeMap;

use mig::{LayoutSpec, MigProfile, NodeLayout};
use nvml::{Gpu, Inventory};

use crate::difference::{Shape, shape, wanted_shapes};

/// Why what is there can't be written as a layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// No GPU that can be read has MIG.
    #[error("there is no MIG-capable GPU on this node that can be read")]
    NoGpu,
    /// A layout counts MIG devices and packs them into as few GPU instances as possible; what is
    /// there is packed otherwise.
    #[error(
        "GPU {gpu}: its compute instances are spread over GPU instances in a way that a layout \
         cannot say ({found}); the nearest is {nearest}"
    )]
    NotExpressible {
        /// Index of the GPU.
        gpu: u32,
        /// The GPU instances, each with its compute instances' slices.
        found: String,
        /// The layout with the same MIG devices.
        nearest: LayoutSpec,
    },
}

/// The layout of this node as it is; applied to the same node it changes nothing. A GPU instance
/// without compute instances is written as if it had the one that applying the layout gives it. GPUs
/// that can't be read or have no MIG are left out.
///
/// # Errors
/// When no GPU is left, or when what is on one can't be written as a layout.
pub fn export(inventory: &Inventory) -> Result<NodeLayout, ExportError> {
    let gpus: BTreeMap<u32, LayoutSpec> = inventory
        .gpus
        .iter()
        .filter(|gpu| gpu.mig.is_some())
        .map(|gpu| Ok((gpu.index, gpu_layout(gpu)?)))
        .collect::<Result<_, _>>()?;
    let uniform = gpus
        .values()
        .next()
        .filter(|first| inventory.failed.is_empty() && gpus.values().all(|spec| spec == *first));
    match uniform {
        Some(spec) => Ok(NodeLayout::uniform(spec.clone())),
        None => NodeLayout::of_gpus(gpus).ok_or(ExportError::NoGpu),
    }
}

fn gpu_layout(gpu: &Gpu) -> Result<LayoutSpec, ExportError> {
    if !gpu.mig_enabled() {
        return Ok(LayoutSpec::Off);
    }
    let mut shapes: Vec<Shape> = gpu
        .instances
        .iter()
        .map(|instance| match shape(instance) {
            (profile, compute) if compute.is_empty() => (profile, vec![profile.slices()]),
            found => found,
        })
        .collect();
    let devices = shapes.iter().flat_map(|(profile, compute)| {
        compute
            .iter()
            .filter_map(|size| MigProfile::new(*size, *profile).ok())
            .map(|p| (p, 1))
    });
    let spec = LayoutSpec::exact(devices);
    let mut meant = wanted_shapes(gpu, &spec).ok().flatten().unwrap_or_default();
    meant.sort_unstable();
    shapes.sort_unstable();
    if meant == shapes {
        return Ok(spec);
    }
    let found = shapes
        .into_iter()
        .map(|(profile, compute)| format!("{profile} {compute:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    Err(ExportError::NotExpressible {
        gpu: gpu.index,
        found,
        nearest: spec,
    })
}

//! MIG devices: the compute instances that a process sees, as devices.
#![allow(
    clippy::missing_errors_doc,
    reason = "the codes are NVML's; see the module `driver` and each text"
)]

use uuid::Uuid;

use crate::capability::View;
use crate::code::Return;
use crate::driver::{ComputeInstanceRef, Device, GpuInstanceRef, compute_instance, gpu_instance};
use crate::state::State;

/// What `nvmlDeviceGetAttributes_v2` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Copy engines, shared.
    pub shared_copy_engines: u32,
    /// Decoders, shared.
    pub shared_decoders: u32,
    /// Encoders, shared.
    pub shared_encoders: u32,
    /// JPEG engines, shared.
    pub shared_jpeg_engines: u32,
    /// Optical flow engines, shared.
    pub shared_ofa_engines: u32,
    /// Compute slices of the GPU instance.
    pub gpu_instance_slices: u32,
    /// Compute slices of the compute instance.
    pub compute_instance_slices: u32,
    /// Memory of the GPU instance in MiB.
    pub memory_mib: u64,
}

/// How many MIG devices a GPU can have: its compute slices in MIG mode, else 0 (as seen on an H200). `NOT_SUPPORTED` for a MIG device.
pub fn max_count(state: &State, device: Device) -> Result<u32, Return> {
    let gpu = state.gpu(device.physical()?)?;
    let board = state.board(gpu)?;
    Ok(if gpu.mig_current {
        u32::from(board.compute_slices)
    } else {
        0
    })
}

/// The MIG device at this index among those of the GPU that this process sees, which are in the order of their GPU instance and
/// compute instance ids. `NOT_FOUND` for every other index, and without MIG mode; `NOT_SUPPORTED` for a MIG device.
pub fn by_index(state: &State, view: &View, device: Device, index: u32) -> Result<Device, Return> {
    let gpu = device.physical()?;
    state.gpu(gpu)?;
    let found = visible(state, view, gpu).nth(index as usize);
    found.map(Device::Mig).ok_or(Return::NOT_FOUND)
}

/// The index that [`by_index`] takes. `NOT_FOUND` when it does not exist or is not seen.
pub fn index(state: &State, view: &View, instance: ComputeInstanceRef) -> Result<u32, Return> {
    let gpu = instance.gpu_instance.gpu;
    state.gpu(gpu)?;
    let position = visible(state, view, gpu).position(|found| found == instance);
    position
        .and_then(|index| u32::try_from(index).ok())
        .ok_or(Return::NOT_FOUND)
}

/// The MIG device with this UUID, of any GPU. `NOT_FOUND` when this process sees none.
pub fn by_uuid(state: &State, view: &View, text: &str) -> Result<ComputeInstanceRef, Return> {
    let everything = View::everything();
    for gpu in state.gpus.iter().filter(|gpu| !gpu.lost) {
        for instance in visible(state, &everything, gpu.minor) {
            if uuid(state, instance)?.eq_ignore_ascii_case(text) {
                let ComputeInstanceRef { gpu_instance, id } = instance;
                let seen = view.mig_device(gpu_instance.gpu, gpu_instance.id, id);
                return if seen {
                    Ok(instance)
                } else {
                    Err(Return::NOT_FOUND)
                };
            }
        }
    }
    Err(Return::NOT_FOUND)
}

/// The UUID, `MIG-<uuid>`: version 5, the same each time for the same GPU, ids, profiles and places.
pub fn uuid(state: &State, instance: ComputeInstanceRef) -> Result<String, Return> {
    let gpu = state.gpu(instance.gpu_instance.gpu)?;
    let gi = gpu_instance::info(state, instance.gpu_instance)?;
    let ci = compute_instance::info(state, instance)?;
    let name = format!(
        "gi{}/{}@{}/ci{}/{}@{}",
        gi.id, gi.profile_id, gi.placement.start, ci.id, ci.profile_id, ci.placement.start
    );
    Ok(format!("MIG-{}", Uuid::new_v5(&gpu.uuid, name.as_bytes())))
}

/// The profile's name, `3g.20gb` or `1c.3g.20gb`.
pub fn profile_name(state: &State, instance: ComputeInstanceRef) -> Result<String, Return> {
    let ci = compute_instance::info(state, instance)?;
    Ok(compute_instance::profile_by_id(state, ci.gpu_instance, ci.profile_id)?.name)
}

/// The GPU that a MIG device is a part of. `INVALID_ARGUMENT` for a GPU.
pub fn parent(state: &State, device: Device) -> Result<Device, Return> {
    let instance = mig(device)?;
    compute_instance::info(state, instance)?;
    Ok(Device::Gpu(instance.gpu_instance.gpu))
}

/// The GPU instance ID of a MIG device. `INVALID_ARGUMENT` for a GPU (as seen on an H200).
pub fn gpu_instance_id(state: &State, device: Device) -> Result<u32, Return> {
    Ok(compute_instance::info(state, mig(device)?)?.gpu_instance.id)
}

/// The compute instance ID of a MIG device. `INVALID_ARGUMENT` for a GPU.
pub fn compute_instance_id(state: &State, device: Device) -> Result<u32, Return> {
    Ok(compute_instance::info(state, mig(device)?)?.id)
}

/// The attributes of a MIG device. `NOT_SUPPORTED` for a GPU (as seen on an H200).
pub fn attributes(state: &State, device: Device) -> Result<Attributes, Return> {
    let Device::Mig(instance) = device else {
        state.gpu(device.gpu())?;
        return Err(Return::NOT_SUPPORTED);
    };
    let ci = compute_instance::info(state, instance)?;
    let parent = gpu_instance::profile_of(state, ci.gpu_instance)?;
    let profile = compute_instance::profile_by_id(state, ci.gpu_instance, ci.profile_id)?;
    Ok(Attributes {
        multiprocessors: profile.multiprocessors,
        shared_copy_engines: profile.shared_copy_engines,
        shared_decoders: profile.shared_decoders,
        shared_encoders: profile.shared_encoders,
        shared_jpeg_engines: profile.shared_jpeg_engines,
        shared_ofa_engines: profile.shared_ofa_engines,
        gpu_instance_slices: u32::from(parent.slices),
        compute_instance_slices: u32::from(profile.slices),
        memory_mib: parent.memory_mib,
    })
}

fn mig(device: Device) -> Result<ComputeInstanceRef, Return> {
    match device {
        Device::Mig(instance) => Ok(instance),
        Device::Gpu(_) => Err(Return::INVALID_ARGUMENT),
    }
}

fn visible<'a>(
    state: &'a State,
    view: &'a View,
    gpu: u32,
) -> impl Iterator<Item = ComputeInstanceRef> + 'a {
    let gpus = state.gpus.get(gpu as usize).into_iter();
    gpus.flat_map(move |found| found.instances.iter())
        .flat_map(move |gi| gi.compute_instances.iter().map(move |ci| (gi.id, ci.id)))
        .filter(move |(gi, ci)| view.mig_device(gpu, *gi, *ci))
        .map(move |(gi, id)| ComputeInstanceRef {
            gpu_instance: GpuInstanceRef { gpu, id: gi },
            id,
        })
}

//! GPU instances: profiles, placements, creation and destruction.
#![allow(
    clippy::missing_errors_doc,
    reason = "the codes are NVML's; see the module `driver` and each text"
)]

use crate::capability::{MAX_GPU_INSTANCES, View};
use crate::code::Return;
use crate::driver::placement::{self, Kind, Span};
use crate::driver::{Device, GpuInstanceRef, events};
use crate::state::{SimBoard, SimGpu, SimGpuInstance, SimProfile, State};

/// `NVML_GPU_INSTANCE_PROFILE_COUNT` of driver 580.159.04, where 17 is out of range already (seen on an H200).
pub const PROFILE_COUNT: u32 = 17;

/// What `nvmlGpuInstanceGetInfo` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// GPU, by minor number.
    pub gpu: u32,
    /// GPU instance ID.
    pub id: u32,
    /// GPU instance profile ID.
    pub profile_id: u32,
    /// Where it lies, in memory units.
    pub placement: Span,
}

/// The profile with this `NVML_GPU_INSTANCE_PROFILE_*`. `INVALID_ARGUMENT` out of range, `NOT_SUPPORTED` when the board
/// does not have it. Works without MIG mode.
pub fn profile_by_enum(state: &State, device: Device, profile: u32) -> Result<&SimProfile, Return> {
    let board = state.board(state.gpu(device.physical()?)?)?;
    if profile >= PROFILE_COUNT {
        return Err(Return::INVALID_ARGUMENT);
    }
    board
        .profiles
        .iter()
        .find(|found| found.nvml_enum == profile)
        .ok_or(Return::NOT_SUPPORTED)
}

/// The profile with this GPU instance profile ID. `INVALID_ARGUMENT` when the board does not have it (seen on an H200). Works
/// without MIG mode.
pub fn profile_by_id(
    state: &State,
    device: Device,
    profile_id: u32,
) -> Result<&SimProfile, Return> {
    let board = state.board(state.gpu(device.physical()?)?)?;
    board.profile(profile_id).ok_or(Return::INVALID_ARGUMENT)
}

/// Every legal placement of a profile, whether free or not. Works without MIG mode; errors as [`profile_by_id`].
pub fn possible_placements(
    state: &State,
    device: Device,
    profile_id: u32,
) -> Result<Vec<Span>, Return> {
    let profile = profile_by_id(state, device, profile_id)?;
    Ok(profile
        .starts
        .iter()
        .map(|start| Span {
            start: *start,
            size: profile.size,
        })
        .collect())
}

/// How many more instances of a profile fit; without MIG mode the maximum, as seen on an H200. Errors as [`profile_by_id`].
pub fn remaining_capacity(state: &State, device: Device, profile_id: u32) -> Result<u32, Return> {
    let profile = profile_by_id(state, device, profile_id)?;
    let gpu = state.gpu(device.gpu())?;
    let board = state.board(gpu)?;
    let present = gpu
        .instances
        .iter()
        .filter(|gi| gi.profile_id == profile_id)
        .count();
    let fitting = placement::capacity(&kind(profile), present, &taken(gpu));
    let slices = u32::from(free_slices(gpu, board)) / u32::from(profile.slices.max(1));
    Ok(fitting.min(slices))
}

/// Creates a GPU instance, at `start` or where the driver likes. The first match counts:
/// `NOT_SUPPORTED` for a MIG device, without MIG mode, or when the board does not have the profile; `INVALID_ARGUMENT` when
/// the profile may not lie there; `INSUFFICIENT_RESOURCES` when there is no room.
pub fn create(
    state: &mut State,
    device: Device,
    profile_id: u32,
    at: Option<Span>,
) -> Result<GpuInstanceRef, Return> {
    let gpu = state.gpu(device.physical()?)?;
    if !gpu.mig_current {
        return Err(Return::NOT_SUPPORTED);
    }
    let board = state.board(gpu)?;
    let profile = board.profile(profile_id).ok_or(Return::NOT_SUPPORTED)?;
    let kind = kind(profile);
    if let Some(at) = at
        && (at.size != kind.size || !kind.starts.contains(&at.start))
    {
        return Err(Return::INVALID_ARGUMENT);
    }
    if remaining_capacity(state, device, profile_id)? == 0 {
        return Err(Return::INSUFFICIENT_RESOURCES);
    }
    let taken = taken(gpu);
    let start = match at {
        Some(at) => placement::free_starts(&kind, &taken).find(|start| *start == at.start),
        None => placement::default_start(&kinds(board), &kind, &taken),
    }
    .ok_or(Return::INSUFFICIENT_RESOURCES)?;
    let (size, minor) = (kind.size, gpu.minor);
    let id = id_for(board, Span { start, size }).ok_or(Return::UNKNOWN)?;
    let gpu = state.gpu_mut(minor)?;
    gpu.instances.push(SimGpuInstance {
        id,
        profile_id,
        start,
        size,
        compute_instances: Vec::new(),
    });
    gpu.instances.sort_by_key(|instance| instance.id);
    state.push_event(minor, events::MIG_CONFIG_CHANGE, 0, Some(id), None);
    Ok(GpuInstanceRef { gpu: minor, id })
}

/// Destroys a GPU instance. `NOT_FOUND` when there is none, `IN_USE` while it has compute instances.
pub fn destroy(state: &mut State, instance: GpuInstanceRef) -> Result<(), Return> {
    let gpu = state.gpu_mut(instance.gpu)?;
    if !gpu.instance(instance.id)?.compute_instances.is_empty() {
        return Err(Return::IN_USE);
    }
    gpu.instances.retain(|found| found.id != instance.id);
    state.push_event(
        instance.gpu,
        events::MIG_CONFIG_CHANGE,
        0,
        Some(instance.id),
        None,
    );
    Ok(())
}

/// The GPU instances of a profile, by id; none without MIG mode. Errors as [`profile_by_id`].
pub fn list(state: &State, device: Device, profile_id: u32) -> Result<Vec<GpuInstanceRef>, Return> {
    profile_by_id(state, device, profile_id)?;
    let gpu = state.gpu(device.gpu())?;
    let of_profile = gpu
        .instances
        .iter()
        .filter(|found| found.profile_id == profile_id);
    Ok(of_profile
        .map(|found| GpuInstanceRef {
            gpu: gpu.minor,
            id: found.id,
        })
        .collect())
}

/// The GPU instance with this id. `NOT_FOUND` when there is none, also without MIG mode (seen on an H200); `NOT_SUPPORTED` for
/// a MIG device.
pub fn by_id(state: &State, device: Device, id: u32) -> Result<GpuInstanceRef, Return> {
    let gpu = state.gpu(device.physical()?)?;
    gpu.instance(id)?;
    Ok(GpuInstanceRef { gpu: gpu.minor, id })
}

/// What a GPU instance is. `NOT_FOUND` when there is none.
pub fn info(state: &State, instance: GpuInstanceRef) -> Result<Info, Return> {
    let found = state.gpu(instance.gpu)?.instance(instance.id)?;
    Ok(Info {
        gpu: instance.gpu,
        id: found.id,
        profile_id: found.profile_id,
        placement: Span {
            start: found.start,
            size: found.size,
        },
    })
}

/// The profile of a GPU instance. `NOT_FOUND` when there is none.
pub fn profile_of(state: &State, instance: GpuInstanceRef) -> Result<&SimProfile, Return> {
    let gpu = state.gpu(instance.gpu)?;
    let found = gpu.instance(instance.id)?;
    state
        .board(gpu)?
        .profile(found.profile_id)
        .ok_or(Return::UNKNOWN)
}

/// Whether this process may name the GPU instance: it can open its capability, or configure.
#[must_use]
pub fn visible(view: &View, instance: GpuInstanceRef) -> bool {
    view.config()
        || view.capability(crate::capability::gpu_instance_minor(
            instance.gpu,
            instance.id,
        ))
}

/// The id that the driver gives to an instance at this place: 0 for the whole GPU, 1 and 2 for halves, 3 to 6 for quarters, 7 to 14 for
/// eighths, by their start.
#[must_use]
pub fn id_for(board: &SimBoard, place: Span) -> Option<u32> {
    let units = u32::from(board.memory_units);
    let (start, size) = (u32::from(place.start), u32::from(place.size));
    let parts = units.checked_div(size)?;
    let first = match parts {
        1 => 0,
        2 => 1,
        3 | 4 => 3,
        _ => 7,
    };
    let id = first + start.checked_div(size)?;
    (id < MAX_GPU_INSTANCES).then_some(id)
}

fn kind(profile: &SimProfile) -> Kind {
    Kind {
        id: profile.id,
        size: profile.size,
        starts: profile.starts.clone(),
        max_instances: profile.max_instances,
    }
}

fn kinds(board: &SimBoard) -> Vec<Kind> {
    board.profiles.iter().map(kind).collect()
}

fn taken(gpu: &SimGpu) -> Vec<Span> {
    gpu.instances
        .iter()
        .map(|found| Span {
            start: found.start,
            size: found.size,
        })
        .collect()
}

fn free_slices(gpu: &SimGpu, board: &SimBoard) -> u8 {
    let slices = |found: &SimGpuInstance| board.profile(found.profile_id).map_or(0, |p| p.slices);
    let used: u8 = gpu.instances.iter().map(slices).sum();
    board.compute_slices.saturating_sub(used)
}

//! Compute instances: profiles, placements, creation and destruction inside a GPU instance.
#![allow(
    clippy::missing_errors_doc,
    reason = "the codes are NVML's; see the module `driver` and each text"
)]

use crate::capability::MAX_COMPUTE_INSTANCES;
use crate::code::Return;
use crate::driver::placement::{self, Kind, Span};
use crate::driver::{ComputeInstanceRef, GpuInstanceRef, events, gpu_instance, processes};
use crate::state::{SimComputeInstance, SimGpuInstance, State};

/// `NVML_COMPUTE_INSTANCE_PROFILE_COUNT` of driver 580's header.
pub const PROFILE_COUNT: u32 = 9;
/// `NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED`, the only engine profile.
pub const ENGINE_PROFILE_SHARED: u32 = 0;

/// A compute instance profile within one GPU instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComputeProfile {
    /// Its ID, equal to `NVML_COMPUTE_INSTANCE_PROFILE_*`.
    pub id: u32,
    /// Its name without `MIG`: `1c.3g.20gb`, or `3g.20gb` for the whole GPU instance.
    pub name: String,
    /// Compute slices.
    pub slices: u8,
    /// Legal starts in compute slices. Assumed where NVIDIA shows none: every multiple of the size (of 4 for three slices).
    pub starts: Vec<u8>,
    /// How many an empty GPU instance takes.
    pub max_instances: u8,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Copy engines, shared with the GPU instance's other compute instances.
    pub shared_copy_engines: u32,
    /// Decoders, shared.
    pub shared_decoders: u32,
    /// Encoders, shared.
    pub shared_encoders: u32,
    /// JPEG engines, shared.
    pub shared_jpeg_engines: u32,
    /// Optical flow engines, shared.
    pub shared_ofa_engines: u32,
}

/// What `nvmlComputeInstanceGetInfo` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Its GPU instance.
    pub gpu_instance: GpuInstanceRef,
    /// Compute instance ID.
    pub id: u32,
    /// Compute instance profile ID.
    pub profile_id: u32,
    /// Where it lies, in compute slices.
    pub placement: Span,
}

/// `NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV2`: one slice with the memory of two.
const ONE_SLICE_DOUBLE_MEMORY: u32 = 9;
/// `NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE_REV1`: what a public log of a GH200 names for `MIG 1g.24gb`. Assumed of the others.
const ONE_SLICE_REV1: u32 = 7;

/// All compute instance profiles of a GPU instance, smallest first. `NOT_FOUND` when there is no such GPU instance.
pub fn profiles(state: &State, instance: GpuInstanceRef) -> Result<Vec<ComputeProfile>, Return> {
    let parent = gpu_instance::profile_of(state, instance)?;
    let gpu = state.gpu(instance.gpu)?;
    let one_slice = state
        .board(gpu)?
        .profiles
        .iter()
        .filter(|profile| profile.slices == 1)
        .map(|profile| profile.multiprocessors)
        .min()
        .unwrap_or(parent.multiprocessors);
    let profiles = sizes(parent.slices)
        .iter()
        .map(|(id, slices, starts)| ComputeProfile {
            id: if parent.nvml_enum == ONE_SLICE_DOUBLE_MEMORY {
                ONE_SLICE_REV1
            } else {
                *id
            },
            name: if *slices == parent.slices {
                parent.name.clone()
            } else {
                format!("{slices}c.{}", parent.name)
            },
            slices: *slices,
            starts: starts.to_vec(),
            max_instances: u8::try_from(starts.len()).unwrap_or(u8::MAX),
            multiprocessors: if *slices == parent.slices {
                parent.multiprocessors
            } else {
                (one_slice * u32::from(*slices)).min(parent.multiprocessors)
            },
            shared_copy_engines: parent.copy_engines,
            shared_decoders: parent.decoders,
            shared_encoders: parent.encoders,
            shared_jpeg_engines: parent.jpeg_engines,
            shared_ofa_engines: parent.ofa_engines,
        });
    Ok(profiles.collect())
}

/// The profile with this `NVML_COMPUTE_INSTANCE_PROFILE_*`. `INVALID_ARGUMENT` when it or the engine profile is out of range;
/// `NOT_SUPPORTED` when the GPU instance does not have it; `NOT_FOUND` when there is no such GPU instance.
pub fn profile_by_enum(
    state: &State,
    instance: GpuInstanceRef,
    profile: u32,
    engine_profile: u32,
) -> Result<ComputeProfile, Return> {
    if profile >= PROFILE_COUNT || engine_profile != ENGINE_PROFILE_SHARED {
        return Err(Return::INVALID_ARGUMENT);
    }
    profile_by_id(state, instance, profile)
}

/// The profile with this compute instance profile ID. `NOT_SUPPORTED` when the GPU instance does not have it.
pub fn profile_by_id(
    state: &State,
    instance: GpuInstanceRef,
    profile_id: u32,
) -> Result<ComputeProfile, Return> {
    let mut profiles = profiles(state, instance)?.into_iter();
    profiles
        .find(|found| found.id == profile_id)
        .ok_or(Return::NOT_SUPPORTED)
}

/// Every legal placement of a profile, whether free or not. Errors as [`profile_by_id`].
pub fn possible_placements(
    state: &State,
    instance: GpuInstanceRef,
    profile_id: u32,
) -> Result<Vec<Span>, Return> {
    let profile = profile_by_id(state, instance, profile_id)?;
    Ok(profile
        .starts
        .iter()
        .map(|start| Span {
            start: *start,
            size: profile.slices,
        })
        .collect())
}

/// How many more compute instances of a profile fit. Errors as [`profile_by_id`].
pub fn remaining_capacity(
    state: &State,
    instance: GpuInstanceRef,
    profile_id: u32,
) -> Result<u32, Return> {
    let profile = profile_by_id(state, instance, profile_id)?;
    let found = state.gpu(instance.gpu)?.instance(instance.id)?;
    let present = found
        .compute_instances
        .iter()
        .filter(|ci| ci.profile_id == profile_id)
        .count();
    Ok(placement::capacity(&kind(&profile), present, &taken(found)))
}

/// Creates a compute instance, at `at` or where the driver likes. `NOT_FOUND` when there is no such GPU instance, `NOT_SUPPORTED` when
/// it does not have the profile, `INVALID_ARGUMENT` when it may not lie there, `INSUFFICIENT_RESOURCES` without room.
pub fn create(
    state: &mut State,
    instance: GpuInstanceRef,
    profile_id: u32,
    at: Option<Span>,
) -> Result<ComputeInstanceRef, Return> {
    let all = profiles(state, instance)?;
    let profile = all
        .iter()
        .find(|found| found.id == profile_id)
        .ok_or(Return::NOT_SUPPORTED)?;
    let kind = kind(profile);
    if let Some(at) = at
        && (at.size != kind.size || !kind.starts.contains(&at.start))
    {
        return Err(Return::INVALID_ARGUMENT);
    }
    if remaining_capacity(state, instance, profile_id)? == 0 {
        return Err(Return::INSUFFICIENT_RESOURCES);
    }
    let found = state.gpu(instance.gpu)?.instance(instance.id)?;
    let taken = taken(found);
    let start = if let Some(at) = at {
        placement::free_starts(&kind, &taken).find(|start| *start == at.start)
    } else {
        let kinds: Vec<Kind> = all.iter().map(self::kind).collect();
        placement::default_start(&kinds, &kind, &taken)
    }
    .ok_or(Return::INSUFFICIENT_RESOURCES)?;
    let id = (0..MAX_COMPUTE_INSTANCES)
        .find(|id| found.compute(*id).is_err())
        .ok_or(Return::INSUFFICIENT_RESOURCES)?;
    let size = kind.size;
    let gpu = state.gpu_mut(instance.gpu)?;
    let found = gpu
        .instances
        .iter_mut()
        .find(|found| found.id == instance.id)
        .ok_or(Return::NOT_FOUND)?;
    found.compute_instances.push(SimComputeInstance {
        id,
        profile_id,
        start,
        size,
    });
    found.compute_instances.sort_by_key(|ci| ci.id);
    state.push_event(
        instance.gpu,
        events::MIG_CONFIG_CHANGE,
        0,
        Some(instance.id),
        Some(id),
    );
    Ok(ComputeInstanceRef {
        gpu_instance: instance,
        id,
    })
}

/// Destroys a compute instance. `NOT_FOUND` when there is none, `IN_USE` while a process uses it.
pub fn destroy(state: &mut State, instance: ComputeInstanceRef) -> Result<(), Return> {
    info(state, instance)?;
    if processes::alive(state).any(|process| processes::is_on(process, instance)) {
        return Err(Return::IN_USE);
    }
    let ComputeInstanceRef { gpu_instance, id } = instance;
    let gpu = state.gpu_mut(gpu_instance.gpu)?;
    for found in gpu
        .instances
        .iter_mut()
        .filter(|found| found.id == gpu_instance.id)
    {
        found.compute_instances.retain(|ci| ci.id != id);
    }
    let kind = events::MIG_CONFIG_CHANGE;
    state.push_event(gpu_instance.gpu, kind, 0, Some(gpu_instance.id), Some(id));
    Ok(())
}

/// The compute instances of a profile, by id. Errors as [`profile_by_id`].
pub fn list(
    state: &State,
    instance: GpuInstanceRef,
    profile_id: u32,
) -> Result<Vec<ComputeInstanceRef>, Return> {
    profile_by_id(state, instance, profile_id)?;
    let found = state.gpu(instance.gpu)?.instance(instance.id)?;
    let of_profile = found
        .compute_instances
        .iter()
        .filter(|ci| ci.profile_id == profile_id);
    Ok(of_profile
        .map(|ci| ComputeInstanceRef {
            gpu_instance: instance,
            id: ci.id,
        })
        .collect())
}

/// The compute instance with this id. `NOT_FOUND` when there is none.
pub fn by_id(
    state: &State,
    instance: GpuInstanceRef,
    id: u32,
) -> Result<ComputeInstanceRef, Return> {
    let found = ComputeInstanceRef {
        gpu_instance: instance,
        id,
    };
    info(state, found).map(|_| found)
}

/// What a compute instance is. `NOT_FOUND` when there is none.
pub fn info(state: &State, instance: ComputeInstanceRef) -> Result<Info, Return> {
    let ComputeInstanceRef { gpu_instance, id } = instance;
    let ci = state
        .gpu(gpu_instance.gpu)?
        .instance(gpu_instance.id)?
        .compute(id)?;
    Ok(Info {
        gpu_instance,
        id,
        profile_id: ci.profile_id,
        placement: Span {
            start: ci.start,
            size: ci.size,
        },
    })
}

/// The profiles (ID, slices, starts) of a GPU instance with that many compute slices. Counts as NVIDIA lists them for an A100.
fn sizes(slices: u8) -> &'static [(u32, u8, &'static [u8])] {
    match slices {
        1 => &[(0, 1, &[0])],
        2 => &[(0, 1, &[0, 1]), (1, 2, &[0])],
        3 => &[(0, 1, &[0, 1, 2]), (1, 2, &[0]), (2, 3, &[0])],
        4 => &[(0, 1, &[0, 1, 2, 3]), (1, 2, &[0, 2]), (3, 4, &[0])],
        7 => &[
            (0, 1, &[0, 1, 2, 3, 4, 5, 6]),
            (1, 2, &[0, 2, 4]),
            (2, 3, &[0, 4]),
            (3, 4, &[0]),
            (4, 7, &[0]),
        ],
        _ => &[],
    }
}

fn kind(profile: &ComputeProfile) -> Kind {
    Kind {
        id: profile.id,
        size: profile.slices,
        starts: profile.starts.clone(),
        max_instances: profile.max_instances,
    }
}

fn taken(instance: &SimGpuInstance) -> Vec<Span> {
    let spans = instance.compute_instances.iter();
    spans
        .map(|ci| Span {
            start: ci.start,
            size: ci.size,
        })
        .collect()
}

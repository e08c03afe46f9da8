//! The profiles of a GPU and of its GPU instances, with how many more fit now.

use mig::{Placement, Profile};
use serde::{Deserialize, Serialize};

use crate::nvml::ComputeProfile;
use crate::{Error, GpuUuid, Nvml};

/// A GPU instance profile of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuInstanceProfile {
    /// Its name.
    pub profile: Profile,
    /// The driver's id of it.
    pub id: u32,
    /// Whether its instances can reach each other's memory.
    pub p2p: bool,
    /// Compute slices.
    pub slices: u32,
    /// How many fit on an empty GPU.
    pub total: u32,
    /// How many more fit now.
    pub free: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Copy engines.
    pub copy_engines: u32,
    /// Decoders.
    pub decoders: u32,
    /// Encoders.
    pub encoders: u32,
    /// JPEG engines.
    pub jpeg: u32,
    /// Optical flow engines.
    pub ofa: u32,
    /// Where it may lie.
    pub placements: Vec<Placement>,
}

/// A compute instance profile of a GPU instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeInstanceProfile {
    /// The driver's id of it.
    pub id: u32,
    /// Compute slices.
    pub slices: u8,
    /// How many fit in an empty GPU instance.
    pub total: u32,
    /// How many more fit now.
    pub free: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Copy engines, shared within the GPU instance.
    pub copy_engines: u32,
    /// Decoders, shared within the GPU instance.
    pub decoders: u32,
    /// Encoders, shared within the GPU instance.
    pub encoders: u32,
    /// JPEG engines, shared within the GPU instance.
    pub jpeg: u32,
    /// Optical flow engines, shared within the GPU instance.
    pub ofa: u32,
}

impl Nvml {
    /// The GPU instance profiles of a GPU, in the order in which NVIDIA's tools list them; none without MIG. Works
    /// without MIG mode too.
    ///
    /// # Errors
    /// [`Error::Call`], notably `GPU_IS_LOST`.
    pub fn gpu_instance_profiles(&self, gpu: &GpuUuid) -> Result<Vec<GpuInstanceProfile>, Error> {
        let session = &self.session;
        let device = session.device(gpu)?;
        let constants = session.constants(gpu, device)?;
        constants
            .profiles
            .iter()
            .map(|entry| {
                let info = &entry.info;
                let free = session
                    .calls
                    .remaining_capacity(device, info.id)
                    .map_err(|failure| session.error_on(failure, gpu))?;
                Ok(GpuInstanceProfile {
                    profile: entry.profile,
                    id: info.id,
                    p2p: info.p2p,
                    slices: info.slices,
                    total: entry.instances,
                    free,
                    memory_mib: info.memory_mib,
                    multiprocessors: info.multiprocessors,
                    copy_engines: info.copy_engines,
                    decoders: info.decoders,
                    encoders: info.encoders,
                    jpeg: info.jpeg,
                    ofa: info.ofa,
                    placements: entry.placements.clone(),
                })
            })
            .collect()
    }

    /// The compute instance profiles of a GPU instance, smallest first.
    ///
    /// # Errors
    /// [`Error::Call`] with `NOT_FOUND` for no such GPU instance, `NO_PERMISSION`.
    pub fn compute_instance_profiles(
        &self,
        gpu: &GpuUuid,
        gpu_instance: u32,
    ) -> Result<Vec<ComputeInstanceProfile>, Error> {
        let session = &self.session;
        session.with_gpu_instance(gpu, gpu_instance, |handle| {
            let profile_id = session.calls.gpu_instance_info(handle)?.profileId;
            session
                .compute_profiles(gpu, handle, profile_id)?
                .iter()
                .map(|profile| {
                    let free = session
                        .calls
                        .compute_instance_remaining_capacity(handle, profile.id)?;
                    Ok(public(*profile, free))
                })
                .collect()
        })
    }

    /// Where a compute instance of this profile may lie among the compute slices of a GPU instance.
    ///
    /// # Errors
    /// [`Error::Call`] with `NOT_FOUND` for no such GPU instance, `NOT_SUPPORTED` for a profile that it lacks.
    pub fn compute_instance_placements(
        &self,
        gpu: &GpuUuid,
        gpu_instance: u32,
        profile_id: u32,
    ) -> Result<Vec<Placement>, Error> {
        let calls = &self.session.calls;
        let list = self
            .session
            .with_gpu_instance(gpu, gpu_instance, |handle| {
                calls.compute_instance_placements(handle, profile_id)
            })?;
        Ok(list
            .into_iter()
            .map(|(start, size)| crate::board::placement(start, size))
            .collect())
    }
}

fn public(profile: ComputeProfile, free: u32) -> ComputeInstanceProfile {
    ComputeInstanceProfile {
        id: profile.id,
        slices: profile.slices,
        total: profile.instances,
        free,
        multiprocessors: profile.multiprocessors,
        copy_engines: profile.copy_engines,
        decoders: profile.decoders,
        encoders: profile.encoders,
        jpeg: profile.jpeg,
        ofa: profile.ofa,
    }
}

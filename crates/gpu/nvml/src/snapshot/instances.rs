//! Reading the GPU instances, compute instances and MIG devices of one GPU.

use std::sync::Arc;

use mig::{MigProfile, Placement};

use super::Constants;
use crate::board::{self, ProfileEntry, narrow};
use crate::calls::{Answer, ComputeInstanceHandle, Device, Failure, GpuInstanceHandle};
use crate::nvml::{ComputeProfile, Session};
use crate::{ComputeInstance, Error, GpuInstance, GpuUuid, MigDevice, MigUuid, ReturnCode};

/// What a MIG device has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeviceFacts {
    multiprocessors: u32,
    copy_engines: u32,
    decoders: u32,
    encoders: u32,
    jpeg: u32,
    ofa: u32,
    gpu_instance_slices: u32,
    compute_instance_slices: u32,
    memory_mib: u64,
}

/// Instances of a GPU while they are being read, with the handles that are worth remembering.
#[derive(Default)]
pub(super) struct Found {
    pub(super) instances: Vec<GpuInstance>,
    pub(super) gpu_handles: Vec<(u32, GpuInstanceHandle)>,
    pub(super) compute_handles: Vec<(u32, u32, ComputeInstanceHandle)>,
    /// False where the driver would not list them all.
    pub(super) complete: bool,
}

/// More compute instance profile numbers than any header has; the driver says itself where its own end.
const COMPUTE_PROFILE_NUMBERS: u32 = 32;

impl Session {
    pub(super) fn instances(
        &self,
        device: Device,
        uuid: &GpuUuid,
        minor: u32,
        constants: &Constants,
    ) -> Result<Found, Error> {
        let mut found = match self.listed_instances(device, uuid, constants) {
            Ok(found) => found,
            // Listing is for who may change them. Everyone may see their own MIG devices.
            Err(failure) if failure.is(ReturnCode::ERROR_NO_PERMISSION) => Found::default(),
            Err(failure) => return Err(self.error_on(failure, uuid)),
        };
        self.add_mig_devices(device, uuid, constants, &mut found)?;
        found.instances.sort_by_key(|instance| instance.id);
        for instance in &mut found.instances {
            instance.capability_minor = self.minors().gpu_instance(minor, instance.id);
            instance.compute_instances.sort_by_key(|compute| compute.id);
            for compute in &mut instance.compute_instances {
                compute.capability_minor =
                    self.minors()
                        .compute_instance(minor, instance.id, compute.id);
            }
        }
        Ok(found)
    }

    /// NVML lists the instances of one profile at a time; profiles that cannot lie beside what is already found are not
    /// asked for.
    fn listed_instances(
        &self,
        device: Device,
        uuid: &GpuUuid,
        constants: &Constants,
    ) -> Answer<Found> {
        let mut found = Found {
            complete: true,
            ..Found::default()
        };
        for entry in &constants.profiles {
            if !has_room(entry, &found.instances, constants.board.compute_slices) {
                continue;
            }
            let room = usize::try_from(entry.instances).unwrap_or_default();
            for handle in self.calls.gpu_instances(device, entry.info.id, room)? {
                // Another process may destroy it between the list and the question.
                let Some(info) = unless_gone(self.calls.gpu_instance_info(handle))? else {
                    continue;
                };
                let mut instance = GpuInstance {
                    id: info.id,
                    profile: entry.profile,
                    profile_id: info.profileId,
                    placement: board::placement(info.placement.start, info.placement.size),
                    capability_minor: None,
                    compute_instances: Vec::new(),
                };
                found.gpu_handles.push((info.id, handle));
                self.add_compute_instances(
                    uuid,
                    handle,
                    &mut instance,
                    &mut found.compute_handles,
                )?;
                found.instances.push(instance);
            }
        }
        Ok(found)
    }

    /// Largest first, and no further once every compute slice is accounted for: nearly always one question.
    fn add_compute_instances(
        &self,
        uuid: &GpuUuid,
        handle: GpuInstanceHandle,
        instance: &mut GpuInstance,
        handles: &mut Vec<(u32, u32, ComputeInstanceHandle)>,
    ) -> Answer<()> {
        let slices = instance.profile.slices();
        let mut left = slices;
        for profile in self
            .compute_profiles(uuid, handle, instance.profile_id)?
            .iter()
            .rev()
        {
            if profile.slices > left {
                continue;
            }
            let room = usize::try_from(profile.instances).unwrap_or_default();
            for compute_handle in self.calls.compute_instances(handle, profile.id, room)? {
                let Some(info) = unless_gone(self.calls.compute_instance_info(compute_handle))?
                else {
                    continue;
                };
                // Drivers before placements leave them zero.
                let size = if info.placement.size == 0 {
                    u32::from(profile.slices)
                } else {
                    info.placement.size
                };
                handles.push((instance.id, info.id, compute_handle));
                instance.compute_instances.push(ComputeInstance {
                    id: info.id,
                    profile_id: info.profileId,
                    slices: profile.slices,
                    placement: board::placement(info.placement.start, size),
                    capability_minor: None,
                    device: None,
                });
                left = left.saturating_sub(profile.slices);
            }
            if left == 0 {
                break;
            }
        }
        Ok(())
    }

    /// The compute instance profiles of a GPU instance profile, smallest first, asked once for each.
    pub(crate) fn compute_profiles(
        &self,
        uuid: &GpuUuid,
        handle: GpuInstanceHandle,
        profile_id: u32,
    ) -> Answer<Arc<[ComputeProfile]>> {
        let key = (uuid.clone(), profile_id);
        if let Some(profiles) = self.memory().compute_profiles.get(&key) {
            return Ok(Arc::clone(profiles));
        }
        let mut profiles: Vec<ComputeProfile> = Vec::new();
        for number in 0..COMPUTE_PROFILE_NUMBERS {
            let info = match self.calls.compute_instance_profile_info(handle, number) {
                Ok(info) => info,
                Err(failure) if failure.is(ReturnCode::ERROR_INVALID_ARGUMENT) => break,
                Err(failure @ Failure::Missing(_)) => return Err(failure),
                Err(failure) if failure.is_unavailable() => continue,
                Err(failure) => return Err(failure),
            };
            if profiles.iter().any(|known| known.id == info.id) {
                continue;
            }
            profiles.push(ComputeProfile {
                id: info.id,
                slices: narrow(info.sliceCount),
                instances: info.instanceCount,
                multiprocessors: info.multiprocessorCount,
                copy_engines: info.sharedCopyEngineCount,
                decoders: info.sharedDecoderCount,
                encoders: info.sharedEncoderCount,
                jpeg: info.sharedJpegCount,
                ofa: info.sharedOfaCount,
            });
        }
        profiles.sort_by_key(|profile| profile.slices);
        let profiles: Arc<[ComputeProfile]> = profiles.into();
        // A driver that names none is not remembered: the handle may have gone stale under the questions.
        if !profiles.is_empty() {
            self.memory()
                .compute_profiles
                .insert(key, Arc::clone(&profiles));
        }
        Ok(profiles)
    }

    /// Puts every MIG device that this process sees on its compute instance.
    fn add_mig_devices(
        &self,
        device: Device,
        uuid: &GpuUuid,
        constants: &Constants,
        found: &mut Found,
    ) -> Result<(), Error> {
        let named = |failure| self.error_on(failure, uuid);
        let mut expected: usize = found
            .instances
            .iter()
            .map(|instance| instance.compute_instances.len())
            .sum();
        if found.complete && expected == 0 {
            return Ok(());
        }
        for index in 0..self.calls.max_mig_device_count(device).map_err(named)? {
            let seen = unless_gone(self.calls.mig_device_by_index(device, index)).map_err(named)?;
            let Some(handle) = seen else { continue };
            let ids = self.calls.gpu_instance_id(handle).and_then(|gi| {
                Ok((
                    gi,
                    self.calls.compute_instance_id(handle)?,
                    self.calls.uuid(handle)?,
                ))
            });
            let Some((gi, ci, text)) = unless_gone(ids).map_err(named)? else {
                continue;
            };
            let mig_uuid: MigUuid =
                text.parse()
                    .map_err(|error: crate::InvalidUuid| Error::Answer {
                        call: "nvmlDeviceGetUUID",
                        gpu: Some(self.label(uuid).gpu_instance(gi).compute_instance(ci)),
                        reason: error.to_string(),
                    })?;
            if !found.complete {
                self.add_unlisted(device, handle, (gi, ci), constants, found)
                    .map_err(named)?;
            }
            let Some(instance) = found
                .instances
                .iter_mut()
                .find(|instance| instance.id == gi)
            else {
                continue;
            };
            let (profile, profile_id) = (instance.profile, instance.profile_id);
            let Some(compute) = instance
                .compute_instances
                .iter_mut()
                .find(|compute| compute.id == ci)
            else {
                continue;
            };
            let key = (mig_uuid.clone(), profile_id, compute.profile_id);
            let facts = match unless_gone(self.facts(handle, key)) {
                Ok(Some(facts)) => facts,
                Ok(None) => continue,
                // The slice works all the same, and the others of this GPU do: its profiles say what it has.
                Err(failure) => self
                    .facts_of_profiles(uuid, constants, profile_id, compute.profile_id)
                    .filter(|_| !failure.is(ReturnCode::ERROR_GPU_IS_LOST))
                    .ok_or_else(|| named(failure))?,
            };
            let profile =
                MigProfile::new(compute.slices, profile).map_err(|error| Error::Answer {
                    call: "nvmlComputeInstanceGetInfo_v2",
                    gpu: Some(self.label(uuid).gpu_instance(gi).compute_instance(ci)),
                    reason: error.to_string(),
                })?;
            compute.device = Some(mig_device(index, mig_uuid, profile, facts));
            expected = expected.saturating_sub(1);
            if found.complete && expected == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Adds the instances of a MIG device that the driver would not list: from the instance itself where it may be asked,
    /// else from what the device has.
    fn add_unlisted(
        &self,
        device: Device,
        handle: Device,
        (gi, ci): (u32, u32),
        constants: &Constants,
        found: &mut Found,
    ) -> Answer<()> {
        let Some(facts) = unless_gone(self.calls.attributes(handle).map(DeviceFacts::from))? else {
            return Ok(());
        };
        if !found.instances.iter().any(|instance| instance.id == gi) {
            let asked = self
                .calls
                .gpu_instance_by_id(device, gi)
                .and_then(|parent| self.calls.gpu_instance_info(parent));
            let told = asked.ok().map(|info| {
                (
                    info.profileId,
                    board::placement(info.placement.start, info.placement.size),
                )
            });
            let entry = match told {
                Some((id, _)) => constants.profiles.iter().find(|entry| entry.info.id == id),
                None => constants.profiles.iter().find(|entry| {
                    entry.info.slices == facts.gpu_instance_slices
                        && entry.info.memory_mib == facts.memory_mib
                }),
            };
            let Some(entry) = entry else { return Ok(()) };
            let placement = told
                .map(|(_, placement)| placement)
                .or_else(|| entry.placements.first().copied());
            found.instances.push(GpuInstance {
                id: gi,
                profile: entry.profile,
                profile_id: entry.info.id,
                placement: placement.unwrap_or_else(|| Placement::from_driver(0, 0)),
                capability_minor: None,
                compute_instances: Vec::new(),
            });
        }
        let slices = narrow(facts.compute_instance_slices);
        if let Some(instance) = found
            .instances
            .iter_mut()
            .find(|instance| instance.id == gi)
        {
            let known = mig::compute_instance_profiles(instance.profile.slices());
            instance.compute_instances.push(ComputeInstance {
                id: ci,
                profile_id: known
                    .iter()
                    .find(|profile| profile.slices == slices)
                    .map_or(0, |profile| profile.id),
                slices,
                placement: Placement::from_driver(0, slices),
                capability_minor: None,
                device: None,
            });
        }
        Ok(())
    }

    /// What a MIG device of these profiles has, as far as it is known already.
    fn facts_of_profiles(
        &self,
        uuid: &GpuUuid,
        constants: &Constants,
        profile_id: u32,
        compute_profile_id: u32,
    ) -> Option<DeviceFacts> {
        let entry = constants
            .profiles
            .iter()
            .find(|entry| entry.info.id == profile_id)?;
        let memory = self.memory();
        let compute = memory
            .compute_profiles
            .get(&(uuid.clone(), profile_id))?
            .iter()
            .find(|compute| compute.id == compute_profile_id)?;
        Some(DeviceFacts {
            multiprocessors: compute.multiprocessors,
            copy_engines: compute.copy_engines,
            decoders: compute.decoders,
            encoders: compute.encoders,
            jpeg: compute.jpeg,
            ofa: compute.ofa,
            gpu_instance_slices: entry.info.slices,
            compute_instance_slices: u32::from(compute.slices),
            memory_mib: entry.info.memory_mib,
        })
    }

    fn facts(&self, handle: Device, key: (MigUuid, u32, u32)) -> Answer<DeviceFacts> {
        if let Some(facts) = self.memory().attributes.get(&key) {
            return Ok(*facts);
        }
        let facts = DeviceFacts::from(self.calls.attributes(handle)?);
        self.memory().attributes.insert(key, facts);
        Ok(facts)
    }
}

/// Whether an instance of this profile could lie beside those already found.
fn has_room(entry: &ProfileEntry, found: &[GpuInstance], compute_slices: u8) -> bool {
    let used: u32 = found
        .iter()
        .map(|instance| u32::from(instance.profile.slices()))
        .sum();
    used + u32::from(entry.profile.slices()) <= u32::from(compute_slices)
        && entry.placements.iter().any(|placement| {
            !found
                .iter()
                .any(|instance| instance.placement.overlaps(*placement))
        })
}

/// `None` for what is not there (any more).
fn unless_gone<T>(answer: Answer<T>) -> Answer<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(failure) if failure.is(ReturnCode::ERROR_NOT_FOUND) => Ok(None),
        Err(failure) => Err(failure),
    }
}

impl From<nvml_wrapper_sys::bindings::nvmlDeviceAttributes_t> for DeviceFacts {
    fn from(raw: nvml_wrapper_sys::bindings::nvmlDeviceAttributes_t) -> Self {
        Self {
            multiprocessors: raw.multiprocessorCount,
            copy_engines: raw.sharedCopyEngineCount,
            decoders: raw.sharedDecoderCount,
            encoders: raw.sharedEncoderCount,
            jpeg: raw.sharedJpegCount,
            ofa: raw.sharedOfaCount,
            gpu_instance_slices: raw.gpuInstanceSliceCount,
            compute_instance_slices: raw.computeInstanceSliceCount,
            memory_mib: raw.memorySizeMB,
        }
    }
}

fn mig_device(index: u32, uuid: MigUuid, profile: MigProfile, facts: DeviceFacts) -> MigDevice {
    MigDevice {
        index,
        uuid,
        profile,
        memory_mib: facts.memory_mib,
        multiprocessors: facts.multiprocessors,
        copy_engines: facts.copy_engines,
        decoders: facts.decoders,
        encoders: facts.encoders,
        jpeg: facts.jpeg,
        ofa: facts.ofa,
        gpu_instance_slices: facts.gpu_instance_slices,
        compute_instance_slices: facts.compute_instance_slices,
    }
}

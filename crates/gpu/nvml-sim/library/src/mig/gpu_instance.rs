//! GPU instances: profiles, placements, creation, destruction.

use std::ffi::c_uint;

use nvml_sim::driver::placement::Span;
use nvml_sim::driver::{Device, gpu_instance};
use nvml_sim::state::SimProfile;
use nvml_sim::{Return, State};
use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlGpuInstance_t, nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t,
    nvmlGpuInstanceProfileInfo_t, nvmlGpuInstanceProfileInfo_v2_t, nvmlGpuInstanceProfileInfo_v3_t,
};

use crate::abi::{In, Out, chars, length, version_of};
use crate::handle::{DeviceHandle, GpuInstanceHandle};

/// `NVML_GPU_INSTANCE_PROFILE_CAPS_P2P`.
const CAPABILITY_P2P: u32 = 1;

fn v1(profile: &SimProfile) -> nvmlGpuInstanceProfileInfo_t {
    nvmlGpuInstanceProfileInfo_t {
        id: profile.id,
        isP2pSupported: profile.capabilities & CAPABILITY_P2P,
        sliceCount: profile.slices.into(),
        instanceCount: profile.max_instances.into(),
        multiprocessorCount: profile.multiprocessors,
        copyEngineCount: profile.copy_engines,
        decoderCount: profile.decoders,
        encoderCount: profile.encoders,
        jpegCount: profile.jpeg_engines,
        ofaCount: profile.ofa_engines,
        memorySizeMB: profile.memory_mib,
    }
}

/// Writes version 2 or 3 of a profile, with its version word zero as driver 580 leaves it.
fn set_versioned(
    out: Out<nvmlGpuInstanceProfileInfo_v2_t>,
    version: c_uint,
    profile: &SimProfile,
) -> Result<(), Return> {
    let old = v1(profile);
    if version == version_of::<nvmlGpuInstanceProfileInfo_v2_t>(2) {
        out.set(nvmlGpuInstanceProfileInfo_v2_t {
            version: 0,
            id: old.id,
            isP2pSupported: old.isP2pSupported,
            sliceCount: old.sliceCount,
            instanceCount: old.instanceCount,
            multiprocessorCount: old.multiprocessorCount,
            copyEngineCount: old.copyEngineCount,
            decoderCount: old.decoderCount,
            encoderCount: old.encoderCount,
            jpegCount: old.jpegCount,
            ofaCount: old.ofaCount,
            memorySizeMB: old.memorySizeMB,
            name: chars(&format!("MIG {}", profile.name)),
        })
    } else {
        out.cast().set(nvmlGpuInstanceProfileInfo_v3_t {
            version: 0,
            id: old.id,
            sliceCount: old.sliceCount,
            instanceCount: old.instanceCount,
            multiprocessorCount: old.multiprocessorCount,
            copyEngineCount: old.copyEngineCount,
            decoderCount: old.decoderCount,
            encoderCount: old.encoderCount,
            jpegCount: old.jpegCount,
            ofaCount: old.ofaCount,
            memorySizeMB: old.memorySizeMB,
            // Driver 580.159.04 leaves the name of version 3 empty: it puts a wrong one eight bytes
            // too late. Whoever needs a name must ask for version 2, there and here.
            name: [0; 96],
            capabilities: profile.capabilities,
        })
    }
}

/// The profile queries refuse an unknown version with `INVALID_ARGUMENT`, not
/// `ARGUMENT_VERSION_MISMATCH`, as the real driver.
fn profile_version(out: Out<nvmlGpuInstanceProfileInfo_v2_t>) -> Result<c_uint, Return> {
    let version = out.version()?;
    let known = [
        version_of::<nvmlGpuInstanceProfileInfo_v2_t>(2),
        version_of::<nvmlGpuInstanceProfileInfo_v3_t>(3),
    ];
    if known.contains(&version) {
        Ok(version)
    } else {
        Err(Return::INVALID_ARGUMENT)
    }
}

fn c_placement(span: Span) -> nvmlGpuInstancePlacement_t {
    nvmlGpuInstancePlacement_t {
        start: span.start.into(),
        size: span.size.into(),
    }
}

/// A placement as the driver knows it. What is beyond its range is not legal on any board.
pub(super) fn span(start: c_uint, size: c_uint) -> Result<Span, Return> {
    let byte = |value| u8::try_from(value).map_err(|_| Return::INVALID_ARGUMENT);
    Ok(Span {
        start: byte(start)?,
        size: byte(size)?,
    })
}

fn placements(
    state: &State,
    device: Device,
    profile_id: c_uint,
) -> Result<Vec<nvmlGpuInstancePlacement_t>, Return> {
    let found = gpu_instance::possible_placements(state, device, profile_id)?;
    Ok(found.into_iter().map(c_placement).collect())
}

nvml! {
    fn nvmlDeviceGetGpuInstanceProfileInfo(
        handle: DeviceHandle,
        profile: c_uint,
        info: Out<nvmlGpuInstanceProfileInfo_t>,
    ) read |state, _| {
        info.set(v1(gpu_instance::profile_by_enum(state, handle.get()?, profile)?))
    }

    fn nvmlDeviceGetGpuInstanceProfileInfoV(
        handle: DeviceHandle,
        profile: c_uint,
        info: Out<nvmlGpuInstanceProfileInfo_v2_t>,
    ) read |state, _| {
        let device = handle.get()?;
        let version = profile_version(info)?;
        set_versioned(info, version, gpu_instance::profile_by_enum(state, device, profile)?)
    }

    fn nvmlDeviceGetGpuInstanceProfileInfoByIdV(
        handle: DeviceHandle,
        profile_id: c_uint,
        info: Out<nvmlGpuInstanceProfileInfo_v2_t>,
    ) read |state, _| {
        let device = handle.get()?;
        let version = profile_version(info)?;
        set_versioned(info, version, gpu_instance::profile_by_id(state, device, profile_id)?)
    }

    /// With a null array only their number; else the array is large enough for all of them.
    fn nvmlDeviceGetGpuInstancePossiblePlacements_v2(
        handle: DeviceHandle,
        profile_id: c_uint,
        out: Out<nvmlGpuInstancePlacement_t>,
        count: Out<c_uint>,
    ) read |state, _| {
        let found = placements(state, handle.get()?, profile_id)?;
        count.set(length(found.len()))?;
        if out.check().is_ok() { out.set_all(&found) } else { Ok(()) }
    }

    /// The first version needs the array, and knows no profile with media extensions, as the real
    /// driver.
    fn nvmlDeviceGetGpuInstancePossiblePlacements(
        handle: DeviceHandle,
        profile_id: c_uint,
        out: Out<nvmlGpuInstancePlacement_t>,
        count: Out<c_uint>,
    ) read |state, _| {
        let device = handle.get()?;
        let found = placements(state, device, profile_id)?;
        if gpu_instance::profile_by_id(state, device, profile_id)?.name.ends_with("+me") {
            return Err(Return::NOT_SUPPORTED);
        }
        out.check()?;
        count.set(length(found.len()))?;
        out.set_all(&found)
    }

    fn nvmlDeviceGetGpuInstanceRemainingCapacity(
        handle: DeviceHandle,
        profile_id: c_uint,
        count: Out<c_uint>,
    ) read |state, _| {
        count.set(gpu_instance::remaining_capacity(state, handle.get()?, profile_id)?)
    }

    fn nvmlDeviceCreateGpuInstance(
        handle: DeviceHandle,
        profile_id: c_uint,
        out: Out<nvmlGpuInstance_t>,
    ) write |state, _| {
        let device = handle.get()?;
        out.check()?;
        out.set(GpuInstanceHandle::raw(gpu_instance::create(state, device, profile_id, None)?))
    }

    fn nvmlDeviceCreateGpuInstanceWithPlacement(
        handle: DeviceHandle,
        profile_id: c_uint,
        placement: In<nvmlGpuInstancePlacement_t>,
        out: Out<nvmlGpuInstance_t>,
    ) write |state, _| {
        let device = handle.get()?;
        let placement = placement.get()?;
        out.check()?;
        let at = span(placement.start, placement.size);
        // A GPU without MIG mode answers so whatever the placement is.
        let at = at.unwrap_or(Span { start: u8::MAX, size: u8::MAX });
        out.set(GpuInstanceHandle::raw(gpu_instance::create(state, device, profile_id, Some(at))?))
    }

    fn nvmlGpuInstanceDestroy(handle: GpuInstanceHandle) write |state, _| {
        gpu_instance::destroy(state, handle.get()?)
    }

    /// The array is large enough for as many as the profile allows.
    fn nvmlDeviceGetGpuInstances(
        handle: DeviceHandle,
        profile_id: c_uint,
        out: Out<nvmlGpuInstance_t>,
        count: Out<c_uint>,
    ) read |state, view| {
        let found = gpu_instance::list(state, handle.get()?, profile_id)?;
        out.check()?;
        let seen: Vec<_> = found
            .into_iter()
            .filter(|instance| gpu_instance::visible(view, *instance))
            .map(GpuInstanceHandle::raw)
            .collect();
        count.set(length(seen.len()))?;
        out.set_all(&seen)
    }

    /// Writes null where there is none, as the real driver.
    fn nvmlDeviceGetGpuInstanceById(
        handle: DeviceHandle,
        id: c_uint,
        out: Out<nvmlGpuInstance_t>,
    ) read |state, view| {
        let device = handle.get()?;
        out.set(std::ptr::null_mut())?;
        let found = gpu_instance::by_id(state, device, id)?;
        if !gpu_instance::visible(view, found) {
            return Err(Return::NOT_FOUND);
        }
        out.set(GpuInstanceHandle::raw(found))
    }

    fn nvmlGpuInstanceGetInfo(
        handle: GpuInstanceHandle,
        out: Out<nvmlGpuInstanceInfo_t>,
    ) read |state, _| {
        let found = gpu_instance::info(state, handle.get()?)?;
        let device: nvmlDevice_t = DeviceHandle::raw(Device::Gpu(found.gpu));
        out.set(nvmlGpuInstanceInfo_t {
            device,
            id: found.id,
            profileId: found.profile_id,
            placement: c_placement(found.placement),
        })
    }
}

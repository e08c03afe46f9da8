//! Compute instances: profiles, placements, creation, destruction.

use std::ffi::c_uint;

use nvml_sim::Return;
use nvml_sim::capability::View;
use nvml_sim::driver::compute_instance::{self, ComputeProfile, Info};
use nvml_sim::driver::placement::Span;
use nvml_sim::driver::{ComputeInstanceRef, Device};
use nvml_wrapper_sys::bindings::{
    nvmlComputeInstance_t, nvmlComputeInstanceInfo_t, nvmlComputeInstancePlacement_t,
    nvmlComputeInstanceProfileInfo_t, nvmlComputeInstanceProfileInfo_v2_t,
    nvmlComputeInstanceProfileInfo_v3_t,
};

use crate::abi::legacy::ComputeInstanceInfoV1;
use crate::abi::{In, Out, chars, length, version_of};
use crate::handle::{ComputeInstanceHandle, DeviceHandle, GpuInstanceHandle};

fn v1(profile: &ComputeProfile) -> nvmlComputeInstanceProfileInfo_t {
    nvmlComputeInstanceProfileInfo_t {
        id: profile.id,
        sliceCount: profile.slices.into(),
        instanceCount: profile.max_instances.into(),
        multiprocessorCount: profile.multiprocessors,
        sharedCopyEngineCount: profile.shared_copy_engines,
        sharedDecoderCount: profile.shared_decoders,
        sharedEncoderCount: profile.shared_encoders,
        sharedJpegCount: profile.shared_jpeg_engines,
        sharedOfaCount: profile.shared_ofa_engines,
    }
}

fn v2(profile: &ComputeProfile, version: c_uint) -> nvmlComputeInstanceProfileInfo_v2_t {
    let old = v1(profile);
    nvmlComputeInstanceProfileInfo_v2_t {
        version,
        id: old.id,
        sliceCount: old.sliceCount,
        instanceCount: old.instanceCount,
        multiprocessorCount: old.multiprocessorCount,
        sharedCopyEngineCount: old.sharedCopyEngineCount,
        sharedDecoderCount: old.sharedDecoderCount,
        sharedEncoderCount: old.sharedEncoderCount,
        sharedJpegCount: old.sharedJpegCount,
        sharedOfaCount: old.sharedOfaCount,
        name: chars(&format!("MIG {}", profile.name)),
    }
}

fn v3(profile: &ComputeProfile, version: c_uint) -> nvmlComputeInstanceProfileInfo_v3_t {
    let old = v2(profile, version);
    nvmlComputeInstanceProfileInfo_v3_t {
        version,
        id: old.id,
        sliceCount: old.sliceCount,
        instanceCount: old.instanceCount,
        multiprocessorCount: old.multiprocessorCount,
        sharedCopyEngineCount: old.sharedCopyEngineCount,
        sharedDecoderCount: old.sharedDecoderCount,
        sharedEncoderCount: old.sharedEncoderCount,
        sharedJpegCount: old.sharedJpegCount,
        sharedOfaCount: old.sharedOfaCount,
        name: old.name,
        capabilities: 0,
    }
}

fn c_placement(span: Span) -> nvmlComputeInstancePlacement_t {
    nvmlComputeInstancePlacement_t {
        start: span.start.into(),
        size: span.size.into(),
    }
}

fn info_v1(found: &Info) -> ComputeInstanceInfoV1 {
    ComputeInstanceInfoV1 {
        device: DeviceHandle::raw(Device::Gpu(found.gpu_instance.gpu)),
        gpu_instance: GpuInstanceHandle::raw(found.gpu_instance),
        id: found.id,
        profile_id: found.profile_id,
    }
}

/// Whether this process may name the compute instance: it can open its capability, or configure.
fn visible(view: &View, instance: ComputeInstanceRef) -> bool {
    let ComputeInstanceRef { gpu_instance, id } = instance;
    view.config() || view.mig_device(gpu_instance.gpu, gpu_instance.id, id)
}

nvml! {
    fn nvmlGpuInstanceGetComputeInstanceProfileInfo(
        handle: GpuInstanceHandle,
        profile: c_uint,
        engine: c_uint,
        info: Out<nvmlComputeInstanceProfileInfo_t>,
    ) read |state, _| {
        info.set(v1(&compute_instance::profile_by_enum(state, handle.get()?, profile, engine)?))
    }

    /// An unknown version is an `INVALID_ARGUMENT`, as for GPU instances.
    fn nvmlGpuInstanceGetComputeInstanceProfileInfoV(
        handle: GpuInstanceHandle,
        profile: c_uint,
        engine: c_uint,
        info: Out<nvmlComputeInstanceProfileInfo_v2_t>,
    ) read |state, _| {
        let instance = handle.get()?;
        let version = info.version()?;
        let found = || compute_instance::profile_by_enum(state, instance, profile, engine);
        if version == version_of::<nvmlComputeInstanceProfileInfo_v2_t>(2) {
            info.set(v2(&found()?, version))
        } else if version == version_of::<nvmlComputeInstanceProfileInfo_v3_t>(3) {
            info.cast().set(v3(&found()?, version))
        } else {
            Err(Return::INVALID_ARGUMENT)
        }
    }

    fn nvmlGpuInstanceGetComputeInstanceRemainingCapacity(
        handle: GpuInstanceHandle,
        profile_id: c_uint,
        count: Out<c_uint>,
    ) read |state, _| {
        count.set(compute_instance::remaining_capacity(state, handle.get()?, profile_id)?)
    }

    /// With a null array only their number; else the array is large enough for all of them.
    fn nvmlGpuInstanceGetComputeInstancePossiblePlacements(
        handle: GpuInstanceHandle,
        profile_id: c_uint,
        out: Out<nvmlComputeInstancePlacement_t>,
        count: Out<c_uint>,
    ) read |state, _| {
        let found = compute_instance::possible_placements(state, handle.get()?, profile_id)?;
        let found: Vec<_> = found.into_iter().map(c_placement).collect();
        count.set(length(found.len()))?;
        if out.check().is_ok() { out.set_all(&found) } else { Ok(()) }
    }

    fn nvmlGpuInstanceCreateComputeInstance(
        handle: GpuInstanceHandle,
        profile_id: c_uint,
        out: Out<nvmlComputeInstance_t>,
    ) write |state, _| {
        let instance = handle.get()?;
        out.check()?;
        let created = compute_instance::create(state, instance, profile_id, None)?;
        out.set(ComputeInstanceHandle::raw(created))
    }

    fn nvmlGpuInstanceCreateComputeInstanceWithPlacement(
        handle: GpuInstanceHandle,
        profile_id: c_uint,
        placement: In<nvmlComputeInstancePlacement_t>,
        out: Out<nvmlComputeInstance_t>,
    ) write |state, _| {
        let instance = handle.get()?;
        let placement = placement.get()?;
        out.check()?;
        let at = super::gpu_instance::span(placement.start, placement.size)?;
        let created = compute_instance::create(state, instance, profile_id, Some(at))?;
        out.set(ComputeInstanceHandle::raw(created))
    }

    fn nvmlComputeInstanceDestroy(handle: ComputeInstanceHandle) write |state, _| {
        compute_instance::destroy(state, handle.get()?)
    }

    /// The array is large enough for as many as the profile allows.
    fn nvmlGpuInstanceGetComputeInstances(
        handle: GpuInstanceHandle,
        profile_id: c_uint,
        out: Out<nvmlComputeInstance_t>,
        count: Out<c_uint>,
    ) read |state, view| {
        let found = compute_instance::list(state, handle.get()?, profile_id)?;
        out.check()?;
        let seen: Vec<_> = found
            .into_iter()
            .filter(|instance| visible(view, *instance))
            .map(ComputeInstanceHandle::raw)
            .collect();
        count.set(length(seen.len()))?;
        out.set_all(&seen)
    }

    fn nvmlGpuInstanceGetComputeInstanceById(
        handle: GpuInstanceHandle,
        id: c_uint,
        out: Out<nvmlComputeInstance_t>,
    ) read |state, view| {
        let instance = handle.get()?;
        out.set(std::ptr::null_mut())?;
        let found = compute_instance::by_id(state, instance, id)?;
        if !visible(view, found) {
            return Err(Return::NOT_FOUND);
        }
        out.set(ComputeInstanceHandle::raw(found))
    }

    fn nvmlComputeInstanceGetInfo_v2(
        handle: ComputeInstanceHandle,
        out: Out<nvmlComputeInstanceInfo_t>,
    ) read |state, _| {
        let found = compute_instance::info(state, handle.get()?)?;
        let old = info_v1(&found);
        out.set(nvmlComputeInstanceInfo_t {
            device: old.device,
            gpuInstance: old.gpu_instance,
            id: old.id,
            profileId: old.profile_id,
            placement: c_placement(found.placement),
        })
    }

    fn nvmlComputeInstanceGetInfo(
        handle: ComputeInstanceHandle,
        out: Out<ComputeInstanceInfoV1>,
    ) read |state, _| {
        out.set(info_v1(&compute_instance::info(state, handle.get()?)?))
    }
}

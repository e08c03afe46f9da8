//! Calls about GPU instances and compute instances.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings as sys;

use super::{
    Answer, Calls, ComputeInstanceHandle, Device, Failure, GpuInstanceHandle, ROOM, check, fill,
    zeroed,
};

/// GPU instances.
impl Calls {
    /// The instances of one profile, of which at most `room` can exist.
    pub(crate) fn gpu_instances(
        &self,
        device: Device,
        profile_id: u32,
        room: usize,
    ) -> Answer<Vec<GpuInstanceHandle>> {
        let name = "nvmlDeviceGetGpuInstances";
        let function = symbol!(self, nvmlDeviceGetGpuInstances)?;
        let list = fill(
            name,
            std::ptr::null_mut(),
            room.max(ROOM),
            |count, handles| {
                // SAFETY: the handle came from this library; `handles` has room for the `*count` entries
                // that `count` says, which the caller took from the profile's own instance count.
                unsafe { function(device.0, profile_id, handles, count) }
            },
        )?;
        Ok(list.into_iter().map(GpuInstanceHandle).collect())
    }

    pub(crate) fn gpu_instance_by_id(&self, device: Device, id: u32) -> Answer<GpuInstanceHandle> {
        let function = symbol!(self, nvmlDeviceGetGpuInstanceById)?;
        let mut handle: sys::nvmlGpuInstance_t = std::ptr::null_mut();
        // SAFETY: the handle came from this library; `handle` is a live out-parameter.
        let code = unsafe { function(device.0, id, &raw mut handle) };
        check("nvmlDeviceGetGpuInstanceById", code)?;
        Ok(GpuInstanceHandle(handle))
    }

    pub(crate) fn gpu_instance_info(
        &self,
        instance: GpuInstanceHandle,
    ) -> Answer<sys::nvmlGpuInstanceInfo_t> {
        let function = symbol!(self, nvmlGpuInstanceGetInfo)?;
        // SAFETY: all zero is a valid value of this struct of numbers and pointers.
        let mut info: sys::nvmlGpuInstanceInfo_t = unsafe { zeroed() };
        // SAFETY: the handle came from this library; `info` is a live out-parameter.
        check("nvmlGpuInstanceGetInfo", unsafe {
            function(instance.0, &raw mut info)
        })?;
        Ok(info)
    }

    pub(crate) fn create_gpu_instance(
        &self,
        device: Device,
        profile_id: u32,
        placement: Option<(u32, u32)>,
    ) -> Answer<GpuInstanceHandle> {
        let mut handle: sys::nvmlGpuInstance_t = std::ptr::null_mut();
        if let Some((start, size)) = placement {
            let function = symbol!(self, nvmlDeviceCreateGpuInstanceWithPlacement)?;
            let placement = sys::nvmlGpuInstancePlacement_t { start, size };
            // SAFETY: the handle came from this library; `placement` and `handle` are live.
            let code =
                unsafe { function(device.0, profile_id, &raw const placement, &raw mut handle) };
            check("nvmlDeviceCreateGpuInstanceWithPlacement", code)?;
        } else {
            let function = symbol!(self, nvmlDeviceCreateGpuInstance)?;
            // SAFETY: the handle came from this library; `handle` is a live out-parameter.
            let code = unsafe { function(device.0, profile_id, &raw mut handle) };
            check("nvmlDeviceCreateGpuInstance", code)?;
        }
        Ok(GpuInstanceHandle(handle))
    }

    pub(crate) fn destroy_gpu_instance(&self, instance: GpuInstanceHandle) -> Answer<()> {
        let function = symbol!(self, nvmlGpuInstanceDestroy)?;
        // SAFETY: the handle came from this library, which answers an error for one that is gone.
        check("nvmlGpuInstanceDestroy", unsafe { function(instance.0) })
    }
}

/// Compute instances.
impl Calls {
    /// Profile `profile` is an `NVML_COMPUTE_INSTANCE_PROFILE_*` number; engines are shared, the only kind there is.
    pub(crate) fn compute_instance_profile_info(
        &self,
        instance: GpuInstanceHandle,
        profile: u32,
    ) -> Answer<sys::nvmlComputeInstanceProfileInfo_t> {
        let function = symbol!(self, nvmlGpuInstanceGetComputeInstanceProfileInfo)?;
        // SAFETY: all zero is a valid value of this struct of numbers.
        let mut info: sys::nvmlComputeInstanceProfileInfo_t = unsafe { zeroed() };
        let shared = sys::NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED;
        // SAFETY: the handle came from this library; `info` is a live out-parameter.
        let code = unsafe { function(instance.0, profile, shared, &raw mut info) };
        check("nvmlGpuInstanceGetComputeInstanceProfileInfo", code)?;
        Ok(info)
    }

    pub(crate) fn compute_instance_remaining_capacity(
        &self,
        instance: GpuInstanceHandle,
        profile_id: u32,
    ) -> Answer<u32> {
        let function = symbol!(self, nvmlGpuInstanceGetComputeInstanceRemainingCapacity)?;
        let mut count: c_uint = 0;
        // SAFETY: the handle came from this library; `count` is a live out-parameter.
        let code = unsafe { function(instance.0, profile_id, &raw mut count) };
        check("nvmlGpuInstanceGetComputeInstanceRemainingCapacity", code)?;
        Ok(count)
    }

    /// Where a compute instance of this profile may lie, as (start, size).
    pub(crate) fn compute_instance_placements(
        &self,
        instance: GpuInstanceHandle,
        profile_id: u32,
    ) -> Answer<Vec<(u32, u32)>> {
        let name = "nvmlGpuInstanceGetComputeInstancePossiblePlacements";
        let function = symbol!(self, nvmlGpuInstanceGetComputeInstancePossiblePlacements)?;
        let zero = sys::nvmlComputeInstancePlacement_t { start: 0, size: 0 };
        let list = fill(name, zero, ROOM, |count, infos| {
            // SAFETY: the handle came from this library; `infos` has room for the `*count` entries that
            // `count` says.
            unsafe { function(instance.0, profile_id, infos, count) }
        })?;
        Ok(list
            .into_iter()
            .map(|placement| (placement.start, placement.size))
            .collect())
    }

    /// The compute instances of one profile, of which at most `room` can exist.
    pub(crate) fn compute_instances(
        &self,
        instance: GpuInstanceHandle,
        profile_id: u32,
        room: usize,
    ) -> Answer<Vec<ComputeInstanceHandle>> {
        let name = "nvmlGpuInstanceGetComputeInstances";
        let function = symbol!(self, nvmlGpuInstanceGetComputeInstances)?;
        let list = fill(
            name,
            std::ptr::null_mut(),
            room.max(ROOM),
            |count, handles| {
                // SAFETY: the handle came from this library; `handles` has room for the `*count` entries
                // that `count` says, which the caller took from the profile's own instance count.
                unsafe { function(instance.0, profile_id, handles, count) }
            },
        )?;
        Ok(list.into_iter().map(ComputeInstanceHandle).collect())
    }

    pub(crate) fn compute_instance_by_id(
        &self,
        instance: GpuInstanceHandle,
        id: u32,
    ) -> Answer<ComputeInstanceHandle> {
        let function = symbol!(self, nvmlGpuInstanceGetComputeInstanceById)?;
        let mut handle: sys::nvmlComputeInstance_t = std::ptr::null_mut();
        // SAFETY: the handle came from this library; `handle` is a live out-parameter.
        let code = unsafe { function(instance.0, id, &raw mut handle) };
        check("nvmlGpuInstanceGetComputeInstanceById", code)?;
        Ok(ComputeInstanceHandle(handle))
    }

    pub(crate) fn compute_instance_info(
        &self,
        instance: ComputeInstanceHandle,
    ) -> Answer<sys::nvmlComputeInstanceInfo_t> {
        let (name, function) = match symbol!(self, nvmlComputeInstanceGetInfo_v2) {
            Ok(function) => ("nvmlComputeInstanceGetInfo_v2", function),
            Err(missing) => (
                "nvmlComputeInstanceGetInfo",
                symbol!(self, nvmlComputeInstanceGetInfo).map_err(|_| missing)?,
            ),
        };
        // SAFETY: all zero is a valid value of this struct of numbers and pointers.
        let mut info: sys::nvmlComputeInstanceInfo_t = unsafe { zeroed() };
        // SAFETY: the handle came from this library; `info` is a live out-parameter, and larger than
        // what version 1 fills (it knew no placement).
        check(name, unsafe { function(instance.0, &raw mut info) })?;
        Ok(info)
    }

    pub(crate) fn create_compute_instance(
        &self,
        instance: GpuInstanceHandle,
        profile_id: u32,
        placement: Option<(u32, u32)>,
    ) -> Answer<ComputeInstanceHandle> {
        let mut handle: sys::nvmlComputeInstance_t = std::ptr::null_mut();
        if let Some((start, size)) = placement {
            let function = symbol!(self, nvmlGpuInstanceCreateComputeInstanceWithPlacement)?;
            let placement = sys::nvmlComputeInstancePlacement_t { start, size };
            // SAFETY: the handle came from this library; `placement` and `handle` are live.
            let code = unsafe {
                function(
                    instance.0,
                    profile_id,
                    &raw const placement,
                    &raw mut handle,
                )
            };
            check("nvmlGpuInstanceCreateComputeInstanceWithPlacement", code)?;
        } else {
            let function = symbol!(self, nvmlGpuInstanceCreateComputeInstance)?;
            // SAFETY: the handle came from this library; `handle` is a live out-parameter.
            let code = unsafe { function(instance.0, profile_id, &raw mut handle) };
            check("nvmlGpuInstanceCreateComputeInstance", code)?;
        }
        Ok(ComputeInstanceHandle(handle))
    }

    pub(crate) fn destroy_compute_instance(&self, instance: ComputeInstanceHandle) -> Answer<()> {
        let function = symbol!(self, nvmlComputeInstanceDestroy)?;
        // SAFETY: the handle came from this library, which answers an error for one that is gone.
        check("nvmlComputeInstanceDestroy", unsafe {
            function(instance.0)
        })
    }
}

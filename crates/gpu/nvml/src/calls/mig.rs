//! Calls about MIG on a GPU: its mode, its profiles, its MIG devices.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings as sys;

use super::{
    Answer, Calls, Device, Failure, ProfileInfo, ROOM, check, fill, string, version_word, zeroed,
};
use crate::ReturnCode;

impl Calls {
    /// Current and pending mode.
    pub(crate) fn mig_mode(&self, device: Device) -> Answer<(bool, bool)> {
        let function = symbol!(self, nvmlDeviceGetMigMode)?;
        let (mut current, mut pending): (c_uint, c_uint) = (0, 0);
        // SAFETY: the handle came from this library; both are live out-parameters.
        let code = unsafe { function(device.0, &raw mut current, &raw mut pending) };
        check("nvmlDeviceGetMigMode", code)?;
        Ok((current != 0, pending != 0))
    }

    /// Answers the activation status, which is not `SUCCESS` while the mode waits for a reset.
    pub(crate) fn set_mig_mode(&self, device: Device, enable: bool) -> Answer<ReturnCode> {
        let function = symbol!(self, nvmlDeviceSetMigMode)?;
        let mut status: sys::nvmlReturn_t = 0;
        // SAFETY: the handle came from this library; `status` is a live out-parameter.
        let code = unsafe { function(device.0, c_uint::from(enable), &raw mut status) };
        check("nvmlDeviceSetMigMode", code)?;
        Ok(ReturnCode(status))
    }

    pub(crate) fn mig_device_by_index(&self, device: Device, index: u32) -> Answer<Device> {
        let function = symbol!(self, nvmlDeviceGetMigDeviceHandleByIndex)?;
        let mut mig: sys::nvmlDevice_t = std::ptr::null_mut();
        // SAFETY: the handle came from this library; `mig` is a live out-parameter.
        let code = unsafe { function(device.0, index, &raw mut mig) };
        check("nvmlDeviceGetMigDeviceHandleByIndex", code)?;
        Ok(Device(mig))
    }

    pub(crate) fn attributes(&self, device: Device) -> Answer<sys::nvmlDeviceAttributes_t> {
        let (name, function) = match symbol!(self, nvmlDeviceGetAttributes_v2) {
            Ok(function) => ("nvmlDeviceGetAttributes_v2", function),
            Err(missing) => (
                "nvmlDeviceGetAttributes",
                symbol!(self, nvmlDeviceGetAttributes).map_err(|_| missing)?,
            ),
        };
        // SAFETY: all zero is a valid value of this struct of numbers.
        let mut value: sys::nvmlDeviceAttributes_t = unsafe { zeroed() };
        // SAFETY: the handle came from this library; `value` is a live out-parameter.
        check(name, unsafe { function(device.0, &raw mut value) })?;
        Ok(value)
    }

    /// Profile `profile` is an `NVML_GPU_INSTANCE_PROFILE_*` number.
    pub(crate) fn gpu_instance_profile_info(
        &self,
        device: Device,
        profile: u32,
    ) -> Answer<ProfileInfo> {
        if let Ok(function) = symbol!(self, nvmlDeviceGetGpuInstanceProfileInfoV) {
            // SAFETY: all zero is a valid value of this struct of numbers and characters.
            let mut info: sys::nvmlGpuInstanceProfileInfo_v2_t = unsafe { zeroed() };
            info.version = version_word::<sys::nvmlGpuInstanceProfileInfo_v2_t>(2);
            // SAFETY: the handle came from this library, `info` is live and says its own version and size.
            let code = unsafe { function(device.0, profile, &raw mut info) };
            check("nvmlDeviceGetGpuInstanceProfileInfoV", code)?;
            return Ok(ProfileInfo {
                id: info.id,
                p2p: info.isP2pSupported != 0,
                slices: info.sliceCount,
                instances: info.instanceCount,
                multiprocessors: info.multiprocessorCount,
                copy_engines: info.copyEngineCount,
                decoders: info.decoderCount,
                encoders: info.encoderCount,
                jpeg: info.jpegCount,
                ofa: info.ofaCount,
                memory_mib: info.memorySizeMB,
                name: string(&info.name),
            });
        }
        let function = symbol!(self, nvmlDeviceGetGpuInstanceProfileInfo)?;
        // SAFETY: all zero is a valid value of this struct of numbers.
        let mut info: sys::nvmlGpuInstanceProfileInfo_t = unsafe { zeroed() };
        // SAFETY: the handle came from this library and `info` is a live out-parameter.
        let code = unsafe { function(device.0, profile, &raw mut info) };
        check("nvmlDeviceGetGpuInstanceProfileInfo", code)?;
        Ok(ProfileInfo {
            id: info.id,
            p2p: info.isP2pSupported != 0,
            slices: info.sliceCount,
            instances: info.instanceCount,
            multiprocessors: info.multiprocessorCount,
            copy_engines: info.copyEngineCount,
            decoders: info.decoderCount,
            encoders: info.encoderCount,
            jpeg: info.jpegCount,
            ofa: info.ofaCount,
            memory_mib: info.memorySizeMB,
            name: String::new(),
        })
    }

    /// Where an instance of this profile may lie, as (start, size).
    pub(crate) fn possible_placements(
        &self,
        device: Device,
        profile_id: u32,
    ) -> Answer<Vec<(u32, u32)>> {
        let (name, function) = match symbol!(self, nvmlDeviceGetGpuInstancePossiblePlacements_v2) {
            Ok(function) => ("nvmlDeviceGetGpuInstancePossiblePlacements_v2", function),
            Err(missing) => (
                "nvmlDeviceGetGpuInstancePossiblePlacements",
                symbol!(self, nvmlDeviceGetGpuInstancePossiblePlacements).map_err(|_| missing)?,
            ),
        };
        let zero = sys::nvmlGpuInstancePlacement_t { start: 0, size: 0 };
        let list = fill(name, zero, ROOM, |count, infos| {
            // SAFETY: the handle came from this library; `infos` has room for the `*count` entries that
            // `count` says.
            unsafe { function(device.0, profile_id, infos, count) }
        })?;
        Ok(list
            .into_iter()
            .map(|placement| (placement.start, placement.size))
            .collect())
    }

    /// How many more instances of this profile fit now.
    pub(crate) fn remaining_capacity(&self, device: Device, profile_id: u32) -> Answer<u32> {
        let function = symbol!(self, nvmlDeviceGetGpuInstanceRemainingCapacity)?;
        let mut count: c_uint = 0;
        // SAFETY: the handle came from this library; `count` is a live out-parameter.
        let code = unsafe { function(device.0, profile_id, &raw mut count) };
        check("nvmlDeviceGetGpuInstanceRemainingCapacity", code)?;
        Ok(count)
    }
}

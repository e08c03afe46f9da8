//! Calls about the machine: versions, processes, units, and lists of what it does not have.

use std::ffi::{c_int, c_uint};

use nvml_sim::Return;
use nvml_sim::driver::{Device, processes, status};
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlSystemDriverBranchInfo_v1_t};

use crate::abi::{Out, Text, chars, expect_version, length};
use crate::device::topology::cpus;
use crate::handle::DeviceHandle;

nvml! {
    fn nvmlSystemGetDriverVersion(version: Text, length: c_uint) read |state, _| {
        version.set(length, &state.driver_version)
    }

    fn nvmlSystemGetNVMLVersion(version: Text, length: c_uint) read |state, _| {
        version.set(length, &state.nvml_version)
    }

    fn nvmlSystemGetCudaDriverVersion(version: Out<c_int>) read |state, _| {
        version.set(state.cuda_version)
    }

    fn nvmlSystemGetCudaDriverVersion_v2(version: Out<c_int>) read |state, _| {
        version.set(state.cuda_version)
    }

    /// The branch is made up of the major version: the true one is not derived from it.
    fn nvmlSystemGetDriverBranch(
        info: Out<nvmlSystemDriverBranchInfo_v1_t>,
        _length: c_uint,
    ) read |state, _| {
        let version = info.version()?;
        expect_version::<nvmlSystemDriverBranchInfo_v1_t>(version, 1)?;
        let major = state.driver_version.split('.').next().unwrap_or_default();
        let branch = chars(&format!("r{major}_00"));
        info.set(nvmlSystemDriverBranchInfo_v1_t { version, branch })
    }

    /// A name that is too long is cut, as by the real driver.
    fn nvmlSystemGetProcessName(pid: c_uint, name: Text, length: c_uint) read |state, _| {
        name.set_cut(length, &processes::name(state, pid)?)
    }

    fn nvmlSystemGetHicVersion(count: Out<c_uint>, _entries: Out<u8>) read |_, _| {
        count.set(0)
    }

    /// The GPUs whose NUMA node has the CPU. With a null array only their number.
    fn nvmlSystemGetTopologyGpuSet(
        cpu: c_uint,
        count: Out<c_uint>,
        devices: Out<nvmlDevice_t>,
    ) read |state, view| {
        let near: Vec<nvmlDevice_t> = state
            .gpus
            .iter()
            .filter(|gpu| view.gpu(gpu.minor) && cpus(state, gpu.minor).contains(&cpu))
            .map(|gpu| DeviceHandle::raw(Device::Gpu(gpu.minor)))
            .collect();
        if devices.check().is_err() {
            count.set(length(near.len()))
        } else {
            devices.set_counted(count, &near)
        }
    }

    fn nvmlUnitGetCount(count: Out<c_uint>) read |_, _| {
        count.set(0)
    }

    fn nvmlUnitGetHandleByIndex(_index: c_uint, _unit: Out<usize>) read |_, _| {
        Err(Return::INVALID_ARGUMENT)
    }

    fn nvmlGetExcludedDeviceCount(count: Out<c_uint>) read |_, _| {
        count.set(0)
    }

    fn nvmlGetExcludedDeviceInfoByIndex(_index: c_uint, _info: Out<u8>) read |_, _| {
        Err(Return::INVALID_ARGUMENT)
    }

    fn nvmlGetBlacklistDeviceCount(count: Out<c_uint>) read |_, _| {
        count.set(0)
    }

    fn nvmlGetBlacklistDeviceInfoByIndex(_index: c_uint, _info: Out<u8>) read |_, _| {
        Err(Return::INVALID_ARGUMENT)
    }

    /// Both devices must be GPUs; none of these boards carries two.
    fn nvmlDeviceOnSameBoard(
        one: DeviceHandle,
        other: DeviceHandle,
        same: Out<c_int>,
    ) read |state, _| {
        let level = status::topology(state, one.get()?, other.get()?)?;
        same.set(c_int::from(level == status::TopologyLevel::Internal))
    }
}

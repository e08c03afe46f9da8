//! Processes on a device. Here they all compute; graphics and MPS have none.

use std::ffi::c_uint;

use nvml_sim::driver::{device, processes};
use nvml_sim::state::SimProcess;
use nvml_sim::{Return, State};
use nvml_wrapper_sys::bindings::{
    nvmlProcessInfo_v1_t, nvmlProcessInfo_v2_t, nvmlProcessUtilizationSample_t,
};

use crate::abi::Out;
use crate::handle::DeviceHandle;

const MIB: u64 = 1 << 20;
/// What an id is for a process that is not on an instance.
const NO_INSTANCE: c_uint = c_uint::MAX;

fn v1(process: &SimProcess) -> nvmlProcessInfo_v1_t {
    nvmlProcessInfo_v1_t {
        pid: process.pid,
        usedGpuMemory: process.memory_mib * MIB,
    }
}

fn v2(process: &SimProcess) -> nvmlProcessInfo_v2_t {
    nvmlProcessInfo_v2_t {
        pid: process.pid,
        usedGpuMemory: process.memory_mib * MIB,
        gpuInstanceId: process.gpu_instance.unwrap_or(NO_INSTANCE),
        computeInstanceId: process.compute_instance.unwrap_or(NO_INSTANCE),
    }
}

fn none(state: &State, handle: DeviceHandle, count: Out<c_uint>) -> Result<(), Return> {
    device::resolve(state, handle.get()?)?;
    count.set(0)
}

nvml! {
    fn nvmlDeviceGetComputeRunningProcesses_v3(
        handle: DeviceHandle,
        count: Out<c_uint>,
        infos: Out<nvmlProcessInfo_v2_t>,
    ) read |state, _| {
        let found: Vec<_> = processes::on(state, handle.get()?)?.iter().map(v2).collect();
        infos.set_counted(count, &found)
    }

    fn nvmlDeviceGetComputeRunningProcesses_v2(
        handle: DeviceHandle,
        count: Out<c_uint>,
        infos: Out<nvmlProcessInfo_v2_t>,
    ) read |state, _| {
        let found: Vec<_> = processes::on(state, handle.get()?)?.iter().map(v2).collect();
        infos.set_counted(count, &found)
    }

    fn nvmlDeviceGetComputeRunningProcesses(
        handle: DeviceHandle,
        count: Out<c_uint>,
        infos: Out<nvmlProcessInfo_v1_t>,
    ) read |state, _| {
        let found: Vec<_> = processes::on(state, handle.get()?)?.iter().map(v1).collect();
        infos.set_counted(count, &found)
    }

    fn nvmlDeviceGetGraphicsRunningProcesses_v3(
        handle: DeviceHandle,
        count: Out<c_uint>,
        _infos: Out<u8>,
    ) read |state, _| {
        none(state, handle, count)
    }

    fn nvmlDeviceGetGraphicsRunningProcesses_v2(
        handle: DeviceHandle,
        count: Out<c_uint>,
        _infos: Out<u8>,
    ) read |state, _| {
        none(state, handle, count)
    }

    fn nvmlDeviceGetGraphicsRunningProcesses(
        handle: DeviceHandle,
        count: Out<c_uint>,
        _infos: Out<u8>,
    ) read |state, _| {
        none(state, handle, count)
    }

    fn nvmlDeviceGetMPSComputeRunningProcesses_v3(
        handle: DeviceHandle,
        count: Out<c_uint>,
        _infos: Out<u8>,
    ) read |state, _| {
        none(state, handle, count)
    }

    fn nvmlDeviceGetMPSComputeRunningProcesses_v2(
        handle: DeviceHandle,
        count: Out<c_uint>,
        _infos: Out<u8>,
    ) read |state, _| {
        none(state, handle, count)
    }

    fn nvmlDeviceGetMPSComputeRunningProcesses(
        handle: DeviceHandle,
        count: Out<c_uint>,
        _infos: Out<u8>,
    ) read |state, _| {
        none(state, handle, count)
    }

    /// What each process keeps busy now; `NOT_FOUND` when there is none, as on a real board.
    fn nvmlDeviceGetProcessUtilization(
        handle: DeviceHandle,
        samples: Out<nvmlProcessUtilizationSample_t>,
        count: Out<c_uint>,
        _since: u64,
    ) read |state, _| {
        let device = handle.get()?;
        device.physical()?;
        let now = crate::fields::now_us().cast_unsigned();
        let sample = |process: &SimProcess| nvmlProcessUtilizationSample_t {
            pid: process.pid,
            timeStamp: now,
            smUtil: process.utilization,
            memUtil: process.utilization / 2,
            encUtil: 0,
            decUtil: 0,
        };
        let found: Vec<_> = processes::on(state, device)?.iter().map(sample).collect();
        if found.is_empty() {
            return Err(Return::NOT_FOUND);
        }
        samples.set_counted(count, &found)
    }
}

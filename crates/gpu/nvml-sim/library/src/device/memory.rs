//! Device memory and BAR1.

use std::ffi::c_uint;

use nvml_sim::Return;
use nvml_sim::driver::status;
use nvml_wrapper_sys::bindings::{
    nvmlBAR1Memory_t, nvmlConfComputeMemSizeInfo_t, nvmlMemory_t, nvmlMemory_v2_t,
};

use crate::abi::{Out, version_of};
use crate::handle::DeviceHandle;

nvml! {
    /// Counts what the driver reserves as used, as NVML documents.
    fn nvmlDeviceGetMemoryInfo(handle: DeviceHandle, memory: Out<nvmlMemory_t>) read |state, _| {
        let found = status::memory(state, handle.get()?)?;
        memory.set(nvmlMemory_t {
            total: found.total,
            free: found.free,
            used: found.used + found.reserved,
        })
    }

    /// The only call that answers `FUNCTION_NOT_FOUND` for another version, as the real driver.
    fn nvmlDeviceGetMemoryInfo_v2(
        handle: DeviceHandle,
        memory: Out<nvmlMemory_v2_t>,
    ) read |state, _| {
        let version = memory.version()?;
        if version != version_of::<nvmlMemory_v2_t>(2) {
            return Err(Return::FUNCTION_NOT_FOUND);
        }
        let found = status::memory(state, handle.get()?)?;
        memory.set(nvmlMemory_v2_t {
            version,
            total: found.total,
            reserved: found.reserved,
            free: found.free,
            used: found.used,
        })
    }

    fn nvmlDeviceGetBAR1MemoryInfo(
        handle: DeviceHandle,
        memory: Out<nvmlBAR1Memory_t>,
    ) read |state, _| {
        let (total, used) = status::bar1_memory(state, handle.get()?)?;
        memory.set(nvmlBAR1Memory_t {
            bar1Total: total,
            bar1Free: total.saturating_sub(used),
            bar1Used: used,
        })
    }

    fn nvmlDeviceGetMemoryBusWidth(handle: DeviceHandle, bits: Out<c_uint>) read |state, _| {
        bits.set(status::readings(state, handle.get()?)?.memory_bus_bits)
    }

    /// Confidential computing is off: nothing is protected.
    fn nvmlDeviceGetConfComputeMemSizeInfo(
        handle: DeviceHandle,
        info: Out<nvmlConfComputeMemSizeInfo_t>,
    ) read |state, _| {
        let device = handle.get()?;
        device.physical()?;
        let total = status::memory(state, device)?.total;
        info.set(nvmlConfComputeMemSizeInfo_t {
            protectedMemSizeKib: 0,
            unprotectedMemSizeKib: total / 1024,
        })
    }

    fn nvmlDeviceGetConfComputeProtectedMemoryUsage(
        handle: DeviceHandle,
        memory: Out<nvmlMemory_t>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        memory.set(nvmlMemory_t { total: 0, free: 0, used: 0 })
    }
}

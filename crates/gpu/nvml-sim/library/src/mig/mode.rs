//! MIG mode.

use std::ffi::c_uint;

use nvml_sim::Return;
use nvml_sim::driver::mode;
use nvml_wrapper_sys::bindings::{NVML_DEVICE_MIG_DISABLE, NVML_DEVICE_MIG_ENABLE, nvmlReturn_t};

use crate::abi::Out;
use crate::handle::DeviceHandle;

nvml! {
    fn nvmlDeviceGetMigMode(
        handle: DeviceHandle,
        current: Out<c_uint>,
        pending: Out<c_uint>,
    ) read |state, _| {
        let found = mode::get(state, handle.get()?)?;
        pending.check()?;
        current.set(c_uint::from(found.0))?;
        pending.set(c_uint::from(found.1))
    }

    /// Answers SUCCESS with a status of its own when the mode is only pending.
    fn nvmlDeviceSetMigMode(
        handle: DeviceHandle,
        wanted: c_uint,
        activation: Out<nvmlReturn_t>,
    ) write |state, _| {
        let device = handle.get()?;
        activation.check()?;
        let enable = match wanted {
            NVML_DEVICE_MIG_DISABLE => false,
            NVML_DEVICE_MIG_ENABLE => true,
            _ => return Err(Return::INVALID_ARGUMENT),
        };
        activation.set(mode::set(state, device, enable)?.0)
    }
}

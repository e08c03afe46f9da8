//! Calls about a whole GPU: what it is, how it feels, who uses it.

use std::ffi::{CString, c_char, c_int, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings as sys;

use super::{
    Answer, Calls, Device, Failure, MemoryInfo, PciInfo, ROOM, RunningProcess, check, fill, string,
    version_word, zeroed,
};
use crate::ReturnCode;

getters! {
    minor_number: nvmlDeviceGetMinorNumber(Device) -> c_uint;
    gpu_instance_id: nvmlDeviceGetGpuInstanceId(Device) -> c_uint;
    compute_instance_id: nvmlDeviceGetComputeInstanceId(Device) -> c_uint;
    max_mig_device_count: nvmlDeviceGetMaxMigDeviceCount(Device) -> c_uint;
    supported_event_types: nvmlDeviceGetSupportedEventTypes(Device) -> c_ulonglong;
    fan_speed: nvmlDeviceGetFanSpeed(Device) -> c_uint;
    performance_state: nvmlDeviceGetPerformanceState(Device) -> sys::nvmlPstates_t;
    power_usage: nvmlDeviceGetPowerUsage(Device) -> c_uint;
    enforced_power_limit: nvmlDeviceGetEnforcedPowerLimit(Device) -> c_uint;
    power_management_limit: nvmlDeviceGetPowerManagementLimit(Device) -> c_uint;
    persistence_mode: nvmlDeviceGetPersistenceMode(Device) -> sys::nvmlEnableState_t;
    display_active: nvmlDeviceGetDisplayActive(Device) -> sys::nvmlEnableState_t;
    compute_mode: nvmlDeviceGetComputeMode(Device) -> sys::nvmlComputeMode_t;
}

texts! {
    name: nvmlDeviceGetName, 96;
    uuid: nvmlDeviceGetUUID, 96;
    serial: nvmlDeviceGetSerial, 30;
    vbios_version: nvmlDeviceGetVbiosVersion, 32;
}

impl Calls {
    pub(crate) fn device_count(&self) -> Answer<u32> {
        let function = symbol!(self, nvmlDeviceGetCount_v2)?;
        let mut count: c_uint = 0;
        // SAFETY: `count` is a live out-parameter.
        check("nvmlDeviceGetCount_v2", unsafe { function(&raw mut count) })?;
        Ok(count)
    }

    pub(crate) fn device_by_index(&self, index: u32) -> Answer<Device> {
        let function = symbol!(self, nvmlDeviceGetHandleByIndex_v2)?;
        let mut device: sys::nvmlDevice_t = std::ptr::null_mut();
        // SAFETY: `device` is a live out-parameter.
        check("nvmlDeviceGetHandleByIndex_v2", unsafe {
            function(index, &raw mut device)
        })?;
        Ok(Device(device))
    }

    pub(crate) fn device_by_uuid(&self, uuid: &str) -> Answer<Device> {
        let function = symbol!(self, nvmlDeviceGetHandleByUUID)?;
        let not_found = Failure::Refused("nvmlDeviceGetHandleByUUID", ReturnCode::ERROR_NOT_FOUND);
        let uuid = CString::new(uuid).map_err(|_| not_found)?;
        let mut device: sys::nvmlDevice_t = std::ptr::null_mut();
        // SAFETY: `uuid` is a live C string and `device` a live out-parameter.
        let code = unsafe { function(uuid.as_ptr(), &raw mut device) };
        check("nvmlDeviceGetHandleByUUID", code)?;
        Ok(Device(device))
    }

    pub(crate) fn pci_info(&self, device: Device) -> Answer<PciInfo> {
        let (name, function) = match symbol!(self, nvmlDeviceGetPciInfo_v3) {
            Ok(function) => ("nvmlDeviceGetPciInfo_v3", function),
            Err(missing) => (
                "nvmlDeviceGetPciInfo_v2",
                symbol!(self, nvmlDeviceGetPciInfo_v2).map_err(|_| missing)?,
            ),
        };
        // SAFETY: all zero is a valid value of this struct of numbers and characters.
        let mut info: sys::nvmlPciInfo_t = unsafe { zeroed() };
        // SAFETY: the handle came from this library, `info` is a live out-parameter; versions 2 and 3
        // share the struct.
        check(name, unsafe { function(device.0, &raw mut info) })?;
        // Version 2 left the long address empty on old drivers.
        let long = string(&info.busId);
        let bus_id = if long.is_empty() {
            string(&info.busIdLegacy)
        } else {
            long
        };
        Ok(PciInfo {
            bus_id,
            device_id: info.pciDeviceId,
        })
    }

    /// Base class and subclass, 0x0302.
    pub(crate) fn pci_class(&self, device: Device) -> Answer<u16> {
        let function = symbol!(self, nvmlDeviceGetPciInfoExt)?;
        // SAFETY: all zero is a valid value of this struct of numbers and characters.
        let mut info: sys::nvmlPciInfoExt_t = unsafe { zeroed() };
        info.version = version_word::<sys::nvmlPciInfoExt_t>(1);
        // SAFETY: the handle came from this library, `info` is live and says its own version and size.
        check("nvmlDeviceGetPciInfoExt", unsafe {
            function(device.0, &raw mut info)
        })?;
        let byte = |number: c_uint| u16::try_from(number & 0xFF).unwrap_or_default();
        Ok((byte(info.baseClass) << 8) | byte(info.subClass))
    }

    /// Version 1 counts reserved memory as used.
    pub(crate) fn memory_info(&self, device: Device) -> Answer<MemoryInfo> {
        if let Ok(function) = symbol!(self, nvmlDeviceGetMemoryInfo_v2) {
            // SAFETY: all zero is a valid value of this struct of numbers.
            let mut info: sys::nvmlMemory_v2_t = unsafe { zeroed() };
            info.version = version_word::<sys::nvmlMemory_v2_t>(2);
            // SAFETY: the handle came from this library, `info` is live and says its own version and size.
            check("nvmlDeviceGetMemoryInfo_v2", unsafe {
                function(device.0, &raw mut info)
            })?;
            return Ok(MemoryInfo {
                total: info.total,
                reserved: Some(info.reserved),
                free: info.free,
                used: info.used,
            });
        }
        let function = symbol!(self, nvmlDeviceGetMemoryInfo)?;
        // SAFETY: all zero is a valid value of this struct of numbers.
        let mut info: sys::nvmlMemory_t = unsafe { zeroed() };
        // SAFETY: the handle came from this library and `info` is a live out-parameter.
        check("nvmlDeviceGetMemoryInfo", unsafe {
            function(device.0, &raw mut info)
        })?;
        Ok(MemoryInfo {
            total: info.total,
            reserved: None,
            free: info.free,
            used: info.used,
        })
    }

    /// Used and total bytes of the BAR1 window.
    pub(crate) fn bar1_memory(&self, device: Device) -> Answer<(u64, u64)> {
        let function = symbol!(self, nvmlDeviceGetBAR1MemoryInfo)?;
        // SAFETY: all zero is a valid value of this struct of numbers.
        let mut info: sys::nvmlBAR1Memory_t = unsafe { zeroed() };
        // SAFETY: the handle came from this library and `info` is a live out-parameter.
        check("nvmlDeviceGetBAR1MemoryInfo", unsafe {
            function(device.0, &raw mut info)
        })?;
        Ok((info.bar1Used, info.bar1Total))
    }

    pub(crate) fn compute_capability(&self, device: Device) -> Answer<(u8, u8)> {
        let function = symbol!(self, nvmlDeviceGetCudaComputeCapability)?;
        let (mut major, mut minor): (c_int, c_int) = (0, 0);
        // SAFETY: the handle came from this library; both are live out-parameters.
        let code = unsafe { function(device.0, &raw mut major, &raw mut minor) };
        check("nvmlDeviceGetCudaComputeCapability", code)?;
        Ok((
            u8::try_from(major).unwrap_or_default(),
            u8::try_from(minor).unwrap_or_default(),
        ))
    }

    /// Temperature of the GPU in degrees Celsius.
    pub(crate) fn temperature(&self, device: Device) -> Answer<u32> {
        let function = symbol!(self, nvmlDeviceGetTemperature)?;
        let mut value: c_uint = 0;
        let sensor = sys::nvmlTemperatureSensors_enum_NVML_TEMPERATURE_GPU;
        // SAFETY: the handle came from this library; `value` is a live out-parameter.
        let code = unsafe { function(device.0, sensor, &raw mut value) };
        check("nvmlDeviceGetTemperature", code)?;
        Ok(value)
    }

    /// A clock in MHz.
    pub(crate) fn clock(&self, device: Device, kind: sys::nvmlClockType_t) -> Answer<u32> {
        let function = symbol!(self, nvmlDeviceGetClockInfo)?;
        let mut value: c_uint = 0;
        // SAFETY: the handle came from this library; `value` is a live out-parameter.
        check("nvmlDeviceGetClockInfo", unsafe {
            function(device.0, kind, &raw mut value)
        })?;
        Ok(value)
    }

    /// Utilisation of the GPU and of its memory interface, in percent.
    pub(crate) fn utilization(&self, device: Device) -> Answer<(u32, u32)> {
        let function = symbol!(self, nvmlDeviceGetUtilizationRates)?;
        let mut value = sys::nvmlUtilization_t { gpu: 0, memory: 0 };
        // SAFETY: the handle came from this library; `value` is a live out-parameter.
        check("nvmlDeviceGetUtilizationRates", unsafe {
            function(device.0, &raw mut value)
        })?;
        Ok((value.gpu, value.memory))
    }

    /// ECC mode, current and pending.
    pub(crate) fn ecc_mode(&self, device: Device) -> Answer<(bool, bool)> {
        let function = symbol!(self, nvmlDeviceGetEccMode)?;
        let (mut current, mut pending): (c_uint, c_uint) = (0, 0);
        // SAFETY: the handle came from this library; both are live out-parameters.
        let code = unsafe { function(device.0, &raw mut current, &raw mut pending) };
        check("nvmlDeviceGetEccMode", code)?;
        Ok((current != 0, pending != 0))
    }

    /// Uncorrected ECC errors since the driver was loaded.
    pub(crate) fn volatile_uncorrected_errors(&self, device: Device) -> Answer<u64> {
        let function = symbol!(self, nvmlDeviceGetTotalEccErrors)?;
        let mut count: c_ulonglong = 0;
        let kind = sys::nvmlMemoryErrorType_enum_NVML_MEMORY_ERROR_TYPE_UNCORRECTED;
        let counter = sys::nvmlEccCounterType_enum_NVML_VOLATILE_ECC;
        // SAFETY: the handle came from this library; `count` is a live out-parameter.
        let code = unsafe { function(device.0, kind, counter, &raw mut count) };
        check("nvmlDeviceGetTotalEccErrors", code)?;
        Ok(count)
    }

    /// Processes that compute.
    pub(crate) fn compute_processes(&self, device: Device) -> Answer<Vec<RunningProcess>> {
        if let Ok(function) = symbol!(self, nvmlDeviceGetComputeRunningProcesses_v3) {
            return processes_v2("nvmlDeviceGetComputeRunningProcesses_v3", device, function);
        }
        if let Ok(function) = symbol!(self, nvmlDeviceGetComputeRunningProcesses_v2) {
            return processes_v2("nvmlDeviceGetComputeRunningProcesses_v2", device, function);
        }
        let name = "nvmlDeviceGetComputeRunningProcesses";
        let function = symbol!(self, nvmlDeviceGetComputeRunningProcesses)?;
        let zero = sys::nvmlProcessInfo_v1_t {
            pid: 0,
            usedGpuMemory: 0,
        };
        let list = fill(name, zero, ROOM, |count, infos| {
            // SAFETY: the handle came from this library; `infos` has room for the `*count` entries that
            // `count` says.
            unsafe { function(device.0, count, infos) }
        })?;
        Ok(list
            .into_iter()
            .map(|info| RunningProcess {
                pid: info.pid,
                memory: info.usedGpuMemory,
                gpu_instance: u32::MAX,
                compute_instance: u32::MAX,
            })
            .collect())
    }

    /// Processes that draw.
    pub(crate) fn graphics_processes(&self, device: Device) -> Answer<Vec<RunningProcess>> {
        let function = symbol!(self, nvmlDeviceGetGraphicsRunningProcesses_v3)?;
        processes_v2("nvmlDeviceGetGraphicsRunningProcesses_v3", device, function)
    }
}

type ProcessesV2 =
    unsafe extern "C" fn(sys::nvmlDevice_t, *mut c_uint, *mut sys::nvmlProcessInfo_v2_t) -> c_uint;

fn processes_v2(
    name: &'static str,
    device: Device,
    function: ProcessesV2,
) -> Answer<Vec<RunningProcess>> {
    let zero = sys::nvmlProcessInfo_v2_t {
        pid: 0,
        usedGpuMemory: 0,
        gpuInstanceId: 0,
        computeInstanceId: 0,
    };
    let list = fill(name, zero, ROOM, |count, infos| {
        // SAFETY: the handle came from this library; `infos` has room for the `*count` entries that
        // `count` says.
        unsafe { function(device.0, count, infos) }
    })?;
    Ok(list
        .into_iter()
        .map(|info| RunningProcess {
            pid: info.pid,
            memory: info.usedGpuMemory,
            gpu_instance: info.gpuInstanceId,
            compute_instance: info.computeInstanceId,
        })
        .collect())
}

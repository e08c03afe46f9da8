//! The C calls themselves: every `unsafe` of this crate but the loading is here. Each method is one
//! NVML function with owned in- and output, and falls back to the function's older version where a
//! library lacks the newest.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulonglong};
use std::mem::{MaybeUninit, size_of};
use std::path::{Path, PathBuf};

use nvml_wrapper_sys::bindings as sys;

use crate::{Error, GpuLabel, ReturnCode};

/// A GPU or MIG device as the library knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device(sys::nvmlDevice_t);
/// A GPU instance as the library knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GpuInstanceHandle(sys::nvmlGpuInstance_t);
/// A compute instance as the library knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ComputeInstanceHandle(sys::nvmlComputeInstance_t);
/// An event set as the library knows it.
#[derive(Debug)]
pub(crate) struct EventSetHandle(sys::nvmlEventSet_t);

// SAFETY: handles are opaque to this crate and only given back to NVML, whose calls are thread-safe by
// its documentation; nothing in them belongs to the thread that received them.
unsafe impl Send for Device {}
// SAFETY: as above; a shared handle is only read.
unsafe impl Sync for Device {}
// SAFETY: as for `Device`.
unsafe impl Send for GpuInstanceHandle {}
// SAFETY: as for `Device`.
unsafe impl Sync for GpuInstanceHandle {}
// SAFETY: as for `Device`.
unsafe impl Send for ComputeInstanceHandle {}
// SAFETY: as for `Device`.
unsafe impl Sync for ComputeInstanceHandle {}
// SAFETY: as for `Device`.
unsafe impl Send for EventSetHandle {}
// SAFETY: as for `Device`.
unsafe impl Sync for EventSetHandle {}

/// A call that failed, before it is known which GPU it was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The library has no such function.
    Missing(&'static str),
    /// NVML said no.
    Refused(&'static str, ReturnCode),
}

impl Failure {
    pub(crate) fn is(self, code: ReturnCode) -> bool {
        matches!(self, Self::Refused(_, own) if own == code)
    }

    /// True when the library or the GPU simply does not have what was asked for.
    pub(crate) fn is_unavailable(self) -> bool {
        match self {
            Self::Missing(_) => true,
            Self::Refused(_, code) => {
                matches!(
                    code,
                    ReturnCode::ERROR_NOT_SUPPORTED | ReturnCode::ERROR_FUNCTION_NOT_FOUND
                )
            }
        }
    }
}

pub(crate) type Answer<T> = Result<T, Failure>;

/// What a driver says of one GPU instance profile, whatever version of the struct it filled.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProfileInfo {
    pub(crate) id: u32,
    pub(crate) p2p: bool,
    pub(crate) slices: u32,
    pub(crate) instances: u32,
    pub(crate) multiprocessors: u32,
    pub(crate) copy_engines: u32,
    pub(crate) decoders: u32,
    pub(crate) encoders: u32,
    pub(crate) jpeg: u32,
    pub(crate) ofa: u32,
    pub(crate) memory_mib: u64,
    /// Empty where the driver is too old to name it.
    pub(crate) name: String,
}

/// Memory of a device in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryInfo {
    pub(crate) total: u64,
    /// `None` where the driver is too old to tell it apart from the used memory.
    pub(crate) reserved: Option<u64>,
    pub(crate) free: u64,
    pub(crate) used: u64,
}

/// A PCI address and identity.
#[derive(Debug, Clone)]
pub(crate) struct PciInfo {
    pub(crate) bus_id: String,
    pub(crate) device_id: u32,
}

/// A process on a GPU; instances are `u32::MAX` where the driver does not know or the GPU is not in MIG mode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunningProcess {
    pub(crate) pid: u32,
    pub(crate) memory: u64,
    pub(crate) gpu_instance: u32,
    pub(crate) compute_instance: u32,
}

/// An event; instances are `u32::MAX` where it is about the whole GPU.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawEvent {
    pub(crate) device: Device,
    pub(crate) kind: u64,
    pub(crate) data: u64,
    pub(crate) gpu_instance: u32,
    pub(crate) compute_instance: u32,
}

/// The loaded library.
pub(crate) struct Calls {
    library: sys::NvmlLib,
    path: PathBuf,
}

/// A function of the library, or `Failure::Missing`.
macro_rules! symbol {
    ($self:ident, $name:ident) => {
        match &$self.library.$name {
            Ok(function) => Ok(*function),
            Err(_) => Err(Failure::Missing(stringify!($name))),
        }
    };
}

/// Methods for the functions of the shape `f(handle, *mut T)`.
macro_rules! getters {
    ($($(#[$doc:meta])* $method:ident: $name:ident($handle:ty) -> $value:ty;)*) => {
        impl Calls {
            $(
                $(#[$doc])*
                pub(crate) fn $method(&self, handle: $handle) -> Answer<$value> {
                    let function = symbol!(self, $name)?;
                    let mut value: $value = 0;
                    // SAFETY: the signature is the header's (nvml-wrapper-sys), the handle came from this
                    // very library, and `value` is a live out-parameter of the type that it asks for.
                    let code = unsafe { function(handle.0, &raw mut value) };
                    check(stringify!($name), code)?;
                    Ok(value)
                }
            )*
        }
    };
}

/// Methods for the functions of the shape `f(handle, *mut c_char, length)`.
macro_rules! texts {
    ($($method:ident: $name:ident, $length:literal;)*) => {
        impl Calls {
            $(
                pub(crate) fn $method(&self, handle: Device) -> Answer<String> {
                    let function = symbol!(self, $name)?;
                    let mut text: [c_char; $length] = [0; $length];
                    // SAFETY: `text` is live and $length characters long, as the third argument says; the
                    // handle came from this very library.
                    let code = unsafe { function(handle.0, text.as_mut_ptr(), $length) };
                    check(stringify!($name), code)?;
                    Ok(string(&text))
                }
            )*
        }
    };
}

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

/// The library and its life.
impl Calls {
    pub(crate) fn new(library: sys::NvmlLib, path: &Path) -> Self {
        Self {
            library,
            path: path.to_owned(),
        }
    }

    /// Where the library was loaded from.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The failure as an error about `gpu`.
    pub(crate) fn error(&self, failure: Failure, gpu: Option<GpuLabel>) -> Error {
        match failure {
            Failure::Missing(call) => Error::SymbolMissing {
                call,
                library: self.path.clone(),
            },
            Failure::Refused(call, code) => Error::Call { call, gpu, code },
        }
    }

    /// Fails where the library lacks what nothing works without.
    pub(crate) fn require_essentials(&self) -> Answer<()> {
        symbol!(self, nvmlInit_v2)
            .or_else(|_| symbol!(self, nvmlInit).map_err(|_| Failure::Missing("nvmlInit_v2")))?;
        symbol!(self, nvmlShutdown)?;
        symbol!(self, nvmlDeviceGetCount_v2)?;
        symbol!(self, nvmlDeviceGetHandleByIndex_v2)?;
        symbol!(self, nvmlDeviceGetUUID)?;
        Ok(())
    }

    pub(crate) fn init(&self) -> Answer<()> {
        let (name, function) = match symbol!(self, nvmlInit_v2) {
            Ok(function) => ("nvmlInit_v2", function),
            Err(missing) => ("nvmlInit", symbol!(self, nvmlInit).map_err(|_| missing)?),
        };
        // SAFETY: takes no arguments; NVML counts initialisations and locks within.
        check(name, unsafe { function() })
    }

    pub(crate) fn shutdown(&self) -> Answer<()> {
        let function = symbol!(self, nvmlShutdown)?;
        // SAFETY: takes no arguments, and balances the one `init` of this value's owner.
        check("nvmlShutdown", unsafe { function() })
    }
}

/// The system.
impl Calls {
    pub(crate) fn driver_version(&self) -> Answer<String> {
        let function = symbol!(self, nvmlSystemGetDriverVersion)?;
        let mut text: [c_char; 80] = [0; 80];
        // SAFETY: `text` is live and 80 characters long, as the second argument says.
        check("nvmlSystemGetDriverVersion", unsafe {
            function(text.as_mut_ptr(), 80)
        })?;
        Ok(string(&text))
    }

    pub(crate) fn nvml_version(&self) -> Answer<String> {
        let function = symbol!(self, nvmlSystemGetNVMLVersion)?;
        let mut text: [c_char; 80] = [0; 80];
        // SAFETY: `text` is live and 80 characters long, as the second argument says.
        check("nvmlSystemGetNVMLVersion", unsafe {
            function(text.as_mut_ptr(), 80)
        })?;
        Ok(string(&text))
    }

    /// 1000 x major + 10 x minor. The second version asks `libcuda`, which a host need not have.
    pub(crate) fn cuda_driver_version(&self) -> Answer<u32> {
        let ask = |name, function: unsafe extern "C" fn(*mut c_int) -> c_uint| {
            let mut version: c_int = 0;
            // SAFETY: `version` is a live out-parameter.
            check(name, unsafe { function(&raw mut version) })?;
            Ok(u32::try_from(version).unwrap_or_default())
        };
        symbol!(self, nvmlSystemGetCudaDriverVersion_v2)
            .and_then(|function| ask("nvmlSystemGetCudaDriverVersion_v2", function))
            .or_else(|_| {
                ask(
                    "nvmlSystemGetCudaDriverVersion",
                    symbol!(self, nvmlSystemGetCudaDriverVersion)?,
                )
            })
    }

    pub(crate) fn process_name(&self, pid: u32) -> Answer<String> {
        let function = symbol!(self, nvmlSystemGetProcessName)?;
        let mut text: [c_char; 1024] = [0; 1024];
        // SAFETY: `text` is live and 1024 characters long, as the third argument says.
        check("nvmlSystemGetProcessName", unsafe {
            function(pid, text.as_mut_ptr(), 1024)
        })?;
        Ok(string(&text))
    }
}

/// GPUs.
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

/// MIG: mode, profiles, devices.
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

/// Events.
impl Calls {
    pub(crate) fn event_set_create(&self) -> Answer<EventSetHandle> {
        let function = symbol!(self, nvmlEventSetCreate)?;
        let mut set: sys::nvmlEventSet_t = std::ptr::null_mut();
        // SAFETY: `set` is a live out-parameter.
        check("nvmlEventSetCreate", unsafe { function(&raw mut set) })?;
        Ok(EventSetHandle(set))
    }

    pub(crate) fn register_events(
        &self,
        device: Device,
        kinds: u64,
        set: &EventSetHandle,
    ) -> Answer<()> {
        let function = symbol!(self, nvmlDeviceRegisterEvents)?;
        // SAFETY: both handles came from this library, and the set is not freed while it is borrowed.
        check("nvmlDeviceRegisterEvents", unsafe {
            function(device.0, kinds, set.0)
        })
    }

    pub(crate) fn event_set_wait(&self, set: &EventSetHandle, timeout_ms: u32) -> Answer<RawEvent> {
        let (name, function) = match symbol!(self, nvmlEventSetWait_v2) {
            Ok(function) => ("nvmlEventSetWait_v2", function),
            Err(missing) => (
                "nvmlEventSetWait",
                symbol!(self, nvmlEventSetWait).map_err(|_| missing)?,
            ),
        };
        // Version 1 leaves the instances alone, so that they stay "the whole GPU".
        let mut data = sys::nvmlEventData_t {
            device: std::ptr::null_mut(),
            eventType: 0,
            eventData: 0,
            gpuInstanceId: u32::MAX,
            computeInstanceId: u32::MAX,
        };
        // SAFETY: the set came from this library and is not freed while it is borrowed; `data` is a live
        // out-parameter.
        check(name, unsafe { function(set.0, &raw mut data, timeout_ms) })?;
        Ok(RawEvent {
            device: Device(data.device),
            kind: data.eventType,
            data: data.eventData,
            gpu_instance: data.gpuInstanceId,
            compute_instance: data.computeInstanceId,
        })
    }

    /// Frees a set; the caller must not use it again, and owns it alone.
    pub(crate) fn event_set_free(&self, set: &mut EventSetHandle) -> Answer<()> {
        let function = symbol!(self, nvmlEventSetFree)?;
        let handle = std::mem::replace(&mut set.0, std::ptr::null_mut());
        if handle.is_null() {
            return Ok(());
        }
        // SAFETY: the set came from this library and, taken out of its place, is freed only this once.
        check("nvmlEventSetFree", unsafe { function(handle) })
    }
}

fn check(call: &'static str, code: c_uint) -> Answer<()> {
    match ReturnCode(code) {
        ReturnCode::SUCCESS => Ok(()),
        code => Err(Failure::Refused(call, code)),
    }
}

/// The characters up to the first NUL, or all of them; what is not UTF-8 is replaced.
fn string(text: &[c_char]) -> String {
    let bytes: Vec<u8> = text
        .iter()
        .map(|character| character.to_ne_bytes()[0])
        .chain([0])
        .collect();
    CStr::from_bytes_until_nul(&bytes)
        .map(|text| text.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The word by which NVML knows which version of a struct it is given: its size and the version.
fn version_word<T>(version: c_uint) -> c_uint {
    // A struct of the API is a few hundred bytes.
    c_uint::try_from(size_of::<T>()).unwrap_or_default() | (version << 24)
}

/// # Safety
/// All bits zero must be a valid `T`, as it is for C structs of numbers, characters and pointers.
unsafe fn zeroed<T>() -> T {
    // SAFETY: the caller's promise.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// Room for the first question of a list. No list of instances or placements is longer, so that one call does; where NVML
/// does not look at the room that it is given, but wants as much as a profile has instances, this is more.
const ROOM: usize = 64;

/// A list by NVML's two steps: asked with too little room, the call says how much it needs.
fn fill<T: Copy>(
    name: &'static str,
    zero: T,
    room: usize,
    mut ask: impl FnMut(*mut c_uint, *mut T) -> c_uint,
) -> Answer<Vec<T>> {
    let mut list = vec![zero; room];
    // A list may grow between two calls; after a few it is no accident.
    for _ in 0..5 {
        let mut count = c_uint::try_from(list.len()).unwrap_or(c_uint::MAX);
        let code = ask(&raw mut count, list.as_mut_ptr());
        let count = count as usize;
        match ReturnCode(code) {
            ReturnCode::SUCCESS if count <= list.len() => {
                list.truncate(count);
                return Ok(list);
            }
            ReturnCode::SUCCESS | ReturnCode::ERROR_INSUFFICIENT_SIZE if count > 0 => {
                list.resize(count, zero);
            }
            code => return Err(Failure::Refused(name, code)),
        }
    }
    Err(Failure::Refused(name, ReturnCode::ERROR_INSUFFICIENT_SIZE))
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

//! The C calls themselves: every `unsafe` of this crate but the loading is here and below. Each method is one
//! NVML function with owned in- and output, and falls back to the function's older version where a
//! library lacks the newest.

use std::ffi::{CStr, c_char, c_int, c_uint};
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

mod device;
mod events;
mod instances;
mod mig;

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

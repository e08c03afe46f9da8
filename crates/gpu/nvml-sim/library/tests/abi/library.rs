//! A machine with simulated GPUs, and NVML loaded from it.

use std::ffi::{CStr, c_char};
use std::path::Path;

use nvml_sim::root::DriverRoot;
use nvml_wrapper_sys::bindings::{
    NvmlLib, nvmlComputeInstance_t, nvmlDevice_t, nvmlGpuInstance_t, nvmlGpuInstancePlacement_t,
};
use tempfile::TempDir;

pub(crate) const SUCCESS: u32 = 0;
pub(crate) const UNINITIALIZED: u32 = 1;
pub(crate) const INVALID_ARGUMENT: u32 = 2;
pub(crate) const NOT_SUPPORTED: u32 = 3;
pub(crate) const NO_PERMISSION: u32 = 4;
pub(crate) const NOT_FOUND: u32 = 6;
pub(crate) const INSUFFICIENT_SIZE: u32 = 7;
pub(crate) const DRIVER_NOT_LOADED: u32 = 9;
pub(crate) const TIMEOUT: u32 = 10;
pub(crate) const FUNCTION_NOT_FOUND: u32 = 13;
pub(crate) const GPU_IS_LOST: u32 = 15;
pub(crate) const RESET_REQUIRED: u32 = 16;
pub(crate) const IN_USE: u32 = 19;
pub(crate) const INSUFFICIENT_RESOURCES: u32 = 23;
pub(crate) const ARGUMENT_VERSION_MISMATCH: u32 = 25;

/// Calls a function of the library and answers its code.
macro_rules! call {
    ($library:expr, $name:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: the arguments are values, null where the test is about null, or point to variables of the test
        // that are of the type that the function's declaration asks for and large enough for what it writes.
        #[allow(clippy::undocumented_unsafe_blocks, reason = "documented above; the lint looks outside of the macro")]
        unsafe { $library.raw.$name($($argument),*) }
    }};
}
pub(crate) use call;

/// A driver root in a temporary folder.
pub(crate) struct Machine {
    pub(crate) root: DriverRoot,
    pub(crate) folder: TempDir,
}

impl Machine {
    pub(crate) fn new(boards: &[(&str, u32)]) -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let boards: Vec<_> = boards
            .iter()
            .map(|(name, count)| (mig::board(name).unwrap(), *count))
            .collect();
        let root = DriverRoot::create(folder.path().join("node"), &boards).unwrap();
        Machine { root, folder }
    }

    pub(crate) fn load(&self) -> Library {
        Library::load(&self.root.library_path())
    }

    /// Loads the library and initialises it.
    pub(crate) fn nvml(&self) -> Library {
        let library = self.load();
        assert_eq!(call!(library, nvmlInit_v2()), SUCCESS);
        library
    }
}

/// A loaded library.
pub(crate) struct Library {
    pub(crate) raw: NvmlLib,
}

impl Library {
    pub(crate) fn load(path: &Path) -> Library {
        // SAFETY: the library is ours; what runs when it is loaded is the Rust runtime's set-up.
        let raw = unsafe { NvmlLib::new(path) }.unwrap();
        Library { raw }
    }

    pub(crate) fn device(&self, index: u32) -> nvmlDevice_t {
        let mut device = std::ptr::null_mut();
        let code = call!(self, nvmlDeviceGetHandleByIndex_v2(index, &raw mut device));
        assert_eq!(code, SUCCESS);
        device
    }

    /// The text that a call writes into a buffer.
    pub(crate) fn text(&self, get: impl Fn(&Library, *mut c_char, u32) -> u32) -> String {
        let mut buffer = [0x55_u8; 96];
        assert_eq!(get(self, buffer.as_mut_ptr().cast(), 96), SUCCESS);
        CStr::from_bytes_until_nul(&buffer)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    }

    pub(crate) fn name(&self, device: nvmlDevice_t) -> String {
        self.text(|library, buffer, size| call!(library, nvmlDeviceGetName(device, buffer, size)))
    }

    pub(crate) fn uuid(&self, device: nvmlDevice_t) -> String {
        self.text(|library, buffer, size| call!(library, nvmlDeviceGetUUID(device, buffer, size)))
    }

    pub(crate) fn by_uuid(&self, uuid: &CStr) -> Result<nvmlDevice_t, u32> {
        let mut device = std::ptr::null_mut();
        match call!(
            self,
            nvmlDeviceGetHandleByUUID(uuid.as_ptr(), &raw mut device)
        ) {
            SUCCESS => Ok(device),
            code => Err(code),
        }
    }

    pub(crate) fn enable_mig(&self, device: nvmlDevice_t) {
        let mut activation = u32::MAX;
        let code = call!(self, nvmlDeviceSetMigMode(device, 1, &raw mut activation));
        assert_eq!((code, activation), (SUCCESS, SUCCESS));
    }

    pub(crate) fn create(
        &self,
        device: nvmlDevice_t,
        profile: u32,
    ) -> Result<nvmlGpuInstance_t, u32> {
        let mut instance = std::ptr::null_mut();
        match call!(
            self,
            nvmlDeviceCreateGpuInstance(device, profile, &raw mut instance)
        ) {
            SUCCESS => Ok(instance),
            code => Err(code),
        }
    }

    pub(crate) fn create_at(
        &self,
        device: nvmlDevice_t,
        profile: u32,
        start: u32,
        size: u32,
    ) -> Result<nvmlGpuInstance_t, u32> {
        let placement = nvmlGpuInstancePlacement_t { start, size };
        let mut instance = std::ptr::null_mut();
        let code = call!(
            self,
            nvmlDeviceCreateGpuInstanceWithPlacement(
                device,
                profile,
                &raw const placement,
                &raw mut instance
            )
        );
        if code == SUCCESS {
            Ok(instance)
        } else {
            Err(code)
        }
    }

    pub(crate) fn create_compute(
        &self,
        instance: nvmlGpuInstance_t,
        profile: u32,
    ) -> Result<nvmlComputeInstance_t, u32> {
        let mut compute = std::ptr::null_mut();
        let code = call!(
            self,
            nvmlGpuInstanceCreateComputeInstance(instance, profile, &raw mut compute)
        );
        if code == SUCCESS {
            Ok(compute)
        } else {
            Err(code)
        }
    }

    pub(crate) fn mig_device(&self, device: nvmlDevice_t, index: u32) -> Result<nvmlDevice_t, u32> {
        let mut found = std::ptr::null_mut();
        let code = call!(
            self,
            nvmlDeviceGetMigDeviceHandleByIndex(device, index, &raw mut found)
        );
        if code == SUCCESS {
            Ok(found)
        } else {
            Err(code)
        }
    }

    /// The GPU instances of a profile.
    pub(crate) fn instances(&self, device: nvmlDevice_t, profile: u32) -> Vec<nvmlGpuInstance_t> {
        let mut found = [std::ptr::null_mut(); 8];
        let mut count = 0;
        let code = call!(
            self,
            nvmlDeviceGetGpuInstances(device, profile, found.as_mut_ptr(), &raw mut count)
        );
        assert_eq!(code, SUCCESS);
        found[..count as usize].to_vec()
    }
}

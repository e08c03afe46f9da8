//! What can go wrong at the door, and what to do about it.

use std::fmt;
use std::path::PathBuf;

use crate::{GpuUuid, ReturnCode};

/// Which GPU an error is about, as much as is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuLabel {
    /// NVML's index, where it is known.
    pub index: Option<u32>,
    /// The UUID, where it is known.
    pub uuid: Option<GpuUuid>,
    /// The GPU instance within it, where the call was about one.
    pub gpu_instance: Option<u32>,
    /// The compute instance within that, where the call was about one.
    pub compute_instance: Option<u32>,
}

impl GpuLabel {
    pub(crate) fn index(index: u32) -> Self {
        Self {
            index: Some(index),
            uuid: None,
            gpu_instance: None,
            compute_instance: None,
        }
    }

    pub(crate) fn uuid(index: Option<u32>, uuid: &GpuUuid) -> Self {
        Self {
            index,
            uuid: Some(uuid.clone()),
            gpu_instance: None,
            compute_instance: None,
        }
    }

    pub(crate) fn gpu_instance(mut self, id: u32) -> Self {
        self.gpu_instance = Some(id);
        self
    }

    pub(crate) fn compute_instance(mut self, id: u32) -> Self {
        self.compute_instance = Some(id);
        self
    }
}

impl fmt::Display for GpuLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = self.compute_instance {
            write!(f, "compute instance {id} of ")?;
        }
        if let Some(id) = self.gpu_instance {
            write!(f, "GPU instance {id} of ")?;
        }
        match (self.index, &self.uuid) {
            (Some(index), Some(uuid)) => write!(f, "GPU {index} ({uuid})"),
            (Some(index), None) => write!(f, "GPU {index}"),
            (None, Some(uuid)) => write!(f, "{uuid}"),
            (None, None) => f.write_str("a GPU"),
        }
    }
}

/// Why NVML could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no NVML library where one was looked for.
    #[error(
        "no libnvidia-ml.so.1 under the driver root {}: looked at {}; install the NVIDIA driver, or name the folder that \
         holds it with --driver-root or NVIDIA_DRIVER_ROOT",
        root.display(),
        searched.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    LibraryNotFound {
        /// The driver root that was searched.
        root: PathBuf,
        /// Every name and path that was tried, in order.
        searched: Vec<PathBuf>,
    },

    /// The library is there, and the system's loader refuses it.
    #[error(
        "cannot load {}: {reason}; is it a complete NVML library for this machine's architecture?", path.display()
    )]
    LibraryUnusable {
        /// The library.
        path: PathBuf,
        /// What the loader says.
        reason: String,
    },

    /// The library lacks a function, in every version of it that migpool knows.
    #[error(
        "{} has no {call}; migpool needs a driver with MIG support (450 or newer, and 470 for MIG UUIDs)", library.display()
    )]
    SymbolMissing {
        /// The function.
        call: &'static str,
        /// The library.
        library: PathBuf,
    },

    /// NVML refused a call.
    #[error("{call}{}: {code}{}", on(gpu.as_ref()), hint(*code, call))]
    Call {
        /// The C function.
        call: &'static str,
        /// The GPU that it was about, if it was about one.
        gpu: Option<GpuLabel>,
        /// NVML's answer.
        code: ReturnCode,
    },

    /// NVML answered with something that cannot be right.
    #[error("{call}{}: the driver's answer makes no sense: {reason}", on(gpu.as_ref()))]
    Answer {
        /// The C function.
        call: &'static str,
        /// The GPU that it was about, if it was about one.
        gpu: Option<GpuLabel>,
        /// What is wrong with it.
        reason: String,
    },
}

fn on(gpu: Option<&GpuLabel>) -> String {
    gpu.map(|gpu| format!(" on {gpu}")).unwrap_or_default()
}

impl Error {
    /// NVML's code, where NVML was reached at all.
    #[must_use]
    pub const fn code(&self) -> Option<ReturnCode> {
        match self {
            Self::Call { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// The C function that failed, if it came to one.
    #[must_use]
    pub const fn call(&self) -> Option<&'static str> {
        match self {
            Self::Call { call, .. }
            | Self::Answer { call, .. }
            | Self::SymbolMissing { call, .. } => Some(call),
            Self::LibraryNotFound { .. } | Self::LibraryUnusable { .. } => None,
        }
    }

    /// The GPU that it is about, if it is about one.
    #[must_use]
    pub const fn gpu(&self) -> Option<&GpuLabel> {
        match self {
            Self::Call { gpu, .. } | Self::Answer { gpu, .. } => gpu.as_ref(),
            _ => None,
        }
    }

    /// True when this is NVML's answer `code`.
    #[must_use]
    pub fn is(&self, code: ReturnCode) -> bool {
        self.code() == Some(code)
    }

    /// True when there is no NVIDIA driver at all to talk to: no library, or a library without its kernel driver. A node
    /// without GPUs looks like this.
    #[must_use]
    pub fn is_no_driver(&self) -> bool {
        match self {
            Self::LibraryNotFound { .. } => true,
            Self::Call { code, .. } => {
                matches!(
                    *code,
                    ReturnCode::ERROR_DRIVER_NOT_LOADED | ReturnCode::ERROR_GPU_NOT_FOUND
                )
            }
            _ => false,
        }
    }
}

/// What to do next about the common codes, as the end of a sentence.
fn hint(code: ReturnCode, call: &str) -> &'static str {
    match code {
        ReturnCode::ERROR_NO_PERMISSION => {
            "; run as root, in a container also with the capability /proc/driver/nvidia/capabilities/mig/config"
        }
        ReturnCode::ERROR_IN_USE if call.contains("Destroy") => {
            "; end the processes that use it first, and destroy its compute instances before a GPU instance"
        }
        ReturnCode::ERROR_IN_USE => {
            "; end the processes that use the GPU, and destroy its instances first"
        }
        ReturnCode::ERROR_INSUFFICIENT_RESOURCES => {
            "; there is no room for it: destroy instances that overlap, or choose another placement"
        }
        ReturnCode::ERROR_NOT_SUPPORTED if call.contains("Create") => {
            "; enable MIG mode first, and choose a profile that this board has"
        }
        ReturnCode::ERROR_GPU_IS_LOST => {
            "; the GPU fell off the bus: reset it or reboot the machine, and look at dmesg"
        }
        ReturnCode::ERROR_RESET_REQUIRED => "; reset the GPU, or reboot the machine",
        ReturnCode::ERROR_DRIVER_NOT_LOADED => "; load the NVIDIA kernel driver (modprobe nvidia)",
        ReturnCode::ERROR_LIB_RM_VERSION_MISMATCH => {
            "; library and kernel driver are of different versions: reboot, or reload the driver"
        }
        ReturnCode::ERROR_UNINITIALIZED => "; the driver was reloaded meanwhile: load NVML again",
        ReturnCode::ERROR_NOT_FOUND => "; it is gone, or was never there: take a new snapshot",
        ReturnCode::ERROR_UNKNOWN => {
            "; the driver does not say why: look at dmesg, and in a container whether it lost its device files, as after \
             a reload of systemd, and start it again"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_call_names_the_call_the_gpu_the_code_and_the_next_step() {
        let uuid: GpuUuid = "GPU-1".parse().unwrap();
        let error = Error::Call {
            call: "nvmlGpuInstanceDestroy",
            gpu: Some(GpuLabel::uuid(Some(3), &uuid).gpu_instance(9)),
            code: ReturnCode::ERROR_IN_USE,
        };
        assert_eq!(
            error.to_string(),
            "nvmlGpuInstanceDestroy on GPU instance 9 of GPU 3 (GPU-1): In use by another client (NVML_ERROR_IN_USE, 19); \
             end the processes that use it first, and destroy its compute instances before a GPU instance"
        );
    }

    #[test]
    fn only_a_missing_driver_counts_as_no_driver() {
        let call = |code| Error::Call {
            call: "nvmlInit_v2",
            gpu: None,
            code,
        };
        assert!(call(ReturnCode::ERROR_DRIVER_NOT_LOADED).is_no_driver());
        assert!(!call(ReturnCode::ERROR_NO_PERMISSION).is_no_driver());
        assert!(
            Error::LibraryNotFound {
                root: "/".into(),
                searched: vec![]
            }
            .is_no_driver()
        );
    }
}

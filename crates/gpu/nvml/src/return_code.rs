//! NVML's return codes (`nvmlReturn_t`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of NVML's return codes, kept as the number that the driver gave, so that a newer one loses nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReturnCode(pub u32);

macro_rules! codes {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl ReturnCode {
            $(
                #[doc = concat!("`NVML_", stringify!($name), "`: ", $text, ".")]
                pub const $name: Self = Self($number);
            )*

            /// NVML's own name, `NVML_ERROR_IN_USE`; `None` for a code newer than this table.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(concat!("NVML_", stringify!($name))),)*
                    _ => None,
                }
            }

            /// What `nvmlErrorString` says of it (driver 580).
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self.0 {
                    $($number => $text,)*
                    _ => "Unknown Error",
                }
            }
        }
    };
}

codes! {
    SUCCESS = 0, "Success";
    ERROR_UNINITIALIZED = 1, "Uninitialized";
    ERROR_INVALID_ARGUMENT = 2, "Invalid Argument";
    ERROR_NOT_SUPPORTED = 3, "Not Supported";
    ERROR_NO_PERMISSION = 4, "Insufficient Permissions";
    ERROR_ALREADY_INITIALIZED = 5, "Already Initialized";
    ERROR_NOT_FOUND = 6, "Not Found";
    ERROR_INSUFFICIENT_SIZE = 7, "Insufficient Size";
    ERROR_INSUFFICIENT_POWER = 8, "Insufficient External Power";
    ERROR_DRIVER_NOT_LOADED = 9, "Driver Not Loaded";
    ERROR_TIMEOUT = 10, "Timeout";
    ERROR_IRQ_ISSUE = 11, "Interrupt Request Issue";
    ERROR_LIBRARY_NOT_FOUND = 12, "NVML Shared Library Not Found";
    ERROR_FUNCTION_NOT_FOUND = 13, "Function Not Found";
    ERROR_CORRUPTED_INFOROM = 14, "Corrupted infoROM";
    ERROR_GPU_IS_LOST = 15, "GPU is lost";
    ERROR_RESET_REQUIRED = 16, "GPU requires reset";
    ERROR_OPERATING_SYSTEM = 17, "GPU access blocked by the operating system";
    ERROR_LIB_RM_VERSION_MISMATCH = 18, "Driver/library version mismatch";
    ERROR_IN_USE = 19, "In use by another client";
    ERROR_MEMORY = 20, "Insufficient Memory";
    ERROR_NO_DATA = 21, "No data";
    ERROR_VGPU_ECC_NOT_SUPPORTED = 22, "ECC is not supported by vGPU host";
    ERROR_INSUFFICIENT_RESOURCES = 23, "Insufficient Resources";
    ERROR_FREQ_NOT_SUPPORTED = 24, "Requested frequency is not supported";
    ERROR_ARGUMENT_VERSION_MISMATCH = 25, "Argument version mismatch";
    ERROR_DEPRECATED = 26, "Requested functionality has been deprecated";
    ERROR_NOT_READY = 27, "System is not ready";
    ERROR_GPU_NOT_FOUND = 28, "No GPUs were found";
    ERROR_INVALID_STATE = 29, "Invalid state";
    ERROR_RESET_TYPE_NOT_SUPPORTED = 30, "Reset type is not supported";
    ERROR_UNKNOWN = 999, "Unknown Error";
}

impl fmt::Display for ReturnCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} ({name}, {})", self.text(), self.0),
            None => write!(f, "NVML code {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_its_text_its_name_and_its_number() {
        assert_eq!(
            ReturnCode::ERROR_IN_USE.to_string(),
            "In use by another client (NVML_ERROR_IN_USE, 19)"
        );
    }

    #[test]
    fn a_code_newer_than_the_table_keeps_its_number() {
        assert_eq!(ReturnCode(77).to_string(), "NVML code 77");
    }
}

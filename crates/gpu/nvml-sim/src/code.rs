//! NVML's return codes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A value of `nvmlReturn_t`. Any number is allowed, because a fault may be told to answer with any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Return(pub u32);

macro_rules! codes {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        impl Return {
            $(#[doc = concat!("`NVML_", stringify!($name), "`: ", $text, ".")]
            pub const $name: Return = Return($code);)*

            /// Every code that `nvml.h` names, in numerical order.
            pub const ALL: &[Return] = &[$(Return::$name),*];

            /// The name in `nvml.h` without `NVML_` and `ERROR_`, where the code has one.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// What `nvmlErrorString` says about the code.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self.0 {
                    $($code => $text,)*
                    _ => "Unknown Error",
                }
            }
        }
    };
}

codes! {
    SUCCESS = 0, "Success";
    UNINITIALIZED = 1, "Uninitialized";
    INVALID_ARGUMENT = 2, "Invalid Argument";
    NOT_SUPPORTED = 3, "Not Supported";
    NO_PERMISSION = 4, "Insufficient Permissions";
    ALREADY_INITIALIZED = 5, "Already Initialized";
    NOT_FOUND = 6, "Not Found";
    INSUFFICIENT_SIZE = 7, "Insufficient Size";
    INSUFFICIENT_POWER = 8, "Insufficient External Power";
    DRIVER_NOT_LOADED = 9, "Driver Not Loaded";
    TIMEOUT = 10, "Timeout";
    IRQ_ISSUE = 11, "Interrupt Request Issue";
    LIBRARY_NOT_FOUND = 12, "NVML Shared Library Not Found";
    FUNCTION_NOT_FOUND = 13, "Function Not Found";
    CORRUPTED_INFOROM = 14, "Corrupted infoROM";
    GPU_IS_LOST = 15, "GPU is lost";
    RESET_REQUIRED = 16, "GPU requires reset";
    OPERATING_SYSTEM = 17, "GPU access blocked by the operating system";
    LIB_RM_VERSION_MISMATCH = 18, "Driver/library version mismatch";
    IN_USE = 19, "In use by another client";
    MEMORY = 20, "Insufficient Memory";
    NO_DATA = 21, "No data";
    VGPU_ECC_NOT_SUPPORTED = 22, "vGPU ECC not supported";
    INSUFFICIENT_RESOURCES = 23, "Insufficient Resources";
    FREQ_NOT_SUPPORTED = 24, "Invalid Frequency";
    ARGUMENT_VERSION_MISMATCH = 25, "Argument version mismatch";
    DEPRECATED = 26, "Requested functionality has been deprecated";
    NOT_READY = 27, "System is not in ready state";
    GPU_NOT_FOUND = 28, "No supported GPUs were found";
    INVALID_STATE = 29, "Resource not in correct state to perform requested operation";
    RESET_TYPE_NOT_SUPPORTED = 30, "Reset type is not supported for given device";
    UNKNOWN = 999, "Unknown Error";
}

impl Return {
    /// The code as a result: `Ok` for [`Return::SUCCESS`].
    ///
    /// # Errors
    /// The code itself, when it is any other.
    pub fn ok(self) -> Result<(), Return> {
        if self == Return::SUCCESS {
            Ok(())
        } else {
            Err(self)
        }
    }
}

impl fmt::Display for Return {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some("SUCCESS") => f.write_str("NVML_SUCCESS"),
            Some(name) => write!(f, "NVML_ERROR_{name}"),
            None => write!(f, "NVML return code {}", self.0),
        }
    }
}

impl std::error::Error for Return {}

/// The text names no return code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no NVML return code; give a number such as 15 or a name such as GPU_IS_LOST")]
pub struct UnknownReturn(String);

impl FromStr for Return {
    type Err = UnknownReturn;

    /// Reads `15`, `GPU_IS_LOST` or `NVML_ERROR_GPU_IS_LOST`, in any case.
    fn from_str(text: &str) -> Result<Return, UnknownReturn> {
        if let Ok(code) = text.parse() {
            return Ok(Return(code));
        }
        let upper = text.to_ascii_uppercase();
        let short = upper.strip_prefix("NVML_").unwrap_or(&upper);
        let short = short.strip_prefix("ERROR_").unwrap_or(short);
        Return::ALL
            .iter()
            .copied()
            .find(|code| code.name() == Some(short))
            .ok_or_else(|| UnknownReturn(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_read_back_from_its_number_and_both_its_names() {
        for code in Return::ALL {
            assert_eq!(code.0.to_string().parse(), Ok(*code));
            assert_eq!(code.to_string().parse(), Ok(*code));
            assert_eq!(code.name().unwrap().to_lowercase().parse(), Ok(*code));
        }
    }

    #[test]
    fn a_word_that_is_no_code_is_refused_by_name() {
        let error = "SLOW".parse::<Return>().unwrap_err();
        assert!(error.to_string().contains("'SLOW'"));
    }
}

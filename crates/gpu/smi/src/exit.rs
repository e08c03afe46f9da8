//! Exit codes, which nvidia-smi's manual page lists.

use nvml::{Error, ReturnCode};

use crate::reply::Reply;

/// An argument or option is wrong.
pub(crate) const INVALID_ARGUMENT: u8 = 2;
/// What was asked for is not there.
pub(crate) const NOT_FOUND: u8 = 6;
/// The library is not there.
const LIBRARY_NOT_FOUND: u8 = 12;
/// Anything that the manual page has no code for.
pub(crate) const OTHER: u8 = 255;

/// The exit code for an answer of NVML: the manual page's codes are NVML's own, as far as it lists them.
pub(crate) fn of_code(code: ReturnCode) -> u8 {
    match code.0 {
        0 => 0,
        2 | 3 | 4 | 6 | 8 | 9 | 10 | 12 | 13 | 14 | 15 => u8::try_from(code.0).unwrap_or(OTHER),
        _ => OTHER,
    }
}

/// NVML's answer in an error; `Unknown Error` for what is none.
pub(crate) fn code_of(error: &Error) -> ReturnCode {
    match error {
        Error::SymbolMissing { .. } => ReturnCode::ERROR_FUNCTION_NOT_FOUND,
        _ => error.code().unwrap_or(ReturnCode::ERROR_UNKNOWN),
    }
}

/// A driver that does not answer at all.
pub(crate) fn of_driver(error: &Error) -> Reply {
    let (code, text) = match error {
        Error::LibraryNotFound { .. } | Error::LibraryUnusable { .. } => (
            LIBRARY_NOT_FOUND,
            "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.".to_owned(),
        ),
        error if error.is(ReturnCode::ERROR_DRIVER_NOT_LOADED) => (
            of_code(ReturnCode::ERROR_DRIVER_NOT_LOADED),
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
                .to_owned(),
        ),
        error => {
            let code = code_of(error);
            (
                of_code(code),
                format!("Failed to initialize NVML: {}", code.text()),
            )
        }
    };
    Reply {
        detail: Some(error.to_string()),
        ..Reply::new(code, &text)
    }
}

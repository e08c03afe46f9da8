//! nvidia-smi on the driver root in `NVIDIA_DRIVER_ROOT`, or on this machine's own driver.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root =
        std::env::var_os("NVIDIA_DRIVER_ROOT").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    migpool_smi::run(&arguments, &root, &mut out, &mut err).into()
}

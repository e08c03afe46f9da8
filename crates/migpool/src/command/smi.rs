//! `migpool smi`, and the program when it is called as `nvidia-smi`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::driver_root::seen_from_here;
use crate::failure::Failure;

/// The name under which the program is nvidia-smi.
pub(crate) const NVIDIA_SMI: &str = "nvidia-smi";

/// nvidia-smi's everyday commands, e.g. `migpool smi -L`, `migpool smi mig -lgip`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub(crate) struct Smi {
    /// What nvidia-smi takes; `-h` lists it. The driver is found through NVIDIA_DRIVER_ROOT
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    arguments: Vec<OsString>,
}

impl Smi {
    /// Runs nvidia-smi's command.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        match execute(&self.arguments) {
            0 => Ok(()),
            code => Err(Failure::Silent(code)),
        }
    }
}

/// Whether the first word of the command line says that we are `nvidia-smi`.
pub(crate) fn is_called_as_nvidia_smi(arguments: &[OsString]) -> bool {
    arguments
        .first()
        .and_then(|program| Path::new(program).file_name())
        .is_some_and(|name| name == NVIDIA_SMI)
}

/// Runs as nvidia-smi.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    ExitCode::from(execute(arguments))
}

fn execute(arguments: &[OsString]) -> u8 {
    let driver_root =
        std::env::var_os("NVIDIA_DRIVER_ROOT").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    smi::run(
        arguments,
        &seen_from_here(&driver_root),
        &mut std::io::stdout().lock(),
        &mut std::io::stderr().lock(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_part_of_the_programs_path_counts() {
        assert!(is_called_as_nvidia_smi(&[
            "/pod/usr/bin/nvidia-smi".into(),
            "-L".into()
        ]));
        assert!(!is_called_as_nvidia_smi(&["/nvidia-smi/migpool".into()]));
    }
}

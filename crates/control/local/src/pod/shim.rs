//! The process between `up` and one container: it starts the container's command, holds its output,
//! restarts it by the pod's policy, ends it, and says what happened in files that `up` reads.

use std::path::PathBuf;
use std::process::ExitCode;

/// The arguments of `migpool pod-shim`; the command is for `up` alone and hidden from people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimArgs {
    /// The container's folder, which holds `container.json`. The first positional argument.
    pub folder: PathBuf,
    /// The shim's generation, `--generation N`: only one shim can ever claim one.
    pub generation: u64,
    /// `--exec`: the second stage, which becomes the container's own process.
    pub exec: bool,
}

/// Runs the shim to its end. Builds its own runtime; call it from a plain `main`.
#[must_use]
pub fn run(args: &ShimArgs) -> ExitCode {
    let _ = args;
    ExitCode::SUCCESS
}

//! `cargo xtask demo`: the article for every profile and strategy, and once as a user who is not root.

use std::path::Path;
use std::process::Command;

use crate::step::{self, Error, release_binary};

/// `nobody` and its group on Debian and most others; only the number matters.
const NOBODY: &str = "65534";

/// Runs all of it.
pub(crate) fn run() -> Result<(), Error> {
    let binary = release_binary()?;
    for strategy in ["single", "mixed"] {
        for profile in ["MIG1g", "MIG2g", "MIG3g", "MIG4g", "MIG7g"] {
            step::run(Command::new(&binary).args([
                "demo",
                "--mig-strategy",
                strategy,
                "--gpu-instance-profile",
                profile,
            ]))?;
        }
    }
    step::run(Command::new(&binary).args([
        "demo",
        "--node-vm-size",
        "Standard_NC24ads_A100_v4",
        "--gpu-instance-profile",
        "MIG2g",
        "--mig-strategy",
        "single",
    ]))?;
    as_nobody(&binary)
}

/// When we are root, runs the demo as nobody too; otherwise the runs above already were those of a plain user.
fn as_nobody(binary: &Path) -> Result<(), Error> {
    let user = Command::new("id").arg("-u").output()?;
    if String::from_utf8_lossy(&user.stdout).trim() != "0" {
        return Ok(());
    }
    // The checkout may lie where only root can look.
    let folder = tempfile::Builder::new().prefix("migpool-nobody-").tempdir()?;
    let copy = folder.path().join("migpool");
    std::fs::copy(binary, &copy)?;
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), permissions)?;
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
        .arg(&copy)
        .arg("demo")
        .env("HOME", "/nonexistent")
        .env_remove("XDG_STATE_HOME")
        .current_dir("/");
    step::run(&mut command)
}

//! `cargo xtask demo`: the article for every profile and strategy, and once as a user who is not root.

use std::path::Path;
use std::process::Command;

use crate::step::{self, Error, release_binary};

/// `nobody` and its group on Debian and most others; only the number matters.
const NOBODY: &str = "65534";

/// What eight A100 40GB give by the article's table: profile, slices, the resource of the mixed strategy.
const ARTICLE: [(&str, u32, &str); 5] = [
    ("MIG1g", 56, "mig-1g.5gb"),
    ("MIG2g", 24, "mig-2g.10gb"),
    ("MIG3g", 16, "mig-3g.20gb"),
    ("MIG4g", 8, "mig-4g.20gb"),
    ("MIG7g", 8, "mig-7g.40gb"),
];

/// Runs the demo once; what it prints must hold `line`, the article's own number.
fn demo(binary: &Path, arguments: &[&str], line: &str) -> Result<(), Error> {
    let mut held = false;
    step::run_reading(Command::new(binary).args(arguments), |read| {
        held |= read.contains(line);
    })?;
    if held {
        Ok(())
    } else {
        Err(Error::Other(format!("the demo did not print `{line}`")))
    }
}

/// Runs all of it.
pub(crate) fn run() -> Result<(), Error> {
    let binary = release_binary()?;
    for (profile, slices, mixed) in ARTICLE {
        for (strategy, resource) in [("single", "gpu"), ("mixed", mixed)] {
            let arguments = [
                "demo",
                "--mig-strategy",
                strategy,
                "--gpu-instance-profile",
                profile,
            ];
            demo(
                &binary,
                &arguments,
                &format!("Allocatable nvidia.com/{resource}: {slices} — {slices}"),
            )?;
        }
    }
    let arguments = [
        "demo",
        "--node-vm-size",
        "Standard_NC24ads_A100_v4",
        "--gpu-instance-profile",
        "MIG2g",
        "--mig-strategy",
        "single",
    ];
    demo(&binary, &arguments, "Allocatable nvidia.com/gpu: 3 — 3")?;
    as_nobody(&binary)
}

/// When we are root, runs the demo as nobody too; otherwise the runs above already were those of a plain user.
fn as_nobody(binary: &Path) -> Result<(), Error> {
    if !step::is_root() {
        return Ok(());
    }
    // The checkout may lie where only root can look.
    let folder = tempfile::Builder::new()
        .prefix("migpool-nobody-")
        .tempdir()?;
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

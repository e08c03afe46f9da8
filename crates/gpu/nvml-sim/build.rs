//! Builds the simulated `libnvidia-ml.so.1` (the crate in `library/`) so that this crate can carry it within itself.
//!
//! The nested build leaves the feature `host` out, so it does not come back here.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the outer build sets for its own compiler runs and the nested one must not inherit.
const OUTER_ONLY: [&str; 9] = [
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_LINKER",
    "RUSTDOC",
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_TARGET",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_HOST").is_none() {
        return Ok(());
    }
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    for path in [
        "src",
        "library/src",
        "library/data",
        "library/build.rs",
        "Cargo.toml",
        "library/Cargo.toml",
    ] {
        let path = here.join(path);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    let workspace = here
        .ancestors()
        .nth(3)
        .ok_or("the crate is not in its workspace")?;
    let lock_file = workspace.join("Cargo.lock");
    if lock_file.exists() {
        println!("cargo::rerun-if-changed={}", lock_file.display());
    }
    let library = build(workspace, lock_file.exists())?;
    println!(
        "cargo::rustc-env=MIGPOOL_NVML_SIM_LIBRARY={}",
        library.display()
    );
    Ok(())
}

fn build(workspace: &Path, locked: bool) -> Result<PathBuf, Box<dyn Error>> {
    let target_dir = PathBuf::from(env::var("OUT_DIR")?).join("library");
    let target = env::var("TARGET")?;
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo
        .args([
            "build",
            "--release",
            "--quiet",
            "--package",
            "migpool-nvml-sim-library",
        ])
        .arg("--target-dir")
        .arg(&target_dir)
        .current_dir(workspace);
    if locked {
        cargo.arg("--locked");
    }
    let mut output = target_dir;
    if target != env::var("HOST")? {
        cargo.args(["--target", &target]);
        output.push(&target);
    }
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let outer = OUTER_ONLY.contains(&name.as_ref())
            || name.starts_with("CARGO_FEATURE_")
            || name.starts_with("CARGO_CFG_")
            || name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_MANIFEST_");
        if outer {
            cargo.env_remove(name.as_ref());
        }
    }
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("building the simulated libnvidia-ml.so.1 failed: {status}").into());
    }
    let library = output.join("release/libnvidia_ml.so");
    if library.is_file() {
        Ok(library)
    } else {
        Err(format!("the nested build made no {}", library.display()).into())
    }
}

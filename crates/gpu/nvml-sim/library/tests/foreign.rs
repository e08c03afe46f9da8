//! Programs that we did not write: NVIDIA's own bindings for Python and Go against a simulated driver root.
//!
//! Where Python or Go is missing, or their packages can't be fetched, a test says so on standard error and is skipped. With
//! `CI=true` it fails instead.
#![allow(clippy::unwrap_used, reason = "a test's helpers may panic as the test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nvml_sim::root::DriverRoot;
use serde_json::Value;

/// What is missing for a test to run.
struct Missing(String);

/// Skips the test loudly, or fails it in CI.
fn skip(test: &str, Missing(what): Missing) {
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "{test} cannot run: {what}"
    );
    eprintln!("SKIPPED {test}: {what}");
}

/// The sources of a foreign program.
fn sources(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/foreign")
        .join(name)
}

/// Runs a step of the preparation. What it needs comes from the network, so that it may be missing.
fn prepare(what: &str, command: &mut Command) -> Result<Output, Missing> {
    match command.output() {
        Err(error) => Err(Missing(format!(
            "{what}: {}: {error}",
            command.get_program().display()
        ))),
        Ok(output) if output.status.success() => Ok(output),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(Missing(format!("{what} failed: {text}")))
        }
    }
}

/// Runs the program, which must succeed, and reads what it reports.
fn report(program: &mut Command) -> Value {
    let output = program.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Lets a program drive a machine of an A30 and an A100, and checks what it saw.
fn drive(program: impl FnOnce(&Path) -> Value) {
    let folder = tempfile::tempdir().unwrap();
    let boards = [
        (mig::board("A30").unwrap(), 1),
        (mig::board("A100-40GB").unwrap(), 1),
    ];
    let root = DriverRoot::create(folder.path().join("node"), &boards).unwrap();
    let mut found = program(&root.library_path());
    let uuid = found["mig_uuid"].take();
    assert!(
        uuid.as_str().is_some_and(|uuid| uuid.starts_with("MIG-")),
        "{uuid}"
    );
    let expected = serde_json::json!({
        "driver": "580.159.04",
        "gpus": ["NVIDIA A30", "NVIDIA A100-SXM4-40GB"],
        "placements": [0, 4],
        "profile_name": "MIG 3g.20gb",
        "no_room": "Insufficient Resources",
        "mig_name": "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        "mig_uuid": null,
        "slices": 3,
        "memory_mib": 19968,
        "in_use": "In use by another client",
        "left": 0,
    });
    assert_eq!(found, expected);
    let state = root.state().unwrap();
    assert!(state.gpus[1].mig_current && state.gpus[1].instances.is_empty());
}

/// A virtual environment with NVIDIA's bindings, kept between runs.
fn python() -> Result<PathBuf, Missing> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nvidia-ml-py");
    let program = folder.join("bin/python");
    let requirements = sources("python/requirements.txt");
    if !program.exists() {
        prepare(
            "making a virtual environment",
            Command::new("python3").args(["-m", "venv"]).arg(&folder),
        )?;
    }
    let mut pip = Command::new(&program);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
    ]);
    prepare("installing nvidia-ml-py from PyPI", pip.arg(requirements))?;
    Ok(program)
}

/// The Go program, built.
fn go() -> Result<PathBuf, Missing> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nvml-sim-foreign-go");
    let sources = sources("go");
    let mut download = Command::new("go");
    download.args(["mod", "download"]).current_dir(&sources);
    prepare("fetching go-nvml from the Go module proxy", &mut download)?;
    let mut build = Command::new("go");
    build
        .arg("build")
        .arg("-o")
        .arg(&program)
        .arg(".")
        .current_dir(&sources)
        .env("CGO_ENABLED", "1");
    let output = build
        .output()
        .map_err(|error| Missing(format!("go: {error}")))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    // With its modules there, a build that fails is a fault of ours and not something missing.
    assert!(output.status.success(), "{build:?}: {errors}");
    Ok(program)
}

#[test]
fn nvidia_ml_py_lists_makes_and_destroys_slices() {
    match python() {
        Err(missing) => skip("nvidia_ml_py_lists_makes_and_destroys_slices", missing),
        Ok(program) => drive(|library| {
            report(
                Command::new(program)
                    .arg(sources("python/slices.py"))
                    .arg(library),
            )
        }),
    }
}

#[test]
fn go_nvml_lists_makes_and_destroys_slices() {
    match go() {
        Err(missing) => skip("go_nvml_lists_makes_and_destroys_slices", missing),
        Ok(program) => drive(|library| report(Command::new(program).arg(library))),
    }
}

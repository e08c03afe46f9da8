//! Simulated driver roots from the command line.

use crate::control_plane::{migpool, stdout};

#[test]
fn a_mixed_machine_shows_its_boards_to_any_nvml_program() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let root = root.to_str().unwrap();
    stdout(migpool().args([
        "sim",
        "create",
        root,
        "--board",
        "A100-SXM4-40GB",
        "--count",
        "2",
        "--board",
        "H200-141GB",
    ]));
    let listing = stdout(
        migpool()
            .args(["smi", "-L"])
            .env("NVIDIA_DRIVER_ROOT", root),
    );
    let lines: Vec<_> = listing.lines().collect();
    assert_eq!(lines.len(), 3, "{listing}");
    assert!(
        lines[0].starts_with("GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-"),
        "{listing}"
    );
    assert!(
        lines[2].starts_with("GPU 2: NVIDIA H200 (UUID: GPU-"),
        "{listing}"
    );
    let shown = stdout(migpool().args(["sim", "show", root]));
    assert!(shown.to_lowercase().contains("simulated"), "{shown}");
}

#[test]
fn an_injected_fault_is_seen_and_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let root = root.to_str().unwrap();
    stdout(migpool().args(["sim", "create", root, "--board", "A100-40GB"]));
    stdout(migpool().args(["sim", "inject", root, "lost", "--gpu", "0"]));
    let output = migpool()
        .args(["partition", "apply", "MIG1g", "--partition-state-dir"])
        .arg(folder.path().join("p"))
        .env("NVIDIA_DRIVER_ROOT", root)
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(1),
        "a lost GPU is a failure, in words"
    );
    stdout(migpool().args(["sim", "inject", root, "clear"]));
    stdout(
        migpool()
            .args(["partition", "apply", "MIG1g", "--partition-state-dir"])
            .arg(folder.path().join("p"))
            .env("NVIDIA_DRIVER_ROOT", root),
    );
    let listing = stdout(
        migpool()
            .args(["smi", "-L"])
            .env("NVIDIA_DRIVER_ROOT", root),
    );
    assert_eq!(
        listing
            .lines()
            .filter(|line| line.contains("MIG 1g.5gb"))
            .count(),
        7,
        "{listing}"
    );
}

//! Each node component alone, as on a real node.

use std::path::Path;

use crate::control_plane::{failure, migpool, stdout};

fn root(folder: &Path, board: &str, count: &str) -> String {
    let root = folder.join("root").to_str().unwrap().to_owned();
    stdout(migpool().args(["sim", "create", &root, "--board", board, "--count", count]));
    root
}

#[test]
fn partition_plans_applies_asserts_and_exports() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(folder.path(), "A100-40GB", "2");
    let state = folder.path().join("state").to_str().unwrap().to_owned();
    let run = |words: &[&str]| {
        let mut command = migpool();
        command
            .args(words)
            .env("NVIDIA_DRIVER_ROOT", &root)
            .env("MIGPOOL_PARTITION_STATE_DIR", &state);
        command
    };
    let layout = "0=3g.20gb,2g.10gb,1g.5gb*2;1=off";
    assert!(stdout(&mut run(&["partition", "plan", layout])).contains("driver calls"));
    let (code, _) = failure(&mut run(&["partition", "assert", layout]));
    assert_eq!(code, 1, "nothing was changed by the plan");
    stdout(&mut run(&["partition", "apply", layout]));
    stdout(&mut run(&["partition", "assert", layout]));
    let exported = stdout(&mut run(&["partition", "export"]));
    stdout(&mut run(&["partition", "assert", exported.trim()]));
    let again = stdout(&mut run(&["partition", "apply", exported.trim()]));
    assert!(again.contains("nothing had to change"), "{again}");
    let log = stdout(&mut run(&["partition", "log"]));
    assert!(
        log.contains("GpuInstance"),
        "the journal says what was done: {log}"
    );
}

#[test]
fn a_layout_that_does_not_fit_is_refused_with_the_nearest_that_does() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(folder.path(), "A100-40GB", "1");
    let (code, said) = failure(
        migpool()
            .args([
                "partition",
                "apply",
                "4g.20gb*2",
                "--driver-root",
                &root,
                "--partition-state-dir",
            ])
            .arg(folder.path().join("s")),
    );
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("nearest"), "{said}");
    let listing = stdout(
        migpool()
            .args(["smi", "-L"])
            .env("NVIDIA_DRIVER_ROOT", &root),
    );
    assert_eq!(listing.lines().count(), 1, "nothing was changed: {listing}");
}

#[test]
fn feature_discovery_writes_the_labels_once() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(folder.path(), "H200-141GB", "1");
    let labels = stdout(migpool().args([
        "feature-discovery",
        "--oneshot",
        "--mig-strategy",
        "single",
        "--output-file",
        "-",
        "--driver-root",
        &root,
    ]));
    assert!(
        labels.contains("nvidia.com/gpu.product=NVIDIA-H200\n"),
        "{labels}"
    );
    assert!(labels.contains("nvidia.com/mig.capable=true\n"), "{labels}");
}

#[test]
fn profiles_need_no_gpu() {
    let text = stdout(migpool().args(["profiles", "--board", "A100-80GB"]));
    assert!(text.contains("1g.10gb") && text.contains("MIG1g"), "{text}");
    let text = stdout(migpool().args(["profiles", "--node-vm-size", "Standard_ND96isr_H200_v5"]));
    assert!(text.contains("7g.141gb"), "{text}");
}

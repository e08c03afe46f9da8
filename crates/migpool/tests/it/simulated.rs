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

/// A slice of a simulated machine, by the numbers that `sim show -o json` tells.
struct Slice {
    gpu: u64,
    gi: u64,
    ci: u64,
    uuid: String,
    capabilities: [u64; 2],
}

/// A machine of one A100 in slices of 3g.20gb, and what is on it.
fn sliced() -> (tempfile::TempDir, std::path::PathBuf, Vec<Slice>) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let create = ["--board", "A100-SXM4-40GB", "--count", "1"];
    stdout(migpool().args(["sim", "create"]).arg(&root).args(create));
    stdout(
        migpool()
            .args(["partition", "apply", "MIG3g", "--partition-state-dir"])
            .arg(folder.path().join("p"))
            .env("NVIDIA_DRIVER_ROOT", &root),
    );
    let shown = stdout(migpool().args(["sim", "show", "-o", "json"]).arg(&root));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["simulated"], true);
    let mut slices = Vec::new();
    for gpu in shown["gpus"].as_array().unwrap() {
        for gi in gpu["gpuInstances"].as_array().unwrap() {
            for ci in gi["computeInstances"].as_array().unwrap() {
                slices.push(Slice {
                    gpu: gpu["minor"].as_u64().unwrap(),
                    gi: gi["id"].as_u64().unwrap(),
                    ci: ci["id"].as_u64().unwrap(),
                    uuid: ci["uuid"].as_str().unwrap().to_owned(),
                    capabilities: [&gi["capability"], &ci["capability"]]
                        .map(|minor| minor.as_u64().unwrap()),
                });
            }
        }
    }
    (folder, root, slices)
}

#[test]
fn a_slice_gets_an_xid_by_its_numbers_or_its_uuid_and_one_that_is_not_there_is_refused() {
    let (_folder, root, slices) = sliced();
    assert_eq!(slices.len(), 2);
    let slice = &slices[1];
    let inject = |arguments: &[&str]| {
        let mut command = migpool();
        command.args(["sim", "inject"]).arg(&root).args(arguments);
        command
    };
    let (gpu, gi, ci) = (
        slice.gpu.to_string(),
        slice.gi.to_string(),
        slice.ci.to_string(),
    );
    let numbers = [
        "xid", "--xid", "94", "--gpu", &gpu, "--gi", &gi, "--ci", &ci,
    ];
    let by_numbers = stdout(&mut inject(&numbers));
    let by_uuid = stdout(&mut inject(&["xid", "--xid", "94", "--uuid", &slice.uuid]));
    assert_eq!(by_numbers, by_uuid);
    let state = nvml_sim::DriverRoot::open(&root).unwrap().state().unwrap();
    let xids: Vec<_> = state
        .events
        .iter()
        .filter(|event| event.data == 94)
        .collect();
    assert_eq!(xids.len(), 2);
    for event in xids {
        assert_eq!(u64::from(event.gpu_instance.unwrap()), slice.gi);
        assert_eq!(u64::from(event.compute_instance.unwrap()), slice.ci);
    }
    for wrong in [
        &["xid", "--xid", "94", "--gpu", "7"][..],
        &["xid", "--xid", "94", "--gpu", "0", "--gi", "13"],
        &["xid", "--xid", "94", "--gpu", "0", "--gi", &gi, "--ci", "5"],
        &["xid", "--xid", "94"],
    ] {
        let refused = inject(wrong).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}");
    }
    let after = nvml_sim::DriverRoot::open(&root).unwrap().state().unwrap();
    assert_eq!(after.events.len(), state.events.len());
}

#[test]
fn a_lost_gpu_is_back_when_the_faults_are_cleared() {
    let (_folder, root, _) = sliced();
    let sim = |arguments: &[&str]| {
        let mut command = migpool();
        command
            .args(["sim", arguments[0]])
            .arg(&root)
            .args(&arguments[1..]);
        stdout(&mut command)
    };
    let said = sim(&["inject", "lost", "--gpu", "0"]);
    assert!(said.contains("clear"), "{said}");
    assert!(sim(&["show"]).contains("LOST"));
    sim(&["inject", "clear"]);
    assert!(!sim(&["show"]).contains("LOST"));
}

/// A container's root has the library, the firmware and a few device files, and no `/proc` of a driver.
#[test]
fn in_a_container_nvidia_smi_lists_its_one_slice_and_may_destroy_nothing() {
    let (folder, root, slices) = sliced();
    let slice = &slices[0];
    let container = folder.path().join("container");
    let put = |from: &str, to: &str| {
        let to = container.join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::hard_link(root.join(from).canonicalize().unwrap(), to).unwrap();
    };
    let library = "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1";
    put(library, library);
    let firmware = "lib/firmware/nvidia/580.159.04/gsp_simulated.bin";
    put(firmware, firmware);
    let mut devices = vec!["nvidiactl".to_owned(), format!("nvidia{}", slice.gpu)];
    devices.extend(
        slice
            .capabilities
            .map(|minor| format!("nvidia-caps/nvidia-cap{minor}")),
    );
    for device in devices {
        put(&format!("dev/{device}"), &format!("dev/{device}"));
    }
    let smi = |arguments: &[&str]| {
        let mut command = migpool();
        command
            .arg("smi")
            .args(arguments)
            .env("NVIDIA_DRIVER_ROOT", &container);
        command
    };
    let listing = stdout(&mut smi(&["-L"]));
    assert_eq!(listing.lines().count(), 2, "{listing}");
    assert!(listing.contains(&slice.uuid), "{listing}");
    let refused = smi(&["mig", "-dgi"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stdout);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("Insufficient Permissions"), "{said}");
    let node = stdout(
        migpool()
            .args(["smi", "-L"])
            .env("NVIDIA_DRIVER_ROOT", &root),
    );
    assert_eq!(node.lines().count(), 3, "{node}");
}

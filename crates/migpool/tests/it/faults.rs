//! Faults of a node's GPUs, as the control plane shows them.

use std::path::PathBuf;

use crate::control_plane::ControlPlane;

/// A node of eight A100s in 56 slices, and its simulated driver root.
fn node() -> (ControlPlane, PathBuf) {
    let plane = ControlPlane::with_cluster();
    plane.add_pool(
        "mignode",
        &[
            "-s",
            "Standard_ND96asr_v4",
            "--gpu-instance-profile",
            "MIG1g",
            "-c",
            "1",
        ],
    );
    let node = plane.json(&["node", "describe", "mignode"]);
    let name = node[0]["spec"]["name"].as_str().unwrap();
    let root = plane.state_dir().join("nodes").join(name).join("root");
    (plane, root)
}

fn inject(plane: &ControlPlane, root: &std::path::Path, fault: &[&str]) {
    plane.run(&[&["sim", "inject", root.to_str().unwrap()], fault].concat());
}

fn allocatable(plane: &ControlPlane, count: u64) {
    plane.eventually(&format!("{count} slices are allocatable"), |plane| {
        let node = plane.json(&["node", "describe", "mignode"]);
        (node[0]["allocatable"]["nvidia.com/gpu"] == count).then_some(())
    });
}

#[test]
fn an_xid_takes_one_slice_away_and_the_map_shows_which() {
    let (plane, root) = node();
    inject(
        &plane,
        &root,
        &["xid", "--gpu", "2", "--xid", "48", "--gpu-instance", "9"],
    );
    allocatable(&plane, 55);
    let node = plane.json(&["node", "describe", "mignode"]);
    let said = node[0]["message"].as_str().unwrap();
    assert!(
        said.starts_with("GPU 2 (GPU-") && said.contains(") GPU instance 9: XID 48 ("),
        "{said}"
    );
    assert_eq!(node[0]["ready"], true, "the other slices go on");
    let map = plane.run(&["node", "map", "mignode"]);
    assert_eq!(map.matches("unhealthy").count(), 1, "{map}");
}

#[test]
fn a_lost_gpu_takes_its_seven_slices_and_stays_on_the_map_with_the_reason() {
    let (plane, root) = node();
    inject(&plane, &root, &["lost", "--gpu", "5"]);
    allocatable(&plane, 49);
    let map = plane.run(&["node", "map", "mignode"]);
    assert_eq!(map.matches("GPU 5  ").count(), 1, "{map}");
    assert!(
        map.contains("UNHEALTHY") && map.contains("GPU is lost"),
        "{map}"
    );
    inject(&plane, &root, &["clear"]);
    allocatable(&plane, 56);
    let map = plane.run(&["node", "map", "mignode"]);
    assert!(!map.contains("UNHEALTHY"), "{map}");
}

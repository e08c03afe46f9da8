//! `migpool node map --this-node`: what the driver and the kubelet of a machine say, without a control plane.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::control_plane::{ControlPlane, failure, migpool, stdout};

const POD: &str = "apiVersion: v1
kind: Pod
metadata:
  name: train
spec:
  containers:
  - name: main
    image: nvidia/cuda:12.1.1-base-ubuntu22.04
    command: [sleep, \"1000\"]
    resources:
      limits:
        nvidia.com/gpu: 1
";

/// The folder of the only node that has GPUs.
fn gpu_node(plane: &ControlPlane) -> PathBuf {
    let nodes = std::fs::read_dir(plane.state_dir().join("nodes")).unwrap();
    let mut folders = nodes.map(|node| node.unwrap().path());
    folders
        .find(|folder| folder.join("root/sim").exists())
        .unwrap()
}

fn map(root: &Path, socket: &Path, more: &[&str]) -> String {
    stdout(
        migpool()
            .args(["node", "map", "--this-node", "--driver-root"])
            .arg(root)
            .arg("--pod-resources-socket")
            .arg(socket)
            .args(["--node-name", "mignode"])
            .args(more),
    )
}

fn holders(map: &Value) -> Vec<(&str, &str)> {
    let gpus = map["gpus"].as_array().unwrap().iter();
    let slices = gpus.flat_map(|gpu| gpu["slices"].as_array().unwrap());
    slices
        .filter_map(|slice| {
            let holder = slice["holder"]["pod"].as_str()?;
            Some((slice["uuid"].as_str().unwrap(), holder))
        })
        .collect()
}

#[test]
fn the_map_names_the_pod_that_the_kubelet_gave_a_slice_to() {
    let plane = ControlPlane::with_cluster();
    plane.add_pool(
        "mignode",
        &[
            "-s",
            "Standard_ND96asr_v4",
            "--gpu-instance-profile",
            "MIG3g",
            "-c",
            "1",
        ],
    );
    let file = plane.file("train.yaml", POD);
    plane.run(&["pod", "run", "-f", &file]);
    let devices = plane.eventually("the pod runs", |plane| {
        Some(plane.devices_of_pods("Running")).filter(|devices| devices.len() == 1)
    });
    let node = gpu_node(&plane);
    let (root, socket) = (node.join("root"), node.join("kubelet/pod-resources.sock"));

    let seen: Value = serde_json::from_str(&map(&root, &socket, &["-o", "json"])).unwrap();
    assert_eq!(holders(&seen), [(devices[0].as_str(), "train")]);
    assert_eq!(seen["kubeletFailure"], "");
    assert_eq!(seen["astray"], serde_json::json!([]));
    let drawn = map(&root, &socket, &[]);
    assert!(drawn.starts_with("mignode (driver "), "{drawn}");
    assert_eq!(drawn.matches("|train").count(), 1, "{drawn}");
    assert_eq!(drawn.matches("|free").count(), 15, "{drawn}");
    assert!(map(&root, &socket, &["-o", "yaml"]).contains("pod: train"));
    // As in a container that sees the node's root in a folder of its own.
    let below: Value = serde_json::from_str(&stdout(
        migpool()
            .args(["node", "map", "--this-node", "-o", "json"])
            .args(["--driver-root", "/root", "--host-root"])
            .arg(&node)
            .arg("--pod-resources-socket")
            .arg(&socket),
    ))
    .unwrap();
    assert_eq!(below["gpus"], seen["gpus"]);

    // The slice is destroyed under the pod.
    let mut destroy = migpool();
    destroy
        .env("NVIDIA_DRIVER_ROOT", &root)
        .args(["smi", "mig"]);
    stdout(destroy.args(["-dci"]));
    let mut destroy = migpool();
    destroy
        .env("NVIDIA_DRIVER_ROOT", &root)
        .args(["smi", "mig"]);
    stdout(destroy.args(["-dgi"]));
    let drawn = map(&root, &socket, &[]);
    let told = format!(
        "pod default/train, container main: holds {} (nvidia.com/gpu), which the driver does not have",
        devices[0]
    );
    assert!(drawn.contains(&told), "{drawn}");
}

#[test]
fn without_a_kubelet_the_gpus_are_drawn_and_nothing_is_called_free() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    stdout(
        migpool()
            .args(["sim", "create", "--board", "A100-40GB", "--count", "2"])
            .arg(&root),
    );
    let socket = folder.path().join("nobody.sock");
    let drawn = map(&root, &socket, &[]);
    assert!(drawn.contains("[whole GPU: ?]"), "{drawn}");
    assert!(!drawn.contains("free"), "{drawn}");
    assert!(
        drawn.contains("Who holds what is not known") && drawn.contains("nobody.sock"),
        "{drawn}"
    );
}

#[test]
fn without_a_driver_it_says_where_it_looked() {
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = failure(
        migpool()
            .args(["node", "map", "--this-node", "--driver-root"])
            .arg(folder.path()),
    );
    assert_eq!(code, 1);
    assert!(
        said.contains("libnvidia-ml.so.1") && said.contains("--nvidia-driver-root"),
        "{said}"
    );
}

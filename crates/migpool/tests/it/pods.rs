//! Pods and their slices.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::control_plane::ControlPlane;

const SIZE: &str = "Standard_ND96asr_v4";

fn manifest(names: impl Iterator<Item = String>, resource: &str) -> String {
    let mut text = String::new();
    for name in names {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  containers:\n  - name: main\n    \
             image: nvidia/cuda:12.1.1-base-ubuntu22.04\n    command: [sleep, \"1000\"]\n    resources:\n      limits:\n        \
             {resource}: 1\n"
        );
    }
    text
}

#[test]
fn fifty_six_pods_hold_fifty_six_slices_the_57th_waits_and_a_kill_changes_nothing() {
    let mut plane = ControlPlane::with_cluster();
    plane.add_pool(
        "mignode",
        &["-s", SIZE, "--gpu-instance-profile", "MIG1g", "-c", "1"],
    );
    let names = (0..56).map(|n| format!("p{n}"));
    let file = plane.file("pods.yaml", &manifest(names, "nvidia.com/gpu"));
    plane.run(&["pod", "run", "-f", &file]);
    plane.eventually("56 pods run", |plane| {
        (plane.devices_of_pods("Running").len() == 56).then_some(())
    });
    let before = plane.devices_of_pods("Running");
    assert_eq!(
        before.iter().collect::<BTreeSet<_>>().len(),
        56,
        "each slice is held once"
    );

    let last = plane.file(
        "last.yaml",
        &manifest(["last".to_owned()].into_iter(), "nvidia.com/gpu"),
    );
    plane.run(&["pod", "run", "-f", &last]);
    let waiting = plane
        .pods()
        .into_iter()
        .find(|pod| pod["name"] == "last")
        .unwrap();
    assert_eq!(waiting["phase"], "Pending");
    let why = waiting["message"].as_str().unwrap();
    assert!(why.contains("Insufficient nvidia.com/gpu"), "{why}");

    plane.kill();
    plane.up();
    plane.eventually("56 pods run again", |plane| {
        (plane.devices_of_pods("Running").len() == 56).then_some(())
    });
    assert_eq!(
        plane.devices_of_pods("Running"),
        before,
        "who holds what is as it was"
    );

    plane.run(&["pod", "delete", "p7"]);
    plane.eventually("the 57th runs", |plane| {
        plane
            .pods()
            .iter()
            .any(|pod| pod["name"] == "last" && pod["phase"] == "Running")
            .then_some(())
    });
    let after = plane.devices_of_pods("Running");
    assert_eq!(
        after.iter().collect::<BTreeSet<_>>().len(),
        56,
        "each slice is held once"
    );
}

#[test]
fn two_pods_see_different_slices_and_each_only_its_own() {
    let plane = ControlPlane::with_cluster();
    plane.add_pool(
        "mignode",
        &[
            "-s",
            "Standard_NC24ads_A100_v4",
            "--gpu-instance-profile",
            "MIG1g",
            "-c",
            "1",
            "--mig-strategy",
            "mixed",
        ],
    );
    let names = ["a", "b"].map(str::to_owned).into_iter();
    let file = plane.file("pods.yaml", &manifest(names, "nvidia.com/mig-1g.10gb"));
    plane.run(&["pod", "run", "-f", &file]);
    let seen = |pod: &str| plane.run(&["pod", "exec", pod, "--", "nvidia-smi", "-L"]);
    let (a, b) = (seen("a"), seen("b"));
    for listing in [&a, &b] {
        assert_eq!(listing.lines().count(), 2, "{listing}");
        assert!(listing.contains("MIG 1g.10gb"), "{listing}");
    }
    assert_eq!(
        a.lines().next(),
        b.lines().next(),
        "both are on the one GPU"
    );
    assert_ne!(
        a.lines().nth(1),
        b.lines().nth(1),
        "each on a slice of its own"
    );
}

#[test]
fn a_pod_cannot_change_the_slices_of_its_gpu() {
    let plane = ControlPlane::with_cluster();
    plane.add_pool(
        "mignode",
        &[
            "-s",
            "Standard_NC24ads_A100_v4",
            "--gpu-instance-profile",
            "MIG1g",
            "-c",
            "1",
        ],
    );
    let file = plane.file(
        "pod.yaml",
        &manifest(["a".to_owned()].into_iter(), "nvidia.com/gpu"),
    );
    plane.run(&["pod", "run", "-f", &file]);
    let (code, _) = plane.fails(&["pod", "exec", "a", "--", "nvidia-smi", "mig", "-dci"]);
    assert_ne!(code, 0);
    let node = plane.json(&["node", "describe", "mignode"]);
    assert_eq!(
        node[0]["allocatable"]["nvidia.com/gpu"], 7,
        "nothing was destroyed"
    );
}

#[test]
fn a_resource_that_no_node_has_keeps_the_pod_pending_with_the_reason() {
    let plane = ControlPlane::with_cluster();
    let file = plane.file(
        "pod.yaml",
        &manifest(["a".to_owned()].into_iter(), "nvidia.com/mig-9g.99gb"),
    );
    let text = plane.run(&["pod", "run", "-f", &file]);
    assert!(
        text.contains("Pending") && text.contains("Insufficient nvidia.com/mig-9g.99gb"),
        "{text}"
    );
}

#[test]
fn what_a_pod_writes_is_in_its_log_and_an_image_that_is_not_pulled_is_said() {
    let plane = ControlPlane::with_cluster();
    let file = plane.file(
        "pod.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: talks\nspec:\n  restartPolicy: Never\n  containers:\n  - name: main\n    image: busybox\n    command: [sh, -c, \"echo hello; echo world >&2; exit 3\"]\n",
    );
    let output = plane
        .command(&["pod", "run", "-f", &file])
        .output()
        .unwrap();
    assert!(output.status.success());
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        notes.contains("image"),
        "it says that the image is not pulled: {notes}"
    );
    plane.eventually("it ends", |plane| {
        plane
            .pods()
            .iter()
            .any(|pod| pod["phase"] == "Failed")
            .then_some(())
    });
    let log = plane.run(&["pod", "logs", "talks"]);
    assert!(log.contains("hello") && log.contains("world"), "{log}");
    assert_eq!(plane.pods()[0]["containers"][0]["exitCode"], 3);
}

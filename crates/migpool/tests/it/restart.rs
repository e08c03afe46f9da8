//! `migpool up` may be ended in any way at any time.

use crate::control_plane::{CLUSTER, ControlPlane, GROUP, failure};

const SIZE: &str = "Standard_NC48ads_A100_v4";

#[test]
fn pools_nodes_and_slices_are_as_they_were_after_a_kill() {
    let mut plane = ControlPlane::with_cluster();
    plane.add_pool(
        "mignode",
        &["-s", SIZE, "--gpu-instance-profile", "MIG2g", "-c", "2"],
    );
    let slices = |plane: &ControlPlane| {
        let nodes = plane.json(&["node", "describe", "mignode"]);
        nodes
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|node| node["gpus"].as_array().unwrap().clone())
            .flat_map(|gpu| gpu["slices"].as_array().unwrap().clone())
            .map(|slice| slice["uuid"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let before = slices(&plane);
    assert_eq!(before.len(), 12);
    plane.kill();
    plane.up();
    plane.eventually("both nodes are Ready again", |plane| {
        let nodes = plane.json(&["node", "describe", "mignode"]);
        let all = nodes
            .as_array()
            .unwrap()
            .iter()
            .all(|node| node["ready"] == true && node["allocatable"]["nvidia.com/gpu"] == 6);
        all.then_some(())
    });
    assert_eq!(slices(&plane), before, "the same slices, not new ones");
    let pool = plane.json(&[
        "nodepool",
        "show",
        "--name",
        "mignode",
        "-g",
        GROUP,
        "--cluster-name",
        CLUSTER,
    ]);
    assert_eq!(pool["properties"]["provisioningState"], "Succeeded");
}

#[test]
fn a_pool_that_was_being_made_when_up_was_killed_is_finished_by_the_next() {
    let mut plane = ControlPlane::with_cluster();
    plane.add_pool(
        "mignode",
        &[
            "-s",
            SIZE,
            "--gpu-instance-profile",
            "MIG1g",
            "-c",
            "3",
            "--no-wait",
        ],
    );
    plane.kill();
    plane.up();
    plane.eventually("the pool has succeeded", |plane| {
        let pool = plane.json(&[
            "nodepool",
            "show",
            "--name",
            "mignode",
            "-g",
            GROUP,
            "--cluster-name",
            CLUSTER,
        ]);
        (pool["properties"]["provisioningState"] == "Succeeded").then_some(())
    });
    let nodes = plane.json(&["node", "describe", "mignode"]);
    assert_eq!(nodes.as_array().unwrap().len(), 3);
}

#[test]
fn scaling_keeps_the_nodes_that_stay_and_deleting_takes_all() {
    let plane = ControlPlane::with_cluster();
    plane.add_pool(
        "mignode",
        &["-s", SIZE, "--gpu-instance-profile", "MIG1g", "-c", "1"],
    );
    let pool = ["--name", "mignode", "-g", GROUP, "--cluster-name", CLUSTER];
    let names = |plane: &ControlPlane| {
        let nodes = plane.json(&["node", "list"]);
        nodes
            .as_array()
            .unwrap()
            .iter()
            .filter(|node| node["gpus"].as_array().is_some_and(|gpus| !gpus.is_empty()))
            .map(|node| node["spec"]["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let first = names(&plane);
    plane.run(&[&["nodepool", "scale", "-c", "3"], pool.as_slice()].concat());
    let three = names(&plane);
    assert_eq!(three.len(), 3);
    assert!(three.contains(&first[0]));
    plane.run(&[&["nodepool", "scale", "-c", "1"], pool.as_slice()].concat());
    assert_eq!(names(&plane), first);
    plane.run(&[&["nodepool", "delete"], pool.as_slice()].concat());
    assert!(names(&plane).is_empty());
}

#[test]
fn a_second_up_on_the_same_folder_is_refused_and_harms_nothing() {
    let plane = ControlPlane::with_cluster();
    let (code, said) = failure(&mut plane.command(&["up"]));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("up"), "{said}");
    plane.run(&["cluster", "list"]);
}

//! What is done with node pools beside making, scaling and deleting them.

use serde_json::{Value, json};

use crate::control_plane::{CLUSTER, ControlPlane, GROUP};

/// `migpool nodepool COMMAND` about the pool `mignode`.
fn about(command: &str) -> Vec<&str> {
    vec![
        "nodepool",
        command,
        "--name",
        "mignode",
        "-g",
        GROUP,
        "--cluster-name",
        CLUSTER,
    ]
}

/// The names of the pool's nodes.
fn nodes(plane: &ControlPlane) -> Vec<String> {
    let nodes = plane.json(&["node", "list"]);
    let nodes = nodes.as_array().expect("a list");
    let name = |node: &Value| node["spec"]["name"].as_str().expect("a name").to_owned();
    let is_ours = |name: &String| name.contains("mignode");
    nodes.iter().map(name).filter(is_ours).collect()
}

#[test]
fn a_pool_is_stopped_and_started_and_loses_the_nodes_that_are_named() {
    let plane = ControlPlane::with_cluster();
    plane.add_pool(
        "mignode",
        &[
            "--node-vm-size",
            "Standard_NC24ads_A100_v4",
            "--gpu-instance-profile",
            "MIG2g",
            "--node-count",
            "2",
        ],
    );
    let before = nodes(&plane);
    assert_eq!(before.len(), 2);

    plane.run(&about("stop"));
    assert!(nodes(&plane).is_empty());
    let stopped = plane.json(&about("show"));
    assert_eq!(stopped["properties"]["powerState"]["code"], "Stopped");
    assert_eq!(stopped["properties"]["count"], json!(2));
    plane.run(&about("start"));
    assert_eq!(nodes(&plane), before);

    let mut delete = about("delete-machines");
    delete.extend(["--machine-names", &before[0]]);
    plane.run(&delete);
    assert_eq!(nodes(&plane), before[1..]);
    let (code, said) = plane.fails(&delete);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("none was deleted"), "{said}");

    let (code, said) = plane.fails(&about("operation-abort"));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no operation in progress"), "{said}");
}

//! The agent and the node's `GpuNode`: what it wants is followed, and what is seen is told.

use std::time::Duration;

use crate::api_server::{ApiServer, NODE};
use crate::gpu_nodes::GpuNodes;
use crate::kubelet::Kubelet;
use crate::node::Node;
use crate::pod_resources::PodResources;
use migpool_agent::{AgentConfig, probe};
use serde_json::{Value, json};

const GPU: &str = "nvidia.com/gpu";
const MIG_1G: &str = "nvidia.com/mig-1g.5gb";
const MIG_3G: &str = "nvidia.com/mig-3g.20gb";

/// An agent that follows the node's `GpuNode`; its own flags want this layout.
fn config(node: &Node, server: &ApiServer, layout: &str) -> AgentConfig {
    AgentConfig {
        cluster: Some(server.config()),
        gpu_node: true,
        ..node.config(layout, "mixed")
    }
}

/// What a pool wants.
fn pooled(layout: &str) -> Value {
    json!({"pool": {"name": "training", "uid": "pool-uid"}, "layout": layout})
}

async fn until(server: &ApiServer, wanted: impl Fn(&GpuNodes) -> bool) {
    server.until(|cluster| wanted(&cluster.gpu_nodes)).await;
}

#[tokio::test]
async fn a_pools_layout_is_made_without_a_restart_and_the_flags_come_back_when_it_lets_go() {
    let mut node = Node::with_gpus(2);
    let server = ApiServer::start(&node).await;
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(config(&node, &server, "1g.5gb"));
    kubelet.until_counts(MIG_1G, 14, 14).await;
    until(&server, |it| it.says("Ready")).await;
    let object = server.now().gpu_nodes.object.clone().unwrap();
    assert_eq!(object["spec"], json!({}));
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "uid");
    assert_eq!(object["status"]["layout"], "1g.5gb");
    assert_eq!(object["status"]["summary"], "2 x A100-40GB");

    server.now().gpu_nodes.want(&pooled("0=1g.5gb;1=3g.20gb"));
    kubelet.until_counts(MIG_3G, 2, 2).await;
    let before = kubelet.until_counts(MIG_1G, 7, 7).await;
    until(&server, |it| it.says("Ready")).await;
    let status = server.now().gpu_nodes.status().clone();
    assert_eq!(status["observedGeneration"], 2);
    assert_eq!(status["layout"], "0=1g.5gb;1=3g.20gb");
    assert_eq!(status["currentLayout"], "0=1g.5gb*7;1=3g.20gb*2");
    assert_eq!(
        (&status["slices"], &status["slicesInUse"]),
        (&json!(9), &json!(0))
    );
    assert_eq!(status["resources"], json!({MIG_1G: 7, MIG_3G: 2}));
    assert_ne!(status["lastActions"], Value::Null);
    let of_agent = node.until(|status| status["phase"] == "ready").await;
    assert_eq!(of_agent["gpu_node"]["pool"], "training");

    server.now().gpu_nodes.want(&json!({}));
    let after = kubelet.until_counts(MIG_1G, 14, 14).await;
    assert_eq!(after.endpoint, before.endpoint, "nothing was started anew");
    until(&server, |it| it.says("Ready")).await;
    assert_eq!(server.now().gpu_nodes.status()["layout"], "1g.5gb");

    node.stop().await;
    let status = server.now().gpu_nodes.status().clone();
    assert_eq!(status["phase"], "Stopped");
    assert_eq!(status["resources"], Value::Null);
}

#[tokio::test]
async fn a_node_that_a_pool_has_is_not_partitioned_by_the_flags_first() {
    let mut node = Node::with_gpus(1);
    let server = ApiServer::start(&node).await;
    server.now().gpu_nodes.make("uid", &pooled("3g.20gb"));
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(config(&node, &server, "1g.5gb"));
    kubelet.until_counts(MIG_3G, 2, 2).await;
    until(&server, |it| it.says("Ready")).await;
    assert!(!kubelet.names().contains(&MIG_1G.to_owned()));
    node.stop().await;

    // The next agent finds other GPUs and no server, and remembers.
    node.partition("off");
    let away = ApiServer::away(&node).await;
    node.start(config(&node, &away, "1g.5gb"));
    let is_away = |status: &Value| status["gpu_node"]["error"].is_string();
    let status = node
        .until(|status| is_away(status) && status["partition"]["done"] == true)
        .await;
    kubelet.until_counts(MIG_3G, 2, 2).await;
    assert_eq!(status["partition"]["layout"], "3g.20gb");
    assert_eq!(status["gpu_node"]["pool"], "training");
    assert!(!kubelet.names().contains(&MIG_1G.to_owned()));

    // What it remembers is of another object than the one that is there now, which wants nothing yet.
    away.now().gpu_nodes.make("uid", &json!({}));
    away.come().await;
    until(&away, |it| it.status()["phase"] == "Ready").await;
    let status = away.now().gpu_nodes.status().clone();
    assert_eq!(status["observedGeneration"], Value::Null);
    assert_eq!(status["layout"], "3g.20gb");
    away.now().gpu_nodes.want(&pooled("3g.20gb"));
    until(&away, |it| it.says("Ready")).await;
}

#[tokio::test]
async fn another_strategy_is_advertised_and_nobodys_slice_goes() {
    let mut node = Node::with_gpus(1);
    let server = ApiServer::start(&node).await;
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(config(&node, &server, "1g.5gb"));
    kubelet.until_counts(MIG_1G, 7, 7).await;
    until(&server, |it| it.says("Ready")).await;
    let slices: Vec<_> = probe(&node.root())
        .unwrap()
        .mig_devices()
        .map(|entry| entry.device.uuid.to_string())
        .collect();
    let mut wanted = pooled("1g.5gb");
    wanted["migStrategy"] = "single".into();
    wanted["drain"] = "never".into();
    server.now().gpu_nodes.want(&wanted);
    let single = kubelet.until_counts(GPU, 7, 7).await;
    assert!(slices.iter().all(|uuid| single.devices[uuid]));
    until(&server, |it| it.says("Ready")).await;
    let status = server.now().gpu_nodes.status().clone();
    assert_eq!(status["resources"], json!({GPU: 7}));
    let of_agent = node.until(|status| status["phase"] == "ready").await;
    assert_eq!(of_agent["partition"]["drain"], "never");

    // The same again in other words starts nothing anew.
    wanted["nodeLabels"] = json!({"team": "ml"});
    server.now().gpu_nodes.want(&wanted);
    until(&server, |it| it.says("Ready")).await;
    let again = kubelet.until_counts(GPU, 7, 7).await;
    assert_eq!(again.endpoint, single.endpoint);
}

#[tokio::test]
async fn who_holds_a_slice_is_told_and_what_waits_for_them() {
    let mut node = Node::with_gpus(1);
    node.partition("1g.5gb");
    let held = probe(&node.root()).unwrap();
    let held = held.mig_devices().next().unwrap().device.uuid.to_string();
    let pods = PodResources::start(&node, MIG_1G, &held);
    let server = ApiServer::start(&node).await;
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let mut config = config(&node, &server, "1g.5gb");
    config.partition.as_mut().unwrap().pod_resources = Some(pods.socket());
    node.start(config);
    kubelet.until_counts(MIG_1G, 7, 7).await;
    until(&server, |it| {
        it.says("Ready") && it.status()["slicesInUse"] == 1
    })
    .await;
    let status = server.now().gpu_nodes.status().clone();
    let slices = status["gpus"][0]["slices"].as_array().unwrap();
    let holder = slices.iter().find(|slice| slice["uuid"] == *held).unwrap();
    assert_eq!(
        holder["holder"],
        json!({"namespace": "default", "pod": "train", "container": "main"})
    );

    server.now().gpu_nodes.want(&pooled("3g.20gb"));
    until(&server, |it| it.says("Draining")).await;
    let status = server.now().gpu_nodes.status().clone();
    let waits = status["waitingFor"][0].as_str().unwrap();
    assert!(
        waits.starts_with("pod default/train uses 1g.5gb"),
        "{waits}"
    );
    assert_eq!(status["layout"], Value::Null);
    pods.release();
    kubelet.until_counts(MIG_3G, 2, 2).await;
    until(&server, |it| {
        it.says("Ready") && it.status()["slicesInUse"] == 0
    })
    .await;
}

#[tokio::test]
async fn a_layout_that_cannot_be_is_refused_in_words_and_changes_nothing() {
    let mut node = Node::with_gpus(1);
    let server = ApiServer::start(&node).await;
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(config(&node, &server, "1g.5gb"));
    kubelet.until_counts(MIG_1G, 7, 7).await;
    until(&server, |it| it.says("Ready")).await;
    for (layout, words) in [
        ("oops", "node pool training wants `oops`"),
        ("7g.40gb,1g.5gb", "nothing was changed"),
        ("7g.80gb", "nothing was changed"),
    ] {
        server.now().gpu_nodes.want(&pooled(layout));
        until(&server, |it| it.says("Refused")).await;
        let status = server.now().gpu_nodes.status().clone();
        let message = status["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
        assert_eq!(status["currentLayout"], "0=1g.5gb*7");
        assert_eq!(status["conditions"][0]["status"], "False");
        kubelet.until_counts(MIG_1G, 7, 7).await;
    }
    server.now().gpu_nodes.want(&pooled("3g.20gb"));
    kubelet.until_counts(MIG_3G, 2, 2).await;
    until(&server, |it| it.says("Ready")).await;
}

#[tokio::test]
async fn an_object_that_was_deleted_is_made_anew_and_its_layout_stays_meanwhile() {
    let mut node = Node::with_gpus(1);
    let server = ApiServer::start(&node).await;
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(config(&node, &server, "1g.5gb"));
    until(&server, |it| it.says("Ready")).await;
    server.now().gpu_nodes.want(&pooled("3g.20gb"));
    kubelet.until_counts(MIG_3G, 2, 2).await;
    until(&server, |it| it.says("Ready")).await;

    server.now().gpu_nodes.delete();
    until(&server, |it| it.status()["phase"] == "Ready").await;
    let status = server.now().gpu_nodes.status().clone();
    assert_eq!(status["observedGeneration"], Value::Null);
    assert_eq!(status["layout"], "3g.20gb");
    server.now().gpu_nodes.want(&pooled("3g.20gb"));
    until(&server, |it| it.says("Ready")).await;

    // The node is made anew, and the garbage collector comes for what the old one had.
    server.now().uid = "another".to_owned();
    server.now().gpu_nodes.delete();
    until(&server, |it| it.status()["phase"] == "Ready").await;
    let object = server.now().gpu_nodes.object.clone().unwrap();
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "another");
}

#[tokio::test]
async fn an_object_of_a_node_that_is_no_more_is_left_to_the_garbage_collector() {
    let mut node = Node::with_gpus(1);
    let server = ApiServer::start(&node).await;
    server.now().gpu_nodes.make("before", &pooled("3g.20gb"));
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(config(&node, &server, "1g.5gb"));
    kubelet.until_counts(MIG_1G, 7, 7).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.now().gpu_nodes.writes, 0);
    server.now().gpu_nodes.delete();
    until(&server, |it| it.says("Ready")).await;
    let object = server.now().gpu_nodes.object.clone().unwrap();
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "uid");
    assert_eq!(object["metadata"]["name"], NODE);
}

#[tokio::test]
async fn a_cluster_without_the_resource_is_told_of_takes_no_slice_and_may_get_it() {
    let mut node = Node::with_gpus(1);
    let server = ApiServer::start(&node).await;
    server.now().gpu_nodes.is_unknown = true;
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(config(&node, &server, "1g.5gb"));
    kubelet.until_counts(MIG_1G, 7, 7).await;
    let says = |status: &Value| {
        let message = status["message"].as_str().unwrap_or_default();
        message.contains("no GpuNode resource") && message.contains("CustomResourceDefinitions")
    };
    let status = node.until(says).await;
    assert_eq!(status["ready"], false);
    server.now().gpu_nodes.is_unknown = false;
    until(&server, |it| it.says("Ready")).await;
    node.until(|status| status["phase"] == "ready").await;
}

#[tokio::test]
async fn a_node_without_a_driver_makes_no_object_and_speaks_of_one_that_is_there() {
    let mut node = Node::without_driver();
    let server = ApiServer::start(&node).await;
    node.start(config(&node, &server, "1g.5gb"));
    node.until(|status| status["phase"] == "idle").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.now().gpu_nodes.object, None);
    server.now().gpu_nodes.make("uid", &json!({}));
    until(&server, |it| it.says("Idle")).await;
    let status = server.now().gpu_nodes.status().clone();
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("libnvidia-ml.so.1"),
        "{status}"
    );

    let _kubelet = Kubelet::start(&node.kubelet_dir());
    node.install_driver(1);
    until(&server, |it| it.says("Ready")).await;
}

#[tokio::test]
async fn nothing_new_is_not_written_again() {
    let mut node = Node::with_gpus(1);
    let server = ApiServer::start(&node).await;
    let _kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(config(&node, &server, "1g.5gb"));
    until(&server, |it| it.says("Ready")).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let writes = server.now().gpu_nodes.writes;
    assert!(writes <= 4, "{writes} writes");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(server.now().gpu_nodes.writes, writes);
}

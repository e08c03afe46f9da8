//! The agent as a citizen of a cluster: what it tells the API server of its node, and what it has evicted.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::api_server::{ApiServer, NODE};
use crate::kubelet::Kubelet;
use crate::node::Node;
use crate::pod_resources::PodResources;
use migpool_agent::{AgentConfig, Discovery, Drain, LabelsOutput, probe};
use nvml_sim::state::Fault;

const GPU: &str = "nvidia.com/gpu";
const LAYOUT: &str = "MigLayoutReady";
const HEALTH: &str = "GPUsHealthy";
const MANAGER: &str = "migpool-feature-discovery";

/// An agent that keeps its node's status.
fn config(node: &Node, server: &ApiServer, layout: &str) -> AgentConfig {
    AgentConfig {
        cluster: Some(server.config()),
        node_status: true,
        ..node.config(layout, "single")
    }
}

/// The same, and it labels the node.
fn with_labels(config: AgentConfig, node: &Node) -> AgentConfig {
    AgentConfig {
        discovery: Some(Discovery {
            mig_strategy: mig::MigStrategy::Single,
            output: LabelsOutput::Node,
            timestamp: false,
            machine_type_file: node.path("product_name"),
            sysfs: node.path("sys"),
            ..Discovery::default()
        }),
        ..config
    }
}

fn first_device(node: &Node) -> String {
    let inventory = probe(&node.root()).unwrap();
    let entry = inventory.mig_devices().next().unwrap();
    entry.device.uuid.to_string()
}

#[tokio::test]
async fn the_taint_is_there_before_the_first_change_and_goes_when_the_slices_can_be_had() {
    let mut node = Node::with_gpus(2);
    let server = ApiServer::start(&node).await;
    std::fs::create_dir(node.kubelet_dir()).unwrap();
    node.start(config(&node, &server, "1g.5gb"));
    server
        .until(|cluster| {
            cluster
                .condition(LAYOUT)
                .is_some_and(|[_, reason, _]| reason == "NotAdvertised")
        })
        .await;
    assert!(server.now().is_tainted());
    assert_eq!(server.now().devices_when_tainted, [0]);

    let kubelet = Kubelet::start(&node.kubelet_dir());
    kubelet.until_counts(GPU, 14, 14).await;
    server.until(|cluster| !cluster.is_tainted()).await;
    server
        .until(|cluster| {
            cluster.condition(LAYOUT)
                == Some([
                    "True",
                    "LayoutReady",
                    "the GPUs have the layout 1g.5gb: 2 GPUs, 14 MIG devices",
                ])
        })
        .await;
    server
        .until(|cluster| cluster.has_event("Partitioned", &["1g.5gb"]))
        .await;

    node.stop().await;
    assert!(!server.now().is_tainted());
    assert!(server.now().conditions.is_empty());
}

#[tokio::test]
async fn what_a_killed_agent_left_on_the_node_goes() {
    let mut node = Node::with_gpus(1);
    node.partition("1g.5gb");
    let server = ApiServer::start(&node).await;
    server.now().taint();
    let left = BTreeMap::from([("nvidia.com/mig-3g.20gb.count".to_owned(), "2".to_owned())]);
    server.now().labels.insert(MANAGER.to_owned(), left.clone());
    server.now().labels.insert(
        "kubectl".to_owned(),
        BTreeMap::from([("mine".into(), "1".into())]),
    );
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(with_labels(config(&node, &server, "1g.5gb"), &node));
    kubelet.until_counts(GPU, 7, 7).await;
    server.until(|cluster| !cluster.is_tainted()).await;
    server
        .until(|cluster| {
            let labels = cluster.all_labels();
            labels.get("nvidia.com/gpu.count") == Some(&"7")
                && !labels.contains_key("nvidia.com/mig-3g.20gb.count")
        })
        .await;
    // The layout was there, so nothing was ever kept away.
    assert!(server.now().devices_when_tainted.is_empty());

    node.stop().await;
    assert_eq!(server.now().all_labels(), BTreeMap::from([("mine", "1")]));
}

#[tokio::test]
async fn slices_that_the_cluster_counts_and_nobody_serves_are_told_to_be_none() {
    const LEFT: &str = "nvidia.com/mig-2g.10gb";
    let mut node = Node::with_gpus(1);
    node.partition("1g.5gb");
    let server = ApiServer::away(&node).await;
    server.now().capacity = [("cpu", "8"), (LEFT, "4"), ("nvidia.com/mig-3g.20gb", "0")]
        .map(|(name, count)| (name.to_owned(), count.to_owned()))
        .into();
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(config(&node, &server, "1g.5gb"));
    kubelet.until_counts(GPU, 7, 7).await;
    assert_eq!(kubelet.names(), [GPU]);

    server.come().await;
    kubelet.until_counts(LEFT, 0, 0).await;
    assert_eq!(kubelet.names(), [GPU, LEFT]);
}

#[tokio::test]
async fn a_node_without_gpus_gets_neither_labels_nor_conditions_and_is_ready() {
    let mut node = Node::without_driver();
    let server = ApiServer::start(&node).await;
    server.now().taint();
    node.start(with_labels(config(&node, &server, "1g.5gb"), &node));
    server.until(|cluster| !cluster.is_tainted()).await;
    server
        .until(|cluster| cluster.labels.contains_key(MANAGER))
        .await;
    assert!(server.now().all_labels().is_empty());
    assert!(server.now().conditions.is_empty());
    let status = node.until(|status| status["phase"] == "idle").await;
    assert_eq!(status["ready"], true);
}

#[tokio::test]
async fn a_driver_without_its_library_is_told_of_and_its_return_too() {
    let mut node = Node::with_gpus(1);
    let library = node
        .root()
        .join("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1");
    let aside = node.path("aside");
    std::fs::rename(&library, &aside).unwrap();
    let server = ApiServer::start(&node).await;
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(config(&node, &server, "1g.5gb"));
    let words = ["no NVIDIA driver found", "nvidiactl"];
    server
        .until(|cluster| cluster.has_event("DriverFailed", &words))
        .await;
    server
        .until(|cluster| {
            cluster
                .condition(LAYOUT)
                .is_some_and(|it| it[..2] == ["False", "DriverFailed"])
        })
        .await;
    let status = node.until(|status| status["phase"] == "degraded").await;
    assert_eq!(status["ready"], false, "{status}");

    std::fs::rename(&aside, &library).unwrap();
    kubelet.until_counts(GPU, 7, 7).await;
    server
        .until(|cluster| cluster.has_event("DriverWorks", &[]))
        .await;
}

#[tokio::test]
async fn a_lost_gpu_is_named_in_a_condition_and_an_event_and_so_is_its_return() {
    let mut node = Node::with_gpus(2);
    let server = ApiServer::start(&node).await;
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(config(&node, &server, "1g.5gb"));
    kubelet.until_counts(GPU, 14, 14).await;
    let uuid = probe(&node.root()).unwrap().gpus[1].uuid.to_string();
    let name = format!("GPU 1 ({uuid})");
    node.inject(Fault::GpuLost { gpu: 1 });
    server
        .until(|cluster| {
            cluster
                .condition(HEALTH)
                .is_some_and(|[status, reason, message]| {
                    [status, reason] == ["False", "GPULost"] && message.starts_with(&name)
                })
        })
        .await;
    server
        .until(|cluster| cluster.has_event("GPULost", &[&name]))
        .await;
    node.clear_faults();
    server
        .until(|cluster| cluster.has_event("GPURecovered", &[&name]))
        .await;
    server
        .until(|cluster| {
            cluster
                .condition(HEALTH)
                .is_some_and(|[status, ..]| status == "True")
        })
        .await;
}

#[tokio::test]
async fn a_server_that_is_away_takes_no_slice_and_is_caught_up_with() {
    let mut node = Node::with_gpus(1);
    let server = ApiServer::away(&node).await;
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(with_labels(config(&node, &server, "1g.5gb"), &node));
    kubelet.until_counts(GPU, 7, 7).await;
    let says = |status: &serde_json::Value| {
        status["message"]
            .as_str()
            .is_some_and(|message| message.contains("does not answer"))
    };
    let status = node
        .until(|status| says(status) && status["ready"] == true)
        .await;
    assert_eq!(status["phase"], "degraded");

    server.come().await;
    server
        .until(|cluster| {
            cluster
                .condition(LAYOUT)
                .is_some_and(|[status, ..]| status == "True")
        })
        .await;
    server
        .until(|cluster| cluster.all_labels().contains_key("nvidia.com/gpu.count"))
        .await;
    node.until(|status| status["phase"] == "ready").await;
}

#[tokio::test]
async fn a_missing_right_is_not_ready_until_it_is_given_and_takes_no_slice() {
    let mut node = Node::with_gpus(1);
    let server = ApiServer::start(&node).await;
    server.now().forbidden = true;
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(with_labels(config(&node, &server, "1g.5gb"), &node));
    kubelet.until_counts(GPU, 7, 7).await;
    let status = node
        .until(|status| {
            status["message"]
                .as_str()
                .is_some_and(|message| message.starts_with("not allowed to"))
        })
        .await;
    assert_eq!(status["ready"], false);
    server.now().forbidden = false;
    let status = node.until(|status| status["phase"] == "ready").await;
    assert_eq!(status["ready"], true);
}

#[tokio::test]
async fn a_wrong_node_name_is_not_ready_and_takes_no_slice() {
    let mut node = Node::with_gpus(1);
    let server = ApiServer::start(&node).await;
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let mut config = config(&node, &server, "1g.5gb");
    config.cluster = Some(server.config_of("node-2"));
    node.start(config);
    kubelet.until_counts(GPU, 7, 7).await;
    let status = node
        .until(|status| {
            status["message"]
                .as_str()
                .is_some_and(|message| message.contains("NODE_NAME"))
        })
        .await;
    assert_eq!(status["ready"], false, "{status}");
    assert_ne!(NODE, "node-2");
}

/// A node with a pod `default/train` that holds a slice, whose agent has to make room for a larger one.
async fn with_a_pod_in_the_way(drain: Drain) -> (Node, ApiServer, Kubelet, PodResources) {
    let mut node = Node::with_gpus(1);
    node.partition("1g.5gb");
    let server = ApiServer::start(&node).await;
    server.now().pods.insert("train".to_owned());
    let pods = PodResources::start(&node, GPU, &first_device(&node));
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let mut config = config(&node, &server, "3g.20gb");
    let partition = config.partition.as_mut().unwrap();
    partition.drain = drain;
    partition.pod_resources = Some(pods.socket());
    node.start(config);
    (node, server, kubelet, pods)
}

#[tokio::test]
async fn a_pod_in_the_way_is_evicted_and_then_the_layout_comes() {
    let (node, server, kubelet, pods) = with_a_pod_in_the_way(Drain::Evict).await;
    server.until(|cluster| cluster.pods.is_empty()).await;
    server
        .until(|cluster| cluster.has_event("PodEvicted", &["default/train"]))
        .await;
    // The API server has let it go, and the kubelet has not ended it yet: it still has its slice.
    assert_eq!(probe(&node.root()).unwrap().mig_devices().count(), 7);
    pods.release();
    kubelet.until_counts(GPU, 2, 2).await;
    server.until(|cluster| !cluster.is_tainted()).await;
}

#[tokio::test]
async fn a_disruption_budget_is_respected_and_named_until_it_allows_it() {
    let (node, server, kubelet, pods) = with_a_pod_in_the_way(Drain::Evict).await;
    server.now().budget = Some("guard".to_owned());
    // It may have been evicted before the budget was made.
    server.now().pods.insert("train".to_owned());
    let words = ["PodDisruptionBudget default/guard", "pod default/train"];
    let says = |message: &str| words.iter().all(|word| message.contains(word));
    server
        .until(|cluster| cluster.has_event("EvictionBlocked", &words))
        .await;
    server
        .until(|cluster| {
            cluster
                .condition(LAYOUT)
                .is_some_and(|[_, reason, message]| reason == "Draining" && says(message))
        })
        .await;
    node.until(|status| status["message"].as_str().is_some_and(says))
        .await;
    assert!(server.now().pods.contains("train"));

    server.now().budget = None;
    server.until(|cluster| cluster.pods.is_empty()).await;
    pods.release();
    kubelet.until_counts(GPU, 2, 2).await;
}

#[tokio::test]
async fn a_pod_that_is_waited_for_is_not_evicted_and_no_other_gets_a_slice() {
    let (node, server, kubelet, pods) = with_a_pod_in_the_way(Drain::Wait).await;
    kubelet.until_counts(GPU, 7, 0).await;
    server
        .until(|cluster| cluster.has_event("Draining", &["pod default/train"]))
        .await;
    assert!(server.now().is_tainted());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(server.now().pods.contains("train"));
    assert_eq!(probe(&node.root()).unwrap().mig_devices().count(), 7);
    pods.release();
    kubelet.until_counts(GPU, 2, 2).await;
}

#[tokio::test]
async fn without_a_drain_the_layout_is_refused_and_all_can_be_had() {
    let (node, server, kubelet, pods) = with_a_pod_in_the_way(Drain::Never).await;
    kubelet.until_counts(GPU, 7, 7).await;
    server
        .until(|cluster| cluster.has_event("LayoutRefused", &["pod default/train", "never"]))
        .await;
    assert!(!server.now().is_tainted());
    let status = node
        .until(|status| status["partition"]["step"] == "refused")
        .await;
    assert_eq!(status["ready"], false);
    pods.release();
    kubelet.until_counts(GPU, 2, 2).await;
}

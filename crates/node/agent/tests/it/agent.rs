//! The agent on a node of simulated GPUs, against a small kubelet.

use std::fs;
use std::time::Duration;

use crate::kubelet::Kubelet;
use crate::node::Node;
use crate::pod_resources::PodResources;
use migpool_agent::{
    AgentConfig, Discovery, DriverSearch, Error, LabelsOutput, PartitionConfig, Phase, probe, run,
};
use nvml_sim::state::Fault;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const GPU: &str = "nvidia.com/gpu";
const MIG_1G: &str = "nvidia.com/mig-1g.5gb";
const MIG_3G: &str = "nvidia.com/mig-3g.20gb";

#[tokio::test]
async fn a_wanted_layout_is_brought_about_and_its_slices_are_advertised() {
    let mut node = Node::with_gpus(8);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(node.config("MIG1g", "single"));
    kubelet.until_counts(GPU, 56, 56).await;
    let status = node.until(|status| status["phase"] == "ready").await;
    assert_eq!(status["ready"], true);
    assert_eq!(status["node"], "node-1");
    assert_eq!(status["partition"]["done"], true);
    assert_eq!(status["partition"]["attempts"], 1);
    assert_eq!(status["plugin"]["resources"][GPU]["devices"], 56);
    assert_eq!(status["inventory"]["gpus"].as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn the_next_generation_advertises_the_same_slices() {
    let mut node = Node::with_gpus(2);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(node.config("3g.20gb", "mixed"));
    let first = kubelet.until_counts(MIG_3G, 4, 4).await;
    node.until(|status| status["phase"] == "ready").await;
    node.stop().await;
    assert_eq!(node.status()["phase"], "stopped");

    node.start(node.config("3g.20gb", "mixed"));
    let second = kubelet
        .until(MIG_3G, |now| {
            now.endpoint != first.endpoint && now.devices.len() == 4
        })
        .await;
    assert_eq!(second.devices, first.devices);
    let status = node.until(|status| status["phase"] == "ready").await;
    assert_eq!(
        status["partition"]["report"]["calls"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
}

#[tokio::test]
async fn what_somebody_else_changes_is_advertised_and_not_changed_back() {
    let mut node = Node::with_gpus(2);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(node.config("1g.5gb", "mixed"));
    let before = kubelet.until_counts(MIG_1G, 14, 14).await;
    node.until(|status| status["phase"] == "ready").await;

    node.partition("3g.20gb");
    kubelet.until_counts(MIG_3G, 4, 4).await;
    let after = kubelet.until_counts(MIG_1G, 0, 0).await;
    assert_eq!(after.endpoint, before.endpoint);
    let status = node.until(|status| status["phase"] == "degraded").await;
    assert_eq!(status["ready"], true, "{status}");
    assert_eq!(status["partition"]["attempts"], 1);
}

#[tokio::test]
async fn an_xid_takes_one_slice_until_it_recovers_by_itself() {
    let mut node = Node::with_gpus(8);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(node.config("1g.5gb", "single"));
    kubelet.until_counts(GPU, 56, 56).await;

    let inventory = probe(&node.root()).unwrap();
    let entry = inventory.mig_devices().nth(20).unwrap();
    let id = entry.device.uuid.to_string();
    node.inject(Fault::Xid {
        gpu: entry.gpu.minor,
        xid: 48,
        gpu_instance: Some(entry.gpu_instance.id),
        compute_instance: Some(entry.compute_instance.id),
    });
    let resource = kubelet.until_counts(GPU, 56, 55).await;
    assert!(!resource.devices[&id]);
    kubelet.until_counts(GPU, 56, 56).await;
}

#[tokio::test]
async fn an_application_error_takes_nothing() {
    let mut node = Node::with_gpus(1);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let mut config = node.config("1g.5gb", "single");
    config.recovery.first = Duration::from_hours(1);
    node.start(config);
    let before = kubelet.until_counts(GPU, 7, 7).await;
    let inventory = probe(&node.root()).unwrap();
    let entries: Vec<_> = inventory.mig_devices().take(2).collect();
    // The second XID proves that the first was seen and passed over.
    for (entry, xid) in entries.iter().zip([13, 48]) {
        node.inject(Fault::Xid {
            gpu: entry.gpu.minor,
            xid,
            gpu_instance: Some(entry.gpu_instance.id),
            compute_instance: Some(entry.compute_instance.id),
        });
    }
    let after = kubelet.until_counts(GPU, 7, 6).await;
    assert!(after.devices[entries[0].device.uuid.as_str()]);
    assert!(!after.devices[entries[1].device.uuid.as_str()]);
    assert_eq!(after.lists, before.lists + 1);
}

#[tokio::test]
async fn a_lost_gpu_takes_seven_slices_and_forty_nine_stay() {
    let mut node = Node::with_gpus(8);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(node.config("1g.5gb", "single"));
    kubelet.until_counts(GPU, 56, 56).await;
    let inventory = probe(&node.root()).unwrap();

    node.inject(Fault::GpuLost { gpu: 3 });
    let resource = kubelet.until_counts(GPU, 56, 49).await;
    for entry in inventory.gpus[3].mig_devices() {
        assert!(!resource.devices[entry.device.uuid.as_str()]);
    }
    let says = |status: &serde_json::Value, what: &str| {
        status["message"]
            .as_str()
            .is_some_and(|message| message.contains(what))
    };
    let status = node.until(|status| says(status, "GPU 3: ")).await;
    assert_eq!(
        (&status["phase"], &status["ready"]),
        (&"degraded".into(), &true.into())
    );

    node.clear_faults();
    kubelet.until_counts(GPU, 56, 56).await;
}

#[tokio::test]
async fn without_a_library_it_idles_and_one_that_appears_is_picked_up() {
    let mut node = Node::without_driver();
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(node.config("1g.5gb", "single"));
    let status = node.until(|status| status["phase"] == "idle").await;
    assert_eq!(status["ready"], true);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("libnvidia-ml.so.1"),
        "{status}"
    );
    assert!(kubelet.names().is_empty());

    node.install_driver(1);
    kubelet.until_counts(GPU, 7, 7).await;
}

#[tokio::test]
async fn a_slice_that_a_pod_holds_is_not_destroyed_and_the_pod_is_named() {
    let mut node = Node::with_gpus(1);
    node.partition("1g.5gb");
    let inventory = probe(&node.root()).unwrap();
    let held = inventory
        .mig_devices()
        .next()
        .unwrap()
        .device
        .uuid
        .to_string();
    let pods = PodResources::start(&node, MIG_1G, &held);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let mut config = node.config("3g.20gb", "mixed");
    config.partition = config.partition.map(|it| PartitionConfig {
        pod_resources: Some(pods.socket()),
        ..it
    });
    node.start(config);

    let status = node
        .until(|status| status["partition"]["message"].is_string())
        .await;
    assert_eq!(
        (&status["phase"], &status["ready"]),
        (&"draining".into(), &false.into())
    );
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("default/train"),
        "{status}"
    );
    // What is there stays known: the pod's slice must not look as if it had vanished. Nobody new gets one.
    kubelet.until_counts(MIG_1G, 7, 0).await;

    pods.release();
    kubelet.until_counts(MIG_3G, 2, 2).await;
    kubelet.until_counts(MIG_1G, 0, 0).await;
}

#[tokio::test]
async fn labels_follow_the_slices_and_go_with_the_agent() {
    let mut node = Node::with_gpus(1);
    let labels = node.path("features.d/gfd");
    fs::create_dir(labels.parent().unwrap()).unwrap();
    let _kubelet = Kubelet::start(&node.kubelet_dir());
    let mut config = node.config("1g.5gb", "mixed");
    config.discovery = Some(Discovery {
        mig_strategy: mig::MigStrategy::Mixed,
        output: LabelsOutput::File(labels.clone()),
        machine_type_file: node.path("product_name"),
        sysfs: node.path("sys"),
        ..Discovery::default()
    });
    node.start(config);
    let has = |line: &str| fs::read_to_string(&labels).is_ok_and(|text| text.contains(line));
    crate::node::eventually(|| has("nvidia.com/mig-1g.5gb.count=7")).await;
    node.partition("3g.20gb");
    crate::node::eventually(|| has("nvidia.com/mig-3g.20gb.count=2")).await;
    node.stop().await;
    assert!(!labels.exists());
}

#[tokio::test]
async fn one_shot_labels_stay_and_the_agent_ends() {
    let node = Node::with_gpus(1);
    let labels = node.path("gfd");
    let config = AgentConfig {
        driver: DriverSearch::at(node.root()),
        discovery: Some(Discovery {
            output: LabelsOutput::File(labels.clone()),
            oneshot: true,
            timestamp: false,
            ..Discovery::default()
        }),
        ..AgentConfig::default()
    };
    run(config, CancellationToken::new()).await.unwrap();
    let text = fs::read_to_string(labels).unwrap();
    assert!(text.contains("nvidia.com/gpu.count=1"), "{text}");
}

#[tokio::test]
async fn health_readiness_and_metrics_are_answered() {
    let mut node = Node::with_gpus(1);
    let address = free_address();
    fs::create_dir(node.kubelet_dir()).unwrap();
    let mut config = node.config("1g.5gb", "single");
    config.listen = Some(address);
    node.start(config);
    node.until(|status| status["phase"] == "starting" && status["partition"]["done"] == true)
        .await;
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    let waiting = get(address, "/readyz").await;
    assert!(
        waiting.starts_with("HTTP/1.1 503") && waiting.contains("waiting"),
        "{waiting}"
    );

    let kubelet = Kubelet::start(&node.kubelet_dir());
    kubelet.until_counts(GPU, 7, 7).await;
    node.until(|status| status["phase"] == "ready").await;
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = get(address, "/metrics").await;
    let devices = r#"migpool_devices{resource="nvidia.com/gpu",health="healthy"} 7"#;
    assert!(metrics.contains(devices), "{metrics}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = AgentConfig {
        listen: Some(address),
        ..AgentConfig::default()
    };
    let error = run(config, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, Error::Listen { .. }));
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[test]
fn every_phase_is_written_as_its_word() {
    for phase in [
        Phase::Starting,
        Phase::Idle,
        Phase::Partitioning,
        Phase::Ready,
        Phase::Degraded,
    ] {
        assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
    }
}

fn free_address() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

//! The agent on a node whose driver or GPUs fail for a while.

use std::fs;
use std::time::Duration;

use crate::kubelet::Kubelet;
use crate::node::Node;
use migpool_agent::{Discovery, LabelsOutput, PartitionConfig, probe};
use nvml_sim::state::Fault;
use nvml_sim::{DriverRoot, Return};

const GPU: &str = "nvidia.com/gpu";
const MIG_1G: &str = "nvidia.com/mig-1g.5gb";
const MIG_3G: &str = "nvidia.com/mig-3g.20gb";

/// What the driver as a whole answers to the first question of a snapshot.
const COUNT: &str = "nvmlDeviceGetCount_v2";

fn fails(call: &str, times: u32) -> Fault {
    Fault::CallFails {
        call: call.to_owned(),
        times,
        code: Return(999),
    }
}

/// An XID 48 on the nth slice of a node, as it is now.
fn xid(node: &Node, nth: usize) -> Fault {
    let inventory = probe(&node.root()).unwrap();
    let entry = inventory.mig_devices().nth(nth).unwrap();
    Fault::Xid {
        gpu: entry.gpu.minor,
        xid: 48,
        gpu_instance: Some(entry.gpu_instance.id),
        compute_instance: Some(entry.compute_instance.id),
    }
}

#[tokio::test]
async fn a_driver_that_fails_takes_no_slice_and_no_label_away() {
    let mut node = Node::with_gpus(2);
    let labels = node.path("gfd");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let mut config = node.config("1g.5gb", "single");
    config.look_interval = Duration::from_millis(100);
    config.discovery = Some(Discovery {
        mig_strategy: mig::MigStrategy::Single,
        output: LabelsOutput::File(labels.clone()),
        interval: Some(Duration::from_millis(10)),
        ..Discovery::default()
    });
    node.start(config);
    kubelet.until_counts(GPU, 14, 14).await;
    node.until(|status| status["phase"] == "ready").await;
    let before = fs::read_to_string(&labels).unwrap();

    node.inject(fails(COUNT, u32::MAX));
    kubelet.until_counts(GPU, 14, 0).await;
    let status = node
        .until(|status| status["driver"]["state"] == "failed")
        .await;
    assert_eq!(status["ready"], false);
    node.until(|status| status["inventory"]["failed"].as_array().unwrap().len() == 2)
        .await;
    assert_eq!(fs::read_to_string(&labels).unwrap(), before);

    node.clear_faults();
    kubelet.until_counts(GPU, 14, 14).await;
    node.until(|status| status["phase"] == "ready").await;
    assert_eq!(fs::read_to_string(&labels).unwrap(), before);
}

#[tokio::test]
async fn a_driver_that_fails_from_the_start_leaves_the_labels_alone() {
    let mut node = Node::with_gpus(1);
    let labels = node.path("gfd");
    fs::write(&labels, "earlier=1\n").unwrap();
    node.inject(fails(COUNT, u32::MAX));
    let mut config = node.config("1g.5gb", "single");
    config.discovery = Some(Discovery {
        output: LabelsOutput::File(labels.clone()),
        ..Discovery::default()
    });
    node.start(config);
    node.until(|status| status["driver"]["state"] == "failed")
        .await;
    assert_eq!(fs::read_to_string(&labels).unwrap(), "earlier=1\n");
    node.clear_faults();
    let has = |line: &str| fs::read_to_string(&labels).is_ok_and(|text| text.contains(line));
    crate::node::eventually(|| has("nvidia.com/gpu.count=1")).await;
}

#[tokio::test]
async fn a_layout_made_by_hand_outlives_a_failing_driver() {
    let mut node = Node::with_gpus(1);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let mut config = node.config("1g.5gb", "mixed");
    config.look_interval = Duration::from_millis(100);
    node.start(config);
    kubelet.until_counts(MIG_1G, 7, 7).await;
    node.partition("3g.20gb");
    kubelet.until_counts(MIG_3G, 2, 2).await;

    node.inject(fails(COUNT, u32::MAX));
    kubelet.until_counts(MIG_3G, 2, 0).await;
    node.clear_faults();
    kubelet.until_counts(MIG_3G, 2, 2).await;
    let status = node
        .until(|status| status["driver"]["state"] == "loaded")
        .await;
    assert_eq!(status["partition"]["attempts"], 1, "{status}");
    assert_eq!(status["partition"]["done"], true, "{status}");
}

#[tokio::test]
async fn the_only_gpu_is_watched_again_when_it_is_back() {
    let mut node = Node::with_gpus(1);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(node.config("1g.5gb", "single"));
    kubelet.until_counts(GPU, 7, 7).await;
    for nth in [0, 1] {
        node.inject(Fault::GpuLost { gpu: 0 });
        kubelet.until_counts(GPU, 7, 0).await;
        node.clear_faults();
        kubelet.until_counts(GPU, 7, 7).await;
        node.inject(xid(&node, nth));
        kubelet.until_counts(GPU, 7, 6).await;
        kubelet.until_counts(GPU, 7, 7).await;
    }
}

#[tokio::test]
async fn a_gpu_that_no_call_reaches_makes_the_driver_be_loaded_again() {
    let mut node = Node::with_gpus(2);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(node.config("1g.5gb", "single"));
    kubelet.until_counts(GPU, 14, 14).await;
    let root = DriverRoot::open(node.root()).unwrap();
    root.record_calls(true).unwrap();
    node.inject(Fault::GpuLost { gpu: 1 });
    kubelet.until_counts(GPU, 14, 7).await;
    let loads = || {
        let counts = root.call_counts().unwrap();
        counts.get("nvmlInit_v2").copied().unwrap_or_default()
    };
    crate::node::eventually(|| loads() >= 2).await;
    let status = node.status();
    let failed = &status["inventory"]["failed"][0];
    assert!(failed["uuid"].is_string(), "{status}");
    node.clear_faults();
    kubelet.until_counts(GPU, 14, 14).await;
}

#[tokio::test]
async fn an_xid_is_seen_though_waiting_for_it_fails() {
    let mut node = Node::with_gpus(1);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let mut config = node.config("1g.5gb", "single");
    config.recovery.first = Duration::from_hours(1);
    config.recovery.longest = Duration::from_hours(1);
    node.start(config);
    kubelet.until_counts(GPU, 7, 7).await;
    let xids = [xid(&node, 0), xid(&node, 1)];
    node.inject(fails("nvmlEventSetWait_v2", 2));
    for xid in xids {
        node.inject(xid);
    }
    kubelet.until_counts(GPU, 7, 5).await;
}

#[tokio::test]
async fn a_pod_that_crashes_in_a_loop_causes_no_snapshots() {
    let mut node = Node::with_gpus(1);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let mut config = node.config("1g.5gb", "single");
    config.recovery.first = Duration::from_hours(1);
    config.recovery.longest = Duration::from_hours(1);
    node.start(config);
    kubelet.until_counts(GPU, 7, 7).await;
    node.until(|status| status["phase"] == "ready").await;
    let counts = xid(&node, 0);
    let root = DriverRoot::open(node.root()).unwrap();
    root.record_calls(true).unwrap();
    for _ in 0..50 {
        node.inject(Fault::Xid {
            gpu: 0,
            xid: 31,
            gpu_instance: None,
            compute_instance: None,
        });
    }
    // The one that counts comes last, so all of them were taken in when it is seen.
    node.inject(counts);
    kubelet.until_counts(GPU, 7, 6).await;
    let snapshots = || root.call_counts().unwrap().get(COUNT).copied();
    crate::node::eventually(|| snapshots() == Some(1)).await;
}

#[tokio::test]
async fn a_gpu_that_comes_back_empty_gets_its_layout_and_the_others_are_left_alone() {
    let mut node = Node::with_gpus(2);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(node.config("1g.5gb", "mixed"));
    kubelet.until_counts(MIG_1G, 14, 14).await;
    node.partition("0=3g.20gb");
    kubelet.until_counts(MIG_3G, 2, 2).await;
    kubelet.until_counts(MIG_1G, 7, 7).await;

    node.inject(Fault::GpuLost { gpu: 1 });
    kubelet.until_counts(MIG_1G, 7, 0).await;
    let status = node
        .until(|status| {
            let message = status["message"].as_str().unwrap_or_default();
            message.contains("GPU is lost") && message.contains("GPU 0: 7 1g.5gb missing")
        })
        .await;
    let message = status["message"].as_str().unwrap();
    assert_eq!(message.matches("GPU is lost").count(), 1, "{message}");

    let root = DriverRoot::open(node.root()).unwrap();
    root.reset_gpu(1).unwrap();
    assert_eq!(probe(&node.root()).unwrap().gpus.len(), 2);
    kubelet.until_counts(MIG_1G, 7, 7).await;
    kubelet.until_counts(MIG_3G, 2, 2).await;
    let status = node
        .until(|status| status["ready"] == true && status["partition"]["attempts"] != 1)
        .await;
    assert_eq!(status["partition"]["attempts"], 2, "{status}");
}

#[tokio::test]
async fn a_whole_gpu_is_not_advertised_where_the_layout_wants_slices() {
    let mut node = Node::with_gpus(2);
    node.partition("1=1g.5gb");
    node.inject(fails("nvmlDeviceSetMigMode", 1));
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(node.config("1g.5gb", "mixed"));
    kubelet.until_counts(MIG_1G, 7, 7).await;
    kubelet.until_counts(MIG_1G, 14, 14).await;
    assert_eq!(kubelet.names(), [MIG_1G]);
}

#[tokio::test]
async fn a_socket_that_nobody_answers_on_stops_only_what_takes_slices() {
    let mut node = Node::with_gpus(1);
    node.partition("1g.5gb");
    let socket = node.path("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let with_socket = |layout: &str| {
        let mut config = node.config(layout, "mixed");
        config.partition = config.partition.map(|it| PartitionConfig {
            pod_resources: Some(socket.clone()),
            ..it
        });
        config
    };
    let (same, other) = (with_socket("1g.5gb"), with_socket("3g.20gb"));
    node.start(same);
    kubelet.until_counts(MIG_1G, 7, 7).await;
    node.until(|status| status["phase"] == "ready").await;
    node.stop().await;

    node.start(other);
    let status = node
        .until(|status| status["partition"]["message"].is_string())
        .await;
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("stale.sock"), "{message}");
    assert_eq!(probe(&node.root()).unwrap().mig_devices().count(), 7);
}

#[tokio::test]
async fn a_status_that_could_not_be_written_is_written_when_it_can() {
    let mut node = Node::with_gpus(1);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let (folder, aside) = (node.path("run"), node.path("aside"));
    fs::create_dir(&folder).unwrap();
    let file = folder.join("status.json");
    let mut config = node.config("1g.5gb", "mixed");
    config.status_file = Some(file.clone());
    node.start(config);
    let has = |text: &str| fs::read_to_string(&file).is_ok_and(|file| file.contains(text));
    crate::node::eventually(|| has(r#""phase":"ready""#)).await;

    fs::rename(&folder, &aside).unwrap();
    node.partition("3g.20gb");
    kubelet.until_counts(MIG_3G, 2, 2).await;
    fs::rename(&aside, &folder).unwrap();
    crate::node::eventually(|| has(MIG_3G)).await;
}

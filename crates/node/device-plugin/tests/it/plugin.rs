//! What the kubelet sees of the plugin.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::kubelet::Kubelet;
use crate::node::{Node, clear, partition};
use mig::MigStrategy;
use migpool_device_plugin::{
    Config, Fault, Health, Location, PluginStatus, Registration, ResourceStatus,
};
use nvml::{FailedGpu, Inventory};

const GPU: &str = "nvidia.com/gpu";
const MIG_1G: &str = "nvidia.com/mig-1g.5gb";
const MIG_3G: &str = "nvidia.com/mig-3g.20gb";

fn sockets(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("migpool-")).collect()
}

#[tokio::test]
async fn fifty_six_slices_are_registered_listed_and_allocated() {
    let mut node = Node::new(8, "1g.5gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(node.config(MigStrategy::Single));
    let resource = kubelet.until_counts(GPU, 56, 56).await;
    assert_eq!(kubelet.names(), [GPU]);

    for id in resource.devices.keys() {
        let response = kubelet.allocate(GPU, &[id]).await.unwrap();
        assert_eq!(response.envs["NVIDIA_VISIBLE_DEVICES"], *id);
    }
    let status = node.until_status(PluginStatus::is_ready).await;
    let counted = status
        .resources
        .values()
        .map(ResourceStatus::healthy)
        .sum::<usize>();
    assert_eq!(counted, 56);
}

#[tokio::test]
async fn device_specs_name_files_that_are_there() {
    let mut node = Node::new(1, "1g.5gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(Config {
        pass_device_specs: true,
        ..node.config(MigStrategy::Mixed)
    });
    let resource = kubelet.until_counts(MIG_1G, 7, 7).await;
    let id = resource.devices.keys().next().unwrap();
    let response = kubelet.allocate(MIG_1G, &[id]).await.unwrap();
    let capabilities = response
        .devices
        .iter()
        .filter(|spec| spec.host_path.contains("nvidia-caps"))
        .count();
    assert_eq!(capabilities, 2, "{:?}", response.devices);
    for spec in &response.devices {
        assert!(Path::new(&spec.host_path).exists(), "{spec:?}");
        assert!(spec.container_path.starts_with("/dev/nvidia"), "{spec:?}");
    }
}

#[tokio::test]
async fn the_kubelets_restart_is_noticed_and_a_fresh_socket_registered() {
    let mut node = Node::new(1, "1g.5gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(node.config(MigStrategy::Single));
    let mut before = kubelet.until_counts(GPU, 7, 7).await.endpoint;
    let mut kubelet = kubelet;
    for _ in 0..3 {
        kubelet = kubelet.restart().await;
        let resource = kubelet.until_counts(GPU, 7, 7).await;
        assert_ne!(resource.endpoint, before);
        before = resource.endpoint;
        let id = resource.devices.keys().next().unwrap();
        kubelet.allocate(GPU, &[id]).await.unwrap();
    }
}

#[tokio::test]
async fn a_kubelet_that_comes_after_the_plugin_is_found() {
    let mut node = Node::new(1, "1g.5gb");
    node.start(node.config(MigStrategy::Single));
    let waiting = |status: &PluginStatus| {
        status
            .resources
            .values()
            .any(|r| r.registration == Registration::WaitingForKubelet)
    };
    node.until_status(waiting).await;
    let kubelet = Kubelet::start(&node.kubelet_dir());
    kubelet.until_counts(GPU, 7, 7).await;
}

#[tokio::test]
async fn a_refused_registration_is_tried_again_and_leaves_no_socket_behind() {
    let mut node = Node::new(1, "1g.5gb");
    let kubelet = Kubelet::start_refusing(&node.kubelet_dir(), 3);
    node.start(node.config(MigStrategy::Single));
    let resource = kubelet.until_counts(GPU, 7, 7).await;
    assert_eq!(sockets(&node.kubelet_dir()), [resource.endpoint]);
}

#[tokio::test]
async fn a_changed_inventory_is_advertised_on_the_same_stream() {
    let mut node = Node::new(2, "1g.5gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(node.config(MigStrategy::Mixed));
    let before = kubelet.until_counts(MIG_1G, 14, 14).await;

    partition(&node.nvml, node.folder.path(), "3g.20gb");
    node.look();
    kubelet.until_counts(MIG_3G, 4, 4).await;
    // The resource that vanished is empty rather than forgotten, so that the kubelet stops counting it.
    let after = kubelet.until_counts(MIG_1G, 0, 0).await;
    assert_eq!(after.endpoint, before.endpoint);
    assert!(after.connected);
    let old = before.devices.keys().next().unwrap();
    let error = kubelet.allocate(MIG_1G, &[old]).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::NotFound);
    assert!(error.message().contains(old.as_str()), "{error}");
}

#[tokio::test]
async fn what_the_node_is_said_to_have_and_has_not_is_told_to_be_none() {
    let mut node = Node::new(1, "1g.5gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.count(&[MIG_1G, MIG_3G, "nvidia.com/pgpu", "example.com/gpu"]);
    node.start(node.config(MigStrategy::Mixed));
    kubelet.until_counts(MIG_1G, 7, 7).await;
    kubelet.until_counts(MIG_3G, 0, 0).await;

    // It may come to light later, too.
    node.count(&[MIG_1G, GPU]);
    kubelet.until_counts(GPU, 0, 0).await;
    // What is another plugin's is left to it.
    assert_eq!(kubelet.names(), [GPU, MIG_1G, MIG_3G]);
    node.until_status(PluginStatus::is_ready).await;

    // And there may be such devices again.
    partition(&node.nvml, node.folder.path(), "3g.20gb");
    node.look();
    kubelet.until_counts(MIG_3G, 2, 2).await;
}

#[tokio::test]
async fn a_plugin_that_sees_no_gpu_leaves_what_the_node_has_to_others() {
    let mut node = Node::new(1, "1g.5gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let nothing = Inventory {
        gpus: Vec::new(),
        ..node.nvml.inventory().unwrap()
    };
    let there = node.inventory.send_replace(Arc::new(nothing));
    node.count(&[GPU]);
    node.start(node.config(MigStrategy::Mixed));
    let begun = |status: &PluginStatus| status.inventory.is_some();
    assert!(node.until_status(begun).await.resources.is_empty());

    node.inventory.send_replace(there);
    kubelet.until_counts(GPU, 0, 0).await;
}

#[tokio::test]
async fn an_unhealthy_slice_is_not_given_away_and_given_again_when_it_recovers() {
    let mut node = Node::new(1, "1g.5gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(node.config(MigStrategy::Single));
    kubelet.until_counts(GPU, 7, 7).await;

    let inventory = node.nvml.inventory().unwrap();
    let entry = inventory.mig_devices().next().unwrap();
    let id = entry.device.uuid.to_string();
    let (gi, ci) = (entry.gpu_instance.id, entry.compute_instance.id);
    let at = Location::slice(entry.gpu.uuid.clone(), gi, ci);
    node.health
        .send_replace(Arc::new(Health::from_iter([(at, Fault::Xid(48))])));
    let resource = kubelet.until_counts(GPU, 7, 6).await;
    assert!(!resource.devices[&id]);
    let error = kubelet.allocate(GPU, &[&id]).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition);
    assert!(error.message().contains("XID 48"), "{error}");

    node.health.send_replace(Arc::new(Health::default()));
    kubelet.until_counts(GPU, 7, 7).await;
    kubelet.allocate(GPU, &[&id]).await.unwrap();
}

#[tokio::test]
async fn a_lost_gpu_takes_seven_and_leaves_forty_nine() {
    let mut node = Node::new(8, "1g.5gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(node.config(MigStrategy::Single));
    kubelet.until_counts(GPU, 56, 56).await;

    let mut inventory = node.nvml.inventory().unwrap();
    let lost = inventory.gpus.remove(3);
    let reason = "the GPU fell off the bus".to_owned();
    inventory.failed.push(FailedGpu {
        index: 3,
        uuid: Some(lost.uuid.clone()),
        reason,
    });
    node.inventory.send_replace(Arc::new(inventory));
    let resource = kubelet.until_counts(GPU, 56, 49).await;
    for entry in lost.mig_devices() {
        assert!(!resource.devices[entry.device.uuid.as_str()]);
    }
    node.look();
    kubelet.until_counts(GPU, 56, 56).await;
}

#[tokio::test]
async fn a_preference_fills_up_a_gpu() {
    let mut node = Node::new(2, "1g.5gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(node.config(MigStrategy::Single));
    kubelet.until_counts(GPU, 14, 14).await;
    let inventory = node.nvml.inventory().unwrap();
    let ids = |gpu: u32| -> Vec<String> {
        let gpu = inventory.gpu_at(gpu).unwrap();
        gpu.mig_devices()
            .map(|entry| entry.device.uuid.to_string())
            .collect()
    };
    let second = ids(1);
    let available = [ids(0), second[2..].to_vec()].concat();
    let chosen = kubelet.preferred(GPU, available, 5).await;
    assert_eq!(chosen.len(), 5);
    assert!(chosen.iter().all(|id| second.contains(id)), "{chosen:?}");
}

#[tokio::test]
async fn a_node_that_breaks_the_single_strategy_fails_at_once_or_waits_as_told() {
    let mut node = Node::new(2, "1g.5gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    clear(&node.nvml, &node.nvml.inventory().unwrap().gpus[1]);
    node.look();
    node.start(node.config(MigStrategy::Single));
    let error = node.plugin.take().unwrap().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("GPU 1 has none"), "{error}");

    node.start(Config {
        fail_on_init_error: false,
        ..node.config(MigStrategy::Single)
    });
    node.until_status(|status| status.error.as_ref().is_some_and(|e| e.contains("GPU 1")))
        .await;
    partition(&node.nvml, node.folder.path(), "1g.5gb");
    node.look();
    kubelet.until_counts(GPU, 14, 14).await;
    node.until_status(PluginStatus::is_ready).await;
}

#[tokio::test]
async fn a_node_that_comes_to_break_the_single_strategy_keeps_what_is_still_there() {
    let mut node = Node::new(2, "1g.5gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(node.config(MigStrategy::Single));
    kubelet.until_counts(GPU, 14, 14).await;

    let gpus = node.nvml.inventory().unwrap().gpus;
    clear(&node.nvml, &gpus[1]);
    node.look();
    let resource = kubelet.until_counts(GPU, 7, 7).await;
    for entry in gpus[0].mig_devices() {
        assert!(resource.devices[entry.device.uuid.as_str()]);
    }
    node.until_status(|status| status.error.is_some()).await;

    partition(&node.nvml, node.folder.path(), "1g.5gb");
    node.look();
    kubelet.until_counts(GPU, 14, 14).await;
    node.until_status(PluginStatus::is_ready).await;
}

#[tokio::test]
async fn a_plugin_that_ends_takes_its_sockets_along_and_the_next_one_registers() {
    let mut node = Node::new(1, "1g.5gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(node.config(MigStrategy::Single));
    let first = kubelet.until_counts(GPU, 7, 7).await.endpoint;
    node.stop().await;
    assert!(sockets(&node.kubelet_dir()).is_empty());
    kubelet.until(GPU, |resource| !resource.connected).await;

    node.start(node.config(MigStrategy::Single));
    let second = kubelet.until(GPU, |now| {
        now.connected && now.devices.len() == 7 && now.endpoint != first
    });
    second.await;
}

#[tokio::test]
async fn a_kubelet_whose_folder_is_missing_is_waited_for_and_told_of() {
    let mut node = Node::new(1, "1g.5gb");
    let folder = node.kubelet_dir();
    node.start(node.config(MigStrategy::Single));
    let says = |status: &PluginStatus| {
        let error = status.error.as_ref();
        error.is_some_and(|error| error.contains(&folder.display().to_string()))
    };
    let status = node.until_status(says).await;
    assert!(!status.is_ready());

    let kubelet = Kubelet::start(&folder);
    kubelet.until_counts(GPU, 7, 7).await;
    node.until_status(PluginStatus::is_ready).await;
}

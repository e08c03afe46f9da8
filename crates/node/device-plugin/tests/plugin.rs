//! The plugin against a small kubelet, over real sockets; the node's GPUs are simulated ones.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/kubelet.rs"]
mod kubelet;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kubelet::Kubelet;
use mig::{MigStrategy, NodeLayout};
use migpool_device_plugin::{
    Config, DeviceListStrategy, Error, Fault, Health, Location, PluginStatus, Registration,
    ResourceStatus, run,
};
use nvml::{FailedGpu, Inventory, Nvml};
use nvml_sim::DriverRoot;
use partition::{Options, Partitioner};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const GPU: &str = "nvidia.com/gpu";
const MIG_1G: &str = "nvidia.com/mig-1g.5gb";
const MIG_3G: &str = "nvidia.com/mig-3g.20gb";

/// A node of simulated A100s with a plugin on it.
struct Node {
    folder: TempDir,
    nvml: Nvml,
    inventory: watch::Sender<Arc<Inventory>>,
    health: watch::Sender<Arc<Health>>,
    status: watch::Receiver<PluginStatus>,
    cancel: CancellationToken,
    plugin: Option<JoinHandle<Result<(), Error>>>,
}

impl Node {
    /// So many A100s, each with this layout.
    fn new(gpus: u32, layout: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let board = mig::board("A100-40GB").unwrap();
        DriverRoot::create(&root, &[(board, gpus)]).unwrap();
        let nvml = Nvml::load(&root).unwrap();
        partition(&nvml, folder.path(), layout);
        let inventory = watch::Sender::new(Arc::new(nvml.inventory().unwrap()));
        let health = watch::Sender::new(Arc::new(Health::default()));
        let cancel = CancellationToken::new();
        let status = watch::channel(PluginStatus::default()).1;
        Self {
            folder,
            nvml,
            inventory,
            health,
            status,
            cancel,
            plugin: None,
        }
    }

    fn kubelet_dir(&self) -> std::path::PathBuf {
        self.folder.path().join("kubelet")
    }

    fn cdi_file(&self) -> std::path::PathBuf {
        let folder = self.folder.path().join("cdi");
        folder.join("k8s.device-plugin.nvidia.com-gpu.json")
    }

    fn config(&self, mig_strategy: MigStrategy) -> Config {
        let root = self.folder.path().join("root");
        Config {
            mig_strategy,
            dev_root: Some(root),
            kubelet_dir: self.kubelet_dir(),
            cdi_spec_dir: self.folder.path().join("cdi"),
            sysfs: self.folder.path().join("sys"),
            ..Config::default()
        }
    }

    fn start(&mut self, config: Config) {
        let (status, watched) = watch::channel(PluginStatus::default());
        self.status = watched;
        self.cancel = CancellationToken::new();
        self.plugin = Some(tokio::spawn(run(
            config,
            self.inventory.subscribe(),
            self.health.subscribe(),
            status,
            self.cancel.clone(),
        )));
    }

    async fn stop(&mut self) {
        self.cancel.cancel();
        self.plugin.take().unwrap().await.unwrap().unwrap();
    }

    /// Takes a new snapshot, as the agent does after an event.
    fn look(&self) {
        self.inventory
            .send_replace(Arc::new(self.nvml.inventory().unwrap()));
    }

    async fn until_status(&mut self, wanted: impl FnMut(&PluginStatus) -> bool) -> PluginStatus {
        self.status.wait_for(wanted).await.unwrap().clone()
    }
}

/// Brings the GPUs to a layout, whatever is there.
fn partition(nvml: &Nvml, folder: &Path, layout: &str) {
    let options = Options {
        replace_all: true,
        ..Options::default()
    };
    let layout: NodeLayout = layout.parse().unwrap();
    let partitioner = Partitioner::new(nvml.clone(), folder.join("partition"));
    let report = partitioner.apply(&layout, options, &[]).unwrap();
    assert!(report.is_done(), "{report:?}");
}

/// Destroys all instances of a GPU and leaves its MIG mode on.
fn clear(nvml: &Nvml, gpu: &nvml::Gpu) {
    for instance in &gpu.instances {
        for compute in &instance.compute_instances {
            nvml.destroy_compute_instance(&gpu.uuid, instance.id, compute.id)
                .unwrap();
        }
        nvml.destroy_gpu_instance(&gpu.uuid, instance.id).unwrap();
    }
}

/// Waits until it is so, at most a minute.
async fn eventually(mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting)
        .await
        .expect("it never came to be so");
}

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
async fn a_cdi_name_that_is_allocated_is_in_the_specification() {
    let mut node = Node::new(2, "3g.20gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let config = Config {
        device_list_strategies: vec![DeviceListStrategy::CdiCri],
        ..node.config(MigStrategy::Single)
    };
    node.start(config);
    let resource = kubelet.until_counts(GPU, 4, 4).await;
    let id = resource.devices.keys().next().unwrap();
    let response = kubelet.allocate(GPU, &[id]).await.unwrap();
    let name = response.cdi_devices[0].name.clone();

    let spec: serde_json::Value =
        serde_json::from_slice(&fs::read(node.cdi_file()).unwrap()).unwrap();
    let kind = spec["kind"].as_str().unwrap();
    let devices = spec["devices"].as_array().unwrap();
    let device = devices
        .iter()
        .find(|device| format!("{kind}={}", device["name"].as_str().unwrap()) == name)
        .unwrap();
    for node in device["containerEdits"]["deviceNodes"].as_array().unwrap() {
        assert!(
            Path::new(node["hostPath"].as_str().unwrap()).exists(),
            "{node}"
        );
    }
    assert_eq!(devices.len(), 4);
}

#[tokio::test]
async fn a_cdi_specification_that_was_deleted_or_became_old_is_written_again() {
    let mut node = Node::new(1, "3g.20gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(Config {
        device_list_strategies: vec![DeviceListStrategy::CdiCri],
        ..node.config(MigStrategy::Single)
    });
    kubelet.until_counts(GPU, 2, 2).await;
    let file = node.cdi_file();
    fs::remove_file(&file).unwrap();
    // A control node that appears when it is first used belongs into the specification, too.
    let late = "/dev/nvidia-modeset";
    assert!(!node.folder.path().join("root").join(&late[1..]).exists());
    fs::write(node.folder.path().join("root").join(&late[1..]), "").unwrap();
    eventually(|| fs::read_to_string(&file).is_ok_and(|text| text.contains(late))).await;
}

#[tokio::test]
async fn slices_without_a_cdi_specification_are_unhealthy_until_it_can_be_written() {
    let mut node = Node::new(1, "3g.20gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let folder = node.folder.path().join("cdi");
    fs::write(&folder, "in the way").unwrap();
    node.start(Config {
        device_list_strategies: vec![DeviceListStrategy::CdiCri],
        ..node.config(MigStrategy::Single)
    });
    let resource = kubelet.until_counts(GPU, 2, 0).await;
    let id = resource.devices.keys().next().unwrap();
    let error = kubelet.allocate(GPU, &[id]).await.unwrap_err();
    assert!(
        error.message().contains("CDI specification"),
        "{}",
        error.message()
    );
    let says = |status: &PluginStatus| status.error.as_ref().is_some_and(|e| e.contains("CDI"));
    node.until_status(says).await;

    fs::remove_file(&folder).unwrap();
    kubelet.until_counts(GPU, 2, 2).await;
    assert!(node.cdi_file().exists());
    node.until_status(PluginStatus::is_ready).await;
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

//! A node of simulated A100s with a plugin on it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mig::{MigStrategy, NodeLayout};
use migpool_device_plugin::{Config, Error, Health, PluginStatus, Resource, run};
use nvml::{Inventory, Nvml};
use nvml_sim::{DriverRoot, Options as RootOptions, RootError};
use partition::{Options, Partitioner};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A node of simulated A100s with a plugin on it.
pub(crate) struct Node {
    pub(crate) folder: TempDir,
    pub(crate) nvml: Nvml,
    pub(crate) inventory: watch::Sender<Arc<Inventory>>,
    pub(crate) health: watch::Sender<Arc<Health>>,
    counted: watch::Sender<Arc<BTreeSet<Resource>>>,
    pub(crate) status: watch::Receiver<PluginStatus>,
    cancel: CancellationToken,
    pub(crate) plugin: Option<JoinHandle<Result<(), Error>>>,
}

impl Node {
    /// So many A100s, each with this layout.
    pub(crate) fn new(gpus: u32, layout: &str) -> Self {
        Self::with(gpus, layout, &RootOptions::default()).unwrap()
    }

    /// As [`Node::new`], with a driver root of these options, where those are possible here.
    pub(crate) fn with(gpus: u32, layout: &str, options: &RootOptions) -> Result<Self, RootError> {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let board = mig::board("A100-40GB").unwrap();
        DriverRoot::create_with(&root, &[(board, gpus)], options)?;
        let nvml = Nvml::load(&root).unwrap();
        partition(&nvml, folder.path(), layout);
        let inventory = watch::Sender::new(Arc::new(nvml.inventory().unwrap()));
        let health = watch::Sender::new(Arc::new(Health::default()));
        let cancel = CancellationToken::new();
        let status = watch::channel(PluginStatus::default()).1;
        Ok(Self {
            folder,
            nvml,
            inventory,
            health,
            counted: watch::Sender::default(),
            status,
            cancel,
            plugin: None,
        })
    }

    /// The driver root.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// The CDI specification as it is now.
    pub(crate) fn specification(&self) -> Value {
        serde_json::from_slice(&fs::read(self.cdi_file()).unwrap()).unwrap()
    }

    /// Writes a file into the driver root.
    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn kubelet_dir(&self) -> PathBuf {
        self.folder.path().join("kubelet")
    }

    pub(crate) fn cdi_file(&self) -> PathBuf {
        let folder = self.folder.path().join("cdi");
        folder.join("k8s.device-plugin.nvidia.com-gpu.json")
    }

    pub(crate) fn config(&self, mig_strategy: MigStrategy) -> Config {
        Config {
            mig_strategy,
            kubelet_dir: self.kubelet_dir(),
            cdi_spec_dir: self.folder.path().join("cdi"),
            sysfs: self.folder.path().join("sys"),
            ..Config::default()
        }
    }

    pub(crate) fn start(&mut self, config: Config) {
        let (status, watched) = watch::channel(PluginStatus::default());
        self.status = watched;
        self.cancel = CancellationToken::new();
        self.plugin = Some(tokio::spawn(run(
            config,
            self.inventory.subscribe(),
            self.health.subscribe(),
            self.counted.subscribe(),
            status,
            self.cancel.clone(),
        )));
    }

    pub(crate) async fn stop(&mut self) {
        self.cancel.cancel();
        self.plugin.take().unwrap().await.unwrap().unwrap();
    }

    /// From now on the cluster takes the node to have these.
    pub(crate) fn count(&self, resources: &[&str]) {
        let counted = resources.iter().map(|name| name.parse().unwrap()).collect();
        self.counted.send_replace(Arc::new(counted));
    }

    /// Takes a new snapshot, as the agent does after an event.
    pub(crate) fn look(&self) {
        self.inventory
            .send_replace(Arc::new(self.nvml.inventory().unwrap()));
    }

    pub(crate) async fn until_status(
        &mut self,
        wanted: impl FnMut(&PluginStatus) -> bool,
    ) -> PluginStatus {
        self.status.wait_for(wanted).await.unwrap().clone()
    }
}

/// Brings the GPUs to a layout, whatever is there.
pub(crate) fn partition(nvml: &Nvml, folder: &Path, layout: &str) {
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
pub(crate) fn clear(nvml: &Nvml, gpu: &nvml::Gpu) {
    for instance in &gpu.instances {
        for compute in &instance.compute_instances {
            nvml.destroy_compute_instance(&gpu.uuid, instance.id, compute.id)
                .unwrap();
        }
        nvml.destroy_gpu_instance(&gpu.uuid, instance.id).unwrap();
    }
}

/// Waits until it is so, at most a minute.
pub(crate) async fn eventually(mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting)
        .await
        .expect("it never came to be so");
}

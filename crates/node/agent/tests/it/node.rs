//! A node of simulated A100s with an agent on it.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use device_plugin::Recovery;
use migpool_agent::{AgentConfig, Drain, DriverSearch, Error, LayoutSource, PartitionConfig, run};
use nvml_sim::DriverRoot;
use nvml_sim::state::Fault;
use partition::{Options, Partitioner};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a test waits for something to come about before it counts as not coming.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until something is so.
pub(crate) async fn eventually(wanted: impl Fn() -> bool) {
    let start = Instant::now();
    while !wanted() {
        assert!(start.elapsed() < PATIENCE, "it never came to be so");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) struct Node {
    folder: TempDir,
    cancel: CancellationToken,
    agent: Option<JoinHandle<Result<(), Error>>>,
}

impl Node {
    pub(crate) fn without_driver() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            cancel: CancellationToken::new(),
            agent: None,
        }
    }

    pub(crate) fn with_gpus(gpus: u32) -> Self {
        let node = Self::without_driver();
        node.install_driver(gpus);
        node
    }

    /// Puts a driver where there was none.
    pub(crate) fn install_driver(&self, gpus: u32) {
        DriverRoot::create(self.root(), &[(mig::board("A100-40GB").unwrap(), gpus)]).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path("root")
    }

    pub(crate) fn kubelet_dir(&self) -> PathBuf {
        self.path("kubelet")
    }

    /// An agent with partition and plugin. Only events make it look: in between it waits for an hour.
    pub(crate) fn config(&self, layout: &str, mig_strategy: &str) -> AgentConfig {
        AgentConfig {
            node_name: Some("node-1".to_owned()),
            driver: DriverSearch::at(self.root()),
            partition: Some(PartitionConfig {
                layout: LayoutSource::Fixed(layout.parse().unwrap()),
                drain: Drain::Wait,
                state_dir: self.path("state"),
                replace_all: true,
                pod_resources: None,
            }),
            plugin: Some(device_plugin::Config {
                mig_strategy: mig_strategy.parse().unwrap(),
                kubelet_dir: self.kubelet_dir(),
                sysfs: self.path("sys"),
                ..device_plugin::Config::default()
            }),
            status_file: Some(self.path("status.json")),
            recovery: Recovery {
                first: Duration::from_millis(300),
                longest: Duration::from_secs(1),
            },
            look_interval: Duration::from_hours(1),
            ..AgentConfig::default()
        }
    }

    pub(crate) fn start(&mut self, config: AgentConfig) {
        self.cancel = CancellationToken::new();
        self.agent = Some(tokio::spawn(run(config, self.cancel.clone())));
    }

    pub(crate) async fn stop(&mut self) {
        self.cancel.cancel();
        self.agent.take().unwrap().await.unwrap().unwrap();
    }

    pub(crate) fn status(&self) -> Value {
        let text = fs::read(self.path("status.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Waits until the status file is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "the status never came to be as wanted: {status}"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Somebody else brings the GPUs to a layout.
    pub(crate) fn partition(&self, layout: &str) {
        let nvml = nvml::Nvml::load(&self.root()).unwrap();
        let partitioner = Partitioner::new(nvml, self.path("elsewhere"));
        let options = Options {
            replace_all: true,
            ..Options::default()
        };
        let report = partitioner
            .apply(&layout.parse().unwrap(), options, &[])
            .unwrap();
        assert!(report.is_done(), "{report:?}");
    }

    pub(crate) fn inject(&self, fault: Fault) {
        DriverRoot::open(self.root())
            .unwrap()
            .inject(fault)
            .unwrap();
    }

    pub(crate) fn clear_faults(&self) {
        DriverRoot::open(self.root())
            .unwrap()
            .clear_faults()
            .unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

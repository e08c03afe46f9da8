//! What an agent is told to do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use device_plugin::Recovery;
use mig::MigStrategy;

use crate::{ClusterConfig, Drain, DriverSearch, LabelsOutput, LayoutSource};

/// Which parts run, and how. Parts that are `None` do not run.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own, and all of them may be on"
)]
pub struct AgentConfig {
    /// The node's name, for the status.
    pub node_name: Option<String>,
    /// Where the driver lies.
    pub driver: DriverSearch,
    /// End with an error when there is no driver that works at the start, instead of waiting until there is.
    pub fail_on_init_error: bool,
    /// Bring the GPUs to a layout before anything of them is advertised.
    pub partition: Option<PartitionConfig>,
    /// Advertise the GPUs to the kubelet.
    pub plugin: Option<device_plugin::Config>,
    /// Write the node's labels.
    pub discovery: Option<Discovery>,
    /// How to reach the API server, for whatever needs it.
    pub cluster: Option<ClusterConfig>,
    /// Keep the node's taint and conditions in the cluster, and say events on it.
    pub node_status: bool,
    /// Follow the node's `GpuNode` where a pool has the node, and keep its status. Needs `cluster`
    /// and `partition`.
    pub gpu_node: bool,
    /// Answer `/healthz`, `/readyz` and `/metrics` here.
    pub listen: Option<SocketAddr>,
    /// Keep the [`Status`](crate::Status) as JSON in this file.
    pub status_file: Option<PathBuf>,
    /// End when standard input is closed, as it is when the parent process dies.
    pub lifeline: bool,
    /// When a faulty device is looked at again.
    pub recovery: Recovery,
    /// How long to wait for a driver event before taking a look anyway.
    pub look_interval: Duration,
    /// The system's device tree, which tells whether the machine has GPUs.
    pub sysfs: PathBuf,
}

impl Default for AgentConfig {
    /// Watches the system's driver and does nothing else.
    fn default() -> Self {
        Self {
            node_name: None,
            driver: DriverSearch::default(),
            fail_on_init_error: false,
            partition: None,
            plugin: None,
            discovery: None,
            cluster: None,
            node_status: false,
            gpu_node: false,
            listen: None,
            status_file: None,
            lifeline: false,
            recovery: Recovery::default(),
            look_interval: Duration::from_secs(5),
            sysfs: PathBuf::from("/sys"),
        }
    }
}

impl AgentConfig {
    /// Whether pods are evicted where they are in the way.
    pub(crate) fn evicts(&self) -> bool {
        let partition = self.partition.as_ref();
        partition.is_some_and(|partition| partition.drain == Drain::Evict)
    }

    /// How to reach the API server, if anything has something to say to it.
    pub(crate) fn reachable(&self) -> Option<&ClusterConfig> {
        let cluster = self.cluster.as_ref();
        cluster.filter(|_| self.gpu_node || self.needs_cluster())
    }

    /// Whether any part has something to say to the API server.
    pub(crate) fn needs_cluster(&self) -> bool {
        let labels = self.discovery.as_ref();
        self.node_status
            || self.evicts()
            || labels.is_some_and(|labels| labels.output.is_in_cluster())
    }

    /// Whether there is nothing to do but to write labels once.
    pub(crate) fn is_one_shot_discovery(&self) -> bool {
        let once = self.discovery.as_ref().is_some_and(|labels| labels.oneshot);
        once && self.plugin.is_none() && self.partition.is_none()
    }
}

/// How the GPUs are to be partitioned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionConfig {
    /// Where the wanted layout is written.
    pub layout: LayoutSource,
    /// What is done about those who use slices that have no room in it.
    pub drain: Drain,
    /// Where the lock, the record of what is ours and the journal are kept.
    pub state_dir: PathBuf,
    /// Remove instances that somebody else created.
    pub replace_all: bool,
    /// The kubelet's pod resources socket, to learn which pods hold slices before one is destroyed.
    pub pod_resources: Option<PathBuf>,
}

/// How the node's labels are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// How MIG devices are shown.
    pub mig_strategy: MigStrategy,
    /// Where the labels go.
    pub output: LabelsOutput,
    /// Write once and end; the file stays. Otherwise it is removed at the end.
    pub oneshot: bool,
    /// Write the label `gfd.timestamp`.
    pub timestamp: bool,
    /// How often the labels are checked besides after every change; never, when `None`.
    pub interval: Option<Duration>,
    /// The file that says what machine this is.
    pub machine_type_file: PathBuf,
    /// The system's device tree.
    pub sysfs: PathBuf,
    /// One-shot: end with an error, rather than with no labels, when a driver is there but fails.
    pub fail_on_init_error: bool,
}

impl Default for Discovery {
    /// NVIDIA's defaults.
    fn default() -> Self {
        Self {
            mig_strategy: MigStrategy::None,
            output: LabelsOutput::File(PathBuf::from(
                "/etc/kubernetes/node-feature-discovery/features.d/gfd",
            )),
            oneshot: false,
            timestamp: true,
            interval: Some(Duration::from_mins(1)),
            machine_type_file: PathBuf::from(discovery::DMI_PRODUCT_NAME),
            sysfs: PathBuf::from("/sys"),
            fail_on_init_error: true,
        }
    }
}

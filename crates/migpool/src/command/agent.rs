//! `migpool device-plugin`, `feature-discovery` and `agent`: the node components, with NVIDIA's flags.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use agent::{
    AgentConfig, ClusterConfig, ConfigFile, Defaults, Drain, DriverRoot, LayoutSource, OutputKind,
    PartitionConfig, Settings, SleepInterval,
};
use clap::Args;
use device_plugin::{DeviceIdStrategy, DeviceListStrategy, Xids};
use mig::{MigStrategy, NodeLayout};

use crate::failure::{Failure, chain};
use crate::runtime::{cancelled_by_signals, start_log};

/// What all node components take. Precedence: command line, environment, config file.
#[derive(Debug, Args)]
struct Common {
    /// The MIG strategy: none, single or mixed [default: none]
    #[arg(long, value_name = "STRATEGY", env = "MIG_STRATEGY")]
    mig_strategy: Option<MigStrategy>,
    /// The folder of the node under which the NVIDIA driver is installed, or `auto`: the first of /, /run/nvidia/driver and
    /// /home/kubernetes/bin/nvidia that has one [default: /]
    #[arg(
        long,
        visible_alias = "driver-root",
        value_name = "DIR",
        env = "NVIDIA_DRIVER_ROOT"
    )]
    nvidia_driver_root: Option<DriverRoot>,
    /// Where the node's / is mounted in this container [default: /]
    #[arg(long, value_name = "DIR", env = "MIGPOOL_HOST_ROOT")]
    host_root: Option<PathBuf>,
    /// Where the driver root is mounted in this container, if not below the host root
    #[arg(
        long,
        visible_alias = "driver-root-ctr-path",
        value_name = "DIR",
        env = "CONTAINER_DRIVER_ROOT"
    )]
    container_driver_root: Option<PathBuf>,
    /// Reach the API server by this kubeconfig instead of the pod's own token, where it has to be reached
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// End with an error when there is no driver that works at the start, instead of waiting, not ready, until there is
    /// [default: false]
    #[arg(long, value_name = "BOOL", env = "FAIL_ON_INIT_ERROR", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    fail_on_init_error: Option<bool>,
    /// NVIDIA's configuration file (`version: v1`). It is watched; while it is wrong, what it said last holds and the
    /// agent is not ready
    #[arg(long, value_name = "FILE", env = "CONFIG_FILE")]
    config_file: Option<PathBuf>,
    /// Answer /healthz, /readyz and /metrics on this address; nothing listens without it
    #[arg(long, value_name = "ADDRESS:PORT", env = "MIGPOOL_LISTEN")]
    listen: Option<SocketAddr>,
    /// The node's name
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    node_name: Option<String>,
    /// The folder of the system's device tree [default: /sys]
    #[arg(long, value_name = "DIR", hide = true)]
    sysfs: Option<PathBuf>,
}

/// The device plugin's own.
#[derive(Debug, Args)]
struct PluginFlags {
    /// The folder under which device nodes are found [default: the driver root, if it has a /dev]
    #[arg(
        long,
        visible_alias = "nvidia-dev-root",
        value_name = "DIR",
        env = "NVIDIA_DEV_ROOT"
    )]
    dev_root: Option<PathBuf>,
    /// Give containers the device nodes of their devices [default: false]
    #[arg(long, value_name = "BOOL", env = "PASS_DEVICE_SPECS", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pass_device_specs: Option<bool>,
    /// How containers learn of their devices, separated by commas: envvar, volume-mounts, cdi-annotations, cdi-cri
    /// [default: envvar]
    #[arg(
        long,
        value_name = "STRATEGY,..",
        env = "DEVICE_LIST_STRATEGY",
        value_delimiter = ','
    )]
    device_list_strategy: Option<Vec<DeviceListStrategy>>,
    /// What containers call their devices by: uuid or index [default: uuid]
    #[arg(long, value_name = "STRATEGY", env = "DEVICE_ID_STRATEGY")]
    device_id_strategy: Option<DeviceIdStrategy>,
    /// The prefix of CDI annotations [default: cdi.k8s.io/]
    #[arg(long, value_name = "PREFIX", env = "CDI_ANNOTATION_PREFIX")]
    cdi_annotation_prefix: Option<String>,
    /// The folder of CDI specifications [default: /var/run/cdi]
    #[arg(long, value_name = "DIR")]
    cdi_spec_dir: Option<PathBuf>,
    /// The kubelet's registration socket [default: /var/lib/kubelet/device-plugins/kubelet.sock]
    #[arg(
        long,
        value_name = "SOCKET",
        env = "KUBELET_SOCKET",
        conflicts_with = "kubelet_dir"
    )]
    kubelet_socket: Option<PathBuf>,
    /// The folder of the kubelet's device plugins, which holds kubelet.sock
    #[arg(long, value_name = "DIR")]
    kubelet_dir: Option<PathBuf>,
    /// NVIDIA's nvidia-cdi-hook on the node; CDI specifications then call it as NVIDIA's own do, and need no program
    /// without
    #[arg(long, value_name = "PROGRAM", env = "NVIDIA_CDI_HOOK_PATH")]
    nvidia_cdi_hook_path: Option<PathBuf>,
    /// XIDs that make no device unhealthy, or `all` to look at none
    #[arg(long, value_name = "XIDS", env = "DP_DISABLE_HEALTHCHECKS")]
    disable_health_checks: Option<Xids>,
    /// XIDs that make a device unhealthy although they are ignored by default
    #[arg(long, value_name = "XIDS", env = "DP_ENABLE_HEALTHCHECKS")]
    enable_health_checks: Option<Xids>,
}

/// Feature discovery's own.
#[derive(Debug, Args)]
struct DiscoveryFlags {
    /// Write the labels once and end
    #[arg(long, value_name = "BOOL", env = "GFD_ONESHOT", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    oneshot: Option<bool>,
    /// Leave the time stamp out
    #[arg(long, value_name = "BOOL", env = "GFD_NO_TIMESTAMP", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    no_timestamp: Option<bool>,
    /// How often the labels are checked besides after every change: 60s, 5m, infinite [default: 60s]
    #[arg(long, value_name = "INTERVAL", env = "GFD_SLEEP_INTERVAL")]
    sleep_interval: Option<SleepInterval>,
    /// Where the labels go: file (that of --output-file), stdout, node (the node itself, through the API server),
    /// node-feature (a NodeFeature object), or the path of a file [default: file]
    #[arg(long, value_name = "WHERE", env = "MIGPOOL_OUTPUT")]
    output: Option<OutputKind>,
    /// Without --output: the labels go to a NodeFeature object [default: false]
    #[arg(long, value_name = "BOOL", env = "GFD_USE_NODE_FEATURE_API", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    use_node_feature_api: Option<bool>,
    /// The namespace of the NodeFeature object [default: default]
    #[arg(long, value_name = "NAMESPACE", env = "NAMESPACE")]
    namespace: Option<String>,
    /// The labels' file; `-` or empty is standard output
    /// [default: /etc/kubernetes/node-feature-discovery/features.d/gfd]
    #[arg(
        short = 'o',
        long,
        visible_alias = "labels-file",
        value_name = "FILE",
        env = "GFD_OUTPUT_FILE"
    )]
    output_file: Option<PathBuf>,
    /// The file that says what machine this is [default: /sys/class/dmi/id/product_name]
    #[arg(long, value_name = "FILE", env = "GFD_MACHINE_TYPE_FILE")]
    machine_type_file: Option<PathBuf>,
}

/// Advertise this node's GPUs and MIG devices to the kubelet.
#[derive(Debug, Args)]
pub(crate) struct DevicePlugin {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    plugin: PluginFlags,
}

/// Write this node's GPU labels.
#[derive(Debug, Args)]
pub(crate) struct FeatureDiscovery {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    discovery: DiscoveryFlags,
}

/// Partition, device plugin and feature discovery in one process, over one watched inventory.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
#[derive(Debug, Args)]
pub(crate) struct Agent {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    plugin: PluginFlags,
    #[command(flatten)]
    discovery: DiscoveryFlags,
    /// The layout to bring the GPUs to before anything is advertised; they are left as they are without it
    #[arg(long, value_name = "LAYOUT", env = "MIGPOOL_LAYOUT")]
    layout: Option<NodeLayout>,
    /// A file that has the layout instead. It is watched; an empty one leaves the GPUs as they are
    #[arg(
        long,
        value_name = "FILE",
        env = "MIGPOOL_LAYOUT_FILE",
        conflicts_with = "layout"
    )]
    layout_file: Option<PathBuf>,
    /// What is done about pods that hold slices which have no room in the layout: never (it is refused), wait (until they
    /// end), evict (through the API server, as far as their PodDisruptionBudgets allow)
    #[arg(
        long,
        value_name = "never|wait|evict",
        env = "MIGPOOL_DRAIN",
        default_value = "wait"
    )]
    drain: Drain,
    /// Keep the node's taint migpool.dev/partitioning and its conditions in the cluster, and publish events on it
    #[arg(long, value_name = "BOOL", env = "MIGPOOL_NODE_STATUS", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = clap::ArgAction::Set)]
    node_status: bool,
    /// Keep the node's GpuNode in the cluster, and follow what it wants: the layout, the MIG strategy and how to drain of
    /// the node pool that has the node go before those of these flags
    #[arg(long, value_name = "BOOL", env = "MIGPOOL_GPU_NODE", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = clap::ArgAction::Set)]
    gpu_node: bool,
    /// Folder for the lock, the record of what migpool created, and the journal
    #[arg(long, value_name = "DIR", default_value = "/var/lib/migpool/partition")]
    state_dir: PathBuf,
    /// Also remove GPU instances that migpool did not create
    #[arg(long)]
    replace_all: bool,
    /// The kubelet's pod resources socket, to learn which pods hold slices before one is destroyed
    #[arg(long, value_name = "SOCKET")]
    pod_resources_socket: Option<PathBuf>,
    /// Keep the agent's status in this file, as JSON
    #[arg(long, value_name = "FILE")]
    status_file: Option<PathBuf>,
    /// End when standard input is closed
    #[arg(long)]
    lifeline: bool,
}

impl DevicePlugin {
    /// Runs until it is interrupted.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let defaults = self.common.defaults(Some(&self.plugin));
        let (listen, node_name) = (self.common.listen, self.common.node_name.clone());
        let file = self.common.config_file.clone();
        let settings = self.plugin.settings(self.common.settings());
        run(file, settings, |settings| AgentConfig {
            discovery: None,
            listen,
            node_name: node_name.clone(),
            ..settings.into_agent_config(&defaults)
        })
        .await
    }
}

impl FeatureDiscovery {
    /// Runs until it is interrupted, or once.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let defaults = self.common.defaults(None);
        let (listen, node_name) = (self.common.listen, self.common.node_name.clone());
        let (file, cluster) = (self.common.config_file.clone(), self.common.cluster());
        let settings = self.discovery.settings(self.common.settings());
        run(file, settings, |settings| AgentConfig {
            plugin: None,
            listen,
            node_name: node_name.clone(),
            cluster: cluster.clone(),
            ..settings.into_agent_config(&defaults)
        })
        .await
    }
}

impl Agent {
    /// Runs until it is interrupted.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let defaults = self.common.defaults(Some(&self.plugin));
        let (listen, node_name) = (self.common.listen, self.common.node_name.clone());
        let (file, cluster) = (self.common.config_file.clone(), self.common.cluster());
        let settings = self
            .discovery
            .settings(self.plugin.settings(self.common.settings()));
        let needs_node = [
            (self.node_status, "--node-status"),
            (self.gpu_node, "--gpu-node"),
            (self.drain == Drain::Evict, "--drain evict"),
        ];
        if let Some((_, flag)) = needs_node.iter().find(|(is_set, _)| *is_set)
            && cluster.is_none()
        {
            let message =
                format!("{flag} speaks to the cluster of this node, and its name is not known");
            return Err(Failure::usage(message).with_help("set NODE_NAME or --node-name"));
        }
        let source = self
            .layout
            .map(LayoutSource::Fixed)
            .or(self.layout_file.map(LayoutSource::File))
            // A pool may want one.
            .or(self.gpu_node.then_some(LayoutSource::Unset));
        let partition = source.map(|layout| PartitionConfig {
            layout,
            drain: self.drain,
            state_dir: self.state_dir,
            replace_all: self.replace_all,
            pod_resources: self.pod_resources_socket,
        });
        run(file, settings, |settings| AgentConfig {
            partition: partition.clone(),
            listen,
            node_name: node_name.clone(),
            cluster: cluster.clone(),
            node_status: self.node_status,
            gpu_node: self.gpu_node,
            status_file: self.status_file.clone(),
            lifeline: self.lifeline,
            ..settings.into_agent_config(&defaults)
        })
        .await
    }
}

/// Runs an agent with these settings and, where they say nothing, the file's.
async fn run(
    file: Option<PathBuf>,
    settings: Settings,
    make: impl Fn(Settings) -> AgentConfig,
) -> Result<(), Failure> {
    start_log();
    let cancel = cancelled_by_signals()?;
    let outcome = match file {
        None => agent::run(make(settings), cancel).await,
        // What runs once has no time to wait for a better file.
        Some(file) if settings.oneshot == Some(true) => {
            let settings = settings.or(read(&file)?);
            agent::run(make(settings), cancel).await
        }
        Some(file) => {
            let make = |of_file| make(settings.clone().or(of_file));
            agent::run_configured(file, make, cancel).await
        }
    };
    outcome.map_err(Failure::of)
}

/// What a config file says.
fn read(path: &Path) -> Result<Settings, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!(
            "cannot read the config file {}: {error}",
            path.display()
        ))
    })?;
    let file = ConfigFile::parse(&text)
        .map_err(|error| Failure::usage(format!("{}: {}", path.display(), chain(&error))))?;
    Ok(file.into_settings())
}

impl Common {
    fn settings(self) -> Settings {
        Settings {
            mig_strategy: self.mig_strategy,
            fail_on_init_error: self.fail_on_init_error,
            nvidia_driver_root: self.nvidia_driver_root,
            host_root: self.host_root,
            container_driver_root: self.container_driver_root,
            ..Settings::default()
        }
    }

    fn defaults(&self, plugin: Option<&PluginFlags>) -> Defaults {
        Defaults {
            cdi_spec_dir: plugin.and_then(|plugin| plugin.cdi_spec_dir.clone()),
            sysfs: self.sysfs.clone(),
        }
    }

    /// How to reach the API server as this node, if it is known which that is.
    fn cluster(&self) -> Option<ClusterConfig> {
        self.node_name.clone().map(|node| ClusterConfig {
            node,
            kubeconfig: self.kubeconfig.clone(),
        })
    }
}

impl PluginFlags {
    fn settings(self, common: Settings) -> Settings {
        let of_socket = self
            .kubelet_socket
            .as_deref()
            .and_then(Path::parent)
            .map(Path::to_owned);
        Settings {
            nvidia_dev_root: self.dev_root,
            pass_device_specs: self.pass_device_specs,
            device_list_strategies: self.device_list_strategy,
            device_id_strategy: self.device_id_strategy,
            cdi_annotation_prefix: self.cdi_annotation_prefix,
            kubelet_dir: self.kubelet_dir.or(of_socket),
            cdi_hook: self.nvidia_cdi_hook_path,
            disable_health_checks: self.disable_health_checks,
            enable_health_checks: self.enable_health_checks,
            ..common
        }
    }
}

impl DiscoveryFlags {
    fn settings(self, common: Settings) -> Settings {
        Settings {
            oneshot: self.oneshot,
            no_timestamp: self.no_timestamp,
            sleep_interval: self.sleep_interval,
            output_file: self.output_file.map(|path| {
                if path.as_os_str() == "-" {
                    PathBuf::new()
                } else {
                    path
                }
            }),
            machine_type_file: self.machine_type_file,
            output: self.output,
            use_node_feature_api: self.use_node_feature_api,
            namespace: self.namespace,
            ..common
        }
    }
}

//! `migpool device-plugin`, `feature-discovery` and `agent`: the node components, with NVIDIA's flags.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use agent::{AgentConfig, ConfigFile, Defaults, PartitionConfig, Settings, SleepInterval};
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
    /// The folder under which the NVIDIA driver is installed [default: /]
    #[arg(
        long,
        visible_alias = "driver-root",
        value_name = "DIR",
        env = "NVIDIA_DRIVER_ROOT"
    )]
    nvidia_driver_root: Option<PathBuf>,
    /// Fail when the driver is there but fails, instead of waiting until it works [default: true]
    #[arg(long, value_name = "BOOL", env = "FAIL_ON_INIT_ERROR", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    fail_on_init_error: Option<bool>,
    /// NVIDIA's configuration file (`version: v1`)
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
    /// The labels' file; `-` or empty is standard output
    /// [default: /etc/kubernetes/node-feature-discovery/features.d/gfd]
    #[arg(short = 'o', long, visible_aliases = ["output", "labels-file"], value_name = "FILE", env = "GFD_OUTPUT_FILE")]
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
        let file = self.common.file()?;
        let settings = self.plugin.settings(self.common.settings()).or(file);
        let config = AgentConfig {
            discovery: None,
            listen,
            node_name,
            ..settings.into_agent_config(&defaults)
        };
        run(config).await
    }
}

impl FeatureDiscovery {
    /// Runs until it is interrupted, or once.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let defaults = self.common.defaults(None);
        let (listen, node_name) = (self.common.listen, self.common.node_name.clone());
        let file = self.common.file()?;
        let settings = self.discovery.settings(self.common.settings()).or(file);
        let config = AgentConfig {
            plugin: None,
            listen,
            node_name,
            ..settings.into_agent_config(&defaults)
        };
        run(config).await
    }
}

impl Agent {
    /// Runs until it is interrupted.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let defaults = self.common.defaults(Some(&self.plugin));
        let (listen, node_name) = (self.common.listen, self.common.node_name.clone());
        let file = self.common.file()?;
        let settings = self
            .discovery
            .settings(self.plugin.settings(self.common.settings()))
            .or(file);
        let partition = self.layout.map(|layout| PartitionConfig {
            layout,
            state_dir: self.state_dir,
            replace_all: self.replace_all,
            pod_resources: self.pod_resources_socket,
        });
        let config = AgentConfig {
            partition,
            listen,
            node_name,
            status_file: self.status_file,
            lifeline: self.lifeline,
            ..settings.into_agent_config(&defaults)
        };
        run(config).await
    }
}

async fn run(config: AgentConfig) -> Result<(), Failure> {
    start_log();
    let cancel = cancelled_by_signals()?;
    agent::run(config, cancel).await.map_err(Failure::of)
}

impl Common {
    fn settings(self) -> Settings {
        Settings {
            mig_strategy: self.mig_strategy,
            fail_on_init_error: self.fail_on_init_error,
            nvidia_driver_root: self.nvidia_driver_root,
            ..Settings::default()
        }
    }

    fn defaults(&self, plugin: Option<&PluginFlags>) -> Defaults {
        Defaults {
            cdi_spec_dir: plugin.and_then(|plugin| plugin.cdi_spec_dir.clone()),
            sysfs: self.sysfs.clone(),
        }
    }

    /// What the config file says, if one is named.
    fn file(&self) -> Result<Settings, Failure> {
        let Some(path) = &self.config_file else {
            return Ok(Settings::default());
        };
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
            ..common
        }
    }
}

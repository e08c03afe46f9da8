//! NVIDIA's settings, wherever they come from: command line, environment or file, in this order of precedence.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use device_plugin::{
    Config, DeviceIdStrategy, DeviceListStrategy, HealthChecks, NodeFolder, Renaming, Xids,
};
use mig::MigStrategy;

use crate::{AgentConfig, Discovery, DriverRoot, DriverSearch, LabelsOutput};

/// What somebody has set; `None` is left to whoever comes next, in the end to the defaults.
///
/// Put together with [`Settings::or`]: `command_line.or(environment).or(file)`. Clap does the first two at once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// `--mig-strategy`, `MIG_STRATEGY`, `flags.migStrategy`.
    pub mig_strategy: Option<MigStrategy>,
    /// `--fail-on-init-error`, `FAIL_ON_INIT_ERROR`, `flags.failOnInitError`.
    pub fail_on_init_error: Option<bool>,
    /// `--nvidia-driver-root`, `NVIDIA_DRIVER_ROOT`, `flags.nvidiaDriverRoot`: a folder of the node, or `auto`.
    pub nvidia_driver_root: Option<DriverRoot>,
    /// `--host-root`, `MIGPOOL_HOST_ROOT`: where this process sees the node's `/`.
    pub host_root: Option<PathBuf>,
    /// `--container-driver-root`, `CONTAINER_DRIVER_ROOT`, `flags.plugin.containerDriverRoot`: where this process sees the
    /// driver root, if not below the host root.
    pub container_driver_root: Option<PathBuf>,
    /// `--dev-root`, `NVIDIA_DEV_ROOT`, `flags.nvidiaDevRoot`.
    pub nvidia_dev_root: Option<PathBuf>,
    /// `--pass-device-specs`, `PASS_DEVICE_SPECS`, `flags.plugin.passDeviceSpecs`.
    pub pass_device_specs: Option<bool>,
    /// `--device-list-strategy`, `DEVICE_LIST_STRATEGY`, `flags.plugin.deviceListStrategy`.
    pub device_list_strategies: Option<Vec<DeviceListStrategy>>,
    /// `--device-id-strategy`, `DEVICE_ID_STRATEGY`, `flags.plugin.deviceIDStrategy`.
    pub device_id_strategy: Option<DeviceIdStrategy>,
    /// `--cdi-annotation-prefix`, `CDI_ANNOTATION_PREFIX`, `flags.plugin.cdiAnnotationPrefix`.
    pub cdi_annotation_prefix: Option<String>,
    /// `--nvidia-cdi-hook-path`, `NVIDIA_CDI_HOOK_PATH`, `flags.plugin.nvidiaCDIHookPath`.
    pub cdi_hook: Option<PathBuf>,
    /// The folder of `--kubelet-socket`, `KUBELET_SOCKET`.
    pub kubelet_dir: Option<PathBuf>,
    /// `DP_DISABLE_HEALTHCHECKS`.
    pub disable_health_checks: Option<Xids>,
    /// `DP_ENABLE_HEALTHCHECKS`.
    pub enable_health_checks: Option<Xids>,
    /// `resources.gpus`.
    pub gpu_names: Option<Vec<Renaming>>,
    /// `resources.mig`.
    pub mig_names: Option<Vec<Renaming>>,
    /// `--oneshot`, `GFD_ONESHOT`, `flags.gfd.oneshot`.
    pub oneshot: Option<bool>,
    /// `--no-timestamp`, `GFD_NO_TIMESTAMP`, `flags.gfd.noTimestamp`.
    pub no_timestamp: Option<bool>,
    /// `--sleep-interval`, `GFD_SLEEP_INTERVAL`, `flags.gfd.sleepInterval`.
    pub sleep_interval: Option<SleepInterval>,
    /// `--output`, `MIGPOOL_OUTPUT`.
    pub output: Option<OutputKind>,
    /// `--use-node-feature-api`, `GFD_USE_NODE_FEATURE_API`, `flags.useNodeFeatureAPI`.
    pub use_node_feature_api: Option<bool>,
    /// `--namespace`, `NAMESPACE`: where the `NodeFeature` object is kept.
    pub namespace: Option<String>,
    /// `--output-file`, `GFD_OUTPUT_FILE`, `flags.gfd.outputFile`; empty is standard output.
    pub output_file: Option<PathBuf>,
    /// `--machine-type-file`, `GFD_MACHINE_TYPE_FILE`, `flags.gfd.machineTypeFile`.
    pub machine_type_file: Option<PathBuf>,
}

/// Folders that NVIDIA's settings do not name, for a node that is not the whole machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Where the CDI specification is written.
    pub cdi_spec_dir: Option<PathBuf>,
    /// The system's device tree.
    pub sysfs: Option<PathBuf>,
}

/// Where labels go, in a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputKind {
    /// To the file of `--output-file`.
    File,
    /// To this file, as NVIDIA's `--output` has it.
    Path(PathBuf),
    /// To standard output.
    Stdout,
    /// To the node itself.
    Node,
    /// To the node's `NodeFeature` object.
    NodeFeature,
}

/// A text that says nothing of where labels go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no place for labels; it is file, stdout, node, node-feature, or the path of a file, with a `/` in it"
)]
pub struct ParseOutputError {
    /// The text as it was given.
    pub text: String,
}

impl FromStr for OutputKind {
    type Err = ParseOutputError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "file" => Ok(Self::File),
            "stdout" | "-" => Ok(Self::Stdout),
            "node" => Ok(Self::Node),
            "node-feature" => Ok(Self::NodeFeature),
            path if path.contains('/') => Ok(Self::Path(path.into())),
            _ => Err(ParseOutputError {
                text: text.to_owned(),
            }),
        }
    }
}

/// How often labels are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SleepInterval {
    /// After this long.
    Every(Duration),
    /// Only after a change.
    Infinite,
}

/// A text that is not an interval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not an interval: give a duration above zero, such as `60s` or `5m`, or `infinite`"
)]
pub struct ParseIntervalError {
    /// The text as it was given.
    pub text: String,
}

impl FromStr for SleepInterval {
    type Err = ParseIntervalError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("infinite") {
            return Ok(Self::Infinite);
        }
        match humantime::parse_duration(text) {
            Ok(interval) if !interval.is_zero() => Ok(Self::Every(interval)),
            _ => Err(ParseIntervalError {
                text: text.to_owned(),
            }),
        }
    }
}

macro_rules! first_of {
    ($first:ident, $second:ident: $($field:ident),* $(,)?) => {
        Settings { $($field: $first.$field.or($second.$field)),* }
    };
}

impl Settings {
    /// These, and where they say nothing, those of `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        first_of!(self, other:
            mig_strategy, fail_on_init_error, nvidia_driver_root, host_root, container_driver_root,
            nvidia_dev_root, pass_device_specs, device_list_strategies, device_id_strategy,
            cdi_annotation_prefix, cdi_hook, kubelet_dir, disable_health_checks, enable_health_checks,
            gpu_names, mig_names, oneshot, no_timestamp, sleep_interval, output, use_node_feature_api,
            namespace, output_file, machine_type_file,
        )
    }

    /// Where the driver is looked for.
    #[must_use]
    pub fn driver(&self) -> DriverSearch {
        DriverSearch {
            host_root: self.host_root.clone().unwrap_or_else(|| "/".into()),
            root: self
                .nvidia_driver_root
                .clone()
                .unwrap_or_else(|| DriverRoot::Folder("/".into())),
            mounted_at: self.container_driver_root.clone(),
        }
    }

    /// Where the labels go.
    fn labels_output(&self, default: LabelsOutput) -> LabelsOutput {
        let file = || match &self.output_file {
            None => default,
            Some(path) if path == Path::new("") => LabelsOutput::Stdout,
            Some(path) => LabelsOutput::File(path.clone()),
        };
        let node_feature = || LabelsOutput::NodeFeature {
            namespace: self
                .namespace
                .clone()
                .unwrap_or_else(|| "default".to_owned()),
        };
        match &self.output {
            Some(OutputKind::Path(path)) => LabelsOutput::File(path.clone()),
            Some(OutputKind::Stdout) => LabelsOutput::Stdout,
            Some(OutputKind::Node) => LabelsOutput::Node,
            Some(OutputKind::NodeFeature) => node_feature(),
            None if self.use_node_feature_api == Some(true) => node_feature(),
            Some(OutputKind::File) | None => file(),
        }
    }

    /// Whether to give up when there is no driver that works at the start: only where somebody says so. NVIDIA's own
    /// default is to give up, and a node whose driver comes late, or has one bad GPU, is then started again and again.
    fn gives_up(&self) -> bool {
        self.fail_on_init_error.unwrap_or(false)
    }

    /// The device plugin's configuration.
    #[must_use]
    pub fn plugin(&self, defaults: &Defaults) -> Config {
        let known = Config::default();
        Config {
            mig_strategy: self.mig_strategy.unwrap_or(known.mig_strategy),
            fail_on_init_error: self.gives_up(),
            host_root: self.host_root.clone().unwrap_or(known.host_root),
            driver_mount: self.container_driver_root.clone().map(|here| NodeFolder {
                here,
                on_node: match &self.nvidia_driver_root {
                    Some(DriverRoot::Folder(folder)) => folder.clone(),
                    Some(DriverRoot::Auto) | None => PathBuf::from("/"),
                },
            }),
            dev_root: self.nvidia_dev_root.clone(),
            cdi_hook: self.cdi_hook.clone(),
            device_list_strategies: self
                .device_list_strategies
                .clone()
                .unwrap_or(known.device_list_strategies),
            device_id_strategy: self.device_id_strategy.unwrap_or(known.device_id_strategy),
            pass_device_specs: self.pass_device_specs.unwrap_or(known.pass_device_specs),
            cdi_annotation_prefix: self
                .cdi_annotation_prefix
                .clone()
                .unwrap_or(known.cdi_annotation_prefix),
            cdi_spec_dir: defaults.cdi_spec_dir.clone().unwrap_or(known.cdi_spec_dir),
            kubelet_dir: self.kubelet_dir.clone().unwrap_or(known.kubelet_dir),
            gpu_names: self.gpu_names.clone().unwrap_or_default(),
            mig_names: self.mig_names.clone().unwrap_or_default(),
            health_checks: HealthChecks {
                disabled: self.disable_health_checks.clone().unwrap_or_default(),
                enabled: self.enable_health_checks.clone().unwrap_or_default(),
            },
            sysfs: defaults.sysfs.clone().unwrap_or(known.sysfs),
        }
    }

    /// The configuration of feature discovery.
    #[must_use]
    pub fn discovery(&self, defaults: &Defaults) -> Discovery {
        let known = Discovery::default();
        Discovery {
            mig_strategy: self.mig_strategy.unwrap_or(known.mig_strategy),
            output: self.labels_output(known.output),
            oneshot: self.oneshot.unwrap_or(known.oneshot),
            timestamp: self
                .no_timestamp
                .map_or(known.timestamp, |without| !without),
            interval: match self.sleep_interval {
                None => known.interval,
                Some(SleepInterval::Every(interval)) => Some(interval),
                Some(SleepInterval::Infinite) => None,
            },
            machine_type_file: self
                .machine_type_file
                .clone()
                .unwrap_or(known.machine_type_file),
            sysfs: defaults.sysfs.clone().unwrap_or(known.sysfs),
            fail_on_init_error: self.fail_on_init_error.unwrap_or(known.fail_on_init_error),
        }
    }

    /// An agent with the device plugin and feature discovery; the caller adds or takes away parts.
    #[must_use]
    pub fn into_agent_config(self, defaults: &Defaults) -> AgentConfig {
        AgentConfig {
            driver: self.driver(),
            fail_on_init_error: self.gives_up(),
            plugin: Some(self.plugin(defaults)),
            discovery: Some(self.discovery(defaults)),
            sysfs: defaults.sysfs.clone().unwrap_or_else(|| "/sys".into()),
            ..AgentConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_who_says_something_is_heard() {
        let command_line = Settings {
            mig_strategy: Some(MigStrategy::Mixed),
            ..Settings::default()
        };
        let file = Settings {
            mig_strategy: Some(MigStrategy::Single),
            pass_device_specs: Some(true),
            ..Settings::default()
        };
        let config = command_line.or(file).plugin(&Defaults::default());
        assert_eq!(
            (config.mig_strategy, config.pass_device_specs),
            (MigStrategy::Mixed, true)
        );
    }

    #[test]
    fn nothing_said_is_nvidias_defaults_but_for_giving_up() {
        let config = Settings::default().into_agent_config(&Defaults::default());
        let plugin = Config {
            fail_on_init_error: false,
            ..Config::default()
        };
        assert_eq!(config.plugin.unwrap(), plugin);
        assert_eq!(config.discovery.unwrap(), Discovery::default());
        assert_eq!(config.driver, DriverSearch::default());
        assert!(!config.fail_on_init_error);
    }

    #[test]
    fn who_wants_it_to_give_up_is_heard() {
        let settings = Settings {
            fail_on_init_error: Some(true),
            ..Settings::default()
        };
        let config = settings.into_agent_config(&Defaults::default());
        assert!(config.fail_on_init_error && config.plugin.unwrap().fail_on_init_error);
    }

    #[test]
    fn a_driver_root_that_is_mounted_apart_is_known_by_both_its_paths() {
        let settings = Settings {
            nvidia_driver_root: Some("/run/nvidia/driver".parse().unwrap()),
            container_driver_root: Some("/driver-root".into()),
            host_root: Some("/host".into()),
            ..Settings::default()
        };
        let config = settings.into_agent_config(&Defaults::default());
        assert_eq!(config.driver.folders(), [Path::new("/driver-root")]);
        let mount = config.plugin.unwrap().driver_mount.unwrap();
        assert_eq!(mount.on_node, Path::new("/run/nvidia/driver"));
    }

    #[test]
    fn labels_go_where_they_are_told_to_under_nvidias_flags_too() {
        let output = |settings: Settings| settings.discovery(&Defaults::default()).output;
        let with = |text: &str| Settings {
            output: Some(text.parse().unwrap()),
            output_file: Some("/tmp/gfd".into()),
            namespace: Some("gpu".to_owned()),
            use_node_feature_api: Some(true),
            ..Settings::default()
        };
        let feature = LabelsOutput::NodeFeature {
            namespace: "gpu".to_owned(),
        };
        assert_eq!(output(with("node")), LabelsOutput::Node);
        assert_eq!(output(with("node-feature")), feature);
        assert_eq!(output(with("file")), LabelsOutput::File("/tmp/gfd".into()));
        assert_eq!(output(with("./gfd")), LabelsOutput::File("./gfd".into()));
        assert_eq!(output(with("stdout")), LabelsOutput::Stdout);
        let nvidias = Settings {
            output: None,
            ..with("file")
        };
        assert_eq!(output(nvidias), feature);
        assert!("nodes".parse::<OutputKind>().is_err());
    }

    #[test]
    fn an_interval_is_a_duration_or_infinite() {
        let minute = SleepInterval::Every(Duration::from_mins(1));
        assert_eq!("60s".parse(), Ok(minute));
        assert_eq!("1m0s".parse(), Ok(minute));
        assert_eq!("infinite".parse(), Ok(SleepInterval::Infinite));
        for text in ["", "0s", "often"] {
            assert!(text.parse::<SleepInterval>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_empty_output_file_is_standard_output() {
        let settings = Settings {
            output_file: Some(PathBuf::new()),
            ..Settings::default()
        };
        assert_eq!(
            settings.discovery(&Defaults::default()).output,
            LabelsOutput::Stdout
        );
    }
}

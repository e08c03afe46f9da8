//! NVIDIA's settings, wherever they come from: command line, environment or file, in this order of precedence.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use device_plugin::{Config, DeviceIdStrategy, DeviceListStrategy, HealthChecks, Renaming, Xids};
use mig::MigStrategy;

use crate::{AgentConfig, Discovery, LabelsOutput};

/// What somebody has set; `None` is left to whoever comes next, in the end to the defaults.
///
/// Put together with [`Settings::or`]: `command_line.or(environment).or(file)`. Clap does the first two at once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// `--mig-strategy`, `MIG_STRATEGY`, `flags.migStrategy`.
    pub mig_strategy: Option<MigStrategy>,
    /// `--fail-on-init-error`, `FAIL_ON_INIT_ERROR`, `flags.failOnInitError`.
    pub fail_on_init_error: Option<bool>,
    /// `--nvidia-driver-root`, `NVIDIA_DRIVER_ROOT`, `flags.nvidiaDriverRoot`.
    pub nvidia_driver_root: Option<PathBuf>,
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
            mig_strategy, fail_on_init_error, nvidia_driver_root, nvidia_dev_root, pass_device_specs,
            device_list_strategies, device_id_strategy, cdi_annotation_prefix, kubelet_dir,
            disable_health_checks, enable_health_checks, gpu_names, mig_names, oneshot, no_timestamp,
            sleep_interval, output_file, machine_type_file,
        )
    }

    /// The driver's root.
    #[must_use]
    pub fn driver_root(&self) -> PathBuf {
        self.nvidia_driver_root
            .clone()
            .unwrap_or_else(|| PathBuf::from("/"))
    }

    /// The device plugin's configuration.
    #[must_use]
    pub fn plugin(&self, defaults: &Defaults) -> Config {
        let known = Config::default();
        Config {
            mig_strategy: self.mig_strategy.unwrap_or(known.mig_strategy),
            fail_on_init_error: self.fail_on_init_error.unwrap_or(known.fail_on_init_error),
            host_root: known.host_root,
            driver_mount: known.driver_mount,
            dev_root: self.nvidia_dev_root.clone(),
            cdi_hook: known.cdi_hook,
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
            output: match &self.output_file {
                None => known.output,
                Some(path) if path == Path::new("") => LabelsOutput::Stdout,
                Some(path) => LabelsOutput::File(path.clone()),
            },
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
            driver_root: self.driver_root(),
            plugin: Some(self.plugin(defaults)),
            discovery: Some(self.discovery(defaults)),
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
    fn nothing_said_is_nvidias_defaults() {
        let config = Settings::default().into_agent_config(&Defaults::default());
        assert_eq!(config.plugin.unwrap(), Config::default());
        assert_eq!(config.discovery.unwrap(), Discovery::default());
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

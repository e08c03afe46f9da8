//! What the plugin is told: NVIDIA's settings, under NVIDIA's names.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use kubelet_api::device_plugin::v1beta1::DEVICE_PLUGIN_DIR;
use mig::MigStrategy;

use crate::{HealthChecks, Renaming};

/// Everything that decides what is advertised and how it is handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How MIG devices are shown (`MIG_STRATEGY`).
    pub mig_strategy: MigStrategy,
    /// Give up when the first look at the node finds that it breaks the strategy's rules (`FAIL_ON_INIT_ERROR`).
    pub fail_on_init_error: bool,
    /// The root that the driver lies under (`NVIDIA_DRIVER_ROOT`).
    pub driver_root: PathBuf,
    /// The root that the device nodes' `dev` lies under (`NVIDIA_DEV_ROOT`).
    pub dev_root: PathBuf,
    /// How a container is told of its devices (`DEVICE_LIST_STRATEGY`); all of these at once.
    pub device_list_strategies: Vec<DeviceListStrategy>,
    /// What a container is told (`DEVICE_ID_STRATEGY`). The kubelet is always told UUIDs.
    pub device_id_strategy: DeviceIdStrategy,
    /// Give a container its device nodes as well (`PASS_DEVICE_SPECS`).
    pub pass_device_specs: bool,
    /// What CDI annotations start with (`CDI_ANNOTATION_PREFIX`).
    pub cdi_annotation_prefix: String,
    /// Where the CDI specification is written.
    pub cdi_spec_dir: PathBuf,
    /// The folder of the kubelet's device plugins: it holds `kubelet.sock`, and gets our sockets.
    pub kubelet_dir: PathBuf,
    /// Names for whole GPUs, by product name; `nvidia.com/gpu` where none matches.
    pub gpu_names: Vec<Renaming>,
    /// Names for MIG devices, by profile; the strategy's own where none matches.
    pub mig_names: Vec<Renaming>,
    /// Which driver events make a device unhealthy (`DP_DISABLE_HEALTHCHECKS`, `DP_ENABLE_HEALTHCHECKS`).
    pub health_checks: HealthChecks,
    /// The system's device tree, from which a GPU's NUMA node is read.
    pub sysfs: PathBuf,
}

impl Default for Config {
    /// NVIDIA's defaults.
    fn default() -> Self {
        Self {
            mig_strategy: MigStrategy::None,
            fail_on_init_error: true,
            driver_root: PathBuf::from("/"),
            dev_root: PathBuf::from("/"),
            device_list_strategies: vec![DeviceListStrategy::Envvar],
            device_id_strategy: DeviceIdStrategy::Uuid,
            pass_device_specs: false,
            cdi_annotation_prefix: "cdi.k8s.io/".to_owned(),
            cdi_spec_dir: PathBuf::from("/var/run/cdi"),
            kubelet_dir: PathBuf::from(DEVICE_PLUGIN_DIR),
            gpu_names: Vec::new(),
            mig_names: Vec::new(),
            health_checks: HealthChecks::default(),
            sysfs: PathBuf::from("/sys"),
        }
    }
}

impl Config {
    /// The root of the device nodes when none is given: the driver's, if it has a `dev`, else the system's.
    #[must_use]
    pub fn default_dev_root(driver_root: &Path) -> PathBuf {
        if driver_root.join("dev").is_dir() {
            driver_root.to_path_buf()
        } else {
            PathBuf::from("/")
        }
    }

    /// Whether containers get their devices by CDI names, so that a specification has to be written.
    #[must_use]
    pub fn uses_cdi(&self) -> bool {
        self.uses(DeviceListStrategy::CdiAnnotations) || self.uses(DeviceListStrategy::CdiCri)
    }

    /// Whether this is one of the ways by which a container is told.
    #[must_use]
    pub fn uses(&self, strategy: DeviceListStrategy) -> bool {
        self.device_list_strategies.contains(&strategy)
    }

    /// Whether containers get device nodes, so that their minor numbers have to be known.
    #[must_use]
    pub fn needs_device_nodes(&self) -> bool {
        self.pass_device_specs || self.uses_cdi()
    }
}

/// How a container is told of its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceListStrategy {
    /// By the environment variable `NVIDIA_VISIBLE_DEVICES`, which NVIDIA's container runtime reads.
    Envvar,
    /// By mounts below `/var/run/nvidia-container-devices`, which an unprivileged container cannot forge.
    VolumeMounts,
    /// By annotations with CDI names, for runtimes whose kubelet cannot pass them.
    CdiAnnotations,
    /// By CDI names that the kubelet passes to the runtime.
    CdiCri,
}

/// What a container is told of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum DeviceIdStrategy {
    /// Its UUID.
    #[default]
    Uuid,
    /// Its index: `0`, or `0:1` for a MIG device.
    Index,
}

/// A text that names no strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind}; it is one of {allowed}")]
pub struct ParseStrategyError {
    /// The text as it was given.
    pub text: String,
    /// What was wanted.
    pub kind: &'static str,
    /// What there is.
    pub allowed: &'static str,
}

impl DeviceListStrategy {
    /// Several, with commas between them, each once.
    ///
    /// # Errors
    /// When a part names none, or there is no part.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ParseStrategyError> {
        let mut list = Vec::new();
        for part in text.split(',') {
            let strategy = part.trim().parse()?;
            if !list.contains(&strategy) {
                list.push(strategy);
            }
        }
        Ok(list)
    }
}

impl FromStr for DeviceListStrategy {
    type Err = ParseStrategyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "envvar" => Ok(Self::Envvar),
            "volume-mounts" => Ok(Self::VolumeMounts),
            "cdi-annotations" => Ok(Self::CdiAnnotations),
            "cdi-cri" => Ok(Self::CdiCri),
            _ => Err(ParseStrategyError {
                text: text.to_owned(),
                kind: "device list strategy",
                allowed: "envvar, volume-mounts, cdi-annotations and cdi-cri",
            }),
        }
    }
}

impl FromStr for DeviceIdStrategy {
    type Err = ParseStrategyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "uuid" => Ok(Self::Uuid),
            "index" => Ok(Self::Index),
            _ => Err(ParseStrategyError {
                text: text.to_owned(),
                kind: "device id strategy",
                allowed: "uuid and index",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_strategies_is_read_and_a_wrong_one_is_named() {
        assert_eq!(
            DeviceListStrategy::parse_list("envvar, cdi-cri,envvar").unwrap(),
            [DeviceListStrategy::Envvar, DeviceListStrategy::CdiCri]
        );
        let error = DeviceListStrategy::parse_list("envvar,cdi").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`cdi` is not a device list strategy; it is one of envvar, volume-mounts, cdi-annotations and cdi-cri"
        );
        assert!(DeviceListStrategy::parse_list("").is_err());
    }

    #[test]
    fn device_nodes_are_looked_for_where_the_driver_has_them() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Config::default_dev_root(root.path()), Path::new("/"));
        std::fs::create_dir(root.path().join("dev")).unwrap();
        assert_eq!(Config::default_dev_root(root.path()), root.path());
    }
}

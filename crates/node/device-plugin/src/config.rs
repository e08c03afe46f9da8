//! What the plugin is told: NVIDIA's settings, under NVIDIA's names.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use kubelet_api::device_plugin::v1beta1::DEVICE_PLUGIN_DIR;
use mig::{MigStrategy, ResourceName};
use nvml::Inventory;

use crate::{HealthChecks, Renaming, Resource};

/// Everything that decides what is advertised and how it is handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How MIG devices are shown (`MIG_STRATEGY`).
    pub mig_strategy: MigStrategy,
    /// Give up when the first look at the node finds that it breaks the strategy's rules (`FAIL_ON_INIT_ERROR`).
    pub fail_on_init_error: bool,
    /// Where this process sees the node's `/`; `/` itself outside a container. Every [`nvml::Inventory`] says below
    /// which folder its driver lies, as seen from here: [`Config::driver_root`] tells which folder of the node that is.
    pub host_root: PathBuf,
    /// The driver root, where it is mounted at a place of its own that is not below `host_root`
    /// (`CONTAINER_DRIVER_ROOT`, with `NVIDIA_DRIVER_ROOT` as the folder of the node).
    pub driver_mount: Option<NodeFolder>,
    /// The folder of the node that the device nodes' `dev` lies in (`NVIDIA_DEV_ROOT`). `None` leaves it to each
    /// inventory: the driver root if that has `dev/nvidiactl`, else `/`.
    pub dev_root: Option<PathBuf>,
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
    /// NVIDIA's `nvidia-cdi-hook`, a path of the node (`NVIDIA_CDI_HOOK_PATH`). `None` writes a specification that
    /// needs no program on the node.
    pub cdi_hook: Option<PathBuf>,
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
            host_root: PathBuf::from("/"),
            driver_mount: None,
            dev_root: None,
            device_list_strategies: vec![DeviceListStrategy::Envvar],
            device_id_strategy: DeviceIdStrategy::Uuid,
            pass_device_specs: false,
            cdi_annotation_prefix: "cdi.k8s.io/".to_owned(),
            cdi_spec_dir: PathBuf::from("/var/run/cdi"),
            cdi_hook: None,
            kubelet_dir: PathBuf::from(DEVICE_PLUGIN_DIR),
            gpu_names: Vec::new(),
            mig_names: Vec::new(),
            health_checks: HealthChecks::default(),
            sysfs: PathBuf::from("/sys"),
        }
    }
}

impl Config {
    /// Whether a resource is one that this plugin would advertise, were there such devices: NVIDIA's own names, and
    /// those that a rule gives.
    #[must_use]
    pub fn is_ours(&self, resource: &Resource) -> bool {
        let mut rules = self.gpu_names.iter().chain(&self.mig_names);
        resource.as_str().parse::<ResourceName>().is_ok() || rules.any(|it| it.name == *resource)
    }

    /// The driver root that an inventory was read from, here and on the node.
    #[must_use]
    pub fn driver_root(&self, inventory: &Inventory) -> NodeFolder {
        let here = &inventory.driver_root;
        let mounts = [self.driver_mount.clone(), Some(self.host_folder())];
        let on_node = mounts
            .iter()
            .flatten()
            .find_map(|mount| Some(mount.on_node.join(here.strip_prefix(&mount.here).ok()?)));
        NodeFolder {
            // A driver that is not below what is mounted here can only be at the same place on both sides.
            on_node: on_node.unwrap_or_else(|| here.clone()),
            here: here.clone(),
        }
    }

    /// The root of the device nodes, given the driver's. Looks at the file system where no root is configured.
    #[must_use]
    pub fn dev_root(&self, driver_root: &NodeFolder) -> NodeFolder {
        match &self.dev_root {
            Some(on_node) => self.seen_from_here(on_node, driver_root),
            None if driver_root.here.join("dev/nvidiactl").exists() => driver_root.clone(),
            None => self.host_folder(),
        }
    }

    /// The node's `/`.
    fn host_folder(&self) -> NodeFolder {
        NodeFolder {
            here: self.host_root.clone(),
            on_node: PathBuf::from("/"),
        }
    }

    /// A folder of the node, where it is seen here: below the driver root if it lies in that.
    fn seen_from_here(&self, on_node: &Path, driver_root: &NodeFolder) -> NodeFolder {
        let host = self.host_folder();
        let below = |mount: &NodeFolder| {
            let rest = on_node.strip_prefix(&mount.on_node).ok()?;
            Some(mount.here.join(rest))
        };
        NodeFolder {
            here: below(driver_root)
                .or_else(|| below(&host))
                .unwrap_or_else(|| on_node.to_owned()),
            on_node: on_node.to_owned(),
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

/// A folder of the node, which has another path in a container that the node's file system is mounted in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFolder {
    /// Its path for this process.
    pub here: PathBuf,
    /// Its path on the node, which is what the kubelet and the container runtime have to be told.
    pub on_node: PathBuf,
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
        let host = tempfile::tempdir().unwrap();
        let config = Config {
            host_root: host.path().to_owned(),
            ..Config::default()
        };
        let driver = config.driver_root(&loaded_from(&host.path().join("run/nvidia/driver")));
        assert_eq!(driver.on_node, Path::new("/run/nvidia/driver"));
        assert_eq!(
            config.dev_root(&driver),
            NodeFolder {
                here: host.path().to_owned(),
                on_node: "/".into()
            }
        );
        std::fs::create_dir_all(driver.here.join("dev")).unwrap();
        std::fs::write(driver.here.join("dev/nvidiactl"), "").unwrap();
        assert_eq!(config.dev_root(&driver), driver);
        let given = Config {
            dev_root: Some("/run/nvidia".into()),
            ..config
        };
        let folder = given.dev_root(&driver);
        assert_eq!(folder.here, host.path().join("run/nvidia"));
        assert_eq!(folder.on_node, Path::new("/run/nvidia"));
    }

    #[test]
    fn a_driver_root_that_is_mounted_apart_keeps_its_path_on_the_node() {
        let config = Config {
            driver_mount: Some(NodeFolder {
                here: "/driver-root".into(),
                on_node: "/run/nvidia/driver".into(),
            }),
            dev_root: Some("/run/nvidia/driver".into()),
            ..Config::default()
        };
        let driver = config.driver_root(&loaded_from(Path::new("/driver-root")));
        assert_eq!(driver.on_node, Path::new("/run/nvidia/driver"));
        assert_eq!(config.dev_root(&driver), driver);
        let elsewhere = config.driver_root(&loaded_from(Path::new("/opt/driver")));
        assert_eq!(elsewhere.here, elsewhere.on_node);
    }

    fn loaded_from(root: &Path) -> Inventory {
        Inventory {
            driver_root: root.to_owned(),
            ..crate::test_support::inventory(Vec::new())
        }
    }
}

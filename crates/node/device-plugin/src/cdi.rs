//! The CDI specification: which device nodes belong to which CDI name.
//!
//! It names device nodes and nothing else. The driver's libraries and programs are not part of it yet, so a container
//! that gets its devices by CDI alone has to have them already, by its image or by a mount of its own.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;
use serde::Serialize;

use crate::allocate::ControlNodes;
use crate::{AdvertisedDevice, Config};

/// The vendor and class that the names of this plugin have, NVIDIA's own for its device plugin.
const KIND: &str = "k8s.device-plugin.nvidia.com/gpu";

/// The specification's file in the folder of specifications.
const FILE: &str = "k8s.device-plugin.nvidia.com-gpu.json";

/// The oldest version that knows `hostPath`.
const VERSION: &str = "0.5.0";

/// Why the CDI specification could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the CDI specification {}: {source}", path.display())]
pub struct CdiError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// The CDI name of a device that a container knows as `id`.
pub(crate) fn qualified_name(id: &str) -> String {
    format!("{KIND}={id}")
}

/// A CDI specification, as far as it is needed here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Specification {
    cdi_version: &'static str,
    kind: &'static str,
    devices: Vec<Device>,
    container_edits: Edits,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    container_edits: Edits,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Edits {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    env: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    device_nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: String,
    host_path: PathBuf,
    permissions: &'static str,
}

impl Specification {
    /// The specification of these devices; those whose nodes are not known are left out.
    pub(crate) fn new<'a>(
        devices: impl IntoIterator<Item = &'a AdvertisedDevice>,
        config: &Config,
        control: &ControlNodes,
    ) -> Self {
        let node = |path: String| Node {
            host_path: control.on_node(&path),
            path,
            permissions: "rw",
        };
        let devices = devices
            .into_iter()
            .filter_map(|device| {
                let device_nodes = device.device_nodes()?.into_iter().map(node).collect();
                Some(Device {
                    name: device.visible_id(config.device_id_strategy).to_owned(),
                    container_edits: Edits {
                        env: Vec::new(),
                        device_nodes,
                    },
                })
            })
            .collect();
        let container_edits = Edits {
            // NVIDIA's runtime, if it is in use as well, has nothing to add.
            env: vec!["NVIDIA_VISIBLE_DEVICES=void"],
            device_nodes: control.paths().map(|path| node(path.to_owned())).collect(),
        };
        Self {
            cdi_version: VERSION,
            kind: KIND,
            devices,
            container_edits,
        }
    }

    /// Sees to it that the folder has this specification, whole or not at all, and writes nothing if it has. One
    /// without devices is not valid CDI: its file is removed. Blocks.
    pub(crate) fn ensure(&self, folder: &Path) -> Result<(), CdiError> {
        let path = folder.join(FILE);
        let ensured = if self.devices.is_empty() {
            remove(&path)
        } else {
            self.replace(&path)
        };
        ensured.map_err(|source| CdiError { path, source })
    }

    fn replace(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        if std::fs::read(path).is_ok_and(|there| there == text) {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = AtomicWriteFile::open(path)?;
        file.write_all(&text)?;
        file.commit()
    }

    /// The names of the devices that the folder's file does not describe as this specification does, after it could
    /// not be written. Blocks.
    pub(crate) fn missing(&self, folder: &Path) -> BTreeSet<String> {
        let there: serde_json::Value = std::fs::read(folder.join(FILE))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let described = there.get("devices").and_then(serde_json::Value::as_array);
        let is_described = |device: &Device| {
            let wanted = serde_json::to_value(device).ok();
            described.is_some_and(|all| all.iter().any(|one| Some(one) == wanted.as_ref()))
        };
        self.devices
            .iter()
            .filter(|device| !is_described(device))
            .map(|device| device.name.clone())
            .collect()
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{a100, fleet};
    use crate::{Health, resources};
    use mig::MigStrategy;
    use serde_json::json;

    fn specification(slices: u32) -> Specification {
        let config = Config {
            mig_strategy: MigStrategy::Single,
            ..Config::default()
        };
        let fleet = fleet(vec![a100(0, slices)]);
        let advertised = resources(&fleet, &Health::default(), &config).unwrap();
        let devices = advertised.resources.values().flatten();
        let control = ControlNodes::present(crate::NodeFolder {
            here: "/nowhere".into(),
            on_node: "/".into(),
        });
        Specification::new(devices, &config, &control)
    }

    #[test]
    fn each_slice_is_a_device_with_its_nodes() {
        let written = serde_json::to_value(specification(2)).unwrap();
        assert_eq!(written["cdiVersion"], "0.5.0");
        assert_eq!(written["kind"], "k8s.device-plugin.nvidia.com/gpu");
        assert_eq!(
            written["containerEdits"],
            json!({"env": ["NVIDIA_VISIBLE_DEVICES=void"]})
        );
        assert_eq!(
            written["devices"][1],
            json!({"name": "MIG-0-1", "containerEdits": {"deviceNodes": [
                {"path": "/dev/nvidia0", "hostPath": "/dev/nvidia0", "permissions": "rw"},
                {"path": "/dev/nvidia-caps/nvidia-cap75", "hostPath": "/dev/nvidia-caps/nvidia-cap75",
                 "permissions": "rw"},
                {"path": "/dev/nvidia-caps/nvidia-cap76", "hostPath": "/dev/nvidia-caps/nvidia-cap76",
                 "permissions": "rw"},
            ]}})
        );
    }

    #[test]
    fn a_specification_without_devices_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let none = Specification {
            devices: Vec::new(),
            ..specification(1)
        };
        none.ensure(folder.path()).unwrap();
        specification(1).ensure(folder.path()).unwrap();
        assert!(folder.path().join(FILE).exists());
        none.ensure(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = specification(1).ensure(&file).unwrap_err();
        assert!(error.to_string().contains(FILE), "{error}");
    }

    #[test]
    fn a_file_that_is_right_is_left_alone_and_one_that_is_not_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&file).unwrap());
        specification(1).ensure(folder.path()).unwrap();
        let first = inode();
        specification(1).ensure(folder.path()).unwrap();
        assert_eq!(inode(), first);
        let right = std::fs::read(&file).unwrap();
        std::fs::write(&file, "{").unwrap();
        specification(1).ensure(folder.path()).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), right);
    }

    #[test]
    fn what_an_old_file_describes_is_told_from_what_it_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let names = |missing: BTreeSet<String>| missing.into_iter().collect::<Vec<_>>();
        assert_eq!(names(specification(1).missing(folder.path())), ["MIG-0-0"]);
        specification(1).ensure(folder.path()).unwrap();
        assert_eq!(names(specification(2).missing(folder.path())), ["MIG-0-1"]);
        assert!(specification(1).missing(folder.path()).is_empty());
    }
}

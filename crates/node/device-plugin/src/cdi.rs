//! The CDI specification: which device nodes belong to which CDI name.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;
use serde::Serialize;

use crate::allocate::{ControlNodes, on_host};
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
            host_path: on_host(&config.dev_root, &path),
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

    /// Writes the specification, whole or not at all. One without devices is not valid CDI: its file is removed.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), CdiError> {
        let path = folder.join(FILE);
        let written = if self.devices.is_empty() {
            remove(&path)
        } else {
            self.replace(&path)
        };
        written.map_err(|source| CdiError { path, source })
    }

    fn replace(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = AtomicWriteFile::open(path)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        file.commit()
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
        Specification::new(devices, &config, &ControlNodes::default())
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
        none.write(folder.path()).unwrap();
        specification(1).write(folder.path()).unwrap();
        assert!(folder.path().join(FILE).exists());
        none.write(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = specification(1).write(&file).unwrap_err();
        assert!(error.to_string().contains(FILE), "{error}");
    }
}

//! The CDI specification: what a container needs for the devices that it is given, in the container runtimes' own terms.
//!
//! [`Found`] is what a look at the node found, [`Specification::new`] makes the specification of it, `file` puts it into
//! its folder, and [`Keeper`] sees to it that it stays right. What is in it, and why, is told in `docs/cdi.md`.

mod edits;
mod file;
mod keeper;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::cdi::edits::{Edits, Node};
use crate::device_nodes::NodeFiles;
use crate::driver_files::{self, DriverFile, DriverFiles, Fingerprint};
use crate::{AdvertisedDevice, Config, ControlNodes, NodeFolder};

pub use file::CdiError;
pub(crate) use keeper::{Driver, Keeper};

/// The vendor and class that the names of this plugin have, NVIDIA's own for its device plugin.
const KIND: &str = "k8s.device-plugin.nvidia.com/gpu";

/// The oldest version that knows `hostPath`.
const VERSION: &str = "0.5.0";

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

/// What a look at the node found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    pub(crate) driver_root: NodeFolder,
    pub(crate) control: ControlNodes,
    pub(crate) nodes: NodeFiles,
    pub(crate) files: Arc<DriverFiles>,
    pub(crate) sockets: Vec<DriverFile>,
}

/// The last scan of a driver's root, and what it depended on.
type Scan = Option<(Fingerprint, Arc<DriverFiles>)>;

impl Found {
    /// Looks for what these devices need. The driver's root is looked through only where something in it may have changed
    /// since the last `scan`, or that one had to warn: what could not be read may just have been installed. Blocks.
    pub(crate) fn look(
        devices: &[AdvertisedDevice],
        driver_root: NodeFolder,
        version: &str,
        control: ControlNodes,
        scan: &mut Scan,
    ) -> Self {
        let fingerprint = Fingerprint::of(&driver_root.here, version);
        let files = match scan {
            Some((last, files)) if *last == fingerprint && files.warnings.is_empty() => {
                Arc::clone(files)
            }
            _ => {
                let files = Arc::new(DriverFiles::scan(&driver_root.here, version));
                *scan = Some((fingerprint, Arc::clone(&files)));
                files
            }
        };
        let own = devices.iter().filter_map(AdvertisedDevice::device_nodes);
        Self {
            nodes: control.look(own.flatten()),
            sockets: driver_files::sockets(&driver_root.here),
            control,
            files,
            driver_root,
        }
    }
}

impl Specification {
    /// The specification of these devices, and of those that it leaves out, by name, the reason.
    pub(crate) fn new<'a>(
        devices: impl IntoIterator<Item = &'a AdvertisedDevice>,
        config: &Config,
        found: &Found,
    ) -> (Self, BTreeMap<String, String>) {
        let mut described = Vec::new();
        let mut left_out = BTreeMap::new();
        for device in devices {
            let name = device.visible_id(config.device_id_strategy).to_owned();
            match own_nodes(device, &found.nodes) {
                Ok(device_nodes) => described.push(Device {
                    name,
                    container_edits: Edits {
                        device_nodes,
                        ..Edits::default()
                    },
                }),
                Err(reason) => {
                    left_out.insert(name, reason);
                }
            }
        }
        let specification = Self {
            cdi_version: VERSION,
            kind: KIND,
            devices: described,
            container_edits: Edits::of_driver(found, config.cdi_hook.as_deref()),
        };
        (specification, left_out)
    }

    /// Whether it describes no device: then it isn't valid CDI.
    pub(crate) fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }
}

/// The nodes that are a device's own, or why it can't have them.
fn own_nodes(device: &AdvertisedDevice, nodes: &NodeFiles) -> Result<Vec<Node>, String> {
    let paths = device.device_nodes().ok_or_else(|| {
        "the driver does not list its capability device nodes in mig-minors".to_owned()
    })?;
    let node = |path: String| {
        let file = nodes
            .get(&path)
            .ok_or_else(|| missing_node(&nodes.looked_at(&path)))?;
        Ok(Node::new(path, file))
    };
    paths.into_iter().map(node).collect()
}

fn missing_node(path: &Path) -> String {
    format!(
        "its device node {} is not there: nvidia-smi or nvidia-modprobe makes it on the node, and NVIDIA_DEV_ROOT says where \
         the nodes are; it is looked for again every few seconds",
        path.display()
    )
}

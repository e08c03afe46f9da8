//! What the plugin is doing, for whoever wants to show it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use nvml::Inventory;
use serde::Serialize;

use crate::{Resource, Table};

/// What the plugin is doing at the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PluginStatus {
    /// Where the kubelet's socket is expected; empty until the plugin has begun.
    pub kubelet_socket: PathBuf,
    /// The inventory that all of this is about: the one that was taken in last.
    #[serde(skip)]
    pub inventory: Option<Arc<Inventory>>,
    /// Every resource that is or was advertised.
    pub resources: BTreeMap<Resource, ResourceStatus>,
    /// Why nothing (new) is advertised, if so.
    pub error: Option<String>,
    /// What is odd about the node and yet no error.
    pub warnings: Vec<String>,
}

impl PluginStatus {
    /// True when every resource that has devices is registered with the kubelet, and nothing is wrong.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let registered = |status: &ResourceStatus| {
            status.devices == 0 || status.registration == Registration::Registered
        };
        self.error.is_none() && self.resources.values().all(registered)
    }
}

/// One advertised resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ResourceStatus {
    /// How many devices it has.
    pub devices: usize,
    /// Which of them are unhealthy.
    pub unhealthy: Vec<UnhealthyDevice>,
    /// Whether the kubelet knows of it.
    pub registration: Registration,
}

impl ResourceStatus {
    /// How many devices can be given away.
    #[must_use]
    pub fn healthy(&self) -> usize {
        self.devices.saturating_sub(self.unhealthy.len())
    }

    pub(crate) fn count(&mut self, table: &Table) {
        self.devices = table.devices().len();
        self.unhealthy = table
            .devices()
            .iter()
            .filter_map(|device| {
                Some(UnhealthyDevice {
                    id: device.id.clone(),
                    reason: device.reason()?.to_owned(),
                })
            })
            .collect();
    }
}

/// A device that must not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnhealthyDevice {
    /// Its id.
    pub id: String,
    /// What is wrong with it.
    pub reason: String,
}

/// How a resource stands with the kubelet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "reason")]
pub enum Registration {
    /// There is no kubelet, or it has not answered yet.
    #[default]
    WaitingForKubelet,
    /// The kubelet took it.
    Registered,
    /// The kubelet, or the way to it, refused; it is tried again.
    Failed(String),
}

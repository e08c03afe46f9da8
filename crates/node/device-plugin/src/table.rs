//! One resource's devices at one moment, ready to be asked about.

use std::collections::HashMap;

use kubelet_api::device_plugin::v1beta1 as api;

use crate::allocate::AllocateError;
use crate::{AdvertisedDevice, ControlNodes, Resource};

/// The devices of one resource. Everything that an Allocate needs is in here.
#[derive(Debug, Clone)]
pub struct Table {
    resource: Resource,
    devices: Vec<AdvertisedDevice>,
    by_id: HashMap<String, usize>,
    control: ControlNodes,
}

impl Table {
    /// The devices of a resource, in the order in which they are advertised.
    #[must_use]
    pub fn new(resource: Resource, devices: Vec<AdvertisedDevice>) -> Self {
        let by_id = devices
            .iter()
            .enumerate()
            .map(|(at, d)| (d.id.clone(), at))
            .collect();
        Self {
            resource,
            devices,
            by_id,
            control: ControlNodes::default(),
        }
    }

    /// The same devices, for containers that get these nodes as well.
    #[must_use]
    pub fn with_control_nodes(self, control: ControlNodes) -> Self {
        Self { control, ..self }
    }

    /// The device nodes that every container gets as well.
    #[must_use]
    pub fn control_nodes(&self) -> &ControlNodes {
        &self.control
    }

    /// The resource's name.
    #[must_use]
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// All devices.
    #[must_use]
    pub fn devices(&self) -> &[AdvertisedDevice] {
        &self.devices
    }

    /// As it is sent to the kubelet.
    #[must_use]
    pub fn to_api(&self) -> api::ListAndWatchResponse {
        let devices = self.devices.iter().map(AdvertisedDevice::to_api).collect();
        api::ListAndWatchResponse { devices }
    }

    /// The device of this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&AdvertisedDevice> {
        self.by_id.get(id).and_then(|at| self.devices.get(*at))
    }

    /// The devices of these ids, if all of them can be given away now.
    ///
    /// # Errors
    /// When an id is unknown, or its device is unhealthy.
    pub fn healthy(&self, ids: &[String]) -> Result<Vec<&AdvertisedDevice>, AllocateError> {
        ids.iter()
            .map(|id| {
                let device = self.get(id).ok_or_else(|| AllocateError::Unknown {
                    resource: self.resource.clone(),
                    id: id.clone(),
                })?;
                match device.reason() {
                    None => Ok(device),
                    Some(reason) => Err(AllocateError::Unhealthy {
                        resource: self.resource.clone(),
                        id: id.clone(),
                        reason: reason.to_owned(),
                    }),
                }
            })
            .collect()
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.resource == other.resource
            && self.devices == other.devices
            && self.control == other.control
    }
}

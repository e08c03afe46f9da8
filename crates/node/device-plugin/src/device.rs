//! A device as the kubelet knows it.

use kubelet_api::device_plugin::v1beta1 as api;
use nvml::GpuUuid;

use crate::{DeviceIdStrategy, Location};

/// One device of a resource: a whole GPU, or a MIG slice of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvertisedDevice {
    /// Its id towards the kubelet: the UUID of the GPU or of the MIG device.
    pub id: String,
    /// Its index: `0`, or `0:1` for the second MIG device of GPU 0.
    pub index: String,
    /// The GPU that it is, or lies on.
    pub gpu: GpuUuid,
    /// NVML's index of that GPU.
    pub gpu_index: u32,
    /// Minor number of the GPU's device node.
    pub minor: u32,
    /// The slice; `None` for a whole GPU.
    pub slice: Option<Slice>,
    /// The NUMA node that the GPU is near, where the system tells.
    pub numa_node: Option<u32>,
    /// Whether it can be given away.
    pub health: DeviceHealth,
}

/// Which part of a GPU a MIG device is, and what opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// The GPU instance's id.
    pub gpu_instance: u32,
    /// The compute instance's id.
    pub compute_instance: u32,
    /// Minor numbers of the capability device nodes of both, in this order.
    pub capability_minors: [Option<u32>; 2],
}

/// Whether a device can be given away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceHealth {
    /// It can.
    Healthy,
    /// It can't, for this reason.
    Unhealthy(String),
}

impl AdvertisedDevice {
    /// Where it is, for looking up its faults.
    #[must_use]
    pub fn location(&self) -> Location {
        match self.slice {
            None => Location::gpu(self.gpu.clone()),
            Some(slice) => {
                Location::slice(self.gpu.clone(), slice.gpu_instance, slice.compute_instance)
            }
        }
    }

    /// What a container is told that it got.
    #[must_use]
    pub fn visible_id(&self, strategy: DeviceIdStrategy) -> &str {
        match strategy {
            DeviceIdStrategy::Uuid => &self.id,
            DeviceIdStrategy::Index => &self.index,
        }
    }

    /// True when it can be given away.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.health == DeviceHealth::Healthy
    }

    /// Why it can't be given away; `None` when it can.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match &self.health {
            DeviceHealth::Healthy => None,
            DeviceHealth::Unhealthy(reason) => Some(reason),
        }
    }

    /// The device nodes that are its own, as paths in a container; `None` when a capability's minor number is not
    /// known.
    #[must_use]
    pub fn device_nodes(&self) -> Option<Vec<String>> {
        let mut nodes = vec![format!("/dev/nvidia{}", self.minor)];
        for minor in self.slice.iter().flat_map(|slice| slice.capability_minors) {
            nodes.push(format!("/dev/nvidia-caps/nvidia-cap{}", minor?));
        }
        Some(nodes)
    }

    /// As it is told to the kubelet.
    #[must_use]
    pub fn to_api(&self) -> api::Device {
        let health = if self.is_healthy() {
            api::HEALTHY
        } else {
            api::UNHEALTHY
        };
        api::Device {
            id: self.id.clone(),
            health: health.to_owned(),
            topology: self.numa_node.map(|node| api::TopologyInfo {
                nodes: vec![api::NumaNode {
                    id: i64::from(node),
                }],
            }),
        }
    }
}

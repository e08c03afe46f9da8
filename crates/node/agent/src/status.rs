//! The agent's status: everything that a person or a control plane may want to know of a node.

use std::sync::Arc;

use device_plugin::{Health, PluginStatus, Registration};
use nvml::Inventory;
use serde::Serialize;

use crate::observation::{Driver, Observation, PartitionStatus};

/// What the agent is doing, what it sees and what is wrong. It is the content of the status file.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Status {
    /// The node's name, if it was told.
    pub node: Option<String>,
    /// The agent's process.
    pub pid: u32,
    /// In one word.
    pub phase: Phase,
    /// True when the node is what it was asked to be, or has nothing to be: no GPU.
    pub ready: bool,
    /// In one sentence.
    pub message: String,
    /// How it stands with the driver.
    pub driver: Driver,
    /// How it stands with the wanted layout, if there is one.
    pub partition: Option<PartitionStatus>,
    /// How it stands with the kubelet, if the device plugin runs.
    pub plugin: Option<PluginStatus>,
    /// How it stands with the labels, if feature discovery runs.
    pub discovery: Option<DiscoveryStatus>,
    /// What is wrong with which slice.
    pub faults: Vec<FaultStatus>,
    /// The GPUs.
    pub inventory: Option<Arc<Inventory>>,
}

/// A [`Status`] in one word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Not everything was tried yet.
    #[default]
    Starting,
    /// There is no driver, so there is nothing to do.
    Idle,
    /// The GPUs are being brought to the wanted layout.
    Partitioning,
    /// All is as it should be.
    Ready,
    /// It works as far as it can; the message says what is wrong.
    Degraded,
    /// The agent has ended.
    Stopped,
}

impl Phase {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Partitioning => "partitioning",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Stopped => "stopped",
        }
    }
}

/// What was written where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DiscoveryStatus {
    /// How many labels were written last.
    pub labels: usize,
    /// Why they could not be written.
    pub error: Option<String>,
    /// What is odd about the node and yet no error.
    pub warnings: Vec<String>,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultStatus {
    /// The GPU.
    pub gpu: String,
    /// The GPU instance, if it is not all of the GPU.
    pub gpu_instance: Option<u32>,
    /// The compute instance, if it is not all of the GPU instance.
    pub compute_instance: Option<u32>,
    /// What is wrong.
    pub fault: String,
}

impl Status {
    pub(crate) fn new(
        node: Option<String>,
        observation: Observation,
        inventory: Arc<Inventory>,
        health: &Health,
        plugin: Option<PluginStatus>,
        discovery: Option<DiscoveryStatus>,
    ) -> Self {
        let faults = health
            .faults()
            .map(|(at, fault)| FaultStatus {
                gpu: at.gpu.to_string(),
                gpu_instance: at.gpu_instance,
                compute_instance: at.compute_instance,
                fault: fault.to_string(),
            })
            .collect();
        let mut status = Self {
            node,
            pid: std::process::id(),
            driver: observation.driver,
            partition: observation.partition,
            plugin,
            discovery,
            faults,
            inventory: observation.seen.then_some(inventory),
            ..Self::default()
        };
        (status.phase, status.ready, status.message) = status.judge();
        status
    }

    /// Phase, readiness and message: what is in the way first, then what is wrong, then that all is well.
    fn judge(&self) -> (Phase, bool, String) {
        match &self.driver {
            Driver::Unknown => {
                return (Phase::Starting, false, "looking for the driver".to_owned());
            }
            Driver::Missing(reason) => return (Phase::Idle, true, reason.clone()),
            Driver::Failed(reason) => return (Phase::Degraded, false, reason.clone()),
            Driver::Loaded => {}
        }
        if let Some(partition) = self.partition.as_ref().filter(|partition| !partition.done) {
            return match &partition.message {
                None => (
                    Phase::Partitioning,
                    false,
                    format!("bringing the GPUs to the layout {}", partition.layout),
                ),
                Some(reason) => (Phase::Degraded, false, reason.clone()),
            };
        }
        if let Some(plugin) = &self.plugin {
            if let Some(error) = &plugin.error {
                return (Phase::Degraded, false, error.clone());
            }
            if let Some(waiting) = waiting(plugin) {
                return (Phase::Starting, false, waiting);
            }
        }
        match self.complaint() {
            Some(complaint) => (Phase::Degraded, true, complaint),
            None => (Phase::Ready, true, self.summary()),
        }
    }

    /// What is wrong though the node works.
    fn complaint(&self) -> Option<String> {
        let lost: Vec<_> = self
            .inventory
            .iter()
            .flat_map(|inventory| &inventory.failed)
            .collect();
        let failed = lost
            .iter()
            .map(|gpu| format!("GPU {}: {}", gpu.index, gpu.reason));
        // A GPU that can't be read is told of once: not again by its faults.
        let is_lost = |uuid: &str| {
            lost.iter()
                .any(|gpu| gpu.uuid.as_ref().is_some_and(|lost| lost.as_str() == uuid))
        };
        let faults = self
            .faults
            .iter()
            .filter(|fault| !is_lost(&fault.gpu))
            .map(|fault| {
                let at = match (fault.gpu_instance, fault.compute_instance) {
                    (Some(gi), Some(ci)) => format!(" GPU instance {gi} compute instance {ci}"),
                    (Some(gi), None) => format!(" GPU instance {gi}"),
                    _ => String::new(),
                };
                format!("{}{at}: {}", self.gpu_name(&fault.gpu), fault.fault)
            });
        let drift = self
            .partition
            .iter()
            .filter_map(|partition| partition.message.clone());
        let labels = self
            .discovery
            .iter()
            .filter_map(|discovery| discovery.error.clone());
        let all: Vec<_> = failed.chain(faults).chain(drift).chain(labels).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// A GPU as people call it: by its index, where it has one at the moment.
    fn gpu_name(&self, uuid: &str) -> String {
        let inventory = self.inventory.as_ref();
        let gpu = inventory.and_then(|all| all.gpus.iter().find(|gpu| gpu.uuid.as_str() == uuid));
        gpu.map_or_else(|| uuid.to_owned(), |gpu| format!("GPU {}", gpu.index))
    }

    fn summary(&self) -> String {
        let Some(inventory) = &self.inventory else {
            return "watching".to_owned();
        };
        let gpus = inventory.gpus.len();
        let devices = inventory.mig_devices().count();
        format!("{gpus} GPUs, {devices} MIG devices")
    }
}

/// What the kubelet has not taken yet.
fn waiting(plugin: &PluginStatus) -> Option<String> {
    plugin
        .resources
        .iter()
        .filter(|(_, status)| status.devices > 0)
        .find_map(|(resource, status)| match &status.registration {
            Registration::Registered => None,
            Registration::WaitingForKubelet => {
                Some(format!("waiting for the kubelet, to register {resource}"))
            }
            Registration::Failed(reason) => Some(format!("{resource} is not registered: {reason}")),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use device_plugin::{Fault, Location, Resource, ResourceStatus};
    use nvml::{CudaVersion, FailedGpu};

    fn inventory() -> Inventory {
        Inventory {
            driver_root: "/".into(),
            driver_version: String::new(),
            nvml_version: String::new(),
            cuda_version: CudaVersion::default(),
            gpus: Vec::new(),
            failed: Vec::new(),
        }
    }

    fn status(observation: Observation, plugin: Option<PluginStatus>) -> Status {
        Status::new(
            None,
            observation,
            Arc::new(inventory()),
            &Health::default(),
            plugin,
            None,
        )
    }

    fn loaded(partition: Option<PartitionStatus>) -> Observation {
        Observation {
            driver: Driver::Loaded,
            partition,
            seen: true,
        }
    }

    fn plugin(registration: Registration) -> PluginStatus {
        let resource: Resource = "gpu".parse().unwrap();
        let status = ResourceStatus {
            devices: 1,
            unhealthy: Vec::new(),
            registration,
        };
        PluginStatus {
            resources: [(resource, status)].into(),
            ..PluginStatus::default()
        }
    }

    #[test]
    fn no_driver_is_idle_and_ready() {
        let driver = Driver::Missing("no library".to_owned());
        let status = status(
            Observation {
                driver,
                ..Observation::default()
            },
            None,
        );
        assert_eq!((status.phase, status.ready), (Phase::Idle, true));
        assert_eq!(status.message, "no library");
        assert_eq!(status.inventory, None);
    }

    #[test]
    fn a_driver_that_fails_is_not_ready() {
        let driver = Driver::Failed("mismatch".to_owned());
        let status = status(
            Observation {
                driver,
                ..Observation::default()
            },
            None,
        );
        assert_eq!((status.phase, status.ready), (Phase::Degraded, false));
    }

    #[test]
    fn a_layout_that_is_not_reached_is_not_ready_and_says_why() {
        let partition = PartitionStatus {
            layout: "MIG1g".to_owned(),
            ..Default::default()
        };
        let running = status(loaded(Some(partition.clone())), None);
        assert_eq!((running.phase, running.ready), (Phase::Partitioning, false));
        let refused = PartitionStatus {
            message: Some("in use".to_owned()),
            ..partition
        };
        let refused = status(loaded(Some(refused)), None);
        assert_eq!((refused.phase, refused.ready), (Phase::Degraded, false));
        assert_eq!(refused.message, "in use");
    }

    #[test]
    fn ready_is_when_the_kubelet_has_taken_everything() {
        let waiting = status(loaded(None), Some(plugin(Registration::WaitingForKubelet)));
        assert_eq!((waiting.phase, waiting.ready), (Phase::Starting, false));
        let registered = status(loaded(None), Some(plugin(Registration::Registered)));
        assert_eq!((registered.phase, registered.ready), (Phase::Ready, true));
    }

    #[test]
    fn a_lost_gpu_is_told_of_once() {
        let gpu: nvml::GpuUuid = "GPU-a".parse().unwrap();
        let health = Health::from_iter([(Location::gpu(gpu.clone()), Fault::Xid(79))]);
        let mut inventory = inventory();
        inventory.failed.push(FailedGpu {
            index: 3,
            uuid: Some(gpu),
            reason: "GPU is lost".to_owned(),
        });
        let status = Status::new(None, loaded(None), Arc::new(inventory), &health, None, None);
        assert_eq!(status.message, "GPU 3: GPU is lost");
    }

    #[test]
    fn a_fault_or_a_lost_gpu_degrades_a_node_that_still_works() {
        let at = Location::slice("GPU-a".parse().unwrap(), 7, 0);
        let health = Health::from_iter([(at, Fault::Xid(48))]);
        let mut inventory = inventory();
        inventory.failed.push(FailedGpu {
            index: 3,
            uuid: None,
            reason: "lost".to_owned(),
        });
        let status = Status::new(None, loaded(None), Arc::new(inventory), &health, None, None);
        assert_eq!((status.phase, status.ready), (Phase::Degraded, true));
        assert_eq!(
            status.message,
            "GPU 3: lost; GPU-a GPU instance 7 compute instance 0: XID 48"
        );
    }
}

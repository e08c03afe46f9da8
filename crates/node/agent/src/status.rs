//! The agent's status: everything that a person or a control plane may want to know of a node.

use std::sync::Arc;

use device_plugin::{Fault, Health, PluginStatus, Registration};
use nvml::Inventory;
use serde::Serialize;

use crate::evictions::{EvictionState, EvictionStatus};
use crate::inventories::nothing;
use crate::observation::{Driver, Observation, PartitionStatus, PartitionStep};
use crate::xid;

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
    /// Why the configuration file cannot be followed, if so.
    pub config: Option<String>,
    /// How it stands with the driver.
    pub driver: Driver,
    /// How it stands with the wanted layout, if there is one.
    pub partition: Option<PartitionStatus>,
    /// How it stands with the kubelet, if the device plugin runs.
    pub plugin: Option<PluginStatus>,
    /// How it stands with the labels, if feature discovery runs.
    pub discovery: Option<DiscoveryStatus>,
    /// How it stands with the node's taint, conditions and events, if they are kept.
    pub cluster: Option<ClusterStatus>,
    /// How it stands with the node's `GpuNode`, if it is followed.
    pub gpu_node: Option<GpuNodeLink>,
    /// The pods that are being evicted.
    pub evictions: Vec<EvictionStatus>,
    /// What is wrong with which slice.
    pub faults: Vec<FaultStatus>,
    /// The kubelet is about to be told of what was found last.
    #[serde(skip)]
    pub(crate) is_being_advertised: bool,
    /// How many slices and GPUs are held back from new pods, to be partitioned anew.
    pub held_back: usize,
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
    /// Those who use what has no room in the wanted layout are waited for.
    Draining,
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
            Self::Draining => "draining",
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
    /// Somebody has to do something about that: it does not pass by itself.
    pub blocked: bool,
    /// What is odd about the node and yet no error.
    pub warnings: Vec<String>,
}

/// How the node in the cluster is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ClusterStatus {
    /// Whether the node has the taint, as far as is known.
    pub tainted: Option<bool>,
    /// Why the node does not show what it should.
    pub error: Option<String>,
    /// Somebody has to do something about that: it does not pass by itself.
    pub blocked: bool,
}

/// How it stands with the node's `GpuNode`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GpuNodeLink {
    /// The node pool that has the node.
    pub pool: Option<String>,
    /// The generation that was seen last.
    pub generation: Option<i64>,
    /// Why it is not followed, or not told what is seen here. What it said last holds meanwhile.
    pub error: Option<String>,
    /// Somebody has to do something about that: it does not pass by itself.
    pub blocked: bool,
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
    /// What that means, in a few words, where it is known.
    pub meaning: Option<&'static str>,
}

/// What a status is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) node: Option<String>,
    pub(crate) config: Option<String>,
    pub(crate) observation: Observation,
    pub(crate) inventory: Arc<Inventory>,
    /// What of it is to be advertised.
    pub(crate) advertised: Arc<Inventory>,
    pub(crate) health: Arc<Health>,
    pub(crate) plugin: Option<PluginStatus>,
    pub(crate) discovery: Option<DiscoveryStatus>,
    pub(crate) cluster: Option<ClusterStatus>,
    pub(crate) gpu_node: Option<GpuNodeLink>,
    pub(crate) evictions: Vec<EvictionStatus>,
}

impl Default for Parts {
    /// Of an agent without parts that knows nothing yet.
    fn default() -> Self {
        Self {
            node: None,
            config: None,
            observation: Observation::default(),
            inventory: Arc::new(nothing()),
            advertised: Arc::new(nothing()),
            health: Arc::default(),
            plugin: None,
            discovery: None,
            cluster: None,
            gpu_node: None,
            evictions: Vec::new(),
        }
    }
}

/// Something that is wrong with a GPU or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Where: `GPU 3 (GPU-...) GPU instance 7 compute instance 0`.
    pub(crate) at: String,
    /// What: `XID 79 (GPU fell off the bus)`.
    pub(crate) what: String,
    /// The GPU does not answer at all.
    pub(crate) lost: bool,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

impl Status {
    pub(crate) fn new(parts: Parts) -> Self {
        let is_held = |fault: Fault| fault == Fault::HeldBack;
        let faults = parts.health.faults();
        let faults = faults
            .filter(|(_, fault)| !is_held(*fault))
            .map(|(at, fault)| FaultStatus {
                gpu: at.gpu.to_string(),
                gpu_instance: at.gpu_instance,
                compute_instance: at.compute_instance,
                fault: fault.to_string(),
                meaning: match fault {
                    Fault::Xid(xid) => xid::meaning(xid),
                    _ => None,
                },
            })
            .collect();
        let held = parts.health.faults().filter(|(_, fault)| is_held(*fault));
        let is_being_advertised = parts
            .plugin
            .as_ref()
            .is_some_and(|plugin| plugin.inventory.as_ref() != Some(&parts.advertised));
        let mut status = Self {
            node: parts.node,
            pid: std::process::id(),
            config: parts.config,
            driver: parts.observation.driver,
            partition: parts.observation.partition,
            plugin: parts.plugin,
            discovery: parts.discovery,
            cluster: parts.cluster,
            gpu_node: parts.gpu_node,
            evictions: parts.evictions,
            is_being_advertised,
            held_back: held.count(),
            faults,
            inventory: parts.observation.seen.then_some(parts.inventory),
            ..Self::default()
        };
        (status.phase, status.ready, status.message) = status.judge();
        status
    }

    /// Phase, readiness and message: what is in the way first, then what is wrong, then that all is well.
    pub(crate) fn judge(&self) -> (Phase, bool, String) {
        if let Some(reason) = self.blocked() {
            return (Phase::Degraded, false, reason);
        }
        match &self.driver {
            Driver::Unknown => {
                return (Phase::Starting, false, "looking for the driver".to_owned());
            }
            Driver::Missing(reason) => {
                let complaint = self.complaint();
                let message = [Some(reason.clone()), complaint].into_iter().flatten();
                return (Phase::Idle, true, message.collect::<Vec<_>>().join("; "));
            }
            Driver::Failed(reason) => return (Phase::Degraded, false, reason.clone()),
            Driver::Loaded => {}
        }
        if let Some(unfinished) = self.partition.as_ref().and_then(|it| self.unfinished(it)) {
            return unfinished;
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

    /// What keeps the agent from doing what it was asked, until somebody does something about it.
    fn blocked(&self) -> Option<String> {
        let cluster = self.cluster.iter().filter(|cluster| cluster.blocked);
        let link = self.gpu_node.iter().filter(|link| link.blocked);
        let labels = self.discovery.iter().filter(|labels| labels.blocked);
        let mut reasons: Vec<&String> = self
            .config
            .iter()
            .chain(cluster.filter_map(|cluster| cluster.error.as_ref()))
            .chain(labels.filter_map(|labels| labels.error.as_ref()))
            .chain(link.filter_map(|link| link.error.as_ref()))
            .collect();
        // The labels and the rest meet the same obstacles.
        reasons.dedup();
        let reasons: Vec<&str> = reasons.into_iter().map(String::as_str).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// A layout that is not there.
    pub(crate) fn unfinished(&self, partition: &PartitionStatus) -> Option<(Phase, bool, String)> {
        let going_to = || {
            let layout = &partition.layout;
            format!("bringing the GPUs to the layout {layout}")
        };
        let said = || partition.message.clone().unwrap_or_else(going_to);
        let (phase, message) = match partition.step {
            PartitionStep::Done | PartitionStep::LeftAlone => {
                let complaint = partition.complaint.clone()?;
                return Some((Phase::Degraded, false, complaint));
            }
            PartitionStep::Pending | PartitionStep::HoldingBack | PartitionStep::Changing => {
                (Phase::Partitioning, going_to())
            }
            PartitionStep::Draining => (Phase::Draining, self.draining(partition)),
            PartitionStep::Refused | PartitionStep::Failed => (Phase::Degraded, said()),
        };
        let message = [Some(message), partition.complaint.clone()];
        let message: Vec<_> = message.into_iter().flatten().collect();
        Some((phase, false, message.join("; ")))
    }

    /// Who is waited for, and what keeps them.
    pub(crate) fn draining(&self, partition: &PartitionStatus) -> String {
        let kept = self.evictions.iter().filter(|eviction| {
            !matches!(eviction.state, EvictionState::Due | EvictionState::Ending)
        });
        let said = partition.message.iter().cloned();
        said.chain(kept.map(ToString::to_string))
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// What is wrong with GPUs and slices.
    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        let lost: Vec<_> = self
            .inventory
            .iter()
            .flat_map(|inventory| &inventory.failed)
            .collect();
        let failed = lost.iter().map(|gpu| Trouble {
            at: match &gpu.uuid {
                Some(uuid) => format!("GPU {} ({uuid})", gpu.index),
                None => format!("GPU {}", gpu.index),
            },
            what: gpu.reason.clone(),
            lost: true,
        });
        // A GPU that can't be read is told of once: not again by its faults.
        let is_lost = |uuid: &str| {
            lost.iter()
                .any(|gpu| gpu.uuid.as_ref().is_some_and(|lost| lost.as_str() == uuid))
        };
        let faults = self.faults.iter().filter(|fault| !is_lost(&fault.gpu));
        let faults = faults.map(|fault| {
            let part = match (fault.gpu_instance, fault.compute_instance) {
                (Some(gi), Some(ci)) => format!(" GPU instance {gi} compute instance {ci}"),
                (Some(gi), None) => format!(" GPU instance {gi}"),
                _ => String::new(),
            };
            Trouble {
                at: format!("{}{part}", self.gpu_name(&fault.gpu)),
                what: match fault.meaning {
                    Some(meaning) => format!("{} ({meaning})", fault.fault),
                    None => fault.fault.clone(),
                },
                lost: false,
            }
        });
        failed.chain(faults).collect()
    }

    /// What is wrong though the node works.
    fn complaint(&self) -> Option<String> {
        let troubles = self.troubles();
        let drift = self
            .partition
            .iter()
            .filter_map(|partition| partition.message.clone());
        let cluster = self
            .cluster
            .iter()
            .filter_map(|cluster| cluster.error.clone());
        let labels = self
            .discovery
            .iter()
            .filter_map(|discovery| discovery.error.clone());
        let mut all: Vec<_> = troubles
            .iter()
            .map(ToString::to_string)
            .chain(drift)
            .chain(cluster)
            .chain(labels)
            .collect();
        all.dedup();
        // A server that is away is told of once.
        if self.cluster.iter().all(|cluster| cluster.error.is_none()) {
            let link = self.gpu_node.iter();
            all.extend(link.filter_map(|link| link.error.clone()));
        }
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// A GPU as people call it: by its index, where it has one at the moment, and its UUID.
    fn gpu_name(&self, uuid: &str) -> String {
        let inventory = self.inventory.as_ref();
        let gpu = inventory.and_then(|all| all.gpus.iter().find(|gpu| gpu.uuid.as_str() == uuid));
        gpu.map_or_else(
            || uuid.to_owned(),
            |gpu| format!("GPU {} ({uuid})", gpu.index),
        )
    }

    /// How many GPUs and MIG devices there are.
    pub(crate) fn summary(&self) -> String {
        let Some(inventory) = &self.inventory else {
            return "watching".to_owned();
        };
        let gpus = inventory.gpus.len();
        let devices = inventory.mig_devices().count();
        let count = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            count => format!("{count} {what}s"),
        };
        format!("{}, {}", count(gpus, "GPU"), count(devices, "MIG device"))
    }

    /// What the kubelet has not taken, or why nothing is told it.
    pub(crate) fn not_advertised(&self) -> Option<String> {
        let plugin = self.plugin.as_ref()?;
        plugin.error.clone().or_else(|| waiting(plugin))
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
                let socket = plugin.kubelet_socket.display().to_string();
                let at = [" at ", &socket].concat();
                let at = if socket.is_empty() { "" } else { &at };
                Some(format!(
                    "waiting for the kubelet{at}, to register {resource}"
                ))
            }
            Registration::Failed(reason) => Some(format!("{resource} is not registered: {reason}")),
        })
}

#[cfg(test)]
mod tests;

//! What the cluster is to be told of the node: its taint, its conditions, and what is worth an event. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cluster::{ConditionStatus, Event, EventKind, GPUS_HEALTHY, MIG_LAYOUT_READY, NodeCondition};
use partition::ProblemKind;

use crate::evictions::EvictionState;
use crate::observation::{Driver, PartitionStep};
use crate::{PartitionStatus, Status};

/// How long the kubelet may take to register the resources before that is worth an event: it is restarted now and
/// then, and comes back.
const KUBELET: Duration = Duration::from_secs(30);

/// What a status means for the node in the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeReport {
    /// Whether the node is to have the taint; `None` leaves it as it is, for it is not known yet.
    pub(crate) taint: Option<bool>,
    /// The conditions that it is to have; `None` leaves them as they are.
    pub(crate) conditions: Option<Vec<NodeCondition>>,
    /// What holds now and is worth an event when it begins.
    pub(crate) notes: Vec<Note>,
}

/// Something that is worth an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// What tells it from others, whatever it says in detail.
    pub(crate) key: String,
    pub(crate) event: Event,
    /// For how long it has to hold first.
    pub(crate) after: Duration,
    /// What is worth saying when it is over.
    pub(crate) over: Option<Event>,
}

impl Note {
    fn new(key: impl Into<String>, event: Event) -> Self {
        Self {
            key: key.into(),
            event,
            after: Duration::ZERO,
            over: None,
        }
    }
}

fn event(kind: EventKind, reason: &str, action: &'static str, note: impl Into<String>) -> Event {
    Event {
        kind,
        reason: reason.to_owned(),
        action,
        note: note.into(),
    }
}

fn warning(reason: &str, action: &'static str, note: impl Into<String>) -> Event {
    event(EventKind::Warning, reason, action, note)
}

fn normal(reason: &str, action: &'static str, note: impl Into<String>) -> Event {
    event(EventKind::Normal, reason, action, note)
}

/// What a status means.
pub(crate) fn desired(status: &Status) -> NodeReport {
    NodeReport {
        taint: taint(status),
        conditions: conditions(status),
        notes: notes(status),
    }
}

/// The taint is there from before the GPUs are changed until the kubelet has been told of all the new slices. Nothing
/// is kept away for the sake of a layout that cannot be.
fn taint(status: &Status) -> Option<bool> {
    match status.driver {
        Driver::Unknown | Driver::Failed(_) => return None,
        Driver::Missing(_) => return Some(false),
        Driver::Loaded => {}
    }
    let Some(partition) = &status.partition else {
        return Some(false);
    };
    match partition.step {
        PartitionStep::Pending => None,
        PartitionStep::LeftAlone | PartitionStep::Refused => Some(false),
        PartitionStep::HoldingBack | PartitionStep::Draining | PartitionStep::Changing => {
            Some(true)
        }
        PartitionStep::Failed => partition
            .report
            .as_ref()
            // GPUs that do not answer may never do so again, and the others are of use.
            .map(|report| {
                report
                    .problems
                    .iter()
                    .any(|it| it.kind != ProblemKind::Unreadable)
            }),
        PartitionStep::Done => {
            let is_told = !status.is_being_advertised && status.not_advertised().is_none();
            is_told.then_some(false)
        }
    }
}

fn conditions(status: &Status) -> Option<Vec<NodeCondition>> {
    match &status.driver {
        Driver::Unknown => None,
        // A node without GPUs has nothing to say of them.
        Driver::Missing(_) => Some(Vec::new()),
        Driver::Failed(reason) => {
            let failed = |kind| NodeCondition {
                kind,
                status: ConditionStatus::False,
                reason: "DriverFailed".to_owned(),
                message: reason.clone(),
            };
            let kinds = [
                Some(GPUS_HEALTHY),
                status.partition.as_ref().map(|_| MIG_LAYOUT_READY),
            ];
            Some(kinds.into_iter().flatten().map(failed).collect())
        }
        Driver::Loaded => {
            let mut conditions = vec![gpus_healthy(status)?];
            if let Some(partition) = &status.partition {
                conditions.push(layout_ready(status, partition)?);
            }
            Some(conditions)
        }
    }
}

/// `None` while the GPUs were not looked at yet.
pub(crate) fn gpus_healthy(status: &Status) -> Option<NodeCondition> {
    status.inventory.as_ref()?;
    let troubles = status.troubles();
    let (healthy, reason, message) = if troubles.is_empty() {
        let message = format!("nothing is wrong with {}", status.summary());
        (ConditionStatus::True, "NoFaults", message)
    } else {
        let reason = if troubles.iter().any(|trouble| trouble.lost) {
            "GPULost"
        } else {
            "GPUFault"
        };
        let messages: Vec<_> = troubles.iter().map(ToString::to_string).collect();
        (ConditionStatus::False, reason, messages.join("; "))
    };
    Some(NodeCondition {
        kind: GPUS_HEALTHY,
        status: healthy,
        reason: reason.to_owned(),
        message,
    })
}

/// `None` while the layout was not tried yet, or is about to be told the kubelet.
pub(crate) fn layout_ready(status: &Status, partition: &PartitionStatus) -> Option<NodeCondition> {
    let layout = &partition.layout;
    let message = || partition.message.clone().unwrap_or_default();
    let (ready, reason, message) = match partition.step {
        PartitionStep::Pending => return None,
        PartitionStep::Done if status.is_being_advertised => return None,
        PartitionStep::HoldingBack | PartitionStep::Changing => (
            false,
            "Partitioning",
            format!("the GPUs are being brought to the layout {layout}"),
        ),
        PartitionStep::Draining => (false, "Draining", status.draining(partition)),
        PartitionStep::Refused => (false, "LayoutRefused", message()),
        PartitionStep::Failed => (false, "PartitioningFailed", message()),
        PartitionStep::LeftAlone | PartitionStep::Done if partition.complaint.is_some() => (
            false,
            "LayoutUnknown",
            partition.complaint.clone().unwrap_or_default(),
        ),
        PartitionStep::LeftAlone => (
            true,
            "NoLayoutWanted",
            "no layout is wanted, so the GPUs are left as they are".to_owned(),
        ),
        PartitionStep::Done => match (status.not_advertised(), &partition.message) {
            (Some(reason), _) => (false, "NotAdvertised", reason),
            (None, Some(difference)) => (
                false,
                "LayoutDiffers",
                format!("somebody else changed the GPUs: {difference}"),
            ),
            (None, None) => (
                true,
                "LayoutReady",
                format!("the GPUs have the layout {layout}: {}", status.summary()),
            ),
        },
    };
    Some(NodeCondition {
        kind: MIG_LAYOUT_READY,
        status: if ready {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        },
        reason: reason.to_owned(),
        message,
    })
}

fn notes(status: &Status) -> Vec<Note> {
    let mut notes = Vec::new();
    if let Some(reason) = &status.config {
        notes.push(Note::new(
            format!("config {reason}"),
            warning("ConfigRefused", "Configure", reason),
        ));
    }
    if let Driver::Failed(reason) = &status.driver {
        notes.push(Note {
            over: Some(normal(
                "DriverWorks",
                "Watch",
                "the NVIDIA driver works again",
            )),
            ..Note::new("driver", warning("DriverFailed", "Watch", reason))
        });
    }
    if matches!(status.driver, Driver::Loaded) {
        notes.extend(status.troubles().into_iter().map(|trouble| {
            let reason = if trouble.lost { "GPULost" } else { "GPUFault" };
            let over = format!("{}: it works again, {} is over", trouble.at, trouble.what);
            Note {
                over: Some(normal("GPURecovered", "Watch", over)),
                ..Note::new(
                    format!("gpu {} {}", trouble.at, trouble.what),
                    warning(reason, "Watch", trouble.to_string()),
                )
            }
        }));
        if let Some(partition) = &status.partition {
            partition_notes(status, partition, &mut notes);
        }
        plugin_notes(status, &mut notes);
    }
    for eviction in &status.evictions {
        let pod = &eviction.pod;
        let said = eviction.to_string();
        let (state, event) = match &eviction.state {
            EvictionState::Due => continue,
            EvictionState::Ending => ("ending", normal("PodEvicted", "Drain", said)),
            EvictionState::Blocked { .. } => ("blocked", warning("EvictionBlocked", "Drain", said)),
            EvictionState::Refused { .. } => ("refused", warning("EvictionRefused", "Drain", said)),
            EvictionState::Failed { .. } => ("failed", warning("EvictionFailed", "Drain", said)),
        };
        notes.push(Note::new(format!("eviction {pod} {state}"), event));
    }
    let link = status.gpu_node.iter().filter(|link| link.blocked);
    notes.extend(link.filter_map(|link| link.error.as_ref()).map(|error| {
        Note::new(
            format!("gpu node {error}"),
            warning("GpuNodeNotFollowed", "Configure", error),
        )
    }));
    if let Some(labels) = &status.discovery {
        notes.extend(
            labels
                .error
                .iter()
                .map(|error| Note::new("labels", warning("LabelsNotWritten", "Label", error))),
        );
        notes.extend(labels.warnings.iter().map(|said| {
            Note::new(
                format!("labels {said}"),
                warning("LabelsIncomplete", "Label", said),
            )
        }));
    }
    notes
}

fn partition_notes(status: &Status, partition: &PartitionStatus, notes: &mut Vec<Note>) {
    let layout = &partition.layout;
    if let Some(complaint) = &partition.complaint {
        notes.push(Note::new(
            format!("layout file {complaint}"),
            warning("LayoutUnknown", "Partition", complaint),
        ));
    }
    let said = partition.message.as_deref().unwrap_or_default();
    match partition.step {
        PartitionStep::Refused => notes.push(Note::new(
            format!("refused {layout} {said}"),
            warning("LayoutRefused", "Partition", said),
        )),
        PartitionStep::Failed => notes.push(Note::new(
            format!("failed {layout} {said}"),
            warning("PartitioningFailed", "Partition", said),
        )),
        PartitionStep::Draining => notes.push(Note::new(
            format!("draining {layout} {}", partition.drains),
            normal("Draining", "Drain", said),
        )),
        PartitionStep::Done if partition.message.is_some() => notes.push(Note::new(
            format!("differs {said}"),
            warning(
                "LayoutDiffers",
                "Watch",
                format!("the GPUs do not have the layout {layout} any more: {said}"),
            ),
        )),
        PartitionStep::Done if !status.is_being_advertised && status.not_advertised().is_none() => {
            let calls = partition.report.iter().flat_map(|report| &report.calls);
            if calls.count() > 0 {
                let note = format!("the GPUs have the layout {layout}: {}", status.summary());
                notes.push(Note::new(
                    format!("partitioned {layout} {}", partition.attempts),
                    normal("Partitioned", "Partition", note),
                ));
            }
        }
        _ => {}
    }
}

fn plugin_notes(status: &Status, notes: &mut Vec<Note>) {
    let is_being_changed = status
        .partition
        .as_ref()
        .is_some_and(|it| !matches!(it.step, PartitionStep::Done | PartitionStep::LeftAlone));
    let Some(plugin) = status.plugin.as_ref().filter(|_| !is_being_changed) else {
        return;
    };
    match (&plugin.error, status.not_advertised()) {
        (Some(error), _) => notes.push(Note::new(
            format!("plugin {error}"),
            warning("NotAdvertised", "Advertise", error),
        )),
        (None, Some(waiting)) => notes.push(Note {
            after: KUBELET,
            ..Note::new("kubelet", warning("NotAdvertised", "Advertise", waiting))
        }),
        (None, None) => {}
    }
}

/// Which notes were said, so that each is said once for as long as it holds.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Since when a note holds, and whether it was said.
    notes: BTreeMap<String, (Note, Instant, bool)>,
}

impl Journal {
    /// What there is to say, given what holds now.
    pub(crate) fn take(&mut self, notes: Vec<Note>, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        let keys: BTreeSet<String> = notes.iter().map(|note| note.key.clone()).collect();
        self.notes.retain(|key, (note, _, said)| {
            let holds = keys.contains(key);
            if !holds && *said {
                events.extend(note.over.take());
            }
            holds
        });
        for note in notes {
            let (_, since, said) = self
                .notes
                .entry(note.key.clone())
                .or_insert_with(|| (note.clone(), now, false));
            if !*said && now.saturating_duration_since(*since) >= note.after {
                *said = true;
                events.push(note.event);
            }
        }
        events
    }

    /// When there will be something to say if nothing changes.
    pub(crate) fn due(&self) -> Option<Instant> {
        let waiting = self.notes.values().filter(|(_, _, said)| !said);
        waiting.map(|(note, since, _)| *since + note.after).min()
    }
}

#[cfg(test)]
mod tests;

//! What the node's `GpuNode` is to be told of it. Pure.

mod gpus;

use std::collections::BTreeMap;

use cluster::{ConditionStatus, NodeCondition};
use device_plugin::Registration;
use gpu_node::{GpuNodeStatus, GpuStatus, Phase, reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use mig::NodeLayout;
use nvml::Inventory;
use partition::Difference;

use gpus::{layout_of, of_failed, of_gpu};

use crate::holders::Holders;
use crate::node_report::{gpus_healthy, layout_ready};
use crate::observation::{Driver, PartitionStep};
use crate::{PartitionStatus, Status};

/// The most lines of a list.
const MOST_LINES: usize = 64;

/// The longest message in bytes.
const LONGEST: usize = 1024;

/// What a status means for the object of this UID, given who holds what, and what was said before.
pub(crate) fn report(
    uid: &str,
    status: &Status,
    holders: &Holders,
    before: &GpuNodeStatus,
    now: Timestamp,
) -> GpuNodeStatus {
    // Its own troubles are over when it can be told of them.
    let status = &Status {
        gpu_node: None,
        ..status.clone()
    };
    let partition = status.partition.as_ref();
    let (phase, message) = phase(status);
    let message = clipped(&message);
    // What an object wanted that was there before says nothing of this one.
    let asked = partition.and_then(|it| it.asked.as_ref());
    let generation = asked
        .filter(|asked| asked.uid == uid)
        .map(|asked| asked.generation);
    let mut next = GpuNodeStatus {
        observed_generation: generation,
        phase,
        message,
        layout: None,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..seen(status, holders, before)
    };
    if status.driver == Driver::Unknown {
        next.observed_generation = before.observed_generation;
    }
    if let Some(partition) = partition {
        next.layout = reached(status, partition).then(|| partition.layout.clone());
        let blockers: Vec<_> = partition.blockers.iter().map(ToString::to_string).collect();
        next.waiting_for = bounded(blockers);
        let calls = partition.report.iter().flat_map(|report| &report.calls);
        let calls: Vec<_> = calls
            .map(|call| {
                format!(
                    "GPU {}: {} {}: {}",
                    call.gpu, call.call, call.arguments, call.result
                )
            })
            .collect();
        if !calls.is_empty() {
            next.last_actions = bounded(calls);
        }
    }
    let wanted = [ready(status, next.phase, &next.message), healthy(status)];
    next.conditions = conditions(wanted, &before.conditions, next.observed_generation, now);
    next
}

/// The last words of an agent that said `before`.
pub(crate) fn stopped(before: &GpuNodeStatus, last: &Status, now: Timestamp) -> GpuNodeStatus {
    let message = match (last.phase, last.message.as_str()) {
        (crate::Phase::Stopped, reason) if reason != "stopped" => {
            format!("the agent has ended: {reason}")
        }
        _ => "the agent has ended; nothing is advertised until it is started again".to_owned(),
    };
    let message = clipped(&message);
    let ready = found(
        reason::READY,
        ConditionStatus::False,
        "AgentStopped",
        &message,
    );
    let others = before
        .conditions
        .iter()
        .filter(|it| it.type_ != reason::READY);
    let generation = before.observed_generation;
    let mut conditions = conditions([Some(ready), None], &before.conditions, generation, now);
    conditions.extend(others.cloned());
    GpuNodeStatus {
        phase: Phase::Stopped,
        message,
        resources: BTreeMap::new(),
        waiting_for: Vec::new(),
        conditions,
        ..before.clone()
    }
}

/// Where the agent is with what was asked of it, and what to say about that.
fn phase(status: &Status) -> (Phase, String) {
    let (judged, _, message) = status.judge();
    match &status.driver {
        Driver::Unknown => return (Phase::Starting, "looking for the driver".to_owned()),
        Driver::Missing(reason) => return (Phase::Idle, reason.clone()),
        Driver::Failed(reason) => return (Phase::Failed, reason.clone()),
        Driver::Loaded => {}
    }
    if let Some(partition) = &status.partition {
        if let Some(complaint) = &partition.complaint {
            return (Phase::Refused, complaint.clone());
        }
        let phase = match partition.step {
            PartitionStep::Pending | PartitionStep::HoldingBack | PartitionStep::Changing => {
                Some(Phase::Partitioning)
            }
            PartitionStep::Draining => Some(Phase::Draining),
            PartitionStep::Refused => Some(Phase::Refused),
            PartitionStep::Failed => Some(Phase::Failed),
            PartitionStep::LeftAlone | PartitionStep::Done => None,
        };
        let said = status.unfinished(partition);
        if let (Some(phase), Some((_, _, message))) = (phase, said) {
            return (phase, message);
        }
        if is_unseen(status, partition) {
            let message = format!("the GPUs were brought to the layout {}", partition.layout);
            return (Phase::Partitioning, message);
        }
    }
    let works = status.plugin.as_ref().is_some_and(|it| it.error.is_none());
    if status.inventory.is_none() || (status.is_being_advertised && works) {
        let message = "the kubelet is about to be told of the GPUs".to_owned();
        return (Phase::Starting, message);
    }
    let phase = match judged {
        crate::Phase::Starting => Phase::Starting,
        crate::Phase::Idle => Phase::Idle,
        crate::Phase::Partitioning => Phase::Partitioning,
        crate::Phase::Draining => Phase::Draining,
        crate::Phase::Ready => Phase::Ready,
        crate::Phase::Degraded => Phase::Degraded,
        crate::Phase::Stopped => Phase::Stopped,
    };
    (phase, message)
}

/// Whether the layout was made, and what is known of the GPUs is from before.
fn is_unseen(status: &Status, partition: &PartitionStatus) -> bool {
    if partition.step != PartitionStep::Done || partition.message.is_some() {
        return false;
    }
    let (Some(inventory), Ok(layout)) = (&status.inventory, partition.layout.parse()) else {
        return true;
    };
    let layout: NodeLayout = layout;
    partition::assert(inventory, &layout)
        .iter()
        .any(|difference| !matches!(difference, Difference::Unreadable { .. }))
}

/// Whether the GPUs have the layout that is wanted.
fn reached(status: &Status, partition: &PartitionStatus) -> bool {
    partition.step == PartitionStep::Done
        && partition.message.is_none()
        && !is_unseen(status, partition)
}

/// What there is, who holds it, and what is advertised of it.
fn seen(status: &Status, holders: &Holders, before: &GpuNodeStatus) -> GpuNodeStatus {
    let Some(inventory) = &status.inventory else {
        // The GPUs are still there while they were not looked at again.
        return match status.driver {
            Driver::Missing(_) => GpuNodeStatus {
                last_actions: before.last_actions.clone(),
                ..GpuNodeStatus::default()
            },
            _ => before.clone(),
        };
    };
    let answering = inventory
        .gpus
        .iter()
        .map(|gpu| (gpu.index, of_gpu(status, gpu, holders)));
    let failed = inventory
        .failed
        .iter()
        .map(|gpu| (gpu.index, of_failed(gpu)));
    let gpus: BTreeMap<u32, GpuStatus> = answering.chain(failed).collect();
    let gpus: Vec<GpuStatus> = gpus.into_values().collect();
    let slices = || gpus.iter().flat_map(|gpu| &gpu.slices);
    let layouts = inventory.gpus.iter().filter(|gpu| gpu.mig.is_some());
    let layouts = layouts.filter_map(|gpu| Some((gpu.index, layout_of(gpu)?)));
    GpuNodeStatus {
        current_layout: NodeLayout::of_gpus(layouts).map(|layout| layout.to_string()),
        driver_version: Some(inventory.driver_version.clone()).filter(|it| !it.is_empty()),
        summary: summary(inventory),
        slices: count(slices().count()),
        slices_in_use: count(slices().filter(|slice| slice.holder.is_some()).count()),
        resources: resources(status),
        gpus,
        last_actions: before.last_actions.clone(),
        ..GpuNodeStatus::default()
    }
}

/// The GPUs in a few words: `8 x A100-40GB`.
fn summary(inventory: &Inventory) -> String {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for gpu in &inventory.gpus {
        let kind = match gpu.mig {
            Some(_) => gpu.board.name.as_str(),
            None => gpu.name.as_str(),
        };
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    let mut words: Vec<_> = kinds
        .iter()
        .map(|(kind, count)| format!("{count} x {kind}"))
        .collect();
    match inventory.failed.len() {
        0 => {}
        failed => words.push(format!("{failed} not answering")),
    }
    words.join(", ")
}

/// What the kubelet has taken, as far as it can be given away.
fn resources(status: &Status) -> BTreeMap<String, u64> {
    let resources = status.plugin.iter().flat_map(|plugin| &plugin.resources);
    resources
        .filter(|(_, it)| it.devices > 0 && it.registration == Registration::Registered)
        .map(|(name, it)| (name.to_string(), u64::from(count(it.healthy()))))
        .collect()
}

fn found(
    kind: &'static str,
    status: ConditionStatus,
    reason: &str,
    message: &str,
) -> NodeCondition {
    NodeCondition {
        kind,
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

/// Whether the wanted layout is there and advertised.
fn ready(status: &Status, phase: Phase, message: &str) -> Option<NodeCondition> {
    let not_yet = |reason: &str| {
        Some(found(
            reason::READY,
            ConditionStatus::False,
            reason,
            message,
        ))
    };
    match &status.driver {
        Driver::Unknown => return not_yet("Starting"),
        Driver::Missing(_) => return not_yet("NoDriver"),
        Driver::Failed(_) => return not_yet("DriverFailed"),
        Driver::Loaded => {}
    }
    let layout = match &status.partition {
        Some(partition) => layout_ready(status, partition),
        None => None,
    };
    let is_there = matches!(phase, Phase::Ready | Phase::Degraded);
    match layout {
        Some(layout) if is_there || layout.status != ConditionStatus::True => Some(NodeCondition {
            kind: reason::READY,
            ..layout
        }),
        _ if is_there => match status.not_advertised() {
            Some(reason) => Some(found(
                reason::READY,
                ConditionStatus::False,
                "NotAdvertised",
                &reason,
            )),
            None => Some(found(
                reason::READY,
                ConditionStatus::True,
                "NoLayoutWanted",
                message,
            )),
        },
        _ => not_yet(phase.as_str()),
    }
}

/// Whether nothing is wrong with any GPU.
fn healthy(status: &Status) -> Option<NodeCondition> {
    match &status.driver {
        Driver::Unknown | Driver::Missing(_) => None,
        Driver::Failed(message) => Some(found(
            reason::GPUS_HEALTHY,
            ConditionStatus::False,
            "DriverFailed",
            message,
        )),
        Driver::Loaded => gpus_healthy(status).map(|condition| NodeCondition {
            kind: reason::GPUS_HEALTHY,
            ..condition
        }),
    }
}

/// The conditions, each with the time since when it has its status.
fn conditions(
    wanted: [Option<NodeCondition>; 2],
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let of = |wanted: NodeCondition| {
        let status = match wanted.status {
            ConditionStatus::True => "True",
            ConditionStatus::False => "False",
            ConditionStatus::Unknown => "Unknown",
        };
        let same = before
            .iter()
            .find(|it| it.type_ == wanted.kind && it.status == status);
        Condition {
            type_: wanted.kind.to_owned(),
            status: status.to_owned(),
            reason: wanted.reason,
            message: clipped(&wanted.message),
            observed_generation: generation,
            // The server keeps whole seconds.
            last_transition_time: same.map_or_else(
                || Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
                |same| same.last_transition_time.clone(),
            ),
        }
    };
    wanted.into_iter().flatten().map(of).collect()
}

/// So many lines at most.
fn bounded(mut lines: Vec<String>) -> Vec<String> {
    if lines.len() > MOST_LINES {
        let others = lines.len() - MOST_LINES + 1;
        lines.truncate(MOST_LINES - 1);
        lines.push(format!("and {others} more"));
    }
    lines
}

fn clipped(text: &str) -> String {
    let end = text.floor_char_boundary(LONGEST);
    match text.get(..end) {
        Some(begin) if begin.len() < text.len() => format!("{begin}..."),
        _ => text.to_owned(),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

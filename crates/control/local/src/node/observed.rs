//! A node as the control plane sees it: pure functions from what is stored and what is reported.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pool::{
    Condition, ConditionStatus, Holder, NodeGpu, NodePhase, NodeSlice, ObservedNode, Slices, VmSize,
};

use super::NodeState;
use super::agent_process::{Gpu, GpuInstance, Inventory};
use crate::kubelet::ledger::DeviceLedger;
use crate::store::NodeRow;

/// What is seen of a node.
#[must_use]
pub fn observe(row: &NodeRow, state: &NodeState) -> ObservedNode {
    let ledger = state
        .manager
        .as_ref()
        .map(|manager| manager.view().borrow().ledger().clone());
    let ledger = ledger.unwrap_or_default();
    let (phase, message) = phase(row, state);
    let mut capacity = machine(row);
    let mut allocatable = capacity.clone();
    capacity.extend(ledger.capacity());
    allocatable.extend(ledger.allocatable());
    let inventory = state
        .agent
        .as_ref()
        .and_then(|agent| agent.inventory.as_ref());
    let gpus = inventory.map_or_else(Vec::new, |inventory| node_gpus(inventory, &ledger));
    ObservedNode {
        phase,
        ready: state.ready() && !row.deleting,
        message,
        capacity,
        allocatable,
        labels: labels(row, state),
        conditions: state.conditions.clone(),
        slices: slices(&gpus),
        gpus,
        boards: BTreeMap::new(),
        driver_version: inventory.map(|inventory| inventory.driver_version.clone()),
        created: row.created,
        spec: row.spec.clone(),
    }
}

fn slices(gpus: &[NodeGpu]) -> Slices {
    let mut slices = Slices::default();
    for slice in gpus.iter().flat_map(|gpu| &gpu.slices) {
        slices.total += 1;
        slices.ready += u64::from(slice.healthy);
        slices.in_use += u64::from(slice.holder.is_some());
    }
    slices
}

fn phase(row: &NodeRow, state: &NodeState) -> (NodePhase, String) {
    if row.deleting {
        return (NodePhase::Deleting, String::new());
    }
    if let Some(failure) = &state.failure {
        return (NodePhase::Failed, failure.clone());
    }
    let wanted = row.spec.layout.as_ref().map(ToString::to_string);
    match (&state.agent, &state.agent_trouble) {
        // It has not read yet what is wanted now.
        (Some(agent), _) if has_gpus(row) && agent.is_behind(wanted.as_deref()) => (
            NodePhase::Creating,
            format!(
                "the layout {} is about to be made",
                wanted.unwrap_or_default()
            ),
        ),
        // Idle is right for a node without GPUs; a node whose size has some lacks its driver.
        (Some(agent), _) if agent.phase == "idle" && has_gpus(row) => {
            (NodePhase::Failed, agent.message.clone())
        }
        (Some(agent), _) if agent.ready => {
            // Only what is wrong though the node works is worth a word.
            let said = if agent.phase == "degraded" {
                agent.message.clone()
            } else {
                String::new()
            };
            (NodePhase::Running, said)
        }
        (Some(agent), _) if agent.phase == "degraded" => (NodePhase::Failed, agent.message.clone()),
        (Some(agent), _) => (NodePhase::Creating, agent.message.clone()),
        (None, Some(trouble)) => (NodePhase::Failed, trouble.clone()),
        (None, None) => (NodePhase::Creating, "the agent is starting".to_owned()),
    }
}

fn has_gpus(row: &NodeRow) -> bool {
    VmSize::find(&row.spec.vm_size).is_ok_and(|size| size.gpu_count() > 0)
}

/// What the VM size is said to have: `cpu` in cores, `memory` in bytes. A local node's processes share
/// this machine all the same.
#[must_use]
pub fn machine(row: &NodeRow) -> BTreeMap<String, u64> {
    let size = VmSize::find(&row.spec.vm_size).ok();
    let size = size.into_iter().flat_map(|size| {
        let memory = u64::from(size.memory_gib) << 30;
        [
            ("cpu".to_owned(), u64::from(size.vcpus)),
            ("memory".to_owned(), memory),
        ]
    });
    size.collect()
}

/// All labels of a node.
pub(crate) fn labels(row: &NodeRow, state: &NodeState) -> BTreeMap<String, String> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let pool = row.spec.pool.pool.to_string();
    let given = [
        ("kubernetes.io/hostname", row.spec.name.to_string()),
        ("kubernetes.io/os", "linux".to_owned()),
        ("kubernetes.io/arch", arch.to_owned()),
        ("node.kubernetes.io/instance-type", row.spec.vm_size.clone()),
        ("agentpool", pool.clone()),
        ("kubernetes.azure.com/agentpool", pool),
    ];
    let mut labels: BTreeMap<String, String> = given
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    labels.extend(state.labels.clone());
    labels.extend(row.spec.labels.clone());
    labels
}

/// The conditions of a node, each with the time since when it is as it is.
pub(super) fn conditions(
    state: &NodeState,
    before: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let agent = state.agent.as_ref();
    let trouble = state.failure.as_ref().or(state.agent_trouble.as_ref());
    let message = match (agent, trouble) {
        (Some(agent), _) => agent.message.clone(),
        (None, Some(trouble)) => trouble.clone(),
        (None, None) => "the agent has not spoken yet".to_owned(),
    };
    let ready = if state.ready() {
        ("AgentReady", ConditionStatus::True)
    } else {
        ("AgentNotReady", ConditionStatus::False)
    };
    let mut all = vec![("Ready", ready.1, ready.0, message)];
    if let Some(partition) = agent.and_then(|agent| agent.partition.as_ref()) {
        let (status, reason) = if partition.done {
            (ConditionStatus::True, "LayoutApplied")
        } else {
            (ConditionStatus::False, "LayoutNotApplied")
        };
        all.push((
            "Partitioned",
            status,
            reason,
            partition.message.clone().unwrap_or_default(),
        ));
    }
    let since = |kind: &str, status: ConditionStatus| {
        let same = before
            .iter()
            .find(|old| old.kind == kind && old.status == status);
        same.map_or(now, |old| old.last_transition_time)
    };
    let condition =
        |(kind, status, reason, message): (&str, ConditionStatus, &str, String)| Condition {
            kind: kind.to_owned(),
            status,
            reason: reason.to_owned(),
            message,
            last_transition_time: since(kind, status),
        };
    all.into_iter().map(condition).collect()
}

/// All GPUs by their index, those that can't be read among them: whoever looks for one must find it.
fn node_gpus(inventory: &Inventory, ledger: &DeviceLedger) -> Vec<NodeGpu> {
    let failed = inventory.failed.iter().map(|gpu| NodeGpu {
        index: gpu.index,
        uuid: gpu.uuid.clone().unwrap_or_default(),
        name: String::new(),
        memory_mib: 0,
        memory_units: 0,
        compute_slices: 0,
        mig_enabled: false,
        healthy: false,
        failure: gpu.reason.clone(),
        holder: None,
        slices: Vec::new(),
    });
    let mut gpus: Vec<NodeGpu> = inventory
        .gpus
        .iter()
        .map(|gpu| node_gpu(gpu, ledger))
        .chain(failed)
        .collect();
    gpus.sort_by_key(|gpu| gpu.index);
    gpus
}

fn node_gpu(gpu: &Gpu, ledger: &DeviceLedger) -> NodeGpu {
    let mut slices: Vec<NodeSlice> = gpu
        .instances
        .iter()
        .flat_map(|instance| node_slices(instance, ledger))
        .collect();
    slices.sort_by_key(|slice| (slice.start, slice.compute_instance));
    let mig = gpu.mig.is_some();
    NodeGpu {
        index: gpu.index,
        uuid: gpu.uuid.clone(),
        name: gpu.name.clone(),
        memory_mib: gpu.memory_mib,
        memory_units: if mig { gpu.board.memory_units } else { 0 },
        compute_slices: if mig { gpu.board.compute_slices } else { 0 },
        mig_enabled: gpu.mig.is_some_and(|mode| mode.current),
        healthy: healthy(&gpu.uuid, ledger),
        failure: String::new(),
        holder: holder(&gpu.uuid, ledger),
        slices,
    }
}

fn node_slices(instance: &GpuInstance, ledger: &DeviceLedger) -> Vec<NodeSlice> {
    let slices = instance.compute_instances.iter().filter_map(|compute| {
        let device = compute.device.as_ref()?;
        Some(NodeSlice {
            uuid: device.uuid.clone(),
            profile: device.profile.clone(),
            gpu_instance: instance.id,
            compute_instance: compute.id,
            start: instance.placement.start(),
            size: instance.placement.size(),
            memory_mib: device.memory_mib,
            healthy: healthy(&device.uuid, ledger),
            holder: holder(&device.uuid, ledger),
        })
    });
    slices.collect()
}

/// A device that no plugin speaks of is not known to be ill.
fn healthy(device: &str, ledger: &DeviceLedger) -> bool {
    ledger
        .devices()
        .filter(|(_, known)| known.id == device)
        .all(|(_, known)| known.healthy)
}

fn holder(device: &str, ledger: &DeviceLedger) -> Option<Holder> {
    ledger.holder(device).map(|holder| Holder {
        namespace: holder.namespace.clone(),
        pod: holder.pod.clone(),
        container: holder.container.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::agent_process::AgentStatus;

    fn agent(phase: &str, ready: bool) -> AgentStatus {
        let text = format!(
            r#"{{"phase": "{phase}", "ready": {ready}, "message": "m", "partition": null,
                "inventory": null, "faults": [], "pid": 7}}"#
        );
        serde_json::from_str(&text).expect("status")
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let at = |second: i64| Timestamp::from_second(second).expect("time");
        let mut state = NodeState::default();
        let first = conditions(&state, &[], at(1));
        assert_eq!(
            (first[0].status, first[0].last_transition_time),
            (ConditionStatus::False, at(1))
        );
        state.agent = Some(agent("starting", false));
        let second = conditions(&state, &first, at(2));
        assert_eq!(second[0].last_transition_time, at(1));
        state.agent = Some(agent("ready", true));
        let third = conditions(&state, &second, at(3));
        assert_eq!(
            (third[0].status, third[0].last_transition_time),
            (ConditionStatus::True, at(3))
        );
    }
}

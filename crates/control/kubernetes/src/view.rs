//! What the cluster's objects say of nodes, as the model sees nodes. Pure.

mod plain;

use std::collections::BTreeMap;
use std::sync::Arc;

use gpu_node::{GpuNode, GpuNodeStatus, Phase};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use mig::NodeLayout;
use pool::allocatable::{GPU_RESOURCE_PREFIX, in_words, of_boards};
use pool::{
    Candidate, Candidates, Machines, NodePhase, NodePoolSpec, NodeSpec, ObservedNode, PoolKey,
    Slices, Taint, VmSize,
};

use crate::convert;

/// The label that says which size a node's machine has.
pub const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

/// The layout of a node whose pool wants whole GPUs: without one its agent would follow its own flags.
pub const OFF: &str = "off";

/// A node's two objects.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The node; gone, or not seen yet, when `None`.
    pub node: Option<Arc<Node>>,
    /// What its agent and the operator say of it.
    pub gpu_node: Arc<GpuNode>,
}

/// Leaves of a node what is looked at here: a cluster has thousands of them.
pub fn strip_node(node: &mut Node) {
    node.metadata.managed_fields = None;
    node.metadata.annotations = None;
    if let Some(spec) = &mut node.spec {
        spec.pod_cidr = None;
        spec.pod_cidrs = None;
    }
    let Some(status) = &mut node.status else {
        return;
    };
    let of_gpus = |resources: &mut BTreeMap<String, _>| {
        resources.retain(|name, _| name.starts_with(GPU_RESOURCE_PREFIX));
    };
    let mut kept = k8s_openapi::api::core::v1::NodeStatus {
        allocatable: status.allocatable.take(),
        conditions: status.conditions.take(),
        ..Default::default()
    };
    kept.allocatable.iter_mut().for_each(of_gpus);
    if let Some(conditions) = &mut kept.conditions {
        conditions.retain(|condition| condition.type_ == "Ready");
    }
    *status = kept;
}

/// The same of what an agent says: single slices are for people.
pub fn strip_gpu_node(gpu_node: &mut GpuNode) {
    gpu_node.metadata.managed_fields = None;
    let Some(status) = &mut gpu_node.status else {
        return;
    };
    status.conditions = Vec::new();
    status.last_actions = Vec::new();
    status.waiting_for.truncate(1);
    for gpu in &mut status.gpus {
        gpu.slices = Vec::new();
        gpu.holder = None;
        gpu.uuid = String::new();
        gpu.product = String::new();
        gpu.layout = String::new();
    }
}

/// A node of a pool as it is seen; `None` when the node is gone, and its `GpuNode` with it soon.
#[must_use]
pub fn observed(pair: &Pair, key: &PoolKey, spec: &NodePoolSpec) -> Option<ObservedNode> {
    let node = pair.node.as_deref()?;
    let wish = &pair.gpu_node.spec;
    let status = pair.gpu_node.status.clone().unwrap_or_default();
    let name = node.name_any().parse().ok()?;
    let (phase, message) = if is_without_gpus(spec) {
        (without_gpus(pair), String::new())
    } else {
        phase(pair, &status)
    };
    let boards = boards(&status);
    let layout = wish.layout.as_deref();
    let layout = layout.filter(|text| *text != OFF || spec.node_layout().is_some());
    let layout = layout.and_then(|text| text.parse().ok());
    let mut seen = NodeSpec {
        name,
        pool: key.clone(),
        vm_size: if is_without_gpus(spec) && !boards.is_empty() {
            // Its agent has found GPUs that nobody knew of when the pool took it: it is none of the pool's.
            in_words(&boards)
        } else {
            spec.vm_size().to_owned()
        },
        layout,
        mig_strategy: match wish.mig_strategy {
            Some(strategy) => strategy.into(),
            None if wish.pool.is_none() => spec.mig_strategy,
            None => another_strategy(spec.mig_strategy),
        },
        labels: wish.node_labels.clone(),
        taints: wish.node_taints.iter().filter_map(taint).collect(),
        drain: match wish.drain {
            Some(drain) => convert::drain(drain),
            None if wish.pool.is_none() => spec.drain,
            None => another_drain(spec.drain),
        },
    };
    // What somebody took off the node is as good as never put on.
    let labels = node.labels();
    seen.labels
        .retain(|label, value| labels.get(label) == Some(value));
    seen.taints.retain(|taint| has_taint(node, taint));
    Some(ObservedNode {
        phase,
        ready: is_ready(node),
        message,
        capacity: BTreeMap::new(),
        allocatable: allocatable(node),
        labels: BTreeMap::new(),
        conditions: Vec::new(),
        gpus: Vec::new(),
        boards,
        slices: slices(&status),
        driver_version: None,
        created: pair
            .gpu_node
            .creation_timestamp()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        spec: seen,
    })
}

/// A node of a pool was told how; a word of a later version is as good as none, and is to be written anew.
fn another_strategy(wanted: mig::MigStrategy) -> mig::MigStrategy {
    match wanted {
        mig::MigStrategy::Single => mig::MigStrategy::Mixed,
        mig::MigStrategy::None | mig::MigStrategy::Mixed => mig::MigStrategy::Single,
    }
}

/// The same of what is done about pods.
fn another_drain(wanted: pool::Drain) -> pool::Drain {
    match wanted {
        pool::Drain::Wait => pool::Drain::Never,
        pool::Drain::Never | pool::Drain::Evict => pool::Drain::Wait,
    }
}

/// Whether a pool's machines have no GPU. Nothing is asked of their agents then, and they need none.
#[must_use]
pub fn is_without_gpus(spec: &NodePoolSpec) -> bool {
    match &spec.machines {
        Machines::VmSize(size) => VmSize::find(size).is_ok_and(|size| size.gpus.is_none()),
        Machines::NodeSelector(_) => false,
    }
}

/// Where a node of a pool without GPUs is: Kubernetes says the rest.
fn without_gpus(pair: &Pair) -> NodePhase {
    if pair.gpu_node.spec.releasing {
        NodePhase::Deleting
    } else {
        NodePhase::Running
    }
}

/// The labels that a pool wants of a node, without those that are somebody else's there: a label that the node had before
/// the pool took it, and those that name the machine itself.
#[must_use]
pub fn own_labels(wanted: &BTreeMap<String, String>, pair: &Pair) -> BTreeMap<String, String> {
    let ours = &pair.gpu_node.spec.node_labels;
    let is_of_machine = |label: &str| {
        label.starts_with("kubernetes.io/") || label.starts_with("node.kubernetes.io/")
    };
    let is_others = |label: &String| {
        let node = pair.node.as_deref();
        !ours.contains_key(label) && node.is_some_and(|node| node.labels().contains_key(label))
    };
    wanted
        .iter()
        .filter(|(label, value)| !is_of_machine(label) && !value.is_empty() && !is_others(label))
        .map(|(label, value)| (label.clone(), value.clone()))
        .collect()
}

fn phase(pair: &Pair, status: &GpuNodeStatus) -> (NodePhase, String) {
    let asked = pair.gpu_node.metadata.generation;
    let is_behind = status.observed_generation < asked;
    let said = status.message.clone();
    if pair.gpu_node.spec.releasing {
        return (NodePhase::Deleting, leaving(pair, status));
    }
    if is_behind {
        let waiting = match status.phase {
            Phase::Stopped => "its agent has ended, and has not seen yet what is asked".to_owned(),
            _ => "its agent has not answered yet".to_owned(),
        };
        return (NodePhase::Creating, waiting);
    }
    match status.phase {
        Phase::Starting | Phase::Partitioning | Phase::Draining => (NodePhase::Creating, said),
        Phase::Ready => (NodePhase::Running, String::new()),
        Phase::Degraded | Phase::Stopped => (NodePhase::Running, said),
        Phase::Idle | Phase::Refused | Phase::Failed => (NodePhase::Failed, said),
        // It may be as asked, or not; the node counts for nothing until it can be told.
        Phase::Unknown => (NodePhase::Creating, not_understood(status)),
    }
}

/// What there is to do about an agent that says what this operator does not know.
fn not_understood(status: &GpuNodeStatus) -> String {
    let said = if status.message.is_empty() {
        "nothing that this operator knows"
    } else {
        &status.message
    };
    format!(
        "its agent is of version {:?} and this operator of {:?}, which does not know its phase (it says: {said}): upgrade the operator",
        status.agent_version,
        env!("CARGO_PKG_VERSION"),
    )
}

/// What a node that leaves its pool waits for.
fn leaving(pair: &Pair, status: &GpuNodeStatus) -> String {
    if status.observed_generation < pair.gpu_node.metadata.generation {
        return "its agent has not answered yet, and is to give its GPUs the layout back that they had".to_owned();
    }
    status.message.clone()
}

/// Whether a node that leaves its pool can go: its agent has given the GPUs their layout back, or cannot.
#[must_use]
pub fn is_released(pair: &Pair) -> bool {
    let wish = &pair.gpu_node.spec;
    let Some(status) = &pair.gpu_node.status else {
        return true;
    };
    if wish.layout.is_none() || pair.node.is_none() {
        return true;
    }
    status.observed_generation >= pair.gpu_node.metadata.generation
        && match status.phase {
            Phase::Ready | Phase::Refused | Phase::Idle => true,
            // Something is wrong with the node, and not with its layout.
            Phase::Degraded => status.layout == wish.layout,
            Phase::Starting
            | Phase::Partitioning
            | Phase::Draining
            | Phase::Failed
            | Phase::Stopped
            | Phase::Unknown => false,
        }
}

fn boards(status: &GpuNodeStatus) -> BTreeMap<u32, String> {
    // A GPU that is lost does not say what it is; nodes have GPUs of one kind.
    let known = status.gpus.iter().find(|gpu| !gpu.board.is_empty());
    let known = known.map(|gpu| gpu.board.as_str()).unwrap_or_default();
    let board = |gpu: &gpu_node::GpuStatus| {
        let is_lost = gpu.board.is_empty() && !gpu.healthy && !gpu.mig_capable;
        if is_lost { known } else { &gpu.board }.to_owned()
    };
    status
        .gpus
        .iter()
        .map(|gpu| (gpu.index, board(gpu)))
        .collect()
}

fn slices(status: &GpuNodeStatus) -> Slices {
    let total = u64::from(status.slices);
    let advertised: u64 = status.resources.values().sum();
    Slices {
        total,
        ready: advertised.min(total),
        in_use: u64::from(status.slices_in_use),
    }
}

fn allocatable(node: &Node) -> BTreeMap<String, u64> {
    let status = node.status.as_ref();
    let allocatable = status.and_then(|status| status.allocatable.as_ref());
    allocatable
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.starts_with(GPU_RESOURCE_PREFIX))
        .filter_map(|(name, quantity)| Some((name.clone(), quantity.0.parse().ok()?)))
        .collect()
}

fn is_ready(node: &Node) -> bool {
    let status = node.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn taint(wanted: &gpu_node::WantedTaint) -> Option<Taint> {
    let gpu_node::WantedTaint { key, value, effect } = wanted;
    let equals = if value.is_empty() { "" } else { "=" };
    format!("{key}{equals}{value}:{effect}").parse().ok()
}

fn has_taint(node: &Node, wanted: &Taint) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    taints.into_iter().flatten().any(|taint| {
        taint.key == wanted.key
            && taint.value.as_deref().unwrap_or_default() == wanted.value
            && taint.effect == format!("{:?}", wanted.effect)
    })
}

/// Which nodes a pool may take, the best first: those that need no change, then those that are least in use.
pub fn candidates<'p>(
    spec: &NodePoolSpec,
    pairs: impl Iterator<Item = &'p Pair>,
    without_agent: impl Iterator<Item = Arc<Node>>,
) -> Candidates {
    if is_without_gpus(spec) {
        return plain::candidates(spec, pairs, without_agent);
    }
    let mut candidates = Candidates::default();
    let mut fitting = Vec::new();
    let layout = spec.node_layout();
    for pair in pairs {
        let name = pair.gpu_node.name_any();
        match fits(spec, layout.as_ref(), pair) {
            Ok(candidate) => {
                let status = pair.gpu_node.status.as_ref();
                let has = status.and_then(|status| status.layout.as_deref());
                let is_there = has.is_some_and(|has| {
                    layout
                        .as_ref()
                        .is_some_and(|layout| layout.to_string() == has)
                });
                let in_use = status.map_or(0, |status| status.slices_in_use);
                fitting.push((!is_there, in_use, candidate));
            }
            Err(reason) => candidates.reject(&name, reason),
        }
    }
    for node in without_agent {
        if chosen(spec, &node, None).is_ok() {
            candidates.reject(
                &node.name_any(),
                "no agent of migpool has reported from it".to_owned(),
            );
        }
    }
    fitting.sort_by(|a, b| (a.0, a.1, &a.2.name).cmp(&(b.0, b.1, &b.2.name)));
    candidates.fitting = fitting.into_iter().map(|(_, _, it)| it).collect();
    candidates
}

/// Whether a pool may take a node.
fn fits(
    spec: &NodePoolSpec,
    layout: Option<&NodeLayout>,
    pair: &Pair,
) -> Result<Candidate, String> {
    if let Some(pool) = &pair.gpu_node.spec.pool {
        return Err(if pair.gpu_node.spec.releasing {
            format!("it is leaving node pool {}", pool.name)
        } else {
            format!("it is in node pool {}", pool.name)
        });
    }
    let node = pair.node.as_deref();
    let node = node.ok_or_else(|| "the node is gone".to_owned())?;
    if node.metadata.deletion_timestamp.is_some() {
        return Err("it is being deleted".to_owned());
    }
    let status = pair.gpu_node.status.as_ref();
    let status = status.ok_or_else(|| "its agent has not reported yet".to_owned())?;
    let boards = boards(status);
    chosen(spec, node, Some(&boards))?;
    if !is_ready(node) {
        return Err("it is not Ready".to_owned());
    }
    match status.phase {
        Phase::Idle => return Err(status.message.clone()),
        Phase::Starting => return Err("its agent is starting".to_owned()),
        Phase::Stopped => return Err("its agent has ended".to_owned()),
        Phase::Unknown => return Err(not_understood(status)),
        _ => {}
    }
    of_boards(&boards, layout, spec.mig_strategy).map_err(|error| error.message)?;
    let name = node.name_any();
    Ok(Candidate {
        name: name.parse().map_err(|error| format!("{error}"))?,
        vm_size: spec.vm_size().to_owned(),
    })
}

/// Whether a node is one of those that the pool's size or selector means.
fn chosen(
    spec: &NodePoolSpec,
    node: &Node,
    boards: Option<&BTreeMap<u32, String>>,
) -> Result<(), String> {
    match &spec.machines {
        Machines::NodeSelector(selector) => {
            let labels = node.labels();
            match selector
                .iter()
                .find(|(key, value)| labels.get(*key) != Some(*value))
            {
                Some((key, value)) => Err(format!("it has no label {key}={value}")),
                None => Ok(()),
            }
        }
        Machines::VmSize(size) => {
            if let Some(has) = node.labels().get(INSTANCE_TYPE)
                && let Ok(known) = VmSize::find(has)
            {
                return if known.name.eq_ignore_ascii_case(size) {
                    Ok(())
                } else {
                    Err(format!("its size is {has}"))
                };
            }
            let Some(boards) = boards else {
                return Err(format!("it is not known to be a {size}"));
            };
            let wanted = VmSize::find(size).map_err(|error| error.message)?;
            let (board, count) = wanted.mig_board().map_err(|error| error.message)?;
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            if boards.len() == count && boards.values().all(|name| *name == board.name) {
                return Ok(());
            }
            Err(match in_words(boards).as_str() {
                "" => format!("it has no GPU, and a {size} has {count} x {}", board.name),
                has => format!("it has {has}, and a {size} has {count} x {}", board.name),
            })
        }
    }
}

#[cfg(test)]
mod tests;

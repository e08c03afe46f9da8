//! A node with all that a person may ask of it. Pure.

use std::collections::BTreeMap;

use gpu_node::{GpuStatus, Phase, SliceStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use pool::{
    Condition, ConditionStatus, Holder, NodeGpu, NodePhase, NodePoolInput, NodePoolSpec, NodeSlice,
    ObservedNode, PoolKey, VmSize,
};

use crate::convert;
use crate::node_pool::NodePool;
use crate::view::{self, INSTANCE_TYPE, Pair};

/// The pool, and the resource group, that a node is said to be in which is in none.
const NONE: &str = "none";

/// Whether a node is in no pool: its key names a pool `none` in a resource group `none`, in which no cluster's pool is.
#[must_use]
pub fn is_free(node: &ObservedNode) -> bool {
    no_pool().is_some_and(|none| node.spec.pool == none)
}

/// A node with all of it; `None` when it is gone.
pub(super) fn seen(pair: &Pair, pools: &BTreeMap<String, NodePool>) -> Option<ObservedNode> {
    let node = pair.node.as_deref()?;
    let status = pair.gpu_node.status.clone().unwrap_or_default();
    let pool = pair.gpu_node.spec.pool.as_ref();
    let pool_object = pool.and_then(|pool| pools.get(&pool.name));
    let key = match pool {
        Some(pool) => {
            let name = pool.name.split('-').next().unwrap_or_default();
            let named = || convert::key_of(name, None);
            pool_object.map_or_else(named, convert::key).ok()?
        }
        None => no_pool()?,
    };
    // Of a pool that is gone, or whose spec makes no sense, the node is still seen.
    let spec = match pool_object.map(convert::spec) {
        Some(Ok(spec)) => spec,
        Some(Err(_)) | None => any_node()?,
    };
    let mut seen = view::observed(pair, &key, &spec)?;
    if pool.is_none() {
        let has = status.current_layout.as_deref();
        seen.spec.layout = has.and_then(|text| text.parse().ok());
        if status.phase == Phase::Idle {
            // Nobody asked anything of it.
            seen.phase = NodePhase::Running;
            seen.message.clone_from(&status.message);
        }
    }
    if let Some(size) = node.labels().get(INSTANCE_TYPE) {
        seen.spec.vm_size = VmSize::find(size).map_or_else(|_| size.clone(), |it| it.name.into());
    }
    let taints = node.spec.iter().flat_map(|spec| &spec.taints).flatten();
    seen.spec.taints = taints
        .filter_map(|taint| {
            let value = taint.value.as_deref().unwrap_or_default();
            format!("{}={value}:{}", taint.key, taint.effect)
                .parse()
                .ok()
        })
        .collect();
    let said = node.status.as_ref();
    seen.capacity = resources(said.and_then(|it| it.capacity.as_ref()));
    seen.allocatable = resources(said.and_then(|it| it.allocatable.as_ref()));
    seen.labels.clone_from(node.labels());
    seen.conditions = conditions(node);
    seen.gpus = status.gpus.iter().map(gpu).collect();
    seen.driver_version = status.driver_version;
    if let Some(created) = node.creation_timestamp() {
        seen.created = created.0;
    }
    Some(seen)
}

fn no_pool() -> Option<PoolKey> {
    let mut key = convert::key_of(NONE, None).ok()?;
    key.cluster.group.group = NONE.parse().ok()?;
    Some(key)
}

/// What a pool would say that takes any node.
fn any_node() -> Option<NodePoolSpec> {
    let input = NodePoolInput {
        count: Some(0),
        node_selector: BTreeMap::from([("kubernetes.io/os".to_owned(), "linux".to_owned())]),
        ..NodePoolInput::default()
    };
    pool::validation::node_pool(&input, None).ok()
}

fn gpu(gpu: &GpuStatus) -> NodeGpu {
    let name = if gpu.product.is_empty() {
        &gpu.board
    } else {
        &gpu.product
    };
    // One that is lost does not say what it is.
    let is_lost = !gpu.healthy && gpu.board.is_empty() && !gpu.mig_capable;
    NodeGpu {
        index: gpu.index,
        uuid: gpu.uuid.clone(),
        name: name.clone(),
        memory_mib: gpu.memory_mib,
        memory_units: gpu.memory_units,
        compute_slices: gpu.compute_slices,
        mig_enabled: gpu.mig_enabled,
        healthy: gpu.healthy,
        failure: if is_lost {
            gpu.fault.clone()
        } else {
            String::new()
        },
        holder: gpu.holder.as_ref().map(holder),
        slices: gpu.slices.iter().map(slice).collect(),
    }
}

fn slice(slice: &SliceStatus) -> NodeSlice {
    NodeSlice {
        uuid: slice.uuid.clone(),
        profile: slice.profile.clone(),
        gpu_instance: slice.gpu_instance,
        compute_instance: slice.compute_instance,
        start: slice.start,
        size: slice.size,
        memory_mib: slice.memory_mib,
        healthy: slice.healthy,
        holder: slice.holder.as_ref().map(holder),
    }
}

fn holder(holder: &gpu_node::Holder) -> Holder {
    Holder {
        namespace: holder.namespace.clone(),
        pod: holder.pod.clone(),
        container: holder.container.clone(),
    }
}

fn conditions(node: &Node) -> Vec<Condition> {
    let status = node.status.iter();
    let all = status.flat_map(|status| &status.conditions).flatten();
    all.map(condition).collect()
}

fn condition(condition: &NodeCondition) -> Condition {
    let since = condition.last_transition_time.as_ref();
    Condition {
        kind: condition.type_.clone(),
        status: match condition.status.as_str() {
            "True" => ConditionStatus::True,
            "False" => ConditionStatus::False,
            _ => ConditionStatus::Unknown,
        },
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
        last_transition_time: since.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    }
}

fn resources(quantities: Option<&BTreeMap<String, Quantity>>) -> BTreeMap<String, u64> {
    quantities
        .into_iter()
        .flatten()
        .filter_map(|(name, quantity)| Some((name.clone(), whole(&quantity.0)?)))
        .collect()
}

/// A quantity as Kubernetes writes it, rounded down: `7910m` is 7, `4Ki` 4096. The server never answers with an exponent
/// where a suffix will do.
pub(super) fn whole(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (factor, divisor): (u128, u128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => return None,
    };
    let (units, fraction) = number.split_once('.').unwrap_or((number, ""));
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: u128 = format!("{units}{fraction}").parse().ok()?;
    let value = digits.checked_mul(factor)? / scale.checked_mul(divisor)?;
    u64::try_from(value).ok()
}

//! From what somebody sent to a [`NodePoolSpec`] that makes sense.

mod layout;
mod scaling;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use mig::MigStrategy;

use crate::Invalid;
use crate::allocatable::advertised;
use crate::node::Taint;
use crate::power::PowerState;
use crate::resource::{Machines, NodePoolSpec, PoolMode};
use crate::rollout::Drain;
use crate::vm_size::{self, VmSize};

/// What to do where something can't be changed.
const AGAIN: &str = "Add another node pool with the one that is wanted, and delete this one.";

/// The most nodes that a pool can have, AKS's figure.
pub const MAX_COUNT: u32 = 1000;

/// A node pool as somebody asked for it. `None` and an empty text both mean that nothing was asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodePoolInput {
    /// How many nodes.
    pub count: Option<i64>,
    /// The VM size.
    pub vm_size: Option<String>,
    /// The GPU instance profile.
    pub gpu_instance_profile: Option<String>,
    /// The MIG strategy.
    pub mig_strategy: Option<String>,
    /// A layout of its own for each GPU.
    pub layouts: Option<String>,
    /// Instead of either: a GPU instance profile for each MIG device of a GPU, or one to fill every GPU with.
    pub mig_profiles: Vec<String>,
    /// Instead of a VM size: the labels of the nodes that are to be in the pool.
    pub node_selector: BTreeMap<String, String>,
    /// How many nodes at most are taken out of work at a time.
    pub max_unavailable: Option<String>,
    /// What is done about pods that hold a slice which has to go.
    pub drain: Option<Drain>,
    /// Whether a cluster autoscaler is to keep the pool within bounds, and within which.
    pub auto_scaling: AutoScalingInput,
    /// The most nodes that the pool may have, if not AKS's figure.
    pub max_count: Option<u32>,
    /// System or user pool.
    pub mode: Option<String>,
    /// Whether the pool is to have nodes: `Running` or `Stopped`.
    pub power: Option<String>,
    /// Labels for the nodes.
    pub node_labels: BTreeMap<String, String>,
    /// Taints for the nodes.
    pub node_taints: Vec<String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Fields that mean nothing here.
    pub extra: Map<String, Value>,
}

/// What somebody asked of the cluster autoscaler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AutoScalingInput {
    /// Whether it is on.
    pub enabled: Option<bool>,
    /// The least number of nodes.
    pub min_count: Option<i64>,
    /// The greatest number of nodes.
    pub max_count: Option<i64>,
}

/// Checks a new pool (`existing` is `None`) or a change of one.
///
/// What was not asked keeps its value, or gets AKS's default; labels, taints, tags and extra fields are replaced as a whole.
/// VM size, node selector, profile and strategy can't be changed. A count can't either while the cluster autoscaler is on, but
/// it is brought within new bounds.
///
/// # Errors
/// What is wrong with the input, in ARM's terms, and what is allowed.
pub fn node_pool(
    input: &NodePoolInput,
    existing: Option<&NodePoolSpec>,
) -> Result<NodePoolSpec, Invalid> {
    let size = match machines(input, existing)? {
        Chosen::Size(size) => Some(size),
        Chosen::Selector => None,
    };
    let mode = match asked(input.mode.as_ref()) {
        Some(text) => text.parse()?,
        None => existing.map(|spec| spec.mode).unwrap_or_default(),
    };
    let most = input.max_count.unwrap_or(MAX_COUNT);
    let auto_scaling = scaling::bounds(&input.auto_scaling, mode, existing, most)?;
    let count = scaling::count(input.count, auto_scaling, mode, existing, most)?;
    let mig_strategy = strategy(input, existing)?;
    let layout = layout::wanted(input, existing, size, mig_strategy)?;
    let spec = NodePoolSpec {
        count,
        machines: match size {
            Some(size) => Machines::VmSize(size.name.to_owned()),
            None => Machines::NodeSelector(node_selector(input, existing)?),
        },
        gpu_instance_profile: layout.gpu_instance_profile,
        mig_strategy,
        layouts: layout.layouts,
        mig_profiles: layout.mig_profiles,
        max_unavailable: match asked(input.max_unavailable.as_ref()) {
            Some(text) => text.parse()?,
            None => existing
                .map(|spec| spec.max_unavailable)
                .unwrap_or_default(),
        },
        drain: input
            .drain
            .or_else(|| existing.map(|spec| spec.drain))
            .unwrap_or_default(),
        mode,
        power: power(input, mode, existing)?,
        auto_scaling,
        node_labels: labels(&input.node_labels)?,
        node_taints: input
            .node_taints
            .iter()
            .map(|text| text.parse())
            .collect::<Result<Vec<Taint>, _>>()?,
        tags: input.tags.clone(),
        extra: input.extra.clone(),
    };
    // Last, because a layout that fits can still be one that the strategy can't show.
    if let Some(size) = size {
        advertised(size, spec.node_layout().as_ref(), spec.mig_strategy)?;
    }
    Ok(spec)
}

fn power(
    input: &NodePoolInput,
    mode: PoolMode,
    existing: Option<&NodePoolSpec>,
) -> Result<PowerState, Invalid> {
    let power = match asked(input.power.as_ref()) {
        Some(text) => text.parse()?,
        None => existing.map(|spec| spec.power).unwrap_or_default(),
    };
    if power == PowerState::Stopped && mode == PoolMode::System {
        return Err(Invalid::parameter(
            "agentPoolProfile.powerState",
            "A node pool of mode 'System' can't be stopped. Stop the cluster, or make it a 'User' pool first.",
        ));
    }
    Ok(power)
}

/// How the machines of a pool are chosen.
enum Chosen {
    Size(&'static VmSize),
    Selector,
}

fn machines(input: &NodePoolInput, existing: Option<&NodePoolSpec>) -> Result<Chosen, Invalid> {
    let by_labels = match existing.map(|spec| &spec.machines) {
        Some(machines) => matches!(machines, Machines::NodeSelector(_)),
        None => !input.node_selector.is_empty(),
    };
    if !by_labels {
        if existing.is_some() && !input.node_selector.is_empty() {
            return Err(Invalid::immutable("properties.nodeSelector", AGAIN));
        }
        return vm_size(input, existing).map(Chosen::Size);
    }
    if asked(input.vm_size.as_ref()).is_some() {
        return Err(Invalid::parameter(
            "agentPoolProfile.vmSize",
            "The parameters vmSize and nodeSelector exclude each other. Leave one of them away.",
        ));
    }
    Ok(Chosen::Selector)
}

fn node_selector(
    input: &NodePoolInput,
    existing: Option<&NodePoolSpec>,
) -> Result<BTreeMap<String, String>, Invalid> {
    const TARGET: &str = "agentPoolProfile.nodeSelector";
    if let Some(Machines::NodeSelector(selector)) = existing.map(|spec| &spec.machines)
        && (input.node_selector.is_empty() || input.node_selector == *selector)
    {
        return Ok(selector.clone());
    }
    if existing.is_some() {
        return Err(Invalid::immutable("properties.nodeSelector", AGAIN));
    }
    for (key, value) in &input.node_selector {
        if !is_label_key(key) || !is_label_value(value) {
            return Err(Invalid::parameter(
                TARGET,
                format!(
                    "'{key}: {value}' of nodeSelector is no label. Use a label that nodes have."
                ),
            ));
        }
    }
    Ok(input.node_selector.clone())
}

fn asked(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

fn vm_size(
    input: &NodePoolInput,
    existing: Option<&NodePoolSpec>,
) -> Result<&'static VmSize, Invalid> {
    let asked = asked(input.vm_size.as_ref());
    match existing {
        None => VmSize::find(asked.unwrap_or(vm_size::DEFAULT)),
        Some(spec) => match asked {
            Some(name) if !name.eq_ignore_ascii_case(spec.vm_size()) => Err(Invalid::immutable(
                "properties.vmSize",
                &format!(
                    "It is '{}'. Add another node pool with the size that is wanted, and delete this one.",
                    spec.vm_size()
                ),
            )),
            _ => VmSize::find(spec.vm_size()),
        },
    }
}

fn strategy(
    input: &NodePoolInput,
    existing: Option<&NodePoolSpec>,
) -> Result<MigStrategy, Invalid> {
    const TARGET: &str = "properties.gpuProfile.nvidia.migStrategy";
    let asked = match asked(input.mig_strategy.as_ref()) {
        None => return Ok(existing.map_or(MigStrategy::Single, |spec| spec.mig_strategy)),
        Some(text) => text
            .to_ascii_lowercase()
            .parse::<MigStrategy>()
            .map_err(|_| {
                Invalid::parameter(
                    "agentPoolProfile.gpuProfile.nvidia.migStrategy",
                    format!("The MIG strategy '{text}' is not known. Use None, Single or Mixed."),
                )
            })?,
    };
    match existing {
        Some(spec) if spec.mig_strategy != asked => Err(Invalid::immutable(
            TARGET,
            "Add another node pool with the strategy that is wanted, and delete this one.",
        )),
        _ => Ok(asked),
    }
}

fn labels(labels: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Invalid> {
    const TARGET: &str = "agentPoolProfile.nodeLabels";
    for (key, value) in labels {
        if !is_label_key(key) {
            return Err(Invalid::parameter(
                TARGET,
                format!(
                    "The node label key '{key}' is invalid. Use an optional DNS name and '/', then at most 63 letters, digits, '-', '_' and '.', the first and the last a letter or a digit."
                ),
            ));
        }
        if key.starts_with("kubernetes.azure.com/") {
            return Err(Invalid::parameter(
                TARGET,
                format!(
                    "The node label key '{key}' is invalid. The prefix 'kubernetes.azure.com' is reserved; use another."
                ),
            ));
        }
        if !is_label_value(value) {
            return Err(Invalid::parameter(
                TARGET,
                format!(
                    "The value '{value}' of the node label '{key}' is invalid. Use at most 63 letters, digits, '-', '_' and '.', the first and the last a letter or a digit."
                ),
            ));
        }
    }
    Ok(labels.clone())
}

/// Whether Kubernetes takes this as the key of a label or a taint.
pub(crate) fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let dns = |prefix: &str| {
        let allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        !prefix.is_empty() && prefix.len() <= 253 && prefix.chars().all(allowed)
    };
    !name.is_empty() && is_label_value(name) && prefix.is_none_or(dns)
}

/// Whether Kubernetes takes this as the value of a label or a taint.
pub(crate) fn is_label_value(value: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    value.len() <= 63
        && edge(value.chars().next())
        && edge(value.chars().next_back())
        && value.chars().all(allowed)
}

#[cfg(test)]
mod tests;

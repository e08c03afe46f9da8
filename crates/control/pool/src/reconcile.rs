//! What is to be done, from what is wanted and what is seen. Pure functions.

use std::collections::{BTreeMap, BTreeSet};

use crate::allocatable::{GPU_RESOURCE_PREFIX, expected_allocatable};
use crate::key::{ClusterKey, PoolKey};
use crate::node::{NodePhase, NodeSpec, ObservedNode};
use crate::node_name::NodeName;
use crate::provider::Action;
use crate::resource::{Cluster, Group, NodePool, ProvisioningState};
use crate::vm_size::VmSize;

/// What is to be done about a node pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What the provider is to do, in this order.
    pub actions: Vec<Action>,
    /// Where the pool is on its way.
    pub state: ProvisioningState,
    /// What is going on, or why it failed; empty when there is nothing to say.
    pub message: String,
    /// The pool was to be deleted, and no node of it is left: its record can go.
    pub gone: bool,
}

/// What is to be done about a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDecision {
    /// Where the cluster is on its way.
    pub state: ProvisioningState,
    /// What is going on, or why it failed.
    pub message: String,
    /// Pools that are to be deleted because the cluster is.
    pub delete_pools: Vec<PoolKey>,
    /// The cluster was to be deleted, and no pool of it is left: its record can go.
    pub gone: bool,
}

/// What is to be done about a resource group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDecision {
    /// Clusters that are to be deleted because the group is.
    pub delete_clusters: Vec<ClusterKey>,
    /// The group was to be deleted, and no cluster of it is left: its record can go.
    pub gone: bool,
}

/// Decides what is to be done about `pool`, whose nodes are among `nodes`.
///
/// - As many nodes as wanted, never more: of those there are, the ones with the lowest ordinals stay; new ones take the
///   lowest free ordinals. The name of a node is free once the node is gone.
/// - `Succeeded` only when every node is ready and its allocatable GPU resources are exactly what its layout gives.
/// - `Failed`, with the node's reason, when a node has failed. It gets better by itself if the node does.
#[must_use]
pub fn reconcile(pool: &NodePool, nodes: &[ObservedNode]) -> Decision {
    let mut mine: Vec<&ObservedNode> = nodes
        .iter()
        .filter(|node| node.spec.pool == pool.key)
        .collect();
    mine.sort_by_key(|node| order(&node.spec.name));
    if pool.provisioning_state == ProvisioningState::Deleting {
        return delete_all(&mine);
    }

    let count = usize::try_from(pool.spec.count).unwrap_or(usize::MAX);
    let (live, leaving): (Vec<_>, Vec<_>) = mine
        .iter()
        .copied()
        .partition(|node| node.phase != NodePhase::Deleting);
    let (fitting, foreign): (Vec<_>, Vec<_>) = live
        .into_iter()
        .partition(|node| is_made_for(pool, &node.spec));
    let (kept, surplus) = fitting.split_at(count.min(fitting.len()));

    let mut actions = Vec::new();
    for node in surplus.iter().rev().chain(&foreign) {
        actions.push(Action::DeleteNode(node.spec.name.clone()));
    }
    for node in kept {
        let wanted = node_spec(pool, node.spec.name.clone());
        if node.spec != wanted {
            actions.push(Action::UpdateNode(wanted));
        }
    }
    // Nodes that are to go still count: never are there more than wanted, not even for a while.
    let room = count.saturating_sub(kept.len() + foreign.len() + leaving.len());
    let missing = count.saturating_sub(kept.len());
    for name in free_names(pool, &mine, room) {
        actions.push(Action::CreateNode(node_spec(pool, name)));
    }

    let away = surplus.len() + foreign.len() + leaving.len();
    let (state, message) = judge(pool, kept, missing, away, actions.is_empty());
    Decision {
        actions,
        state,
        message,
        gone: false,
    }
}

/// Everything goes.
fn delete_all(mine: &[&ObservedNode]) -> Decision {
    let actions = mine
        .iter()
        .rev()
        .filter(|node| node.phase != NodePhase::Deleting)
        .map(|node| Action::DeleteNode(node.spec.name.clone()))
        .collect();
    let message = match mine.len() {
        0 => String::new(),
        left => format!(
            "{left} {} being deleted",
            if left == 1 { "node is" } else { "nodes are" }
        ),
    };
    Decision {
        actions,
        state: ProvisioningState::Deleting,
        message,
        gone: mine.is_empty(),
    }
}

/// Where a pool is on its way, and what to say of it.
fn judge(
    pool: &NodePool,
    kept: &[&ObservedNode],
    missing: usize,
    away: usize,
    settled: bool,
) -> (ProvisioningState, String) {
    if let Some(node) = kept.iter().find(|node| node.phase == NodePhase::Failed) {
        let reason = if node.message.is_empty() {
            "it failed"
        } else {
            &node.message
        };
        return (
            ProvisioningState::Failed,
            format!("node {}: {reason}", node.spec.name),
        );
    }
    let mut waiting = Vec::new();
    for node in kept {
        match shortfall(node) {
            Ok(None) => {}
            Ok(Some(reason)) => waiting.push(format!("node {}: {reason}", node.spec.name)),
            Err(error) => return (ProvisioningState::Failed, error),
        }
    }
    if missing == 0 && away == 0 && waiting.is_empty() && settled {
        return (ProvisioningState::Succeeded, String::new());
    }
    let state = match pool.provisioning_state {
        state if !state.is_terminal() => state,
        _ => ProvisioningState::Updating,
    };
    let mut message = format!(
        "{} of {} nodes ready",
        kept.len() - waiting.len(),
        pool.spec.count
    );
    if let Some(first) = waiting.into_iter().next() {
        message = format!("{message}; {first}");
    }
    if away > 0 {
        message = format!("{message}; {away} to be gone");
    }
    (state, message)
}

/// What a node lacks of being as asked: `None` if nothing.
fn shortfall(node: &ObservedNode) -> Result<Option<String>, String> {
    let expected = expected_allocatable(&node.spec).map_err(|error| error.to_string())?;
    let because = |what: String| {
        if node.message.is_empty() {
            what
        } else {
            format!("{what} ({})", node.message)
        }
    };
    if node.phase == NodePhase::Creating {
        return Ok(Some(because("being made".to_owned())));
    }
    if !node.ready {
        return Ok(Some(because("not ready".to_owned())));
    }
    let actual = gpu_resources(&node.allocatable);
    if actual == expected {
        return Ok(None);
    }
    let names: BTreeSet<&String> = expected.keys().chain(actual.keys()).collect();
    let count = |of: &BTreeMap<String, u64>, name: &String| of.get(name).copied().unwrap_or(0);
    let differences: Vec<String> = names
        .into_iter()
        .filter(|name| count(&expected, name) != count(&actual, name))
        .map(|name| {
            format!(
                "{name} is {} instead of {}",
                count(&actual, name),
                count(&expected, name)
            )
        })
        .collect();
    Ok(Some(because(differences.join(", "))))
}

/// The GPU resources that there are any of.
fn gpu_resources(allocatable: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    allocatable
        .iter()
        .filter(|(name, count)| name.starts_with(GPU_RESOURCE_PREFIX) && **count > 0)
        .map(|(name, count)| (name.clone(), *count))
        .collect()
}

/// By ordinal; nodes that were named by somebody else come last.
fn order(name: &NodeName) -> (bool, Option<u32>, NodeName) {
    let ordinal = name.ordinal();
    (ordinal.is_none(), ordinal, name.clone())
}

/// The lowest names that no node has, not even one that is being taken away.
fn free_names(pool: &NodePool, mine: &[&ObservedNode], count: usize) -> Vec<NodeName> {
    let taken: BTreeSet<&NodeName> = mine.iter().map(|node| &node.spec.name).collect();
    (0..u32::MAX)
        .map(|ordinal| NodeName::of(&pool.key, ordinal))
        .filter(|name| !taken.contains(name))
        .take(count)
        .collect()
}

/// Whether a node is what the pool wants, save for what can be changed in place.
fn is_made_for(pool: &NodePool, spec: &NodeSpec) -> bool {
    spec.vm_size.eq_ignore_ascii_case(&pool.spec.vm_size)
        && spec.layout == pool.spec.node_layout()
        && spec.mig_strategy == pool.spec.mig_strategy
}

/// What is wanted of the node of this name.
#[must_use]
pub fn node_spec(pool: &NodePool, name: NodeName) -> NodeSpec {
    NodeSpec {
        labels: node_labels(pool, &name),
        name,
        pool: pool.key.clone(),
        vm_size: pool.spec.vm_size.clone(),
        layout: pool.spec.node_layout(),
        mig_strategy: pool.spec.mig_strategy,
        taints: pool.spec.node_taints.clone(),
    }
}

/// The pool's labels, and those that AKS gives its nodes.
fn node_labels(pool: &NodePool, name: &NodeName) -> BTreeMap<String, String> {
    let mut labels = pool.spec.node_labels.clone();
    let pool_name = pool.key.pool.to_string();
    let mut put = |key: &str, value: &str| labels.insert(key.to_owned(), value.to_owned());
    put("agentpool", &pool_name);
    put("kubernetes.azure.com/agentpool", &pool_name);
    put(
        "kubernetes.azure.com/cluster",
        pool.key.cluster.cluster.as_str(),
    );
    put(
        "kubernetes.azure.com/mode",
        &pool.spec.mode.to_string().to_ascii_lowercase(),
    );
    put("kubernetes.io/arch", "amd64");
    put("kubernetes.io/hostname", name.as_str());
    put("kubernetes.io/os", "linux");
    put("node.kubernetes.io/instance-type", &pool.spec.vm_size);
    if VmSize::find(&pool.spec.vm_size).is_ok_and(|size| size.gpus.is_some()) {
        put("accelerator", "nvidia");
        put("kubernetes.azure.com/accelerator", "nvidia");
    }
    labels
}

/// Decides what is to be done about `cluster`, whose pools are `pools`.
#[must_use]
pub fn reconcile_cluster(cluster: &Cluster, pools: &[&NodePool]) -> ClusterDecision {
    use ProvisioningState::{Deleting, Failed, Succeeded};
    let keep = |state, message: &str| ClusterDecision {
        state,
        message: message.to_owned(),
        delete_pools: Vec::new(),
        gone: false,
    };
    match cluster.provisioning_state {
        Deleting => ClusterDecision {
            delete_pools: pools
                .iter()
                .filter(|pool| pool.provisioning_state != Deleting)
                .map(|pool| pool.key.clone())
                .collect(),
            gone: pools.is_empty(),
            ..keep(Deleting, &cluster.message)
        },
        // A pool that changes later is that pool's own matter.
        Succeeded => keep(Succeeded, &cluster.message),
        state => {
            if let Some(pool) = pools.iter().find(|pool| pool.provisioning_state == Failed) {
                return keep(
                    Failed,
                    &format!("node pool {}: {}", pool.key.pool, pool.message),
                );
            }
            match pools
                .iter()
                .find(|pool| pool.provisioning_state != Succeeded)
            {
                None => keep(Succeeded, ""),
                Some(_) if state.is_terminal() => keep(state, &cluster.message),
                Some(pool) => keep(
                    state,
                    &format!("node pool {}: {}", pool.key.pool, pool.message),
                ),
            }
        }
    }
}

/// Decides what is to be done about `group`, whose clusters are `clusters`.
#[must_use]
pub fn reconcile_group(group: &Group, clusters: &[&Cluster]) -> GroupDecision {
    if group.provisioning_state != ProvisioningState::Deleting {
        return GroupDecision {
            delete_clusters: Vec::new(),
            gone: false,
        };
    }
    GroupDecision {
        delete_clusters: clusters
            .iter()
            .filter(|cluster| cluster.provisioning_state != ProvisioningState::Deleting)
            .map(|cluster| cluster.key.clone())
            .collect(),
        gone: clusters.is_empty(),
    }
}

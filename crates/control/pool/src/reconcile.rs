//! What is to be done, from what is wanted and what is seen. Pure functions.

mod parents;
mod verdict;
mod wanted;

use std::borrow::Borrow;
use std::collections::BTreeSet;

use self::verdict::{Expectations, Judged};
use crate::node::{NodePhase, NodeSpec, ObservedNode};
use crate::node_name::NodeName;
use crate::power::PowerState;
use crate::provider::{Action, Supply};
use crate::resource::{NodePool, ProvisioningState};
use crate::rollout::{PoolSummary, Reason, Refused, Rollout, Settled};

pub use parents::{ClusterDecision, GroupDecision, is_at_rest, reconcile_cluster, reconcile_group};
pub use wanted::{node_spec, target_layout};

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
    /// How far a change of layout has come, to be kept with the pool before anything of `actions` is done.
    pub rollout: Rollout,
    /// Which of the nodes that were named to go are still there, to be kept likewise.
    pub leaving: BTreeSet<NodeName>,
    /// What there is of the pool.
    pub seen: PoolSummary,
}

/// Decides what is to be done about `pool`, whose nodes are among `nodes`.
///
/// - As many nodes as wanted, never more. Of those that a provider makes, the ones with the lowest ordinals stay and new
///   ones take the lowest free ordinals; of those that it finds, the ones that are ready and in use stay.
/// - Nodes that somebody named to go do, whatever their worth; others fill their places only if there are to be so many.
/// - Of machines that the cluster autoscaler counts there are as many nodes as it wants, whatever the pool says.
/// - A stopped pool has no node. Whether its cluster is stopped is for the caller to say: [`NodePool::within`].
/// - Nothing is done about a canceled pool, until something is asked of it again.
/// - Another layout is given to a few nodes at a time: never are more than `max_unavailable` out of work for it, those
///   that are out of work anyhow included. When a node can't take it, all go back to the layout that they had.
/// - `Succeeded` only when every node is ready and its allocatable GPU resources are exactly what its layout gives.
/// - `Failed`, with the node's reason, when a node has failed. It gets better by itself if the node does.
#[must_use]
pub fn reconcile<N: Borrow<ObservedNode>>(
    pool: &NodePool,
    nodes: &[N],
    supply: &Supply,
) -> Decision {
    let mine: Vec<&ObservedNode> = nodes
        .iter()
        .map(Borrow::borrow)
        .filter(|node| node.spec.pool == pool.key)
        .collect();
    match pool.provisioning_state {
        ProvisioningState::Deleting => delete_all(pool, mine, supply),
        // Unless its cluster was stopped or started since: then something was asked for again.
        ProvisioningState::Canceled if pool.seen.power == pool.spec.power => Decision {
            actions: Vec::new(),
            state: ProvisioningState::Canceled,
            message: pool.message.clone(),
            rollout: pool.rollout.clone(),
            leaving: pool.leaving.clone(),
            seen: PoolSummary {
                reason: Reason::Canceled,
                ..bring_about(pool, &mine, supply).seen
            },
            gone: false,
        },
        _ => bring_about(pool, &mine, supply),
    }
}

/// Brings a pool to what is wanted of it.
fn bring_about(pool: &NodePool, mine: &[&ObservedNode], supply: &Supply) -> Decision {
    let expectations = Expectations::default();
    let mut judged: Vec<Judged> = mine.iter().map(|node| expectations.judge(node)).collect();
    match supply {
        Supply::Made => judged.sort_by_key(|it| by_ordinal(&it.node.spec.name)),
        Supply::Found(_) | Supply::Scaled { .. } => judged.sort_by_key(by_worth),
    }

    let wanted = match (pool.spec.power, supply) {
        (PowerState::Stopped, _) => 0,
        (
            PowerState::Running,
            Supply::Scaled {
                machines,
                autoscaled: true,
                ..
            },
        ) => *machines,
        (PowerState::Running, _) => pool.spec.count,
    };
    let count = usize::try_from(wanted).unwrap_or(usize::MAX);
    let (live, leaving): (Vec<_>, Vec<_>) = judged
        .into_iter()
        .partition(|it| it.node.phase != NodePhase::Deleting);
    let (fitting, foreign): (Vec<_>, Vec<_>) = live
        .into_iter()
        .partition(|it| is_made_for(pool, &it.node.spec));
    let (named, fitting): (Vec<_>, Vec<_>) = fitting
        .into_iter()
        .partition(|it| pool.leaving.contains(&it.node.spec.name));
    let (kept, surplus) = fitting.split_at(count.min(fitting.len()));

    let rollout = follow_up(pool, kept);
    let pool = &NodePool {
        rollout,
        ..pool.clone()
    };
    let mut actions = Vec::new();
    for it in surplus.iter().rev().chain(&named).chain(&foreign) {
        actions.push(Action::DeleteNode(it.node.spec.name.clone()));
    }
    actions.extend(updates(pool, kept));
    // Nodes that are to go still count: never are there more than wanted, not even for a while.
    let away = surplus.len() + named.len() + foreign.len() + leaving.len();
    let room = count.saturating_sub(kept.len() + away);
    actions.extend(additions(pool, mine, room, supply));
    if let Supply::Scaled { machines, .. } = supply
        && *machines != wanted
    {
        actions.push(Action::Resize(pool.key.clone(), wanted));
    }

    let members = verdict::Members {
        kept,
        missing: count.saturating_sub(kept.len()),
        away,
        settled: actions.is_empty(),
        supply,
    };
    let verdict = verdict::of(pool, &members);
    let mut seen = PoolSummary {
        nodes: narrow(mine.len()),
        reason: verdict.reason,
        power: pool.spec.power,
        ..PoolSummary::default()
    };
    let target = target_layout(pool);
    for it in kept {
        seen.ready += u32::from(it.is_ready());
        seen.updated += u32::from(it.node.spec.layout == target);
        seen.slices += it.node.slices;
    }
    Decision {
        actions,
        state: verdict.state,
        message: verdict.message,
        gone: false,
        rollout: pool.rollout.clone(),
        leaving: still_there(pool, mine),
        seen,
    }
}

/// Takes in how a change of layout went so far.
fn follow_up(pool: &NodePool, kept: &[Judged]) -> Rollout {
    let asked = pool.spec.node_layout();
    let mut rollout = pool.rollout.clone();
    if rollout
        .refused
        .as_ref()
        .is_some_and(|it| it.layout != asked)
    {
        rollout.refused = None;
    }
    let is_settled = rollout
        .settled
        .as_ref()
        .is_some_and(|it| it.layout == asked);
    if is_settled || rollout.refused.is_some() {
        return rollout;
    }
    let failed = kept
        .iter()
        .find(|it| it.node.phase == NodePhase::Failed && it.node.spec.layout == asked);
    match failed {
        // There is nothing to go back to for nodes that are new.
        Some(it) if rollout.settled.is_some() => {
            rollout.refused = Some(Refused {
                layout: asked,
                node: it.node.spec.name.clone(),
                reason: it.failure(),
            });
        }
        _ if !kept.is_empty()
            && kept
                .iter()
                .all(|it| it.is_ready() && it.node.spec.layout == asked) =>
        {
            rollout.settled = Some(Settled { layout: asked });
        }
        _ => {}
    }
    rollout
}

/// New labels, taints and drains for all nodes at once, another layout for a few.
fn updates(pool: &NodePool, kept: &[Judged]) -> Vec<Action> {
    let unavailable = kept.iter().filter(|it| !it.is_ready()).count();
    let most = pool.spec.max_unavailable.of(kept.len());
    let mut budget = most.saturating_sub(unavailable);
    let mut actions = Vec::new();
    for it in kept {
        let node = it.node;
        let mut wanted = node_spec(pool, node.spec.name.clone());
        if node.spec.layout != wanted.layout {
            // What is out of work anyhow costs nothing.
            if it.is_ready() {
                if budget == 0 {
                    wanted.layout.clone_from(&node.spec.layout);
                } else {
                    budget -= 1;
                }
            }
        }
        if node.spec != wanted {
            actions.push(Action::UpdateNode(wanted));
        }
    }
    actions
}

/// So many more nodes, as far as there are any.
fn additions(pool: &NodePool, mine: &[&ObservedNode], room: usize, supply: &Supply) -> Vec<Action> {
    let names: Vec<NodeName> = match supply {
        Supply::Made => free_names(pool, mine, room),
        Supply::Found(candidates) | Supply::Scaled { candidates, .. } => candidates
            .fitting
            .iter()
            .take(room)
            .map(|candidate| candidate.name.clone())
            .collect(),
    };
    names
        .into_iter()
        .map(|name| Action::CreateNode(node_spec(pool, name)))
        .collect()
}

/// Everything goes.
fn delete_all(pool: &NodePool, mut mine: Vec<&ObservedNode>, supply: &Supply) -> Decision {
    mine.sort_by_key(|node| by_ordinal(&node.spec.name));
    let mut actions: Vec<Action> = mine
        .iter()
        .rev()
        .filter(|node| node.phase != NodePhase::Deleting)
        .map(|node| Action::DeleteNode(node.spec.name.clone()))
        .collect();
    let mut machines_left = false;
    if let Supply::Scaled { machines, .. } = supply
        && *machines > 0
    {
        machines_left = true;
        actions.push(Action::Resize(pool.key.clone(), 0));
    }
    let message = match mine.len() {
        0 => String::new(),
        left => {
            let are = if left == 1 { "node is" } else { "nodes are" };
            let said = mine.iter().find(|node| !node.message.is_empty());
            let said = said.map_or_else(String::new, |node| {
                format!("; node {}: {}", node.spec.name, node.message)
            });
            format!("{left} {are} being deleted{said}")
        }
    };
    Decision {
        actions,
        state: ProvisioningState::Deleting,
        message,
        gone: mine.is_empty() && !machines_left,
        rollout: pool.rollout.clone(),
        leaving: still_there(pool, &mine),
        seen: PoolSummary {
            nodes: narrow(mine.len()),
            reason: Reason::Deleting,
            power: pool.spec.power,
            ..PoolSummary::default()
        },
    }
}

/// Those of the nodes that were named to go which are still there.
fn still_there(pool: &NodePool, mine: &[&ObservedNode]) -> BTreeSet<NodeName> {
    let is_there = |name: &&NodeName| mine.iter().any(|node| node.spec.name == **name);
    pool.leaving.iter().filter(is_there).cloned().collect()
}

/// By ordinal; nodes that were named by somebody else come last.
fn by_ordinal(name: &NodeName) -> (bool, Option<u32>, NodeName) {
    let ordinal = name.ordinal();
    (ordinal.is_none(), ordinal, name.clone())
}

/// Those first that it would be a pity to lose.
fn by_worth(it: &Judged) -> (bool, std::cmp::Reverse<u64>, NodeName) {
    let in_use = std::cmp::Reverse(it.node.slices.in_use);
    (!it.is_ready(), in_use, it.node.spec.name.clone())
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
    spec.vm_size.eq_ignore_ascii_case(pool.spec.vm_size())
        && spec.mig_strategy == pool.spec.mig_strategy
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

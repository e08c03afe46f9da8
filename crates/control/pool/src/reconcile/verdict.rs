//! Where a pool is on its way, and what to say of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use mig::{MigStrategy, NodeLayout};

use super::target_layout;
use crate::Invalid;
use crate::allocatable::{GPU_RESOURCE_PREFIX, expected_of};
use crate::node::{NodePhase, ObservedNode};
use crate::power::PowerState;
use crate::provider::Supply;
use crate::resource::{NodePool, ProvisioningState};
use crate::rollout::Reason;

/// What tells what a node is to advertise: nodes of a pool have few different ones.
#[derive(PartialEq)]
struct Kind {
    boards: BTreeMap<u32, String>,
    vm_size: String,
    layout: Option<NodeLayout>,
    strategy: MigStrategy,
}

type Expected = Result<BTreeMap<String, u64>, Invalid>;

/// What nodes are to advertise, worked out once for all that are alike.
#[derive(Default)]
pub(super) struct Expectations(RefCell<Vec<(Kind, Expected)>>);

impl Expectations {
    fn of(&self, node: &ObservedNode) -> Expected {
        let spec = &node.spec;
        let is_kind = |kind: &Kind| {
            kind.boards == node.boards
                && kind.vm_size == spec.vm_size
                && kind.layout == spec.layout
                && kind.strategy == spec.mig_strategy
        };
        let mut known = self.0.borrow_mut();
        if let Some((_, expected)) = known.iter().find(|(kind, _)| is_kind(kind)) {
            return expected.clone();
        }
        let expected = expected_of(node);
        let kind = Kind {
            boards: node.boards.clone(),
            vm_size: spec.vm_size.clone(),
            layout: spec.layout.clone(),
            strategy: spec.mig_strategy,
        };
        known.push((kind, expected.clone()));
        expected
    }

    /// How it stands with a node.
    pub(super) fn judge<'n>(&self, node: &'n ObservedNode) -> Judged<'n> {
        Judged {
            node,
            shortfall: self.shortfall(node),
        }
    }

    /// What a node lacks of being as asked: `None` if nothing.
    fn shortfall(&self, node: &ObservedNode) -> Shortfall {
        let expected = match self.of(node) {
            Ok(expected) => expected,
            Err(error) => return Shortfall::Impossible(error.to_string()),
        };
        let because = |what: String| {
            Shortfall::Waiting(if node.message.is_empty() {
                what
            } else {
                format!("{what} ({})", node.message)
            })
        };
        if node.phase == NodePhase::Creating {
            return because("being made".to_owned());
        }
        if !node.ready {
            return because("not ready".to_owned());
        }
        let actual = gpu_resources(&node.allocatable);
        if actual == expected {
            return Shortfall::None;
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
        because(differences.join(", "))
    }
}

/// The GPU resources that there are any of.
fn gpu_resources(allocatable: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    allocatable
        .iter()
        .filter(|(name, count)| name.starts_with(GPU_RESOURCE_PREFIX) && **count > 0)
        .map(|(name, count)| (name.clone(), *count))
        .collect()
}

/// What a node lacks of being as asked.
#[derive(Debug)]
enum Shortfall {
    None,
    Waiting(String),
    Impossible(String),
}

/// A node, and what it lacks.
#[derive(Debug)]
pub(super) struct Judged<'n> {
    pub(super) node: &'n ObservedNode,
    shortfall: Shortfall,
}

impl Judged<'_> {
    /// It is as asked.
    pub(super) fn is_ready(&self) -> bool {
        self.node.phase == NodePhase::Running && matches!(self.shortfall, Shortfall::None)
    }

    /// Why it failed.
    pub(super) fn failure(&self) -> String {
        match self.node.message.as_str() {
            "" => "it failed".to_owned(),
            reason => reason.to_owned(),
        }
    }
}

/// What a verdict is about.
pub(super) struct Members<'a> {
    /// The nodes that stay.
    pub(super) kept: &'a [Judged<'a>],
    /// How many more are wanted.
    pub(super) missing: usize,
    /// How many are on their way out.
    pub(super) away: usize,
    /// There is nothing to do.
    pub(super) settled: bool,
    pub(super) supply: &'a Supply,
}

/// Where a pool is on its way.
pub(super) struct Verdict {
    pub(super) state: ProvisioningState,
    pub(super) reason: Reason,
    pub(super) message: String,
}

/// Where a pool is on its way, and what to say of it.
pub(super) fn of(pool: &NodePool, members: &Members) -> Verdict {
    let failed = |reason, message| Verdict {
        state: ProvisioningState::Failed,
        reason,
        message,
    };
    if let Some(it) = members.kept.iter().find(|it| it.node.phase == NodePhase::Failed)
        // Who is told to go back is no failure any more.
        && it.node.spec.layout == target_layout(pool)
    {
        let message = format!("node {}: {}", it.node.spec.name, it.failure());
        return failed(Reason::NodeFailed, message);
    }
    let mut waiting = Vec::new();
    for it in members.kept {
        match &it.shortfall {
            Shortfall::None if it.is_ready() => {}
            Shortfall::None => {
                waiting.push(format!("node {}: {}", it.node.spec.name, it.failure()));
            }
            Shortfall::Waiting(reason) => {
                waiting.push(format!("node {}: {reason}", it.node.spec.name));
            }
            Shortfall::Impossible(error) => return failed(Reason::InvalidSpec, error.clone()),
        }
    }
    let target = target_layout(pool);
    let updated = |it: &&Judged| it.node.spec.layout == target;
    let behind = members.kept.len() - members.kept.iter().filter(updated).count();
    let is_complete = members.missing == 0 && members.away == 0 && waiting.is_empty();
    if is_complete && members.settled && pool.spec.power == PowerState::Stopped {
        return Verdict {
            state: ProvisioningState::Succeeded,
            reason: Reason::Stopped,
            message: String::new(),
        };
    }
    if is_complete && members.settled {
        return match &pool.rollout.refused {
            Some(refused) => failed(
                Reason::RolledBack,
                format!(
                    "{}; all nodes have the layout {} that they had before",
                    refusal(refused),
                    named(target.as_ref())
                ),
            ),
            None => Verdict {
                state: ProvisioningState::Succeeded,
                reason: Reason::AsAsked,
                message: String::new(),
            },
        };
    }
    let state = match pool.provisioning_state {
        state if !state.is_terminal() => state,
        _ if pool.spec.power == PowerState::Stopped => ProvisioningState::Stopping,
        _ if pool.seen.power == PowerState::Stopped => ProvisioningState::Starting,
        _ => ProvisioningState::Updating,
    };
    let ready = members.kept.len() - waiting.len();
    let mut said = vec![format!(
        "{ready} of {} nodes ready",
        members.kept.len() + members.missing
    )];
    let too_few = too_few(members);
    let reason = if pool.rollout.refused.is_some() && !is_complete
        || behind > 0 && pool.rollout.refused.is_some()
    {
        Reason::RollingBack
    } else if behind > 0 {
        Reason::RollingOut
    } else if too_few.is_some() {
        Reason::TooFewNodes
    } else if members.missing > 0 {
        Reason::AddingNodes
    } else if !waiting.is_empty() {
        is_changing(pool, members)
    } else {
        Reason::RemovingNodes
    };
    if let Some(refused) = &pool.rollout.refused {
        said.push(refusal(refused));
    }
    if behind > 0 {
        let have = members.kept.len() - behind;
        said.push(format!(
            "{have} of {} were told the layout {}",
            members.kept.len(),
            named(target.as_ref())
        ));
    }
    said.extend(too_few);
    said.extend(waiting.into_iter().next());
    if members.away > 0 {
        said.push(format!("{} to be gone", members.away));
    }
    Verdict {
        state,
        reason,
        message: said.join("; "),
    }
}

/// Nodes that are not ready may be on their way to a layout.
fn is_changing(pool: &NodePool, members: &Members) -> Reason {
    let asked = pool.spec.node_layout();
    let settled = pool.rollout.settled.as_ref();
    if settled.is_some_and(|settled| settled.layout != asked) {
        Reason::RollingOut
    } else if members
        .kept
        .iter()
        .all(|it| it.node.phase == NodePhase::Creating)
    {
        Reason::AddingNodes
    } else {
        Reason::NodesNotReady
    }
}

/// Why there are too few nodes, if there are.
fn too_few(members: &Members) -> Option<String> {
    let found = match members.supply {
        Supply::Made => return None,
        Supply::Found(candidates) | Supply::Scaled { candidates, .. } => candidates,
    };
    let lacking = members
        .missing
        .saturating_sub(members.away)
        .saturating_sub(found.fitting.len());
    if lacking == 0 {
        return None;
    }
    let needed = if lacking == 1 {
        "1 more node is needed".to_owned()
    } else {
        format!("{lacking} more nodes are needed")
    };
    let why = found.why_not();
    Some(match (members.supply, why.is_empty()) {
        (Supply::Scaled { machines, .. }, true) => {
            format!("{needed}; the machine deployment was told to have {machines}")
        }
        (_, true) => format!("{needed}, and there is no other node"),
        (_, false) => format!("{needed}, and no free node fits ({why})"),
    })
}

fn refusal(refused: &crate::rollout::Refused) -> String {
    format!(
        "node {} could not take the layout {}: {}",
        refused.node,
        named(refused.layout.as_ref()),
        refused.reason
    )
}

fn named(layout: Option<&NodeLayout>) -> String {
    layout.map_or_else(|| "off".to_owned(), ToString::to_string)
}

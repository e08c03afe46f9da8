//! What is said of a pool in the custom resource's status. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use pool::{Invalid, ProvisioningState, Reason};

use crate::convert;
use crate::node_pool::{NodePool, NodePoolStatus};
use crate::record_object::LastOperation;

/// All nodes are as asked.
pub const READY: &str = "Ready";
/// Something is being done.
pub const PROGRESSING: &str = "Progressing";
/// Something is wrong that may not mend itself.
pub const DEGRADED: &str = "Degraded";

/// The label that a pool's nodes are counted by.
pub const POOL_LABEL: &str = "kubernetes.azure.com/agentpool";

/// The label that says of which cluster's pools a node's is.
const CLUSTER_LABEL: &str = "kubernetes.azure.com/cluster";

/// The status of a pool, given the one that it had.
#[must_use]
pub fn of(object: &NodePool, record: &pool::NodePool, now: Timestamp) -> NodePoolStatus {
    let state = record.provisioning_state;
    let seen = &record.seen;
    let reason = seen.reason;
    let message = match (record.message.as_str(), reason) {
        ("", Reason::AsAsked) => format!("all {} nodes are as asked", seen.nodes),
        (said, _) => said.to_owned(),
    };
    let is_ready = state == ProvisioningState::Succeeded;
    let is_degraded = state == ProvisioningState::Failed
        || matches!(
            reason,
            Reason::TooFewNodes
                | Reason::RollingBack
                | Reason::RolledBack
                | Reason::NodeFailed
                | Reason::ProviderFailed
                | Reason::InvalidSpec
        );
    let conditions = [
        (READY, is_ready),
        (PROGRESSING, !state.is_terminal()),
        (DEGRADED, is_degraded),
    ];
    NodePoolStatus {
        observed_generation: object.metadata.generation,
        phase: state.to_string(),
        asked: convert::asked(object).map(|asked| asked.id.clone()),
        last_operation: last_operation(object, record),
        reason: reason.to_string(),
        message: record.message.clone(),
        profile: profile(record),
        nodes: seen.nodes,
        ready_nodes: seen.ready,
        updated_nodes: seen.updated,
        slices: seen.slices,
        power: convert::power_of(seen.power),
        leaving: record.leaving.iter().map(ToString::to_string).collect(),
        rollout: record.rollout.clone(),
        selector: selector(object, record),
        conditions: conditions
            .into_iter()
            .map(|(kind, holds)| condition(object, kind, holds, &reason.to_string(), &message, now))
            .collect(),
    }
}

/// The labels of the pool's nodes: those of a pool of another cluster may have its name.
fn selector(object: &NodePool, record: &pool::NodePool) -> String {
    let pool = format!("{POOL_LABEL}={}", record.key.pool);
    match &object.spec.resource_group {
        Some(_) => format!("{pool},{CLUSTER_LABEL}={}", record.key.cluster.cluster),
        None => pool,
    }
}

/// The operation that has come to its end with this, or else the last that had.
fn last_operation(object: &NodePool, record: &pool::NodePool) -> Option<LastOperation> {
    let before = object.status.as_ref();
    let before = before.and_then(|status| status.last_operation.clone());
    let asked = convert::asked(object).and_then(|asked| asked.operation.clone());
    match asked {
        Some(id) if record.operation.is_none() && before.as_ref().is_none_or(|it| it.id != id) => {
            Some(LastOperation {
                id,
                state: record.provisioning_state.to_string(),
                message: record.message.clone(),
            })
        }
        _ => before,
    }
}

/// The status of a pool whose spec makes no sense: nothing is done about it, and its nodes stay as they are.
#[must_use]
pub fn of_invalid(object: &NodePool, error: &Invalid, now: Timestamp) -> NodePoolStatus {
    let before = object.status.clone().unwrap_or_default();
    let reason = Reason::InvalidSpec.to_string();
    let conditions = [(READY, false), (PROGRESSING, false), (DEGRADED, true)];
    let asked = convert::asked(object);
    let failed = asked.and_then(|asked| asked.operation.clone());
    NodePoolStatus {
        observed_generation: object.metadata.generation,
        phase: ProvisioningState::Failed.to_string(),
        asked: asked.map(|asked| asked.id.clone()),
        last_operation: match failed {
            Some(id) if before.last_operation.as_ref().is_none_or(|it| it.id != id) => {
                Some(LastOperation {
                    id,
                    state: ProvisioningState::Failed.to_string(),
                    message: error.message.clone(),
                })
            }
            _ => before.last_operation.clone(),
        },
        message: error.message.clone(),
        conditions: conditions
            .into_iter()
            .map(|(kind, holds)| condition(object, kind, holds, &reason, &error.message, now))
            .collect(),
        reason,
        ..before
    }
}

/// The profile, or the layout, that the nodes are to have now.
fn profile(record: &pool::NodePool) -> String {
    let target = pool::reconcile::target_layout(record);
    match (record.spec.gpu_instance_profile, target) {
        (Some(profile), _) => profile.to_string(),
        (None, Some(layout)) => layout.to_string(),
        (None, None) => "-".to_owned(),
    }
}

fn condition(
    object: &NodePool,
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Condition {
    let status = if holds { "True" } else { "False" };
    let before = object.status.iter().flat_map(|status| &status.conditions);
    let since = before
        .filter(|condition| condition.type_ == kind && condition.status == status)
        .map(|condition| condition.last_transition_time.clone())
        .next();
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: object.metadata.generation,
        last_transition_time: since.unwrap_or(Time(now)),
    }
}

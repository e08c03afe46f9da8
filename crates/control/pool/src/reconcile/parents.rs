//! What is to be done about clusters and resource groups, which only hold others.

use crate::key::{ClusterKey, PoolKey};
use crate::resource::{Cluster, Group, NodePool, ProvisioningState};

/// What is to be done about a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDecision {
    /// Where the cluster is on its way.
    pub state: ProvisioningState,
    /// What is going on, or why it failed.
    pub message: String,
    /// Pools that are to be deleted because the cluster is.
    pub delete_pools: Vec<PoolKey>,
    /// Pools that were canceled and are to go on because the cluster is being stopped or started.
    pub resume_pools: Vec<PoolKey>,
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

/// Whether nothing is to be done about `cluster`, whatever its pools are.
#[must_use]
pub fn is_at_rest(cluster: &Cluster) -> bool {
    use ProvisioningState::{Canceled, Succeeded};
    // A pool that changes later is that pool's own matter.
    // And what was canceled stays so until something is asked for again.
    matches!(cluster.provisioning_state, Succeeded | Canceled)
}

/// Decides what is to be done about `cluster`, whose pools are `pools`.
#[must_use]
pub fn reconcile_cluster(cluster: &Cluster, pools: &[&NodePool]) -> ClusterDecision {
    use ProvisioningState::{Canceled, Deleting, Failed, Succeeded};
    let keep = |state, message: &str| ClusterDecision {
        state,
        message: message.to_owned(),
        delete_pools: Vec::new(),
        resume_pools: Vec::new(),
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
        state if is_at_rest(cluster) => keep(state, &cluster.message),
        state if is_turned(state) && pools.iter().any(|pool| is_canceled(pool)) => {
            ClusterDecision {
                resume_pools: pools
                    .iter()
                    .filter(|pool| is_canceled(pool))
                    .map(|pool| pool.key.clone())
                    .collect(),
                ..keep(state, &cluster.message)
            }
        }
        state => {
            // What a pool is tells nothing before it was looked at under the power that the cluster has now.
            let is = |pool: &NodePool, state| {
                pool.provisioning_state == state
                    && pool.seen.power == pool.spec.power.within(cluster.power)
            };
            if let Some(pool) = pools.iter().find(|pool| is(pool, Failed)) {
                return keep(
                    Failed,
                    &format!("node pool {}: {}", pool.key.pool, pool.message),
                );
            }
            match pools
                .iter()
                // One that was canceled stays as it is: it would be waited for in vain.
                .find(|pool| !is(pool, Succeeded) && !is(pool, Canceled))
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

/// It is being stopped or started.
fn is_turned(state: ProvisioningState) -> bool {
    use ProvisioningState::{Starting, Stopping};
    matches!(state, Starting | Stopping)
}

fn is_canceled(pool: &NodePool) -> bool {
    pool.provisioning_state == ProvisioningState::Canceled
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use jiff::Timestamp;
    use serde_json::Map;

    use super::*;
    use crate::power::PowerState;
    use crate::rollout::{PoolSummary, Rollout};
    use crate::validation::{NodePoolInput, node_pool};
    use crate::{GroupKey, SubscriptionId};

    fn cluster(state: ProvisioningState, power: PowerState) -> Cluster {
        Cluster {
            key: ClusterKey {
                group: GroupKey {
                    subscription: SubscriptionId::local(),
                    group: "g".parse().unwrap(),
                },
                cluster: "c".parse().unwrap(),
            },
            location: "local".to_owned(),
            tags: BTreeMap::new(),
            properties: Map::new(),
            envelope: Map::new(),
            power,
            provisioning_state: state,
            message: String::new(),
            operation: None,
            created: Timestamp::UNIX_EPOCH,
        }
    }

    /// A pool that was last seen under this power.
    fn pool(of: &Cluster, state: ProvisioningState, seen: PowerState) -> NodePool {
        NodePool {
            key: PoolKey {
                cluster: of.key.clone(),
                pool: "p".parse().unwrap(),
            },
            spec: node_pool(&NodePoolInput::default(), None).unwrap(),
            provisioning_state: state,
            message: "stuck".to_owned(),
            operation: None,
            created: Timestamp::UNIX_EPOCH,
            rollout: Rollout::default(),
            leaving: BTreeSet::new(),
            seen: PoolSummary {
                power: seen,
                ..PoolSummary::default()
            },
        }
    }

    #[test]
    fn a_cluster_is_stopped_once_its_pools_were_seen_stopped_and_not_by_what_they_were_before() {
        use PowerState::{Running, Stopped};
        use ProvisioningState::{Failed, Stopping, Succeeded};
        let stopping = cluster(Stopping, Stopped);
        for (state, seen, becomes) in [
            (Succeeded, Running, Stopping),
            (Failed, Running, Stopping),
            (Stopping, Stopped, Stopping),
            (Failed, Stopped, Failed),
            (Succeeded, Stopped, Succeeded),
        ] {
            let pool = pool(&stopping, state, seen);
            let decision = reconcile_cluster(&stopping, &[&pool]);
            assert_eq!(decision.state, becomes, "{state} {seen}");
        }
    }

    #[test]
    fn a_canceled_pool_goes_on_with_its_cluster_and_is_not_waited_for_otherwise() {
        use PowerState::{Running, Stopped};
        use ProvisioningState::{Canceled, Starting, Stopping, Succeeded, Updating};
        for (state, power, resumed, becomes) in [
            (Stopping, Stopped, 1, Stopping),
            (Starting, Running, 1, Starting),
            (Updating, Running, 0, Succeeded),
            (Canceled, Running, 0, Canceled),
        ] {
            let cluster = cluster(state, power);
            let pool = pool(&cluster, Canceled, power);
            let decision = reconcile_cluster(&cluster, &[&pool]);
            assert_eq!(decision.resume_pools.len(), resumed, "{state}");
            assert_eq!(decision.state, becomes, "{state}");
        }
    }
}

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

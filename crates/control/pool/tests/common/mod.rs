//! What the tests of the controller share: one cluster, and pools for it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use jiff::Timestamp;
use migpool_pool as pool;
use pool::memory::MemoryBackend;
use pool::validation::{NodePoolInput, node_pool};
use pool::{
    Change, Cluster, ClusterKey, Group, GroupKey, NodePool, PoolKey, ProvisioningState, Store,
    SubscriptionId,
};

pub(crate) fn group_key() -> GroupKey {
    GroupKey {
        subscription: SubscriptionId::local(),
        group: "rg".parse().unwrap(),
    }
}

pub(crate) fn cluster_key() -> ClusterKey {
    ClusterKey {
        group: group_key(),
        cluster: "c".parse().unwrap(),
    }
}

pub(crate) fn pool_key(name: &str) -> PoolKey {
    PoolKey {
        cluster: cluster_key(),
        pool: name.parse().unwrap(),
    }
}

/// A pool that is asked for, of nodes with one A100.
pub(crate) fn pool(name: &str, count: i64, profile: Option<&str>) -> NodePool {
    let input = NodePoolInput {
        count: Some(count),
        vm_size: Some("Standard_NC24ads_A100_v4".into()),
        gpu_instance_profile: profile.map(str::to_owned),
        ..NodePoolInput::default()
    };
    NodePool {
        key: pool_key(name),
        spec: node_pool(&input, None).unwrap(),
        provisioning_state: ProvisioningState::Creating,
        message: String::new(),
        operation: None,
        created: Timestamp::now(),
        rollout: pool::Rollout::default(),
        leaving: [].into(),
        seen: pool::PoolSummary::default(),
    }
}

/// A backend in memory that has a group with a cluster.
pub(crate) async fn backend() -> Arc<MemoryBackend> {
    let backend = Arc::new(MemoryBackend::new());
    let group = serde_json::from_value::<Group>(serde_json::json!({
        "key": group_key(), "location": "southcentralus", "provisioning_state": "Succeeded",
    }));
    let cluster = serde_json::from_value::<Cluster>(serde_json::json!({
        "key": cluster_key(), "location": "southcentralus", "provisioning_state": "Succeeded",
        "created": Timestamp::now(),
    }));
    let changes = vec![
        Change::create(&group.unwrap()).unwrap(),
        Change::create(&cluster.unwrap()).unwrap(),
    ];
    backend.commit(changes).await.unwrap();
    backend
}

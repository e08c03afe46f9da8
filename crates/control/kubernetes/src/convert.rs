//! From the custom resource to the model's record, and its names.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use pool::validation::node_pool;
use pool::{
    ClusterKey, GroupKey, Invalid, NodePoolInput, PoolKey, PoolSummary, ProvisioningState,
    SubscriptionId,
};
use serde_json::Map;

use crate::node_pool::{Mode, NodePool};

/// The most nodes that a pool can have on a cluster: twice what Kubernetes is tested with.
pub const MAX_COUNT: u32 = 10_000;

/// The resource group that pools are in for those who speak ARM.
const GROUP: &str = "kubernetes";

/// The cluster that pools are in which name none.
const CLUSTER: &str = "kubernetes";

/// The key of the pool of this name.
///
/// # Errors
/// If a name is none.
pub fn key_of(name: &str, cluster: Option<&str>) -> Result<PoolKey, Invalid> {
    Ok(PoolKey {
        cluster: ClusterKey {
            group: GroupKey {
                subscription: SubscriptionId::local(),
                group: GROUP.parse()?,
            },
            cluster: cluster.unwrap_or(CLUSTER).parse()?,
        },
        pool: name.parse()?,
    })
}

/// A pool's key.
///
/// # Errors
/// If a name is none.
pub fn key(pool: &NodePool) -> Result<PoolKey, Invalid> {
    key_of(&pool.name_any(), pool.spec.cluster_name.as_deref())
}

/// What is wanted of a pool, checked: what the schema can't say is said here.
///
/// # Errors
/// What is wrong, and what is allowed.
pub fn spec(pool: &NodePool) -> Result<pool::NodePoolSpec, Invalid> {
    let spec = &pool.spec;
    key(pool)?;
    let max_unavailable = spec.max_unavailable.as_ref().map(|value| match value {
        IntOrString::Int(count) => count.to_string(),
        IntOrString::String(text) => text.clone(),
    });
    node_pool(
        &NodePoolInput {
            count: Some(i64::from(spec.count)),
            vm_size: spec.vm_size.clone(),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            gpu_instance_profile: spec.gpu_instance_profile.map(|it| it.as_str().to_owned()),
            layouts: spec.layouts.clone(),
            mig_strategy: Some(mig::MigStrategy::from(spec.mig_strategy).to_string()),
            node_labels: spec.node_labels.clone(),
            node_taints: spec.node_taints.clone(),
            mode: Some(
                match spec.mode {
                    Mode::System => "System",
                    Mode::User => "User",
                }
                .to_owned(),
            ),
            max_unavailable,
            power: None,
            drain: Some(drain(spec.drain)),
            auto_scaling: pool::validation::AutoScalingInput::default(),
            mig_profiles: Vec::new(),
            max_count: Some(MAX_COUNT),
            tags: BTreeMap::new(),
            extra: Map::new(),
        },
        None,
    )
}

/// The model's word for what is done about pods in the way.
#[must_use]
pub fn drain(drain: gpu_node::Drain) -> pool::Drain {
    match drain {
        gpu_node::Drain::Never => pool::Drain::Never,
        gpu_node::Drain::Wait => pool::Drain::Wait,
        gpu_node::Drain::Evict => pool::Drain::Evict,
    }
}

/// The custom resource's word for it.
#[must_use]
pub fn drain_of(drain: pool::Drain) -> gpu_node::Drain {
    match drain {
        pool::Drain::Never => gpu_node::Drain::Never,
        pool::Drain::Wait => gpu_node::Drain::Wait,
        pool::Drain::Evict => gpu_node::Drain::Evict,
    }
}

/// A pool as the model keeps it.
///
/// # Errors
/// What is wrong with what is wanted, and what is allowed.
pub fn record(pool: &NodePool) -> Result<pool::NodePool, Invalid> {
    let status = pool.status.clone().unwrap_or_default();
    Ok(pool::NodePool {
        key: key(pool)?,
        spec: spec(pool)?,
        provisioning_state: state(pool),
        message: status.message,
        operation: None,
        created: pool
            .creation_timestamp()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        rollout: status.rollout,
        seen: PoolSummary {
            nodes: status.nodes,
            ready: status.ready_nodes,
            updated: status.updated_nodes,
            slices: status.slices,
            power: pool::PowerState::Running,
            reason: serde_json::from_value(status.reason.into()).unwrap_or_default(),
        },
        leaving: std::collections::BTreeSet::new(),
    })
}

/// Where a pool is on its way: a change of what is wanted starts it anew.
fn state(pool: &NodePool) -> ProvisioningState {
    if pool.metadata.deletion_timestamp.is_some() {
        return ProvisioningState::Deleting;
    }
    let Some(status) = &pool.status else {
        return ProvisioningState::Creating;
    };
    let kept = serde_json::from_value(status.phase.clone().into());
    let kept = kept.unwrap_or(ProvisioningState::Creating);
    if status.observed_generation == pool.metadata.generation || !kept.is_terminal() {
        return kept;
    }
    if status.nodes == u32::try_from(pool.spec.count).unwrap_or_default() {
        ProvisioningState::Updating
    } else {
        ProvisioningState::Scaling
    }
}

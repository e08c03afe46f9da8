//! From the custom resource to the model's record and back, and their names.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use pool::validation::node_pool;
use pool::{
    AutoScaling, ClusterKey, GroupKey, Invalid, Key, Machines, MaxUnavailable, NodePoolInput,
    PoolKey, PoolSummary, ProvisioningState, SubscriptionId,
};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::node_pool::{
    Arm, Asked, Bounds, GpuInstanceProfile, ListedProfiles, Mode, NodePool, NodePoolSpec, Power,
};
use crate::record_object::digest;

/// The most nodes that a pool can have on a cluster: twice what Kubernetes is tested with.
pub const MAX_COUNT: u32 = 10_000;

/// The resource group that pools are in for those who speak ARM.
const GROUP: &str = "kubernetes";

/// The cluster that pools are in which name none.
const CLUSTER: &str = "kubernetes";

/// How much of a digest of its cluster the name of a `NodePool` has where the pool's own name is another one's.
const DIGITS: usize = 8;

/// The key of the pool of this name that names no resource group.
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

/// A pool's key. The object has the pool's name, or that and a digest of the cluster: pools of two clusters may have one name.
///
/// # Errors
/// If a name is none.
pub fn key(pool: &NodePool) -> Result<PoolKey, Invalid> {
    let name = pool.name_any();
    let (own, suffix) = match name.split_once('-') {
        Some((own, suffix)) => (own, Some(suffix)),
        None => (name.as_str(), None),
    };
    let mut key = key_of(own, pool.spec.cluster_name.as_deref())?;
    if let Some(group) = &pool.spec.resource_group {
        key.cluster.group.group = group.parse()?;
    }
    if let Some(subscription) = &pool.spec.subscription {
        key.cluster.group.subscription = subscription.parse()?;
    }
    let expected = digest(&key.cluster.path(), DIGITS);
    if suffix.is_some_and(|suffix| suffix != expected) {
        return Err(Invalid::parameter(
            "agentPoolProfile.name",
            format!(
                "The value of parameter agentPoolProfile.name is invalid: '{name}' has an ending that is not that of its cluster. Call it '{own}', or '{own}-{expected}' where there is a NodePool '{own}' of another cluster."
            ),
        ));
    }
    Ok(key)
}

/// The names that the object of a pool may have, by [`pool::Key::path`]: the second one where the first is that of another
/// cluster's.
#[must_use]
pub fn names(path: &str) -> [String; 2] {
    let (cluster, pool) = path.rsplit_once('/').unwrap_or(("", path));
    [
        pool.to_owned(),
        format!("{pool}-{}", digest(cluster, DIGITS)),
    ]
}

/// What is wanted of a pool, checked: what the schema can't say is said here.
///
/// # Errors
/// What is wrong, and what is allowed.
pub fn spec(pool: &NodePool) -> Result<pool::NodePoolSpec, Invalid> {
    let spec = &pool.spec;
    let arm = spec.arm.as_ref();
    key(pool)?;
    let max_unavailable = spec.max_unavailable.as_ref().map(|value| match value {
        IntOrString::Int(count) => count.to_string(),
        IntOrString::String(text) => text.clone(),
    });
    let mut checked = node_pool(
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
            power: Some(power(spec.power).to_string()),
            drain: Some(drain(spec.drain)),
            auto_scaling: pool::validation::AutoScalingInput::default(),
            mig_profiles: Vec::new(),
            max_count: Some(MAX_COUNT),
            tags: arm.map(|arm| arm.tags.clone()).unwrap_or_default(),
            extra: extra(pool)?,
        },
        None,
    )?;
    if let Some(bounds) = arm.and_then(|arm| arm.auto_scaling) {
        checked.auto_scaling = Some(AutoScaling {
            min_count: bounds.min_count,
            max_count: bounds.max_count,
        });
    }
    if let Some(listed) = arm.and_then(|arm| arm.mig_profiles.as_ref())
        && spec.layouts.as_ref() == Some(&listed.layouts)
    {
        let profiles = listed.profiles.iter().map(|text| text.parse().ok());
        checked.mig_profiles = profiles.collect::<Option<_>>().unwrap_or_default();
    }
    Ok(checked)
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

/// The model's word for whether a pool has nodes.
fn power(power: Power) -> pool::PowerState {
    match power {
        Power::Running => pool::PowerState::Running,
        Power::Stopped => pool::PowerState::Stopped,
    }
}

/// The custom resource's word for it.
pub(crate) fn power_of(power: pool::PowerState) -> Power {
    match power {
        pool::PowerState::Running => Power::Running,
        pool::PowerState::Stopped => Power::Stopped,
    }
}

/// What clients of ARM put that means nothing here.
fn extra(pool: &NodePool) -> Result<Map<String, Value>, Invalid> {
    let arm = pool.spec.arm.as_ref();
    let Some(text) = arm.and_then(|arm| arm.properties.as_deref()) else {
        return Ok(Map::new());
    };
    serde_json::from_str(text).map_err(|error| {
        Invalid::parameter(
            "arm.properties",
            format!(
                "arm.properties is not a JSON object: {error}. Leave it away, or write an object."
            ),
        )
    })
}

/// A pool as the model keeps it.
///
/// # Errors
/// What is wrong with what is wanted, and what is allowed.
pub fn record(pool: &NodePool) -> Result<pool::NodePool, Invalid> {
    let status = pool.status.clone().unwrap_or_default();
    let asked = asked(pool);
    // What was asked and not seen yet takes the place of what was seen before.
    let unseen = asked.filter(|it| status.asked.as_ref() != Some(&it.id));
    let (message, leaving) = match unseen {
        Some(asked) => (String::new(), &asked.leaving),
        None => (status.message.clone(), &status.leaving),
    };
    Ok(pool::NodePool {
        key: key(pool)?,
        spec: spec(pool)?,
        provisioning_state: state(pool, unseen),
        message,
        operation: operation(pool),
        created: pool
            .creation_timestamp()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        rollout: status.rollout,
        leaving: leaving
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect(),
        seen: PoolSummary {
            nodes: status.nodes,
            ready: status.ready_nodes,
            updated: status.updated_nodes,
            slices: status.slices,
            power: power(status.power),
            reason: serde_json::from_value(status.reason.into()).unwrap_or_default(),
        },
    })
}

/// The operation in progress: the one that was asked last, until the status says how it ended.
pub(crate) fn operation(pool: &NodePool) -> Option<Uuid> {
    let status = pool.status.as_ref();
    let last = status.and_then(|status| status.last_operation.as_ref());
    let id = asked(pool)?.operation.as_ref()?;
    let is_over = last.is_some_and(|last| last.id == *id);
    id.parse().ok().filter(|_| !is_over)
}

/// What a client of ARM asked last.
pub(crate) fn asked(pool: &NodePool) -> Option<&Asked> {
    pool.spec.arm.as_ref().and_then(|arm| arm.asked.as_ref())
}

/// Where a pool is on its way: a change of what is wanted starts it anew.
fn state(pool: &NodePool, unseen: Option<&Asked>) -> ProvisioningState {
    if pool.metadata.deletion_timestamp.is_some() {
        return ProvisioningState::Deleting;
    }
    let word = |text: &str| serde_json::from_value(text.into());
    if let Some(asked) = unseen {
        return word(&asked.state).unwrap_or(ProvisioningState::Updating);
    }
    let Some(status) = &pool.status else {
        return ProvisioningState::Creating;
    };
    let kept = word(&status.phase).unwrap_or(ProvisioningState::Creating);
    if status.observed_generation == pool.metadata.generation || !kept.is_terminal() {
        return kept;
    }
    if status.nodes == u32::try_from(pool.spec.count).unwrap_or_default() {
        ProvisioningState::Updating
    } else {
        ProvisioningState::Scaling
    }
}

/// What is wanted of a pool as the custom resource says it. What only the custom resource has stays as it is in `old`.
#[must_use]
pub fn object_spec(record: &pool::NodePool, old: Option<&NodePoolSpec>) -> NodePoolSpec {
    let wanted = &record.spec;
    let PoolKey { cluster, .. } = &record.key;
    let (cluster_name, resource_group, subscription) = match old {
        Some(old) => (
            old.cluster_name.clone(),
            old.resource_group.clone(),
            old.subscription.clone(),
        ),
        None => (
            Some(cluster.cluster.to_string()),
            Some(cluster.group.group.to_string()),
            Some(cluster.group.subscription.to_string()),
        ),
    };
    let (vm_size, node_selector) = match &wanted.machines {
        Machines::VmSize(size) => (Some(size.clone()), None),
        Machines::NodeSelector(selector) => (None, Some(selector.clone())),
    };
    let asked = Asked {
        id: record.operation.unwrap_or_else(Uuid::new_v4).to_string(),
        state: record.provisioning_state.to_string(),
        operation: record.operation.map(|id| id.to_string()),
        leaving: record.leaving.iter().map(ToString::to_string).collect(),
    };
    NodePoolSpec {
        cluster_name,
        resource_group,
        subscription,
        vm_size,
        node_selector,
        count: i32::try_from(wanted.count).unwrap_or(i32::MAX),
        gpu_instance_profile: wanted.gpu_instance_profile.map(|profile| match profile {
            mig::GpuInstanceProfile::Mig1g => GpuInstanceProfile::Mig1g,
            mig::GpuInstanceProfile::Mig2g => GpuInstanceProfile::Mig2g,
            mig::GpuInstanceProfile::Mig3g => GpuInstanceProfile::Mig3g,
            mig::GpuInstanceProfile::Mig4g => GpuInstanceProfile::Mig4g,
            mig::GpuInstanceProfile::Mig7g => GpuInstanceProfile::Mig7g,
        }),
        layouts: wanted.layouts.as_ref().map(ToString::to_string),
        mig_strategy: wanted.mig_strategy.into(),
        node_labels: wanted.node_labels.clone(),
        node_taints: wanted.node_taints.iter().map(ToString::to_string).collect(),
        mode: match wanted.mode {
            pool::PoolMode::System => Mode::System,
            pool::PoolMode::User => Mode::User,
        },
        max_unavailable: match wanted.max_unavailable {
            MaxUnavailable::Count(count) => i32::try_from(count).ok().map(IntOrString::Int),
            share @ MaxUnavailable::Percent(_) => Some(IntOrString::String(share.to_string())),
        },
        drain: drain_of(wanted.drain),
        power: power_of(wanted.power),
        provider: old.map(|old| old.provider.clone()).unwrap_or_default(),
        arm: Some(Arm {
            tags: wanted.tags.clone(),
            properties: (!wanted.extra.is_empty())
                .then(|| Value::Object(wanted.extra.clone()).to_string()),
            auto_scaling: wanted.auto_scaling.map(|bounds| Bounds {
                min_count: bounds.min_count,
                max_count: bounds.max_count,
            }),
            mig_profiles: match &wanted.layouts {
                Some(layouts) if !wanted.mig_profiles.is_empty() => Some(ListedProfiles {
                    profiles: wanted
                        .mig_profiles
                        .iter()
                        .map(ToString::to_string)
                        .collect(),
                    layouts: layouts.to_string(),
                }),
                _ => None,
            },
            asked: Some(asked),
        }),
    }
}

#[cfg(test)]
mod tests;

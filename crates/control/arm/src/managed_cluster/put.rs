//! Making and changing a cluster.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Map, Value};

use pool::{
    Change, Cluster, ClusterKey, Group, Invalid, NodePool, NodeProvider, PoolKey, PoolMode,
    PoolName, PowerState, ProvisioningState, Store, StoreError, Stored, Versions, transition,
    validation,
};

use super::{Committed, answer, commit, profile};
use crate::agent_pool::{self, warn};
use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::body::{Body, wrong_type};
use crate::error::ArmError;
use crate::etag;
use crate::long_running::Origin;
use crate::path::At;
use crate::properties::{self, Asked};
use crate::resource_group::{self, ATTEMPTS, gave_up};

/// A cluster as somebody asked for it.
pub(crate) struct AskedCluster {
    location: String,
    tags: BTreeMap<String, String>,
    properties: Map<String, Value>,
    envelope: Map<String, Value>,
    pools: Vec<(PoolName, Asked)>,
}

impl AskedCluster {
    /// What a person should know about how it was read.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let of_pools = self.pools.iter().flat_map(|(_, pool)| &pool.warnings);
        of_pools.cloned().collect()
    }
}

/// Reads the body of a PUT.
///
/// # Errors
/// If it is none of a cluster.
pub(crate) fn read(mut body: Body, version: &ApiVersion) -> Result<AskedCluster, ArmError> {
    let asked = body
        .text("location")?
        .ok_or_else(ArmError::location_required)?;
    let location = resource_group::location(&asked)?;
    let tags = body.texts("tags")?;
    let mut properties = Body(body.object("properties")?);
    let profiles = match properties.take("agentPoolProfiles") {
        None => Vec::new(),
        Some(Value::Array(profiles)) => profiles,
        Some(other) => return Err(wrong_type("agentPoolProfiles", &other, "array")),
    };
    let mut pools = Vec::new();
    let mut names = BTreeSet::new();
    for profile in profiles {
        let (name, asked) = agent_pool::profile(profile, version)?;
        if !names.insert(name.clone()) {
            return Err(Invalid::parameter(
                "agentPoolProfiles",
                format!(
                    "There are two agent pools of the name '{name}'. Give each a name of its own."
                ),
            )
            .into());
        }
        pools.push((name, asked));
    }
    Ok(AskedCluster {
        location,
        tags,
        properties: profile::keep(properties, version)?,
        envelope: profile::keep_beside(body, version)?,
        pools,
    })
}

/// Looks whether a cluster can be made as asked, and makes none.
///
/// # Errors
/// If it can't.
pub(crate) fn check_new(
    asked: &AskedCluster,
    key: &ClusterKey,
    versions: &Versions,
) -> Result<(), ArmError> {
    new(asked, key, versions, Timestamp::now()).map(drop)
}

/// Looks whether a cluster that is there can be changed as asked, and changes nothing.
///
/// # Errors
/// If it can't.
pub(crate) async fn check_update<S: Store + NodeProvider>(
    store: &S,
    before: &Cluster,
    asked: &AskedCluster,
) -> Result<(), ArmError> {
    changed(store, before, asked).await.map(drop)
}

pub(crate) async fn put<B: Backend>(
    State(app): State<App<B>>,
    version: ApiVersion,
    At(key): At<ClusterKey>,
    origin: Origin,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ArmError> {
    let store = &*app.backend;
    let asked = read(body, &version)?;
    let (status, stored) = ask(store, &key, &headers, &asked).await?;
    let mut response = answer(store, status, &stored).await?;
    if let Some(id) = stored.record.operation {
        let (subscription, location) = (&key.group.subscription, &stored.record.location);
        origin.operation(response.headers_mut(), subscription, location, id);
    }
    warn(response.headers_mut(), &asked.warnings());
    Ok(response)
}

/// Makes a cluster, or changes the one that is there: `CREATED` or `OK`, and the cluster under its operation if there is one.
///
/// # Errors
/// If it can't be as asked, or a condition of `headers` is not met.
pub(crate) async fn ask<S: Store + NodeProvider>(
    store: &S,
    key: &ClusterKey,
    headers: &HeaderMap,
    asked: &AskedCluster,
) -> Result<(StatusCode, Stored<Cluster>), ArmError> {
    for _ in 0..ATTEMPTS {
        let group = resource_group::usable(store, &key.group).await?;
        let existing = store.get::<Cluster>(key).await?;
        etag::check(headers, existing.as_ref().map(|stored| stored.revision))?;
        let (status, written) = match existing {
            None => (
                StatusCode::CREATED,
                create(store, key, asked, &group).await?,
            ),
            Some(stored) => (StatusCode::OK, update(store, stored, asked).await?),
        };
        match written {
            Ok(stored) => return Ok((status, stored)),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(key))
}

/// A cluster that is about to be made, and its pools.
fn new(
    asked: &AskedCluster,
    key: &ClusterKey,
    versions: &Versions,
    now: Timestamp,
) -> Result<(Cluster, Vec<NodePool>), ArmError> {
    let mut pools = Vec::new();
    for (name, asked) in with_a_system_pool(&asked.pools) {
        let spec = properties::spec(&asked, None, versions)?;
        let key = PoolKey {
            cluster: key.clone(),
            pool: name,
        };
        pools.push(agent_pool::new(key, spec, now));
    }
    if !pools.iter().any(|pool| pool.spec.mode == PoolMode::System) {
        return Err(Invalid::parameter(
            "agentPoolProfiles",
            "There has to be at least one system agent pool. Put a pool of mode 'System' into agentPoolProfiles.",
        )
        .into());
    }
    let properties = asked.properties.clone();
    let cluster = Cluster {
        key: key.clone(),
        location: asked.location.clone(),
        tags: asked.tags.clone(),
        properties: profile::settle(properties, key, &asked.location, None, versions)?,
        envelope: profile::settle_envelope(asked.envelope.clone()),
        power: PowerState::Running,
        provisioning_state: ProvisioningState::Creating,
        message: String::new(),
        operation: None,
        created: now,
    };
    Ok((cluster, pools))
}

async fn create<S: Store + NodeProvider>(
    store: &S,
    key: &ClusterKey,
    asked: &AskedCluster,
    group: &Stored<Group>,
) -> Result<Committed, ArmError> {
    let now = Timestamp::now();
    let (mut cluster, pools) = new(asked, key, &store.versions(), now)?;
    let creating = ProvisioningState::Creating;
    let (_, mut changes) = transition::begin(store, &mut cluster, creating, now).await?;
    changes.insert(0, Change::create(&cluster)?);
    for pool in &pools {
        changes.push(Change::create(pool)?);
    }
    // Nor may the group's deletion start in between.
    changes.push(Change::unchanged(group));
    Ok(commit(store, cluster, changes).await)
}

/// A body from before there were modes means its first pool to be the system's.
fn with_a_system_pool(pools: &[(PoolName, Asked)]) -> Vec<(PoolName, validation::NodePoolInput)> {
    let nobody_asked = pools
        .iter()
        .all(|(_, asked)| asked.input.mode.as_ref().is_none_or(String::is_empty));
    let mut inputs: Vec<_> = pools
        .iter()
        .map(|(name, asked)| (name.clone(), asked.input.clone()))
        .collect();
    if let Some((_, first)) = inputs.first_mut().filter(|_| nobody_asked) {
        first.mode = Some(PoolMode::System.to_string());
    }
    inputs
}

async fn update<S: Store + NodeProvider>(
    store: &S,
    stored: Stored<Cluster>,
    asked: &AskedCluster,
) -> Result<Committed, ArmError> {
    let Some((cluster, mut changes)) = changed(store, &stored.record, asked).await? else {
        return Ok(Ok(stored));
    };
    changes.insert(0, Change::update(&cluster, stored.revision)?);
    Ok(commit(store, cluster, changes).await)
}

/// A cluster as a PUT changes it, and the changes to what is its own; `None` if it is as asked.
async fn changed<S: Store + NodeProvider>(
    store: &S,
    before: &Cluster,
    asked: &AskedCluster,
) -> Result<Option<(Cluster, Vec<Change>)>, ArmError> {
    let now = Timestamp::now();
    let key = &before.key;
    if before.provisioning_state == ProvisioningState::Deleting {
        return Err(ArmError::being_deleted(&format!(
            "the cluster '{}'",
            key.cluster
        )));
    }
    if before.location != asked.location {
        return Err(ArmError::cluster_elsewhere(
            key,
            &asked.location,
            &before.location,
        ));
    }
    let properties = asked.properties.clone();
    let versions = store.versions();
    let mut cluster = Cluster {
        tags: asked.tags.clone(),
        properties: profile::settle(properties, key, &before.location, Some(before), &versions)?,
        envelope: profile::settle_envelope(asked.envelope.clone()),
        ..before.clone()
    };
    let mut changes = update_pools(store, key, &asked.pools, &versions, now).await?;
    if !changes.is_empty() && cluster.power == PowerState::Stopped {
        return Err(ArmError::cluster_stopped(key));
    }
    let state = before.provisioning_state;
    let gave_up = state.is_terminal() && state != ProvisioningState::Succeeded;
    if changes.is_empty() && cluster == *before && !gave_up {
        return Ok(None);
    }
    let (_, begun) =
        transition::begin(store, &mut cluster, ProvisioningState::Updating, now).await?;
    changes.extend(begun);
    Ok(Some((cluster, changes)))
}

/// The changes to the pools of a cluster that a body names; others stay as they are.
async fn update_pools<S: Store>(
    store: &S,
    cluster: &ClusterKey,
    asked: &[(PoolName, Asked)],
    versions: &Versions,
    now: Timestamp,
) -> Result<Vec<Change>, ArmError> {
    let mut changes = Vec::new();
    let there_are = agent_pool::of_cluster(store, cluster).await?.records;
    let is_system = |pool: &NodePool| {
        pool.spec.mode == PoolMode::System && pool.provisioning_state != ProvisioningState::Deleting
    };
    let system_before = there_are.iter().any(|pool| is_system(&pool.record));
    let mut pools: BTreeMap<PoolName, Stored<NodePool>> = there_are
        .into_iter()
        .map(|pool| (pool.record.key.pool.clone(), pool))
        .collect();
    let mut system_after = false;
    for (name, asked) in asked {
        let Some(pool) = pools.remove(name) else {
            let key = PoolKey {
                cluster: cluster.clone(),
                pool: name.clone(),
            };
            let spec = properties::spec(&asked.input, None, versions)?;
            system_after |= spec.mode == PoolMode::System;
            changes.push(Change::create(&agent_pool::new(key, spec, now))?);
            continue;
        };
        let spec = properties::spec(&asked.input, Some(&pool.record.spec), versions)?;
        if pool.record.provisioning_state == ProvisioningState::Deleting {
            if spec == pool.record.spec {
                continue;
            }
            return Err(ArmError::being_deleted(&format!("the node pool '{name}'")));
        }
        system_after |= spec.mode == PoolMode::System;
        if let Some(state) = agent_pool::change_of(&pool.record, &spec) {
            let mut record = NodePool {
                spec,
                ..pool.record
            };
            let (_, ended) = transition::begin(store, &mut record, state, now).await?;
            changes.extend(ended);
            changes.push(Change::update(&record, pool.revision)?);
        }
    }
    system_after |= pools.values().any(|pool| is_system(&pool.record));
    if system_before && !system_after {
        return Err(Invalid::parameter(
            "agentPoolProfiles",
            "There has to be at least one system agent pool, and none would be left. Leave one with mode 'System'.",
        )
        .into());
    }
    Ok(changes)
}

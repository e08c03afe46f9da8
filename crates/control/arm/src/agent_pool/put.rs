//! Making and changing an agent pool.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use serde_json::Value;

use pool::validation::NodePoolInput;
use pool::{
    Change, Cluster, NodePool, NodePoolSpec, NodeProvider, PoolKey, PoolMode, PowerState,
    ProvisioningState, Store, StoreError, Stored, Versions, transition,
};

use super::{answer, commit_pool, keep_a_system_pool, parent, warn};
use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::body::Body;
use crate::error::ArmError;
use crate::etag;
use crate::long_running::Origin;
use crate::path::At;
use crate::properties::{self, Asked, Within};
use crate::resource_group::{ATTEMPTS, gave_up};

/// Fields beside `properties` that a body may have.
const ENVELOPE: &[&str] = &[
    "id",
    "name",
    "type",
    "properties",
    "location",
    "tags",
    "eTag",
];

pub(crate) async fn put<B: Backend>(
    State(app): State<App<B>>,
    version: ApiVersion,
    At(key): At<PoolKey>,
    origin: Origin,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ArmError> {
    let asked = read(body, &version)?;
    let store = &*app.backend;
    let put = ask(store, &key, &headers, &asked).await?;
    let within = Within {
        cluster: put.cluster.power,
        versions: &store.versions(),
    };
    let operation = put.pool.record.operation;
    let mut response = answer(put.status, put.pool, within);
    if let Some(id) = operation {
        let subscription = &key.cluster.group.subscription;
        origin.operation(
            response.headers_mut(),
            subscription,
            &put.cluster.location,
            id,
        );
    }
    warn(response.headers_mut(), &asked.warnings);
    Ok(response)
}

/// Reads the body of a PUT.
///
/// # Errors
/// If it is none of a pool.
pub(crate) fn read(mut body: Body, version: &ApiVersion) -> Result<Asked, ArmError> {
    if version.refuses_unknown_fields() {
        let known = |name: &String| {
            ENVELOPE
                .iter()
                .any(|field| name.eq_ignore_ascii_case(field))
        };
        if let Some(name) = body.0.keys().find(|name| !known(name)) {
            return Err(ArmError::unmarshal(&format!("unknown field {name:?}")));
        }
    }
    properties::read(body.object("properties")?, version)
}

/// A pool that was made or changed.
pub(crate) struct Put {
    /// `CREATED` or `OK`.
    pub(crate) status: StatusCode,
    /// The pool, under its operation if there is one.
    pub(crate) pool: Stored<NodePool>,
    /// Its cluster.
    pub(crate) cluster: Cluster,
}

/// Makes a pool, or changes the one that is there.
///
/// # Errors
/// If it can't be as asked, or a condition of `headers` is not met.
pub(crate) async fn ask<S: Store + NodeProvider>(
    store: &S,
    key: &PoolKey,
    headers: &HeaderMap,
    asked: &Asked,
) -> Result<Put, ArmError> {
    for _ in 0..ATTEMPTS {
        let cluster = parent(store, &key.cluster).await?;
        check_cluster(&cluster.record)?;
        let versions = store.versions();
        let existing = store.get::<NodePool>(key).await?;
        etag::check(headers, existing.as_ref().map(|stored| stored.revision))?;
        let status = if existing.is_some() {
            StatusCode::OK
        } else {
            StatusCode::CREATED
        };
        let written = match write(store, key, &asked.input, existing, &versions).await? {
            Written::AsItWas(stored) => Ok(*stored),
            Written::Changed { pool, mut changes } => {
                // Neither may the cluster's deletion start in between.
                changes.push(Change::unchanged(&cluster));
                commit_pool(store, *pool, changes).await
            }
        };
        match written {
            Ok(pool) => {
                return Ok(Put {
                    status,
                    pool,
                    cluster: cluster.record,
                });
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(key))
}

/// Looks whether pools can be made and changed in a cluster.
///
/// # Errors
/// If they can't.
pub(crate) fn check_cluster(cluster: &Cluster) -> Result<(), ArmError> {
    if cluster.provisioning_state == ProvisioningState::Deleting {
        return Err(ArmError::being_deleted(&format!(
            "the cluster '{}'",
            cluster.key.cluster
        )));
    }
    if cluster.power == PowerState::Stopped {
        return Err(ArmError::cluster_stopped(&cluster.key));
    }
    Ok(())
}

/// Looks whether a pool can be made, or changed if it is there, as asked, and makes and changes nothing. One that is not alone
/// may come to be no system pool: what is asked for beside it may be another.
///
/// # Errors
/// If it can't.
pub(crate) async fn check<S: Store + NodeProvider>(
    store: &S,
    key: &PoolKey,
    asked: &Asked,
    is_alone: bool,
) -> Result<(), ArmError> {
    let existing = store.get::<NodePool>(key).await?;
    let existing = existing.as_ref().map(|stored| &stored.record);
    let spec = spec_of(key, existing, &asked.input, &store.versions())?;
    match existing {
        Some(pool) if is_alone && spec.mode == PoolMode::User => {
            keep_a_system_pool(store, pool).await
        }
        _ => Ok(()),
    }
}

/// What a pool is to be.
fn spec_of(
    key: &PoolKey,
    existing: Option<&NodePool>,
    input: &NodePoolInput,
    versions: &Versions,
) -> Result<NodePoolSpec, ArmError> {
    if existing.is_some_and(|pool| pool.provisioning_state == ProvisioningState::Deleting) {
        return Err(ArmError::being_deleted(&format!(
            "the node pool '{}'",
            key.pool
        )));
    }
    let before = existing.map(|pool| &pool.spec);
    Ok(properties::spec(input, before, versions)?)
}

/// What a PUT makes of a pool.
enum Written {
    /// Nothing: it is as asked, or on its way there.
    AsItWas(Box<Stored<NodePool>>),
    /// The pool, whose own change is the first of the changes.
    Changed {
        pool: Box<NodePool>,
        changes: Vec<Change>,
    },
}

async fn write<S: Store>(
    store: &S,
    key: &PoolKey,
    input: &NodePoolInput,
    existing: Option<Stored<NodePool>>,
    versions: &Versions,
) -> Result<Written, ArmError> {
    let now = Timestamp::now();
    let before = existing.as_ref().map(|stored| &stored.record);
    let spec = spec_of(key, before, input, versions)?;
    let Some(stored) = existing else {
        let mut pool = new(key.clone(), spec, now);
        let creating = ProvisioningState::Creating;
        let (_, mut changes) = transition::begin(store, &mut pool, creating, now).await?;
        changes.insert(0, Change::create(&pool)?);
        return Ok(Written::Changed {
            pool: Box::new(pool),
            changes,
        });
    };
    if spec.mode == PoolMode::User {
        keep_a_system_pool(store, &stored.record).await?;
    }
    let Some(state) = change_of(&stored.record, &spec) else {
        return Ok(Written::AsItWas(Box::new(stored)));
    };
    let mut pool = NodePool {
        spec,
        ..stored.record
    };
    let (_, mut changes) = transition::begin(store, &mut pool, state, now).await?;
    changes.insert(0, Change::update(&pool, stored.revision)?);
    Ok(Written::Changed {
        pool: Box::new(pool),
        changes,
    })
}

/// A pool that is about to be made.
pub(crate) fn new(key: PoolKey, spec: NodePoolSpec, now: Timestamp) -> NodePool {
    NodePool {
        key,
        spec,
        provisioning_state: ProvisioningState::Creating,
        message: String::new(),
        operation: None,
        created: now,
        rollout: pool::Rollout::default(),
        leaving: std::collections::BTreeSet::new(),
        seen: pool::PoolSummary::default(),
    }
}

/// What a pool is to go through to become `spec`; `None` if it is that, or already on its way there.
pub(crate) fn change_of(pool: &NodePool, spec: &NodePoolSpec) -> Option<ProvisioningState> {
    let same_but_for_count = NodePoolSpec {
        count: pool.spec.count,
        ..spec.clone()
    } == pool.spec;
    if pool.provisioning_state == ProvisioningState::Creating && *spec != pool.spec {
        // It was never there yet, whatever it is to be.
        return Some(ProvisioningState::Creating);
    }
    match (pool.spec.power, spec.power) {
        (PowerState::Running, PowerState::Stopped) => return Some(ProvisioningState::Stopping),
        (PowerState::Stopped, PowerState::Running) => return Some(ProvisioningState::Starting),
        _ => {}
    }
    match (same_but_for_count, spec.count == pool.spec.count) {
        (true, true) => {
            let gave_up = pool.provisioning_state.is_terminal()
                && pool.provisioning_state != ProvisioningState::Succeeded;
            gave_up.then_some(ProvisioningState::Updating)
        }
        (true, false) => Some(ProvisioningState::Scaling),
        (false, _) => Some(ProvisioningState::Updating),
    }
}

/// An agent pool as its cluster's body has it: its name beside its properties.
pub(crate) fn profile(
    profile: Value,
    version: &ApiVersion,
) -> Result<(pool::PoolName, Asked), ArmError> {
    let Value::Object(profile) = profile else {
        return Err(crate::body::wrong_type(
            "agentPoolProfiles",
            &profile,
            "object",
        ));
    };
    let mut body = Body(profile);
    let name = body.text("name")?.unwrap_or_default().parse()?;
    let mut asked = properties::read(body.0, version)?;
    // What a pool is within a stopped cluster is not what is wanted of the pool itself.
    asked.input.power = None;
    Ok((name, asked))
}

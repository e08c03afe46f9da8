//! Agent pools: node pools, as ARM has them.

use axum::Json;
use axum::extract::State;
use axum::http::header::{ETAG, WARNING};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Map, Value};

use pool::validation::{self, NodePoolInput};
use pool::{
    Change, Cluster, ClusterKey, Invalid, NodePool, NodePoolSpec, Page, PoolKey, PoolMode,
    ProvisioningState, Revision, Scope, Store, StoreError, Stored, transition,
};

use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::body::Body;
use crate::error::ArmError;
use crate::long_running::Origin;
use crate::paging::Paging;
use crate::path::At;
use crate::properties::{self, Asked};
use crate::resource_group::{ATTEMPTS, find as find_group, gave_up};
use crate::types::AgentPool;
use crate::{etag, managed_cluster};

const TYPE: &str = "Microsoft.ContainerService/managedClusters/agentPools";
/// How many pools a page of their list has.
const PAGE: usize = 500;
const X_MS_WARNING: HeaderName = HeaderName::from_static("x-ms-warning");

fn resource(stored: &Stored<NodePool>) -> AgentPool {
    AgentPool {
        id: stored.record.key.to_string(),
        name: stored.record.key.pool.to_string(),
        kind: TYPE.to_owned(),
        location: None,
        tags: None,
        e_tag: None,
        properties: properties::write(stored),
        extra: Map::new(),
    }
}

fn answer(status: StatusCode, stored: &Stored<NodePool>) -> Response {
    let mut response = (status, Json(resource(stored))).into_response();
    set_etag(response.headers_mut(), stored.revision);
    response
}

pub(crate) fn set_etag(headers: &mut HeaderMap, revision: Revision) {
    if let Ok(value) = HeaderValue::from_str(&format!("\"{}\"", etag::of(revision))) {
        headers.insert(ETAG, value);
    }
}

/// Tells the client, in HTTP's way and in Azure's, what it should know about how its request was read.
pub(crate) fn warn(headers: &mut HeaderMap, warnings: &[String]) {
    for warning in warnings {
        if let Ok(value) = HeaderValue::from_str(&format!("299 migpool \"{warning}\"")) {
            headers.append(WARNING, value);
        }
        if let Ok(value) = HeaderValue::from_str(warning) {
            headers.append(X_MS_WARNING, value);
        }
        tracing::warn!("{warning}");
    }
}

/// The pools of a cluster, and which could not be read.
pub(crate) async fn of_cluster<S: Store>(
    store: &S,
    cluster: &ClusterKey,
) -> Result<Page<Stored<NodePool>>, StoreError> {
    let scope = Scope::cluster(cluster);
    store.list_page::<NodePool>(&scope, None, usize::MAX).await
}

/// The cluster of a pool, if something can be done in it.
async fn parent<S: Store>(store: &S, key: &ClusterKey) -> Result<Stored<Cluster>, ArmError> {
    find_group(store, &key.group).await?;
    store
        .get::<Cluster>(key)
        .await?
        .ok_or_else(|| ArmError::parent_not_found(key))
}

pub(crate) async fn list<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
    paging: Paging,
) -> Result<Response, ArmError> {
    let scope = Scope::cluster(&key);
    let after = paging.after(&scope)?;
    managed_cluster::find(&*app.backend, &key).await?;
    let page = app.backend.list_page::<NodePool>(&scope, after, PAGE);
    let page = page.await?;
    let pools = page.records.iter().map(resource).collect();
    Ok(paging.answer(pools, page.next.as_deref(), &page.unreadable))
}

pub(crate) async fn show<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<PoolKey>,
) -> Result<Response, ArmError> {
    managed_cluster::find(&*app.backend, &key.cluster).await?;
    let stored = app.backend.get::<NodePool>(&key).await?;
    let stored = stored.ok_or_else(|| ArmError::pool_not_found(&key))?;
    Ok(answer(StatusCode::OK, &stored))
}

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
    mut body: Body,
) -> Result<Response, ArmError> {
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
    let asked = properties::read(body.object("properties")?, &version)?;
    let mut response = put_asked(&app, &key, &origin, &headers, &asked).await?;
    warn(response.headers_mut(), &asked.warnings);
    Ok(response)
}

async fn put_asked<B: Backend>(
    app: &App<B>,
    key: &PoolKey,
    origin: &Origin,
    headers: &HeaderMap,
    asked: &Asked,
) -> Result<Response, ArmError> {
    let store = &*app.backend;
    for _ in 0..ATTEMPTS {
        let cluster = parent(store, &key.cluster).await?;
        if cluster.record.provisioning_state == ProvisioningState::Deleting {
            return Err(ArmError::being_deleted(&format!(
                "the cluster '{}'",
                key.cluster.cluster
            )));
        }
        let existing = store.get::<NodePool>(key).await?;
        etag::check(headers, existing.as_ref().map(|stored| stored.revision))?;
        let status = if existing.is_some() {
            StatusCode::OK
        } else {
            StatusCode::CREATED
        };
        let written = match write(store, key, &asked.input, existing).await? {
            Written::AsItWas(stored) => Ok(*stored),
            Written::Changed { pool, mut changes } => {
                // Neither may the cluster's deletion start in between.
                changes.push(Change::unchanged(&cluster));
                commit_pool(store, *pool, changes).await
            }
        };
        match written {
            Ok(stored) => {
                let mut response = answer(status, &stored);
                if let Some(id) = stored.record.operation {
                    let subscription = &key.cluster.group.subscription;
                    let location = &cluster.record.location;
                    origin.operation(response.headers_mut(), subscription, location, id);
                }
                return Ok(response);
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(key))
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
) -> Result<Written, ArmError> {
    let now = Timestamp::now();
    let Some(stored) = existing else {
        let mut pool = new(key.clone(), validation::node_pool(input, None)?, now);
        let creating = ProvisioningState::Creating;
        let (_, mut changes) = transition::begin(store, &mut pool, creating, now).await?;
        changes.insert(0, Change::create(&pool)?);
        return Ok(Written::Changed {
            pool: Box::new(pool),
            changes,
        });
    };
    if stored.record.provisioning_state == ProvisioningState::Deleting {
        return Err(ArmError::being_deleted(&format!(
            "the node pool '{}'",
            key.pool
        )));
    }
    let spec = validation::node_pool(input, Some(&stored.record.spec))?;
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

/// Commits changes, the first of which is the pool's.
async fn commit_pool<S: Store>(
    store: &S,
    pool: NodePool,
    changes: Vec<Change>,
) -> Result<Stored<NodePool>, StoreError> {
    let revisions = store.commit(changes).await?;
    match revisions.first() {
        Some(Some(revision)) => Ok(Stored {
            record: pool,
            revision: *revision,
        }),
        _ => Err(StoreError::Unavailable(
            "a commit gave no revision".to_owned(),
        )),
    }
}

/// A cluster keeps at least one system pool.
async fn keep_a_system_pool<S: Store>(store: &S, leaving: &NodePool) -> Result<(), ArmError> {
    if leaving.spec.mode != PoolMode::System {
        return Ok(());
    }
    let pools = of_cluster(store, &leaving.key.cluster).await?;
    let another = pools.records.iter().map(|stored| &stored.record).any(|pool| {
        pool.key != leaving.key
            && pool.spec.mode == PoolMode::System
            && pool.provisioning_state != ProvisioningState::Deleting
    });
    if another {
        return Ok(());
    }
    Err(Invalid::parameter(
        "agentPoolProfile.mode",
        format!("There has to be at least one system agent pool, and '{}' is the last. Add another system pool first, or delete the cluster.", leaving.key.pool),
    )
    .into())
}

pub(crate) async fn delete<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<PoolKey>,
    origin: Origin,
    headers: HeaderMap,
) -> Result<Response, ArmError> {
    let store = &*app.backend;
    for _ in 0..ATTEMPTS {
        let cluster = parent(store, &key.cluster).await?;
        let stored = store.get::<NodePool>(&key).await?;
        etag::check(&headers, stored.as_ref().map(|stored| stored.revision))?;
        let Some(stored) = stored else {
            return Ok(StatusCode::NO_CONTENT.into_response());
        };
        let committed = start_deletion(store, stored, &cluster).await?;
        match committed {
            Ok(id) => {
                let mut response = StatusCode::ACCEPTED.into_response();
                if let Some(id) = id {
                    let subscription = &key.cluster.group.subscription;
                    let location = &cluster.record.location;
                    origin.operation(response.headers_mut(), subscription, location, id);
                    origin.result(response.headers_mut(), subscription, location, id);
                }
                return Ok(response);
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(&key))
}

/// Starts a pool's deletion, or finds it started: by its own operation, or by the cluster's or group's.
async fn start_deletion<S: Store>(
    store: &S,
    stored: Stored<NodePool>,
    cluster: &Stored<Cluster>,
) -> Result<Result<Option<uuid::Uuid>, StoreError>, ArmError> {
    let mut pool = stored.record;
    if pool.provisioning_state == ProvisioningState::Deleting {
        return Ok(Ok(pool.operation.or(cluster.record.operation)));
    }
    if cluster.record.provisioning_state != ProvisioningState::Deleting {
        keep_a_system_pool(store, &pool).await?;
    }
    let deleting = ProvisioningState::Deleting;
    let (operation, mut changes) =
        transition::begin(store, &mut pool, deleting, Timestamp::now()).await?;
    changes.push(Change::update(&pool, stored.revision)?);
    Ok(store.commit(changes).await.map(|_| Some(operation.key.id)))
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
    Ok((name, properties::read(body.0, version)?))
}

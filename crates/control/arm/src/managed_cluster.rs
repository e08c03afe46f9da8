//! Managed clusters.

pub(crate) mod credential;

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use pool::{
    Change, Cluster, ClusterKey, Group, GroupKey, Invalid, Key, NodePool, NodeProvider, PoolKey, PoolMode, PoolName,
    ProvisioningState, Revision, Scope, Store, StoreError, Stored, SubscriptionId, Versions, transition,
    validation,
};

use crate::agent_pool::{self, set_etag, warn};
use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::body::{Body, wrong_type};
use crate::error::ArmError;
use crate::etag;
use crate::long_running::Origin;
use crate::paging::Paging;
use crate::path::At;
use crate::properties::{self, Asked, Within};
use crate::resource_group::{self, ATTEMPTS, gave_up};
use crate::types::{AgentPoolProfile, ManagedCluster, ManagedClusterProperties};

/// AKS writes it with a capital here, unlike in paths.
const TYPE: &str = "Microsoft.ContainerService/ManagedClusters";

/// How many clusters a page of their list has, unless they have so many pools before that.
const PAGE: usize = 100;
const POOLS_OF_PAGE: usize = 500;

/// Fields of `properties` that only the server writes.
const READ_ONLY: &[&str] = &[
    "provisioningState",
    "provisioningMessage",
    "agentPoolProfiles",
    "powerState",
    "fqdn",
];

fn resource(
    stored: &Stored<Cluster>,
    pools: &[&Stored<NodePool>],
    versions: &Versions,
) -> ManagedCluster {
    let cluster = &stored.record;
    let within = Within {
        cluster: cluster.power,
        versions,
    };
    let profile = |pool: &&Stored<NodePool>| AgentPoolProfile {
        name: pool.record.key.pool.to_string(),
        properties: properties::write(pool, within),
    };
    let mut extra = cluster.properties.clone();
    extra.insert("powerState".to_owned(), json!({ "code": "Running" }));
    ManagedCluster {
        id: cluster.key.to_string(),
        name: cluster.key.cluster.to_string(),
        kind: TYPE.to_owned(),
        location: Some(cluster.location.clone()),
        tags: Some(cluster.tags.clone()),
        e_tag: Some(etag::of(stored.revision)),
        properties: ManagedClusterProperties {
            provisioning_state: cluster.provisioning_state.to_string(),
            provisioning_message: cluster.message.clone(),
            agent_pool_profiles: pools.iter().map(profile).collect(),
            extra,
        },
        extra: cluster.envelope.clone(),
    }
}

/// The cluster, if it is there.
pub(crate) async fn find<S: Store>(
    store: &S,
    key: &ClusterKey,
) -> Result<Stored<Cluster>, ArmError> {
    resource_group::find(store, &key.group).await?;
    store
        .get::<Cluster>(key)
        .await?
        .ok_or_else(|| ArmError::cluster_not_found(key))
}

async fn listed<S: Store + NodeProvider>(
    store: &S,
    scope: &Scope,
    paging: &Paging,
) -> Result<Response, ArmError> {
    let after = paging.after(scope)?;
    let page = store.list_page::<Cluster>(scope, after, PAGE).await?;
    let (mut next, mut unreadable) = (page.next, page.unreadable);
    let (mut clusters, mut shown) = (Vec::new(), 0);
    let mut rest = page.records.iter().peekable();
    while let Some(cluster) = rest.next() {
        let pools = agent_pool::of_cluster(store, &cluster.record.key).await?;
        shown += pools.records.len();
        unreadable.extend(pools.unreadable);
        let pools: Vec<_> = pools.records.iter().collect();
        clusters.push(resource(cluster, &pools, &store.versions()));
        if shown >= POOLS_OF_PAGE && rest.peek().is_some() {
            next = Some(cluster.record.key.path());
            break;
        }
    }
    Ok(paging.answer(clusters, next.as_deref(), &unreadable))
}

pub(crate) async fn list_of_subscription<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(subscription): At<SubscriptionId>,
    paging: Paging,
) -> Result<Response, ArmError> {
    listed(&*app.backend, &Scope::subscription(&subscription), &paging).await
}

pub(crate) async fn list<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<GroupKey>,
    paging: Paging,
) -> Result<Response, ArmError> {
    resource_group::find(&*app.backend, &key).await?;
    listed(&*app.backend, &Scope::group(&key), &paging).await
}

pub(crate) async fn show<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
) -> Result<Response, ArmError> {
    let stored = find(&*app.backend, &key).await?;
    answer(&*app.backend, StatusCode::OK, &stored).await
}

async fn answer<S: Store + NodeProvider>(
    store: &S,
    status: StatusCode,
    stored: &Stored<Cluster>,
) -> Result<Response, ArmError> {
    let pools = agent_pool::of_cluster(store, &stored.record.key).await?;
    let pools: Vec<_> = pools.records.iter().collect();
    let body = resource(stored, &pools, &store.versions());
    let mut response = (status, Json(body)).into_response();
    set_etag(response.headers_mut(), stored.revision);
    Ok(response)
}

/// A cluster as somebody asked for it.
struct AskedCluster {
    location: String,
    tags: std::collections::BTreeMap<String, String>,
    properties: Map<String, Value>,
    envelope: Map<String, Value>,
    pools: Vec<(PoolName, Asked)>,
}

fn read(mut body: Body, version: &ApiVersion) -> Result<AskedCluster, ArmError> {
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
    for field in READ_ONLY {
        properties.take(field);
    }
    for field in ["id", "name", "type", "eTag", "systemData"] {
        body.take(field);
    }
    let kept = |object: Map<String, Value>| -> Map<String, Value> {
        object
            .into_iter()
            .filter(|(_, value)| !value.is_null() && *value != "")
            .collect()
    };
    Ok(AskedCluster {
        location,
        tags,
        properties: kept(properties.0),
        envelope: kept(body.0),
        pools,
    })
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
    for _ in 0..ATTEMPTS {
        let group = resource_group::usable(store, &key.group).await?;
        let existing = store.get::<Cluster>(&key).await?;
        etag::check(&headers, existing.as_ref().map(|stored| stored.revision))?;
        let (status, written) = match existing {
            None => (
                StatusCode::CREATED,
                create(store, &key, &asked, &group).await?,
            ),
            Some(stored) => (StatusCode::OK, update(store, stored, &asked).await?),
        };
        match written {
            Ok(stored) => {
                let mut response = answer(store, status, &stored).await?;
                if let Some(id) = stored.record.operation {
                    let location = &stored.record.location;
                    origin.operation(
                        response.headers_mut(),
                        &key.group.subscription,
                        location,
                        id,
                    );
                }
                for (_, pool) in &asked.pools {
                    warn(response.headers_mut(), &pool.warnings);
                }
                return Ok(response);
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(&key))
}

type Committed = Result<Stored<Cluster>, StoreError>;

async fn create<S: Store + NodeProvider>(
    store: &S,
    key: &ClusterKey,
    asked: &AskedCluster,
    group: &Stored<Group>,
) -> Result<Committed, ArmError> {
    let now = Timestamp::now();
    let mut pools = Vec::new();
    for (name, asked) in with_a_system_pool(&asked.pools) {
        let spec = properties::spec(&asked, None, &store.versions())?;
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
    let mut cluster = Cluster {
        key: key.clone(),
        location: asked.location.clone(),
        tags: asked.tags.clone(),
        properties: asked.properties.clone(),
        envelope: asked.envelope.clone(),
        power: pool::PowerState::Running,
        provisioning_state: ProvisioningState::Creating,
        message: String::new(),
        operation: None,
        created: now,
    };
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
    let now = Timestamp::now();
    let key = stored.record.key.clone();
    if stored.record.provisioning_state == ProvisioningState::Deleting {
        return Err(ArmError::being_deleted(&format!(
            "the cluster '{}'",
            key.cluster
        )));
    }
    if stored.record.location != asked.location {
        return Err(ArmError::cluster_elsewhere(
            &key,
            &asked.location,
            &stored.record.location,
        ));
    }
    let mut changes = Vec::new();
    for (name, asked) in &asked.pools {
        let key = PoolKey {
            cluster: key.clone(),
            pool: name.clone(),
        };
        match store.get::<NodePool>(&key).await? {
            None => {
                let spec = properties::spec(&asked.input, None, &store.versions())?;
                changes.push(Change::create(&agent_pool::new(key, spec, now))?);
            }
            Some(pool) => {
                let before = Some(&pool.record.spec);
                let spec = properties::spec(&asked.input, before, &store.versions())?;
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
        }
    }
    let mut cluster = Cluster {
        tags: asked.tags.clone(),
        properties: asked.properties.clone(),
        envelope: asked.envelope.clone(),
        ..stored.record.clone()
    };
    if changes.is_empty() && cluster == stored.record {
        return Ok(Ok(stored));
    }
    let (_, begun) =
        transition::begin(store, &mut cluster, ProvisioningState::Updating, now).await?;
    changes.extend(begun);
    changes.insert(0, Change::update(&cluster, stored.revision)?);
    Ok(commit(store, cluster, changes).await)
}

/// Commits changes, the first of which is the cluster's.
async fn commit<S: Store>(store: &S, cluster: Cluster, changes: Vec<Change>) -> Committed {
    let revisions = store.commit(changes).await?;
    let revision: Option<Revision> = revisions.first().copied().flatten();
    match revision {
        Some(revision) => Ok(Stored {
            record: cluster,
            revision,
        }),
        None => Err(StoreError::Unavailable(
            "a commit gave no revision".to_owned(),
        )),
    }
}

pub(crate) async fn delete<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
    origin: Origin,
    headers: HeaderMap,
) -> Result<Response, ArmError> {
    let store = &*app.backend;
    for _ in 0..ATTEMPTS {
        let group = resource_group::find(store, &key.group).await?;
        let stored = store.get::<Cluster>(&key).await?;
        etag::check(&headers, stored.as_ref().map(|stored| stored.revision))?;
        let Some(stored) = stored else {
            return Ok(StatusCode::NO_CONTENT.into_response());
        };
        let mut cluster = stored.record;
        let location = cluster.location.clone();
        let committed = if cluster.provisioning_state == ProvisioningState::Deleting {
            Ok(cluster.operation.or(group.record.operation))
        } else {
            let deleting = ProvisioningState::Deleting;
            let (operation, mut changes) =
                transition::begin(store, &mut cluster, deleting, Timestamp::now()).await?;
            changes.push(Change::update(&cluster, stored.revision)?);
            store.commit(changes).await.map(|_| Some(operation.key.id))
        };
        match committed {
            Ok(id) => {
                let mut response = StatusCode::ACCEPTED.into_response();
                if let Some(id) = id {
                    let subscription = &key.group.subscription;
                    origin.operation(response.headers_mut(), subscription, &location, id);
                    origin.result(response.headers_mut(), subscription, &location, id);
                }
                return Ok(response);
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(&key))
}

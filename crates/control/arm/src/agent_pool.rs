//! Agent pools: node pools, as ARM has them.

mod delete;
pub(crate) mod delete_machines;
pub(crate) mod machine;
pub(crate) mod put;
pub(crate) mod upgrade;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, ETAG, WARNING};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Map;

use pool::{
    Change, Cluster, ClusterKey, Invalid, Kind, NodePool, NodeProvider, Page, PoolKey, PoolMode,
    PowerState, ProvisioningState, Revision, Scope, Store, StoreError, Stored,
};

use crate::answer_cache::Answer;
use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::paging::Paging;
use crate::path::At;
use crate::properties::{self, Within};
use crate::resource_group::find as find_group;
use crate::types::{AgentPool, AgentPoolProperties};
use crate::{etag, managed_cluster};

pub(crate) use delete::delete;
pub(crate) use put::{change_of, new, profile, put};

const TYPE: &str = "Microsoft.ContainerService/managedClusters/agentPools";
/// How many pools a page of their list has.
const PAGE: usize = 200;
const X_MS_WARNING: HeaderName = HeaderName::from_static("x-ms-warning");

fn resource(key: &PoolKey, properties: AgentPoolProperties) -> AgentPool {
    AgentPool {
        id: key.to_string(),
        name: key.pool.to_string(),
        kind: TYPE.to_owned(),
        location: None,
        tags: None,
        e_tag: None,
        properties,
        extra: Map::new(),
    }
}

/// A pool that nobody needs any more.
fn last(stored: Stored<NodePool>, within: Within<'_>) -> AgentPool {
    let key = stored.record.key.clone();
    resource(&key, properties::write_last(stored, within))
}

/// A pool as its GET shows it.
pub(crate) fn body<S: NodeProvider>(
    provider: &S,
    stored: &Stored<NodePool>,
    cluster: PowerState,
) -> AgentPool {
    let within = Within {
        cluster,
        versions: &provider.versions(),
    };
    resource(&stored.record.key, properties::write(stored, within))
}

fn answer(status: StatusCode, stored: Stored<NodePool>, within: Within<'_>) -> Response {
    let revision = stored.revision;
    let mut response = (status, Json(last(stored, within))).into_response();
    set_etag(response.headers_mut(), revision);
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

/// The pool, if it is there.
pub(crate) async fn find<S: Store>(store: &S, key: &PoolKey) -> Result<Stored<NodePool>, ArmError> {
    store
        .get::<NodePool>(key)
        .await?
        .ok_or_else(|| ArmError::pool_not_found(key))
}

pub(crate) async fn list<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
    paging: Paging,
) -> Result<Response, ArmError> {
    let scope = Scope::cluster(&key);
    let after = paging.after(&scope)?;
    let within = Within {
        cluster: managed_cluster::power_of(&*app.backend, &key).await?,
        versions: &app.backend.versions(),
    };
    let page = app.backend.list_page::<NodePool>(&scope, after, PAGE);
    let page = page.await?;
    let pool = |stored| last(stored, within);
    let pools = page.records.into_iter().map(pool).collect();
    Ok(paging.answer(pools, page.next.as_deref(), &page.unreadable))
}

pub(crate) async fn show<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<PoolKey>,
) -> Result<Response, ArmError> {
    // Before anything is read: what is read later may be newer, and is then remembered for a generation that is over.
    let generation = app.backend.generation();
    let before = generation.and_then(|generation| app.answers.get(generation, &key));
    if let Some(answer) = before {
        return Ok(answer.map(Body::from));
    }
    let cluster = managed_cluster::power_of(&*app.backend, &key.cluster).await?;
    let stored = find(&*app.backend, &key).await?;
    let within = Within {
        cluster,
        versions: &app.backend.versions(),
    };
    let answer = shown(stored, within)?;
    if let Some(generation) = generation {
        app.answers.put(generation, key, answer.clone());
    }
    Ok(answer.map(Body::from))
}

/// The answer that shows a pool.
fn shown(stored: Stored<NodePool>, within: Within<'_>) -> Result<Answer, StoreError> {
    let revision = stored.revision;
    let pool = last(stored, within);
    let json = serde_json::to_vec(&pool).map_err(|error| StoreError::Unreadable {
        kind: Kind::NodePool,
        path: pool.id,
        reason: error.to_string(),
    })?;
    let mut answer = Answer::new(Bytes::from(json));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    set_etag(headers, revision);
    Ok(answer)
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
    let another = pools
        .records
        .iter()
        .map(|stored| &stored.record)
        .any(|pool| {
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

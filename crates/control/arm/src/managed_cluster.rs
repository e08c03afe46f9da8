//! Managed clusters.

pub(crate) mod credential;
mod delete;
pub(crate) mod power;
mod profile;
pub(crate) mod put;
pub(crate) mod refused;
pub(crate) mod tags;
pub(crate) mod version;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use pool::{
    Change, Cluster, ClusterKey, GroupKey, Key, NodePool, NodeProvider, PowerState, Revision,
    Scope, Store, StoreError, Stored, SubscriptionId, Versions,
};

use crate::agent_pool::{self, set_etag};
use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::etag;
use crate::paging::Paging;
use crate::path::At;
use crate::properties::{self, Within};
use crate::resource_group;
use crate::types::{AgentPoolProfile, ManagedCluster, ManagedClusterProperties};
use crate::view::View;

pub(crate) use delete::delete;
pub(crate) use profile::describe;

/// AKS writes it with a capital here, unlike in paths.
const TYPE: &str = "Microsoft.ContainerService/ManagedClusters";

/// How many clusters a page of their list has, unless they have so many pools before that.
const PAGE: usize = 100;
const POOLS_OF_PAGE: usize = 200;

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
    let pool = |pool: &&Stored<NodePool>| AgentPoolProfile {
        name: pool.record.key.pool.to_string(),
        properties: properties::write(pool, within),
    };
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
            agent_pool_profiles: pools.iter().map(pool).collect(),
            extra: profile::show(cluster, versions),
        },
        extra: cluster.envelope.clone(),
    }
}

/// The cluster, if it is there.
pub(crate) async fn find<S: Store>(
    store: &S,
    key: &ClusterKey,
) -> Result<Stored<Cluster>, ArmError> {
    match store.get::<Cluster>(key).await? {
        Some(stored) => Ok(stored),
        None => Err(missing(store, key).await),
    }
}

/// The cluster's power, if the cluster is there: a pool shows nothing else of it.
pub(crate) async fn power_of<S: Store>(
    store: &S,
    key: &ClusterKey,
) -> Result<PowerState, ArmError> {
    #[derive(Deserialize)]
    struct Part {
        #[serde(default)]
        power: PowerState,
    }
    match store.get_part::<Cluster, Part>(key).await? {
        Some(cluster) => Ok(cluster.power),
        None => Err(missing(store, key).await),
    }
}

/// A group goes after its clusters. Only who misses one is told which of the two is not there.
async fn missing<S: Store>(store: &S, key: &ClusterKey) -> ArmError {
    match resource_group::find(store, &key.group).await {
        Ok(_) => ArmError::cluster_not_found(key),
        Err(error) => error,
    }
}

async fn listed<S: Store + NodeProvider>(
    store: &S,
    scope: &Scope,
    paging: &Paging,
    view: &View,
) -> Result<Response, ArmError> {
    let after = paging.after(scope)?;
    let page = view.page::<Cluster, _>(store, scope, after, PAGE).await?;
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
    view: View,
) -> Result<Response, ArmError> {
    let scope = Scope::subscription(&subscription);
    listed(&*app.backend, &scope, &paging, &view).await
}

pub(crate) async fn list<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<GroupKey>,
    paging: Paging,
    view: View,
) -> Result<Response, ArmError> {
    resource_group::find(&*app.backend, &key).await?;
    listed(&*app.backend, &Scope::group(&key), &paging, &view).await
}

pub(crate) async fn show<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
) -> Result<Response, ArmError> {
    let stored = find(&*app.backend, &key).await?;
    answer(&*app.backend, StatusCode::OK, &stored).await
}

/// A cluster as its GET shows it.
pub(crate) async fn body<S: Store + NodeProvider>(
    store: &S,
    stored: &Stored<Cluster>,
) -> Result<ManagedCluster, ArmError> {
    let pools = agent_pool::of_cluster(store, &stored.record.key).await?;
    let pools: Vec<_> = pools.records.iter().collect();
    Ok(resource(stored, &pools, &store.versions()))
}

async fn answer<S: Store + NodeProvider>(
    store: &S,
    status: StatusCode,
    stored: &Stored<Cluster>,
) -> Result<Response, ArmError> {
    let body = body(store, stored).await?;
    let mut response = (status, Json(body)).into_response();
    set_etag(response.headers_mut(), stored.revision);
    Ok(response)
}

type Committed = Result<Stored<Cluster>, StoreError>;

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

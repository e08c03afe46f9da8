//! Aborting the operation in progress on an agent pool or a cluster. What was done stays done, and nothing more is, until
//! something is asked for again.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use uuid::Uuid;

use pool::transition::{self, Provisioned};
use pool::{
    Change, Cluster, ClusterKey, NodePool, Operation, OperationTarget, PoolKey, ProvisioningState,
    Store, StoreError, Stored,
};

use crate::agent_pool::{self, of_cluster};
use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::long_running::Origin;
use crate::managed_cluster;
use crate::path::At;
use crate::resource_group::{ATTEMPTS, gave_up};

const REASON: &str = "The operation was aborted on request. What was done until then stays as it is; ask for the resource again to go on.";

pub(crate) async fn of_pool<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<PoolKey>,
    origin: Origin,
) -> Result<Response, ArmError> {
    let store = &*app.backend;
    for _ in 0..ATTEMPTS {
        let cluster = managed_cluster::find(store, &key.cluster).await?;
        let stored = agent_pool::find(store, &key).await?;
        if stored.record.operation.is_none() {
            return Err(nothing_to_abort(&format!("the node pool '{}'", key.pool)));
        }
        let now = Timestamp::now();
        let aborting = aborting(stored.record.target(), now);
        let mut changes = cancel_pool(store, stored, &cluster.record, now).await?;
        changes.push(Change::create(&aborting)?);
        match store.commit(changes).await {
            Ok(_) => return Ok(answer(&origin, &cluster.record, aborting.key.id)),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(&key))
}

pub(crate) async fn of_cluster_and_pools<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
    origin: Origin,
) -> Result<Response, ArmError> {
    let store = &*app.backend;
    for _ in 0..ATTEMPTS {
        let stored = managed_cluster::find(store, &key).await?;
        if stored.record.operation.is_none() {
            return Err(nothing_to_abort(&format!("the cluster '{}'", key.cluster)));
        }
        let now = Timestamp::now();
        let aborting = aborting(stored.record.target(), now);
        let mut changes = vec![Change::create(&aborting)?];
        for pool in of_cluster(store, &key).await?.records {
            if is_going_on(&pool.record, &stored.record) {
                changes.extend(cancel_pool(store, pool, &stored.record, now).await?);
            }
        }
        let mut cluster = stored.record;
        changes.extend(transition::cancel(store, &cluster, REASON.to_owned(), now).await?);
        cluster.enter(ProvisioningState::Canceled, None);
        REASON.clone_into(&mut cluster.message);
        changes.push(Change::update(&cluster, stored.revision)?);
        match store.commit(changes).await {
            Ok(_) => return Ok(answer(&origin, &cluster, aborting.key.id)),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(&key))
}

/// Whether something is done about a pool, or would be once it is looked at.
fn is_going_on(pool: &NodePool, cluster: &Cluster) -> bool {
    !pool.provisioning_state.is_terminal()
        || pool.seen.power != pool.spec.power.within(cluster.power)
}

/// The changes that leave a pool as it is.
async fn cancel_pool<S: Store>(
    store: &S,
    stored: Stored<NodePool>,
    cluster: &Cluster,
    now: Timestamp,
) -> Result<Vec<Change>, StoreError> {
    let mut pool = stored.record;
    let mut changes = transition::cancel(store, &pool, REASON.to_owned(), now).await?;
    pool.enter(ProvisioningState::Canceled, None);
    REASON.clone_into(&mut pool.message);
    // What is known of it by now: another power of its cluster is something new.
    pool.seen.power = pool.spec.power.within(cluster.power);
    changes.push(Change::update(&pool, stored.revision)?);
    Ok(changes)
}

/// The operation of aborting another: it is done as soon as it is asked for.
fn aborting(target: OperationTarget, now: Timestamp) -> Operation {
    Operation::begin(target, Uuid::new_v4(), now).ended(None, now)
}

fn nothing_to_abort(what: &str) -> ArmError {
    ArmError::not_allowed(&format!(
        "Operation is not allowed: there is no operation in progress on {what} that could be aborted; the last one has ended."
    ))
}

fn answer(origin: &Origin, cluster: &Cluster, id: Uuid) -> Response {
    let mut response = StatusCode::ACCEPTED.into_response();
    let subscription = &cluster.key.group.subscription;
    origin.operation(response.headers_mut(), subscription, &cluster.location, id);
    origin.result(response.headers_mut(), subscription, &cluster.location, id);
    response
}

//! Deleting an agent pool.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use uuid::Uuid;

use pool::{
    Change, Cluster, NodePool, PoolKey, ProvisioningState, Store, StoreError, Stored, transition,
};

use super::{keep_a_system_pool, parent};
use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::etag;
use crate::long_running::Origin;
use crate::path::At;
use crate::resource_group::{ATTEMPTS, gave_up};
use crate::unread;

pub(crate) async fn delete<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<PoolKey>,
    origin: Origin,
    headers: HeaderMap,
) -> Result<Response, ArmError> {
    let store = &*app.backend;
    if unread::removed::<NodePool, _>(store, &key, &headers).await? {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
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
) -> Result<Result<Option<Uuid>, StoreError>, ArmError> {
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

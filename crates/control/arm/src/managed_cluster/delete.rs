//! Deleting a cluster, with its pools and their nodes.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use pool::{Change, Cluster, ClusterKey, ProvisioningState, StoreError, transition};

use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::etag;
use crate::long_running::Origin;
use crate::path::At;
use crate::resource_group::{self, ATTEMPTS, gave_up};
use crate::unread;

pub(crate) async fn delete<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
    origin: Origin,
    headers: HeaderMap,
) -> Result<Response, ArmError> {
    let store = &*app.backend;
    unread::removed::<Cluster, _>(store, &key, &headers).await?;
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

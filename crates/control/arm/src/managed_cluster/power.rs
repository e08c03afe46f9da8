//! Stopping and starting a cluster: all its nodes go, or come back.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use pool::{Change, ClusterKey, PowerState, ProvisioningState, Store, StoreError, transition};

use super::find;
use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::etag;
use crate::long_running::Origin;
use crate::path::At;
use crate::resource_group::{ATTEMPTS, gave_up};

pub(crate) async fn stop<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
    origin: Origin,
    headers: HeaderMap,
) -> Result<Response, ArmError> {
    turn(&*app.backend, &key, &origin, &headers, PowerState::Stopped).await
}

pub(crate) async fn start<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
    origin: Origin,
    headers: HeaderMap,
) -> Result<Response, ArmError> {
    turn(&*app.backend, &key, &origin, &headers, PowerState::Running).await
}

async fn turn<S: Store>(
    store: &S,
    key: &ClusterKey,
    origin: &Origin,
    headers: &HeaderMap,
    power: PowerState,
) -> Result<Response, ArmError> {
    for _ in 0..ATTEMPTS {
        let stored = find(store, key).await?;
        etag::check(headers, Some(stored.revision))?;
        let mut cluster = stored.record;
        if cluster.provisioning_state == ProvisioningState::Deleting {
            return Err(ArmError::being_deleted(&format!(
                "the cluster '{}'",
                key.cluster
            )));
        }
        let location = cluster.location.clone();
        let state = match power {
            PowerState::Stopped => ProvisioningState::Stopping,
            PowerState::Running => ProvisioningState::Starting,
        };
        let turned = cluster.power == power;
        if turned && cluster.provisioning_state == ProvisioningState::Succeeded {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        let running = cluster
            .operation
            .filter(|_| turned && cluster.provisioning_state == state);
        let committed = if let Some(id) = running {
            Ok(id)
        } else {
            cluster.power = power;
            let (operation, mut changes) =
                transition::begin(store, &mut cluster, state, Timestamp::now()).await?;
            changes.push(Change::update(&cluster, stored.revision)?);
            store.commit(changes).await.map(|_| operation.key.id)
        };
        match committed {
            Ok(id) => {
                let mut response = StatusCode::ACCEPTED.into_response();
                let subscription = &key.group.subscription;
                origin.operation(response.headers_mut(), subscription, &location, id);
                origin.result(response.headers_mut(), subscription, &location, id);
                return Ok(response);
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(key))
}

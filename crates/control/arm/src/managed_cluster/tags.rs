//! PATCH of a cluster: its tags, which change nothing about its nodes.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use pool::{Change, Cluster, ClusterKey, ProvisioningState, StoreError};

use super::{answer, commit, find};
use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::body::Body;
use crate::error::ArmError;
use crate::etag;
use crate::path::At;
use crate::resource_group::{ATTEMPTS, gave_up};

pub(crate) async fn patch<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
    headers: HeaderMap,
    mut body: Body,
) -> Result<Response, ArmError> {
    let store = &*app.backend;
    let tags = body.texts("tags")?;
    if let Some(other) = body.0.keys().next() {
        return Err(ArmError::unmarshal(&format!("unknown field {other:?}")));
    }
    for _ in 0..ATTEMPTS {
        let stored = find(store, &key).await?;
        etag::check(&headers, Some(stored.revision))?;
        if stored.record.provisioning_state == ProvisioningState::Deleting {
            return Err(ArmError::being_deleted(&format!(
                "the cluster '{}'",
                key.cluster
            )));
        }
        if stored.record.tags == tags {
            return answer(store, StatusCode::OK, &stored).await;
        }
        let cluster = Cluster {
            tags: tags.clone(),
            ..stored.record
        };
        let change = Change::update(&cluster, stored.revision)?;
        match commit(store, cluster, vec![change]).await {
            Ok(stored) => return answer(store, StatusCode::OK, &stored).await,
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(&key))
}

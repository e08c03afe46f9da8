//! Snapshots of node pools: there are none here, and none can be made.

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use pool::{GroupKey, SubscriptionId};

use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::path::At;
use crate::resource_group;
use crate::types::ResourceList;

/// None.
pub(crate) async fn list<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<GroupKey>,
) -> Result<Json<ResourceList<Value>>, ArmError> {
    resource_group::find(&*app.backend, &key).await?;
    Ok(Json(ResourceList::of(Vec::new())))
}

/// None either.
pub(crate) async fn list_of_subscription(
    _: ApiVersion,
    At(_): At<SubscriptionId>,
) -> Json<ResourceList<Value>> {
    Json(ResourceList::of(Vec::new()))
}

pub(crate) async fn show<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<GroupKey>,
) -> Result<Json<Value>, ArmError> {
    resource_group::find(&*app.backend, &key).await?;
    Err(ArmError::not_found("The snapshot"))
}

pub(crate) async fn put<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<GroupKey>,
) -> Result<Json<Value>, ArmError> {
    resource_group::find(&*app.backend, &key).await?;
    Err(ArmError::not_supported(
        "Snapshots of node pools can't be made here: every node is started from the same image, so there would be nothing in them. Read the node pool and make another one like it.",
    ))
}

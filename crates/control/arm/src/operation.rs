//! Long-running operations: how they stand, and what came of them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use pool::{Operation, OperationKey, OperationStatus, Store};

use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::long_running::{self, Origin};
use crate::path::At;
use crate::types::{ErrorDetail, OperationResult};

async fn find<S: Store>(store: &S, key: &OperationKey) -> Result<Operation, ArmError> {
    let stored = store.get::<Operation>(key).await?;
    stored
        .map(|stored| stored.record)
        .ok_or_else(|| ArmError::not_found(&format!("The operation '{}'", key.id)))
}

/// What `Azure-AsyncOperation` leads to.
pub(crate) async fn status<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<OperationKey>,
) -> Result<Response, ArmError> {
    let operation = find(&*app.backend, &key).await?;
    let body = OperationResult {
        name: operation.key.id.to_string(),
        status: format!("{:?}", operation.status),
        start_time: operation.start,
        end_time: operation.end,
        error: operation.error.map(|error| ErrorDetail {
            code: error.code,
            message: error.message,
            target: None,
        }),
    };
    let mut response = Json(body).into_response();
    if operation.status == OperationStatus::InProgress {
        long_running::retry_after(response.headers_mut());
    }
    Ok(response)
}

/// What `Location` leads to after a deletion in AKS.
pub(crate) async fn result<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<OperationKey>,
    origin: Origin,
    uri: axum::http::Uri,
) -> Result<Response, ArmError> {
    let operation = find(&*app.backend, &key).await?;
    if let Some(ended) = ended(&operation, StatusCode::NO_CONTENT) {
        return ended;
    }
    let location = uri
        .path()
        .split('/')
        .skip_while(|word| *word != "locations")
        .nth(1);
    let mut response = StatusCode::ACCEPTED.into_response();
    let location = location.unwrap_or_default();
    origin.result(response.headers_mut(), &key.subscription, location, key.id);
    Ok(response)
}

/// What `Location` leads to after the deletion of a resource group.
pub(crate) async fn group_result<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<OperationKey>,
    origin: Origin,
) -> Result<Response, ArmError> {
    let operation = find(&*app.backend, &key).await?;
    if let Some(ended) = ended(&operation, StatusCode::OK) {
        return ended;
    }
    let mut response = StatusCode::ACCEPTED.into_response();
    origin.group_result(response.headers_mut(), &key.subscription, key.id);
    Ok(response)
}

/// How it ended, if it did.
fn ended(operation: &Operation, well: StatusCode) -> Option<Result<Response, ArmError>> {
    match operation.status {
        OperationStatus::InProgress => None,
        OperationStatus::Succeeded => Some(Ok(well.into_response())),
        OperationStatus::Failed | OperationStatus::Canceled => {
            let (code, message) = operation.error.as_ref().map_or(
                ("OperationFailed", "The operation did not succeed."),
                |error| (error.code.as_str(), error.message.as_str()),
            );
            Some(Err(ArmError::operation(code, message)))
        }
    }
}

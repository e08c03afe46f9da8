//! `listCluster...Credential`: kubeconfigs.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use pool::{ClusterKey, CredentialKind, Credentials};

use super::find;
use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::path::At;
use crate::types::{CredentialResult, CredentialResults};

pub(crate) async fn user<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
) -> Result<Json<CredentialResults>, ArmError> {
    list(&app, &key, CredentialKind::User).await
}

pub(crate) async fn admin<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
) -> Result<Json<CredentialResults>, ArmError> {
    list(&app, &key, CredentialKind::Admin).await
}

pub(crate) async fn monitoring_user<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
) -> Result<Json<CredentialResults>, ArmError> {
    list(&app, &key, CredentialKind::MonitoringUser).await
}

/// The parameters `format` and `server-fqdn` ask for another way of signing in and another of several addresses; there is one
/// of each here, so they are not read.
async fn list<B: Backend>(
    app: &App<B>,
    key: &ClusterKey,
    who: CredentialKind,
) -> Result<Json<CredentialResults>, ArmError> {
    find(&*app.backend, key).await?;
    let kubeconfig = app.backend.kubeconfig(key, who).await?;
    let kubeconfig = kubeconfig.ok_or_else(|| ArmError::no_kubernetes(key))?;
    Ok(Json(CredentialResults {
        kubeconfigs: vec![CredentialResult {
            name: who.to_string(),
            value: STANDARD.encode(kubeconfig),
        }],
    }))
}

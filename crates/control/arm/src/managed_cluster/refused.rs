//! What AKS does to clusters and can't be done here. Each is refused in ARM's way, with what to do instead.

use axum::extract::State;

use pool::ClusterKey;

use super::find;
use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::path::At;

/// Refuses it for a cluster that is there.
async fn refuse<B: Backend>(app: &App<B>, key: &ClusterKey, why: &str) -> Result<(), ArmError> {
    find(&*app.backend, key).await?;
    Err(ArmError::not_supported(why))
}

pub(crate) async fn run_command<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
) -> Result<(), ArmError> {
    refuse(
        &app,
        &key,
        "Commands can't be run in the cluster through ARM here. Use kubectl with the kubeconfig of 'az aks get-credentials'; where nodes are processes on this machine, use 'migpool pod run' and 'migpool pod exec'.",
    )
    .await
}

pub(crate) async fn rotate<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
) -> Result<(), ArmError> {
    refuse(
        &app,
        &key,
        "The certificates and keys of the Kubernetes are not migpool's, so it can't rotate them. Rotate them with what manages the control plane, such as 'kubeadm certs renew'; 'migpool azure rotate' rotates those of this endpoint.",
    )
    .await
}

pub(crate) async fn reset_profile<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
) -> Result<(), ArmError> {
    refuse(
        &app,
        &key,
        "The cluster has no identity at Microsoft Entra ID that could be reset: nothing is made in Azure on its behalf.",
    )
    .await
}

pub(crate) async fn access_profile<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
) -> Result<(), ArmError> {
    refuse(
        &app,
        &key,
        "Access profiles are of times before AKS had roles. Use listClusterUserCredential or listClusterAdminCredential.",
    )
    .await
}

//! Pods on local nodes, as a type of migpool's own: `Migpool.Local/pods`.
//!
//! A pod is a program on this machine and runs as the user that migpool runs as, who can read the keys of the front for Azure's
//! clients. So who comes by TLS, whatever the role, sees pods and ends them, and neither runs one nor reads what it printed.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Map;

use pool::{ClusterKey, Invalid, Pod, PodName, ProvisioningState, WorkloadError, Workloads};

use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::body::Body;
use crate::error::ArmError;
use crate::managed_cluster;
use crate::path::{At, Query};
use crate::routes::Scheme;
use crate::types::{PodExecEnvironment, PodResource, ResourceList};

const TYPE: &str = "Microsoft.ContainerService/managedClusters/providers/Migpool.Local/pods";

/// Which container is meant.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Which {
    /// The container; it may be missing where there is one.
    container: Option<String>,
}

/// Refuses somebody who does not come by the machine's own socket. Where Kubernetes runs the pods, it says so.
async fn check_is_on_the_machine<B: Backend>(
    app: &App<B>,
    cluster: &ClusterKey,
    name: &PodName,
    command: &str,
) -> Result<(), ArmError> {
    if app.scheme == Scheme::Http {
        return Ok(());
    }
    match app.backend.pod(cluster, name).await {
        Ok(_) | Err(WorkloadError::NotFound(_)) => Err(ArmError::only_on_the_machine(command)),
        Err(error) => Err(error.into()),
    }
}

fn resource(cluster: &ClusterKey, pod: Pod) -> PodResource {
    let name = pod.name.to_string();
    PodResource {
        id: format!("{cluster}/providers/Migpool.Local/pods/{name}"),
        name,
        kind: TYPE.to_owned(),
        location: None,
        tags: None,
        e_tag: None,
        properties: pod,
        extra: Map::new(),
    }
}

pub(crate) async fn list<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(cluster): At<ClusterKey>,
) -> Result<Json<ResourceList<PodResource>>, ArmError> {
    managed_cluster::find(&*app.backend, &cluster).await?;
    let pods = app.backend.pods(&cluster).await?;
    Ok(Json(ResourceList::of(
        pods.into_iter()
            .map(|pod| resource(&cluster, pod))
            .collect(),
    )))
}

pub(crate) async fn show<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At((cluster, name)): At<(ClusterKey, PodName)>,
) -> Result<Json<PodResource>, ArmError> {
    managed_cluster::find(&*app.backend, &cluster).await?;
    Ok(Json(resource(
        &cluster,
        app.backend.pod(&cluster, &name).await?,
    )))
}

pub(crate) async fn put<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At((cluster, name)): At<(ClusterKey, PodName)>,
    mut body: Body,
) -> Result<Response, ArmError> {
    let manifest = body.text("manifest")?.ok_or_else(|| {
        Invalid::parameter(
            "manifest",
            "The parameter manifest is missing. Send the manifest of a Pod as text.",
        )
    })?;
    let stored = managed_cluster::find(&*app.backend, &cluster).await?;
    check_is_on_the_machine(&app, &cluster, &name, "run").await?;
    if stored.record.provisioning_state == ProvisioningState::Deleting {
        return Err(ArmError::being_deleted(&format!(
            "the cluster '{}'",
            cluster.cluster
        )));
    }
    let status = match app.backend.pod(&cluster, &name).await {
        Ok(_) => StatusCode::OK,
        Err(WorkloadError::NotFound(_)) => StatusCode::CREATED,
        Err(error) => return Err(error.into()),
    };
    let pod = app.backend.run_pod(&cluster, &name, &manifest).await?;
    Ok((status, Json(resource(&cluster, pod))).into_response())
}

pub(crate) async fn delete<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At((cluster, name)): At<(ClusterKey, PodName)>,
) -> Result<StatusCode, ArmError> {
    managed_cluster::find(&*app.backend, &cluster).await?;
    match app.backend.delete_pod(&cluster, &name).await {
        Ok(()) => Ok(StatusCode::OK),
        Err(WorkloadError::NotFound(_)) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn log<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At((cluster, name)): At<(ClusterKey, PodName)>,
    Query(which): Query<Which>,
) -> Result<Response, ArmError> {
    managed_cluster::find(&*app.backend, &cluster).await?;
    check_is_on_the_machine(&app, &cluster, &name, "logs").await?;
    let log = app
        .backend
        .pod_logs(&cluster, &name, which.container.as_deref())
        .await?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], log).into_response())
}

pub(crate) async fn exec_environment<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At((cluster, name)): At<(ClusterKey, PodName)>,
    Query(which): Query<Which>,
) -> Result<Json<PodExecEnvironment>, ArmError> {
    managed_cluster::find(&*app.backend, &cluster).await?;
    check_is_on_the_machine(&app, &cluster, &name, "exec").await?;
    let container = which.container.as_deref();
    let environment = app
        .backend
        .exec_environment(&cluster, &name, container)
        .await?;
    Ok(Json(PodExecEnvironment {
        id: format!("{cluster}/providers/Migpool.Local/pods/{name}/execEnvironment"),
        name: name.to_string(),
        kind: format!("{TYPE}/execEnvironment"),
        location: None,
        tags: None,
        e_tag: None,
        properties: environment,
        extra: Map::new(),
    }))
}

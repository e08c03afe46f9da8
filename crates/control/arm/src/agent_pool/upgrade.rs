//! Versions of agent pools, and upgrades to the ones that there are.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde_json::Map;

use pool::{
    Change, ClusterKey, PoolKey, PowerState, ProvisioningState, StoreError, Versions, transition,
};

use super::{answer, commit_pool, find, parent};
use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::long_running::Origin;
use crate::managed_cluster;
use crate::path::At;
use crate::properties::Within;
use crate::resource_group::{ATTEMPTS, gave_up};
use crate::types::{
    AgentPoolAvailableVersions, AgentPoolUpgradeProfile, AvailableVersion, AvailableVersions,
    UpgradeProfileProperties,
};

fn only_version(versions: &Versions) -> AvailableVersion {
    AvailableVersion {
        default: true,
        kubernetes_version: versions.kubernetes.clone(),
        is_preview: false,
    }
}

/// All nodes run the one version that there is: nothing to upgrade to, and nothing to go back to.
pub(crate) async fn profile<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<PoolKey>,
) -> Result<Json<AgentPoolUpgradeProfile>, ArmError> {
    managed_cluster::find(&*app.backend, &key.cluster).await?;
    find(&*app.backend, &key).await?;
    let versions = app.backend.versions();
    Ok(Json(AgentPoolUpgradeProfile {
        id: format!("{key}/upgradeProfiles/default"),
        name: "default".to_owned(),
        kind: "Microsoft.ContainerService/managedClusters/agentPools/upgradeProfiles".to_owned(),
        location: None,
        tags: None,
        e_tag: None,
        properties: UpgradeProfileProperties {
            kubernetes_version: versions.kubernetes,
            os_type: "Linux".to_owned(),
            upgrades: Vec::new(),
            recently_used_versions: Vec::new(),
            latest_node_image_version: versions.node_image,
        },
        extra: Map::new(),
    }))
}

pub(crate) async fn available_versions<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
) -> Result<Json<AgentPoolAvailableVersions>, ArmError> {
    managed_cluster::find(&*app.backend, &key).await?;
    Ok(Json(AgentPoolAvailableVersions {
        id: format!("{key}/availableagentpoolversions"),
        name: "default".to_owned(),
        kind: "Microsoft.ContainerService/managedClusters/availableAgentpoolVersions".to_owned(),
        location: None,
        tags: None,
        e_tag: None,
        properties: AvailableVersions {
            agent_pool_versions: vec![only_version(&app.backend.versions())],
        },
        extra: Map::new(),
    }))
}

/// Nodes are started from the newest image that there is, so this ends once every node is as asked.
pub(crate) async fn node_image<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<PoolKey>,
    origin: Origin,
) -> Result<Response, ArmError> {
    let store = &*app.backend;
    for _ in 0..ATTEMPTS {
        let cluster = parent(store, &key.cluster).await?;
        if cluster.record.power == PowerState::Stopped {
            return Err(ArmError::cluster_stopped(&key.cluster));
        }
        let stored = find(store, &key).await?;
        let mut pool = stored.record;
        if pool.provisioning_state == ProvisioningState::Deleting {
            return Err(ArmError::being_deleted(&format!(
                "the node pool '{}'",
                key.pool
            )));
        }
        let state = match pool.provisioning_state {
            ProvisioningState::Creating => ProvisioningState::Creating,
            _ => ProvisioningState::Updating,
        };
        let (operation, mut changes) =
            transition::begin(store, &mut pool, state, Timestamp::now()).await?;
        changes.insert(0, Change::update(&pool, stored.revision)?);
        changes.push(Change::unchanged(&cluster));
        match commit_pool(store, pool, changes).await {
            Ok(stored) => {
                let within = Within {
                    cluster: cluster.record.power,
                    versions: &app.backend.versions(),
                };
                let mut response = answer(StatusCode::ACCEPTED, stored, within);
                let subscription = &key.cluster.group.subscription;
                let location = &cluster.record.location;
                let id = operation.key.id;
                origin.operation(response.headers_mut(), subscription, location, id);
                origin.result(response.headers_mut(), subscription, location, id);
                return Ok(response);
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(&key))
}

//! The machines of an agent pool: its nodes, as ARM has them.

use axum::Json;
use axum::extract::State;
use serde_json::Map;

use pool::{NodeName, NodePhase, NodeProvider, ObservedNode, PoolKey, Versions};

use super::find;
use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::managed_cluster;
use crate::path::At;
use crate::types::{Machine, MachineNetwork, MachineProperties, ResourceList};

const TYPE: &str = "Microsoft.ContainerService/managedClusters/agentPools/machines";

fn resource(key: &PoolKey, node: &ObservedNode, versions: &Versions) -> Machine {
    let name = node.spec.name.to_string();
    let state = match node.phase {
        NodePhase::Creating => "Creating",
        NodePhase::Running => "Succeeded",
        NodePhase::Failed => "Failed",
        NodePhase::Deleting => "Deleting",
    };
    Machine {
        id: format!("{key}/machines/{name}"),
        kind: TYPE.to_owned(),
        location: None,
        tags: None,
        e_tag: None,
        properties: MachineProperties {
            network: MachineNetwork::default(),
            resource_id: format!("{}/providers/Migpool.Local/nodes/{name}", key.cluster),
            node_image_version: versions.node_image.clone(),
            provisioning_state: state.to_owned(),
        },
        name,
        extra: Map::new(),
    }
}

/// The nodes of a pool, by name.
pub(super) async fn of_pool<P: NodeProvider>(
    provider: &P,
    key: &PoolKey,
) -> Result<Vec<std::sync::Arc<ObservedNode>>, ArmError> {
    let mut nodes = provider.observe().await?;
    nodes.retain(|node| node.spec.pool == *key);
    nodes.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    Ok(nodes)
}

pub(crate) async fn list<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<PoolKey>,
) -> Result<Json<ResourceList<Machine>>, ArmError> {
    managed_cluster::find(&*app.backend, &key.cluster).await?;
    find(&*app.backend, &key).await?;
    let versions = app.backend.versions();
    let nodes = of_pool(&*app.backend, &key).await?;
    Ok(Json(ResourceList::of(
        nodes
            .iter()
            .map(|node| resource(&key, node, &versions))
            .collect(),
    )))
}

pub(crate) async fn show<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At((key, name)): At<(PoolKey, NodeName)>,
) -> Result<Json<Machine>, ArmError> {
    managed_cluster::find(&*app.backend, &key.cluster).await?;
    find(&*app.backend, &key).await?;
    let nodes = of_pool(&*app.backend, &key).await?;
    let found = nodes.iter().find(|node| node.spec.name == name);
    let node = found.ok_or_else(|| {
        ArmError::not_found(&format!("The machine '{name}' of node pool '{}'", key.pool))
    })?;
    Ok(Json(resource(&key, node, &app.backend.versions())))
}

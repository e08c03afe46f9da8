//! Nodes, as a type of migpool's own: `Migpool.Local/nodes`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::Map;

use pool::{ClusterKey, NodeName, NodeProvider, ObservedNode};

use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::managed_cluster;
use crate::path::At;
use crate::types::{Node, ResourceList};

const TYPE: &str = "Microsoft.ContainerService/managedClusters/providers/Migpool.Local/nodes";

fn resource(cluster: &ClusterKey, node: ObservedNode) -> Node {
    let name = node.spec.name.to_string();
    Node {
        id: format!("{cluster}/providers/Migpool.Local/nodes/{name}"),
        name,
        kind: TYPE.to_owned(),
        location: None,
        tags: None,
        e_tag: None,
        properties: node,
        extra: Map::new(),
    }
}

async fn of_cluster<P: NodeProvider>(
    provider: &P,
    cluster: &ClusterKey,
) -> Result<Vec<ObservedNode>, ArmError> {
    let mut nodes: Vec<ObservedNode> = provider
        .observe()
        .await?
        .into_iter()
        .filter(|node| node.spec.pool.cluster == *cluster)
        .map(Arc::unwrap_or_clone)
        .collect();
    nodes.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    Ok(nodes)
}

pub(crate) async fn list<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(cluster): At<ClusterKey>,
) -> Result<Json<ResourceList<Node>>, ArmError> {
    managed_cluster::find(&*app.backend, &cluster).await?;
    let nodes = of_cluster(&*app.backend, &cluster).await?;
    Ok(Json(ResourceList::of(
        nodes
            .into_iter()
            .map(|node| resource(&cluster, node))
            .collect(),
    )))
}

pub(crate) async fn show<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At((cluster, name)): At<(ClusterKey, NodeName)>,
) -> Result<Json<Node>, ArmError> {
    managed_cluster::find(&*app.backend, &cluster).await?;
    let nodes = of_cluster(&*app.backend, &cluster).await?;
    let found = nodes.into_iter().find(|node| node.spec.name == name);
    let node = found.ok_or_else(|| {
        ArmError::not_found(&format!(
            "The node '{name}' of cluster '{}'",
            cluster.cluster
        ))
    })?;
    Ok(Json(resource(&cluster, node)))
}

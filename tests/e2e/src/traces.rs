//! What our components leave on a node and in the cluster while they are there, and must not leave when they are gone.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde_json::Value;

use crate::nodes::{CDI_DIR, FEATURES_DIR, Node};
use crate::world::World;

/// What is on a node that our components are answerable for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Traces {
    /// Labels that are ours or NVIDIA's.
    pub(crate) labels: BTreeMap<String, String>,
    /// The keys of annotations.
    pub(crate) annotations: BTreeSet<String>,
    /// Taints, all of them.
    pub(crate) taints: Vec<Value>,
    /// The types of conditions.
    pub(crate) conditions: BTreeSet<String>,
    /// Sockets of device plugins.
    pub(crate) sockets: BTreeSet<String>,
    /// Files of CDI specifications.
    pub(crate) specifications: BTreeSet<String>,
    /// Files for node feature discovery.
    pub(crate) features: BTreeSet<String>,
}

impl Traces {
    /// What there is now.
    ///
    /// # Errors
    /// The node can't be looked at.
    pub(crate) fn of(world: &World, node: Node<'_>) -> anyhow::Result<Self> {
        let object = world.get(&["node", node.name()])?;
        let list = |path: &str| -> Vec<Value> {
            object
                .pointer(path)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        };
        Ok(Self {
            labels: world.labels(node.name())?,
            annotations: object["metadata"]["annotations"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, _)| key.clone())
                .collect(),
            taints: list("/spec/taints"),
            conditions: list("/status/conditions")
                .iter()
                .filter_map(|condition| condition["type"].as_str().map(str::to_owned))
                .collect(),
            sockets: node.plugin_sockets()?,
            specifications: node.files(CDI_DIR)?,
            features: node.files(FEATURES_DIR)?,
        })
    }
}

/// The names of all objects in the cluster of the kinds that a chart of ours makes.
///
/// # Errors
/// `kubectl` fails.
pub(crate) fn owned_by_releases(world: &World) -> anyhow::Result<BTreeSet<String>> {
    let printed = world
        .kubectl(&[
            "get",
            "--all-namespaces",
            "--output=name",
            "daemonsets,deployments,services,poddisruptionbudgets,configmaps,secrets,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,validatingwebhookconfigurations,jobs",
        ])
        .context("cannot list what charts make")?;
    Ok(printed.lines().map(str::to_owned).collect())
}

//! What the engine does about nodes.

use std::fs;
use std::io;

use jiff::Timestamp;
use pool::{Action, NodeName, NodeSpec, ObservedNode, ProviderError};

use super::{Engine, unavailable};
use crate::node::{NodeFolder, observe};
use crate::pod::scheduler::is_evicted;
use crate::store::NodeRow;

impl Engine {
    pub(super) fn observe(&self) -> Vec<ObservedNode> {
        self.nodes
            .values()
            .map(|node| observe(&node.row, &node.state()))
            .collect()
    }

    pub(super) async fn apply(&mut self, action: Action) -> Result<(), ProviderError> {
        let outcome = match action {
            Action::CreateNode(spec) => self.create_node(spec).await,
            Action::UpdateNode(spec) => self.update_node(spec).await,
            Action::DeleteNode(name) => self.delete_node(&name).await,
        };
        // Nothing has changed when it failed, and saying so would have it tried again at once, for ever.
        if outcome.is_ok() {
            self.changed();
        }
        outcome
    }

    async fn create_node(&mut self, spec: NodeSpec) -> Result<(), ProviderError> {
        if self.nodes.contains_key(&spec.name) {
            return Ok(());
        }
        let row = NodeRow {
            spec,
            created: Timestamp::now(),
            deleting: false,
        };
        self.write_node(&row).await?;
        self.keep_node(row, Vec::new());
        Ok(())
    }

    async fn update_node(&mut self, spec: NodeSpec) -> Result<(), ProviderError> {
        let name = spec.name.clone();
        let Some(node) = self.nodes.get(&name) else {
            return Err(ProviderError::Unavailable(format!("node {name} is gone")));
        };
        let mut row = node.row.clone();
        row.spec.labels = spec.labels;
        row.spec.taints = spec.taints;
        self.write_node(&row).await?;
        if let Some(node) = self.nodes.get_mut(&name) {
            node.row = row;
        }
        self.evict(&name).await;
        Ok(())
    }

    /// Deletes the pods that a new `NoExecute` taint drives away.
    async fn evict(&mut self, name: &NodeName) {
        let Some(view) = self.node_view(name) else {
            return;
        };
        let leaving: Vec<String> = self
            .pods_on(name)
            .filter(|pod| is_evicted(&pod.row.manifest.spec, &view))
            .map(|pod| pod.row.uid.clone())
            .collect();
        for uid in leaving {
            if let Err(error) = self.delete_pod(&uid).await {
                tracing::warn!(%error, "a pod could not be evicted");
            }
        }
    }

    async fn delete_node(&mut self, name: &NodeName) -> Result<(), ProviderError> {
        let Some(node) = self.nodes.get(name) else {
            return Ok(());
        };
        if node.row.deleting {
            return Ok(());
        }
        let row = NodeRow {
            deleting: true,
            ..node.row.clone()
        };
        self.write_node(&row).await?;
        if let Some(node) = self.nodes.get_mut(name) {
            node.row = row;
        }
        Ok(())
    }

    async fn write_node(&self, row: &NodeRow) -> Result<(), ProviderError> {
        let written = self.database.put_node(row).await;
        written.map_err(|error| ProviderError::Unavailable(unavailable(&error)))
    }

    /// Takes the next step with nodes that are to go: first their pods, then the node itself.
    pub(super) async fn finish_nodes(&mut self) {
        let leaving: Vec<NodeName> = self
            .nodes
            .values()
            .filter(|node| node.row.deleting)
            .map(|node| node.row.spec.name.clone())
            .collect();
        for name in leaving {
            let pods: Vec<String> = self.pods_on(&name).map(|pod| pod.row.uid.clone()).collect();
            for uid in &pods {
                if let Err(error) = self.delete_pod(uid).await {
                    tracing::warn!(%error, "a pod of a node that goes could not be ended");
                }
            }
            if self.pods_on(&name).next().is_none() && !self.assigning_on(&name) {
                self.remove_node(&name).await;
            }
        }
    }

    async fn remove_node(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.remove(name) else {
            return;
        };
        let row = node.row.clone();
        node.stop().await;
        let folder = NodeFolder::of(&self.settings.nodes.nodes, name)
            .path()
            .to_owned();
        let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(folder)).await;
        let removed = match removed {
            Ok(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        let forgotten = match removed {
            // The row goes last: as long as it is there, the removal is done again.
            Ok(()) => self
                .database
                .delete_node(name)
                .await
                .map_err(|error| error.to_string()),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = forgotten {
            tracing::error!(node = %name, reason, "a node could not be removed; it is tried again");
            self.keep_node(row, Vec::new());
            self.wake_later(std::time::Duration::from_secs(5));
        }
        self.changed();
    }
}

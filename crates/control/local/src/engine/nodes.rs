//! What the engine does about nodes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pool::{Action, NodeName, NodeSpec, ObservedNode, ProviderError};

use super::{Engine, Message, unavailable};
use crate::node::{NodeFolder, observe};
use crate::pod::scheduler::is_evicted;
use crate::store::NodeRow;

/// How long to wait before a node that could not be removed is removed again.
const REMOVE_AGAIN: Duration = Duration::from_secs(5);

impl Engine {
    pub(super) fn observe(&self) -> Vec<Arc<ObservedNode>> {
        self.nodes
            .values()
            .map(|node| Arc::new(observe(&node.row, &node.state())))
            .collect()
    }

    pub(super) async fn apply(&mut self, action: Action) -> Result<(), ProviderError> {
        let outcome = match action {
            Action::CreateNode(spec) => self.create_node(spec).await,
            Action::UpdateNode(spec) => self.update_node(spec).await,
            Action::DeleteNode(name) => self.delete_node(&name).await,
            Action::Resize(pool, _) => Err(ProviderError::Refused(format!(
                "node pool {}: local nodes are made one by one, not by a set of machines",
                pool.pool
            ))),
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
        if row.spec.layout != spec.layout {
            // Before the row: what is not in the row yet is asked for again.
            let folder = NodeFolder::of(&self.settings.nodes.nodes, &name);
            let layout = spec.layout.clone();
            let written = tokio::task::spawn_blocking(move || folder.write_layout(layout.as_ref()));
            let written = written.await.map_err(io::Error::other).flatten();
            written.map_err(|error| {
                ProviderError::Unavailable(format!(
                    "cannot write the layout of node {name}: {error}"
                ))
            })?;
        }
        row.spec.labels = spec.labels;
        row.spec.taints = spec.taints;
        row.spec.layout = spec.layout;
        row.spec.drain = spec.drain;
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
                self.remove_node(&name);
            }
        }
    }

    /// Ends the agent and removes the folder, while everything else goes on.
    fn remove_node(&mut self, name: &NodeName) {
        let node = self.nodes.get_mut(name);
        if let Some(node) = node.filter(|node| !node.is_stopped()) {
            let ended = node.stop();
            self.remove_folder(name, ended);
        }
    }

    /// Removes the folder of a node once its agent has ended.
    pub(super) fn remove_folder(
        &mut self,
        name: &NodeName,
        ended: impl Future<Output = ()> + Send + 'static,
    ) {
        let folder = NodeFolder::of(&self.settings.nodes.nodes, name);
        let (outbox, name) = (self.outbox.clone(), name.clone());
        self.removals.spawn(async move {
            ended.await;
            let outcome = match tokio::fs::remove_dir_all(folder.path()).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
                _ => Ok(()),
            };
            // An engine that has ended removes it at its next start.
            let _ = outbox.send(Message::NodeRemoved { name, outcome });
        });
    }

    pub(super) async fn node_removed(&mut self, name: NodeName, outcome: Result<(), String>) {
        let forgotten = match outcome {
            // The row goes last: as long as it is there, the removal is done again.
            Ok(()) => self
                .database
                .delete_node(&name)
                .await
                .map_err(|error| error.to_string()),
            Err(reason) => Err(reason),
        };
        match forgotten {
            Ok(()) => {
                self.nodes.remove(&name);
                self.changed();
            }
            Err(reason) => {
                tracing::error!(node = %name, reason, "a node could not be removed; it is tried again");
                let outbox = self.outbox.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(REMOVE_AGAIN).await;
                    let _ = outbox.send(Message::RemoveNode { name });
                });
            }
        }
    }
}

//! How pods come to nodes and devices.

use std::collections::BTreeMap;

use pool::{ClusterKey, NodeName};

use super::pods::{REST, has_ended};
use super::{Engine, Message, unavailable};
use crate::kubelet::ledger::{Assignment, Holder};
use crate::kubelet::{AdmissionError, Wish};
use crate::node::{labels, machine};
use crate::pod::scheduler::{NodeView, place};
use crate::store::PodRow;

impl Engine {
    /// Gives every pod that can have one a node, or a reason why not.
    pub(super) fn schedule(&mut self) {
        // Pods whose node has only now been made.
        let waiting: Vec<String> = self
            .pods
            .values()
            .filter(|pod| pod.row.node.is_some() && pod.stop.is_none() && !has_ended(&pod.row))
            .map(|pod| pod.row.uid.clone())
            .collect();
        for uid in waiting {
            self.keep_pod(&uid, false);
        }
        let mut pending: Vec<(u64, String)> = self
            .pods
            .values()
            .filter(|pod| pod.row.node.is_none() && !pod.row.deleting && !pod.resting)
            .filter(|pod| pod.row.failure.is_none())
            .map(|pod| (pod.row.sequence, pod.row.uid.clone()))
            .collect();
        if self.assigning.is_some() || pending.is_empty() {
            return;
        }
        pending.sort();
        let mut clusters: BTreeMap<ClusterKey, Vec<NodeView>> = BTreeMap::new();
        for (_, uid) in pending {
            let Some(pod) = self.pods.get(&uid) else {
                continue;
            };
            let cluster = &pod.row.cluster;
            let views = clusters
                .entry(cluster.clone())
                .or_insert_with(|| self.node_views(cluster));
            let spec = &pod.row.manifest.spec;
            match place(spec, &pod.row.manifest.requests(), views) {
                Ok(view) => {
                    let name = self
                        .nodes
                        .keys()
                        .find(|name| name.as_str() == view.name)
                        .cloned();
                    if let Some(name) = name {
                        self.assign(uid, name);
                        return;
                    }
                }
                Err(reason) => {
                    if let Some(pod) = self.pods.get_mut(&uid) {
                        pod.waiting = reason;
                    }
                }
            }
        }
    }

    fn assign(&mut self, uid: String, node: NodeName) {
        let manager = self
            .nodes
            .get(&node)
            .and_then(|node| node.state().manager.clone());
        let (Some(pod), Some(manager)) = (self.pods.get_mut(&uid), manager) else {
            return;
        };
        pod.waiting = String::new();
        let wishes = wishes(&pod.row);
        self.assigning = Some((uid.clone(), node.clone()));
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            let outcome = manager.assign(&wishes).await;
            let _ = outbox.send(Message::Assigned { uid, node, outcome });
        });
    }

    /// Whether devices of this node may be being chosen at the moment.
    pub(super) fn assigning_on(&self, node: &NodeName) -> bool {
        self.assigning
            .as_ref()
            .is_some_and(|(_, assigning)| assigning == node)
    }

    pub(super) async fn assigned(
        &mut self,
        uid: String,
        node: NodeName,
        outcome: Result<Vec<Assignment>, AdmissionError>,
    ) {
        self.assigning = None;
        let manager = self
            .nodes
            .get(&node)
            .and_then(|node| node.state().manager.clone());
        let leaving = self.nodes.get(&node).is_none_or(|node| node.row.deleting);
        let wanted = self
            .pods
            .get(&uid)
            .filter(|pod| !pod.row.deleting && !leaving);
        let reason = match (outcome, wanted) {
            (Ok(assignments), Some(pod)) => {
                let row = PodRow {
                    node: Some(node),
                    ..pod.row.clone()
                };
                match self.database.put_pod(&row, assignments.clone()).await {
                    Ok(()) => {
                        if let Some(pod) = self.pods.get_mut(&uid) {
                            pod.row = row;
                            pod.assignments = assignments;
                        }
                        self.keep_pod(&uid, false);
                        self.changed();
                        return;
                    }
                    Err(error) => unavailable(&error),
                }
            }
            (Ok(_), None) => "its node is being taken away".to_owned(),
            (Err(error), _) => error.to_string(),
        };
        // Not written down, so not given.
        if let Some(manager) = manager {
            manager.release(&uid).await;
        }
        if let Some(pod) = self.pods.get_mut(&uid) {
            pod.waiting = reason;
            pod.resting = true;
            self.wake_later(REST);
        }
    }

    fn node_views(&self, cluster: &ClusterKey) -> Vec<NodeView> {
        let own = self
            .nodes
            .values()
            .filter(|node| node.row.spec.pool.cluster == *cluster);
        own.filter_map(|node| self.node_view(&node.row.spec.name))
            .collect()
    }

    pub(super) fn node_view(&self, name: &NodeName) -> Option<NodeView> {
        let node = self.nodes.get(name)?;
        let state = node.state();

        let mut free = state
            .manager
            .as_ref()
            .map(|manager| manager.view().borrow().ledger().free())
            .unwrap_or_default();
        // Kubernetes counts processors in thousandths.
        let machine = machine(&node.row);
        for (resource, unit) in [("cpu", 1000), ("memory", 1)] {
            let whole = machine.get(resource).copied().unwrap_or_default();
            let running = self.pods_on(name).filter(|pod| !has_ended(&pod.row));
            let used: u64 = running
                .map(|pod| {
                    pod.row
                        .manifest
                        .requests()
                        .get(resource)
                        .copied()
                        .unwrap_or_default()
                })
                .fold(0, u64::saturating_add);
            free.insert(
                resource.to_owned(),
                whole.saturating_mul(unit).saturating_sub(used),
            );
        }
        Some(NodeView {
            name: name.to_string(),
            ready: state.ready() && !node.row.deleting,
            labels: labels(&node.row, &state),
            taints: node.row.spec.taints.clone(),
            free,
        })
    }
}

fn wishes(row: &PodRow) -> Vec<Wish> {
    let wish = |container: &crate::pod::manifest::Container| Wish {
        holder: Holder {
            pod_uid: row.uid.clone(),
            namespace: row.manifest.metadata.namespace.clone(),
            pod: row.name.to_string(),
            container: container.name.clone(),
        },
        devices: container.devices(),
    };
    row.manifest.spec.containers.iter().map(wish).collect()
}

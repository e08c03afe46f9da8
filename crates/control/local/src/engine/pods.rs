//! What the engine does about pods.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use pool::{ClusterKey, NodeName, PodName, PodPhase, VmSize, WorkloadError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::shown::phase;
use super::{Engine, Message, Pod, unavailable};
use crate::kubelet::ledger::{Assignment, Holder};
use crate::kubelet::{AdmissionError, Wish};
use crate::node::{NodeFolder, labels, machine};
use crate::pod::manifest::Manifest;
use crate::pod::runner::{Driver, PodEvent, PodTask};
use crate::pod::scheduler::{NodeView, place};
use crate::store::{DatabaseError, PodRow};

/// How long a pod whose devices could not be chosen rests before it is tried again.
const REST: Duration = Duration::from_secs(1);

impl Engine {
    /// Takes a pod in that the store knows.
    pub(super) fn adopt(&mut self, pod: Pod) {
        let uid = pod.row.uid.clone();
        let (ended, placed) = (has_ended(&pod.row), pod.row.node.is_some());
        let deleting = pod.row.deleting;
        self.pods.insert(uid.clone(), pod);
        if deleting || (placed && !ended) {
            self.keep_pod(&uid, deleting);
        }
    }

    pub(super) async fn run_pod(
        &mut self,
        cluster: ClusterKey,
        name: PodName,
        manifest: Manifest,
    ) -> Result<pool::Pod, WorkloadError> {
        if let Ok(pod) = self.find(&cluster, &name) {
            if pod.row.deleting {
                return Err(WorkloadError::Conflict(format!(
                    "pod {name} is being deleted: wait until it is gone"
                )));
            }
            if pod.row.manifest == manifest {
                return Ok(self.show(pod));
            }
            return Err(WorkloadError::Conflict(format!(
                "pod {name} is there with another manifest: delete it first, or use another name"
            )));
        }
        let containers = manifest.spec.containers.len();
        let row = PodRow {
            uid: Uuid::new_v4().to_string(),
            cluster,
            name,
            manifest,
            created: Timestamp::now(),
            sequence: self.next_sequence,
            node: None,
            generations: vec![1; containers],
            finals: vec![None; containers],
            failure: None,
            deleting: false,
        };
        self.database
            .put_pod(&row, Vec::new())
            .await
            .map_err(failed)?;
        self.next_sequence += 1;
        let uid = row.uid.clone();
        let pod = Pod {
            statuses: row.finals.clone(),
            row,
            assignments: Vec::new(),
            waiting: String::new(),
            stop: None,
            resting: false,
        };
        self.pods.insert(uid.clone(), pod);
        // So that the answer already says where it goes, or why nowhere.
        self.schedule();
        let pod = self.pods.get(&uid);
        pod.map(|pod| self.show(pod))
            .ok_or_else(|| WorkloadError::Failed("it is gone".to_owned()))
    }

    pub(super) async fn delete_named(
        &mut self,
        cluster: &ClusterKey,
        name: &PodName,
    ) -> Result<(), WorkloadError> {
        let uid = self.find(cluster, name)?.row.uid.clone();
        self.delete_pod(&uid).await.map_err(failed)
    }

    /// Begins to end a pod. It is there until its processes are gone.
    pub(super) async fn delete_pod(&mut self, uid: &str) -> Result<(), DatabaseError> {
        let Some(pod) = self.pods.get(uid) else {
            return Ok(());
        };
        if pod.row.deleting {
            return Ok(());
        }
        let row = PodRow {
            deleting: true,
            ..pod.row.clone()
        };
        self.database.put_pod(&row, Vec::new()).await?;
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.row = row;
        }
        self.keep_pod(uid, true);
        self.changed();
        Ok(())
    }

    /// Gives a pod its task, or stops the one it has.
    fn keep_pod(&mut self, uid: &str, stop: bool) {
        let Some(pod) = self.pods.get(uid) else {
            return;
        };
        if let Some(token) = &pod.stop {
            if stop {
                token.cancel();
            }
            return;
        }
        let token = CancellationToken::new();
        if stop {
            token.cancel();
        }
        let node = pod.row.node.as_ref().and_then(|name| self.nodes.get(name));
        let manager = node.and_then(|node| node.state().manager.clone());
        if manager.is_none() && !stop {
            // The node is not made yet; it says when it is.
            return;
        }
        let driver = match node.map(|node| VmSize::find(&node.row.spec.vm_size)) {
            Some(Ok(size)) if size.gpus.is_none() => Driver::None,
            _ if self.settings.nodes.real_gpus => Driver::Machine,
            Some(Ok(_)) => {
                let name = pod.row.node.as_ref();
                name.map_or(Driver::None, |name| {
                    Driver::Simulated(
                        NodeFolder::of(&self.settings.nodes.nodes, name).driver_root(),
                    )
                })
            }
            _ => Driver::None,
        };
        let (outbox, owner) = (self.outbox.clone(), uid.to_owned());
        let task = PodTask {
            row: pod.row.clone(),
            assignments: pod.assignments.clone(),
            manager,
            driver,
            settings: self.settings.pods.clone(),
            stop: token.clone(),
            report: move |event| {
                let _ = outbox.send(Message::Pod {
                    uid: owner.clone(),
                    event,
                });
            },
        };
        tokio::spawn(task.run());
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.stop = Some(token);
        }
    }

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
        self.assigning = Some(uid.clone());
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            let outcome = manager.assign(&wishes).await;
            let _ = outbox.send(Message::Assigned { uid, node, outcome });
        });
    }

    /// Whether devices of this node may be being chosen at the moment.
    pub(super) fn assigning_on(&self, _node: &NodeName) -> bool {
        self.assigning.is_some()
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

    pub(super) async fn pod_event(&mut self, uid: &str, event: PodEvent) {
        let Some(pod) = self.pods.get_mut(uid) else {
            return;
        };
        match event {
            PodEvent::Statuses(statuses) => {
                pod.statuses = statuses;
                if phase(pod) == PodPhase::Running {
                    pod.waiting.clear();
                }
            }
            PodEvent::Waiting(reason) => pod.waiting = reason,
            PodEvent::NextGeneration {
                container,
                generation,
                written,
            } => {
                let mut row = pod.row.clone();
                if let Some(known) = row.generations.get_mut(container) {
                    *known = generation;
                }
                match self.database.put_pod(&row, Vec::new()).await {
                    Ok(()) => {
                        pod.row = row;
                        let _ = written.send(());
                    }
                    // Nothing is answered, and so it is asked again.
                    Err(error) => {
                        unavailable(&error);
                    }
                }
            }
            PodEvent::Failed(reason) => {
                let row = PodRow {
                    failure: Some(reason.clone()),
                    ..pod.row.clone()
                };
                self.ended(uid, row, PodEvent::Failed(reason)).await;
            }
            PodEvent::Ended(finals) => {
                pod.statuses.clone_from(&finals);
                let row = PodRow {
                    finals: finals.clone(),
                    ..pod.row.clone()
                };
                self.ended(uid, row, PodEvent::Ended(finals)).await;
            }
            PodEvent::Gone => self.gone(uid).await,
        }
        self.changed();
    }

    /// Nothing of the pod runs any more: what it held is free, once that is written down.
    async fn ended(&mut self, uid: &str, row: PodRow, event: PodEvent) {
        if let Err(error) = self.database.put_ended_pod(&row).await {
            // Its devices stay held until it is.
            unavailable(&error);
            self.again(uid, event);
            return;
        }
        let node = row.node.clone();
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.row = row;
            pod.waiting = String::new();
        }
        self.release(node.as_ref(), uid).await;
    }

    async fn gone(&mut self, uid: &str) {
        if let Err(error) = self.database.delete_pod(uid).await {
            unavailable(&error);
            self.again(uid, PodEvent::Gone);
            return;
        }
        let node = self.pods.remove(uid).and_then(|pod| pod.row.node);
        self.release(node.as_ref(), uid).await;
    }

    /// Something that could not be written down now is told again a little later.
    fn again(&self, uid: &str, event: PodEvent) {
        let (outbox, uid) = (self.outbox.clone(), uid.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(REST).await;
            let _ = outbox.send(Message::Pod { uid, event });
        });
    }

    async fn release(&self, node: Option<&NodeName>, uid: &str) {
        let manager = node
            .and_then(|node| self.nodes.get(node))
            .and_then(|node| node.state().manager.clone());
        if let Some(manager) = manager {
            manager.release(uid).await;
        }
    }

    pub(super) fn pods_on<'a>(&'a self, node: &'a NodeName) -> impl Iterator<Item = &'a Pod> {
        self.pods
            .values()
            .filter(move |pod| pod.row.node.as_ref() == Some(node))
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

/// Nothing of the pod runs, and nothing of it will.
pub(super) fn has_ended(row: &PodRow) -> bool {
    row.failure.is_some() || (!row.finals.is_empty() && row.finals.iter().all(Option::is_some))
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

#[allow(clippy::needless_pass_by_value)] // Its only use is `map_err(failed)`.
fn failed(error: DatabaseError) -> WorkloadError {
    WorkloadError::Failed(unavailable(&error))
}

//! What the engine does about pods.

use std::time::Duration;

use jiff::Timestamp;
use pool::{ClusterKey, NodeName, PodName, PodPhase, VmSize, WorkloadError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::shown::phase;
use super::{Engine, Message, Pod, unavailable};
use crate::node::NodeFolder;
use crate::pod::manifest::Manifest;
use crate::pod::runner::{Driver, PodEvent, PodTask};
use crate::store::{DatabaseError, PodRow};

/// How long a pod whose devices could not be chosen rests before it is tried again.
pub(super) const REST: Duration = Duration::from_secs(1);

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
    pub(super) fn keep_pod(&mut self, uid: &str, stop: bool) {
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

    pub(super) async fn release(&mut self, node: Option<&NodeName>, uid: &str) {
        let Some(node) = node.and_then(|node| self.nodes.get_mut(node)) else {
            return;
        };
        match node.state().manager.clone() {
            Some(manager) => manager.release(uid).await,
            // It will be made with what was held when the node was taken over.
            None => node.unreleased.push(uid.to_owned()),
        }
    }

    /// Gives back what was given back before its node had a device manager.
    pub(super) async fn release_late(&mut self) {
        for node in self.nodes.values_mut() {
            if node.unreleased.is_empty() {
                continue;
            }
            if let Some(manager) = node.state().manager.clone() {
                for uid in std::mem::take(&mut node.unreleased) {
                    manager.release(&uid).await;
                }
            }
        }
    }

    pub(super) fn pods_on<'a>(&'a self, node: &'a NodeName) -> impl Iterator<Item = &'a Pod> {
        self.pods
            .values()
            .filter(move |pod| pod.row.node.as_ref() == Some(node))
    }
}

/// Nothing of the pod runs, and nothing of it will.
pub(super) fn has_ended(row: &PodRow) -> bool {
    row.failure.is_some() || (!row.finals.is_empty() && row.finals.iter().all(Option::is_some))
}

#[allow(clippy::needless_pass_by_value)] // Its only use is `map_err(failed)`.
fn failed(error: DatabaseError) -> WorkloadError {
    WorkloadError::Failed(unavailable(&error))
}

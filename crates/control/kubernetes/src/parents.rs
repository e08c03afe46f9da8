//! The operator's side of the records of ARM clients: clusters and groups on their way, and operations.
//!
//! Everything here starts from what the API server has, and does again what is half done: a front or an operator that was
//! killed leaves nothing for ever. Node pools are looked at by the operator's own rounds.

pub(crate) mod fate;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use pool::{
    Change, Cluster, ControllerError, Group, Key, Kind, Operation, OperationStatus,
    OperationTarget, ProvisioningState, Store, StoreError, Stored,
};

use crate::backend::{Arm, KubernetesBackend};
use crate::convert;
use crate::record_object::RecordObject;
use crate::records::Records;
use fate::Target;

/// How long whoever begins an operation has to let its target name it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long an operation is kept after its end, for those who ask late.
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// How many operations are forgotten in a round, at most.
const AT_ONCE: usize = 100;

/// Looks after clusters, groups and operations.
pub(crate) struct Parents {
    arm: Arm,
    controller: pool::Controller<Records, Arc<KubernetesBackend>>,
    /// Since when operations are seen that nothing names.
    unnamed: BTreeMap<String, Instant>,
}

/// How a round went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing is on its way.
    AtRest,
    /// Something is, and is to be looked at again soon.
    Again,
}

impl Parents {
    pub(crate) fn new(arm: Arm, backend: Arc<KubernetesBackend>) -> Self {
        Self {
            controller: pool::Controller::new(arm.records.clone(), backend),
            arm,
            unnamed: BTreeMap::new(),
        }
    }

    /// Looks at everything that is on its way once. What does not work is logged, and tried in the next round.
    pub(crate) async fn round(&mut self, at: Instant, now: Timestamp) -> Look {
        let mut look = Look::AtRest;
        for kind in [Kind::Cluster, Kind::Group] {
            for object in self.arm.all(kind) {
                if !is_on_its_way(&object) {
                    continue;
                }
                look = Look::Again;
                if let Err(error) = self.bring(kind, &object).await {
                    let path = &object.spec.path;
                    tracing::warn!(%error, "trying {kind} {path} again");
                }
            }
        }
        match self.operations(at, now).await {
            Ok(Look::AtRest) => look,
            Ok(Look::Again) => Look::Again,
            Err(error) => {
                tracing::warn!(%error, "trying the ends of operations again");
                Look::Again
            }
        }
    }

    /// Finishes what was asked together with a record, and then brings the record further.
    async fn bring(&self, kind: Kind, object: &RecordObject) -> Result<(), ControllerError> {
        let path = &object.spec.path;
        if !object.status.pending.is_empty() {
            self.arm.records.settle_pending(kind, path).await?;
        }
        let unreadable = |error: serde_json::Error| StoreError::Unreadable {
            kind,
            path: path.clone(),
            reason: error.to_string(),
        };
        let body = object.raw(kind)?.body;
        let _ = if kind == Kind::Group {
            let group: Group = serde_json::from_value(body).map_err(unreadable)?;
            self.controller.round_of_group(&group.key).await?
        } else {
            let cluster: Cluster = serde_json::from_value(body).map_err(unreadable)?;
            self.controller.round_of_cluster(&cluster.key).await?
        };
        Ok(())
    }

    /// Ends the operations whose end nobody told, and forgets those that ended long ago.
    async fn operations(&mut self, at: Instant, now: Timestamp) -> Result<Look, StoreError> {
        let mut look = Look::AtRest;
        let mut unnamed = BTreeSet::new();
        let mut forgotten = 0;
        for object in self.arm.all(Kind::Operation) {
            // One that can't be read holds up no other.
            let Ok(operation) = serde_json::from_str::<Operation>(&object.spec.record) else {
                continue;
            };
            let revision = object.revision();
            if operation.status != OperationStatus::InProgress {
                let is_old = operation
                    .end
                    .is_none_or(|end| now.duration_since(end) > KEPT);
                if is_old && forgotten < AT_ONCE {
                    forgotten += 1;
                    self.commit(Change::delete(&Stored {
                        record: operation,
                        revision,
                    }))
                    .await?;
                }
                continue;
            }
            look = Look::Again;
            let target = self.target(&operation.target).await?;
            let asked = object.spec.asked.as_deref();
            let path = &object.spec.path;
            let since = *self.unnamed.entry(path.clone()).or_insert(at);
            let is_old = at.saturating_duration_since(since) >= PATIENCE;
            if target.as_ref().and_then(|it| it.operation) != Some(operation.key.id) {
                unnamed.insert(path.clone());
            }
            if let Some(ended) = fate::of(&operation, asked, target.as_ref(), is_old, now) {
                tracing::info!(operation = path, status = ?ended.status, "an operation is told its end");
                self.commit(Change::update(&ended, revision)?).await?;
            }
        }
        // Whoever was named has all its time again.
        self.unnamed.retain(|path, _| unnamed.contains(path));
        Ok(look)
    }

    /// Commits. If somebody was faster, the watch tells of it.
    async fn commit(&self, change: Change) -> Result<(), StoreError> {
        match self.arm.records.commit(vec![change]).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What there is of an operation's target, read after the operation was.
    async fn target(&self, target: &OperationTarget) -> Result<Option<Target>, StoreError> {
        let (kind, path) = match target {
            OperationTarget::NodePool(key) => {
                let object = self.arm.records.pool_object(&key.path()).await?;
                return Ok(object.map(|object| Target {
                    operation: convert::operation(&object),
                    last: object.status.and_then(|status| status.last_operation),
                }));
            }
            OperationTarget::Cluster(key) => (Kind::Cluster, key.path()),
            OperationTarget::Group(key) => (Kind::Group, key.path()),
        };
        let found = self.arm.records.record_object(kind, &path).await?;
        Ok(found.map(|object| Target {
            operation: object.status.operation.and_then(|id| id.parse().ok()),
            last: object.status.last_operation,
        }))
    }
}

/// Whether something is to be done about a cluster or a group, or may have to be. A cluster that failed gets better with its
/// pools.
fn is_on_its_way(object: &RecordObject) -> bool {
    let settled = [
        ProvisioningState::Succeeded.to_string(),
        ProvisioningState::Canceled.to_string(),
    ];
    !object.status.pending.is_empty()
        || object.status.operation.is_some()
        || !settled.contains(&object.status.state)
}

#[cfg(test)]
mod tests;

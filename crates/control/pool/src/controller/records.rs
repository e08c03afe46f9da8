//! What the controller does about one record.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Controller, ControllerError, Standing};
use crate::key::Key;
use crate::node::{NodePhase, ObservedNode};
use crate::operation::OperationError;
use crate::power::PowerState;
use crate::provider::{Action, NodeProvider, ProviderError};
use crate::reconcile::{Decision, is_at_rest, reconcile, reconcile_cluster, reconcile_group};
use crate::resource::{Cluster, Group, NodePool, ProvisioningState};
use crate::rollout::Reason;
use crate::store::{Change, Kind, Record, Scope, Store, StoreError, Stored, Unreadable};
use crate::transition::{self, Provisioned};

/// How much is done for a pool in one look: thousands of nodes take minutes, and a person is to see how far it has come.
const AT_ONCE: usize = 250;

impl<S: Store, P: NodeProvider> Controller<S, P> {
    pub(super) async fn node_pool(
        &self,
        stored: &Stored<NodePool>,
        cluster: PowerState,
        nodes: &[Arc<ObservedNode>],
    ) -> Result<Standing, ControllerError> {
        let pool = &stored.record;
        let supply = match self.provider.supply(pool).await {
            Ok(supply) => supply,
            Err(error) => return self.without_supply(stored, &error).await,
        };
        let decision = reconcile(&pool.within(cluster), nodes, &supply);
        if decision.gone {
            self.remove(stored).await?;
            return Ok(Standing::AtRest);
        }
        let Decision {
            mut actions,
            mut state,
            mut message,
            rollout,
            leaving,
            seen,
            ..
        } = decision;
        if rollout != pool.rollout || leaving != pool.leaving {
            // What the actions rest on is kept first: killed in between, the next look must not decide otherwise.
            let record = NodePool {
                rollout,
                leaving,
                ..pool.clone()
            };
            self.commit(vec![Change::update(&record, stored.revision)?])
                .await?;
            return Ok(Standing::Again);
        }
        let mut standing = if actions.len() > AT_ONCE {
            actions.truncate(AT_ONCE);
            Standing::Again
        } else if state.is_terminal() && state != ProvisioningState::Failed {
            Standing::AtRest
        } else {
            Standing::OnItsWay
        };
        if let Err(error) = self.provider.apply_all(actions).await {
            standing = Standing::Retry;
            message = error.to_string();
            if matches!(error, ProviderError::Refused(_)) && state != ProvisioningState::Deleting {
                state = ProvisioningState::Failed;
            }
        }
        let seen = Stored {
            record: NodePool {
                seen,
                ..pool.clone()
            },
            revision: stored.revision,
        };
        let code = "ReconcileAgentPoolFailed";
        self.settle_from(&seen, pool, state, message, code).await?;
        Ok(standing)
    }

    /// Says of a pool why nothing can be done about its nodes.
    async fn without_supply(
        &self,
        stored: &Stored<NodePool>,
        error: &ProviderError,
    ) -> Result<Standing, ControllerError> {
        let mut seen = stored.clone();
        seen.record.seen.reason = Reason::ProviderFailed;
        let state = match (error, stored.record.provisioning_state) {
            (_, ProvisioningState::Deleting) => ProvisioningState::Deleting,
            (ProviderError::Refused(_), _) => ProvisioningState::Failed,
            (ProviderError::Unavailable(_), state) => state,
        };
        self.settle_from(
            &seen,
            &stored.record,
            state,
            error.to_string(),
            "ReconcileAgentPoolFailed",
        )
        .await?;
        Ok(Standing::Retry)
    }

    /// What is to be done about a cluster. The answer is the paths of its pools that have to be looked at for it.
    pub(super) async fn cluster(
        &self,
        stored: &Stored<Cluster>,
    ) -> Result<Vec<String>, ControllerError> {
        let cluster = &stored.record;
        if is_at_rest(cluster) {
            return Ok(Vec::new());
        }
        let scope = Scope::cluster(&cluster.key);
        let pools = self
            .store
            .list_page::<NodePool>(&scope, None, usize::MAX)
            .await?;
        let members: Vec<&NodePool> = pools.records.iter().map(|pool| &pool.record).collect();
        let mut decision = reconcile_cluster(cluster, &members);
        if decision.gone {
            let Some(unreadable) = pools.unreadable.first() else {
                self.remove(stored).await?;
                return Ok(Vec::new());
            };
            decision.message = stays(unreadable);
        }
        for pool in &pools.records {
            if decision.delete_pools.contains(&pool.record.key) {
                self.delete_with_parent(pool, cluster).await?;
            }
            if decision.resume_pools.contains(&pool.record.key) {
                let mut record = pool.record.clone();
                record.enter(cluster.provisioning_state, None);
                self.commit(vec![Change::update(&record, pool.revision)?])
                    .await?;
            }
        }
        let code = "ReconcileManagedClusterFailed";
        self.settle_from(stored, cluster, decision.state, decision.message, code)
            .await?;
        let is_of_another_power =
            |pool: &&&NodePool| pool.seen.power != pool.spec.power.within(cluster.power);
        let differing = members.iter().filter(is_of_another_power);
        Ok(differing.map(|pool| pool.key.path()).collect())
    }

    pub(super) async fn group(&self, stored: &Stored<Group>) -> Result<(), ControllerError> {
        let group = &stored.record;
        if group.provisioning_state != ProvisioningState::Deleting {
            return Ok(());
        }
        let scope = Scope::group(&group.key);
        let clusters = self
            .store
            .list_page::<Cluster>(&scope, None, usize::MAX)
            .await?;
        let members: Vec<&Cluster> = clusters.records.iter().map(|it| &it.record).collect();
        let decision = reconcile_group(group, &members);
        if decision.gone {
            let Some(unreadable) = clusters.unreadable.first() else {
                self.remove_deployments(group).await?;
                return self.remove(stored).await;
            };
            tracing::error!(group = %group.key, "{}", stays(unreadable));
        }
        for cluster in &clusters.records {
            if decision.delete_clusters.contains(&cluster.record.key) {
                self.delete_with_parent(cluster, group).await?;
            }
        }
        Ok(())
    }

    /// Takes away what is kept of a group's deployments. None can be added any more.
    async fn remove_deployments(&self, group: &Group) -> Result<(), ControllerError> {
        let scope = Scope::group(&group.key);
        let kind = Kind::Deployment;
        let page = self.store.page(kind, &scope, None, usize::MAX).await?;
        for raw in page.records {
            let change = Change::Delete {
                kind,
                path: raw.path,
                expected: raw.revision,
            };
            self.commit(vec![change]).await?;
        }
        for Unreadable { path, .. } in page.unreadable {
            if let Some(expected) = self.store.revision_of(kind, &path).await? {
                let change = Change::Delete {
                    kind,
                    path,
                    expected,
                };
                self.commit(vec![change]).await?;
            }
        }
        Ok(())
    }

    /// Takes away the nodes of a pool that is no more.
    pub(super) async fn orphans(&self, nodes: &[Arc<ObservedNode>]) -> Standing {
        let mut standing = Standing::AtRest;
        for node in nodes {
            if node.phase == NodePhase::Deleting {
                continue;
            }
            let name = node.spec.name.clone();
            if let Err(error) = self.provider.apply(Action::DeleteNode(name)).await {
                tracing::warn!(node = %node.spec.name, %error, "a node without a pool stays");
                standing = Standing::Retry;
            }
        }
        standing
    }

    /// Writes where a record, which was read as `before`, is on its way, and ends its operation when it got there.
    async fn settle_from<R: Settled>(
        &self,
        stored: &Stored<R>,
        before: &R,
        state: ProvisioningState,
        message: String,
        code: &str,
    ) -> Result<(), ControllerError> {
        let mut record = stored.record.clone();
        let operation = record.operation();
        let mut changes = Vec::new();
        if state.is_terminal() && operation.is_some() {
            let now = Timestamp::now();
            let error = |message| OperationError {
                code: code.to_owned(),
                message,
            };
            changes = match state {
                ProvisioningState::Succeeded => {
                    transition::finish(&self.store, &record, None, now).await?
                }
                ProvisioningState::Canceled => {
                    transition::cancel(&self.store, &record, message.clone(), now).await?
                }
                _ => {
                    let error = Some(error(message.clone()));
                    transition::finish(&self.store, &record, error, now).await?
                }
            };
            record.enter(state, None);
        } else {
            record.enter(state, operation);
        }
        record.say(message);
        if record == *before {
            return Ok(());
        }
        changes.push(Change::update(&record, stored.revision)?);
        self.commit(changes).await
    }

    /// Takes a record away, and ends its operation well.
    async fn remove<R: Provisioned>(&self, stored: &Stored<R>) -> Result<(), ControllerError> {
        let mut changes =
            transition::finish(&self.store, &stored.record, None, Timestamp::now()).await?;
        changes.push(Change::delete(stored));
        self.commit(changes).await
    }

    /// Starts the deletion of a record because what it is in is being deleted.
    async fn delete_with_parent<R: Provisioned, Q: Provisioned>(
        &self,
        stored: &Stored<R>,
        parent: &Q,
    ) -> Result<(), ControllerError> {
        let mut record = stored.record.clone();
        let by = parent.operation().unwrap_or_default();
        let mut changes = transition::preempt(&self.store, &record, by, Timestamp::now()).await?;
        record.enter(ProvisioningState::Deleting, None);
        changes.push(Change::update(&record, stored.revision)?);
        self.commit(changes).await
    }

    /// Commits. If somebody was faster, their change is looked at next.
    pub(super) async fn commit(&self, changes: Vec<Change>) -> Result<(), ControllerError> {
        match self.store.commit(changes).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Why something that is to be deleted is still there.
fn stays(held_by: &Unreadable) -> String {
    let Unreadable { path, reason } = held_by;
    format!("can't go before {path}, which this version of migpool can't read: {reason}")
}

/// A record that says what is going on.
trait Settled: Provisioned + PartialEq + Record {
    fn say(&mut self, message: String);
}

impl Settled for NodePool {
    fn say(&mut self, message: String) {
        self.message = message;
    }
}

impl Settled for Cluster {
    fn say(&mut self, message: String) {
        self.message = message;
    }
}

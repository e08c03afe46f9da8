//! The loop that brings what is there to what is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::key::PoolKey;
use crate::node::{NodePhase, ObservedNode};
use crate::operation::OperationError;
use crate::power::PowerState;
use crate::provider::{Action, NodeProvider, ProviderError};
use crate::reconcile::{Decision, reconcile, reconcile_cluster, reconcile_group};
use crate::resource::{Cluster, Group, NodePool, ProvisioningState};
use crate::store::{Change, Record, Scope, Store, StoreError, Stored};
use crate::transition::{self, Provisioned};

/// How long to wait before something that did not work is tried again: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MOST: Duration = Duration::from_secs(30);

/// Reconciles every pool, cluster and group of a store with the nodes of a provider.
///
/// It keeps nothing in memory from one round to the next: killed at any moment and started again, it goes on where it was.
/// There is one controller per store.
#[derive(Debug)]
pub struct Controller<S, P> {
    store: S,
    provider: P,
}

/// Why a round of the controller stopped early. The next one starts anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControllerError {
    /// The store did not work.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    /// The provider could not say what is there.
    #[error("the nodes can't be seen: {0}")]
    Provider(#[from] ProviderError),
}

/// How a round went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Round {
    /// Everything was done that could be done now.
    Complete,
    /// Something is to be tried again, though nothing may change until then.
    Retry,
    /// Only a part was done; the rest is for the next round, at once.
    Again,
}

impl Round {
    /// How two parts of a round went together.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Again, _) | (_, Self::Again) => Self::Again,
            (Self::Retry, _) | (_, Self::Retry) => Self::Retry,
            (Self::Complete, Self::Complete) => Self::Complete,
        }
    }
}

impl<S: Store, P: NodeProvider> Controller<S, P> {
    /// A controller over a store and a provider.
    pub fn new(store: S, provider: P) -> Self {
        Self { store, provider }
    }

    /// Goes round after every change of the store or the nodes, until `shutdown` resolves.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let mut records = self.store.store_changes();
        let mut nodes = self.provider.node_changes();
        let mut pause = RETRY_FIRST;
        tokio::pin!(shutdown);
        loop {
            // Before the round: what changes during it is for the next one.
            records.mark_unchanged();
            nodes.mark_unchanged();
            let again = match self.round().await {
                Ok(Round::Complete) => false,
                Ok(Round::Again) => continue,
                Ok(Round::Retry) => true,
                Err(error) => {
                    tracing::warn!(%error, "a round of the controller stopped early");
                    true
                }
            };
            let retry = async {
                if again {
                    tokio::time::sleep(pause).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = &mut shutdown => return,
                () = retry => pause = (pause * 2).min(RETRY_MOST),
                changed = records.changed() => {
                    pause = RETRY_FIRST;
                    if changed.is_err() { return; }
                }
                changed = nodes.changed() => {
                    pause = RETRY_FIRST;
                    if changed.is_err() { return; }
                }
            }
        }
    }

    /// Looks at everything once and does what is to be done.
    ///
    /// # Errors
    /// If the store or the provider does not work. What was done before stays done.
    pub async fn round(&self) -> Result<Round, ControllerError> {
        // Nodes first: a node whose pool is not in the list that is read after it has no pool any more.
        let nodes = self.provider.observe().await?;
        let everything = Scope::everything();
        let groups = self.store.list::<Group>(&everything).await?;
        let clusters = self.store.list::<Cluster>(&everything).await?;
        let pools = self.store.list::<NodePool>(&everything).await?;

        let mut round = Round::Complete;
        let power: BTreeMap<_, _> = clusters
            .iter()
            .map(|cluster| (&cluster.record.key, cluster.record.power))
            .collect();
        for pool in &pools {
            let power = power.get(&pool.record.key.cluster).copied();
            let done = self.node_pool(pool, power.unwrap_or_default(), &nodes);
            round = round.and(done.await?);
        }
        for cluster in &clusters {
            let members: Vec<_> = pools
                .iter()
                .filter(|pool| pool.record.key.cluster == cluster.record.key)
                .collect();
            self.cluster(cluster, &members).await?;
        }
        for group in &groups {
            let members: Vec<_> = clusters
                .iter()
                .filter(|c| c.record.key.group == group.record.key)
                .collect();
            self.group(group, &members).await?;
        }
        Ok(round.and(self.orphans(&pools, &nodes).await))
    }

    /// Looks at one pool alone, among these nodes, and does what is to be done about it.
    ///
    /// # Errors
    /// As [`Self::round`].
    pub async fn round_of_pool(
        &self,
        key: &PoolKey,
        nodes: &[Arc<ObservedNode>],
    ) -> Result<Round, ControllerError> {
        let Some(pool) = self.store.get::<NodePool>(key).await? else {
            return Ok(Round::Complete);
        };
        let cluster = self.store.get::<Cluster>(&key.cluster).await?;
        let power = cluster.map(|cluster| cluster.record.power);
        self.node_pool(&pool, power.unwrap_or_default(), nodes)
            .await
    }

    async fn node_pool(
        &self,
        stored: &Stored<NodePool>,
        cluster: PowerState,
        nodes: &[Arc<ObservedNode>],
    ) -> Result<Round, ControllerError> {
        let pool = &stored.record;
        let supply = self.provider.supply(pool).await?;
        let decision = reconcile(&pool.within(cluster), nodes, &supply);
        if decision.gone {
            self.remove(stored).await?;
            return Ok(Round::Complete);
        }
        let Decision {
            actions,
            mut state,
            mut message,
            rollout,
            leaving,
            seen,
            ..
        } = decision;
        let mut round = Round::Complete;
        if rollout != pool.rollout || leaving != pool.leaving {
            // What the actions rest on is kept first: killed in between, the next round must not decide otherwise.
            let record = NodePool {
                rollout,
                leaving,
                ..pool.clone()
            };
            self.commit(vec![Change::update(&record, stored.revision)?])
                .await?;
            return Ok(Round::Again);
        }
        if let Err(error) = self.provider.apply_all(actions).await {
            round = Round::Retry;
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
        self.settle_from(
            &seen,
            &stored.record,
            state,
            message,
            "ReconcileAgentPoolFailed",
        )
        .await?;
        Ok(round)
    }

    async fn cluster(
        &self,
        stored: &Stored<Cluster>,
        pools: &[&Stored<NodePool>],
    ) -> Result<(), ControllerError> {
        let members: Vec<&NodePool> = pools.iter().map(|pool| &pool.record).collect();
        let decision = reconcile_cluster(&stored.record, &members);
        if decision.gone {
            return self.remove(stored).await;
        }
        for pool in pools {
            if decision.delete_pools.contains(&pool.record.key) {
                self.delete_with_parent(*pool, &stored.record).await?;
            }
        }
        self.settle(
            stored,
            decision.state,
            decision.message,
            "ReconcileManagedClusterFailed",
        )
        .await
    }

    async fn group(
        &self,
        stored: &Stored<Group>,
        clusters: &[&Stored<Cluster>],
    ) -> Result<(), ControllerError> {
        let members: Vec<&Cluster> = clusters.iter().map(|cluster| &cluster.record).collect();
        let decision = reconcile_group(&stored.record, &members);
        if decision.gone {
            return self.remove(stored).await;
        }
        for cluster in clusters {
            if decision.delete_clusters.contains(&cluster.record.key) {
                self.delete_with_parent(*cluster, &stored.record).await?;
            }
        }
        Ok(())
    }

    /// Takes away nodes whose pool is no more.
    async fn orphans(&self, pools: &[Stored<NodePool>], nodes: &[Arc<ObservedNode>]) -> Round {
        let known: BTreeSet<_> = pools.iter().map(|pool| &pool.record.key).collect();
        let mut round = Round::Complete;
        for node in nodes {
            if node.phase == NodePhase::Deleting || known.contains(&node.spec.pool) {
                continue;
            }
            let name = node.spec.name.clone();
            if let Err(error) = self.provider.apply(Action::DeleteNode(name)).await {
                tracing::warn!(node = %node.spec.name, %error, "a node without a pool stays");
                round = Round::Retry;
            }
        }
        round
    }

    /// Writes where a record is on its way, and ends its operation when it got there.
    async fn settle<R: Settled>(
        &self,
        stored: &Stored<R>,
        state: ProvisioningState,
        message: String,
        code: &str,
    ) -> Result<(), ControllerError> {
        self.settle_from(stored, &stored.record, state, message, code)
            .await
    }

    /// The same of a record that was changed since it was read as `before`.
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

    /// Commits. If somebody was faster, their change starts the next round.
    async fn commit(&self, changes: Vec<Change>) -> Result<(), ControllerError> {
        match self.store.commit(changes).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
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

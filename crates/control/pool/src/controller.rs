//! The loop that brings what is there to what is wanted.
//!
//! A change is looked at alone, with what holds it: however many records there are, it costs the same. Now and then
//! everything is looked at, page by page, beside what changes meanwhile.

mod pass;
mod queue;
mod records;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::{Instant, sleep_until};

use self::queue::Queue;
use crate::key::{ClusterKey, GroupKey, PoolKey};
use crate::node::ObservedNode;
use crate::provider::{NodeProvider, ProviderError};
use crate::resource::{Cluster, Group, NodePool};
use crate::store::{Changed, Store, StoreError};

/// How long to wait before something that did not work is tried again: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MOST: Duration = Duration::from_secs(30);
/// How long after it began the last look at everything is followed by the next.
const PASS_EVERY: Duration = Duration::from_mins(10);

/// Reconciles every pool, cluster and group of a store with the nodes of a provider, and forgets operations that ended long
/// ago.
///
/// What it keeps in memory only says what to look at first, and it begins with a look at everything: killed at any moment
/// and started again, it goes on where it was. There is one controller per store. A record that can't be read is named in
/// the log and left alone, with its nodes.
#[derive(Debug)]
pub struct Controller<S, P> {
    store: S,
    provider: P,
}

/// Why the controller stopped early. What is left is done the next time.
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

/// How it stands with a pool that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// As asked, given up, or gone.
    AtRest,
    /// It waits for its nodes.
    OnItsWay,
    /// The rest is to be done at once, after another look.
    Again,
    /// Something did not work, and is to be tried again.
    Retry,
}

impl From<Standing> for Round {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::AtRest | Standing::OnItsWay => Self::Complete,
            Standing::Again => Self::Again,
            Standing::Retry => Self::Retry,
        }
    }
}

impl<S: Store, P: NodeProvider> Controller<S, P> {
    /// A controller over a store and a provider.
    pub fn new(store: S, provider: P) -> Self {
        Self { store, provider }
    }

    /// Looks at everything, then at what changes of the store and of the nodes, until `shutdown` resolves.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let mut told = self.store.record_changes();
        let mut records = self.store.store_changes();
        let mut nodes = self.provider.node_changes();
        let mut queue = Queue::default();
        queue.start_pass();
        let mut next_pass = Instant::now() + PASS_EVERY;
        let mut pause = RETRY_FIRST;
        let mut retry_at: Option<Instant> = None;
        tokio::pin!(shutdown);
        loop {
            // Before the step: what changes during it is for the next one.
            records.mark_unchanged();
            nodes.mark_unchanged();
            take_changes(told.as_mut(), &mut queue);
            let step = tokio::select! {
                biased;
                () = &mut shutdown => return,
                step = self.step(&mut queue) => step,
            };
            match step {
                Ok(()) if queue.has_more() => {
                    // What answers people may share this thread.
                    tokio::task::yield_now().await;
                    continue;
                }
                Ok(()) if !queue.has_later() => retry_at = None,
                Ok(()) => retry_at = retry_at.or_else(|| Some(Instant::now() + pause)),
                Err(error) => {
                    tracing::warn!(%error, "the controller can't go on; it tries again");
                    retry_at = retry_at.or_else(|| Some(Instant::now() + pause));
                }
            }
            let retry = async {
                match retry_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut shutdown => return,
                () = retry => {
                    retry_at = None;
                    pause = (pause * 2).min(RETRY_MOST);
                    queue.try_again();
                }
                () = sleep_until(next_pass) => {
                    next_pass = Instant::now() + PASS_EVERY;
                    queue.start_pass();
                }
                changed = records.changed() => {
                    pause = RETRY_FIRST;
                    if changed.is_err() { return; }
                    if told.is_none() { queue.start_pass(); }
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
        let mut queue = Queue::default();
        queue.start_pass();
        while queue.pass.is_some() {
            self.step(&mut queue).await?;
        }
        Ok(queue.round())
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
        let standing = self.node_pool(&pool, power.unwrap_or_default(), nodes);
        Ok(standing.await?.into())
    }

    /// Looks at one cluster alone and does what is to be done about it. Its pools have to be looked at after it.
    ///
    /// # Errors
    /// As [`Self::round`].
    pub async fn round_of_cluster(&self, key: &ClusterKey) -> Result<Round, ControllerError> {
        if let Some(cluster) = self.store.get::<Cluster>(key).await? {
            self.cluster(&cluster).await?;
        }
        Ok(Round::Complete)
    }

    /// Looks at one resource group alone and does what is to be done about it.
    ///
    /// # Errors
    /// As [`Self::round`].
    pub async fn round_of_group(&self, key: &GroupKey) -> Result<Round, ControllerError> {
        if let Some(group) = self.store.get::<Group>(key).await? {
            self.group(&group).await?;
        }
        Ok(Round::Complete)
    }
}

/// Takes in which records changed.
fn take_changes(told: Option<&mut broadcast::Receiver<Changed>>, queue: &mut Queue) {
    let Some(told) = told else { return };
    loop {
        match told.try_recv() {
            Ok(changed) => queue.changed(&changed),
            Err(TryRecvError::Lagged(_)) => queue.start_pass(),
            Err(TryRecvError::Empty | TryRecvError::Closed) => return,
        }
    }
}

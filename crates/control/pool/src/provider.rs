//! Where nodes come from.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;

use crate::key::PoolKey;
use crate::node::{NodeSpec, ObservedNode};
use crate::node_name::NodeName;
use crate::resource::NodePool;
use crate::version::Versions;

/// A change to the world that [`crate::reconcile()`] asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make this node. If it is there already, nothing happens.
    CreateNode(NodeSpec),
    /// Give this node its new labels, taints and layout. VM size and strategy are those that it was made with.
    UpdateNode(NodeSpec),
    /// Take this node out of its pool, and away if the provider made it, with the pods on it. If it is gone already,
    /// nothing happens.
    DeleteNode(NodeName),
    /// Have so many machines for a pool: of a provider whose machines come in sets.
    Resize(PoolKey, u32),
}

/// Where the nodes of a pool come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supply {
    /// They are made, under the names that they are to have.
    Made,
    /// They are there, and are taken into the pool.
    Found(Candidates),
    /// A set of machines makes them, under names of its own, and then they are taken into the pool.
    Scaled {
        /// How many machines the set is to have now.
        machines: u32,
        /// Somebody else says how many: the cluster autoscaler.
        autoscaled: bool,
        /// Nodes of the set that are there.
        candidates: Candidates,
    },
}

/// The nodes that a pool may take, and the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Nodes that fit, the best first.
    pub fitting: Vec<Candidate>,
    /// How many nodes do not fit, and some of their names, by the reason.
    pub unfit: BTreeMap<String, Unfit>,
}

/// A node that a pool may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: NodeName,
    /// Its VM size; empty where it is not known.
    pub vm_size: String,
}

/// Nodes that do not fit for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfit {
    /// How many.
    pub count: usize,
    /// The names of the first few.
    pub named: Vec<String>,
}

/// How many nodes are named for one reason.
const NAMED: usize = 3;

impl Candidates {
    /// Adds a node that does not fit.
    pub fn reject(&mut self, name: &str, reason: String) {
        let unfit = self.unfit.entry(reason).or_default();
        unfit.count += 1;
        if unfit.named.len() < NAMED {
            unfit.named.push(name.to_owned());
        }
    }

    /// Why the others do not fit, in words; empty when there are none.
    #[must_use]
    pub fn why_not(&self) -> String {
        let reasons: Vec<String> = self
            .unfit
            .iter()
            .map(|(reason, unfit)| {
                let more = unfit.count - unfit.named.len();
                let and = if more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                format!("{}{and}: {reason}", unfit.named.join(", "))
            })
            .collect();
        reasons.join("; ")
    }
}

/// Makes, shows and takes away nodes.
///
/// A provider does the work in its own time: [`apply`](Self::apply) returns as soon as the wish is durable, and from then on
/// [`observe`](Self::observe) shows it (a node in phase `Creating` or `Deleting`), also after the process was killed. It never
/// makes two nodes of one name.
pub trait NodeProvider: Send + Sync + 'static {
    /// All nodes, of all pools, those being made and those being taken away too.
    fn observe(&self)
    -> impl Future<Output = Result<Vec<Arc<ObservedNode>>, ProviderError>> + Send;

    /// Where this pool's nodes come from.
    fn supply(
        &self,
        pool: &NodePool,
    ) -> impl Future<Output = Result<Supply, ProviderError>> + Send {
        let _ = pool;
        std::future::ready(Ok(Supply::Made))
    }

    /// Brings an action about. Doing it twice is doing it once.
    fn apply(&self, action: Action) -> impl Future<Output = Result<(), ProviderError>> + Send;

    /// Brings actions about, in this order as far as it matters: those on different nodes may go at the same time.
    ///
    /// # Errors
    /// The first that did not work; what comes after it may not have been tried.
    fn apply_all(
        &self,
        actions: Vec<Action>,
    ) -> impl Future<Output = Result<(), ProviderError>> + Send {
        async move {
            for action in actions {
                self.apply(action).await?;
            }
            Ok(())
        }
    }

    /// A number that changes when what [`observe`](Self::observe) says may have changed.
    fn node_changes(&self) -> watch::Receiver<u64>;

    /// What the nodes run. It is asked often; a provider that has to look it up looks beforehand.
    fn versions(&self) -> Versions {
        Versions::simulated()
    }
}

impl<T: NodeProvider> NodeProvider for Arc<T> {
    fn observe(
        &self,
    ) -> impl Future<Output = Result<Vec<Arc<ObservedNode>>, ProviderError>> + Send {
        T::observe(self)
    }

    fn supply(
        &self,
        pool: &NodePool,
    ) -> impl Future<Output = Result<Supply, ProviderError>> + Send {
        T::supply(self, pool)
    }

    fn apply(&self, action: Action) -> impl Future<Output = Result<(), ProviderError>> + Send {
        T::apply(self, action)
    }

    fn apply_all(
        &self,
        actions: Vec<Action>,
    ) -> impl Future<Output = Result<(), ProviderError>> + Send {
        T::apply_all(self, actions)
    }

    fn node_changes(&self) -> watch::Receiver<u64> {
        T::node_changes(self)
    }

    fn versions(&self) -> Versions {
        T::versions(self)
    }
}

/// Why a provider could not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// It can't be done, and trying again does not help; the pool fails with this reason.
    #[error("{0}")]
    Refused(String),
    /// It can't be done now; it is tried again.
    #[error("{0}")]
    Unavailable(String),
}

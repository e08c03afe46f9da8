//! Where nodes come from.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;

use crate::node::{NodeSpec, ObservedNode};
use crate::node_name::NodeName;

/// A change to the world that [`crate::reconcile()`] asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make this node. If it is there already, nothing happens.
    CreateNode(NodeSpec),
    /// Give this node its new labels and taints. Layout, VM size and strategy are those that it was made with.
    UpdateNode(NodeSpec),
    /// Take this node away, with the pods on it. If it is gone already, nothing happens.
    DeleteNode(NodeName),
}

/// Makes, shows and takes away nodes.
///
/// A provider does the work in its own time: [`apply`](Self::apply) returns as soon as the wish is durable, and from then on
/// [`observe`](Self::observe) shows it (a node in phase `Creating` or `Deleting`), also after the process was killed. It never
/// makes two nodes of one name.
pub trait NodeProvider: Send + Sync + 'static {
    /// All nodes, of all pools, those being made and those being taken away too.
    fn observe(&self) -> impl Future<Output = Result<Vec<ObservedNode>, ProviderError>> + Send;

    /// Brings an action about. Doing it twice is doing it once.
    fn apply(&self, action: Action) -> impl Future<Output = Result<(), ProviderError>> + Send;

    /// A number that changes when what [`observe`](Self::observe) says may have changed.
    fn node_changes(&self) -> watch::Receiver<u64>;
}

impl<T: NodeProvider> NodeProvider for Arc<T> {
    fn observe(&self) -> impl Future<Output = Result<Vec<ObservedNode>, ProviderError>> + Send {
        T::observe(self)
    }

    fn apply(&self, action: Action) -> impl Future<Output = Result<(), ProviderError>> + Send {
        T::apply(self, action)
    }

    fn node_changes(&self) -> watch::Receiver<u64> {
        T::node_changes(self)
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

//! What the front stands on.

use std::sync::Arc;

use pool::{Credentials, NodeProvider, Store, Workloads};

use crate::account::Account;
use crate::answer_cache::AnswerCache;
use crate::routes::Scheme;

/// Everything that the front needs of the engine behind it.
pub trait Backend: Store + NodeProvider + Workloads + Credentials {}

impl<T: Store + NodeProvider + Workloads + Credentials> Backend for T {}

/// What every handler has at hand.
pub(crate) struct App<B> {
    pub(crate) backend: Arc<B>,
    pub(crate) scheme: Scheme,
    pub(crate) account: Arc<Account>,
    pub(crate) answers: Arc<AnswerCache>,
}

// Derived, it would ask for `B: Clone`.
impl<B> Clone for App<B> {
    fn clone(&self) -> Self {
        Self {
            backend: Arc::clone(&self.backend),
            scheme: self.scheme,
            account: Arc::clone(&self.account),
            answers: Arc::clone(&self.answers),
        }
    }
}

//! How records change when somebody asks for something: the changes of one commit.
//!
//! A resource has at most one operation in progress. Asking for something else before it ends takes its place: what counts is
//! what was asked last.

use jiff::Timestamp;
use uuid::Uuid;

use crate::key::OperationKey;
use crate::name::SubscriptionId;
use crate::operation::{Operation, OperationError, OperationStatus, OperationTarget};
use crate::resource::{Cluster, Group, NodePool, ProvisioningState};
use crate::store::{Change, Record, Store, StoreError};

/// A record that has a provisioning state and an operation in progress.
pub trait Provisioned: Record {
    /// Where it is on its way.
    fn state(&self) -> ProvisioningState;
    /// Puts it on its way, with nothing to say yet, under an operation if there is one.
    fn enter(&mut self, state: ProvisioningState, operation: Option<Uuid>);
    /// The operation in progress.
    fn operation(&self) -> Option<Uuid>;
    /// The resource as the target of an operation.
    fn target(&self) -> OperationTarget;
}

impl Provisioned for Group {
    fn state(&self) -> ProvisioningState {
        self.provisioning_state
    }

    fn enter(&mut self, state: ProvisioningState, operation: Option<Uuid>) {
        self.provisioning_state = state;
        self.operation = operation;
    }

    fn operation(&self) -> Option<Uuid> {
        self.operation
    }

    fn target(&self) -> OperationTarget {
        OperationTarget::Group(self.key.clone())
    }
}

impl Provisioned for Cluster {
    fn state(&self) -> ProvisioningState {
        self.provisioning_state
    }

    fn enter(&mut self, state: ProvisioningState, operation: Option<Uuid>) {
        self.provisioning_state = state;
        self.message = String::new();
        self.operation = operation;
    }

    fn operation(&self) -> Option<Uuid> {
        self.operation
    }

    fn target(&self) -> OperationTarget {
        OperationTarget::Cluster(self.key.clone())
    }
}

impl Provisioned for NodePool {
    fn state(&self) -> ProvisioningState {
        self.provisioning_state
    }

    fn enter(&mut self, state: ProvisioningState, operation: Option<Uuid>) {
        self.provisioning_state = state;
        self.message = String::new();
        self.operation = operation;
    }

    fn operation(&self) -> Option<Uuid> {
        self.operation
    }

    fn target(&self) -> OperationTarget {
        OperationTarget::NodePool(self.key.clone())
    }
}

/// Puts `record` on its way under a new operation, which takes the place of the one in progress. The answer is the new operation
/// and the changes to the operations; the change to the record itself is the caller's.
///
/// # Errors
/// If the store does not work.
pub async fn begin<S: Store, R: Provisioned>(
    store: &S,
    record: &mut R,
    state: ProvisioningState,
    now: Timestamp,
) -> Result<(Operation, Vec<Change>), StoreError> {
    let operation = Operation::begin(record.target(), Uuid::new_v4(), now);
    let id = operation.key.id;
    let mut changes = preempt(store, record, id, now).await?;
    changes.push(Change::create(&operation)?);
    record.enter(state, Some(id));
    Ok((operation, changes))
}

/// Changes that cancel the operation in progress on `record`, if there is one, for operation `by`.
///
/// # Errors
/// If the store does not work.
pub async fn preempt<S: Store, R: Provisioned>(
    store: &S,
    record: &R,
    by: Uuid,
    now: Timestamp,
) -> Result<Vec<Change>, StoreError> {
    end(store, record, |operation| operation.preempted(by, now)).await
}

/// Changes that end the operation in progress on `record`, if there is one: well without an error, `Failed` with one.
///
/// # Errors
/// If the store does not work.
pub async fn finish<S: Store, R: Provisioned>(
    store: &S,
    record: &R,
    error: Option<OperationError>,
    now: Timestamp,
) -> Result<Vec<Change>, StoreError> {
    end(store, record, |operation| operation.ended(error, now)).await
}

/// Changes that end the operation in progress on `record`, if there is one, as canceled for this reason.
///
/// # Errors
/// If the store does not work.
pub async fn cancel<S: Store, R: Provisioned>(
    store: &S,
    record: &R,
    reason: String,
    now: Timestamp,
) -> Result<Vec<Change>, StoreError> {
    end(store, record, |operation| operation.canceled(reason, now)).await
}

async fn end<S: Store, R: Provisioned>(
    store: &S,
    record: &R,
    how: impl FnOnce(Operation) -> Operation + Send,
) -> Result<Vec<Change>, StoreError> {
    let Some(id) = record.operation() else {
        return Ok(Vec::new());
    };
    let subscription: SubscriptionId = record.target().subscription().clone();
    let stored = match store
        .get::<Operation>(&OperationKey { subscription, id })
        .await
    {
        Ok(Some(stored)) => stored,
        Ok(None) => return Ok(Vec::new()),
        // It is not told its end, and holds up nothing.
        Err(error @ StoreError::Unreadable { .. }) => {
            tracing::error!(%error, "an operation is left alone");
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    if stored.record.status != OperationStatus::InProgress {
        return Ok(Vec::new());
    }
    Ok(vec![Change::update(&how(stored.record), stored.revision)?])
}

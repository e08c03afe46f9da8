//! Long-running operations.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::key::{ClusterKey, GroupKey, OperationKey, PoolKey};
use crate::name::SubscriptionId;

/// How long an operation is kept after its end. ARM keeps the results of operations for a while too; its clients ask for
/// them within seconds.
pub const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// Something that was asked for and takes a while. It is kept after its end, so that a client can ask how it went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Which.
    pub key: OperationKey,
    /// The resource that it is about.
    pub target: OperationTarget,
    /// How it stands.
    pub status: OperationStatus,
    /// Why it failed or was canceled.
    #[serde(default)]
    pub error: Option<OperationError>,
    /// When it was asked for.
    pub start: Timestamp,
    /// When it ended.
    #[serde(default)]
    pub end: Option<Timestamp>,
}

/// How an operation stands, with ARM's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OperationStatus {
    /// On its way.
    InProgress,
    /// Done as asked.
    Succeeded,
    /// Not done.
    Failed,
    /// Given up before its end, because somebody canceled it or asked for something else.
    Canceled,
}

/// Why an operation did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationError {
    /// A code such as `ReconcileAgentPoolFailed`.
    pub code: String,
    /// The reason, as the node or the provider gave it.
    pub message: String,
}

/// The resource that an operation is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationTarget {
    /// A resource group.
    Group(GroupKey),
    /// A cluster.
    Cluster(ClusterKey),
    /// A node pool.
    NodePool(PoolKey),
}

impl OperationTarget {
    /// The resource's id as ARM writes it.
    #[must_use]
    pub fn resource_id(&self) -> String {
        match self {
            Self::Group(key) => key.to_string(),
            Self::Cluster(key) => key.to_string(),
            Self::NodePool(key) => key.to_string(),
        }
    }

    /// The subscription that the resource is in.
    #[must_use]
    pub fn subscription(&self) -> &SubscriptionId {
        match self {
            Self::Group(key) => &key.subscription,
            Self::Cluster(key) => &key.group.subscription,
            Self::NodePool(key) => &key.cluster.group.subscription,
        }
    }
}

impl Operation {
    /// An operation that starts now.
    #[must_use]
    pub fn begin(target: OperationTarget, id: Uuid, now: Timestamp) -> Self {
        Self {
            key: OperationKey {
                subscription: target.subscription().clone(),
                id,
            },
            target,
            status: OperationStatus::InProgress,
            error: None,
            start: now,
            end: None,
        }
    }

    /// Whether it ended so long ago that it is kept no longer.
    #[must_use]
    pub fn is_forgotten(&self, now: Timestamp) -> bool {
        self.end.is_some_and(|end| now.duration_since(end) > KEPT)
    }

    /// The same operation, ended now: well without an error, `Failed` with one.
    #[must_use]
    pub fn ended(mut self, error: Option<OperationError>, now: Timestamp) -> Self {
        self.status = if error.is_some() {
            OperationStatus::Failed
        } else {
            OperationStatus::Succeeded
        };
        self.error = error;
        self.end = Some(now);
        self
    }

    /// The same operation, given up now because somebody said so.
    #[must_use]
    pub fn canceled(mut self, message: String, now: Timestamp) -> Self {
        self.status = OperationStatus::Canceled;
        self.error = Some(OperationError {
            code: "OperationCanceled".into(),
            message,
        });
        self.end = Some(now);
        self
    }

    /// The same operation, given up now because operation `by` on the same resource took its place.
    #[must_use]
    pub fn preempted(mut self, by: Uuid, now: Timestamp) -> Self {
        self.status = OperationStatus::Canceled;
        self.error = Some(OperationError {
            code: "OperationPreempted".into(),
            message: format!("The operation has been preempted by a more recent operation ({by})."),
        });
        self.end = Some(now);
        self
    }
}

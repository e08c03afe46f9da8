//! Where records are kept.
//!
//! A backend implements [`Store`]'s raw methods over JSON; [`get`](Store::get), [`list`](Store::list) and
//! [`list_page`](Store::list_page) are given. A record that can't be read is a matter of its own: pages name it beside the
//! others, and [`revision_of`](Store::revision_of) is enough to take it away.

mod page;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{broadcast, watch};

use crate::deployment::Deployment;
use crate::key::{ClusterKey, DeploymentKey, GroupKey, Key, OperationKey, PoolKey};
use crate::name::SubscriptionId;
use crate::operation::Operation;
use crate::resource::{Cluster, Group, NodePool};

pub use page::{Page, Unreadable};

/// The records of one commit that changed something: their kinds and paths.
pub type Changed = Arc<[(Kind, String)]>;

/// The kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`Group`].
    Group,
    /// [`Cluster`].
    Cluster,
    /// [`NodePool`].
    NodePool,
    /// [`Operation`].
    Operation,
    /// [`Deployment`].
    Deployment,
}

impl Kind {
    /// The kind as a store writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Cluster => "cluster",
            Self::NodePool => "nodePool",
            Self::Operation => "operation",
            Self::Deployment => "deployment",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that is kept.
pub trait Record: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Its key.
    type Key: Key;
    /// Its kind.
    const KIND: Kind;
    /// Where it is kept.
    fn key(&self) -> &Self::Key;
}

impl Record for Group {
    type Key = GroupKey;
    const KIND: Kind = Kind::Group;
    fn key(&self) -> &GroupKey {
        &self.key
    }
}

impl Record for Cluster {
    type Key = ClusterKey;
    const KIND: Kind = Kind::Cluster;
    fn key(&self) -> &ClusterKey {
        &self.key
    }
}

impl Record for NodePool {
    type Key = PoolKey;
    const KIND: Kind = Kind::NodePool;
    fn key(&self) -> &PoolKey {
        &self.key
    }
}

impl Record for Operation {
    type Key = OperationKey;
    const KIND: Kind = Kind::Operation;
    fn key(&self) -> &OperationKey {
        &self.key
    }
}

impl Record for Deployment {
    type Key = DeploymentKey;
    const KIND: Kind = Kind::Deployment;
    fn key(&self) -> &DeploymentKey {
        &self.key
    }
}

/// Which version of a record: it differs after every change, and is never used again for the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// A record as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct RawRecord {
    /// Its kind.
    pub kind: Kind,
    /// [`Key::path`] of its key.
    pub path: String,
    /// Which version this is.
    pub revision: Revision,
    /// The record as JSON.
    pub body: Value,
}

impl RawRecord {
    /// The fields of it that `T` reads.
    pub(crate) fn part<T: DeserializeOwned>(&self) -> Result<T, StoreError> {
        T::deserialize(&self.body).map_err(|error| StoreError::Unreadable {
            kind: self.kind,
            path: self.path.clone(),
            reason: error.to_string(),
        })
    }
}

/// A record with its revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<R> {
    /// The record.
    pub record: R,
    /// Which version this is.
    pub revision: Revision,
}

impl<R: Record> Stored<R> {
    /// Reads a record that is kept as JSON in memory, and copies nothing but what it needs.
    #[cfg(feature = "memory")]
    pub(crate) fn of(raw: &RawRecord) -> Result<Self, StoreError> {
        Ok(Self {
            record: raw.part()?,
            revision: raw.revision,
        })
    }
}

/// Where to look: all keys whose [`Key::path`] starts with this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(String);

impl Scope {
    /// Everything.
    #[must_use]
    pub fn everything() -> Self {
        Self(String::new())
    }

    /// What is in a subscription.
    #[must_use]
    pub fn subscription(subscription: &SubscriptionId) -> Self {
        Self(format!("{}/", subscription.folded()))
    }

    /// What is in a resource group.
    #[must_use]
    pub fn group(group: &GroupKey) -> Self {
        Self(format!("{}/", group.path()))
    }

    /// What is in a cluster.
    #[must_use]
    pub fn cluster(cluster: &ClusterKey) -> Self {
        Self(format!("{}/", cluster.path()))
    }

    /// What is in the record at a path.
    #[must_use]
    pub fn within(path: &str) -> Self {
        Self(format!("{path}/"))
    }

    /// The paths' common beginning: empty, or ending in `/`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.0
    }

    /// The least path that comes after all paths of the scope; `None` where there is none.
    #[must_use]
    pub fn end(&self) -> Option<String> {
        // The sign after `/`.
        self.0.strip_suffix('/').map(|stem| format!("{stem}0"))
    }
}

/// What a change expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No record.
    Absent,
    /// This version of it.
    Revision(Revision),
}

/// One change of a commit.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Writes a record.
    Put {
        /// Its kind.
        kind: Kind,
        /// [`Key::path`] of its key.
        path: String,
        /// What must be there.
        expected: Expected,
        /// The record as JSON.
        body: Value,
    },
    /// Takes a record away.
    Delete {
        /// Its kind.
        kind: Kind,
        /// [`Key::path`] of its key.
        path: String,
        /// The version that must be there.
        expected: Revision,
    },
    /// Changes nothing, but fails the commit if the record is not as expected.
    Check {
        /// Its kind.
        kind: Kind,
        /// [`Key::path`] of its key.
        path: String,
        /// What must be there.
        expected: Expected,
    },
}

impl Change {
    /// Writes a record that must not be there yet.
    ///
    /// # Errors
    /// If the record can't be written as JSON.
    pub fn create<R: Record>(record: &R) -> Result<Self, StoreError> {
        Self::put(record, Expected::Absent)
    }

    /// Writes a record over the version that was read.
    ///
    /// # Errors
    /// If the record can't be written as JSON.
    pub fn update<R: Record>(record: &R, read: Revision) -> Result<Self, StoreError> {
        Self::put(record, Expected::Revision(read))
    }

    /// Takes away the version that was read.
    #[must_use]
    pub fn delete<R: Record>(read: &Stored<R>) -> Self {
        Self::Delete {
            kind: R::KIND,
            path: read.record.key().path(),
            expected: read.revision,
        }
    }

    /// Fails the commit if the record is no longer the version that was read.
    #[must_use]
    pub fn unchanged<R: Record>(read: &Stored<R>) -> Self {
        Self::Check {
            kind: R::KIND,
            path: read.record.key().path(),
            expected: Expected::Revision(read.revision),
        }
    }

    fn put<R: Record>(record: &R, expected: Expected) -> Result<Self, StoreError> {
        let path = record.key().path();
        let body = serde_json::to_value(record).map_err(|error| StoreError::Unreadable {
            kind: R::KIND,
            path: path.clone(),
            reason: error.to_string(),
        })?;
        Ok(Self::Put {
            kind: R::KIND,
            path,
            expected,
            body,
        })
    }

    /// The kind and path of the record that it is about.
    #[must_use]
    pub fn subject(&self) -> (Kind, &str) {
        match self {
            Self::Put { kind, path, .. }
            | Self::Delete { kind, path, .. }
            | Self::Check { kind, path, .. } => (*kind, path),
        }
    }
}

/// Keeps records, durably.
pub trait Store: Send + Sync + 'static {
    /// One record as it is kept.
    fn read(
        &self,
        kind: Kind,
        path: &str,
    ) -> impl Future<Output = Result<Option<RawRecord>, StoreError>> + Send;

    /// The version of a record, which need not be one that can be read.
    fn revision_of(
        &self,
        kind: Kind,
        path: &str,
    ) -> impl Future<Output = Result<Option<Revision>, StoreError>> + Send;

    /// The first records of a kind within a scope whose paths come after `after`, ordered by path, and at most `limit` of
    /// them. A record that stays while others come and go is on exactly one of the pages that follow one another. One that
    /// can't be read is named, and is no reason to leave out the others.
    fn page(
        &self,
        kind: Kind,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Page<RawRecord>, StoreError>> + Send;

    /// All records of a kind within a scope, ordered by path; an error if one of them can't be read.
    fn scan(
        &self,
        kind: Kind,
        scope: &Scope,
    ) -> impl Future<Output = Result<Vec<RawRecord>, StoreError>> + Send {
        async move {
            let page = self.page(kind, scope, None, usize::MAX).await?;
            match page.unreadable.into_iter().next() {
                None => Ok(page.records),
                Some(Unreadable { path, reason }) => {
                    Err(StoreError::Unreadable { kind, path, reason })
                }
            }
        }
    }

    /// Makes all changes, or none: if any record is not as its change expects, the answer is [`StoreError::Conflict`]. When it
    /// returns, the changes are durable. No record is the subject of two changes. The answer has the new revision of each
    /// change's record, in order; for a `Delete` and a `Check` it is `None`.
    fn commit(
        &self,
        changes: Vec<Change>,
    ) -> impl Future<Output = Result<Vec<Option<Revision>>, StoreError>> + Send;

    /// A number that changes after every commit that changed something.
    fn store_changes(&self) -> watch::Receiver<u64>;

    /// A number that has changed when a commit that changes something returns: what was read since it was taken still holds as
    /// long as it is the same. `None` from a store that others write to as well.
    fn generation(&self) -> Option<u64> {
        None
    }

    /// Which records each commit changes, from now on; `None` from a store that does not tell. Whoever falls behind is told
    /// so, and has to look at everything.
    fn record_changes(&self) -> Option<broadcast::Receiver<Changed>> {
        None
    }

    /// One record.
    fn get<R: Record>(
        &self,
        key: &R::Key,
    ) -> impl Future<Output = Result<Option<Stored<R>>, StoreError>> + Send {
        let path = key.path();
        async move { self.get_at(&path).await }
    }

    /// The record at a path.
    fn get_at<R: Record>(
        &self,
        path: &str,
    ) -> impl Future<Output = Result<Option<Stored<R>>, StoreError>> + Send {
        async move { self.read(R::KIND, path).await?.map(typed).transpose() }
    }

    /// Some fields of one record: those that `T` reads.
    fn get_part<R: Record, T: DeserializeOwned + Send>(
        &self,
        key: &R::Key,
    ) -> impl Future<Output = Result<Option<T>, StoreError>> + Send {
        let path = key.path();
        async move {
            let raw = self.read(R::KIND, &path).await?;
            raw.as_ref().map(RawRecord::part).transpose()
        }
    }

    /// A [page](Self::page) of records.
    fn list_page<R: Record>(
        &self,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Page<Stored<R>>, StoreError>> + Send {
        async move {
            let page = self.page(R::KIND, scope, after, limit).await?;
            page.read(typed)
        }
    }

    /// All records within a scope, ordered by key; an error if one of them can't be read.
    fn list<R: Record>(
        &self,
        scope: &Scope,
    ) -> impl Future<Output = Result<Vec<Stored<R>>, StoreError>> + Send {
        async move {
            self.scan(R::KIND, scope)
                .await?
                .into_iter()
                .map(typed)
                .collect()
        }
    }
}

impl<T: Store> Store for Arc<T> {
    fn read(
        &self,
        kind: Kind,
        path: &str,
    ) -> impl Future<Output = Result<Option<RawRecord>, StoreError>> + Send {
        T::read(self, kind, path)
    }

    fn revision_of(
        &self,
        kind: Kind,
        path: &str,
    ) -> impl Future<Output = Result<Option<Revision>, StoreError>> + Send {
        T::revision_of(self, kind, path)
    }

    fn page(
        &self,
        kind: Kind,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Page<RawRecord>, StoreError>> + Send {
        T::page(self, kind, scope, after, limit)
    }

    fn commit(
        &self,
        changes: Vec<Change>,
    ) -> impl Future<Output = Result<Vec<Option<Revision>>, StoreError>> + Send {
        T::commit(self, changes)
    }

    fn store_changes(&self) -> watch::Receiver<u64> {
        T::store_changes(self)
    }

    fn generation(&self) -> Option<u64> {
        T::generation(self)
    }

    fn record_changes(&self) -> Option<broadcast::Receiver<Changed>> {
        T::record_changes(self)
    }
}

fn typed<R: Record>(raw: RawRecord) -> Result<Stored<R>, StoreError> {
    match serde_json::from_value(raw.body) {
        Ok(record) => Ok(Stored {
            record,
            revision: raw.revision,
        }),
        Err(error) => Err(StoreError::Unreadable {
            kind: raw.kind,
            path: raw.path,
            reason: error.to_string(),
        }),
    }
}

/// Why a store could not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A record was not as a change expected it; nothing was changed. Read it again.
    #[error("{kind} {path} was changed by somebody else in the meantime")]
    Conflict {
        /// The record's kind.
        kind: Kind,
        /// The record's path.
        path: String,
    },
    /// A record is there but is not of this version's shape.
    #[error("{kind} {path} is kept in a form that this version of migpool does not read: {reason}")]
    Unreadable {
        /// The record's kind.
        kind: Kind,
        /// The record's path.
        path: String,
        /// What the reader said.
        reason: String,
    },
    /// The store works, and does not take what is asked: a rule of its own is against it. Nothing was changed, and asking again
    /// does not help.
    #[error("{0}")]
    Refused(String),
    /// The store itself does not work: a full disk, no connection.
    #[error("{0}")]
    Unavailable(String),
}

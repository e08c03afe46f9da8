//! Node pools as ARM clients write them: what is asked goes into the spec, in one write with the operation that follows it.

use kube::ResourceExt;
use kube::api::{ObjectMeta, PostParams};
use pool::{Kind, RawRecord, Revision, StoreError};

use super::{Records, is_conflict, unavailable};
use crate::convert;
use crate::node_pool::{FINALIZER, NodePool};
use crate::record_object::PendingPool;

/// Who writes, to the API server.
pub(super) const FRONT: &str = "migpool-arm";

impl Records {
    /// The object of a pool.
    pub(crate) async fn pool_object(&self, path: &str) -> Result<Option<NodePool>, StoreError> {
        for name in convert::names(path) {
            let found = self.pools().get_opt(&name).await;
            let found = found.map_err(|error| unavailable("NodePool", &name, &error))?;
            if let Some(object) = found.filter(|object| is_at(object, path)) {
                return Ok(Some(object));
            }
        }
        Ok(None)
    }

    /// Makes a pool's object, under the pool's own name if no other cluster's pool has that.
    pub(super) async fn create_pool(
        &self,
        record: &pool::NodePool,
        path: &str,
    ) -> Result<NodePool, StoreError> {
        let conflict = || StoreError::Conflict {
            kind: Kind::NodePool,
            path: path.to_owned(),
        };
        if self.pool_object(path).await?.is_some() {
            return Err(conflict());
        }
        let spec = convert::object_spec(record, None);
        for name in convert::names(path) {
            let mut object = NodePool::new(&name, spec.clone());
            object.metadata = ObjectMeta {
                finalizers: Some(vec![FINALIZER.to_owned()]),
                ..object.metadata
            };
            match self.pools().create(&parameters(), &object).await {
                Ok(made) => return Ok(made),
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    let found = self.pools().get_opt(&name).await;
                    let found = found.map_err(|error| unavailable("NodePool", &name, &error))?;
                    if found.is_none_or(|found| is_at(&found, path)) {
                        return Err(conflict());
                    }
                }
                Err(error) => return Err(unavailable("NodePool", &name, &error)),
            }
        }
        Err(conflict())
    }

    /// Asks for something of a pool, over the version that was read.
    pub(super) async fn ask(
        &self,
        object: &NodePool,
        record: &pool::NodePool,
        path: &str,
    ) -> Result<NodePool, StoreError> {
        let mut next = object.clone();
        next.spec = convert::object_spec(record, Some(&object.spec));
        next.metadata.managed_fields = None;
        let name = object.name_any();
        let written = self.pools().replace(&name, &parameters(), &next).await;
        written.map_err(|error| {
            if is_conflict(&error) {
                StoreError::Conflict {
                    kind: Kind::NodePool,
                    path: path.to_owned(),
                }
            } else {
                unavailable("NodePool", &name, &error)
            }
        })
    }

    /// Writes a pool that was asked for with its cluster, unless it was written already, or something newer was asked since.
    pub(super) async fn catch_up(&self, pending: &PendingPool) -> Result<(), StoreError> {
        /// How often the operator may be in between with a status.
        const TIMES: usize = 5;
        let record: pool::NodePool =
            serde_json::from_str(&pending.record).map_err(|error| StoreError::Unreadable {
                kind: Kind::NodePool,
                path: pending.path.clone(),
                reason: error.to_string(),
            })?;
        let Some(generation) = pending.generation else {
            return match self.create_pool(&record, &pending.path).await {
                Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
                Err(error) => Err(error),
            };
        };
        for _ in 0..TIMES {
            let Some(object) = self.pool_object(&pending.path).await? else {
                return Ok(());
            };
            if object.metadata.generation != Some(generation) {
                return Ok(());
            }
            match self.ask(&object, &record, &pending.path).await {
                Err(StoreError::Conflict { .. }) => {}
                written => return written.map(drop),
            }
        }
        Err(StoreError::Conflict {
            kind: Kind::NodePool,
            path: pending.path.clone(),
        })
    }
}

pub(super) fn parameters() -> PostParams {
    PostParams {
        field_manager: Some(FRONT.to_owned()),
        ..PostParams::default()
    }
}

fn is_at(object: &NodePool, path: &str) -> bool {
    convert::key(object).is_ok_and(|key| pool::Key::path(&key) == path)
}

/// The version of an object. The API server's own numbers, which Kubernetes lets be compared.
pub(crate) fn revision(object: &NodePool) -> Revision {
    let version = object.resource_version().unwrap_or_default();
    Revision(version.parse().unwrap_or_default())
}

/// The record of a pool.
pub(crate) fn raw(object: &NodePool, path: &str) -> Result<RawRecord, StoreError> {
    let unreadable = |reason: String| StoreError::Unreadable {
        kind: Kind::NodePool,
        path: path.to_owned(),
        reason,
    };
    let record = convert::record(object).map_err(|error| unreadable(error.message))?;
    Ok(RawRecord {
        kind: Kind::NodePool,
        path: path.to_owned(),
        revision: revision(object),
        body: serde_json::to_value(record).map_err(|error| unreadable(error.to_string()))?,
    })
}

//! Node pools as ARM clients write them: what is asked goes into the spec, in one write with the operation that follows it.

use kube::ResourceExt;
use kube::api::PostParams;
use pool::{Kind, RawRecord, Revision, StoreError};

use super::Records;
use super::failure::{is_conflict, is_taken, not_written, unavailable};
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
        for name in convert::names(path) {
            let object = new_object(&name, record);
            match self.pools().create(&parameters(), &object).await {
                Ok(made) => return Ok(made),
                Err(error) if is_taken(&error) => {
                    let found = self.pools().get_opt(&name).await;
                    let found = found.map_err(|error| unavailable("NodePool", &name, &error))?;
                    if found.is_none_or(|found| is_at(&found, path)) {
                        return Err(conflict());
                    }
                }
                Err(error) => return Err(not_written("NodePool", &name, &error)),
            }
        }
        Err(conflict())
    }

    /// Whether the API server would take a pool in the place of `old`, or made anew.
    pub(super) async fn try_out_pool(
        &self,
        old: Option<&NodePool>,
        record: &pool::NodePool,
        path: &str,
    ) -> Result<(), StoreError> {
        let trial = PostParams {
            dry_run: true,
            ..parameters()
        };
        let names = match old {
            Some(object) => vec![object.name_any()],
            None => convert::names(path).into(),
        };
        for name in names {
            let tried = if let Some(object) = old {
                let next = changed(object, record);
                self.pools().replace(&name, &trial, &next).await
            } else {
                let object = new_object(&name, record);
                self.pools().create(&trial, &object).await
            };
            match tried {
                Ok(_) => return Ok(()),
                // A name that is taken. What is really faster is seen when it is written.
                Err(error) if is_conflict(&error) => {}
                Err(error) => return Err(not_written("NodePool", &name, &error)),
            }
        }
        Ok(())
    }

    /// Asks for something of a pool, over the version that was read.
    pub(super) async fn ask(
        &self,
        object: &NodePool,
        record: &pool::NodePool,
        path: &str,
    ) -> Result<NodePool, StoreError> {
        let next = changed(object, record);
        let name = object.name_any();
        let written = self.pools().replace(&name, &parameters(), &next).await;
        written.map_err(|error| {
            if is_conflict(&error) {
                StoreError::Conflict {
                    kind: Kind::NodePool,
                    path: path.to_owned(),
                }
            } else {
                not_written("NodePool", &name, &error)
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

/// A pool's object that is to be made.
fn new_object(name: &str, record: &pool::NodePool) -> NodePool {
    let mut object = NodePool::new(name, convert::object_spec(record, None));
    object.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    object
}

/// A pool's object as somebody asks for it.
fn changed(object: &NodePool, record: &pool::NodePool) -> NodePool {
    let mut next = object.clone();
    next.spec = convert::object_spec(record, Some(&object.spec));
    next.metadata.managed_fields = None;
    next
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

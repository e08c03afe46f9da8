//! [`pool::Store`] over what the operator watches.
//!
//! A pool's record is its `NodePool` object: the spec is a person's or an ARM client's, the rest is in the status, which the
//! operator alone writes. The records of ARM clients beside it are those of [`Records`](crate::records::Records), where the
//! operator is to look after them; else there are none.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use pool::{Change, Expected, Kind, Page, RawRecord, Revision, Scope, Store, StoreError};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::backend::KubernetesBackend;
use crate::node_pool::{FINALIZER, NodePool, NodePoolStatus};
use crate::records::{raw, revision};
use crate::{convert, status};

impl Store for KubernetesBackend {
    async fn read(&self, kind: Kind, path: &str) -> Result<Option<RawRecord>, StoreError> {
        if kind == Kind::NodePool {
            let found = self.object(path);
            return found.map(|object| raw(&object, path)).transpose();
        }
        let Some(arm) = &self.arm else {
            return Ok(None);
        };
        match kind {
            // Every round of a pool asks for its cluster, and comes again when that changes.
            Kind::Cluster => {
                let found = arm.watched(kind, path);
                found.map(|object| object.raw(kind)).transpose()
            }
            kind => arm.records.read(kind, path).await,
        }
    }

    async fn revision_of(&self, kind: Kind, path: &str) -> Result<Option<Revision>, StoreError> {
        match (kind, &self.arm) {
            (Kind::NodePool, _) => Ok(self.object(path).as_deref().map(revision)),
            (kind, Some(arm)) => arm.records.revision_of(kind, path).await,
            (_, None) => Ok(None),
        }
    }

    async fn page(
        &self,
        kind: Kind,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<RawRecord>, StoreError> {
        if kind != Kind::NodePool {
            return match &self.arm {
                Some(arm) => arm.records.page(kind, scope, after, limit).await,
                None => Ok(Page::cut(Vec::new(), |it| &it.path, after, limit)),
            };
        }
        let mut records = Vec::new();
        for object in self.caches.pools.state() {
            let Ok(key) = convert::key(&object) else {
                continue;
            };
            let path = pool::Key::path(&key);
            if path.starts_with(scope.prefix()) {
                let raw = raw(&object, &path);
                records.push((path, raw));
            }
        }
        records.sort_by(|(a, _), (b, _)| a.cmp(b));
        Page::cut(records, |(path, _)| path, after, limit).read(|(_, raw)| raw)
    }

    /// The pool first, and then the operations that end with it: until they are told, the pool's status says how they ended
    /// (see `parents`).
    async fn commit(&self, changes: Vec<Change>) -> Result<Vec<Option<Revision>>, StoreError> {
        let is_of_pool = |change: &&Change| change.subject().0 == Kind::NodePool;
        // The API server changes one object at a time.
        if let Some(second) = changes.iter().filter(is_of_pool).nth(1) {
            let (kind, path) = second.subject();
            return Err(StoreError::Unavailable(format!(
                "a cluster can't change {kind} {path} and another record in one step"
            )));
        }
        let mut revisions = Vec::with_capacity(changes.len());
        let mut others = Vec::new();
        for change in changes {
            if change.subject().0 == Kind::NodePool {
                revisions.push(self.change(change).await?);
            } else {
                revisions.push(None);
                others.push(change);
            }
        }
        if let (Some(arm), false) = (&self.arm, others.is_empty())
            && let Err(error) = arm.records.commit(others).await
        {
            tracing::warn!(%error, "the end of an operation is told later");
        }
        Ok(revisions)
    }

    fn store_changes(&self) -> watch::Receiver<u64> {
        self.caches.changes.clone()
    }
}

impl KubernetesBackend {
    /// The object of a pool, by [`pool::Key::path`].
    pub(crate) fn object(&self, path: &str) -> Option<Arc<NodePool>> {
        let mut named = convert::names(path)
            .into_iter()
            .filter_map(|name| self.caches.pools.get(&ObjectRef::new(&name)));
        named.find(|object| convert::key(object).is_ok_and(|key| pool::Key::path(&key) == path))
    }

    async fn change(&self, change: Change) -> Result<Option<Revision>, StoreError> {
        let (kind, path) = change.subject();
        let path = path.to_owned();
        let conflict = || StoreError::Conflict {
            kind,
            path: path.clone(),
        };
        let object = self.object(&path);
        let found = object.as_deref().map(revision);
        let expected = match &change {
            Change::Put { expected, .. } | Change::Check { expected, .. } => *expected,
            Change::Delete { expected, .. } => Expected::Revision(*expected),
        };
        let Some(object) = object.filter(|_| expected != Expected::Absent) else {
            return match (expected, change) {
                (Expected::Absent, Change::Check { .. }) if found.is_none() => Ok(None),
                (Expected::Absent, Change::Put { .. }) if found.is_none() => {
                    Err(StoreError::Unavailable(format!(
                        "{kind} {path} is made by creating its NodePool object"
                    )))
                }
                _ => Err(conflict()),
            };
        };
        if Some(expected) != found.map(Expected::Revision) {
            return Err(conflict());
        }
        match change {
            Change::Check { .. } => Ok(None),
            Change::Delete { .. } => self.let_go(&object).await.map(|()| None),
            Change::Put { body, .. } => {
                let record: pool::NodePool =
                    serde_json::from_value(body).map_err(|error| StoreError::Unreadable {
                        kind,
                        path: path.clone(),
                        reason: error.to_string(),
                    })?;
                let status = status::of(&object, &record, Timestamp::now());
                self.write_status(&object, status).await.map(Some)
            }
        }
    }

    /// Writes the status over the version that was read, if it says anything new.
    pub(crate) async fn write_status(
        &self,
        object: &NodePool,
        status: NodePoolStatus,
    ) -> Result<Revision, StoreError> {
        if object.status.as_ref() == Some(&status) {
            return Ok(revision(object));
        }
        let body = applied(object, json!({ "status": status }));
        let parameters = PatchParams::apply(gpu_node::OPERATOR).force();
        let written = self
            .pools()
            .patch_status(&object.name_any(), &parameters, &Patch::Apply(body))
            .await;
        written
            .map(|object| revision(&object))
            .map_err(|error| failed(object, &error))
    }

    /// Keeps the pool until its nodes were given back.
    pub(crate) async fn hold(&self, object: &NodePool) -> Result<(), StoreError> {
        let mut finalizers = object.finalizers().to_vec();
        if finalizers.iter().any(|it| it == FINALIZER) {
            return Ok(());
        }
        finalizers.push(FINALIZER.to_owned());
        self.write_finalizers(object, &finalizers).await
    }

    /// Lets the API server remove the pool.
    pub(crate) async fn let_go(&self, object: &NodePool) -> Result<(), StoreError> {
        let mut finalizers = object.finalizers().to_vec();
        finalizers.retain(|it| it != FINALIZER);
        self.write_finalizers(object, &finalizers).await
    }

    async fn write_finalizers(
        &self,
        object: &NodePool,
        finalizers: &[String],
    ) -> Result<(), StoreError> {
        let patch = json!({"metadata": {
            "resourceVersion": object.resource_version(),
            "finalizers": finalizers,
        }});
        let written = self
            .pools()
            .patch_metadata(
                &object.name_any(),
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await;
        written.map(drop).map_err(|error| failed(object, &error))
    }
}

/// A server-side apply's body about the version of the object that was read.
fn applied(object: &NodePool, mut body: Value) -> Value {
    body["apiVersion"] = "migpool.dev/v1alpha1".into();
    body["kind"] = "NodePool".into();
    body["metadata"] = json!({
        "name": object.name_any(),
        "uid": object.metadata.uid,
        "resourceVersion": object.resource_version(),
    });
    body
}

pub(crate) fn failed(object: &NodePool, error: &kube::Error) -> StoreError {
    match error {
        kube::Error::Api(status) if status.code == 409 || status.code == 404 => {
            StoreError::Conflict {
                kind: Kind::NodePool,
                path: object.name_any(),
            }
        }
        error => StoreError::Unavailable(format!(
            "NodePool {} can't be written: {error}",
            object.name_any()
        )),
    }
}

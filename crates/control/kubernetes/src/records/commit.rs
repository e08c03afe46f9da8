//! Several changes at a time, on an API server that makes one at a time.
//!
//! The order makes every prefix of it harmless:
//!
//! 1. Every record is read, and held against what its change expects. Node pools that others bring with them are tried on the API
//!    server, which may be against them. Nothing was written yet.
//! 2. Operations that begin are made. One that no record comes to name is ended by the operator; if the next step finds that
//!    somebody was faster, it is taken back at once.
//! 3. One change decides: it is written over the version that was read, and is all there is of most commits. A record that is
//!    changed together with node pools has these with it, as pending, so that whoever dies here has asked for all of it.
//! 4. The pending node pools are written, and then struck off. The operator does the same for a front that has died; doing it
//!    twice is doing it once.
//! 5. Operations that ended are told so. Until then they are as their targets say, which keep the end of the last one: the
//!    operator tells those whose end nobody told ([`crate::parents`]).
//!
//! What is only checked (that a group is not being deleted while a cluster is made in it) may change between the first step
//! and the third. Nothing is lost then: what is made in a group or cluster that is being deleted is deleted with it.

use kube::api::{DeleteParams, Preconditions};
use kube::{Resource, ResourceExt};
use pool::{Change, Expected, Kind, Operation, OperationStatus, Revision, StoreError};
use serde_json::Value;

use super::failure::{is_conflict, not_written};
use super::node_pools::{parameters, revision};
use super::plan::Plan;
use super::{IMPLIED, Records};
use crate::node_pool::NodePool;
use crate::record_object::{PendingPool, RecordKind, RecordObject, kind_of};

/// How often an operation's end is tried when others write the operation, too.
const TIMES: usize = 3;

/// What there is of a change's record.
enum Found {
    /// Nothing.
    Nothing,
    /// A record.
    Object(Box<RecordObject>),
    /// A node pool.
    Pool(Box<NodePool>),
}

impl Records {
    /// Makes all changes or none, as far as anybody can tell in the end.
    pub(super) async fn make(
        &self,
        changes: Vec<Change>,
    ) -> Result<Vec<Option<Revision>>, StoreError> {
        let plan = Plan::of(&changes)?;
        let mut found = Vec::with_capacity(changes.len());
        for (index, change) in changes.iter().enumerate() {
            found.push(if plan.begun.contains(&index) {
                // Its id is new, and the making of it is the check.
                Found::Nothing
            } else {
                self.look(change).await?
            });
        }
        let change = |index: usize| changes.get(index).zip(found.get(index));
        let mut revisions = vec![None; changes.len()];
        let mut note = |index: usize, revision: Option<Revision>| {
            if let Some(slot) = revisions.get_mut(index) {
                *slot = revision;
            }
        };

        for index in &plan.rest {
            if let Some((change, found)) = change(*index) {
                self.try_out(change, found).await?;
            }
        }
        let mut begun = Vec::new();
        for index in &plan.begun {
            if let Some((change, found)) = change(*index) {
                let asked = asked_by(&changes, change);
                match self.put(change, found, asked.as_deref(), &[]).await {
                    Ok(made) => {
                        note(*index, made.as_ref().map(RecordObject::revision));
                        begun.extend(made);
                    }
                    Err(error) => {
                        self.take_back(begun).await;
                        return Err(error);
                    }
                }
            }
        }
        let pending = pending(&plan, &changes, &found);
        if let Some((index, (change, found))) = plan
            .decisive
            .and_then(|index| change(index).map(|it| (index, it)))
        {
            match self.decide(change, found, &pending).await {
                Ok(made) => note(index, made),
                Err(error) => {
                    // Of one that was not answered nobody knows whether it was made.
                    if matches!(error, StoreError::Conflict { .. } | StoreError::Refused(_)) {
                        self.take_back(begun).await;
                    }
                    return Err(error);
                }
            }
            if !pending.is_empty() {
                let (kind, path) = change.subject();
                match self.settle_pending(kind, path).await {
                    Ok(last) => note(index, last),
                    Err(error) => {
                        tracing::warn!(%error, "node pools of {path} are left to the operator");
                    }
                }
            }
        }
        for index in &plan.ended {
            let Some((change, found)) = change(*index) else {
                continue;
            };
            match self.end(change, found).await {
                Ok(made) => note(*index, made),
                Err(error) if plan.decisive.is_none() => return Err(error),
                Err(error) => {
                    let path = change.subject().1;
                    tracing::warn!(%error, "the end of operation {path} is left to the operator");
                }
            }
        }
        Ok(revisions)
    }

    /// Reads a record, and holds it against what is expected.
    async fn look(&self, change: &Change) -> Result<Found, StoreError> {
        let (kind, path) = change.subject();
        let found = match kind_of(kind) {
            _ if kind == Kind::NodePool => match self.pool_object(path).await? {
                Some(object) => Found::Pool(Box::new(object)),
                None => Found::Nothing,
            },
            Some(of) => match self.object(of, path).await? {
                Some(object) => Found::Object(Box::new(object)),
                None => Found::Nothing,
            },
            None => {
                return Err(StoreError::Unavailable(format!(
                    "a cluster keeps no {kind}"
                )));
            }
        };
        let is = match &found {
            Found::Nothing => None,
            Found::Object(object) => Some(object.revision()),
            Found::Pool(object) => Some(revision(object)),
        };
        let is_as_expected = match expected(change) {
            Expected::Absent => is.is_none(),
            Expected::Revision(IMPLIED) => is.is_none() && kind != Kind::NodePool,
            Expected::Revision(read) => is == Some(read),
        };
        if is_as_expected {
            Ok(found)
        } else {
            Err(conflict(kind, path))
        }
    }

    /// Makes the change that decides.
    async fn decide(
        &self,
        change: &Change,
        found: &Found,
        pending: &[PendingPool],
    ) -> Result<Option<Revision>, StoreError> {
        let path = change.subject().1;
        match (change, found) {
            (Change::Put { body, kind, .. }, found) if *kind == Kind::NodePool => {
                let record = read(*kind, path, body)?;
                let written = match found {
                    Found::Pool(object) => self.ask(object, &record, path).await?,
                    _ => self.create_pool(&record, path).await?,
                };
                Ok(Some(revision(&written)))
            }
            (Change::Put { .. }, found) => {
                let made = self.put(change, found, None, pending).await?;
                Ok(made.as_ref().map(RecordObject::revision))
            }
            (Change::Delete { .. }, Found::Pool(object)) => {
                let name = object.name_any();
                Err(StoreError::Refused(format!(
                    "Node pool {path} goes when the operator has given its nodes back: delete it with 'kubectl delete nodepool {name}'."
                )))
            }
            (Change::Delete { kind, .. }, Found::Object(object)) => {
                self.forget(*kind, object).await.map(|()| None)
            }
            (Change::Delete { .. } | Change::Check { .. }, _) => Ok(None),
        }
    }

    /// Writes a record's object.
    async fn put(
        &self,
        change: &Change,
        found: &Found,
        asked: Option<&str>,
        pending: &[PendingPool],
    ) -> Result<Option<RecordObject>, StoreError> {
        let Change::Put {
            kind, path, body, ..
        } = change
        else {
            return Ok(None);
        };
        let Some(of) = kind_of(*kind) else {
            return Ok(None);
        };
        let old = match found {
            Found::Object(object) => Some(&**object),
            _ => None,
        };
        let mut object = RecordObject::of(of, path, body, asked, old)?;
        object.status.pending.extend(pending.iter().cloned());
        self.write(of, &object).await.map(Some)
    }

    /// Writes an object over the version that it has, or makes it.
    pub(crate) async fn write(
        &self,
        kind: RecordKind,
        object: &RecordObject,
    ) -> Result<RecordObject, StoreError> {
        let name = object.name_any();
        let api = self.api(kind);
        let written = match object.resource_version() {
            Some(_) => api.replace(&name, &parameters(), object).await,
            None => api.create(&parameters(), object).await,
        };
        written.map_err(|error| {
            if is_conflict(&error) {
                conflict(kind.kind, &object.spec.path)
            } else {
                not_written(kind.name, &name, &error)
            }
        })
    }

    /// Whether the API server would take a node pool that is only written when all is decided.
    async fn try_out(&self, change: &Change, found: &Found) -> Result<(), StoreError> {
        let Change::Put {
            kind, path, body, ..
        } = change
        else {
            return Ok(());
        };
        let record = read(*kind, path, body)?;
        let old = match found {
            Found::Pool(object) => Some(&**object),
            _ => None,
        };
        self.try_out_pool(old, &record, path).await
    }

    /// Writes the node pools that are pending at a record, and strikes them off. The answer is the record's version then.
    pub(crate) async fn settle_pending(
        &self,
        kind: Kind,
        path: &str,
    ) -> Result<Option<Revision>, StoreError> {
        let Some(of) = kind_of(kind) else {
            return Ok(None);
        };
        let Some(object) = self.object(of, path).await? else {
            return Ok(None);
        };
        if object.status.pending.is_empty() {
            return Ok(Some(object.revision()));
        }
        for pending in &object.status.pending {
            self.catch_up(pending).await?;
        }
        let mut settled = object;
        settled.metadata.managed_fields = None;
        settled.status.pending = Vec::new();
        self.write(of, &settled).await.map(|it| Some(it.revision()))
    }

    /// Tells an operation its end, or forgets it. One that somebody else has ended meanwhile keeps that end.
    async fn end(&self, change: &Change, found: &Found) -> Result<Option<Revision>, StoreError> {
        let (kind, path) = change.subject();
        let Some(of) = kind_of(kind) else {
            return Ok(None);
        };
        let mut object = match found {
            Found::Object(object) => (**object).clone(),
            _ => return Ok(None),
        };
        let Change::Put { body, .. } = change else {
            return self.forget(kind, &object).await.map(|()| None);
        };
        for _ in 0..TIMES {
            let next = RecordObject::of(of, path, body, None, Some(&object))?;
            match self.write(of, &next).await {
                Err(StoreError::Conflict { .. }) => {}
                written => return written.map(|it| Some(it.revision())),
            }
            let Some(now) = self.object(of, path).await? else {
                return Ok(None);
            };
            let record: Operation = read(kind, path, &now.raw(kind)?.body)?;
            if record.status != OperationStatus::InProgress {
                return Ok(Some(now.revision()));
            }
            object = now;
        }
        Err(conflict(kind, path))
    }

    /// Takes back operations that nobody was told of.
    async fn take_back(&self, begun: Vec<RecordObject>) {
        for object in begun {
            if let Err(error) = self.forget(Kind::Operation, &object).await {
                let path = &object.spec.path;
                tracing::warn!(%error, "operation {path}, which nobody follows, is left to the operator");
            }
        }
    }

    /// Takes an object away, if it is still the version that was read.
    pub(crate) async fn forget(&self, kind: Kind, object: &RecordObject) -> Result<(), StoreError> {
        let Some(of) = kind_of(kind) else {
            return Ok(());
        };
        let name = object.name_any();
        let parameters = this_very(object);
        match self.api(of).delete(&name, &parameters).await {
            Ok(_) => Ok(()),
            Err(error) if is_conflict(&error) => Err(conflict(kind, &object.spec.path)),
            Err(error) => Err(not_written(of.name, &name, &error)),
        }
    }
}

/// The deletion of this version of this object, and of no other of its name.
fn this_very<K: Resource>(object: &K) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid: object.meta().uid.clone(),
            resource_version: object.meta().resource_version.clone(),
        }),
        ..DeleteParams::default()
    }
}

fn expected(change: &Change) -> Expected {
    match change {
        Change::Put { expected, .. } | Change::Check { expected, .. } => *expected,
        Change::Delete { expected, .. } => Expected::Revision(*expected),
    }
}

fn conflict(kind: Kind, path: &str) -> StoreError {
    StoreError::Conflict {
        kind,
        path: path.to_owned(),
    }
}

fn read<R: serde::de::DeserializeOwned>(
    kind: Kind,
    path: &str,
    body: &Value,
) -> Result<R, StoreError> {
    R::deserialize(body).map_err(|error| StoreError::Unreadable {
        kind,
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// The node pools that are written with what decides.
fn pending(plan: &Plan, changes: &[Change], found: &[Found]) -> Vec<PendingPool> {
    let pool = |index: &usize| match (changes.get(*index)?, found.get(*index)?) {
        (Change::Put { path, body, .. }, found) => Some(PendingPool {
            path: path.clone(),
            generation: match found {
                Found::Pool(object) => object.metadata.generation,
                _ => None,
            },
            record: body.to_string(),
        }),
        _ => None,
    };
    plan.rest.iter().filter_map(pool).collect()
}

/// What an operation that begins is for: the state to which the record is sent that names it.
fn asked_by(changes: &[Change], operation: &Change) -> Option<String> {
    let Change::Put { body, .. } = operation else {
        return None;
    };
    let id = body["key"]["id"].as_str()?;
    changes.iter().find_map(|change| match change {
        Change::Put { body, .. } if body["operation"] == id => {
            body["provisioning_state"].as_str().map(str::to_owned)
        }
        _ => None,
    })
}

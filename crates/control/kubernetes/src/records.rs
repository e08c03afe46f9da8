//! [`pool::Store`] for ARM clients: every record is an object of the API server, and every read goes there.
//!
//! A node pool is its `NodePool`, which a person may have made as well; groups, clusters and operations are objects of
//! [`record_object`](crate::record_object). Reading goes to the API server and not to what is watched, so that whoever has been
//! answered finds what was written, whichever replica is asked next.
//!
//! A `NodePool` may name a group and a cluster that nobody made. These are there as far as anybody can see, and become objects
//! when something is asked of them.

mod commit;
mod failure;
mod node_pools;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use pool::{
    Change, Cluster, ClusterKey, Group, Key, Kind, Page, PowerState, ProvisioningState, RawRecord,
    Revision, Scope, Store, StoreError,
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::convert;
use crate::node_pool::NodePool;
use crate::record_object::{RecordKind, RecordObject, kind_of, name_of};
use failure::unavailable;
pub(crate) use node_pools::{raw, revision};

/// How many objects are asked for at a time.
const PAGE: u32 = 500;

/// Where groups and clusters are that nobody made.
const NOWHERE: &str = "kubernetes";

/// The version of a record that nobody made.
const IMPLIED: Revision = Revision(0);

/// The records of a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Records {
    client: Client,
    /// What was written from here.
    changes: watch::Sender<u64>,
}

impl Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

impl Records {
    /// The records of the cluster that the client leads to.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            changes: watch::Sender::new(0),
        }
    }

    /// Says that somebody else may have written.
    pub(crate) fn may_have_changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn api(&self, kind: RecordKind) -> Api<RecordObject> {
        Api::all_with(self.client.clone(), &kind)
    }

    fn pools(&self) -> Api<NodePool> {
        Api::all(self.client.clone())
    }

    /// The object of a record.
    async fn object(
        &self,
        kind: RecordKind,
        path: &str,
    ) -> Result<Option<RecordObject>, StoreError> {
        let name = name_of(path);
        let found = self.api(kind).get_opt(&name).await;
        let found = found.map_err(|error| unavailable(kind.name, &name, &error))?;
        match found {
            Some(object) if object.spec.path != path => Err(StoreError::Unavailable(format!(
                "{} {name} is that of {}, and not of {path}: delete it if migpool did not make it",
                kind.name, object.spec.path
            ))),
            found => Ok(found),
        }
    }

    /// The object of a record of this kind.
    pub(crate) async fn record_object(
        &self,
        kind: Kind,
        path: &str,
    ) -> Result<Option<RecordObject>, StoreError> {
        match kind_of(kind) {
            Some(of) => self.object(of, path).await,
            None => Ok(None),
        }
    }

    /// All objects of a kind.
    pub(crate) async fn all<K>(&self, kind: &K::DynamicType) -> Result<Vec<K>, StoreError>
    where
        K: Resource<Scope = kube::core::ClusterResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api = Api::<K>::all_with(self.client.clone(), kind);
        let mut all = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let listed = api.list(&page).await;
            let listed = listed.map_err(|error| unavailable(&K::kind(kind), "", &error))?;
            all.extend(listed.items);
            match listed.metadata.continue_.filter(|it| !it.is_empty()) {
                Some(next) => page.continue_token = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// The groups or clusters that others name and nobody made, those of `known` left out.
    async fn implied(
        &self,
        kind: Kind,
        known: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, RawRecord>, StoreError> {
        let mut implied = BTreeMap::new();
        if !matches!(kind, Kind::Group | Kind::Cluster) {
            return Ok(implied);
        }
        let mut clusters = Vec::new();
        for object in self.all::<NodePool>(&()).await? {
            if let Ok(key) = convert::key(&object) {
                clusters.push(key.cluster);
            }
        }
        if let (Kind::Group, Some(of_clusters)) = (kind, kind_of(Kind::Cluster)) {
            let objects = self.all::<RecordObject>(&of_clusters).await?;
            // The object has the key beside the record, which may not be one that can be read.
            clusters.extend(objects.iter().filter_map(RecordObject::key::<ClusterKey>));
        }
        for key in clusters {
            let (path, body) = if kind == Kind::Group {
                let path = key.group.path();
                let group = Group {
                    key: key.group,
                    location: NOWHERE.to_owned(),
                    tags: BTreeMap::new(),
                    provisioning_state: ProvisioningState::Succeeded,
                    operation: None,
                };
                (path, serde_json::to_value(group))
            } else {
                let path = key.path();
                let cluster = Cluster {
                    key,
                    location: NOWHERE.to_owned(),
                    tags: BTreeMap::new(),
                    properties: serde_json::Map::new(),
                    envelope: serde_json::Map::new(),
                    power: PowerState::Running,
                    provisioning_state: ProvisioningState::Succeeded,
                    message: String::new(),
                    operation: None,
                    created: Timestamp::UNIX_EPOCH,
                };
                (path, serde_json::to_value(cluster))
            };
            if known.contains(&path) {
                continue;
            }
            let body = body.map_err(|error| StoreError::Unreadable {
                kind,
                path: path.clone(),
                reason: error.to_string(),
            })?;
            let record = RawRecord {
                kind,
                path: path.clone(),
                revision: IMPLIED,
                body,
            };
            implied.insert(path, record);
        }
        Ok(implied)
    }
}

impl Store for Records {
    async fn read(&self, kind: Kind, path: &str) -> Result<Option<RawRecord>, StoreError> {
        if kind == Kind::NodePool {
            let found = self.pool_object(path).await?;
            return found
                .map(|object| node_pools::raw(&object, path))
                .transpose();
        }
        let Some(of) = kind_of(kind) else {
            return Ok(None);
        };
        match self.object(of, path).await? {
            Some(object) => object.raw(kind).map(Some),
            None => Ok(self.implied(kind, &BTreeSet::new()).await?.remove(path)),
        }
    }

    async fn revision_of(&self, kind: Kind, path: &str) -> Result<Option<Revision>, StoreError> {
        if kind == Kind::NodePool {
            let found = self.pool_object(path).await?;
            return Ok(found.as_ref().map(revision));
        }
        if let Some(object) = self.record_object(kind, path).await? {
            return Ok(Some(object.revision()));
        }
        let implied = self.implied(kind, &BTreeSet::new()).await?;
        Ok(implied.get(path).map(|raw| raw.revision))
    }

    async fn page(
        &self,
        kind: Kind,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<RawRecord>, StoreError> {
        let mut found = BTreeMap::<String, Result<RawRecord, StoreError>>::new();
        if kind == Kind::NodePool {
            for object in self.all::<NodePool>(&()).await? {
                // One that is nowhere is the operator's to complain of.
                let Ok(key) = convert::key(&object) else {
                    continue;
                };
                let path = key.path();
                let raw = node_pools::raw(&object, &path);
                // Of two that are in one place the one counts that can be read.
                if !found.get(&path).is_some_and(Result::is_ok) {
                    found.insert(path, raw);
                }
            }
        } else if let Some(of) = kind_of(kind) {
            for object in self.all::<RecordObject>(&of).await? {
                found.insert(object.spec.path.clone(), object.raw(kind));
            }
            let known = found.keys().cloned().collect();
            let implied = self.implied(kind, &known).await?;
            found.extend(implied.into_iter().map(|(path, raw)| (path, Ok(raw))));
        }
        found.retain(|path, _| path.starts_with(scope.prefix()));
        let found: Vec<_> = found.into_iter().collect();
        Page::cut(found, |(path, _)| path, after, limit).read(|(_, raw)| raw)
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<Vec<Option<Revision>>, StoreError> {
        let revisions = self.make(changes).await;
        self.changes.send_modify(|count| *count += 1);
        revisions
    }

    fn store_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests;

//! A backend that lives in memory alone: for tests. It keeps every promise of the traits but durability.
//!
//! A made node becomes ready, with the allocatable that its layout gives, as soon as it is made, unless the test asks for
//! [`MemoryBackend::hold_nodes`]; a deleted one is gone at once.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, watch};

use crate::Invalid;
use crate::allocatable::expected_allocatable;
use crate::credentials::{CredentialKind, Credentials, CredentialsError};
use crate::key::{ClusterKey, Key};
use crate::name::PodName;
use crate::node::{NodePhase, NodeSpec, ObservedNode};
use crate::node_name::NodeName;
use crate::provider::{Action, NodeProvider, ProviderError};
use crate::store::{
    Change, Changed, Expected, Kind, Page, RawRecord, Record, Revision, Scope, Store, StoreError,
    Stored,
};
use crate::workload::{ExecEnvironment, Pod, PodPhase, WorkloadError, Workloads};

type Records = BTreeMap<(Kind, String), RawRecord>;

/// How many commits a reader of the changed records may fall behind.
const BEHIND: usize = 1024;

/// A backend that lives in memory alone.
#[derive(Debug)]
pub struct MemoryBackend {
    state: Mutex<State>,
    records_changed: watch::Sender<u64>,
    records_told: broadcast::Sender<Changed>,
    nodes_changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    records: Records,
    revision: u64,
    nodes: BTreeMap<NodeName, ObservedNode>,
    hold_nodes: bool,
    refusal: Option<ProviderError>,
    pods: BTreeMap<(String, PodName), (Pod, String)>,
    kubeconfig: Option<Result<Vec<u8>, CredentialsError>>,
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            records_changed: watch::Sender::new(0),
            records_told: broadcast::Sender::new(BEHIND),
            nodes_changed: watch::Sender::new(0),
        }
    }
}

impl MemoryBackend {
    /// An empty backend.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on, made nodes stay `Creating` and deleted ones `Deleting` until [`Self::advance`].
    pub fn hold_nodes(&self) {
        self.lock().hold_nodes = true;
    }

    /// Lets one node be done with what it is doing.
    pub fn advance(&self, name: &NodeName) {
        let mut state = self.lock();
        match state.nodes.get_mut(name) {
            Some(node) if node.phase == NodePhase::Deleting => {
                state.nodes.remove(name);
            }
            Some(node) => make_ready(node),
            None => {}
        }
        drop(state);
        self.nodes_changed.send_modify(|n| *n += 1);
    }

    /// Lets all nodes be done with what they are doing.
    pub fn advance_all(&self) {
        let names: Vec<NodeName> = self.lock().nodes.keys().cloned().collect();
        for name in names {
            self.advance(&name);
        }
    }

    /// Changes what is seen of a node.
    pub fn change_node(&self, name: &NodeName, change: impl FnOnce(&mut ObservedNode)) {
        if let Some(node) = self.lock().nodes.get_mut(name) {
            change(node);
        }
        self.nodes_changed.send_modify(|n| *n += 1);
    }

    /// From now on, every action ends in this error; `None`: in none.
    pub fn refuse_actions(&self, error: Option<ProviderError>) {
        self.lock().refusal = error;
    }

    /// From now on, this is every cluster's kubeconfig, or why there is none.
    pub fn set_kubeconfig(&self, kubeconfig: Result<Vec<u8>, CredentialsError>) {
        self.lock().kubeconfig = Some(kubeconfig);
    }

    /// The names of all nodes.
    #[must_use]
    pub fn node_names(&self) -> Vec<NodeName> {
        self.lock().nodes.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_ready(node: &mut ObservedNode) {
    node.phase = NodePhase::Running;
    node.ready = true;
    node.message = String::new();
    node.labels = node.spec.labels.clone();
    node.allocatable = expected_allocatable(&node.spec).unwrap_or_default();
    node.capacity = node.allocatable.clone();
}

fn new_node(spec: NodeSpec) -> ObservedNode {
    ObservedNode {
        spec,
        phase: NodePhase::Creating,
        ready: false,
        message: String::new(),
        capacity: BTreeMap::new(),
        allocatable: BTreeMap::new(),
        labels: BTreeMap::new(),
        conditions: Vec::new(),
        gpus: Vec::new(),
        boards: BTreeMap::new(),
        slices: crate::Slices::default(),
        driver_version: None,
        created: Timestamp::now(),
    }
}

impl Store for MemoryBackend {
    async fn read(&self, kind: Kind, path: &str) -> Result<Option<RawRecord>, StoreError> {
        Ok(self.lock().records.get(&(kind, path.to_owned())).cloned())
    }

    async fn get_at<R: Record>(&self, path: &str) -> Result<Option<Stored<R>>, StoreError> {
        let state = self.lock();
        let raw = state.records.get(&(R::KIND, path.to_owned()));
        raw.map(Stored::of).transpose()
    }

    async fn get_part<R: Record, T: DeserializeOwned + Send>(
        &self,
        key: &R::Key,
    ) -> Result<Option<T>, StoreError> {
        let state = self.lock();
        let raw = state.records.get(&(R::KIND, key.path()));
        raw.map(RawRecord::part).transpose()
    }

    async fn revision_of(&self, kind: Kind, path: &str) -> Result<Option<Revision>, StoreError> {
        let state = self.lock();
        let raw = state.records.get(&(kind, path.to_owned()));
        Ok(raw.map(|it| it.revision))
    }

    async fn page(
        &self,
        kind: Kind,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<RawRecord>, StoreError> {
        let state = self.lock();
        let start = after.unwrap_or_default().max(scope.prefix());
        let from = Bound::Excluded((kind, start.to_owned()));
        let mut within = state
            .records
            .range((from, Bound::Unbounded))
            .map(|(_, record)| record)
            .take_while(|it| it.kind == kind && it.path.starts_with(scope.prefix()));
        let records: Vec<_> = within.by_ref().take(limit).cloned().collect();
        let last = within.next().and(records.last());
        Ok(Page {
            next: last.map(|record| record.path.clone()),
            unreadable: Vec::new(),
            records,
        })
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<Vec<Option<Revision>>, StoreError> {
        let mut state = self.lock();
        for change in &changes {
            as_expected(&state.records, change)?;
        }
        let mut revisions = Vec::with_capacity(changes.len());
        let mut touched = Vec::new();
        for change in changes {
            let (kind, path) = change.subject();
            let id = (kind, path.to_owned());
            if !matches!(change, Change::Check { .. }) {
                state.revision += 1;
                touched.push(id.clone());
            }
            let revision = Revision(state.revision);
            revisions.push(match change {
                Change::Put {
                    kind, path, body, ..
                } => {
                    let record = RawRecord {
                        kind,
                        path,
                        revision,
                        body,
                    };
                    state.records.insert(id, record);
                    Some(revision)
                }
                Change::Delete { .. } => {
                    state.records.remove(&id);
                    None
                }
                Change::Check { .. } => None,
            });
        }
        if !touched.is_empty() {
            // Nobody may listen.
            let _ = self.records_told.send(touched.into());
            // Before anybody can read what was changed.
            self.records_changed.send_modify(|n| *n += 1);
        }
        drop(state);
        Ok(revisions)
    }

    fn store_changes(&self) -> watch::Receiver<u64> {
        self.records_changed.subscribe()
    }

    fn generation(&self) -> Option<u64> {
        Some(*self.records_changed.borrow())
    }

    fn record_changes(&self) -> Option<broadcast::Receiver<Changed>> {
        Some(self.records_told.subscribe())
    }
}

fn as_expected(records: &Records, change: &Change) -> Result<(), StoreError> {
    let (kind, path) = change.subject();
    let expected = match change {
        Change::Put { expected, .. } | Change::Check { expected, .. } => *expected,
        Change::Delete { expected, .. } => Expected::Revision(*expected),
    };
    let id = (kind, path.to_owned());
    let found = records.get(&id).map_or(Expected::Absent, |record| {
        Expected::Revision(record.revision)
    });
    if found == expected {
        return Ok(());
    }
    Err(StoreError::Conflict {
        kind: id.0,
        path: id.1,
    })
}

impl NodeProvider for MemoryBackend {
    async fn observe(&self) -> Result<Vec<Arc<ObservedNode>>, ProviderError> {
        Ok(self.lock().nodes.values().cloned().map(Arc::new).collect())
    }

    async fn apply(&self, action: Action) -> Result<(), ProviderError> {
        let mut state = self.lock();
        if let Some(error) = &state.refusal {
            return Err(error.clone());
        }
        let hold = state.hold_nodes;
        match action {
            Action::CreateNode(spec) => {
                state.nodes.entry(spec.name.clone()).or_insert_with(|| {
                    let mut node = new_node(spec);
                    if !hold {
                        make_ready(&mut node);
                    }
                    node
                });
            }
            Action::UpdateNode(spec) => {
                if let Some(node) = state.nodes.get_mut(&spec.name) {
                    let is_new_layout = node.spec.layout != spec.layout;
                    node.labels.clone_from(&spec.labels);
                    node.spec = spec;
                    if is_new_layout && !hold {
                        make_ready(node);
                    }
                }
            }
            Action::DeleteNode(name) if hold => {
                if let Some(node) = state.nodes.get_mut(&name) {
                    node.phase = NodePhase::Deleting;
                    node.ready = false;
                }
            }
            Action::DeleteNode(name) => {
                state.nodes.remove(&name);
            }
            Action::Resize(pool, _) => {
                return Err(ProviderError::Refused(format!(
                    "node pool {} has no set of machines",
                    pool.pool
                )));
            }
        }
        drop(state);
        self.nodes_changed.send_modify(|n| *n += 1);
        Ok(())
    }

    fn node_changes(&self) -> watch::Receiver<u64> {
        self.nodes_changed.subscribe()
    }
}

/// The kubeconfig names whom it is for in a last line.
impl Credentials for MemoryBackend {
    async fn kubeconfig(
        &self,
        _cluster: &ClusterKey,
        who: CredentialKind,
    ) -> Result<Option<Vec<u8>>, CredentialsError> {
        let made = self.lock().kubeconfig.clone().transpose()?;
        Ok(made.map(|mut yaml| {
            yaml.extend(format!("# {who}\n").into_bytes());
            yaml
        }))
    }
}

/// A pod runs as soon as it is asked for; its manifest is its log, and must be JSON.
impl Workloads for MemoryBackend {
    async fn run_pod(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
        manifest: &str,
    ) -> Result<Pod, WorkloadError> {
        if let Err(error) = serde_json::from_str::<serde_json::Value>(manifest) {
            return Err(Invalid::parameter(
                "manifest",
                format!("The manifest can't be read: {error}."),
            )
            .into());
        }
        let mut state = self.lock();
        let id = (cluster.path(), name.clone());
        if let Some((pod, known)) = state.pods.get(&id) {
            return if known == manifest {
                Ok(pod.clone())
            } else {
                Err(WorkloadError::Conflict(format!(
                    "pod {name} is there already; delete it first"
                )))
            };
        }
        let pod = Pod {
            name: name.clone(),
            namespace: "default".to_owned(),
            uid: uuid::Uuid::new_v4().to_string(),
            phase: PodPhase::Running,
            message: String::new(),
            node: state.nodes.keys().next().cloned(),
            containers: Vec::new(),
            created: Timestamp::now(),
            notices: Vec::new(),
        };
        state.pods.insert(id, (pod.clone(), manifest.to_owned()));
        Ok(pod)
    }

    async fn pods(&self, cluster: &ClusterKey) -> Result<Vec<Pod>, WorkloadError> {
        let path = cluster.path();
        let state = self.lock();
        Ok(state
            .pods
            .iter()
            .filter(|((of, _), _)| *of == path)
            .map(|(_, (pod, _))| pod.clone())
            .collect())
    }

    async fn pod(&self, cluster: &ClusterKey, name: &PodName) -> Result<Pod, WorkloadError> {
        let found = self
            .lock()
            .pods
            .get(&(cluster.path(), name.clone()))
            .map(|(pod, _)| pod.clone());
        found.ok_or_else(|| WorkloadError::NotFound(name.clone()))
    }

    async fn pod_logs(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
        _container: Option<&str>,
    ) -> Result<Vec<u8>, WorkloadError> {
        let state = self.lock();
        let found = state.pods.get(&(cluster.path(), name.clone()));
        let (_, manifest) = found.ok_or_else(|| WorkloadError::NotFound(name.clone()))?;
        Ok(manifest.clone().into_bytes())
    }

    async fn delete_pod(&self, cluster: &ClusterKey, name: &PodName) -> Result<(), WorkloadError> {
        let removed = self.lock().pods.remove(&(cluster.path(), name.clone()));
        removed
            .map(|_| ())
            .ok_or_else(|| WorkloadError::NotFound(name.clone()))
    }

    async fn exec_environment(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
        container: Option<&str>,
    ) -> Result<ExecEnvironment, WorkloadError> {
        self.pod(cluster, name).await?;
        if container.is_some() {
            return Err(WorkloadError::Conflict(format!(
                "pod {name} has no container of that name"
            )));
        }
        Ok(ExecEnvironment {
            environment: BTreeMap::from([("HOSTNAME".to_owned(), name.to_string())]),
            working_directory: None,
        })
    }
}

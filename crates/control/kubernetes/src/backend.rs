//! The cluster as a backend of the model: what is watched of it, and the client that changes it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gpu_node::GpuNode;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};
use pool::Kind;
use tokio::sync::watch;

use crate::node_pool::NodePool;
use crate::record_object::{RecordKind, RecordObject, name_of};
use crate::records::Records;
use crate::view::Pair;

/// What is watched of the cluster.
#[derive(Clone)]
pub struct Caches {
    /// The pools.
    pub pools: Store<NodePool>,
    /// The nodes, stripped of what is not looked at.
    pub nodes: Store<Node>,
    /// What their agents say, likewise.
    pub gpu_nodes: Store<GpuNode>,
    /// A number that changes with any of them.
    pub changes: watch::Receiver<u64>,
}

/// The records of ARM clients beside node pools: how they are written, and what is watched of them.
#[derive(Clone, Debug)]
pub struct Arm {
    /// How they are read and written.
    pub records: Records,
    /// Those that are watched, by their kind.
    pub watched: Vec<(RecordKind, Store<RecordObject>)>,
}

impl Arm {
    /// What is watched of a record.
    pub(crate) fn watched(&self, kind: Kind, path: &str) -> Option<Arc<RecordObject>> {
        let (of, store) = self.watched.iter().find(|(of, _)| of.kind == kind)?;
        let found = store.get(&ObjectRef::new_with(&name_of(path), *of));
        found.filter(|object| object.spec.path == path)
    }

    /// All that is watched of a kind.
    pub(crate) fn all(&self, kind: Kind) -> Vec<Arc<RecordObject>> {
        let found = self.watched.iter().find(|(of, _)| of.kind == kind);
        found.map(|(_, store)| store.state()).unwrap_or_default()
    }
}

/// [`pool::Store`] and [`pool::NodeProvider`] on a cluster.
///
/// It reads what is watched, and writes to the API server. What it wrote itself counts at once, before the watch tells of
/// it; what somebody else changed meanwhile makes a write fail, and it is decided anew.
pub struct KubernetesBackend {
    pub(crate) client: Client,
    pub(crate) caches: Caches,
    /// Cluster API's objects may be looked at.
    pub(crate) cluster_api: bool,
    /// The records of ARM clients, where they are looked after.
    pub(crate) arm: Option<Arm>,
    /// What was written and not seen yet, by name. Only the operator's loop comes here, one pool at a time.
    written: Mutex<BTreeMap<String, Arc<GpuNode>>>,
}

impl std::fmt::Debug for KubernetesBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesBackend").finish_non_exhaustive()
    }
}

impl KubernetesBackend {
    /// A backend over what is watched.
    #[must_use]
    pub fn new(client: Client, caches: Caches, cluster_api: bool, arm: Option<Arm>) -> Self {
        Self {
            client,
            caches,
            cluster_api,
            arm,
            written: Mutex::default(),
        }
    }

    pub(crate) fn pools(&self) -> Api<NodePool> {
        Api::all(self.client.clone())
    }

    pub(crate) fn gpu_nodes(&self) -> Api<GpuNode> {
        Api::all(self.client.clone())
    }

    pub(crate) fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// The node of this name, if it has a `GpuNode`.
    pub(crate) fn pair(&self, name: &str) -> Option<Pair> {
        let seen = self.caches.gpu_nodes.get(&ObjectRef::new(name));
        let gpu_node = match self.lock().get(name) {
            Some(written) => Some(Arc::clone(written)).filter(|_| seen.is_some()),
            None => seen,
        }?;
        Some(self.paired(gpu_node))
    }

    /// Every node that has a `GpuNode`.
    pub(crate) fn pairs(&self) -> Vec<Pair> {
        let seen = self.caches.gpu_nodes.state();
        let mut written = self.lock();
        if !written.is_empty() {
            let all: BTreeMap<String, &Arc<GpuNode>> =
                seen.iter().map(|it| (it.name_any(), it)).collect();
            // What the watch has told of by now counts, and what is gone is gone.
            written.retain(|name, ours| all.get(name).is_some_and(|seen| is_newer(ours, seen)));
        }
        let newest = |seen: Arc<GpuNode>| match written.get(&seen.name_any()) {
            Some(ours) => Arc::clone(ours),
            None => seen,
        };
        let newest: Vec<_> = seen.into_iter().map(newest).collect();
        drop(written);
        newest.into_iter().map(|it| self.paired(it)).collect()
    }

    fn paired(&self, gpu_node: Arc<GpuNode>) -> Pair {
        Pair {
            node: self.caches.nodes.get(&ObjectRef::new(&gpu_node.name_any())),
            gpu_node,
        }
    }

    /// Remembers what was written.
    pub(crate) fn wrote(&self, mut gpu_node: GpuNode) {
        crate::view::strip_gpu_node(&mut gpu_node);
        self.lock().insert(gpu_node.name_any(), Arc::new(gpu_node));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<GpuNode>>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was written is of a later generation of the same object than what was seen.
fn is_newer(ours: &GpuNode, seen: &GpuNode) -> bool {
    ours.metadata.uid == seen.metadata.uid && ours.metadata.generation > seen.metadata.generation
}

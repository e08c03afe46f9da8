//! A front over the store of this crate, with nodes that are in memory alone: for what concerns many pools.
#![allow(dead_code, clippy::expect_used)]

use std::sync::Arc;

use migpool_local::store::Database;
use pool::memory::MemoryBackend;
use pool::{
    Action, Change, Changed, ClusterKey, Credentials, ExecEnvironment, Kind, NodeProvider,
    ObservedNode, Page, Pod, PodName, ProviderError, RawRecord, Revision, Scope, Store, StoreError,
    WorkloadError, Workloads,
};
use tokio::sync::{broadcast, watch};

/// The real store, and nodes that are ready at once.
#[derive(Clone)]
pub(crate) struct Backend {
    pub(crate) store: Database,
    pub(crate) nodes: Arc<MemoryBackend>,
}

impl Backend {
    pub(crate) fn over(store: Database) -> Self {
        Self {
            store,
            nodes: Arc::new(MemoryBackend::new()),
        }
    }

    /// The front over it.
    pub(crate) fn front(&self) -> arm::Front {
        let settings = arm::FrontSettings {
            scheme: arm::Scheme::Http,
            account: arm::Account::local(),
        };
        arm::Front::new(Arc::new(self.clone()), settings)
    }
}

impl Store for Backend {
    async fn read(&self, kind: Kind, path: &str) -> Result<Option<RawRecord>, StoreError> {
        self.store.read(kind, path).await
    }

    async fn revision_of(&self, kind: Kind, path: &str) -> Result<Option<Revision>, StoreError> {
        self.store.revision_of(kind, path).await
    }

    async fn page(
        &self,
        kind: Kind,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<RawRecord>, StoreError> {
        self.store.page(kind, scope, after, limit).await
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<Vec<Option<Revision>>, StoreError> {
        self.store.commit(changes).await
    }

    fn store_changes(&self) -> watch::Receiver<u64> {
        self.store.store_changes()
    }

    fn generation(&self) -> Option<u64> {
        self.store.generation()
    }

    fn record_changes(&self) -> Option<broadcast::Receiver<Changed>> {
        self.store.record_changes()
    }
}

impl NodeProvider for Backend {
    async fn observe(&self) -> Result<Vec<Arc<ObservedNode>>, ProviderError> {
        self.nodes.observe().await
    }

    async fn apply(&self, action: Action) -> Result<(), ProviderError> {
        self.nodes.apply(action).await
    }

    fn node_changes(&self) -> watch::Receiver<u64> {
        self.nodes.node_changes()
    }
}

impl Credentials for Backend {}

impl Workloads for Backend {
    async fn run_pod(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
        manifest: &str,
    ) -> Result<Pod, WorkloadError> {
        self.nodes.run_pod(cluster, name, manifest).await
    }

    async fn pods(&self, cluster: &ClusterKey) -> Result<Vec<Pod>, WorkloadError> {
        self.nodes.pods(cluster).await
    }

    async fn pod(&self, cluster: &ClusterKey, name: &PodName) -> Result<Pod, WorkloadError> {
        self.nodes.pod(cluster, name).await
    }

    async fn pod_logs(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
        container: Option<&str>,
    ) -> Result<Vec<u8>, WorkloadError> {
        self.nodes.pod_logs(cluster, name, container).await
    }

    async fn delete_pod(&self, cluster: &ClusterKey, name: &PodName) -> Result<(), WorkloadError> {
        self.nodes.delete_pod(cluster, name).await
    }

    async fn exec_environment(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
        container: Option<&str>,
    ) -> Result<ExecEnvironment, WorkloadError> {
        self.nodes.exec_environment(cluster, name, container).await
    }
}

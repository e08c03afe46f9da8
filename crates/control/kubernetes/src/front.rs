//! What the ARM front of a cluster stands on: records, nodes as they are seen, kubeconfigs, and no pods of its own.

use std::sync::Arc;

use pool::store::Page;
use pool::{
    Action, Change, ClusterKey, CredentialKind, Credentials, CredentialsError, ExecEnvironment,
    Kind, NodeProvider, ObservedNode, Pod, PodName, ProviderError, RawRecord, Revision, Scope,
    Store, StoreError, WorkloadError, Workloads,
};
use tokio::sync::watch;

use crate::credentials::Kubeconfigs;
use crate::people::PoolClient;
use crate::records::Records;

/// The front's backend. The operator does the work.
#[derive(Clone, Debug)]
pub struct Front {
    pub(crate) records: Records,
    pub(crate) people: PoolClient,
    /// None: no kubeconfigs are handed out.
    pub(crate) kubeconfigs: Option<Kubeconfigs>,
}

impl Store for Front {
    async fn read(&self, kind: Kind, path: &str) -> Result<Option<RawRecord>, StoreError> {
        self.records.read(kind, path).await
    }

    async fn revision_of(&self, kind: Kind, path: &str) -> Result<Option<Revision>, StoreError> {
        self.records.revision_of(kind, path).await
    }

    async fn page(
        &self,
        kind: Kind,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<RawRecord>, StoreError> {
        self.records.page(kind, scope, after, limit).await
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<Vec<Option<Revision>>, StoreError> {
        self.records.commit(changes).await
    }

    fn store_changes(&self) -> watch::Receiver<u64> {
        self.records.store_changes()
    }
}

impl NodeProvider for Front {
    async fn observe(&self) -> Result<Vec<Arc<ObservedNode>>, ProviderError> {
        let nodes = self.people.nodes().await;
        let nodes = nodes.map_err(|error| ProviderError::Unavailable(error.to_string()))?;
        Ok(nodes.into_iter().map(Arc::new).collect())
    }

    async fn apply(&self, _: Action) -> Result<(), ProviderError> {
        Err(ProviderError::Refused(
            "nodes are the operator's, and the front only shows them".to_owned(),
        ))
    }

    fn node_changes(&self) -> watch::Receiver<u64> {
        self.records.store_changes()
    }
}

impl Credentials for Front {
    async fn kubeconfig(
        &self,
        cluster: &ClusterKey,
        who: CredentialKind,
    ) -> Result<Option<Vec<u8>>, CredentialsError> {
        match &self.kubeconfigs {
            Some(kubeconfigs) => kubeconfigs.make(cluster, who).await.map(Some),
            None => Err(CredentialsError::Refused(
                "This front hands out no kubeconfigs: the chart has arm.credentials.clusterRole='', so there is nobody whom they would be for. Name a ClusterRole there, or use the kubeconfig that you have."
                    .to_owned(),
            )),
        }
    }
}

/// Pods of a cluster are `kubectl`'s.
fn by_kubectl(cluster: &ClusterKey) -> WorkloadError {
    WorkloadError::Conflict(format!(
        "the pods of cluster {} are run by Kubernetes: get a kubeconfig with 'az aks get-credentials --resource-group {} --name {}', and then use 'kubectl apply', 'kubectl get pods', 'kubectl logs' and 'kubectl exec'",
        cluster.cluster, cluster.group.group, cluster.cluster
    ))
}

impl Workloads for Front {
    async fn run_pod(
        &self,
        cluster: &ClusterKey,
        _: &PodName,
        _: &str,
    ) -> Result<Pod, WorkloadError> {
        Err(by_kubectl(cluster))
    }

    async fn pods(&self, cluster: &ClusterKey) -> Result<Vec<Pod>, WorkloadError> {
        Err(by_kubectl(cluster))
    }

    async fn pod(&self, cluster: &ClusterKey, _: &PodName) -> Result<Pod, WorkloadError> {
        Err(by_kubectl(cluster))
    }

    async fn pod_logs(
        &self,
        cluster: &ClusterKey,
        _: &PodName,
        _: Option<&str>,
    ) -> Result<Vec<u8>, WorkloadError> {
        Err(by_kubectl(cluster))
    }

    async fn delete_pod(&self, cluster: &ClusterKey, _: &PodName) -> Result<(), WorkloadError> {
        Err(by_kubectl(cluster))
    }

    async fn exec_environment(
        &self,
        cluster: &ClusterKey,
        _: &PodName,
        _: Option<&str>,
    ) -> Result<ExecEnvironment, WorkloadError> {
        Err(by_kubectl(cluster))
    }
}

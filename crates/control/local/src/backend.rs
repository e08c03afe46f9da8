//! What the API stands on: the store, the nodes and the pods of this machine behind one handle.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pool::{
    Action, Change, Changed, ClusterKey, Credentials, ExecEnvironment, Invalid, Kind, NodeProvider,
    ObservedNode, Page, Pod, PodName, ProviderError, RawRecord, Revision, Scope, Store, StoreError,
    WorkloadError, Workloads,
};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::engine::Message;
use crate::pod::manifest;
use crate::store::Database;

/// A handle on the engine and its store; clones are the same engine.
#[derive(Debug, Clone)]
pub struct LocalBackend {
    pub(crate) database: Database,
    pub(crate) engine: mpsc::UnboundedSender<Message>,
    pub(crate) changes: watch::Receiver<u64>,
}

/// How much of a log is shown. It grows for as long as its pod writes, and memory does not.
const TAIL: u64 = 16 << 20;

async fn read_tail(file: &Path) -> io::Result<Vec<u8>> {
    let mut file = tokio::fs::File::open(file).await?;
    let left_out = file.metadata().await?.len().saturating_sub(TAIL);
    let mut log = Vec::new();
    if left_out > 0 {
        log.extend(format!("[{left_out} earlier bytes left out]\n").into_bytes());
    }
    file.seek(SeekFrom::Start(left_out)).await?;
    // A pod that writes faster than this reads must not keep it reading.
    file.take(TAIL).read_to_end(&mut log).await?;
    Ok(log)
}

impl LocalBackend {
    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, Ended> {
        let (answer, answered) = oneshot::channel();
        self.engine.send(message(answer)).map_err(|_| Ended)?;
        answered.await.map_err(|_| Ended)
    }
}

/// The engine has ended, because `up` is ending.
#[derive(Debug)]
struct Ended;

const ENDED: &str = "migpool is ending";

impl From<Ended> for ProviderError {
    fn from(_: Ended) -> Self {
        Self::Unavailable(ENDED.to_owned())
    }
}

impl From<Ended> for WorkloadError {
    fn from(_: Ended) -> Self {
        Self::Failed(ENDED.to_owned())
    }
}

impl Store for LocalBackend {
    async fn read(&self, kind: Kind, path: &str) -> Result<Option<RawRecord>, StoreError> {
        self.database.read(kind, path).await
    }

    async fn revision_of(&self, kind: Kind, path: &str) -> Result<Option<Revision>, StoreError> {
        self.database.revision_of(kind, path).await
    }

    async fn page(
        &self,
        kind: Kind,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<RawRecord>, StoreError> {
        self.database.page(kind, scope, after, limit).await
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<Vec<Option<Revision>>, StoreError> {
        self.database.commit(changes).await
    }

    fn store_changes(&self) -> watch::Receiver<u64> {
        self.database.store_changes()
    }

    fn generation(&self) -> Option<u64> {
        self.database.generation()
    }

    fn record_changes(&self) -> Option<broadcast::Receiver<Changed>> {
        self.database.record_changes()
    }
}

impl NodeProvider for LocalBackend {
    async fn observe(&self) -> Result<Vec<Arc<ObservedNode>>, ProviderError> {
        Ok(self.ask(|answer| Message::Observe { answer }).await?)
    }

    async fn apply(&self, action: Action) -> Result<(), ProviderError> {
        self.ask(|answer| Message::Apply { action, answer }).await?
    }

    fn node_changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

/// Its nodes are processes: there is no Kubernetes to lead to.
impl Credentials for LocalBackend {}

impl Workloads for LocalBackend {
    async fn run_pod(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
        manifest: &str,
    ) -> Result<Pod, WorkloadError> {
        let invalid = |message: String| {
            WorkloadError::from(Invalid::parameter("properties.manifest", message))
        };
        let manifest = manifest::parse(manifest).map_err(|error| invalid(error.to_string()))?;
        if manifest.metadata.name != name.as_str() {
            return Err(invalid(format!(
                "manifest: metadata.name: is {:?}, and the pod was asked for as {name}",
                manifest.metadata.name
            )));
        }
        let (cluster, name, manifest) = (cluster.clone(), name.clone(), Box::new(manifest));
        self.ask(|answer| Message::Run {
            cluster,
            name,
            manifest,
            answer,
        })
        .await?
    }

    async fn pods(&self, cluster: &ClusterKey) -> Result<Vec<Pod>, WorkloadError> {
        let cluster = cluster.clone();
        Ok(self.ask(|answer| Message::List { cluster, answer }).await?)
    }

    async fn pod(&self, cluster: &ClusterKey, name: &PodName) -> Result<Pod, WorkloadError> {
        let (cluster, name) = (cluster.clone(), name.clone());
        self.ask(|answer| Message::Get {
            cluster,
            name,
            answer,
        })
        .await?
    }

    async fn pod_logs(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
        container: Option<&str>,
    ) -> Result<Vec<u8>, WorkloadError> {
        let (cluster, name, container) =
            (cluster.clone(), name.clone(), container.map(str::to_owned));
        let file: PathBuf = self
            .ask(|answer| Message::Log {
                cluster,
                name,
                container,
                answer,
            })
            .await??;
        match read_tail(&file).await {
            Ok(log) => Ok(log),
            // It has not been started yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(WorkloadError::Failed(format!(
                "cannot read {}: {error}",
                file.display()
            ))),
        }
    }

    async fn delete_pod(&self, cluster: &ClusterKey, name: &PodName) -> Result<(), WorkloadError> {
        let (cluster, name) = (cluster.clone(), name.clone());
        self.ask(|answer| Message::Delete {
            cluster,
            name,
            answer,
        })
        .await?
    }

    async fn exec_environment(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
        container: Option<&str>,
    ) -> Result<ExecEnvironment, WorkloadError> {
        let (cluster, name, container) =
            (cluster.clone(), name.clone(), container.map(str::to_owned));
        self.ask(|answer| Message::ExecEnvironment {
            cluster,
            name,
            container,
            answer,
        })
        .await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_long_log_is_shown_and_what_is_missing_is_said() {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), "short\n").expect("written");
        let log = read_tail(file.path()).await.expect("read");
        assert_eq!(log, b"short\n");

        let grown = file.as_file();
        grown.set_len(TAIL + 5).expect("longer");
        let log = read_tail(file.path()).await.expect("read");
        let said = b"[5 earlier bytes left out]\n";
        assert!(log.starts_with(said));
        assert_eq!(log.len() as u64, said.len() as u64 + TAIL);
    }
}

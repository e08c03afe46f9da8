//! The connection to the API server, which may only come about later: a kubeconfig or a token can be missing at first.

use std::path::PathBuf;

use cluster::NodeClient;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How to reach the API server, and as which node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The node's name in the cluster.
    pub node: String,
    /// A kubeconfig; that of the pod's service account where there is none.
    pub kubeconfig: Option<PathBuf>,
}

/// The client, or why there is none yet.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    client: watch::Receiver<Result<NodeClient, String>>,
}

impl Connection {
    /// Connects where there is a place to.
    pub(crate) async fn shared(
        config: Option<&ClusterConfig>,
        stop: &CancellationToken,
    ) -> Option<Self> {
        match config {
            Some(config) => Some(Self::open(config.clone(), stop.clone()).await),
            None => None,
        }
    }

    /// Connects, again and again until it works; asks the server nothing.
    pub(crate) async fn open(config: ClusterConfig, stop: CancellationToken) -> Self {
        let first = connect(&config).await;
        let failed = first.is_err();
        let (sender, client) = watch::channel(first);
        if failed {
            tokio::spawn(async move {
                for pause in cluster::backoff() {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                    let next = connect(&config).await;
                    let connected = next.is_ok();
                    sender.send_if_modified(|now| {
                        let changed = connected || now.as_ref().err() != next.as_ref().err();
                        *now = next;
                        changed
                    });
                    if connected {
                        return;
                    }
                }
            });
        }
        Self { client }
    }

    /// The client.
    ///
    /// # Errors
    /// Why there is none yet.
    pub(crate) fn now(&mut self) -> Result<NodeClient, String> {
        self.client.borrow_and_update().clone()
    }

    /// Waits until there is one, or another reason why not; for ever, where there is one already.
    pub(crate) async fn changed(&mut self) {
        if self.client.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn connect(config: &ClusterConfig) -> Result<NodeClient, String> {
    NodeClient::connect(&config.node, config.kubeconfig.as_deref())
        .await
        .map_err(|error| error.to_string())
}

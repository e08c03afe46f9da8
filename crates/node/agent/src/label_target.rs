//! Where the labels go: a file, standard output, the node itself, or Node Feature Discovery.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cluster::NodeClient;
use discovery::Labels;

use crate::connection::Connection;

/// The field manager of the node's labels: those that it set before and does not set any more are removed by the API
/// server, also when the agent that set them was killed.
const FIELD_MANAGER: &str = "migpool-feature-discovery";

/// How long the end of the agent may take for the sake of labels in the cluster.
const FAREWELL: Duration = Duration::from_secs(10);

/// Where labels go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelsOutput {
    /// To a file that Node Feature Discovery reads, replaced whole.
    File(PathBuf),
    /// To standard output.
    Stdout,
    /// To the node itself, which needs nothing else in the cluster.
    Node,
    /// To the `NodeFeature` object from which Node Feature Discovery labels the node.
    NodeFeature {
        /// The namespace of the object.
        namespace: String,
    },
}

impl LabelsOutput {
    /// Whether the API server is needed for it.
    #[must_use]
    pub const fn is_in_cluster(&self) -> bool {
        matches!(self, Self::Node | Self::NodeFeature { .. })
    }
}

/// Why labels were not written or removed.
#[derive(Debug, thiserror::Error)]
pub enum LabelsError {
    /// The file is not as it should be.
    #[error(transparent)]
    File(#[from] discovery::FileError),
    /// Standard output cannot be written.
    #[error("cannot write the labels to standard output: {0}")]
    Stdout(#[source] io::Error),
    /// There is no way to the API server yet.
    #[error("{0}")]
    NotConnected(String),
    /// The API server did not take them.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// The thread that wrote has died, which was reported where it happened.
    #[error("the thread that writes the labels ended unexpectedly; this is a bug in migpool")]
    Died,
}

impl LabelsError {
    /// Somebody has to do something about the cluster: it does not pass by itself.
    pub(crate) fn is_blocking(&self) -> bool {
        match self {
            Self::NotConnected(_) => true,
            Self::Cluster(error) => !error.is_transient(),
            Self::File(_) | Self::Stdout(_) | Self::Died => false,
        }
    }
}

/// Writes labels where they belong.
pub(crate) struct Target {
    output: LabelsOutput,
    connection: Option<Connection>,
}

impl Target {
    pub(crate) fn new(output: LabelsOutput, connection: Option<Connection>) -> Self {
        Self { output, connection }
    }

    fn client(&mut self) -> Result<NodeClient, LabelsError> {
        match &mut self.connection {
            Some(connection) => connection.now().map_err(LabelsError::NotConnected),
            None => Err(LabelsError::NotConnected(
                "the labels are to go to the cluster, and the node's name is not known: set NODE_NAME"
                    .to_owned(),
            )),
        }
    }

    /// Whether what was written at some time can be taken to be there still. A cluster's labels are written again from
    /// time to time, since nobody tells of a change there.
    pub(crate) fn is_there(&self, written: Instant, interval: Option<Duration>) -> bool {
        match &self.output {
            LabelsOutput::File(path) => path.exists(),
            LabelsOutput::Stdout => true,
            LabelsOutput::Node | LabelsOutput::NodeFeature { .. } => {
                interval.is_none_or(|interval| written.elapsed() < interval)
            }
        }
    }

    /// Makes the labels exactly these. The answer is what of them was left out, and why.
    pub(crate) async fn write(&mut self, labels: Labels) -> Result<Vec<String>, LabelsError> {
        match self.output.clone() {
            LabelsOutput::File(path) => {
                blocking(move || Ok(discovery::write_file(&path, &labels)?)).await?;
            }
            LabelsOutput::Stdout => {
                blocking(move || {
                    let text = discovery::to_text(&labels);
                    let written = io::stdout().lock().write_all(text.as_bytes());
                    written.map_err(LabelsError::Stdout)
                })
                .await?;
            }
            LabelsOutput::Node => {
                let client = self.client()?;
                let applied = client.labels(FIELD_MANAGER).apply(&labels).await?;
                let conflicts = applied.conflicts.iter().map(ToString::to_string);
                let invalid = applied.invalid.iter().map(ToString::to_string);
                return Ok(conflicts.chain(invalid).collect());
            }
            LabelsOutput::NodeFeature { namespace } => {
                let client = self.client()?;
                client.node_feature(&namespace).apply(&labels).await?;
            }
        }
        Ok(Vec::new())
    }

    /// Takes the labels away: they do not outlive who looks after them. Those of an agent that cannot reach the API
    /// server any more are taken away by the next one.
    pub(crate) async fn remove(&mut self) -> Result<(), LabelsError> {
        match tokio::time::timeout(FAREWELL, self.try_remove()).await {
            Ok(Err(LabelsError::Cluster(error))) => {
                tracing::warn!(%error, "the node's labels stay behind");
                Ok(())
            }
            Ok(Err(LabelsError::NotConnected(_))) => Ok(()),
            Ok(removed) => removed,
            Err(_) => {
                let seconds = FAREWELL.as_secs();
                tracing::warn!("the node's labels stay behind: no answer for {seconds} seconds");
                Ok(())
            }
        }
    }

    async fn try_remove(&mut self) -> Result<(), LabelsError> {
        match self.output.clone() {
            LabelsOutput::File(path) => discovery::remove_file(&path)?,
            LabelsOutput::Stdout => {}
            LabelsOutput::Node => {
                let client = self.client()?;
                client.labels(FIELD_MANAGER).remove_all().await?;
            }
            LabelsOutput::NodeFeature { namespace } => {
                let client = self.client()?;
                client.node_feature(&namespace).remove().await?;
            }
        }
        Ok(())
    }
}

/// Off the thread that answers the kubelet: a disk may take its time.
async fn blocking(
    write: impl FnOnce() -> Result<(), LabelsError> + Send + 'static,
) -> Result<(), LabelsError> {
    let written = tokio::task::spawn_blocking(write).await;
    written.unwrap_or(Err(LabelsError::Died))
}

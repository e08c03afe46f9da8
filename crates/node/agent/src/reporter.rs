//! Puts the agent's status together, and keeps it where it can be read.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use device_plugin::PluginStatus;
use tokio::sync::watch;

use crate::evictions::EvictionStatus;
use crate::observation::Driver;
use crate::parts::Watched;
use crate::status::Parts;
use crate::{ClusterStatus, DiscoveryStatus, Error, GpuNodeLink, Phase, Status, status_file};

/// How long after a status that could not be written it is tried again.
const STATUS_RETRY: Duration = Duration::from_secs(1);

/// Puts the status together.
pub(crate) struct Reporter {
    pub(crate) node: Option<String>,
    pub(crate) file: Option<PathBuf>,
    pub(crate) watched: Watched,
    /// Why the configuration cannot be followed.
    pub(crate) complaints: watch::Receiver<Option<String>>,
    pub(crate) plugin: Option<watch::Receiver<PluginStatus>>,
    pub(crate) discovery: Option<watch::Receiver<DiscoveryStatus>>,
    pub(crate) cluster: Option<watch::Receiver<ClusterStatus>>,
    pub(crate) gpu_node: Option<watch::Receiver<GpuNodeLink>>,
    pub(crate) evictions: Option<watch::Receiver<Vec<EvictionStatus>>>,
    pub(crate) status: watch::Sender<Arc<Status>>,
    /// The status is not in the file yet.
    pub(crate) unsaved: bool,
}

impl Reporter {
    /// Waits until something is new, or is to be written again; `false` when the owner is gone.
    pub(crate) async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.watched.inventory.changed() => changed.is_ok(),
            changed = self.watched.advertised.changed() => changed.is_ok(),
            changed = self.watched.health.changed() => changed.is_ok(),
            changed = self.watched.observation.changed() => changed.is_ok(),
            () = changed(Some(&mut self.complaints)) => true,
            () = changed(self.plugin.as_mut()) => true,
            () = changed(self.discovery.as_mut()) => true,
            () = changed(self.cluster.as_mut()) => true,
            () = changed(self.gpu_node.as_mut()) => true,
            () = changed(self.evictions.as_mut()) => true,
            () = tokio::time::sleep(STATUS_RETRY), if self.unsaved => true,
        }
    }

    pub(crate) fn publish(&mut self) -> Result<(), Error> {
        let status = Status::new(Parts {
            node: self.node.clone(),
            config: self.complaints.borrow_and_update().clone(),
            observation: self.watched.observation.borrow_and_update().clone(),
            inventory: self.watched.inventory.borrow_and_update().clone(),
            advertised: self.watched.advertised.borrow_and_update().clone(),
            health: self.watched.health.borrow_and_update().clone(),
            plugin: latest(self.plugin.as_mut()),
            discovery: latest(self.discovery.as_mut()),
            cluster: latest(self.cluster.as_mut()),
            gpu_node: latest(self.gpu_node.as_mut()),
            evictions: latest(self.evictions.as_mut()).unwrap_or_default(),
        });
        self.set(status)
    }

    /// How it stands with the driver, by what was last published of it.
    pub(crate) fn driver(&self) -> Driver {
        self.watched.observation.borrow().driver.clone()
    }

    fn set(&mut self, status: Status) -> Result<(), Error> {
        if **self.status.borrow() == status && !self.unsaved {
            return Ok(());
        }
        if self.status.borrow().message != status.message {
            log(&status);
        }
        let status = Arc::new(status);
        self.status.send_replace(Arc::clone(&status));
        let Some(path) = &self.file else {
            return Ok(());
        };
        let written = status_file::write(path, &status);
        self.unsaved = written.is_err();
        written.map_err(|source| Error::StatusFile {
            path: path.clone(),
            source,
        })
    }

    /// Leaves a status that does not claim that the agent still runs.
    pub(crate) fn farewell(&mut self, error: Option<&Error>) {
        let last = Arc::clone(&self.status.borrow());
        let status = Status {
            phase: Phase::Stopped,
            ready: false,
            message: error.map_or_else(|| "stopped".to_owned(), ToString::to_string),
            ..Status::clone(&last)
        };
        if let Err(error) = self.set(status) {
            tracing::error!(%error, "the status is not up to date");
        }
    }
}

/// Says how it stands now: the one line for it, whoever found it out.
fn log(status: &Status) {
    let phase = status.phase.as_str();
    if status.phase == Phase::Degraded {
        tracing::error!(phase, ready = status.ready, "{}", status.message);
    } else {
        tracing::info!(phase, ready = status.ready, "{}", status.message);
    }
}

/// A part's status, if it runs.
fn latest<T: Clone>(part: Option<&mut watch::Receiver<T>>) -> Option<T> {
    part.map(|part| part.borrow_and_update().clone())
}

/// Waits for a change of a part's status; for ever, when the part does not run (any more).
pub(crate) async fn changed<T>(part: Option<&mut watch::Receiver<T>>) {
    if let Some(part) = part
        && part.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

//! The end of a pod: its processes first, then its files.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use rustix::process::Signal;

use super::PodTask;
use crate::pod::container::Claim;
use crate::pod::manifest::Container;
use crate::pod::shim::CONTAINER_MARK;
use crate::process::{self, ProcessId};

/// Beyond its grace period, how long a shim may take to end its container.
const SHIM_GRACE: Duration = Duration::from_secs(10);

impl<R> PodTask<R> {
    /// Nothing that bears the pod's mark is left when it returns.
    pub(super) async fn sweep(&self) {
        for container in self.containers() {
            while let Err(error) = kill_marked(&self.mark(container)).await {
                // Devices are freed after this: better late than twice.
                tracing::error!(%error, pod = %self.row.name, "cannot look for a pod's processes");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    /// Ends every container and removes the pod's files.
    pub(super) async fn end(&self) {
        let mut shims: FuturesUnordered<_> = self
            .containers()
            .iter()
            .map(|container| self.end_container(container))
            .collect();
        while shims.next().await.is_some() {}
        drop(shims);
        self.sweep().await;
        // A pod may leave much behind, and everything else goes on meanwhile.
        let (status, uid) = (self.settings.status.clone(), self.row.uid.clone());
        let statuses = tokio::task::spawn_blocking(move || remove_statuses(&status, &uid)).await;
        remove(statuses.unwrap_or_else(|error| Err(io::Error::other(error))));
        remove(tokio::fs::remove_dir_all(self.folder()).await);
    }

    async fn end_container(&self, container: &Container) {
        let folder = self.container_folder(container);
        let index = self
            .containers()
            .iter()
            .position(|c| c.name == container.name);
        let written = index
            .and_then(|index| self.row.generations.get(index))
            .copied()
            .unwrap_or(1);
        // A generation begins only after the one before it was claimed, so the first that can be
        // forbidden is the last there is.
        for generation in written.. {
            let taken = match folder.forbid(generation) {
                Ok(claim) => claim == Claim::Taken,
                // Nothing can be written: a shim that is there is ended in its own time all the same.
                Err(_) => folder.is_claimed(generation),
            };
            if !taken {
                return;
            }
            if let Ok(Some(shim)) = folder.claimed_by(generation)
                && let Err(error) = self.end_shim(&shim).await
            {
                tracing::warn!(%error, pod = %self.row.name, "cannot end a shim");
            }
        }
    }

    async fn end_shim(&self, shim: &ProcessId) -> io::Result<()> {
        let Some(handle) = shim.open()? else {
            return Ok(());
        };
        handle.signal(Signal::TERM)?;
        let grace = self.row.manifest.spec.termination_grace_period_seconds;
        let patience = Duration::from_secs(grace).saturating_add(SHIM_GRACE);
        if tokio::time::timeout(patience, handle.ended())
            .await
            .is_err()
        {
            handle.signal(Signal::KILL)?;
            handle.ended().await?;
        }
        Ok(())
    }
}

/// Kills the processes that bear a container's mark until there are none.
pub(super) async fn kill_marked(mark: &str) -> io::Result<()> {
    loop {
        // All of /proc is read, which takes a while on a large machine.
        let wanted = mark.to_owned();
        let looked =
            tokio::task::spawn_blocking(move || process::with_environment(CONTAINER_MARK, &wanted));
        let found = looked.await.map_err(io::Error::other)??;
        if found.is_empty() {
            return Ok(());
        }
        for process in found {
            if let Some(handle) = process.open()? {
                handle.signal(Signal::KILL)?;
                handle.ended().await?;
            }
        }
    }
}

/// Removes what shims wrote of a pod, and what those that were killed had begun to write.
fn remove_statuses(folder: &Path, uid: &str) -> io::Result<()> {
    let own = format!("{uid}.");
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&own) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn remove(outcome: io::Result<()>) {
    if let Err(error) = outcome
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "a pod's files cannot be removed");
    }
}

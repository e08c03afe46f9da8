//! Notices when the kubelet starts, stops and starts again, by its socket.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kubelet_api::device_plugin::v1beta1::KUBELET_SOCKET;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// One life of the kubelet's socket: a socket that was made anew is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketId {
    device: u64,
    inode: u64,
    /// An inode may be used again at once.
    created: Option<SystemTime>,
}

impl SocketId {
    fn of(socket: &Path) -> Option<Self> {
        let metadata = fs::metadata(socket).ok()?;
        let created = metadata.created().ok();
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            created,
        })
    }
}

/// Publishes which socket the kubelet has at the moment, if any, until `stop`.
///
/// The kernel tells of changes in the folder (inotify); nothing is polled. While the folder is missing, its nearest
/// parent that is there is watched instead.
pub(crate) fn watch_socket(
    folder: PathBuf,
    stop: CancellationToken,
) -> Result<watch::Receiver<Option<SocketId>>, notify::Error> {
    let (notice, mut notices) = mpsc::channel(1);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading and opening change nothing. One pending notice is as good as many.
        if event.map_or(true, |event| !matches!(event.kind, EventKind::Access(_))) {
            let _ = notice.try_send(());
        }
    })?;
    let mut folder = Folder {
        watcher,
        path: folder,
        watched: None,
    };
    let (socket, sockets) = watch::channel(folder.socket()?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                more = notices.recv() => if more.is_none() { return },
            }
            match folder.socket() {
                Ok(now) => {
                    socket.send_if_modified(|was| std::mem::replace(was, now) != now);
                }
                Err(error) => tracing::warn!(%error, "cannot watch the kubelet's folder"),
            }
        }
    });
    Ok(sockets)
}

struct Folder {
    watcher: RecommendedWatcher,
    path: PathBuf,
    /// What is watched now, and which folder that was: it may be deleted and made anew.
    watched: Option<(PathBuf, Option<SocketId>)>,
}

impl Folder {
    /// Watches the right folder and then looks for the socket, so that no change in between is missed.
    fn socket(&mut self) -> Result<Option<SocketId>, notify::Error> {
        loop {
            let nearest = nearest(&self.path);
            let wanted = (nearest.to_path_buf(), SocketId::of(nearest));
            if self.watched.as_ref() == Some(&wanted) {
                return Ok(SocketId::of(&self.path.join(KUBELET_SOCKET)));
            }
            if let Some((old, _)) = self.watched.take() {
                // Fails when the folder is gone, and its watch with it.
                let _ = self.watcher.unwatch(&old);
            }
            match self.watcher.watch(&wanted.0, RecursiveMode::NonRecursive) {
                Ok(()) => self.watched = Some(wanted),
                // Deleted between the look and the watch: look again.
                Err(_) if !wanted.0.exists() => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The folder itself, or the nearest of its parents that exists.
fn nearest(folder: &Path) -> &Path {
    folder
        .ancestors()
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    async fn appears(socket: &mut watch::Receiver<Option<SocketId>>) -> SocketId {
        socket.wait_for(Option::is_some).await.unwrap().unwrap()
    }

    async fn disappears(socket: &mut watch::Receiver<Option<SocketId>>) {
        socket.wait_for(Option::is_none).await.unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_was_made_anew_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KUBELET_SOCKET);
        let stop = CancellationToken::new();
        let mut socket = watch_socket(folder.path().to_path_buf(), stop).unwrap();
        assert_eq!(*socket.borrow(), None);

        let first = UnixListener::bind(&path).unwrap();
        let old = appears(&mut socket).await;
        drop(first);
        fs::remove_file(&path).unwrap();
        disappears(&mut socket).await;
        let _second = UnixListener::bind(&path).unwrap();
        assert_ne!(appears(&mut socket).await, old);
    }

    #[tokio::test]
    async fn a_folder_that_comes_later_or_anew_is_found() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("kubelet/device-plugins");
        let stop = CancellationToken::new();
        let mut socket = watch_socket(folder.clone(), stop).unwrap();
        for _ in 0..2 {
            fs::create_dir_all(&folder).unwrap();
            let _listener = UnixListener::bind(folder.join(KUBELET_SOCKET)).unwrap();
            appears(&mut socket).await;
            fs::remove_dir_all(parent.path().join("kubelet")).unwrap();
            disappears(&mut socket).await;
        }
    }
}

//! Notices when the kubelet starts, stops and starts again, by its socket.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kubelet_api::device_plugin::v1beta1::KUBELET_SOCKET;
use notify::{EventKind, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How long to wait before a watch that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// One life of the kubelet's socket: a socket that was made anew is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketId {
    file: FileId,
    made: Made,
}

/// Which file it is, as long as it is there: an inode may be used again at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

/// When a file was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    /// Then.
    At(SystemTime),
    /// The file system does not say; its inode was changed last at these seconds and nanoseconds, which for a socket
    /// that nobody changes is when it was made.
    ChangedAt(i64, i64),
}

/// Which folder, and when it was made, where the file system says; its inode changes with everything in it.
type FolderId = (FileId, Option<SystemTime>);

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

impl SocketId {
    fn of(socket: &Path) -> Option<Self> {
        let metadata = fs::metadata(socket).ok()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Some(Self {
            file: FileId::of(&metadata),
            made: Made::of(metadata.created().ok(), changed),
        })
    }
}

impl Made {
    fn of(created: Option<SystemTime>, (seconds, nanoseconds): (i64, i64)) -> Self {
        created.map_or(Self::ChangedAt(seconds, nanoseconds), Self::At)
    }
}

/// Publishes which socket the kubelet has at the moment, if any, until `stop`.
///
/// The kernel tells of changes in the folder (inotify); nothing is polled. While the folder is missing, its nearest
/// parent that is there is watched instead. While the kernel refuses to watch, as when all its watches are in use, the
/// socket is looked at every second.
pub(crate) fn watch_socket(
    folder: PathBuf,
    stop: CancellationToken,
) -> Result<watch::Receiver<Option<SocketId>>, notify::Error> {
    let (notice, notices) = mpsc::channel(1);
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
    // A refusal is told, and got along with, where the watch is followed.
    let (socket, sockets) = watch::channel(folder.socket().unwrap_or_else(|_| folder.look()));
    tokio::spawn(follow(folder, socket, notices, stop));
    Ok(sockets)
}

/// Goes on publishing the folder's socket at each notice, until `stop`.
async fn follow<W: Watcher>(
    mut folder: Folder<W>,
    socket: watch::Sender<Option<SocketId>>,
    mut notices: mpsc::Receiver<()>,
    stop: CancellationToken,
) {
    let mut failing = false;
    loop {
        let result = folder.socket();
        match &result {
            Err(error) if !failing => {
                tracing::warn!(%error, "cannot watch the kubelet's folder, looking every second instead");
            }
            Ok(_) if failing => tracing::info!("the kubelet's folder is watched again"),
            _ => {}
        }
        failing = result.is_err();
        let now = result.unwrap_or_else(|_| folder.look());
        socket.send_if_modified(|was| std::mem::replace(was, now) != now);
        tokio::select! {
            () = stop.cancelled() => return,
            more = notices.recv() => if more.is_none() { return },
            () = tokio::time::sleep(RETRY), if failing => {}
        }
    }
}

struct Folder<W> {
    watcher: W,
    path: PathBuf,
    /// What is watched now, and which folder that was: it may be deleted and made anew.
    watched: Option<(PathBuf, Option<FolderId>)>,
}

impl<W: Watcher> Folder<W> {
    /// The socket, as it is without any watch.
    fn look(&self) -> Option<SocketId> {
        SocketId::of(&self.path.join(KUBELET_SOCKET))
    }

    /// Watches the right folder and then looks for the socket, so that no change in between is missed.
    fn socket(&mut self) -> Result<Option<SocketId>, notify::Error> {
        loop {
            let nearest = nearest(&self.path);
            let metadata = fs::metadata(nearest).ok();
            let identity = metadata.map(|it| (FileId::of(&it), it.created().ok()));
            let wanted = (nearest.to_path_buf(), identity);
            if self.watched.as_ref() == Some(&wanted) {
                return Ok(self.look());
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
    use notify::{EventHandler, WatcherKind};
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

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

    /// A watcher without watches to give, until so many were asked for.
    #[derive(Debug)]
    struct Exhausted {
        refusals: usize,
        asked: Arc<AtomicUsize>,
    }

    impl Watcher for Exhausted {
        fn new<F: EventHandler>(_: F, _: notify::Config) -> notify::Result<Self> {
            Err(notify::Error::generic("made by hand"))
        }

        fn watch(&mut self, _: &Path, _: RecursiveMode) -> notify::Result<()> {
            if self.asked.fetch_add(1, Ordering::SeqCst) < self.refusals {
                return Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch));
            }
            Ok(())
        }

        fn unwatch(&mut self, _: &Path) -> notify::Result<()> {
            Ok(())
        }

        fn kind() -> WatcherKind {
            WatcherKind::NullWatcher
        }
    }

    #[tokio::test]
    async fn a_watch_that_fails_is_tried_again_and_the_socket_found_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let watched = Folder {
            watcher: Exhausted {
                refusals: 2,
                asked: Arc::clone(&asked),
            },
            path: folder.path().to_path_buf(),
            watched: None,
        };
        let (sender, mut socket) = watch::channel(None);
        let (notice, notices) = mpsc::channel(1);
        tokio::spawn(follow(watched, sender, notices, CancellationToken::new()));
        while asked.load(Ordering::SeqCst) < 1 {
            tokio::task::yield_now().await;
        }
        let _listener = UnixListener::bind(folder.path().join(KUBELET_SOCKET)).unwrap();
        appears(&mut socket).await;
        while asked.load(Ordering::SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(notice);
    }

    #[test]
    fn an_inode_that_is_used_again_is_another_socket_even_where_no_birth_is_told() {
        assert_ne!(Made::of(None, (1, 0)), Made::of(None, (1, 1)));
        let birth = Some(SystemTime::UNIX_EPOCH);
        assert_eq!(Made::of(birth, (1, 0)), Made::of(birth, (2, 0)));
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

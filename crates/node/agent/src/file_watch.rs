//! Follows the text of one file, such as a key of a mounted `ConfigMap`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How often a file is read though nothing told of a change.
pub(crate) const REREAD: Duration = Duration::from_secs(5);

/// The longest file that is taken for one of ours.
const LONGEST: u64 = 1 << 20;

/// A file's text, or why it cannot be read.
pub(crate) type Text = Result<String, String>;

/// Publishes the file's text from now on until `stop`.
///
/// The kernel tells of changes in the file's folder. That is where the kubelet exchanges the link `..data`, through
/// which the keys of a mounted `ConfigMap` or `Secret` all lead, so that a change of any of them is seen. The file is
/// read from time to time all the same, since the folder may be missing, or on a file system that tells of nothing.
pub(crate) fn follow(
    path: PathBuf,
    reread: Duration,
    stop: CancellationToken,
) -> watch::Receiver<Text> {
    let (sender, receiver) = watch::channel(read(&path));
    let (notice, mut notices) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut folder = Folder {
            path: parent(&path).to_owned(),
            notice,
            watcher: None,
        };
        loop {
            folder.watch();
            // Read after the watch began, so that no change in between is missed.
            let text = read(&path);
            sender.send_if_modified(|now| {
                let changed = *now != text;
                *now = text;
                changed
            });
            tokio::select! {
                () = stop.cancelled() => return,
                _ = notices.recv() => {}
                () = tokio::time::sleep(reread) => {}
            }
        }
    });
    receiver
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    }
}

fn read(path: &Path) -> Text {
    let text = || {
        let length = std::fs::metadata(path)?.len();
        if length > LONGEST {
            return Err(std::io::Error::other(format!("it has {length} bytes")));
        }
        std::fs::read_to_string(path)
    };
    text().map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// The watched folder. One that is away, or was made anew, is watched again when it is there.
struct Folder {
    path: PathBuf,
    notice: mpsc::Sender<()>,
    watcher: Option<(RecommendedWatcher, u64)>,
}

impl Folder {
    fn watch(&mut self) {
        use std::os::unix::fs::MetadataExt;
        let Ok(metadata) = std::fs::metadata(&self.path) else {
            self.watcher = None;
            return;
        };
        let inode = metadata.ino();
        if self.watcher.as_ref().is_some_and(|(_, now)| *now == inode) {
            return;
        }
        let notice = self.notice.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let is_change = event.map_or(true, |event| !event.kind.is_access());
            if is_change {
                // One pending notice is as good as many.
                let _ = notice.try_send(());
            }
        });
        let watcher = watcher.and_then(|mut watcher| {
            watcher.watch(&self.path, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        match watcher {
            Ok(watcher) => self.watcher = Some((watcher, inode)),
            Err(error) => {
                tracing::debug!(folder = %self.path.display(), %error, "not watched, read from time to time instead");
                self.watcher = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// Long enough to never come in a test.
    const NEVER: Duration = Duration::from_hours(1);

    async fn until(texts: &mut watch::Receiver<Text>, wanted: &str) {
        texts
            .wait_for(|text| text.as_ref().is_ok_and(|text| text == wanted))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn the_exchange_of_a_config_maps_data_is_seen_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let publish = |version: &str, text: &str| {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("layout"), text).unwrap();
            symlink(version, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        publish("..1", "first");
        symlink("..data/layout", at("layout")).unwrap();
        let mut texts = follow(at("layout"), NEVER, CancellationToken::new());
        until(&mut texts, "first").await;
        publish("..2", "second");
        until(&mut texts, "second").await;
        fs::remove_file(at("layout")).unwrap();
        let gone = texts.wait_for(Result::is_err).await.unwrap().clone();
        assert!(gone.unwrap_err().contains("layout"));
    }

    #[tokio::test]
    async fn a_folder_that_appears_later_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("later/layout");
        let mut texts = follow(
            path.clone(),
            Duration::from_millis(5),
            CancellationToken::new(),
        );
        assert!(texts.borrow_and_update().is_err());
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, "there").unwrap();
        until(&mut texts, "there").await;
    }

    #[test]
    fn a_file_of_the_current_folder_has_a_folder() {
        assert_eq!(parent(Path::new("layout")), Path::new("."));
        assert_eq!(parent(Path::new("/etc/layout")), Path::new("/etc"));
    }
}

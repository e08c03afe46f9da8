//! The state folder: what lies where.
//!
//! ```text
//! cluster.json            the configuration
//! pki/                    certificates and keys
//! NAME.kubeconfig         a client's way to the API server
//! services/NAME.json      how a service is started
//! services/NAME.pid       its number in its pid namespace, written by itself
//! logs/NAME.log           what it says
//! nodes/NAME/             root (where its root is mounted, in its own namespace), etc (copied to its /etc), var
//! etcd/, helm/, kube/     their data and caches
//! audit.log               requests of service accounts, where they are written down
//! ```

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};

/// A file of the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {source}")]
pub struct Error {
    action: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

/// The state folder of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct State {
    dir: PathBuf,
}

impl State {
    /// Makes the folder when it is not there.
    pub(crate) fn create(dir: &Path) -> Result<Self, Error> {
        for folder in ["pki", "services", "logs", "nodes", "etcd"] {
            make_dir(&dir.join(folder))?;
        }
        Self::open(dir)
    }

    /// The folder that is there. Its path is made canonical, since processes are found by it.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let dir = dir.canonicalize().map_err(error("open", dir))?;
        Ok(Self { dir })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn pki(&self, name: &str) -> PathBuf {
        self.dir.join("pki").join(name)
    }

    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.dir.join(format!("{user}.kubeconfig"))
    }

    pub(crate) fn service(&self, name: &str) -> PathBuf {
        self.dir.join("services").join(format!("{name}.json"))
    }

    pub(crate) fn pid(&self, name: &str) -> PathBuf {
        self.dir.join("services").join(format!("{name}.pid"))
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    pub(crate) fn node(&self, name: &str) -> PathBuf {
        self.dir.join("nodes").join(name)
    }

    /// A log to append to.
    pub(crate) fn open_log(&self, name: &str) -> Result<File, Error> {
        let path = self.log(name);
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(error("write", &path))
    }

    /// The last lines of a log.
    pub(crate) fn log_tail(&self, name: &str) -> String {
        let path = self.log(name);
        match tail(&path) {
            Ok(text) => format!("--- the end of {} ---\n{text}", path.display()),
            Err(source) => error("read", &path)(source).to_string(),
        }
    }

    /// The names of all logs.
    pub(crate) fn logs(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("logs")).into_iter().flatten();
        let mut names: Vec<_> = entries
            .flatten()
            .filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        names
    }

    /// Writes a file whole, so that a reader never sees half of it.
    pub(crate) fn write(&self, path: &Path, text: &str) -> Result<(), Error> {
        if let Some(folder) = path.parent() {
            make_dir(folder)?;
        }
        tempfile::NamedTempFile::new_in(&self.dir)
            .and_then(|file| {
                fs::write(file.path(), text)?;
                file.persist(path).map_err(|error| error.error)
            })
            .map(drop)
            .map_err(error("write", path))
    }

    pub(crate) fn write_json(&self, path: &Path, value: &impl Serialize) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|source| error("write", path)(source.into()))?;
        self.write(path, &text)
    }

    /// Deletes all of it.
    pub(crate) fn delete(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.dir) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(error("delete", &self.dir)(source))
            }
            _ => Ok(()),
        }
    }
}

/// Keeps other starts and stops of a state folder out for as long as the file is held. It lies beside the folder, since
/// it has to outlive it.
pub(crate) fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.with_added_extension("lock");
    if let Some(folder) = path.parent() {
        make_dir(folder)?;
    }
    let file = File::create(&path).map_err(error("write", &path))?;
    file.lock().map_err(error("lock", &path))?;
    Ok(file)
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read(path).map_err(error("read", path))?;
    serde_json::from_slice(&text).map_err(|source| error("read", path)(source.into()))
}

pub(crate) fn make_dir(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(error("make", path))
}

pub(crate) fn error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error {
        action,
        path,
        source,
    }
}

fn tail(path: &Path) -> std::io::Result<String> {
    const BYTES: u64 = 16 << 10;
    const LINES: usize = 25;

    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    let first = lines.len().saturating_sub(LINES);
    Ok(lines.get(first..).unwrap_or_default().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines_of_a_long_log() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::create(folder.path()).unwrap();
        let lines: Vec<_> = (0..10_000).map(|line| format!("line {line}")).collect();
        fs::write(state.log("kubelet"), lines.join("\n")).unwrap();
        let tail = state.log_tail("kubelet");
        assert!(tail.ends_with("line 9999"));
        assert_eq!(tail.lines().count(), 26);
    }

    #[test]
    fn a_missing_log_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::create(folder.path()).unwrap();
        assert!(state.log_tail("etcd").contains("logs/etcd.log"));
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::create(folder.path()).unwrap();
        state
            .write_json(&state.service("etcd"), &["a", "b"])
            .unwrap();
        let read: Vec<String> = read_json(&state.service("etcd")).unwrap();
        assert_eq!(read, ["a", "b"]);
    }
}

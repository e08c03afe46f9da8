//! The state folder: one owner at a time, one version, private to its user.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::FlockOperation;

/// The version of what this program keeps in the folder.
pub const VERSION: u32 = 1;

/// How often, and after which pauses, a lock that is held is asked for again.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The longest path of a Unix socket, in bytes: `sun_path` without its end.
const LONGEST_SOCKET: usize = 107;

/// A state folder that this process owns until it is dropped.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    _lock: File,
}

impl StateFolder {
    /// Opens the folder, making it (mode 0700) where it is missing. Blocks for up to a second while
    /// another process holds it.
    ///
    /// # Errors
    /// When the folder cannot be used; nothing was changed in it then, apart from its own files
    /// `lock` and `version`.
    pub fn open(path: &Path) -> Result<Self, StateFolderError> {
        let unusable = |source| StateFolderError::unusable(path, source);
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(unusable)?;
        let path = path.canonicalize().map_err(unusable)?;
        let unusable = |source| StateFolderError::unusable(&path, source);
        let socket = path.join("api.sock").as_os_str().as_bytes().len();
        if socket > LONGEST_SOCKET {
            let longest = LONGEST_SOCKET - "/api.sock".len();
            return Err(StateFolderError::TooLong {
                folder: path,
                longest,
            });
        }
        // Somebody's other folder is found out before anything is put into it.
        let version = read_version(&path)?;
        if version.is_none() && !is_empty(&path).map_err(unusable)? {
            return Err(StateFolderError::NotOurs { folder: path });
        }
        let lock = take_lock(&path)?;
        match version {
            Some(found) if found > VERSION => {
                return Err(StateFolderError::Newer {
                    folder: path,
                    found,
                });
            }
            Some(_) => {}
            None => write_version(&path).map_err(unusable)?,
        }
        fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(unusable)?;
        for folder in ["nodes", "pods", "status"] {
            builder.create(path.join(folder)).map_err(unusable)?;
        }
        Ok(Self { path, _lock: lock })
    }

    /// The folder, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path.join("migpool.db")
    }

    /// The socket on which the API answers.
    #[must_use]
    pub fn api_socket(&self) -> PathBuf {
        self.path.join("api.sock")
    }

    /// The folder of the nodes.
    #[must_use]
    pub fn nodes(&self) -> PathBuf {
        self.path.join("nodes")
    }

    /// The folder of the pods.
    #[must_use]
    pub fn pods(&self) -> PathBuf {
        self.path.join("pods")
    }

    /// The folder into which shims write how their containers are. It is one for all pods, so that
    /// one watch sees them all.
    #[must_use]
    pub fn status(&self) -> PathBuf {
        self.path.join("status")
    }
}

fn is_empty(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        // What a start that was killed before it wrote the version leaves behind, and what az needs
        // for a front in a cluster.
        let name = entry?.file_name();
        if !matches!(name.to_str(), Some("lock" | "version.tmp" | "azure")) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read_version(path: &Path) -> Result<Option<u32>, StateFolderError> {
    match fs::read_to_string(path.join("version")) {
        Ok(text) => match text.trim().parse() {
            Ok(version) => Ok(Some(version)),
            Err(_) => Err(StateFolderError::NotOurs {
                folder: path.to_owned(),
            }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StateFolderError::unusable(path, error)),
    }
}

fn write_version(path: &Path) -> io::Result<()> {
    let beside = path.join("version.tmp");
    let mut file = File::create(&beside)?;
    writeln!(file, "{VERSION}")?;
    file.sync_all()?;
    fs::rename(beside, path.join("version"))
}

fn take_lock(path: &Path) -> Result<File, StateFolderError> {
    let unusable = |source| StateFolderError::unusable(path, source);
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.join("lock"))
        .map_err(unusable)?;
    let mut tries = LOCK_TRIES;
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            // A process that was just killed holds it for as long as it takes to die.
            Err(rustix::io::Errno::WOULDBLOCK) if tries > 0 => {
                tries -= 1;
                thread::sleep(LOCK_PAUSE);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                let read = lock.read_to_string(&mut pid);
                let known = read.is_ok() && !pid.trim().is_empty();
                let pid = if known {
                    pid.trim().to_owned()
                } else {
                    "unknown".to_owned()
                };
                return Err(StateFolderError::InUse {
                    folder: path.to_owned(),
                    pid,
                });
            }
            Err(errno) => return Err(unusable(errno.into())),
        }
    }
    let write = |lock: &mut File| {
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())
    };
    write(&mut lock).map_err(unusable)?;
    Ok(lock)
}

/// Why a state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateFolderError {
    /// Another `up` owns the folder.
    #[error("state folder {} is in use by another `migpool up` (pid {pid}): stop it, or choose another folder", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The other process, as it wrote itself down; `unknown` when it could not be read.
        pid: String,
    },
    /// A newer migpool has written the folder.
    #[error("state folder {} is of version {found}, and this migpool reads up to version {VERSION}: use the newer migpool, or choose another folder", folder.display())]
    Newer {
        /// The folder.
        folder: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The folder has other things in it.
    #[error("folder {} is not empty and is not migpool's: choose an empty or a new folder", folder.display())]
    NotOurs {
        /// The folder.
        folder: PathBuf,
    },
    /// The socket's path would not fit into a socket address.
    #[error("state folder {} has a path of {} bytes, and Unix sockets allow {longest} here: choose a shorter one", folder.display(), folder.as_os_str().len())]
    TooLong {
        /// The folder.
        folder: PathBuf,
        /// How many bytes its path may have.
        longest: usize,
    },
    /// The disk that holds the folder is full.
    #[error("state folder {} is on a full disk: free some space, or choose another folder", folder.display())]
    DiskFull {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder cannot be made, read or written.
    #[error("state folder {} cannot be used: {source}; choose a folder that you can write", folder.display())]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StateFolderError {
    fn unusable(folder: &Path, source: io::Error) -> Self {
        let folder = folder.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { folder },
            _ => Self::Unusable { folder, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_folder_is_private_and_a_second_owner_is_told_who_has_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("deep").join("state");
        let folder = StateFolder::open(&path).expect("opens");
        let mode = fs::metadata(folder.path())
            .expect("made")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        let second = StateFolder::open(&path).expect_err("in use").to_string();
        assert!(
            second.contains(&format!("pid {}", std::process::id())),
            "{second}"
        );
        drop(folder);
        StateFolder::open(&path).expect("free again");
    }

    #[test]
    fn a_newer_version_and_a_strangers_folder_are_refused_untouched() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::write(dir.path().join("thesis.tex"), "x").expect("write");
        let error = StateFolder::open(dir.path()).expect_err("not ours");
        assert!(matches!(error, StateFolderError::NotOurs { .. }), "{error}");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);

        let dir = tempfile::tempdir().expect("tempdir");
        fs::write(dir.path().join("version"), "2\n").expect("write");
        let error = StateFolder::open(dir.path())
            .expect_err("newer")
            .to_string();
        assert!(error.contains("version 2"), "{error}");
        assert!(!dir.path().join("nodes").exists());
    }

    #[test]
    fn a_path_that_sockets_cannot_hold_is_refused_with_the_limit() {
        let dir = tempfile::tempdir().expect("tempdir");
        let long = dir.path().join("x".repeat(120));
        let error = StateFolder::open(&long).expect_err("too long").to_string();
        assert!(error.contains("allow 98"), "{error}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let error = StateFolder::open(Path::new("/proc/nothing/here")).expect_err("refused");
        assert!(error.to_string().contains("/proc/nothing/here"), "{error}");
        let full = StateFolderError::unusable(
            Path::new("/x"),
            io::Error::from(io::ErrorKind::StorageFull),
        );
        assert!(full.to_string().contains("full disk"), "{full}");
    }
}

//! One partitioning at a time on a node.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// Why the node's lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another partitioning of this node is under way.
    #[error(
        "this node is being partitioned by {holder}; wait for it to end, or ask to wait ({path})",
        path = path.display()
    )]
    Busy {
        /// Who holds the lock, as it wrote it down.
        holder: String,
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file could not be opened or locked.
    #[error("cannot lock {path}: {source}", path = path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The right to partition this node's GPUs; given back when dropped, and by the kernel when the
/// process dies (`flock`).
#[derive(Debug)]
pub struct NodeLock {
    file: File,
}

impl NodeLock {
    /// Takes the lock in the state folder. While another holds it: waits for as long as that takes,
    /// or is refused with the holder's name.
    ///
    /// # Errors
    /// [`LockError::Busy`] when not waiting and held; [`LockError::File`] when the file can't be
    /// opened.
    pub fn acquire(state_dir: &Path, wait: bool) -> Result<Self, LockError> {
        let path = state_dir.join("partition.lock");
        let failed = |source| LockError::File {
            path: path.clone(),
            source,
        };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if wait => file.lock().map_err(failed)?,
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The name is a courtesy: without it the refusal stands all the same.
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    name => name.to_owned(),
                };
                return Err(LockError::Busy { holder, path });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let program = std::env::args_os()
            .next()
            .and_then(|program| Path::new(&program).file_name().map(ToOwned::to_owned))
            .unwrap_or_default();
        let name = format!(
            "process {} ({})\n",
            std::process::id(),
            program.to_string_lossy()
        );
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(name.as_bytes()))
            .map_err(failed)?;
        Ok(Self { file })
    }
}

impl Drop for NodeLock {
    fn drop(&mut self) {
        // Closing the file alone would leave the lock with a child that another thread has forked and
        // that hasn't started its program yet.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_refused_with_the_name_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = NodeLock::acquire(dir.path(), false).unwrap();
        let error = NodeLock::acquire(dir.path(), false).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        drop(first);
        NodeLock::acquire(dir.path(), false).unwrap();
    }

    #[test]
    fn one_that_waits_gets_its_turn() {
        let dir = tempfile::tempdir().unwrap();
        let first = NodeLock::acquire(dir.path(), false).unwrap();
        let waiting = {
            let path = dir.path().to_owned();
            std::thread::spawn(move || NodeLock::acquire(&path, true).map(drop))
        };
        drop(first);
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn a_state_folder_that_is_missing_is_named() {
        let error = NodeLock::acquire(Path::new("/nonexistent/state"), false).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("/nonexistent/state/partition.lock"),
            "{error}"
        );
    }
}

//! The state folder: one owner, one version, private to its user.

use std::path::PathBuf;

/// Why a state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateFolderError {
    /// Another `up` owns the folder.
    #[error("state folder {} is in use by another `migpool up` (pid {pid}): stop it, or choose another folder with --state-dir", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The other process, as it wrote itself down; `unknown` when it could not be read.
        pid: String,
    },
}

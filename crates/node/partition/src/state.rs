//! The files of the state folder: read whole, replaced atomically.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a file of the state folder could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written: a full disk, a folder without permission.
    #[error(
        "cannot write {path}: {source}; the state folder needs room and permission",
        path = path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what this program writes.
    #[error(
        "{path} is damaged: {reason}; move it away (without it, instances that exist count as not created by migpool)",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was wrong with it.
        reason: String,
    },
    /// The file was written by a newer migpool.
    #[error(
        "{path} has version {found}, and this migpool knows {known}; use the migpool that wrote it",
        path = path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The file's version.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
}

/// Version of the files' format that this program writes.
const VERSION: u32 = 1;

/// What every file of the state folder is wrapped in.
#[derive(serde::Deserialize)]
struct Versioned {
    version: u32,
    content: serde_json::Value,
}

/// As [`Versioned`], for writing.
#[derive(Serialize)]
struct VersionedRef<'a, T> {
    version: u32,
    content: &'a T,
}

/// Reads a file; none where there is none yet.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(StateError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let damaged = |error: serde_json::Error| StateError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let file: Versioned = serde_json::from_slice(&bytes).map_err(damaged)?;
    if file.version > VERSION {
        return Err(StateError::Newer {
            path: path.to_owned(),
            found: file.version,
            known: VERSION,
        });
    }
    serde_json::from_value(file.content)
        .map(Some)
        .map_err(damaged)
}

/// Replaces a file: after a kill or a power loss it is the old one or the new one.
pub(crate) fn write<T: Serialize>(path: &Path, content: &T) -> Result<(), StateError> {
    let write = || -> io::Result<()> {
        let text = serde_json::to_vec_pretty(&VersionedRef {
            version: VERSION,
            content,
        })?;
        let mut file = atomic_write_file::AtomicWriteFile::open(path)?;
        file.write_all(&text)?;
        file.commit()
    };
    write().map_err(|source| StateError::Write {
        path: path.to_owned(),
        source,
    })
}

//! The specification's file.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;

use crate::cdi::{Device, Specification};

/// The specification's file in the folder of specifications.
pub(super) const FILE: &str = "k8s.device-plugin.nvidia.com-gpu.json";

/// Why the CDI specification could not be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write the CDI specification {}: {source}; the folder has to be writable for the plugin and be the one that the \
     node's container runtime reads", path.display()
)]
pub struct CdiError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl Specification {
    /// Sees to it that the folder has this specification, whole or not at all, and writes nothing if it has. One
    /// without devices is not valid CDI: its file is removed. Blocks.
    pub(crate) fn ensure(&self, folder: &Path) -> Result<(), CdiError> {
        if self.is_empty() {
            return remove(folder);
        }
        let path = folder.join(FILE);
        self.replace(&path)
            .map_err(|source| CdiError { path, source })
    }

    fn replace(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        if std::fs::read(path).is_ok_and(|there| there == text) {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = AtomicWriteFile::open(path)?;
        file.write_all(&text)?;
        file.commit()
    }

    /// The names of the devices that the folder's file does not describe as this specification does, after it could
    /// not be written. Where the file has other edits for every container, as from another driver, that is all of them.
    /// Blocks.
    pub(crate) fn missing(&self, folder: &Path) -> BTreeSet<String> {
        let there: serde_json::Value = std::fs::read(folder.join(FILE))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let same_edits = there.get("containerEdits")
            == serde_json::to_value(&self.container_edits).ok().as_ref();
        let described = there.get("devices").and_then(serde_json::Value::as_array);
        let is_described = |device: &Device| {
            let wanted = serde_json::to_value(device).ok();
            same_edits
                && described.is_some_and(|all| all.iter().any(|one| Some(one) == wanted.as_ref()))
        };
        self.devices
            .iter()
            .filter(|device| !is_described(device))
            .map(|device| device.name.clone())
            .collect()
    }
}

/// Removes the folder's file, if there is one, and what writers left behind that were killed. Blocks.
pub(crate) fn remove(folder: &Path) -> Result<(), CdiError> {
    let unfinished = format!(".{FILE}.");
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&unfinished) {
            // Nobody reads it.
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let path = folder.join(FILE);
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(CdiError { path, source }),
        _ => Ok(()),
    }
}

//! Removing a root, and nothing but a root.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use super::{DriverRoot, RootError, io_error};
use crate::firmware;
use crate::store::STATE_FILE;

/// What a root has at its top.
const OWN: [&str; 5] = ["dev", "lib", "proc", "sim", "usr"];

impl DriverRoot {
    /// Removes the simulated driver root in `path`, also one whose making or removal was killed half way. Programs that
    /// have it open go on reading what was there. A folder that is not there is no error.
    ///
    /// # Errors
    /// [`RootError::NotRemoved`] when there is more in the folder than a simulated driver; [`RootError::Io`].
    pub fn remove(path: impl AsRef<Path>) -> Result<(), RootError> {
        let path = path.as_ref();
        let not_removed = |what: String| RootError::NotRemoved {
            path: path.to_owned(),
            what,
        };
        let names = match names(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(io_error(path))?,
        };
        if let Some(foreign) = names.iter().find(|name| !OWN.iter().any(|own| name == own)) {
            return Err(not_removed(format!(
                "{}, which is no part of a simulated driver; remove it, or name another folder",
                foreign.display()
            )));
        }
        if !names.is_empty() && !names.iter().any(|name| name == "sim") {
            return Err(not_removed("no simulated driver".to_owned()));
        }
        // Nobody finds the driver without its state, so it goes first, under its second name even before; the folder
        // that says whose all this is goes last.
        for link in firmware::find(path) {
            gone(fs::remove_file(&link)).map_err(io_error(&link))?;
        }
        let state = path.join(STATE_FILE);
        gone(fs::remove_file(&state)).map_err(io_error(&state))?;
        for own in OWN.iter().filter(|own| **own != "sim").chain(&["sim"]) {
            let own = path.join(own);
            gone(fs::remove_dir_all(&own)).map_err(io_error(&own))?;
        }
        // It may be the mount point of a volume.
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(()),
            other => gone(other).map_err(io_error(path)),
        }
    }
}

fn names(path: &Path) -> io::Result<Vec<OsString>> {
    fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name()))
        .collect()
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

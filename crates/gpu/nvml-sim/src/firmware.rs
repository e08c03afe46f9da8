//! The state's second name, under which it gets into containers.
//!
//! NVIDIA's tools give a container the driver's libraries, its device nodes and what is in its firmware folder, and nothing
//! else. So a root has a hard link of `sim/state` there, and the library in a container finds the state by it. What was
//! found by this name is for reading only: it is a part of a root, whose other files can't be kept in step from there.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::store::STATE_FILE;

/// The folder of all driver versions' firmware below a root.
pub const FIRMWARE_DIR: &str = "lib/firmware/nvidia";
/// The file's name; NVIDIA's tools take `gsp*.bin`.
pub const FIRMWARE_FILE: &str = "gsp_simulated.bin";

/// Where the link lies below the root of this driver version.
#[must_use]
pub fn path(root: &Path, driver_version: &str) -> PathBuf {
    root.join(FIRMWARE_DIR)
        .join(driver_version)
        .join(FIRMWARE_FILE)
}

/// Every such file below `root`, the newest version's first.
#[must_use]
pub fn find(root: &Path) -> Vec<PathBuf> {
    let Ok(versions) = fs::read_dir(root.join(FIRMWARE_DIR)) else {
        return Vec::new();
    };
    let mut found: Vec<_> = versions
        .filter_map(|version| Some(version.ok()?.path().join(FIRMWARE_FILE)))
        .filter(|file| file.is_file())
        .collect();
    found.sort();
    found.reverse();
    found
}

/// Makes the link, or makes it anew where it is another file than the state.
///
/// # Errors
/// When it can't be made.
pub fn link(root: &Path, driver_version: &str) -> io::Result<()> {
    let state = root.join(STATE_FILE);
    let link = path(root, driver_version);
    let identity = |path: &Path| path.metadata().map(|file| (file.dev(), file.ino()));
    let wanted = identity(&state)?;
    if identity(&link).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if let Some(folder) = link.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = link.with_extension(format!("new-{}", std::process::id()));
    // A process of the same number may have been killed here.
    let _ = fs::remove_file(&new);
    let linked = fs::hard_link(&state, &new).and_then(|()| fs::rename(&new, &link));
    // `rename` leaves the old name where both are links of one file: then another process was faster.
    let _ = fs::remove_file(&new);
    linked
}

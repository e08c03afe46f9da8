//! A driver root as one pod sees it.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::create::{CONTROL_FILES, link, write_library};
use super::{DriverRoot, RootError, io_error, make_folder};
use crate::device_file::{self, DeviceFiles};
use crate::store::STATE_FILE;

impl DriverRoot {
    /// Makes a root as a pod sees it: the same driver and state, but only these device files (named as in the pod,
    /// `/dev/nvidia0`, `/dev/nvidia-caps/nvidia-cap12`) and the control files that every container with a GPU gets. What is in
    /// `destination` from an earlier view is replaced.
    ///
    /// # Errors
    /// [`RootError::NoDeviceFile`], [`RootError::Io`].
    pub fn pod_view(
        &self,
        destination: impl AsRef<Path>,
        device_files: &[PathBuf],
    ) -> Result<(), RootError> {
        let destination = destination.as_ref();
        let control = CONTROL_FILES
            .iter()
            .map(|name| PathBuf::from("/dev").join(name));
        let mut wanted = Vec::new();
        for file in device_files.iter().cloned().chain(control) {
            let relative = below_root(&file)
                .filter(|relative| {
                    relative.starts_with("dev") && device_file::exists(&self.path.join(relative))
                })
                .ok_or_else(|| RootError::NoDeviceFile {
                    root: self.path.clone(),
                    file: file.clone(),
                })?;
            wanted.push(relative);
        }
        let node = fs::canonicalize(&self.path).map_err(io_error(&self.path))?;
        let devices = destination.join("dev");
        match fs::remove_dir_all(&devices) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error(&devices)(error));
            }
            _ => make_folder(&devices.join("nvidia-caps"))?,
        }
        for relative in wanted {
            let file = destination.join(relative);
            if let Some(folder) = file.parent() {
                make_folder(folder)?;
            }
            // Of either root's kind: who looks for it here is no container, and regular files take no privilege.
            DeviceFiles::Regular
                .make(&file, 0o666)
                .map_err(io_error(&file))?;
        }
        make_folder(&destination.join("sim"))?;
        link(&node.join(STATE_FILE), &destination.join(STATE_FILE))?;
        link(&node.join("proc"), &destination.join("proc"))?;
        write_library(destination)
    }
}

/// The path below a root, for a path as a pod names it; nothing when it leads out of the root.
fn below_root(path: &Path) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => relative.push(name),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(relative)
}

//! Simulated device files, and what kind of them a driver root has.
//!
//! A regular file needs no privilege and is enough for programs of this machine. A container runtime can only hand on
//! real device nodes, so a root for containers has character devices with the numbers of `/dev/null`: whoever opens one
//! gets nothing from it, and every container may open such a device.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{CWD, Dev, FileType, Mode, OFlags};

/// The device file that every root has, which says by its kind what the others are.
pub const CONTROL_FILE: &str = "dev/nvidiactl";

/// The kind of a root's device files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceFiles {
    /// Regular files.
    #[default]
    Regular,
    /// Character devices with the numbers of `/dev/null`.
    Nodes,
}

impl DeviceFiles {
    /// What a root was made with; every device file that it gets later is of the same kind.
    #[must_use]
    pub fn of(root: &Path) -> DeviceFiles {
        match root.join(CONTROL_FILE).symlink_metadata() {
            Ok(metadata) if metadata.file_type().is_char_device() => DeviceFiles::Nodes,
            _ => DeviceFiles::Regular,
        }
    }

    /// Makes a device file, unless it is there.
    ///
    /// # Errors
    /// When it can't be made, for a device node also without the right to (`CAP_MKNOD`), or when something is there that
    /// is no simulated device file.
    pub fn make(self, path: &Path, mode: u32) -> io::Result<()> {
        match self.make_new(path, mode) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let there = path.symlink_metadata()?;
                if self.is(&there) {
                    return self.permit(path, mode);
                }
                if !is_simulated(&there) {
                    return Err(error);
                }
                // Left by an earlier attempt to make the root, of the other kind.
                fs::remove_file(path)?;
                self.make_new(path, mode)
            }
            other => other,
        }
    }

    fn make_new(self, path: &Path, mode: u32) -> io::Result<()> {
        match self {
            DeviceFiles::Regular => OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(path)
                .map(drop),
            DeviceFiles::Nodes => {
                let mode = Mode::from_raw_mode(mode);
                rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, mode, null())?;
                self.permit(path, mode.as_raw_mode())
            }
        }
    }

    /// Gives a device node its permissions, whatever the umask: a container gets it with those that it has here.
    fn permit(self, path: &Path, mode: u32) -> io::Result<()> {
        match self {
            DeviceFiles::Regular => Ok(()),
            DeviceFiles::Nodes => Ok(rustix::fs::chmod(path, Mode::from_raw_mode(mode))?),
        }
    }

    fn is(self, file: &Metadata) -> bool {
        match self {
            DeviceFiles::Regular => file.file_type().is_file(),
            DeviceFiles::Nodes => file.file_type().is_char_device() && file.rdev() == null(),
        }
    }
}

/// Whether the path is a device file of a simulated root, of either kind.
#[must_use]
pub fn exists(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|file| is_simulated(&file))
}

/// Whether this process can open the device file, whatever it is made of.
#[must_use]
pub fn opens(path: &Path) -> bool {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let opened: io::Result<File> = OpenOptions::new()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(path);
    opened.is_ok()
}

fn is_simulated(file: &Metadata) -> bool {
    DeviceFiles::Regular.is(file) || DeviceFiles::Nodes.is(file)
}

/// The numbers of `/dev/null`.
fn null() -> Dev {
    rustix::fs::makedev(1, 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_device_is_never_replaced() {
        let zero = Path::new("/dev/zero");
        for kind in [DeviceFiles::Regular, DeviceFiles::Nodes] {
            let refused = kind.make(zero, 0o666).unwrap_err();
            let allowed = [
                io::ErrorKind::AlreadyExists,
                io::ErrorKind::PermissionDenied,
            ];
            assert!(allowed.contains(&refused.kind()), "{refused}");
        }
        assert!(!exists(zero));
        assert!(
            zero.symlink_metadata()
                .unwrap()
                .file_type()
                .is_char_device()
        );
    }
}

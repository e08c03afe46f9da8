//! Labels as text, and the file that node feature discovery watches.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;

use crate::labels::Labels;

/// Anybody may read the labels: node feature discovery need not run as root.
const MODE: u32 = 0o644;

/// Why the file of labels is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file can't be written.
    #[error(
        "cannot write the labels to {path}: {source}; its folder must exist and be writable",
        path = path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file can't be removed.
    #[error("cannot remove the labels in {path}: {source}", path = path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The labels as lines `key=value`, sorted by key.
#[must_use]
pub fn to_text(labels: &Labels) -> String {
    labels.iter().fold(String::new(), |mut text, (key, value)| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{key}={value}");
        text
    })
}

/// Replaces the file of labels in one step, readable for everybody; a reader sees the old labels or
/// the new ones, never a part.
///
/// # Errors
/// When the file can't be written; then the old one stays.
pub fn write_file(path: &Path, labels: &Labels) -> Result<(), FileError> {
    let write = || -> io::Result<()> {
        let mut file = AtomicWriteFile::open(path)?;
        file.write_all(to_text(labels).as_bytes())?;
        file.set_permissions(std::fs::Permissions::from_mode(MODE))?;
        file.commit()
    };
    write().map_err(|source| FileError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Removes the file, so that the labels of a discovery that has ended don't outlive it. One that is
/// not there is fine.
///
/// # Errors
/// When it is there and can't be removed.
pub fn remove_file(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(FileError::Remove {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        Labels::from([
            (
                "nvidia.com/gpu.product".to_owned(),
                "NVIDIA-H200".to_owned(),
            ),
            ("nvidia.com/gpu.count".to_owned(), "8".to_owned()),
        ])
    }

    #[test]
    fn text_is_sorted_lines() {
        let text = to_text(&labels());
        assert_eq!(
            text,
            "nvidia.com/gpu.count=8\nnvidia.com/gpu.product=NVIDIA-H200\n"
        );
    }

    #[test]
    fn the_file_is_replaced_whole_readable_for_all_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gfd");
        std::fs::write(&path, "old and longer than what comes now ".repeat(9)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        write_file(&path, &labels()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), to_text(&labels()));
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o644
        );
        let files = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files, 1, "no temporary file is left behind");
        remove_file(&path).unwrap();
        assert!(!path.exists());
        remove_file(&path).unwrap();
    }

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let error = write_file(Path::new("/nonexistent/features.d/gfd"), &labels()).unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/features.d/gfd"),
            "{error}"
        );
    }
}

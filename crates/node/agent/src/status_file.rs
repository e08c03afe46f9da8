//! Keeps the status in a file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::Status;

/// Replaces the file in one step; a reader sees the old status or the new one, never a part.
///
/// Not flushed to the disk: after a crash of the machine the agent writes it anew.
pub(crate) fn write(path: &Path, status: &Status) -> io::Result<()> {
    let temporary = beside(path);
    let written = (|| {
        let mut file = BufWriter::new(File::create(&temporary)?);
        serde_json::to_writer(&mut file, status)?;
        file.write_all(b"\n")?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // On a full disk a half file would only be in the way.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A hidden file in the same folder, this process's own.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.json");
        for message in ["first", "second"] {
            let status = Status {
                message: message.to_owned(),
                ..Status::default()
            };
            write(&path, &status).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(read["message"], message);
            assert_eq!(read["phase"], "starting");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_put_in_place_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.json");
        // A folder that is not empty cannot be replaced by a file.
        fs::create_dir_all(path.join("inside")).unwrap();
        write(&path, &Status::default()).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

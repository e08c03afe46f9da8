//! migpool as a simulated driver root's nvidia-smi.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::command::smi::NVIDIA_SMI;
use crate::failure::Failure;

/// How the program gets into the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// As a link to where it is.
    Link,
    /// As a file of its own, for those who see nothing but the root.
    Copy,
}

/// Puts the running program into the root as its nvidia-smi, unless the very same is there. It appears whole or not at
/// all, and who runs the one before goes on.
pub(super) fn install(root: &Path, placed: Placed) -> Result<(), Failure> {
    let place = root.join("usr/bin").join(NVIDIA_SMI);
    put(&place, placed)
        .map_err(|error| Failure::failed(format!("cannot make {}: {error}", place.display())))
}

fn put(place: &Path, placed: Placed) -> io::Result<()> {
    let program = std::env::current_exe()?;
    let is_there = match placed {
        Placed::Link => place.symlink_metadata().is_ok(),
        Placed::Copy => {
            place.symlink_metadata().is_ok_and(|file| file.is_file())
                && have_equal_content(&program, place)?
        }
    };
    if is_there {
        return Ok(());
    }
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = place.with_extension(format!("new-{}", std::process::id()));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match placed {
        Placed::Link => symlink(&program, &new)?,
        Placed::Copy => fs::copy(&program, &new).map(drop)?,
    }
    fs::rename(&new, place)
}

/// Piece by piece: the program is the largest thing that there is here.
fn have_equal_content(one: &Path, other: &Path) -> io::Result<bool> {
    const PIECE: u64 = 64 << 10;
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        (&mut one).take(PIECE).read_to_end(&mut left)?;
        (&mut other).take(PIECE).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_another_program_is_replaced_by_this_one() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("usr/bin/nvidia-smi");
        let program = std::env::current_exe().unwrap();
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, "another one").unwrap();
        install(root.path(), Placed::Copy).unwrap();
        assert!(have_equal_content(&program, &place).unwrap());
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap());
        let before = inode(&place);
        install(root.path(), Placed::Copy).unwrap();
        assert_eq!(inode(&place), before, "the same one is left alone");
        assert_eq!(fs::read_dir(place.parent().unwrap()).unwrap().count(), 1);
    }
}

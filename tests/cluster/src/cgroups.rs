//! The cluster's own corner in every cgroup hierarchy, so that several kubelets on one machine leave each other's pods alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::parts::hexadecimal;
use crate::wait;

/// Why the cgroups could not be made or deleted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder of a hierarchy.
    #[error("cannot {action} the cgroup {path}: {source}")]
    Folder {
        /// What was tried.
        action: &'static str,
        /// On which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It still holds something.
    #[error(transparent)]
    Busy(#[from] wait::TimedOut),
}

/// The cluster's corner, seen from a hierarchy's root. It is a function of the state folder: a start can delete what a
/// killed one left.
pub(crate) fn name(state: &Path) -> String {
    let digest = Sha256::digest(state.as_os_str().as_encoded_bytes());
    format!("migpool-test-{}", hexadecimal(&digest, 4))
}

/// Makes a node's cgroup in every hierarchy.
pub(crate) fn create(name: &str, node: &str) -> Result<(), Error> {
    for hierarchy in hierarchies() {
        let corner = hierarchy.root.join(name);
        let path = corner.join(node);
        fs::create_dir_all(&path).map_err(failed("make", &path))?;
        if hierarchy.version == Version::Two {
            for parent in [&hierarchy.root, &corner] {
                delegate(parent).map_err(failed("delegate", parent))?;
            }
        }
    }
    Ok(())
}

/// Deletes the corner in every hierarchy. Its processes have ended, or are about to.
pub(crate) fn delete(name: &str) -> Result<(), Error> {
    for hierarchy in hierarchies() {
        let path = hierarchy.root.join(name);
        wait::until(
            &format!("the end of the cgroup {}", path.display()),
            Duration::from_secs(10),
            || delete_tree(&path),
        )?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    root: PathBuf,
    version: Version,
}

fn hierarchies() -> Vec<Hierarchy> {
    parse(&fs::read_to_string("/proc/self/mounts").unwrap_or_default())
}

fn parse(mounts: &str) -> Vec<Hierarchy> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let root = words.nth(1)?;
            let version = match words.next()? {
                "cgroup" => Version::One,
                "cgroup2" => Version::Two,
                _ => return None,
            };
            root.starts_with("/sys/fs/cgroup").then(|| Hierarchy {
                root: root.into(),
                version,
            })
        })
        .collect()
}

/// Lets the children have every controller that this cgroup has.
fn delegate(path: &Path) -> io::Result<()> {
    let controllers = fs::read_to_string(path.join("cgroup.controllers"))?;
    for controller in controllers.split_whitespace() {
        fs::write(
            path.join("cgroup.subtree_control"),
            format!("+{controller}"),
        )?;
    }
    Ok(())
}

/// A cgroup's folder is deleted from its leaves up; the files in it are the kernel's.
fn delete_tree(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            delete_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Folder {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let mounts = "proc /proc proc rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let found = parse(mounts);
        let expected = [("cpu", Version::One), ("unified", Version::Two)];
        assert_eq!(
            found,
            expected.map(|(name, version)| Hierarchy {
                root: Path::new("/sys/fs/cgroup").join(name),
                version
            })
        );
    }

    #[test]
    fn two_clusters_have_corners_of_their_own() {
        assert_ne!(name(Path::new("/a")), name(Path::new("/b")));
        assert_eq!(name(Path::new("/a")), name(Path::new("/a")));
    }
}

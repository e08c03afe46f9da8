//! The driver root where NVIDIA's driver containers have theirs: a bind mount.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use procfs_core::FromBufRead;
use procfs_core::process::{MountInfo, MountInfos, MountOptFields};
use rustix::fs::FlockOperation;
use rustix::mount::UnmountFlags;

const MOUNTS: &str = "/proc/self/mountinfo";
/// How many mounts of ours may lie on one another before something is wrong.
const LAYERS: usize = 16;

/// Why the root is not mounted.
#[derive(Debug, thiserror::Error)]
pub(super) enum MountError {
    /// Something else is there.
    #[error(
        "cannot mount the simulated driver at {}: it holds {what}, and a driver that is there is left alone; remove it, or \
         give another --mount",
        target.display()
    )]
    Occupied {
        /// The mount point.
        target: PathBuf,
        /// What is there.
        what: String,
    },
    /// This process may not mount.
    #[error(
        "cannot {what} {}: mounting takes the capability SYS_ADMIN; run as root, in a pod with securityContext.privileged",
        target.display()
    )]
    Denied {
        /// What was tried.
        what: &'static str,
        /// The mount point.
        target: PathBuf,
    },
    /// The system failed.
    #[error("cannot {what} {}: {source}", target.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// The mount point.
        target: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Mounts `root` at `target`, unless it is there. Says whether it had to. A mount of a root that is gone is replaced.
pub(super) fn ensure(root: &Path, target: &Path) -> Result<bool, MountError> {
    let failed = |what| failed(what, target);
    fs::create_dir_all(target).map_err(failed("make the folder"))?;
    let place = fs::canonicalize(target).map_err(failed("find"))?;
    for _ in 0..LAYERS {
        if is_same(root, &place).map_err(failed("look at"))? {
            return Ok(false);
        }
        let mounts = mounts().map_err(failed("read what is mounted at"))?;
        match next_step(
            look(&place).map_err(failed("look at"))?,
            at(&mounts, &place),
        ) {
            Step::Mount => {
                rustix::mount::mount_bind(root, &place)
                    .map_err(|errno| failed("bind-mount the driver root at")(errno.into()))?;
                warn_unless_seen_by_others(&mounts, &place);
                return Ok(true);
            }
            Step::Unmount => rustix::mount::unmount(&place, UnmountFlags::DETACH)
                .map_err(|errno| failed("unmount the old driver root at")(errno.into()))?,
            Step::Refuse(what) => return Err(occupied(target, what)),
        }
    }
    Err(occupied(target, format!("{LAYERS} mounts on one another")))
}

/// Takes the mount away, if it is there. Who has files of it open keeps them.
pub(super) fn remove(root: &Path, target: &Path) -> Result<(), MountError> {
    let place = match fs::canonicalize(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed("find", target))?,
    };
    for _ in 0..LAYERS {
        let there = is_same(root, &place).map_err(failed("look at", target))?;
        let mounts = mounts().map_err(failed("read what is mounted at", target))?;
        if !there || at(&mounts, &place).is_none() {
            break;
        }
        rustix::mount::unmount(&place, UnmountFlags::DETACH)
            .map_err(|errno| failed("unmount", target)(errno.into()))?;
    }
    // Where others mount something into it, it stays.
    let _ = fs::remove_dir(&place);
    Ok(())
}

/// What a folder holds.
#[derive(Debug, PartialEq, Eq)]
enum There {
    Nothing,
    Simulated,
    /// One that another process sees to.
    Held,
    /// The first thing that is no part of a simulated driver's root.
    Other(String),
}

/// What to do about it.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Mount,
    Unmount,
    /// What is there.
    Refuse(String),
}

/// What is in the way of the mount, given what is seen at its place, and the uppermost mount there.
fn next_step(there: There, mount: Option<&MountInfo>) -> Step {
    match (there, mount) {
        // Of a root that was removed the mount is left, and nothing can be mounted on it.
        (There::Nothing, Some(mount)) if mount.root.ends_with("//deleted") => Step::Unmount,
        (There::Nothing, _) => Step::Mount,
        (There::Simulated, Some(_)) => Step::Unmount,
        (There::Held, _) => {
            Step::Refuse("the simulated driver of another migpool sim node, which runs".to_owned())
        }
        (There::Simulated, None) => Step::Refuse("a simulated driver root of its own".to_owned()),
        (There::Other(name), Some(mount)) => {
            Step::Refuse(format!("{name}, in a mount of {}", source(mount)))
        }
        (There::Other(name), None) => Step::Refuse(name),
    }
}

fn look(folder: &Path) -> io::Result<There> {
    if folder.join("sim").is_dir() {
        return Ok(if is_held(folder)? {
            There::Held
        } else {
            There::Simulated
        });
    }
    match fs::read_dir(folder)?.next() {
        None => Ok(There::Nothing),
        Some(entry) => Ok(There::Other(
            entry?.file_name().to_string_lossy().into_owned(),
        )),
    }
}

/// Whether a running process has this root, wherever it is mounted.
fn is_held(root: &Path) -> io::Result<bool> {
    let folder = File::open(root)?;
    match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    is_same_file(&File::open(one)?, &File::open(other)?)
}

pub(super) fn is_same_file(one: &File, other: &File) -> io::Result<bool> {
    let identity = |file: &File| file.metadata().map(|file| (file.dev(), file.ino()));
    Ok(identity(one)? == identity(other)?)
}

fn mounts() -> io::Result<MountInfos> {
    MountInfos::from_buf_read(BufReader::new(File::open(MOUNTS)?)).map_err(io::Error::other)
}

/// The uppermost mount at this very place.
fn at<'a>(mounts: &'a MountInfos, place: &Path) -> Option<&'a MountInfo> {
    let place = escaped(place);
    let mut all = mounts.iter().filter(|mount| mount.mount_point == place);
    all.next_back()
}

/// The kernel writes blanks in paths as `\040`.
fn escaped(path: &Path) -> PathBuf {
    let text = path.to_string_lossy();
    let text = text.replace('\\', "\\134").replace(' ', "\\040");
    text.replace('\t', "\\011").replace('\n', "\\012").into()
}

fn source(mount: &MountInfo) -> String {
    let device = mount.mount_source.as_deref().unwrap_or("?");
    format!("{device} ({}, {})", mount.fs_type, mount.root)
}

/// What is mounted below a private mount is seen by this process's mount namespace alone.
fn warn_unless_seen_by_others(mounts: &MountInfos, place: &Path) {
    if !is_seen_by_others(mounts, place) {
        tracing::warn!(
            "what is mounted at {} is seen in this mount namespace only, for the mount above it is not shared; in a pod \
             the volume needs mountPropagation: Bidirectional",
            place.display()
        );
    }
}

fn is_seen_by_others(mounts: &MountInfos, place: &Path) -> bool {
    let place = escaped(place);
    let above = mounts
        .iter()
        .filter(|mount| place.starts_with(&mount.mount_point));
    // Of several at one place the last is the uppermost.
    let nearest = above.max_by_key(|mount| mount.mount_point.components().count());
    let is_shared = |field: &MountOptFields| matches!(field, MountOptFields::Shared(_));
    nearest.is_some_and(|mount| mount.opt_fields.iter().any(is_shared))
}

fn occupied(target: &Path, what: String) -> MountError {
    MountError::Occupied {
        target: target.to_owned(),
        what,
    }
}

fn failed(what: &'static str, target: &Path) -> impl Fn(io::Error) -> MountError + use<> {
    let target = target.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::PermissionDenied => MountError::Denied {
            what,
            target: target.clone(),
        },
        _ => MountError::System {
            what,
            target: target.clone(),
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> MountInfos {
        MountInfos::from_buf_read(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_nearest_mount_above_says_who_sees_what_is_mounted_below() {
        let mounts = table(
            "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
             23 22 0:5 / /run rw shared:3 - tmpfs tmpfs rw\n\
             24 23 8:1 /x /run/private\\040one rw - ext4 /dev/sda1 rw\n",
        );
        assert!(is_seen_by_others(&mounts, Path::new("/run/nvidia/driver")));
        assert!(!is_seen_by_others(&mounts, Path::new("/var/driver")));
        assert!(!is_seen_by_others(
            &mounts,
            Path::new("/run/private one/driver")
        ));
        assert!(at(&mounts, Path::new("/run/private one")).is_some());
        assert!(at(&mounts, Path::new("/run/nvidia/driver")).is_none());
    }

    #[test]
    fn a_real_driver_is_told_from_a_simulated_one_and_from_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(look(folder.path()).unwrap(), There::Nothing);
        fs::create_dir(folder.path().join("usr")).unwrap();
        assert_eq!(look(folder.path()).unwrap(), There::Other("usr".into()));
        let refused = ensure(Path::new("/"), folder.path()).unwrap_err();
        assert!(refused.to_string().contains("left alone"), "{refused}");
        fs::create_dir(folder.path().join("sim")).unwrap();
        assert_eq!(look(folder.path()).unwrap(), There::Simulated);
    }
}

//! Makes an archive: the root folder by the image's own script, the image by buildah from its Dockerfile, all in a
//! folder that is thrown away afterwards; then the archive takes its place in one step.

use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::image::{Image, digest};
use super::tools::{may_install, output, update};
use crate::step::{Error, target_dir};

/// How the folders begin that an image is made in.
const SCRATCH: &str = ".making-";

/// An archive that is there and current.
#[derive(Debug)]
pub(crate) struct Built {
    /// The image's folder in `images/`
    pub(crate) name: &'static str,
    /// The name that it is loaded under
    pub(crate) reference: String,
    /// The docker-archive file
    pub(crate) tar: PathBuf,
    /// The image's id: the digest of its configuration
    pub(crate) id: String,
    /// The archive's bytes
    pub(crate) size: u64,
    /// Its bytes when compressed with gzip, as registries keep it
    pub(crate) compressed: u64,
}

impl fmt::Display for Built {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:<14} {:<36} {:>7} MiB, {:>5} MiB compressed, {}",
            self.name,
            self.reference,
            mebibytes(self.size),
            mebibytes(self.compressed),
            self.id,
        )
    }
}

/// What the file beside the archive says: from which inputs it was made, and what came out.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    key: String,
    id: String,
    compressed: u64,
}

impl Record {
    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        };
        Some(Self {
            key: value("inputs")?.to_owned(),
            id: value("id")?.to_owned(),
            compressed: value("compressed")?.parse().ok()?,
        })
    }

    fn text(&self) -> String {
        format!(
            "inputs {}\nid {}\ncompressed {}\n",
            self.key, self.id, self.compressed
        )
    }
}

/// Keeps every other such chore waiting for as long as the file is held, and clears away what a killed one left.
pub(super) fn lock() -> Result<File, Error> {
    lock_folder(&folder()?)
}

fn lock_folder(folder: &Path) -> Result<File, Error> {
    let file = File::create(folder.join(".lock"))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            println!("waiting for another `cargo xtask images` to end");
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
        Ok(()) => {}
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.starts_with(SCRATCH.as_bytes()) {
            std::fs::remove_dir_all(&path)?;
        }
    }
    Ok(file)
}

/// Where the archives lie.
fn folder() -> Result<PathBuf, Error> {
    let folder = target_dir().join("images");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn scratch(folder: &Path) -> Result<tempfile::TempDir, Error> {
    Ok(tempfile::Builder::new()
        .prefix(SCRATCH)
        .tempdir_in(folder)?)
}

/// Makes the archive unless it is there and its inputs are what they were.
pub(super) fn ensure(
    image: &'static Image,
    binary: Option<&Path>,
    rebuild: bool,
) -> Result<Built, Error> {
    let folder = folder()?;
    let tar = folder.join(format!("{}.tar", image.name));
    let beside = folder.join(format!("{}.made", image.name));

    let mut key = image.key(binary)?;
    let made = std::fs::read_to_string(&beside)
        .ok()
        .and_then(|text| Record::parse(&text))
        .filter(|made| made.key == key && tar.is_file() && !rebuild);
    let made = if let Some(made) = made {
        println!("{}: nothing changed", image.name);
        made
    } else {
        println!("{}: building {}", image.name, image.reference());
        let scratch = scratch(&folder)?;
        let new = match archive(image, binary, scratch.path()) {
            // Packages that our lists name, and that the distribution has replaced since.
            Err(error) if image.is_made_of_packages() && may_install() => {
                println!("{}: {error}", image.name);
                update()?;
                key = image.key(binary)?;
                let again = scratch.path().join("again");
                std::fs::create_dir(&again)?;
                archive(image, binary, &again)?
            }
            outcome => outcome?,
        };
        let made = Record {
            key,
            id: new.id,
            compressed: compressed_size(&new.tar)?,
        };
        // Killed in between, the archive has no record, and is made anew.
        remove(&beside)?;
        std::fs::rename(&new.tar, &tar)?;
        let record = scratch.path().join("made");
        std::fs::write(&record, made.text())?;
        std::fs::rename(&record, &beside)?;
        made
    };
    Ok(Built {
        name: image.name,
        reference: image.reference(),
        size: std::fs::metadata(&tar)?.len(),
        tar,
        id: made.id,
        compressed: made.compressed,
    })
}

/// Builds twice from nothing, and fails if the two archives differ.
pub(super) fn check(image: &Image, binary: Option<&Path>) -> Result<(), Error> {
    let folder = folder()?;
    let mut digests = Vec::new();
    for _ in 0..2 {
        let scratch = scratch(&folder)?;
        digests.push(digest(&archive(image, binary, scratch.path())?.tar)?);
    }
    match digests.as_slice() {
        [one, other] if one == other => {
            println!("{}: twice the same archive, {one}", image.name);
            Ok(())
        }
        digests => Err(Error::Other(format!(
            "{} is not reproducible: built twice from the same inputs, the archives are {}; unpack both and compare them",
            image.name,
            digests.join(" and ")
        ))),
    }
}

struct Archive {
    tar: PathBuf,
    id: String,
}

/// Makes the archive in an empty folder.
fn archive(image: &Image, binary: Option<&Path>, scratch: &Path) -> Result<Archive, Error> {
    let root = scratch.join("root");
    // Downloaded once for all images and all builds.
    let packages = target_dir().join("images/packages");
    output(image.root_script(&root, binary).env("DEBS", packages))?;

    let buildah = || {
        let mut command = Command::new("buildah");
        command
            .args(["--storage-driver", "vfs", "--root"])
            .arg(scratch.join("storage"))
            .arg("--runroot")
            .arg(scratch.join("run"));
        command
    };
    let id_file = scratch.join("id");
    output(
        buildah()
            // Nothing is run in the image, so nothing is needed to isolate it.
            .args(["build", "--isolation", "chroot", "--pull-never"])
            // The only thing in it that would differ from build to build.
            .args(["--timestamp", "0", "--identity-label=false"])
            .args(["--target", "packed", "--iidfile"])
            .arg(&id_file)
            .arg("--file")
            .arg(image.folder().join("Dockerfile"))
            .arg(&root),
    )?;
    let id = std::fs::read_to_string(&id_file)?.trim().to_owned();
    let tar = scratch.join("image.tar");
    output(buildah().args(["push", &id]).arg(format!(
        "docker-archive:{}:{}",
        tar.display(),
        image.reference()
    )))?;
    Ok(Archive { tar, id })
}

fn compressed_size(file: &Path) -> Result<u64, Error> {
    let mut gzip = Command::new("gzip")
        .arg("--stdout")
        .stdin(std::fs::File::open(file)?)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| Error::Start {
            command: "gzip".to_owned(),
            source,
        })?;
    let size = match &mut gzip.stdout {
        Some(stdout) => std::io::copy(stdout, &mut std::io::sink())?,
        None => 0,
    };
    let status = gzip.wait()?;
    if status.success() {
        Ok(size)
    } else {
        Err(Error::Failed {
            command: "gzip".to_owned(),
            status,
        })
    }
}

fn remove(file: &Path) -> Result<(), Error> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// One decimal, without floating point.
fn mebibytes(bytes: u64) -> String {
    let tenths = (bytes * 10).div_ceil(1 << 20);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_it_was_written_and_a_torn_one_as_none() {
        let record = Record {
            key: "ab".to_owned(),
            id: "sha256:cd".to_owned(),
            compressed: 6_378_657,
        };
        let text = record.text();
        assert_eq!(Record::parse(&text), Some(record));
        assert_eq!(Record::parse("inputs ab\nid sha256:cd\ncompr"), None);
        assert_eq!(Record::parse(""), None);
    }

    #[test]
    fn one_chore_at_a_time_clears_away_what_a_killed_one_left() {
        let folder = tempfile::tempdir().unwrap();
        let left = scratch(folder.path()).unwrap().keep();
        std::fs::write(left.join("image.tar"), "").unwrap();
        std::fs::write(folder.path().join("pause.tar"), "").unwrap();
        let held = lock_folder(folder.path()).unwrap();
        assert!(!left.exists() && folder.path().join("pause.tar").exists());
        let other = File::open(folder.path().join(".lock")).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(held);
        other.try_lock().unwrap();
    }

    #[test]
    fn sizes_are_never_said_smaller_than_they_are() {
        assert_eq!(mebibytes(0), "0.0");
        assert_eq!(mebibytes(6_378_657), "6.1");
        assert_eq!(mebibytes(20 * (1 << 20)), "20.0");
        assert_eq!(mebibytes(20 * (1 << 20) + 1), "20.1");
    }
}

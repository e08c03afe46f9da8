//! The document in a folder of one machine.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;
use atomic_write_file::unix::OpenOptionsExt as _;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

use super::{Kept, Storage, StorageError, Version};

const DOCUMENT: &str = "identity.json";
const LOCK: &str = "identity.lock";
const AUTHORITY: &str = "ca.pem";

/// A folder that only its owner can read (mode 0700; 0600 the files with secrets). What clients are to trust lies beside the
/// document as `ca.pem` (0644). It is made where it is missing.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder at this path. Nothing is read or made yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file with what clients are to trust, in PEM.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.0.join(AUTHORITY)
    }

    fn unusable(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StorageError {
        StorageError::Unusable {
            place: self.place(),
            source: source.into(),
        }
    }

    fn read(&self) -> Result<Option<Kept>, StorageError> {
        // A symbolic link is followed: whoever may put one there owns the folder.
        match fs::metadata(&self.0) {
            Ok(folder) => check(&self.0, &folder, 0o700)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unusable(error)),
        }
        let path = self.0.join(DOCUMENT);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unusable(error)),
        };
        let metadata = file.metadata().map_err(|error| self.unusable(error))?;
        check(&path, &metadata, 0o600)?;
        let mut document = Vec::new();
        io::Read::read_to_end(&mut file, &mut document).map_err(|error| self.unusable(error))?;
        let version = version(&document);
        Ok(Some(Kept { document, version }))
    }

    fn write(&self, document: &[u8], expected: Option<&Version>) -> Result<Version, StorageError> {
        let unusable = |error: io::Error| self.unusable(error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(unusable)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.0.join(LOCK))
            .map_err(unusable)?;
        // Held for the few milliseconds of a write; the system gives it back when its holder dies.
        lock.lock().map_err(unusable)?;
        let found = self.read()?;
        if found.as_ref().map(|kept| &kept.version) != expected {
            return Err(StorageError::Conflict);
        }
        write_whole(&self.0.join(DOCUMENT), document, 0o600).map_err(unusable)?;
        Ok(version(document))
    }

    fn lay_out(&self, authority: &str) -> Result<(), StorageError> {
        let path = self.authority();
        if fs::read(&path).is_ok_and(|there| there == authority.as_bytes()) {
            return Ok(());
        }
        write_whole(&path, authority.as_bytes(), 0o644).map_err(|error| self.unusable(error))
    }

    async fn off_the_threads_of_requests<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let folder = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&folder)).await;
        done.map_err(|error| self.unusable(error))?
    }
}

impl Storage for Folder {
    fn place(&self) -> String {
        format!("folder {}", self.0.display())
    }

    async fn load(&self) -> Result<Option<Kept>, StorageError> {
        self.off_the_threads_of_requests(Self::read).await
    }

    async fn save(
        &self,
        document: &[u8],
        expected: Option<&Version>,
    ) -> Result<Version, StorageError> {
        let (document, expected) = (document.to_vec(), expected.cloned());
        self.off_the_threads_of_requests(move |folder| folder.write(&document, expected.as_ref()))
            .await
    }

    async fn publish(&self, authority: &str) -> Result<(), StorageError> {
        let authority = authority.to_owned();
        self.off_the_threads_of_requests(move |folder| folder.lay_out(&authority))
            .await
    }
}

/// Refuses what others can read or write, and what is not ours.
fn check(path: &Path, metadata: &fs::Metadata, wanted: u32) -> Result<(), StorageError> {
    let mode = metadata.mode() & 0o777;
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user && user != 0 {
        return Err(StorageError::Foreign {
            path: path.to_owned(),
            owner,
            user,
        });
    }
    if mode & 0o077 != 0 {
        return Err(StorageError::Exposed {
            path: path.to_owned(),
            mode,
            wanted,
        });
    }
    Ok(())
}

fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = AtomicWriteFile::options()
        .mode(mode)
        .preserve_mode(false)
        .open(path)?;
    // The process's umask may have taken bits away.
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.commit()
}

fn version(document: &[u8]) -> Version {
    Version(BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, document)))
}

#[cfg(test)]
mod tests;

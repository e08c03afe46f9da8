//! Where the document is kept.

mod folder;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

pub use folder::Folder;

/// Which version of the document: it differs after every change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version(pub String);

/// The document as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    /// The document's bytes. They are secret.
    pub document: Vec<u8>,
    /// Which version this is.
    pub version: Version,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A place for one document, which several processes may use at the same time.
///
/// `load` is asked about once a second while requests come in, so where it is dear it should answer from what a watch has seen;
/// an answer older than one that was already given is not taken.
pub trait Storage: Send + Sync + 'static {
    /// The place, for people: `folder /var/lib/migpool/azure`.
    fn place(&self) -> String;

    /// The document, if there is one.
    fn load(&self) -> impl Future<Output = Result<Option<Kept>, StorageError>> + Send;

    /// Writes the document if what is there is still `expected`; none: if nothing is there. Whole or not at all.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] when something else is there.
    fn save(
        &self,
        document: &[u8],
        expected: Option<&Version>,
    ) -> impl Future<Output = Result<Version, StorageError>> + Send;

    /// Lays out what clients are to trust, in PEM, where they find it. Called after every start and every change of it.
    fn publish(&self, _authority: &str) -> impl Future<Output = Result<(), StorageError>> + Send {
        std::future::ready(Ok(()))
    }
}

/// Why the document can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Somebody else wrote in between. The caller reads again.
    #[error("somebody else changed the identities at the same moment")]
    Conflict,
    /// Others can read what is secret.
    #[error("{path} can be read or changed by others (its mode is {mode:o}), and private keys are kept there: chmod {wanted:o} {path}", path = path.display())]
    Exposed {
        /// What they can read.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Those that it must have.
        wanted: u32,
    },
    /// The folder is another user's.
    #[error("{} belongs to user {owner}, and this process runs as user {user}: choose a folder of your own", path.display())]
    Foreign {
        /// The folder or file.
        path: PathBuf,
        /// Its owner's number.
        owner: u32,
        /// Ours.
        user: u32,
    },
    /// It can't be read or written.
    #[error("identities in {place} can't be used: {source}")]
    Unusable {
        /// The place.
        place: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A storage whose type is forgotten.
pub(crate) trait AnyStorage: Send + Sync {
    fn place(&self) -> String;
    fn load(&self) -> Soon<'_, Option<Kept>>;
    fn save<'a>(&'a self, document: &'a [u8], expected: Option<&'a Version>) -> Soon<'a, Version>;
    fn publish<'a>(&'a self, authority: &'a str) -> Soon<'a, ()>;
}

type Soon<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

impl<S: Storage> AnyStorage for S {
    fn place(&self) -> String {
        Storage::place(self)
    }

    fn load(&self) -> Soon<'_, Option<Kept>> {
        Box::pin(Storage::load(self))
    }

    fn save<'a>(&'a self, document: &'a [u8], expected: Option<&'a Version>) -> Soon<'a, Version> {
        Box::pin(Storage::save(self, document, expected))
    }

    fn publish<'a>(&'a self, authority: &'a str) -> Soon<'a, ()> {
        Box::pin(Storage::publish(self, authority))
    }
}

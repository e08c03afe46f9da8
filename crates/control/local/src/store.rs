//! The SQLite store: one database, one thread that owns its connection, one transaction per change.
//!
//! The journal is a write-ahead log. What people asked for (records) is committed with
//! `synchronous = FULL`, so it survives a power cut from the moment it was acknowledged. What happens
//! to nodes and pods is committed with `NORMAL`: a kill of this process loses nothing, and after a
//! power cut the processes that such rows speak of are gone too; the database is consistent in both.

mod records;
mod world;

use std::path::{Path, PathBuf};
use std::thread;

use pool::Changed;
use rusqlite::{Connection, ErrorCode, Transaction};
use rusqlite_migration::{M, Migrations};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub use world::{NodeRow, PodRow};

/// Why the database could not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DatabaseError {
    /// The disk is full; nothing was changed.
    #[error("the disk that holds {} is full: nothing was changed; free some space", path.display())]
    DiskFull {
        /// The database.
        path: PathBuf,
    },
    /// SQLite refused.
    #[error("database {}: {reason}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// A row is not of the shape that this version writes.
    #[error("database {}: the row of {row} cannot be read: {reason}", path.display())]
    Row {
        /// The database.
        path: PathBuf,
        /// Which row.
        row: String,
        /// What the reader said.
        reason: String,
    },
    /// The thread that owns the database has ended.
    #[error("the database is closed")]
    Closed,
}

/// How long a commit must last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// Until the machine's power is cut.
    Process,
    /// For good.
    Power,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle on the database's own thread. When the last handle is dropped, the database is closed.
#[derive(Debug, Clone)]
pub struct Database {
    jobs: mpsc::UnboundedSender<Job>,
    path: PathBuf,
    changes: watch::Sender<u64>,
    changed: broadcast::Sender<Changed>,
}

/// How many commits whoever follows the changed records may fall behind.
const BEHIND: usize = 1024;

impl Database {
    /// Opens the database, making or migrating it.
    ///
    /// # Errors
    /// When the file cannot be opened or is not a database of this version or an older one.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let describe = |error: &rusqlite::Error| describe(path, error);
        let mut connection = Connection::open(path).map_err(|error| describe(&error))?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
            )
            .map_err(|error| describe(&error))?;
        let migrations =
            Migrations::new(vec![M::up(include_str!("store/migrations/01-initial.sql"))]);
        migrations
            .to_latest(&mut connection)
            .map_err(|error| match error {
                rusqlite_migration::Error::RusqliteError { err, .. } => describe(&err),
                error => DatabaseError::Sqlite {
                    path: path.to_owned(),
                    reason: error.to_string(),
                },
            })?;
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        thread::Builder::new()
            .name("database".to_owned())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    job(&mut connection);
                }
            })
            .map_err(|error| DatabaseError::Sqlite {
                path: path.to_owned(),
                reason: format!("cannot start its thread: {error}"),
            })?;
        Ok(Self {
            jobs,
            path: path.to_owned(),
            changes: watch::Sender::new(0),
            changed: broadcast::Sender::new(BEHIND),
        })
    }

    /// Runs `work`, which reads with one statement. It needs no transaction of its own.
    async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody may wait any more.
            let _ = answer.send(work(connection));
        });
        self.jobs.send(job).map_err(|_| DatabaseError::Closed)?;
        let found = answered.await.map_err(|_| DatabaseError::Closed)?;
        found.map_err(|error| describe(&self.path, &error))
    }

    /// Runs `work` in one transaction: all of it happens, or none.
    async fn transaction<T: Send + 'static, E: From<DatabaseError> + Send + 'static>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure<E>> + Send + 'static,
    ) -> Result<T, E> {
        self.transaction_then(durability, work, || {}).await
    }

    /// As [`Self::transaction`]. `then` is called once it is committed, also when whoever asked has
    /// gone away in the meantime.
    async fn transaction_then<T: Send + 'static, E: From<DatabaseError> + Send + 'static>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure<E>> + Send + 'static,
        then: impl FnOnce() + Send + 'static,
    ) -> Result<T, E> {
        let (answer, answered) = oneshot::channel();
        let path = self.path.clone();
        let job: Job = Box::new(move |connection| {
            let outcome = in_transaction(connection, durability, work);
            let outcome = outcome.map_err(|failure| match failure {
                Failure::Sqlite(error) => E::from(describe(&path, &error)),
                Failure::Other(error) => error,
            });
            if outcome.is_ok() {
                then();
            }
            // Nobody waits any more: the commit stands all the same.
            let _ = answer.send(outcome);
        });
        self.jobs.send(job).map_err(|_| DatabaseError::Closed)?;
        answered.await.map_err(|_| DatabaseError::Closed)?
    }
}

/// Why a transaction was rolled back.
#[derive(Debug)]
enum Failure<E> {
    Sqlite(rusqlite::Error),
    Other(E),
}

impl<E> From<rusqlite::Error> for Failure<E> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn in_transaction<T, E>(
    connection: &mut Connection,
    durability: Durability,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure<E>>,
) -> Result<T, Failure<E>> {
    let synchronous = match durability {
        Durability::Process => "NORMAL",
        Durability::Power => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    let transaction = connection.transaction()?;
    let value = work(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

fn describe(path: &Path, error: &rusqlite::Error) -> DatabaseError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => DatabaseError::DiskFull {
            path: path.to_owned(),
        },
        Some(ErrorCode::SystemIoFailure) => DatabaseError::Sqlite {
            path: path.to_owned(),
            reason: format!(
                "{error}: its disk is full or broken, or a limit on the size of files is reached (ulimit -f)"
            ),
        },
        _ => DatabaseError::Sqlite {
            path: path.to_owned(),
            reason: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests;

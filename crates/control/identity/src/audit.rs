//! The audit log: who did what to which resource, and what came of it. One line of JSON for each request.
//!
//! There is no field for a token, a secret, a query or a body, so none can get into it. Changes of who may do what, which the
//! owner of the document makes beside the front, are lines of it as well. Files are bounded, and anybody may send requests: those
//! of nobody who is known are in a file of their own, so that they never push out who did what.

mod change;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::id::PrincipalId;
use crate::principal::Principal;
use crate::role::Action;
pub use change::{Administrator, ChangeEntry, ChangeLog, Changed};
use writer::{Line, Log, Target};

/// How large a file grows before it becomes `NAME.1`, and how many there are besides the one that is written.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// In bytes.
    largest: u64,
    kept: u32,
}

/// For what principals did: at most 72 MiB altogether.
const PRINCIPALS: Share = Share {
    largest: 8 * 1024 * 1024,
    kept: 8,
};

/// For the requests of strangers: at most 8 MiB altogether.
const STRANGERS: Share = Share {
    largest: 2 * 1024 * 1024,
    kept: 3,
};

/// How many entries may wait to be written. When so many do, requests wait too, since none may go unwritten.
const WAITING: usize = 1024;

/// The longest path that is written, in bytes.
const LONGEST_PATH: usize = 2048;

/// The longest path of a stranger's that is written, in bytes.
const LONGEST_PATH_OF_STRANGERS: usize = 256;

/// Room for an entry of usual length, in bytes.
const LINE: usize = 768;

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It was let in, and answered.
    Allowed,
    /// It was not let in.
    Denied,
    /// It was let in, and failed.
    Failed,
}

/// A request, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// When it came.
    pub time: Timestamp,
    /// Its own id (`x-ms-request-id`).
    pub request_id: Uuid,
    /// The id that all requests of one undertaking have (`x-ms-correlation-request-id`).
    pub correlation_id: Uuid,
    /// The address that it came from.
    pub peer: String,
    /// The principal's id, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal_id: Option<PrincipalId>,
    /// The principal's name, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The HTTP method.
    pub method: String,
    /// The path. What is behind a `?` is not written.
    #[serde(serialize_with = "without_query")]
    pub path: String,
    /// How many requests of the peer it stands for, where that may be more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// What it was about to do; none for a sign-in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// What came of it.
    pub outcome: Outcome,
    /// The HTTP status of the answer.
    pub status: u16,
    /// How long it took; written in microseconds.
    #[serde(rename = "durationMicroseconds", serialize_with = "microseconds")]
    pub duration: Duration,
}

impl AuditEntry {
    /// Names the principal.
    #[must_use]
    pub fn by(mut self, principal: Option<&Principal>) -> Self {
        self.principal_id = principal.map(|principal| principal.id);
        self.principal = principal.map(|principal| principal.name.clone());
        self
    }
}

fn without_query<S: Serializer>(path: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let query = path.bytes().position(|byte| matches!(byte, b'?' | b'#'));
    let end = query.unwrap_or(path.len()).min(LONGEST_PATH);
    let end = path.floor_char_boundary(end);
    serializer.serialize_str(path.get(..end).unwrap_or_default())
}

fn microseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// The audit log. Cheap to clone; all clones write the same one, in the order in which they are called.
#[derive(Clone, Debug)]
pub struct AuditLog(Way);

#[derive(Clone, Debug)]
enum Way {
    /// At once: the system takes a line for a file in less time than it takes to wake a thread that would write it.
    Directly(Arc<Files>),
    /// By a thread: who reads a stream may be slow.
    Handed(mpsc::Sender<Line>),
}

#[derive(Debug)]
struct Files {
    principals: Mutex<Log>,
    strangers: Mutex<Log>,
}

impl AuditLog {
    /// Writes to a file (0600; behind what is there already). At 8 MiB it becomes `NAME.1`, that `NAME.2` and so on up to 8. Entries
    /// without a principal go to [`of_strangers`](Self::of_strangers) beside it, which has 2 MiB and 3 older ones, and long paths cut.
    ///
    /// # Errors
    /// When a file can't be opened for writing.
    pub fn to_file(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let log = |path, share: Share| {
            let target = Target::file(path, share.largest, share.kept)?;
            io::Result::Ok(Mutex::new(Log::new(target)))
        };
        Ok(Self(Way::Directly(Arc::new(Files {
            strangers: log(Self::of_strangers(&path), STRANGERS)?,
            principals: log(path, PRINCIPALS)?,
        }))))
    }

    /// The file beside an audit log's with the requests of nobody who is known: `audit-strangers.log` beside `audit.log`.
    #[must_use]
    pub fn of_strangers(path: &Path) -> PathBuf {
        let mut name = path.file_stem().unwrap_or_default().to_owned();
        name.push("-strangers");
        if let Some(extension) = path.extension() {
            name.push(".");
            name.push(extension);
        }
        path.with_file_name(name)
    }

    /// Writes to standard output, for where something else collects and bounds it: all entries in one stream.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn to_stdout() -> io::Result<Self> {
        Self::to_stream(io::stdout())
    }

    /// Writes to a stream whose reader may be slow, by a thread of its own. [`flush`](Self::flush) it before the process ends.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn to_stream(stream: impl io::Write + Send + 'static) -> io::Result<Self> {
        let (lines, waiting) = mpsc::channel(WAITING);
        writer::start(Log::new(Target::Stream(Box::new(stream))), waiting)?;
        Ok(Self(Way::Handed(lines)))
    }

    /// Writes an entry down. In a file it is there when this returns, and stays there if the process is killed; it is not waited
    /// for the disk. To a stream it is on its way.
    pub async fn record(&self, mut entry: AuditEntry) {
        let is_a_strangers = entry.principal_id.is_none();
        if is_a_strangers {
            let end = entry.path.floor_char_boundary(LONGEST_PATH_OF_STRANGERS);
            entry.path.truncate(end);
        }
        let mut line = Vec::with_capacity(LINE);
        if let Err(error) = serde_json::to_writer(&mut line, &entry) {
            tracing::error!(%error, "an entry of the audit log can't be written");
            return;
        }
        line.push(b'\n');
        match &self.0 {
            Way::Directly(files) => {
                let log = if is_a_strangers {
                    &files.strangers
                } else {
                    &files.principals
                };
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.write(&line);
            }
            // The writer ends only after its last sender.
            Way::Handed(lines) => {
                let _ = lines.send(Line::Entry(line)).await;
            }
        }
    }

    /// Begins files anew that somebody has taken away: what is written to such a one is nowhere. To be called now and then.
    pub fn look(&self) {
        if let Way::Directly(files) = &self.0 {
            for log in [&files.principals, &files.strangers] {
                log.lock().unwrap_or_else(PoisonError::into_inner).look();
            }
        }
    }

    /// Returns when everything that was recorded so far is written.
    pub async fn flush(&self) {
        let Way::Handed(lines) = &self.0 else {
            return;
        };
        let (done, is_done) = oneshot::channel();
        if lines.send(Line::Flush(done)).await.is_ok() {
            let _ = is_done.await;
        }
    }
}

#[cfg(test)]
mod tests;

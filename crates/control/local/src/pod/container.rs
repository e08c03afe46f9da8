//! The files through which `up` and a container's shim speak, each written atomically.
//!
//! `container.json` says what to run and is written last, so where it exists the pod's folder is
//! complete. `claim-N` says which process is the shim of generation N: whoever links it first owns
//! the generation, so a container can never be started twice.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::process::ProcessId;

/// What a shim runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The container's name in the manifest.
    pub name: String,
    /// What its processes bear in their environment as [`CONTAINER_MARK`](super::shim::CONTAINER_MARK).
    pub mark: String,
    /// Program and arguments, references to variables already expanded.
    pub command: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// Where the command starts.
    pub working_dir: PathBuf,
    /// Whether it is started again when it ends.
    pub restart_policy: RestartPolicy,
    /// Seconds between the request to end and the kill.
    pub grace_seconds: u64,
    /// Standard output and standard error, appended.
    pub log_file: PathBuf,
    /// Where the shim writes its [`ContainerStatus`].
    pub status_file: PathBuf,
}

/// A pod's restart policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// However it ended (the default).
    #[default]
    Always,
    /// When it ended with another status than 0.
    OnFailure,
    /// Never.
    Never,
}

/// How a container is, as its shim last wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// The shim that wrote this.
    pub generation: u64,
    /// How often the command was started again.
    pub restart_count: u32,
    /// How it is now.
    pub state: ContainerState,
    /// How it ended the last time.
    pub last: Option<Terminated>,
    /// It will not be started again.
    pub finished: bool,
}

/// The state of a container, in the words of a pod's status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ContainerState {
    /// It does not run yet, or not at the moment.
    Waiting {
        /// One word, such as `CrashLoopBackOff`.
        reason: String,
        /// A sentence.
        message: String,
    },
    /// It runs.
    Running {
        /// Its first process.
        pid: i32,
        /// Since when.
        #[serde(rename = "startedAt")]
        started_at: Timestamp,
    },
    /// It has ended.
    Terminated(Terminated),
}

/// One end of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terminated {
    /// The exit status, 128 + signal for a death by signal.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error` or `StartError`.
    pub reason: String,
    /// Why it could not be started; empty otherwise.
    pub message: String,
    /// When this run began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}

impl ContainerStatus {
    /// A container that its shim is about to start.
    #[must_use]
    pub fn new(generation: u64) -> Self {
        Self {
            generation,
            restart_count: 0,
            state: ContainerState::Waiting {
                reason: "ContainerCreating".to_owned(),
                message: String::new(),
            },
            last: None,
            finished: false,
        }
    }

    /// Reads a status; `None` when none was written yet.
    ///
    /// # Errors
    /// When the file cannot be read or is not a status.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        read_json(path)
    }

    /// Writes the status atomically.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_json(path, self)
    }
}

/// Who owns a generation of a container's shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// This call made the claim.
    Made,
    /// It had been made before.
    Taken,
}

/// A container's folder.
#[derive(Debug, Clone)]
pub struct ContainerFolder(PathBuf);

impl ContainerFolder {
    /// The folder at `path`; nothing is touched.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn spec_file(&self) -> PathBuf {
        self.0.join("container.json")
    }

    fn claim_file(&self, generation: u64) -> PathBuf {
        self.0.join(format!("claim-{generation}"))
    }

    /// What the container runs; `None` before it was written and after the pod's folder has gone.
    ///
    /// # Errors
    /// When the file cannot be read or is not a container's.
    pub fn read_spec(&self) -> io::Result<Option<ContainerSpec>> {
        read_json(&self.spec_file())
    }

    /// Writes what the container runs, atomically.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_spec(&self, spec: &ContainerSpec) -> io::Result<()> {
        write_json(&self.spec_file(), spec)
    }

    /// Makes this process the shim of `generation`, unless the generation has an owner.
    ///
    /// # Errors
    /// When the folder cannot be written, or is gone.
    pub fn claim(&self, generation: u64) -> io::Result<Claim> {
        self.link_claim(generation, &ProcessId::current()?.to_string())
    }

    /// Makes it impossible for a shim of `generation` that has not claimed it yet to start.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn forbid(&self, generation: u64) -> io::Result<Claim> {
        self.link_claim(generation, "forbidden")
    }

    // A hard link of a file that is complete: it either exists with its content or not at all, and
    // only one link can be made.
    fn link_claim(&self, generation: u64, content: &str) -> io::Result<Claim> {
        let own = self
            .0
            .join(format!("claim-{generation}.by-{}", std::process::id()));
        fs::write(&own, content)?;
        let linked = fs::hard_link(&own, self.claim_file(generation));
        fs::remove_file(&own)?;
        match linked {
            Ok(()) => Ok(Claim::Made),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Claim::Taken),
            Err(error) => Err(error),
        }
    }

    /// The process that claimed `generation`; `None` when none has, or none ever can.
    ///
    /// # Errors
    /// When the claim cannot be read.
    pub fn claimed_by(&self, generation: u64) -> io::Result<Option<ProcessId>> {
        match fs::read_to_string(self.claim_file(generation)) {
            Ok(text) => Ok(text.parse().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether `generation` has an owner, or can have none.
    #[must_use]
    pub fn is_claimed(&self, generation: u64) -> bool {
        self.claim_file(generation).exists()
    }

    fn start_error_file(&self) -> PathBuf {
        self.0.join("start-error")
    }

    /// Why the command could not be started.
    #[must_use]
    pub fn start_error(&self) -> Option<String> {
        fs::read_to_string(self.start_error_file()).ok()
    }

    /// Leaves word for the shim why the command could not be started.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_start_error(&self, message: &str) -> io::Result<()> {
        fs::write(self.start_error_file(), message)
    }

    /// Forgets an earlier start's error.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn forget_start_error(&self) -> io::Result<()> {
        match fs::remove_file(self.start_error_file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: {error}", path.display()),
            )
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

// Written beside and renamed, without waiting for the disk: after a power cut no process of the
// pod is left to describe, and a kill of the writer loses nothing.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(name);
    let written = (|| {
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        // On a full disk a half file would only be in the way.
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_claimed_once_and_a_forbidden_one_never() {
        let dir = tempfile::tempdir().expect("tempdir");
        let folder = ContainerFolder::new(dir.path().to_owned());
        assert!(!folder.is_claimed(1));
        assert_eq!(folder.claim(1).expect("claim"), Claim::Made);
        assert_eq!(folder.claim(1).expect("claim"), Claim::Taken);
        assert_eq!(folder.forbid(1).expect("forbid"), Claim::Taken);
        let owner = folder.claimed_by(1).expect("read").expect("an owner");
        assert_eq!(owner, ProcessId::current().expect("self"));

        assert_eq!(folder.forbid(2).expect("forbid"), Claim::Made);
        assert_eq!(folder.claim(2).expect("claim"), Claim::Taken);
        assert_eq!(folder.claimed_by(2).expect("read"), None);
        assert!(folder.is_claimed(2));
    }

    #[test]
    fn a_status_is_read_back_as_it_was_written() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("status.json");
        assert_eq!(ContainerStatus::read(&path).expect("read"), None);
        let mut status = ContainerStatus::new(3);
        status.state = ContainerState::Running {
            pid: 7,
            started_at: Timestamp::UNIX_EPOCH,
        };
        status.write(&path).expect("write");
        assert_eq!(ContainerStatus::read(&path).expect("read"), Some(status));
    }
}

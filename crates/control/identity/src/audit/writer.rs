//! The audit log's file, and the thread that writes where a line may have to wait.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use tokio::sync::{mpsc, oneshot};

/// How much is gathered before it is written, in bytes.
const BATCH: usize = 64 * 1024;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Line {
    /// Write an entry: a whole line.
    Entry(Vec<u8>),
    /// Say when everything before it is written.
    Flush(oneshot::Sender<()>),
}

/// Where to.
#[derive(Debug)]
pub(super) enum Target {
    Stdout,
    File(Rotated),
}

impl Target {
    pub(super) fn file(path: PathBuf, largest: u64, kept: u32) -> io::Result<Self> {
        let file = open(&path)?;
        let size = file.metadata()?.len();
        Ok(Self::File(Rotated {
            path,
            file,
            size,
            largest,
            kept,
        }))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()
            }
            Self::File(file) => file.write(bytes),
        }
    }
}

/// A file that makes room for the next one when it is large.
#[derive(Debug)]
pub(super) struct Rotated {
    path: PathBuf,
    file: File,
    size: u64,
    largest: u64,
    kept: u32,
}

impl Rotated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.size > 0 && self.size.saturating_add(more) > self.largest {
            self.rotate()?;
        }
        self.file.write_all(bytes)?;
        self.size = self.size.saturating_add(more);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.kept).rev() {
            match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.numbered(1))?;
        self.file = open(&self.path)?;
        self.size = 0;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// A target, and whether it was told that it can't be written.
#[derive(Debug)]
pub(super) struct Log {
    target: Target,
    is_failing: bool,
}

impl Log {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            is_failing: false,
        }
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) {
        let written = self.target.write(lines);
        // Once, not for each line of a disk that is full.
        match &written {
            Err(error) if !self.is_failing => {
                tracing::error!(%error, target = ?self.target, "the audit log can't be written");
            }
            Ok(()) if self.is_failing => tracing::info!("the audit log is written again"),
            _ => {}
        }
        self.is_failing = written.is_err();
    }
}

/// Starts the thread. It ends when nobody can send any more.
pub(super) fn start(mut log: Log, mut lines: mpsc::Receiver<Line>) -> io::Result<()> {
    let write = move || {
        while let Some(first) = lines.blocking_recv() {
            let mut batch = Vec::new();
            let mut waiting = Vec::new();
            let mut next = Some(first);
            while let Some(line) = next {
                match line {
                    Line::Entry(line) => batch.extend_from_slice(&line),
                    Line::Flush(done) => waiting.push(done),
                }
                next = (batch.len() < BATCH)
                    .then(|| lines.try_recv().ok())
                    .flatten();
            }
            log.write(&batch);
            for done in waiting {
                let _ = done.send(());
            }
        }
    };
    thread::Builder::new()
        .name("audit".to_owned())
        .spawn(write)?;
    Ok(())
}

#[cfg(test)]
mod tests;

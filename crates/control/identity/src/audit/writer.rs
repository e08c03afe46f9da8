//! The audit log's file, and the thread that writes where a line may have to wait.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
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
pub(super) enum Target {
    Stream(Box<dyn Write + Send>),
    File(Rotated),
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(_) => f.write_str("a stream"),
            Self::File(file) => file.path.fmt(f),
        }
    }
}

impl Target {
    pub(super) fn file(path: PathBuf, largest: u64, kept: u32) -> io::Result<Self> {
        let file = open(&path)?;
        let size = file.metadata()?.len();
        Ok(Self::File(Rotated {
            path,
            file: Lines::behind(file)?,
            size,
            largest,
            kept,
            is_stuck: false,
        }))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stream(out) => {
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
    file: Lines,
    size: u64,
    largest: u64,
    kept: u32,
    /// Whether it was told that it can't be put aside.
    is_stuck: bool,
}

impl Rotated {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let more = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        if self.size > 0 && self.size.saturating_add(more) > self.largest {
            let rotated = self.rotate();
            match &rotated {
                // What is to be written goes before how long the file is.
                Err(error) if !self.is_stuck => {
                    let path = self.path.display();
                    tracing::error!(%error, "{path} can't be put aside, and grows: look at it and the files beside it");
                }
                Ok(()) if self.is_stuck => {
                    tracing::info!("{} is put aside again", self.path.display());
                }
                _ => {}
            }
            self.is_stuck = rotated.is_err();
        }
        self.file.write(lines)?;
        self.size = self.size.saturating_add(more);
        Ok(())
    }

    /// Begins anew where the file was taken away: what is written to it is nowhere.
    fn look(&mut self) -> io::Result<()> {
        if is_there(&self.path)? {
            return Ok(());
        }
        self.rotate()
    }

    /// Begins the next file; when that fails, the old one is still there to be written.
    fn rotate(&mut self) -> io::Result<()> {
        // Where nothing is, it was taken away, or the next file could not be opened the last time: nothing has to move.
        if is_there(&self.path)? {
            self.make_room()?;
            rename(&self.path, &self.numbered(1))?;
        }
        // Another process may have begun it already, and writes into it.
        let file = open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Lines::behind(file)?;
        Ok(())
    }

    /// Moves older files on, so that there is place for one. No further than to the first number that is free: what fails halfway
    /// and is begun again must not push out one file after the other.
    fn make_room(&self) -> io::Result<()> {
        let mut free = 1;
        while free < self.kept && is_there(&self.numbered(free))? {
            free += 1;
        }
        for number in (1..free).rev() {
            rename(&self.numbered(number), &self.numbered(number + 1))?;
        }
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Renames a file, unless somebody has just taken it away.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// A file of lines.
#[derive(Debug)]
pub(super) struct Lines {
    file: File,
    /// Whether it ends within a line, of which the rest could not be written.
    is_torn: bool,
}

impl Lines {
    /// Writes behind what is in a file.
    pub(super) fn behind(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let mut last = [b'\n'];
        if let Some(at) = size.checked_sub(1) {
            file.read_exact_at(&mut last, at)?;
        }
        Ok(Self {
            file,
            is_torn: last != [b'\n'],
        })
    }

    /// Writes whole lines, with one write where the system takes them at once: no other process's line gets between.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if !self.is_torn {
            return self.append(lines);
        }
        let mut on_their_own = Vec::with_capacity(lines.len() + 1);
        on_their_own.push(b'\n');
        on_their_own.extend_from_slice(lines);
        self.append(&on_their_own)
    }

    fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    let (written, rest) = bytes.split_at(count.min(bytes.len()));
                    self.is_torn = !written.ends_with(b"\n");
                    bytes = rest;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns when what was written is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
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

    /// Begins anew where the file was taken away.
    pub(super) fn look(&mut self) {
        if let Target::File(file) = &mut self.target
            && let Err(error) = file.look()
        {
            tracing::error!(%error, target = ?self.target, "the audit log is gone, and can't be begun anew");
        }
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

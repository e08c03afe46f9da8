//! `migpool azure audit`: who did what, and who changed what others may do.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use identity::AuditLog;
use serde_json::Value;

use crate::arguments::StateDir;
use crate::azure::AzureFolder;
use crate::failure::Failure;
use crate::output::write_line;

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(300);

/// Show who did what: each request with its principal, its resource and what came of it, and each change of who may do what
#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(flatten)]
    state: StateDir,
    /// How many of the last entries
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50)]
    lines: usize,
    /// The requests of nobody who is known instead: they are kept by themselves
    #[arg(long)]
    strangers: bool,
    /// Go on with those that come
    #[arg(short, long)]
    follow: bool,
    /// As lines for people, or as they are kept: a JSON object a line
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "table"
    )]
    output: Form,
}

/// How an entry is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Table,
    Json,
}

impl Audit {
    /// Prints, until interrupted where it follows.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let mut path = AzureFolder::of(&self.state.path()?).audit_log();
        if self.strangers {
            path = AuditLog::of_strangers(&path);
        }
        let mut log = Log::open(path)?;
        let there = log.lines()?;
        let first = there.len().saturating_sub(self.lines);
        self.print(there.get(first..).unwrap_or_default())?;
        if !self.follow {
            return Ok(());
        }
        loop {
            tokio::time::sleep(LOOK).await;
            self.print(&log.lines()?)?;
        }
    }

    fn print(&self, lines: &[String]) -> Result<(), Failure> {
        let shown: Vec<_> = lines
            .iter()
            .map(|line| match self.output {
                Form::Json => line.clone(),
                Form::Table => in_words(line),
            })
            .collect();
        write_line(&shown.join("\n"))
    }
}

/// A log that is written meanwhile, and put aside when it is long.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: File,
    rest: Vec<u8>,
}

impl Log {
    fn open(path: PathBuf) -> Result<Self, Failure> {
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::failed(format!(
                "nothing was written down yet: there is no {}",
                path.display()
            ))
            .with_help("`migpool up --azure` writes it"),
            _ => unreadable(&path, &error),
        })?;
        Ok(Self {
            path,
            file,
            rest: Vec::new(),
        })
    }

    /// The whole lines that have come since the last look.
    fn lines(&mut self) -> Result<Vec<String>, Failure> {
        self.read()?;
        // The file was put aside; what was still written to it has just been read.
        let current = std::fs::metadata(&self.path).map(|there| there.ino());
        let ours = self.file.metadata().map(|there| there.ino());
        if let (Ok(current), Ok(ours)) = (current, ours)
            && current != ours
        {
            self.file = File::open(&self.path).map_err(|error| unreadable(&self.path, &error))?;
            self.read()?;
        }
        let end = self
            .rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        Ok(String::from_utf8_lossy(&whole)
            .lines()
            .map(str::to_owned)
            .collect())
    }

    fn read(&mut self) -> Result<(), Failure> {
        self.file
            .read_to_end(&mut self.rest)
            .map(|_| ())
            .map_err(|error| unreadable(&self.path, &error))
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot read {}: {error}", path.display()))
}

/// An entry as a line for people; a line that cannot be read as it is.
fn in_words(line: &str) -> String {
    let Ok(entry) = serde_json::from_str::<Value>(line) else {
        return line.to_owned();
    };
    if entry.get("change").is_some() {
        return change_in_words(&entry);
    }
    let text = |key: &str| entry[key].as_str().unwrap_or("-");
    let time = text("time");
    let requests = match entry["requests"].as_u64() {
        Some(requests @ 2..) => format!(" ({requests} requests)"),
        _ => String::new(),
    };
    format!(
        "{}  {:<7}  {}  {:<15}  {}  {} {}{requests}",
        // Without the parts of a second.
        time.get(..19).unwrap_or(time),
        text("outcome"),
        entry["status"],
        text("peer"),
        text("principal"),
        text("method"),
        text("path"),
    )
}

/// A change of who may do what: in the place of the peer is the user who made it.
fn change_in_words(entry: &Value) -> String {
    let text = |key: &str| entry[key].as_str();
    let time = text("time").unwrap_or("-");
    let by = &entry["administrator"];
    let user = by["user"].as_str().unwrap_or_default();
    let number = |key: &str, word: &str| {
        let number = by[key].as_u64();
        number.map(|number| format!("{word} {number}"))
    };
    let numbers: Vec<_> = [number("uid", "uid"), number("loginUid", "login")]
        .into_iter()
        .flatten()
        .collect();
    let subject = text("principal").or(text("principalId"));
    let about = [subject, text("role"), text("scope"), text("issuer")];
    let about: Vec<_> = about.into_iter().flatten().collect();
    let line = format!(
        "{}  {:<7}  -    {:<15}  {}  azure {} {}",
        time.get(..19).unwrap_or(time),
        text("outcome").unwrap_or("-"),
        numbers.join(", "),
        user,
        text("change").unwrap_or("-"),
        about.join(" "),
    );
    // A name that was refused may hold anything.
    let printable = line.trim_end().chars();
    printable
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_log_that_is_put_aside_meanwhile_loses_no_line_and_shows_none_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut file = File::create(&path).unwrap();
        writeln!(file, "a").unwrap();
        let mut log = Log::open(path.clone()).unwrap();
        assert_eq!(log.lines().unwrap(), ["a"]);
        write!(file, "b").unwrap();
        assert!(log.lines().unwrap().is_empty(), "half a line is none yet");
        writeln!(file, "b").unwrap();
        std::fs::rename(&path, dir.path().join("audit.log.1")).unwrap();
        std::fs::write(&path, "c\n").unwrap();
        assert_eq!(log.lines().unwrap(), ["bb", "c"]);
        assert!(log.lines().unwrap().is_empty());
        let gone = Log::open(dir.path().join("none")).unwrap_err().to_string();
        assert!(gone.contains("nothing was written down yet"), "{gone}");
    }

    #[test]
    fn a_request_is_told_in_one_line() {
        let line = r#"{"time":"2026-11-01T10:00:00.25Z","requestId":"r","correlationId":"c","peer":"127.0.0.1:4","principal":"ci",
            "method":"GET","path":"/subscriptions","action":"read","outcome":"allowed","status":200,"durationMicroseconds":7}"#;
        assert_eq!(
            in_words(line),
            "2026-11-01T10:00:00  allowed  200  127.0.0.1:4      ci  GET /subscriptions"
        );
        let line = r#"{"time":"2026-11-01T10:00:00Z","peer":"192.0.2.1:4","method":"-","path":"-","requests":7,"outcome":"denied","status":429}"#;
        assert_eq!(
            in_words(line),
            "2026-11-01T10:00:00  denied   429  192.0.2.1:4      -  - - (7 requests)"
        );
        assert_eq!(in_words("half a li"), "half a li");
    }

    #[test]
    fn a_change_is_told_in_one_line_with_who_made_it() {
        let line = r#"{"time":"2026-11-01T10:00:00.25Z","administrator":{"uid":0,"user":"root","loginUid":1000},
            "change":"role assign","principalId":"i","principal":"c\ni","role":"reader","scope":"/subscriptions/s","outcome":"allowed"}"#;
        assert_eq!(
            in_words(line),
            "2026-11-01T10:00:00  allowed  -    uid 0, login 1000  root  azure role assign c?i reader /subscriptions/s"
        );
        let line = r#"{"time":"2026-11-01T10:00:00Z","administrator":{"uid":1000},"change":"rotate ca","outcome":"failed"}"#;
        assert_eq!(
            in_words(line),
            "2026-11-01T10:00:00  failed   -    uid 1000           azure rotate ca"
        );
    }
}

//! This machine: the programs that tests run on it, what they write down, and what is random in them.

use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// What takes longer is worth a word.
const NOTABLE: Duration = Duration::from_secs(1);

/// What every test has, with or without a cluster.
pub(crate) struct Machine {
    seed: u64,
    scratch: tempfile::TempDir,
    log: Mutex<Log>,
    log_path: PathBuf,
}

/// What was done, line by line.
struct Log {
    file: File,
    started: Instant,
    /// What was written last, and how often it was not written again.
    last: (String, u32),
}

impl Log {
    fn write(&mut self, line: &str) {
        if self.last.0 == line {
            self.last.1 += 1;
            return;
        }
        let at = self.started.elapsed().as_secs_f64();
        if self.last.1 > 0 {
            let _ = writeln!(self.file, "         ... {} times more", self.last.1);
        }
        let _ = writeln!(self.file, "{at:8.2} {line}");
        self.last = (line.to_owned(), 0);
    }
}

/// What a program that ran to its end said.
#[derive(Debug)]
pub(crate) struct Said {
    /// It succeeded.
    pub(crate) ok: bool,
    /// What it exited with; nothing where a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it wrote to standard output.
    pub(crate) stdout: String,
    /// What it wrote to standard error.
    pub(crate) stderr: String,
}

impl Machine {
    /// With a log of this name in `target`.
    ///
    /// # Errors
    /// The log or a scratch folder can't be written.
    pub(crate) fn new(name: &str, seed: u64) -> anyhow::Result<Self> {
        let log_path = workspace().join("target").join(format!("{name}.log"));
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(&log_path)
            .with_context(|| format!("cannot write {}", log_path.display()))?;
        Ok(Self {
            seed,
            scratch: tempfile::tempdir()?,
            log: Mutex::new(Log {
                file,
                started: Instant::now(),
                last: (String::new(), 0),
            }),
            log_path,
        })
    }

    /// Writes a line to the log of what was done.
    pub(crate) fn log(&self, line: &str) {
        if let Ok(mut log) = self.log.lock() {
            log.write(line);
        }
    }

    /// Where the log is.
    pub(crate) fn log_path(&self) -> &Path {
        &self.log_path
    }

    /// What is random in the test of this name, the same for the same seed.
    pub(crate) fn random(&self, test: &str) -> fastrand::Rng {
        let mut hasher = DefaultHasher::new();
        (self.seed, test).hash(&mut hasher);
        fastrand::Rng::with_seed(hasher.finish())
    }

    /// A folder for what tests need.
    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Runs a program to its end, and answers with what it said.
    ///
    /// # Errors
    /// It can't be started.
    pub(crate) fn run(&self, mut command: Command, input: Option<&str>) -> anyhow::Result<Said> {
        let began = Instant::now();
        command
            .stdin(if input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", line_of(&command)))?;
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            // A program that does not read to the end says why by itself.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output()?;
        let said = Said {
            ok: output.status.success(),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        let line = line_of(&command);
        self.log(&match (said.ok, began.elapsed()) {
            (false, _) => format!("{line} failed: {}", said.stderr.trim()),
            (true, took) if took > NOTABLE => format!("{line} ({:.1} s)", took.as_secs_f64()),
            (true, _) => line,
        });
        Ok(said)
    }

    /// Runs a program that has to succeed, and answers with what it wrote.
    ///
    /// # Errors
    /// It fails; its own words are the reason.
    pub(crate) fn done(&self, command: Command, input: Option<&str>) -> anyhow::Result<String> {
        let line = line_of(&command);
        let said = self.run(command, input)?;
        ensure!(
            said.ok,
            "`{line}` failed: {}",
            format!("{}\n{}", said.stderr.trim(), said.stdout.trim()).trim()
        );
        Ok(said.stdout)
    }
}

/// The folder of the checkout.
pub(crate) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::canonicalize(here.join("../.."))
        .unwrap_or_else(|_| here.ancestors().nth(2).unwrap_or(here).to_path_buf())
}

/// A command's line, without what only leads into the namespaces: that ends with a shell that changes the folder.
fn line_of(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    let program = words.windows(4).position(|words| {
        words[0] == "-c" && words[1].ends_with(r#"exec "$@""#) && words[2] == "sh"
    });
    words[program.map_or(0, |index| index + 4)..].join(" ")
}

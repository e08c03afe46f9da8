//! Running the programs that a chore is made of.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Why a chore ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A program could not be started.
    #[error("cannot start `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A program ended with a failure.
    #[error("`{command}` failed ({status})")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// Something else, in words.
    #[error("{0}")]
    Other(String),
    /// A file or pipe could not be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest
        .ancestors()
        .nth(2)
        .map(PathBuf::from)
        .unwrap_or(manifest)
}

/// Whether we have the rights of root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Cargo, in the workspace's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// The folder that cargo builds into.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Builds the release binary and gives its path.
pub(crate) fn release_binary() -> Result<PathBuf, Error> {
    run(&mut cargo(&["build", "--release", "--package", "migpool"]))?;
    Ok(target_dir().join("release/migpool"))
}

/// Prints the command, runs it with our own output, and fails when it fails.
pub(crate) fn run(command: &mut Command) -> Result<(), Error> {
    let text = describe(command);
    println!("\n$ {text}");
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|source| Error::Start {
            command: text.clone(),
            source,
        })?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Failed {
            command: text,
            status,
        })
    }
}

/// Runs a command, copying each line of its output to ours and to `line`; the command's outcome comes last.
pub(crate) fn run_reading(command: &mut Command, mut line: impl FnMut(&str)) -> Result<(), Error> {
    let text = describe(command);
    println!("\n$ {text}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| Error::Start {
            command: text.clone(),
            source,
        })?;
    if let Some(stdout) = child.stdout.take() {
        let mut out = std::io::stdout().lock();
        for read in BufReader::new(stdout).split(b'\n') {
            let bytes = read?;
            let read = String::from_utf8_lossy(&bytes);
            writeln!(out, "{read}")?;
            line(&read);
        }
    }
    let status = child.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Failed {
            command: text,
            status,
        })
    }
}

fn describe(command: &Command) -> String {
    let mut words: Vec<_> = vec![
        PathBuf::from(command.get_program())
            .file_name()
            .map_or_else(
                || command.get_program().to_string_lossy().into_owned(),
                |name| name.to_string_lossy().into_owned(),
            ),
    ];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

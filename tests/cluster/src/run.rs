//! Running a program to its end.

use std::process::{Command, ExitStatus, Output, Stdio};

/// Why a program did not do what it was run for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program could not be started.
    #[error("cannot start `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// What it was to read could not be written to it.
    #[error("cannot write to `{command}`: {source}")]
    Input {
        /// The command line.
        command: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The program ended with a failure.
    #[error("`{command}` failed ({status}): {}", output.trim())]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to stderr, or to stdout when that was nothing.
        output: String,
    },
}

/// Runs a program and gives what it wrote to stdout.
pub(crate) fn output(command: &mut Command) -> Result<String, Error> {
    output_from(command.stdin(Stdio::null()))
}

/// Runs a program with the stdin that was set for it, and gives what it wrote to stdout.
pub(crate) fn output_from(command: &mut Command) -> Result<String, Error> {
    let text = describe(command);
    let output = command.output().map_err(|source| Error::Start {
        command: text.clone(),
        source,
    })?;
    judge(text, &output)
}

/// Runs a program that reads `input`, and gives what it wrote to stdout.
pub(crate) fn output_of(command: &mut Command, input: &[u8]) -> Result<String, Error> {
    use std::io::Write;

    let text = describe(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| Error::Start {
            command: text.clone(),
            source,
        })?;
    let input_error = |source| Error::Input {
        command: text.clone(),
        source,
    };
    let written = match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(input),
        None => Ok(()),
    };
    let output = child.wait_with_output().map_err(input_error)?;
    // A program that refuses what it reads ends before it has read all: its own words say more than the broken pipe.
    let text_out = judge(text.clone(), &output)?;
    written.map_err(input_error)?;
    Ok(text_out)
}

fn judge(command: String, output: &Output) -> Result<String, Error> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Failed {
        command,
        status: output.status,
        output: if stderr.trim().is_empty() {
            stdout
        } else {
            stderr
        },
    })
}

/// The command line without what only leads into the namespaces.
pub(crate) fn describe(command: &Command) -> String {
    let mut words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if words.first().is_some_and(|program| program == "nsenter")
        && let Some(end) = words.iter().position(|word| word == "--")
    {
        // Up to the two dashes, and the program that ends with us: `setpriv --pdeathsig KILL`.
        words.drain(..words.len().min(end + 4));
        // The shell that only changes the folder first.
        if words.first().is_some_and(|program| program == "sh") {
            words.drain(..words.len().min(5));
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_the_programs_own_words() {
        let error =
            output(Command::new("sh").args(["-c", "echo no such pod >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().ends_with("no such pod"), "{error}");
    }

    #[test]
    fn a_program_that_refuses_its_input_is_heard() {
        let input = vec![b'x'; 1 << 20];
        let error = output_of(
            Command::new("sh").args(["-c", "echo bad yaml >&2; exit 1"]),
            &input,
        )
        .unwrap_err();
        assert!(error.to_string().ends_with("bad yaml"), "{error}");
    }

    #[test]
    fn what_leads_into_the_namespaces_is_left_out_of_messages() {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            "1",
            "--mount",
            "--",
            "setpriv",
            "--pdeathsig",
            "KILL",
        ]);
        command.args(["kubectl", "get", "pods"]);
        assert_eq!(describe(&command), "kubectl get pods");
    }
}

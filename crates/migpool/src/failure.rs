//! What the command line says when something went wrong, and the exit code that goes with it.

use std::fmt::Write as _;
use std::process::ExitCode;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};

/// A command that did not do what was asked.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum Failure {
    /// The command was misused: exit code 2.
    #[error("{message}")]
    Usage {
        /// What was wrong and what is allowed.
        message: String,
        /// What to do next.
        #[help]
        help: Option<String>,
    },
    /// The command was understood and failed: exit code 1.
    #[error("{message}")]
    Failed {
        /// What failed, and why.
        message: String,
        /// What to do next.
        #[help]
        help: Option<String>,
    },
    /// The command has said everything itself; only the exit code is left.
    #[error("exit code {0}")]
    Silent(u8),
    /// clap's own report of a misuse, or the help text that was asked for.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
}

impl Failure {
    /// A misuse, without a hint.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage {
            message: message.into(),
            help: None,
        }
    }

    /// A failure, without a hint.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            help: None,
        }
    }

    /// A failure with its whole chain of causes in one sentence.
    pub(crate) fn from_error(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::failed(chain(error))
    }

    /// As [`Self::from_error`], in the shape that `map_err` wants.
    pub(crate) fn of(error: impl std::error::Error + 'static) -> Self {
        Self::from_error(&error)
    }

    /// The same failure with a word on what to do next.
    #[must_use]
    pub(crate) fn with_help(self, next: impl Into<String>) -> Self {
        let help = Some(next.into());
        match self {
            Self::Usage { message, .. } => Self::Usage { message, help },
            Self::Failed { message, .. } => Self::Failed { message, help },
            other => other,
        }
    }

    /// Prints the failure to standard error and gives its exit code.
    pub(crate) fn report(self) -> ExitCode {
        let code = match &self {
            Self::Usage { .. } => 2,
            Self::Failed { .. } => 1,
            Self::Silent(code) => return ExitCode::from(*code),
            Self::Arguments(error) => {
                // clap prints help to standard output and misuse to standard error, each with its exit code.
                let _ = error.print();
                return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
            }
        };
        let mut text = String::new();
        let theme = if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_links(false)
            .with_width(110);
        if handler.render_report(&mut text, &self).is_err() {
            text = format!("error: {self}\n");
        }
        let text = text.trim_start_matches('\n');
        // Where standard error is a log on a full disk, the exit code has to do: no panic, which would change it.
        let _ = std::io::Write::write_all(&mut anstream::stderr(), text.as_bytes());
        ExitCode::from(code)
    }
}

/// An error and its causes, `a: b: c`, leaving out a cause that its parent's message already ends with.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::from_error(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the state")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn the_chain_names_every_cause_once() {
        let error = Outer(std::io::Error::other("disk on fire"));
        assert_eq!(chain(&error), "cannot read the state: disk on fire");
    }
}

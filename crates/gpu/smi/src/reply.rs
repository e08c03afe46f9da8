//! What a command says.

use std::fmt::Write;

use crate::selection::Selection;

/// What to print and how to exit.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// For standard output.
    pub(crate) text: String,
    /// The exit code; 0 while all went well.
    pub(crate) code: u8,
    /// For standard error: what nvidia-smi would not tell.
    pub(crate) detail: Option<String>,
}

impl Reply {
    /// One line, and this exit code.
    pub(crate) fn new(code: u8, line: &str) -> Self {
        Self {
            text: format!("{line}\n"),
            code,
            detail: None,
        }
    }

    /// One more line.
    pub(crate) fn line(&mut self, line: impl std::fmt::Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }

    /// The GPUs that did not answer, after everything else.
    pub(crate) fn add_failed(&mut self, selection: &Selection<'_>) {
        for failed in &selection.failed {
            self.line(format_args!(
                "Unable to determine the device handle for GPU {}: {}",
                failed.index, failed.reason
            ));
            self.code = crate::exit::OTHER;
        }
    }
}

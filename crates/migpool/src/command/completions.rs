//! `migpool completions`: what makes a shell complete migpool's words.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output::write_line;

/// Print the completions of a shell, e.g. `migpool completions bash > /etc/bash_completion.d/migpool`
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Prints them.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(
            self.shell,
            &mut Arguments::command(),
            "migpool",
            &mut script,
        );
        write_line(&String::from_utf8_lossy(&script))
    }
}

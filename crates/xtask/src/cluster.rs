//! `cargo xtask cluster`: a Kubernetes to play with, of nodes with simulated boards, on this machine.

use std::ffi::OsString;
use std::process::{Command, ExitStatus};

use clap::Args;

use crate::images::Images;
use crate::step::{Error, root};

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Cluster {
    /// up, down, kubectl ARGS, helm ARGS, shell NODE, logs; --help tells more
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ACTION"
    )]
    words: Vec<OsString>,
}

impl Cluster {
    /// Hands everything to the harness's own program, after making what a new cluster needs.
    pub(crate) fn run(&self) -> Result<(), Error> {
        let asks = |word: &str| self.words.iter().any(|other| other == word);
        if self.words.first().is_some_and(|word| word == "up")
            && !asks("--help")
            && !asks("--images")
        {
            Images::default().ensure()?;
        }
        let status = run_package("migpool-test-cluster", "cluster", &self.words)?;
        // What was run in the cluster has said itself what is wrong.
        if status.success() {
            Ok(())
        } else {
            std::process::exit(status.code().unwrap_or(1))
        }
    }
}

/// Builds a program of the workspace and runs it in the user's folder, on the user's terminal.
pub(crate) fn run_package(
    package: &str,
    program: &str,
    words: &[OsString],
) -> Result<ExitStatus, Error> {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--quiet", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .args(["--package", package, "--bin", program, "--"])
        .args(words)
        .status()
        .map_err(|source| Error::Start {
            command: format!("cargo run --package {package}"),
            source,
        })
}

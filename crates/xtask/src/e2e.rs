//! `cargo xtask e2e`: what migpool promises of a Kubernetes cluster, tried on a real one.

use std::ffi::OsString;

use clap::Args;

use crate::cluster::run_package;
use crate::images::Images;
use crate::step::Error;

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct EndToEnd {
    /// Suites, or parts of tests' names; all of them by default. --help tells more
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "SUITE"
    )]
    words: Vec<OsString>,
}

impl EndToEnd {
    /// Makes the images that the nodes get, and runs the suites: they start the cluster and stop it.
    pub(crate) fn run(&self) -> Result<(), Error> {
        let needs_none = ["--help", "--list", "--stop", "--without-cluster"];
        if !self
            .words
            .iter()
            .any(|word| needs_none.iter().any(|other| word == other))
        {
            Images::default().ensure()?;
        }
        let status = run_package("migpool-e2e", "e2e", &self.words)?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::Other("not every promise held".to_owned()))
        }
    }
}

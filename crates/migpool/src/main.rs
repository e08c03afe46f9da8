//! migpool: multi-instance GPU node pools for any Kubernetes.
//!
//! One program, a thin command line over the floors below it: `command` has one file per noun (`nodepool`, `node`,
//! `pod`, ...), each a client of the ARM API that `migpool up` serves (`client`) or, for the node components, a few
//! lines around the crate that does the work. `azure` is what real Azure clients need of this machine. `demo` runs the whole article. `output` prints tables, JSON and YAML;
//! `failure` turns what went wrong into a sentence, a next step and an exit code.
#![forbid(unsafe_code)]
#![allow(
    clippy::doc_markdown,
    reason = "the doc comments of arguments are help texts, where backticks would be seen"
)]

mod arguments;
mod azure;
mod chart_repository;
mod client;
mod command;
mod demo;
mod driver_root;
mod failure;
mod node_map;
mod output;
mod runtime;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if command::smi::is_called_as_nvidia_smi(&arguments) {
        return command::smi::run(arguments.get(1..).unwrap_or_default());
    }
    match arguments::parse(arguments).and_then(command::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

//! `migpool sim`: simulated driver roots, their boards and their faults.

mod create;
mod inject;
mod node;
mod program;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nvml_sim::DriverRoot;

use crate::failure::Failure;
use crate::output::{Format, print, write_line};

/// Simulated driver roots.
#[derive(Debug, Subcommand)]
pub(crate) enum Sim {
    /// Make a driver root with simulated GPUs; any NVML program that loads its library runs on them
    Create(create::Create),
    /// Show a simulated driver root: its boards, instances, faults
    Show(Show),
    /// Make something go wrong, or stop it
    Inject(inject::Inject),
    /// Reboot the simulated node: instances gone, Hopper's MIG mode gone, Ampere's pending mode now current
    Reboot(Root),
    /// Give a Kubernetes node simulated GPUs, and keep them there until interrupted
    Node(Box<node::Node>),
}

/// A driver root by its folder.
#[derive(Debug, Args)]
pub(crate) struct Root {
    /// The driver root's folder
    root: PathBuf,
}

/// `sim show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  migpool sim show /tmp/root\n  \
    migpool sim show /tmp/root -o json | jq -r '.gpus[].gpuInstances[].computeInstances[].uuid'")]
pub(crate) struct Show {
    #[command(flatten)]
    root: Root,
    /// The format of what is printed; table is a text for people
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

impl Sim {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(),
            Self::Show(show) => {
                let found = show.root.open()?.describe().map_err(Failure::of)?;
                print(show.output, &found, ToString::to_string)
            }
            Self::Inject(inject) => inject.run(),
            Self::Reboot(root) => {
                root.open()?.reboot().map_err(Failure::of)?;
                write_line("the simulated node has rebooted")
            }
            Self::Node(node) => crate::runtime::block_on(node.run()),
        }
    }
}

impl Root {
    fn open(&self) -> Result<DriverRoot, Failure> {
        DriverRoot::open(&self.root).map_err(Failure::of)
    }
}

//! `migpool sim create`, and what makes a simulated machine.

use clap::Args;
use mig::Board;
use nvml_sim::{DriverRoot, Options};

use super::Root;
use super::program::{self, Placed};
use crate::failure::{Failure, chain};
use crate::output::write_line;

/// `sim create`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  migpool sim create /tmp/root --board A100-SXM4-40GB --count 8\n  \
    migpool sim create /tmp/mixed --board A100-40GB --count 4 --board H200-141GB --count 2\n\
    `migpool profiles --list` lists the boards."
)]
pub(crate) struct Create {
    #[command(flatten)]
    root: Root,
    #[command(flatten)]
    boards: Boards,
    /// Make the device files device nodes with the numbers of /dev/null, which containers can be given (CDI). Takes
    /// root's right to make them, here and for whoever creates slices later
    #[arg(long)]
    device_nodes: bool,
}

/// What a simulated machine is made of.
#[derive(Debug, Args)]
pub(super) struct Boards {
    /// A board: migpool's name, an alias, or NVML's product name; several make a mixed machine
    #[arg(long = "board", value_name = "BOARD", required = true)]
    names: Vec<String>,
    /// How many of each board, in the boards' order; 1 where it is left out
    #[arg(long = "count", value_name = "N")]
    counts: Vec<u32>,
    /// The machine is a guest that cannot reset its GPUs: Ampere's MIG mode changes with a reboot only
    #[arg(long)]
    pub(super) pass_through: bool,
}

impl Boards {
    /// The boards that are named, and how many of each.
    pub(super) fn find(&self) -> Result<Vec<(&'static Board, u32)>, Failure> {
        if self.counts.len() > self.names.len() {
            return Err(Failure::usage(format!(
                "there are {} counts for {} boards",
                self.counts.len(),
                self.names.len()
            ))
            .with_help("give each --board its --count, in the same order"));
        }
        let counts = self.counts.iter().copied().chain(std::iter::repeat(1));
        let find = |(name, count): (&String, u32)| match mig::board(name) {
            Ok(board) => Ok((board, count)),
            Err(error) => Err(Failure::usage(chain(&error))),
        };
        self.names.iter().zip(counts).map(find).collect()
    }
}

impl Create {
    pub(super) fn run(self) -> Result<(), Failure> {
        let boards = self.boards.find()?;
        let root = std::path::absolute(&self.root.root)?;
        let options = Options {
            pass_through: self.boards.pass_through,
            device_nodes: self.device_nodes,
            ..Options::default()
        };
        let made = DriverRoot::create_with(&root, &boards, &options).map_err(Failure::of)?;
        // A link leads nowhere in a container.
        let placed = if self.device_nodes {
            Placed::Copy
        } else {
            Placed::Link
        };
        program::install(&root, placed)?;
        let library = made.library_path();
        write_line(&format!(
            "{}NVML programs: LD_LIBRARY_PATH={}\nmigpool: NVIDIA_DRIVER_ROOT={}",
            made.describe().map_err(Failure::of)?,
            library.parent().unwrap_or(&library).display(),
            root.display()
        ))
    }
}

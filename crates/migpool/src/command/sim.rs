//! `migpool sim`: simulated driver roots, their boards and their faults.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use nvml_sim::{DriverRoot, Options};
use nvml_sim::{Fault, Moment, Return};

use crate::command::smi::NVIDIA_SMI;
use crate::failure::{Failure, chain};
use crate::output::write_line;

/// Simulated driver roots.
#[derive(Debug, Subcommand)]
pub(crate) enum Sim {
    /// Make a driver root with simulated GPUs; any NVML program that loads its library runs on them
    Create(Create),
    /// Show a simulated driver root: its boards, instances, faults
    Show(Root),
    /// Make something go wrong, or stop it
    Inject(Inject),
    /// Reboot the simulated node: instances gone, Hopper's MIG mode gone, Ampere's pending mode now current
    Reboot(Root),
}

/// A driver root by its folder.
#[derive(Debug, Args)]
pub(crate) struct Root {
    /// The driver root's folder
    root: PathBuf,
}

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
    /// A board: migpool's name, an alias, or NVML's product name; several make a mixed machine
    #[arg(long = "board", value_name = "BOARD", required = true)]
    boards: Vec<String>,
    /// How many of each board, in the boards' order; 1 where it is left out
    #[arg(long = "count", value_name = "N")]
    counts: Vec<u32>,
    /// The machine is a guest that cannot reset its GPUs: Ampere's MIG mode changes with a reboot only
    #[arg(long)]
    pass_through: bool,
}

/// `sim inject`.
#[derive(Debug, Args)]
pub(crate) struct Inject {
    #[command(flatten)]
    root: Root,
    /// What goes wrong
    #[command(subcommand)]
    what: What,
}

/// Where on a GPU.
#[derive(Debug, Args)]
struct Where {
    /// The GPU, by minor number
    #[arg(long)]
    gpu: u32,
    /// The GPU instance
    #[arg(long)]
    gpu_instance: Option<u32>,
    /// The compute instance
    #[arg(long, requires = "gpu_instance")]
    compute_instance: Option<u32>,
}

/// What goes wrong.
#[derive(Debug, Subcommand)]
enum What {
    /// An XID error on a GPU or a slice
    Xid {
        #[command(flatten)]
        place: Where,
        /// The XID
        #[arg(long)]
        xid: u64,
    },
    /// The GPU falls off the bus
    Lost {
        /// The GPU, by minor number
        #[arg(long)]
        gpu: u32,
    },
    /// ECC errors
    Ecc {
        #[command(flatten)]
        place: Where,
        /// Uncorrected, double-bit errors instead of corrected ones
        #[arg(long)]
        double: bool,
        /// How many
        #[arg(long, default_value_t = 1)]
        count: u64,
    },
    /// An NVML call fails
    Fail {
        /// The call, as in nvml.h; `*` is every call
        #[arg(long)]
        call: String,
        /// How often
        #[arg(long, default_value_t = 1)]
        times: u32,
        /// NVML's code, e.g. `INSUFFICIENT_RESOURCES`
        #[arg(long)]
        code: Return,
    },
    /// An NVML call takes longer
    Delay {
        /// The call, as in nvml.h; `*` is every call
        #[arg(long)]
        call: String,
        /// By how much
        #[arg(long)]
        milliseconds: u32,
    },
    /// The process that makes an NVML call is killed at it
    Abort {
        /// The call, as in nvml.h; `*` is every call
        #[arg(long)]
        call: String,
        /// Which of them, from now on
        #[arg(long, default_value_t = 1)]
        nth: u32,
        /// Before or after the call has its effect
        #[arg(long, value_enum, default_value = "before")]
        moment: When,
    },
    /// All faults end
    Clear,
}

/// When a process is killed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum When {
    /// Before the call has its effect.
    Before,
    /// After it.
    After,
}

impl Sim {
    /// Runs it.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(),
            Self::Show(root) => {
                write_line(&root.open()?.describe().map_err(Failure::of)?.to_string())
            }
            Self::Inject(inject) => inject.run(),
            Self::Reboot(root) => {
                root.open()?.reboot().map_err(Failure::of)?;
                write_line("the simulated node has rebooted")
            }
        }
    }
}

impl Root {
    fn open(&self) -> Result<DriverRoot, Failure> {
        DriverRoot::open(&self.root).map_err(Failure::of)
    }
}

impl Create {
    fn run(&self) -> Result<(), Failure> {
        if self.counts.len() > self.boards.len() {
            return Err(Failure::usage(format!(
                "there are {} counts for {} boards",
                self.counts.len(),
                self.boards.len()
            ))
            .with_help("give each --board its --count, in the same order"));
        }
        let counts = self.counts.iter().copied().chain(std::iter::repeat(1));
        let mut boards = Vec::new();
        for (name, count) in self.boards.iter().zip(counts) {
            let board = mig::board(name).map_err(|error| Failure::usage(chain(&error)))?;
            boards.push((board, count));
        }
        let root = std::path::absolute(&self.root.root)?;
        let options = Options {
            pass_through: self.pass_through,
            ..Options::default()
        };
        let made = DriverRoot::create_with(&root, &boards, &options).map_err(Failure::of)?;
        install_nvidia_smi(&root)?;
        let library = made.library_path();
        write_line(&format!(
            "{}\nNVML programs: LD_LIBRARY_PATH={}\nmigpool: NVIDIA_DRIVER_ROOT={}",
            made.describe().map_err(Failure::of)?.to_string().trim_end(),
            library.parent().unwrap_or(&library).display(),
            root.display()
        ))
    }
}

/// Puts migpool into the root as its nvidia-smi.
fn install_nvidia_smi(root: &Path) -> Result<(), Failure> {
    let program = std::env::current_exe()?;
    let folder = root.join("usr/bin");
    std::fs::create_dir_all(&folder)?;
    let link = folder.join(NVIDIA_SMI);
    match std::os::unix::fs::symlink(&program, &link) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(Failure::failed(
            format!("cannot make {}: {error}", link.display()),
        )),
        _ => Ok(()),
    }
}

impl Inject {
    fn run(&self) -> Result<(), Failure> {
        let root = self.root.open()?;
        match self.what.fault() {
            None => {
                root.clear_faults().map_err(Failure::of)?;
                write_line("no faults any more")
            }
            Some(fault) => {
                root.inject(fault).map_err(Failure::of)?;
                write_line("injected; `migpool sim inject ROOT clear` ends it")
            }
        }
    }
}

impl What {
    fn fault(&self) -> Option<Fault> {
        Some(match self {
            Self::Xid { place, xid } => Fault::Xid {
                gpu: place.gpu,
                xid: *xid,
                gpu_instance: place.gpu_instance,
                compute_instance: place.compute_instance,
            },
            Self::Lost { gpu } => Fault::GpuLost { gpu: *gpu },
            Self::Ecc {
                place,
                double,
                count,
            } => Fault::Ecc {
                gpu: place.gpu,
                double: *double,
                count: *count,
                gpu_instance: place.gpu_instance,
                compute_instance: place.compute_instance,
            },
            Self::Fail { call, times, code } => Fault::CallFails {
                call: call.clone(),
                times: *times,
                code: *code,
            },
            Self::Delay { call, milliseconds } => Fault::Delay {
                call: call.clone(),
                milliseconds: *milliseconds,
            },
            Self::Abort { call, nth, moment } => Fault::Abort {
                call: call.clone(),
                nth: *nth,
                moment: match moment {
                    When::Before => Moment::Before,
                    When::After => Moment::After,
                },
            },
            Self::Clear => return None,
        })
    }
}

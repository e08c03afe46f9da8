//! `migpool sim inject`: what goes wrong, and where.

use std::fmt;

use clap::{Args, Subcommand, ValueEnum};
use nvml_sim::driver::Device;
use nvml_sim::root::Description;
use nvml_sim::{DriverRoot, Fault, Moment, Return};

use super::Root;
use crate::failure::Failure;
use crate::output::write_line;

/// `sim inject`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  migpool sim inject ROOT xid --xid 94 --gpu 0 --gi 7 --ci 0    an XID on one slice, by its numbers
  migpool sim inject ROOT xid --xid 94 --uuid MIG-0a1b...       the same, by its UUID
  migpool sim inject ROOT lost --gpu 3                          GPU 3 falls off the bus
  migpool sim inject ROOT clear                                 lost GPUs are back, calls work again
An XID and an ECC error are things that happen: whoever watches the GPU is told, and there is nothing to clear.
Who counts the slice as faulty decides when it is well again (migpool: after 30 s without another, and for an XID that
needs a reset once the GPU was reset).
On a cluster: kubectl exec -n NAMESPACE POD -- migpool sim inject ROOT ...   in the pod of the node's simulation")]
pub(crate) struct Inject {
    #[command(flatten)]
    root: Root,
    /// What goes wrong
    #[command(subcommand)]
    what: What,
}

/// Which GPU.
#[derive(Debug, Args)]
struct Gpu {
    /// The GPU, by minor number
    #[arg(long, value_name = "N", required_unless_present = "uuid")]
    gpu: Option<u32>,
    /// The GPU or slice, by UUID (`migpool sim show ROOT` lists them)
    #[arg(long, value_name = "UUID", conflicts_with = "gpu")]
    uuid: Option<String>,
}

/// Where on a GPU.
#[derive(Debug, Args)]
struct Where {
    #[command(flatten)]
    gpu: Gpu,
    /// The GPU instance
    #[arg(
        long,
        visible_alias = "gi",
        value_name = "N",
        requires = "gpu",
        conflicts_with = "uuid"
    )]
    gpu_instance: Option<u32>,
    /// The compute instance
    #[arg(
        long,
        visible_alias = "ci",
        value_name = "N",
        requires = "gpu_instance"
    )]
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
    /// The GPU falls off the bus (XID 79): every call on it fails, until `clear` or a reboot
    Lost {
        #[command(flatten)]
        gpu: Gpu,
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
    /// All faults end: lost GPUs are back, volatile ECC counts are zero, no call fails any more
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

/// A place that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    gpu: u32,
    gpu_instance: Option<u32>,
    compute_instance: Option<u32>,
}

impl Inject {
    pub(super) fn run(self) -> Result<(), Failure> {
        let root = self.root.open()?;
        let Some((fault, what)) = self.what.fault(&root)? else {
            root.clear_faults().map_err(Failure::of)?;
            return write_line("no faults any more");
        };
        let ends = match fault {
            Fault::Xid { .. } | Fault::Ecc { .. } => "",
            _ => "; `migpool sim inject ROOT clear` ends it",
        };
        root.inject(fault).map_err(Failure::of)?;
        write_line(&format!("injected: {what}{ends}"))
    }
}

impl What {
    /// The fault, and what it is in words; nothing when all faults are to end.
    fn fault(self, root: &DriverRoot) -> Result<Option<(Fault, String)>, Failure> {
        Ok(Some(match self {
            Self::Xid { place, xid } => {
                let at = place.find(root)?;
                let fault = Fault::Xid {
                    gpu: at.gpu,
                    xid,
                    gpu_instance: at.gpu_instance,
                    compute_instance: at.compute_instance,
                };
                (fault, format!("XID {xid} on {at}"))
            }
            Self::Lost { gpu } => {
                let gpu = gpu.find(root)?.gpu;
                (Fault::GpuLost { gpu }, format!("GPU {gpu} is lost"))
            }
            Self::Ecc {
                place,
                double,
                count,
            } => {
                let at = place.find(root)?;
                let fault = Fault::Ecc {
                    gpu: at.gpu,
                    double,
                    count,
                    gpu_instance: at.gpu_instance,
                    compute_instance: at.compute_instance,
                };
                let kind = if double { "double-bit" } else { "single-bit" };
                (fault, format!("{count} {kind} ECC error(s) on {at}"))
            }
            Self::Fail { call, times, code } => {
                let what = format!("the next {times} of {call} fail with {code}");
                (Fault::CallFails { call, times, code }, what)
            }
            Self::Delay { call, milliseconds } => {
                let what = format!("{call} takes {milliseconds} ms longer");
                (Fault::Delay { call, milliseconds }, what)
            }
            Self::Abort { call, nth, moment } => {
                let (moment, word) = match moment {
                    When::Before => (Moment::Before, "before"),
                    When::After => (Moment::After, "after"),
                };
                let what = format!("who makes call {nth} of {call} is killed {word} its effect");
                (Fault::Abort { call, nth, moment }, what)
            }
            Self::Clear => return Ok(None),
        }))
    }
}

impl Gpu {
    fn find(&self, root: &DriverRoot) -> Result<Place, Failure> {
        let device = match (&self.uuid, self.gpu) {
            (Some(uuid), _) => root.device(uuid).map_err(|error| {
                Failure::from_error(&error).with_help(format!(
                    "`migpool sim show {}` lists the UUIDs; none is {uuid}",
                    root.path().display()
                ))
            })?,
            (None, gpu) => Device::Gpu(gpu.unwrap_or_default()),
        };
        Ok(match device {
            Device::Gpu(gpu) => Place {
                gpu,
                gpu_instance: None,
                compute_instance: None,
            },
            Device::Mig(instance) => Place {
                gpu: instance.gpu_instance.gpu,
                gpu_instance: Some(instance.gpu_instance.id),
                compute_instance: Some(instance.id),
            },
        })
    }
}

impl Where {
    fn find(&self, root: &DriverRoot) -> Result<Place, Failure> {
        let mut place = self.gpu.find(root)?;
        if self.gpu.uuid.is_none() {
            place.gpu_instance = self.gpu_instance;
            place.compute_instance = self.compute_instance;
        }
        let machine = root.describe().map_err(Failure::of)?;
        if exists(&machine, place) {
            return Ok(place);
        }
        Err(Failure::usage(format!("there is no {place}"))
            .with_help(format!("what there is:\n{machine}")))
    }
}

fn exists(machine: &Description, place: Place) -> bool {
    let Some(gpu) = machine.gpus.iter().find(|gpu| gpu.minor == place.gpu) else {
        return false;
    };
    let Some(id) = place.gpu_instance else {
        return true;
    };
    let Some(gi) = gpu.gpu_instances.iter().find(|gi| gi.id == id) else {
        return false;
    };
    place
        .compute_instance
        .is_none_or(|id| gi.compute_instances.iter().any(|ci| ci.id == id))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ci) = self.compute_instance {
            write!(f, "compute instance {ci} of ")?;
        }
        if let Some(gi) = self.gpu_instance {
            write!(f, "GPU instance {gi} of ")?;
        }
        write!(f, "GPU {}", self.gpu)
    }
}

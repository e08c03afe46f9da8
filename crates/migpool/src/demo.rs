//! `migpool demo`: the article's steps, one after the other, on a state folder of its own.
//!
//! Each step is a command of this program, run as a person would run it, against a real `migpool up`; what the
//! article promises of it is then checked against what the control plane says. The GPUs are simulated.

mod control_plane;
mod interrupt;
mod script;
mod steps;

use std::time::Instant;

use clap::{Args, ValueEnum};
use mig::{GpuInstanceProfile, MigStrategy};

use crate::failure::{Failure, chain};
use control_plane::ControlPlane;
use script::Script;

/// Run the whole article on this machine, on simulated GPUs, checking every promise; then clean up.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// GPU instance profile of the pool [possible values: MIG1g, MIG2g, MIG3g, MIG4g, MIG7g]
    #[arg(long, value_name = "PROFILE", default_value = "MIG1g")]
    gpu_instance_profile: GpuInstanceProfile,
    /// How the slices are advertised
    #[arg(long, value_enum, default_value = "single")]
    mig_strategy: Strategy,
    /// VM size of the pool's nodes
    #[arg(
        short = 's',
        long,
        value_name = "SIZE",
        default_value = "Standard_ND96asr_v4"
    )]
    node_vm_size: String,
    /// Do not clean up: keep the node pool and the state folder, and say where it is
    #[arg(long)]
    keep: bool,
}

/// The article's two strategies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Strategy {
    /// Every slice is `nvidia.com/gpu`.
    Single,
    /// A slice is called by its profile, `nvidia.com/mig-1g.5gb`.
    Mixed,
}

impl Strategy {
    fn as_mig(self) -> MigStrategy {
        match self {
            Self::Single => MigStrategy::Single,
            Self::Mixed => MigStrategy::Mixed,
        }
    }
}

/// What the article's pool comes to on the chosen VM size.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    /// GPUs of a node.
    pub(crate) gpus: u32,
    /// The GPU's product name.
    pub(crate) product: String,
    /// The profile that the GPU instance profile stands for on this board.
    pub(crate) profile: mig::Profile,
    /// MIG devices of a node.
    pub(crate) slices: u64,
    /// What a pod asks for.
    pub(crate) resource: String,
}

impl Demo {
    /// Runs the article; fails when any promise does not hold.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let expected = self.expected()?;
        let began = Instant::now();
        let mut script = Script::new();
        script::introduce(&expected);
        interrupt::watch()?;
        let mut control_plane = ControlPlane::start(self.keep)?;
        let outcome = steps::run(self, &expected, &mut script, &mut control_plane);
        if outcome.is_ok() {
            script.conclude(began.elapsed());
        }
        let print_log = (outcome.is_err() && !interrupt::came()) || script.broken() > 0;
        control_plane.stop(print_log)?;
        outcome?;
        if script.broken() == 0 {
            Ok(())
        } else {
            Err(Failure::Silent(1))
        }
    }

    fn expected(&self) -> Result<Expected, Failure> {
        let usage = |error: &(dyn std::error::Error + 'static)| Failure::usage(chain(error));
        let size = pool::VmSize::find(&self.node_vm_size).map_err(|error| usage(&error))?;
        let (board, gpus) = size.mig_board().map_err(|error| usage(&error))?;
        let profile = self
            .gpu_instance_profile
            .resolve(board)
            .map_err(|error| usage(&error))?;
        let strategy = self.mig_strategy.as_mig();
        let resource = strategy
            .resource_name(mig::MigProfile::whole(profile))
            .ok_or_else(|| Failure::usage(format!("strategy {strategy} has no slices")))?;
        Ok(Expected {
            gpus,
            product: board.product_name.clone(),
            profile,
            slices: u64::from(gpus) * u64::from(board.max_fit(profile)),
            resource: resource.to_string(),
        })
    }
}

/// The exit code of a command as a number, for messages.
fn code_of(status: std::process::ExitStatus) -> String {
    status
        .code()
        .map_or_else(|| status.to_string(), |code| format!("exit code {code}"))
}

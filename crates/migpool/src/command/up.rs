//! `migpool up`: the control plane on this machine.

use clap::Args;
use local::UpConfig;
use tokio::sync::watch;

use crate::arguments::StateDir;
use crate::failure::Failure;
use crate::output::write_line;
use crate::runtime::{cancelled_by_signals, start_log};

/// Run the control plane on this machine: the ARM API on a Unix socket, node pools, local nodes and their pods.
///
/// It runs until it is interrupted. Pools, nodes, running pods and who holds which slice are kept, whatever ends it.
#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    state: StateDir,
    /// Use this machine's own GPUs, instead of simulated ones, for nodes of a GPU VM size
    #[arg(long)]
    real_gpus: bool,
}

impl Up {
    /// Runs until interrupted.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        start_log();
        let state_dir = self.state.path()?;
        let agent_program = std::env::current_exe().map_err(|error| {
            Failure::failed(format!("cannot find migpool's own program: {error}"))
        })?;
        let cancel = cancelled_by_signals()?;
        let (ready, mut is_ready) = watch::channel(false);
        let config = UpConfig {
            state_dir: state_dir.clone(),
            real_gpus: self.real_gpus,
            agent_program,
            ready: Some(ready),
        };
        let gpus = if self.real_gpus {
            "this machine's own GPUs"
        } else {
            "simulated GPUs"
        };
        let announce = async {
            if is_ready.wait_for(|ready| *ready).await.is_ok() {
                let line = format!(
                    "migpool is up on {}: {gpus}, no Kubernetes. Try `migpool group create` in another terminal.",
                    state_dir.display()
                );
                let _ = write_line(&line);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            outcome = local::up(config, cancel) => outcome.map_err(Failure::of),
            () = announce => Ok(()),
        }
    }
}

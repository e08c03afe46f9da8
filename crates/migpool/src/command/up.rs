//! `migpool up`: the control plane on this machine.

pub(crate) mod azure;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use local::UpConfig;
use tokio::sync::{oneshot, watch};

use crate::arguments::StateDir;
use crate::azure::AzureFolder;
use crate::chart_repository::ChartRepository;
use crate::command::up::azure::AzureOptions;
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
    /// Serve this folder of charts to `helm repo add`, read only; `cargo xtask charts` makes one in target/charts
    #[arg(long, value_name = "DIR")]
    chart_repository: Option<PathBuf>,
    /// Where the charts are served: an address of this machine's own
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8879",
        requires = "chart_repository"
    )]
    chart_address: SocketAddr,
    #[command(flatten)]
    azure: AzureOptions,
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
        let charts = match &self.chart_repository {
            Some(folder) => Some(
                ChartRepository::open(folder, self.chart_address)
                    .await
                    .map_err(Failure::of)?,
            ),
            None => None,
        };
        let front = self.azure.open().await.map_err(Failure::of)?;
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
        let charts_at = charts.as_ref().map(ChartRepository::url);
        let front_at = front.as_ref().map(|front| front.url().to_owned());
        let (front_ready, front_is_ready) = oneshot::channel();
        let announce = async {
            let socket = is_ready.wait_for(|ready| *ready).await.is_ok();
            if socket && (front_at.is_none() || front_is_ready.await.is_ok()) {
                let line = format!(
                    "migpool is up on {}: {gpus}, no Kubernetes. Try `migpool group create` in another terminal.",
                    state_dir.display()
                );
                let _ = write_line(&line);
                if let Some(url) = charts_at {
                    let _ = write_line(&format!("Charts: helm repo add nvdp {url}"));
                }
                if let Some(url) = front_at {
                    let _ = write_line(&format!(
                        "Azure's clients: {url}. For az, curl and the SDKs in another terminal: eval \"$(migpool azure env)\""
                    ));
                }
            }
            std::future::pending::<()>().await;
        };
        let serve_charts = async {
            match charts {
                Some(charts) => charts.serve(cancel.clone()).await,
                None => Ok(()),
            }
        };
        let serve_charts = async {
            match serve_charts.await {
                // `up` ends by itself when it is cancelled, as they do.
                Ok(()) => std::future::pending().await,
                Err(error) => Failure::failed(format!("charts are not served any more: {error}")),
            }
        };
        let folder = AzureFolder::of(&state_dir);
        let up = local::up_beside(config, cancel.clone(), |backend, cancel| async move {
            // An `up` that was killed has left it behind.
            folder.withdraw()?;
            let Some(front) = front else {
                cancel.cancelled().await;
                return Ok(());
            };
            front.serve(&folder, backend, front_ready, cancel).await
        });
        tokio::select! {
            outcome = up => outcome.map_err(Failure::of),
            failure = serve_charts => Err(failure),
            () = announce => Ok(()),
        }
    }
}

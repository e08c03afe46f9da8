//! `migpool sim node`: simulated GPUs for a Kubernetes node, as its driver would be there.

mod health;
mod labels;
mod machine;
mod mount;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use nvml_sim::{Machine, Options};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::health::Readiness;
use self::labels::NodeLabels;
use self::machine::NodeMachine;
use super::create::Boards;
use crate::failure::{Failure, chain};
use crate::runtime::{cancelled_by_signals, start_log};

/// How often what should be there is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// `sim node`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  migpool sim node --board A100-SXM4-40GB --count 8
  migpool sim node --board A100-40GB --count 4 --board H200-141GB --count 2 --label-node

What it does, and does again after each restart:
  1. makes the driver root with these boards, where there is none, with device nodes (/dev/null's numbers) and this
     program as its nvidia-smi; where there is one with other boards it says so and waits, unless --replace is given;
  2. boots the simulated node, if the machine has booted since (its slices are gone then, as on a real one);
  3. bind-mounts the root where NVIDIA's driver containers have theirs, so that everything finds it there;
  4. with --label-node labels the node: migpool.dev/simulated-driver=true, migpool.dev/simulated-gpus=8-A100-SXM4-40GB,
     nvidia.com/gpu.present=true;
  5. sees that it stays so until SIGTERM or SIGINT. Then all stays as it is, for the pods that use it; with
     --remove-at-end the mount, the labels and the root go.
What is wrong is logged, told by /readyz, and tried again: it does not exit for anything that can be put right.

In a pod it has to be privileged, since it mounts and makes device nodes, with two hostPath volumes (DirectoryOrCreate),
either under the node's own paths or, with --host-root /host, below /host:
  --root's folder or its parent, e.g. /var/lib/migpool;
  --mount's parent, e.g. /run/nvidia, with mountPropagation: Bidirectional,
and with NODE_NAME from spec.nodeName. Labels take a ClusterRole with get and patch on nodes. Faults are injected there,
at the root as the pod sees it (chart nvml-sim: below /host):
  kubectl exec POD -- migpool sim inject /host/var/lib/migpool/nvml-sim lost --gpu 0")]
pub(crate) struct Node {
    #[command(flatten)]
    boards: Boards,
    /// The driver root's folder on the node
    #[arg(long, value_name = "DIR", default_value = "/var/lib/migpool/nvml-sim")]
    root: PathBuf,
    /// Where on the node the driver root is bind-mounted; nowhere if empty
    #[arg(long, value_name = "DIR", default_value = "/run/nvidia/driver")]
    mount: PathBuf,
    /// Where the node's folders are seen from here
    #[arg(
        long,
        value_name = "DIR",
        env = "MIGPOOL_HOST_ROOT",
        default_value = "/"
    )]
    host_root: PathBuf,
    /// Make the root anew where it has other boards. Its slices are gone, and programs that hold the driver open go on
    /// seeing the old boards until they end: the simulation cannot know who they are
    #[arg(long)]
    replace: bool,
    /// Label the node, so that everybody can see that its GPUs are simulated, and charts choose it
    #[arg(long = "label-node")]
    labelled: bool,
    /// The node's name; needed to label it
    #[arg(long = "node-name", value_name = "NAME", env = "NODE_NAME")]
    name: Option<String>,
    /// The cluster's kubeconfig; a pod needs none
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Answer /healthz and /readyz on this address; nothing listens without it
    #[arg(long, value_name = "ADDRESS:PORT", env = "MIGPOOL_LISTEN")]
    listen: Option<SocketAddr>,
    /// When interrupted, unmount and remove the root, and take the labels back; not where another machine was refused
    #[arg(long)]
    remove_at_end: bool,
}

impl Node {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let boards = self.boards.find()?;
        let options = Options {
            pass_through: self.boards.pass_through,
            device_nodes: true,
            ..Options::default()
        };
        let here = |path: &Path| -> Result<PathBuf, Failure> {
            let path = std::path::absolute(path)?;
            let below = path.strip_prefix("/").unwrap_or(&path);
            Ok(self.host_root.join(below))
        };
        let mount = Some(&self.mount).filter(|mount| !mount.as_os_str().is_empty());
        let machine = NodeMachine {
            root: here(&self.root)?,
            mount: mount.map(|mount| here(mount)).transpose()?,
            wanted: Machine::of(&boards, &options),
            boards,
            options,
            replace: self.replace,
            refreshed: Cell::default(),
            foreign: Cell::default(),
            held: RefCell::default(),
        };
        machine.check()?;
        start_log();
        let cancel = cancelled_by_signals()?;
        let labels = if self.labelled {
            let node = self.name.filter(|name| !name.is_empty());
            let node = node.ok_or_else(|| {
                Failure::usage("--label-node needs the node's name")
                    .with_help("set NODE_NAME to the pod's spec.nodeName, or give --node-name")
            })?;
            Some(NodeLabels::new(node, self.kubeconfig))
        } else {
            None
        };
        let (readiness, watched) = watch::channel(Readiness::new(labels.is_some()));
        if let Some(address) = self.listen {
            health::serve(address, watched, cancel.clone()).await?;
        }
        tracing::warn!(
            "every GPU here is SIMULATED, nothing is hardware: {} in {}",
            machine.wanted,
            machine.root.display()
        );
        let labelling = async {
            match &labels {
                Some(labels) => labels.keep(&readiness, &cancel).await,
                None => cancel.cancelled().await,
            }
        };
        tokio::join!(keep(&machine, &readiness, &cancel), labelling);
        if self.remove_at_end && machine.foreign.get() {
            tracing::warn!(
                "{} is left as it is, and so are the labels: it was never this one's",
                machine.root.display()
            );
        } else if self.remove_at_end {
            if let Some(labels) = &labels {
                labels.remove().await;
            }
            machine.remove()?;
            tracing::info!("the simulated GPUs are removed");
        }
        Ok(())
    }
}

/// Brings the machine about, and sees that it stays, until `cancel`.
async fn keep(
    machine: &NodeMachine,
    readiness: &watch::Sender<Readiness>,
    cancel: &CancellationToken,
) {
    let mut last = None;
    while !cancel.is_cancelled() {
        let found = machine.converge().map_err(|error| chain(&error));
        if last.as_ref() != Some(&found) {
            match &found {
                Ok(gpus) => tracing::info!("ready, with simulated GPUs: {}", gpus.text()),
                Err(reason) => tracing::error!("{reason}; trying again"),
            }
        }
        readiness.send_if_modified(|readiness| readiness.set_driver(found.clone()));
        last = Some(found);
        let _ = tokio::time::timeout(LOOK, cancel.cancelled()).await;
    }
}

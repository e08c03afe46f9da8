//! One node: its folder, its driver root, its device manager and its agent.
//!
//! A node of a GPU size gets a simulated driver root, or this machine's own GPUs where the control
//! plane was told so; a node without GPU gets an empty one, on which the agent idles. All of it is
//! made again, or found again, at every start.

pub mod agent_process;
mod observed;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use atomic_write_file::AtomicWriteFile;
use jiff::Timestamp;
use mig::NodeLayout;
use pool::{Condition, NodeName, NodeSpec, VmSize};
use rustix::fs::FlockOperation;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::kubelet::ledger::Assignment;
use crate::kubelet::{DeviceManager, DeviceManagerConfig};
use crate::store::NodeRow;
use agent_process::{AgentCommand, AgentStatus};

pub(crate) use observed::labels;
pub use observed::{machine, observe};

/// What all nodes of this machine have in common.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// The folder of the nodes.
    pub nodes: PathBuf,
    /// Nodes of GPU sizes use this machine's own GPUs.
    pub real_gpus: bool,
    /// The program that is run as the agent.
    pub agent_program: PathBuf,
}

/// The files of one node.
#[derive(Debug, Clone)]
pub struct NodeFolder(PathBuf);

impl NodeFolder {
    /// The folder of a node.
    #[must_use]
    pub fn of(nodes: &Path, name: &NodeName) -> Self {
        Self(nodes.join(name.as_str()))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its driver root, where its GPUs are simulated.
    #[must_use]
    pub fn driver_root(&self) -> PathBuf {
        self.0.join("root")
    }

    fn kubelet(&self) -> PathBuf {
        self.0.join("kubelet")
    }

    // In the folder of the plugins' sockets it would be taken for one of theirs.
    fn pod_resources_socket(&self) -> PathBuf {
        self.0.join("kubelet").join("pod-resources.sock")
    }

    fn agent_state(&self) -> PathBuf {
        self.0.join("agent")
    }

    fn reports(&self) -> PathBuf {
        self.0.join("reports")
    }

    fn layout_file(&self) -> PathBuf {
        self.0.join("layout")
    }

    /// Tells the agent which layout is wanted; it follows the file.
    ///
    /// # Errors
    /// The file can't be written, and says what it said before.
    pub fn write_layout(&self, layout: Option<&NodeLayout>) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        let mut file = AtomicWriteFile::open(self.layout_file())?;
        let layout = layout.map(ToString::to_string).unwrap_or_default();
        file.write_all(layout.as_bytes())?;
        file.commit()
    }
}

/// How a node is at the moment.
#[derive(Debug, Clone, Default)]
pub struct NodeState {
    /// Its device manager, once there is one.
    pub manager: Option<DeviceManager>,
    /// Why it could not be made; it is tried again.
    pub failure: Option<String>,
    /// What its agent last said.
    pub agent: Option<AgentStatus>,
    /// What is wrong with the agent's process.
    pub agent_trouble: Option<String>,
    /// The labels that its agent found.
    pub labels: BTreeMap<String, String>,
    /// Kubernetes' conditions, with the times of their last change.
    pub conditions: Vec<Condition>,
}

impl NodeState {
    /// Whether the node takes work.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.failure.is_none() && self.agent.as_ref().is_some_and(|agent| agent.ready)
    }
}

/// A node that is kept.
#[derive(Debug)]
pub struct Node {
    /// The node as it is stored.
    pub row: NodeRow,
    /// Pods that gave their devices back before there was a device manager to tell.
    pub(crate) unreleased: Vec<String>,
    state: watch::Receiver<Arc<NodeState>>,
    stop: CancellationToken,
    /// Its keeper; taken by whoever waits for its end.
    task: Option<JoinHandle<()>>,
}

impl Node {
    /// Makes or finds the node and keeps it until [`Node::stop`]. `changed` is called whenever
    /// anything about it has changed.
    #[must_use]
    pub fn start(
        settings: NodeSettings,
        row: NodeRow,
        assignments: Vec<Assignment>,
        changed: impl Fn() + Clone + Send + Sync + 'static,
    ) -> Self {
        let (publish, state) = watch::channel(Arc::new(NodeState::default()));
        let stop = CancellationToken::new();
        let keeper = Keeper {
            folder: NodeFolder::of(&settings.nodes, &row.spec.name),
            spec: row.spec.clone(),
            settings,
            publish,
            changed: Arc::new(changed),
            stop: stop.clone(),
        };
        let task = tokio::spawn(keeper.keep(assignments));
        Self {
            row,
            unreleased: Vec::new(),
            state,
            stop,
            task: Some(task),
        }
    }

    /// How it is now.
    #[must_use]
    pub fn state(&self) -> Arc<NodeState> {
        self.state.borrow().clone()
    }

    /// Ends the agent and the device manager, which is done when what it gives is; the folder stays.
    pub fn stop(&mut self) -> impl Future<Output = ()> + Send + 'static {
        self.stop.cancel();
        let (task, name) = (self.task.take(), self.row.spec.name.clone());
        async move {
            if let Some(task) = task
                && let Err(error) = task.await
            {
                tracing::error!(node = %name, %error, "the node's keeper broke");
            }
        }
    }

    /// Whether it was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.task.is_none()
    }
}

struct Keeper {
    folder: NodeFolder,
    spec: NodeSpec,
    settings: NodeSettings,
    publish: watch::Sender<Arc<NodeState>>,
    changed: Arc<dyn Fn() + Send + Sync>,
    stop: CancellationToken,
}

impl Keeper {
    async fn keep(self, assignments: Vec<Assignment>) {
        let mut pause = Duration::from_secs(1);
        let _gpus = loop {
            let making = Making {
                folder: self.folder.clone(),
                spec: self.spec.clone(),
                settings: self.settings.clone(),
            };
            let made = tokio::task::spawn_blocking(move || making.make()).await;
            let made = made.unwrap_or_else(|error| Err(error.to_string()));
            match made.and_then(|gpus| self.start_manager(&assignments).map(|()| gpus)) {
                Ok(gpus) => break gpus,
                Err(reason) => {
                    tracing::warn!(node = %self.spec.name, reason, "node could not be made");
                    self.update(|state| state.failure = Some(reason));
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_mins(1)),
            }
        };
        tokio::join!(self.pass_on_devices(), self.run_agent());
        // The manager's sockets go with the node's last word.
        self.update(|state| state.manager = None);
    }

    fn start_manager(&self, assignments: &[Assignment]) -> Result<(), String> {
        let manager = DeviceManager::start_with(DeviceManagerConfig {
            dir: self.folder.kubelet(),
            pod_resources_socket: Some(self.folder.pod_resources_socket()),
            assignments: assignments.to_vec(),
        })
        .map_err(|error| error.to_string())?;
        self.update(|state| {
            state.failure = None;
            state.manager = Some(manager);
        });
        Ok(())
    }

    async fn pass_on_devices(&self) {
        let Some(mut view) = self
            .publish
            .borrow()
            .manager
            .as_ref()
            .map(DeviceManager::view)
        else {
            return;
        };
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                next = view.changed() => match next {
                    Ok(()) => (self.changed)(),
                    Err(_) => return,
                },
            }
        }
    }

    async fn run_agent(&self) {
        let command = AgentCommand {
            program: self.settings.agent_program.clone(),
            node: self.spec.name.clone(),
            folder: self.folder.path().to_owned(),
            driver_root: self.driver_root(),
            kubelet_dir: self.folder.kubelet(),
            pod_resources_socket: self.folder.pod_resources_socket(),
            reports: self.folder.reports(),
            state_dir: self.folder.agent_state(),
            layout_file: has_gpus(&self.spec).then(|| self.folder.layout_file()),
            mig_strategy: self.spec.mig_strategy,
        };
        agent_process::supervise(&command, &self.stop, |report| {
            self.update(|state| {
                state.agent = report.status;
                state.labels = report.labels;
                state.agent_trouble = report.trouble;
            });
        })
        .await;
    }

    fn driver_root(&self) -> PathBuf {
        if self.settings.real_gpus && has_gpus(&self.spec) {
            return PathBuf::from("/");
        }
        self.folder.driver_root()
    }

    fn update(&self, change: impl FnOnce(&mut NodeState)) {
        self.publish.send_modify(|state| {
            let mut next = NodeState::clone(state);
            change(&mut next);
            next.conditions = observed::conditions(&next, &state.conditions, Timestamp::now());
            *state = Arc::new(next);
        });
        (self.changed)();
    }
}

fn has_gpus(spec: &NodeSpec) -> bool {
    VmSize::find(&spec.vm_size).is_ok_and(|size| size.gpus.is_some())
}

/// The part of a node's making that blocks.
struct Making {
    folder: NodeFolder,
    spec: NodeSpec,
    settings: NodeSettings,
}

impl Making {
    /// Makes what is missing. The file is this machine's GPUs, where the node uses them: nobody else
    /// has them while it is open.
    fn make(&self) -> Result<Option<File>, String> {
        let size = VmSize::find(&self.spec.vm_size).map_err(|error| error.to_string())?;
        for folder in [
            self.folder.kubelet(),
            self.folder.reports(),
            self.folder.agent_state(),
        ] {
            fs::create_dir_all(&folder)
                .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        }
        self.folder
            .write_layout(self.spec.layout.as_ref())
            .map_err(|error| format!("cannot write the wanted layout: {error}"))?;
        if size.gpus.is_none() {
            let root = self.folder.driver_root();
            fs::create_dir_all(&root)
                .map_err(|error| format!("cannot make {}: {error}", root.display()))?;
            return Ok(None);
        }
        if self.settings.real_gpus {
            return self.take_gpus().map(Some);
        }
        let (board, count) = size.mig_board().map_err(|_| {
            format!(
                "local nodes simulate boards with MIG alone, and VM size {} has none: choose another size",
                size.name
            )
        })?;
        self.make_root(board, count).map(|()| None)
    }

    fn make_root(&self, board: &mig::Board, count: u32) -> Result<(), String> {
        let root = self.folder.driver_root();
        if root.exists() {
            return Ok(());
        }
        // Made beside and renamed: a root that is there is complete.
        let beside = self.folder.path().join("root.new");
        let failed = |error: &dyn std::fmt::Display| {
            format!(
                "cannot make the simulated driver root {}: {error}",
                root.display()
            )
        };
        match fs::remove_dir_all(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&error)),
            _ => {}
        }
        nvml_sim::DriverRoot::create(&beside, &[(board, count)]).map_err(|error| failed(&error))?;
        fs::rename(&beside, &root).map_err(|error| failed(&error))
    }

    fn take_gpus(&self) -> Result<File, String> {
        let path = self.settings.nodes.join("real-gpus");
        let failed = |error: io::Error| format!("cannot take this machine's GPUs: {error}");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let file = file.map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(
                "this machine's GPUs are another node's already: with --real-gpus one node of a GPU size is all there can be"
                    .to_owned(),
            ),
            Err(errno) => Err(failed(errno.into())),
        }
    }
}

//! A node's agent: a child process that partitions the GPUs and advertises them, started again when
//! it ends. It holds the reading end of a pipe and ends when the other end is closed, so the agents
//! of a control plane that was killed do not outlive it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use mig::MigStrategy;
use notify::{RecursiveMode, Watcher};
use pool::NodeName;
use serde::Deserialize;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const STATUS_FILE: &str = "status.json";
const LABELS_FILE: &str = "labels";

/// How long an agent may take to end.
const LAST_WORD: Duration = Duration::from_secs(5);

/// How often the reports are looked at where they cannot be watched.
const LOOK: Duration = Duration::from_secs(1);

/// The agent's command line, as data.
#[derive(Debug, Clone)]
pub struct AgentCommand {
    /// The program.
    pub program: PathBuf,
    /// The node.
    pub node: NodeName,
    /// The node's folder: the agent's log is kept there.
    pub folder: PathBuf,
    /// Where the driver lies.
    pub driver_root: PathBuf,
    /// The folder of device plugins.
    pub kubelet_dir: PathBuf,
    /// Where the node's pod resources API answers.
    pub pod_resources_socket: PathBuf,
    /// The folder for the agent's status and labels, which is watched.
    pub reports: PathBuf,
    /// Where the agent keeps what it must not forget.
    pub state_dir: PathBuf,
    /// The file that has the layout; MIG is left alone when `None`.
    pub layout_file: Option<PathBuf>,
    /// How slices are advertised.
    pub mig_strategy: MigStrategy,
}

impl AgentCommand {
    fn arguments(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["agent".into()];
        let mut option = |name: &str, value: OsString| words.extend([name.into(), value]);
        option("--driver-root", self.driver_root.clone().into());
        option("--kubelet-dir", self.kubelet_dir.clone().into());
        option("--node-name", self.node.as_str().into());
        if let Some(file) = &self.layout_file {
            option("--layout-file", file.clone().into());
        }
        option("--mig-strategy", self.mig_strategy.to_string().into());
        option("--device-list-strategy", "envvar".into());
        option("--labels-file", self.reports.join(LABELS_FILE).into());
        option("--state-dir", self.state_dir.clone().into());
        option(
            "--pod-resources-socket",
            self.pod_resources_socket.clone().into(),
        );
        option("--status-file", self.reports.join(STATUS_FILE).into());
        words.extend(["--pass-device-specs".into(), "--lifeline".into()]);
        words
    }

    fn spawn(&self) -> io::Result<Child> {
        // What an earlier agent said is not so any more.
        match fs::remove_file(self.reports.join(STATUS_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let path = self.folder.join("agent.log");
        let log = OpenOptions::new().create(true).append(true).open(path)?;
        Command::new(&self.program)
            .args(self.arguments())
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A signal from the terminal is for the control plane, which then ends its agents.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// What is known of an agent.
#[derive(Debug, Clone, Default)]
pub struct AgentReport {
    /// What it last said.
    pub status: Option<AgentStatus>,
    /// The labels that it found.
    pub labels: BTreeMap<String, String>,
    /// What is wrong with its process.
    pub trouble: Option<String>,
}

/// Runs the agent, again and again, until `stop`; `report` is called with every change.
pub async fn supervise(
    command: &AgentCommand,
    stop: &CancellationToken,
    report: impl Fn(AgentReport),
) {
    let (sender, mut touches) = mpsc::unbounded_channel();
    let watching = watch_folder(&command.reports, sender);
    if let Err(error) = &watching {
        let folder = command.reports.display();
        tracing::warn!(%error, "{folder} cannot be watched and is looked at every second: raise fs.inotify.max_user_instances");
    }
    let mut trouble = watching.as_ref().err().map(ToString::to_string);
    let mut failures = 0_u32;
    while !stop.is_cancelled() {
        let started = Instant::now();
        match command.spawn() {
            Ok(mut child) => {
                // Held apart from the child: waiting for a child closes the input that it holds.
                let lifeline = child.stdin.take();
                loop {
                    let mut now = read(&command.reports);
                    now.trouble.clone_from(&trouble);
                    report(now);
                    tokio::select! {
                        () = stop.cancelled() => return end(child, lifeline).await,
                        exit = child.wait() => {
                            let how = exit.map_or_else(|error| error.to_string(), |e| e.to_string());
                            let log = command.folder.join("agent.log");
                            trouble = Some(format!("the agent ended ({how}); see {}", log.display()));
                            break;
                        }
                        // Without a watch it is looked at now and then.
                        () = tokio::time::sleep(LOOK), if watching.is_err() => {}
                        Some(()) = touches.recv() => {
                            while touches.try_recv().is_ok() {}
                            // It speaks, so it runs.
                            trouble = watching.as_ref().err().map(ToString::to_string); }
                    }
                }
            }
            Err(error) => {
                trouble = Some(format!(
                    "cannot start {}: {error}",
                    command.program.display()
                ));
            }
        }
        tracing::warn!(node = %command.node, trouble, "agent is not running");
        report(AgentReport {
            trouble: trouble.clone(),
            ..AgentReport::default()
        });
        if started.elapsed() > Duration::from_mins(1) {
            failures = 0;
        }
        let pause = Duration::from_millis(200).saturating_mul(1 << failures.min(8));
        failures += 1;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause.min(Duration::from_secs(30))) => {}
        }
    }
}

async fn end(mut child: Child, lifeline: Option<ChildStdin>) {
    drop(lifeline);
    if tokio::time::timeout(LAST_WORD, child.wait()).await.is_err()
        && let Err(error) = child.kill().await
    {
        tracing::warn!(%error, "an agent could not be killed");
    }
}

/// Tells of every change in a folder for as long as the returned watcher lives.
pub(crate) fn watch_folder(
    folder: &Path,
    touched: mpsc::UnboundedSender<()>,
) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading a file is an event too, and answering it by reading would never end.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            let _ = touched.send(());
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

fn read(reports: &Path) -> AgentReport {
    let status = match fs::read(reports.join(STATUS_FILE)) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .inspect_err(|error| tracing::warn!(%error, "an agent's status cannot be read"))
            .ok(),
        Err(_) => None,
    };
    let labels = fs::read_to_string(reports.join(LABELS_FILE)).unwrap_or_default();
    let pairs = labels.lines().filter_map(|line| line.split_once('='));
    let labels = pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    AgentReport {
        status,
        labels,
        trouble: None,
    }
}

/// An agent's status file, as far as it is needed here. The control floor does not link the node
/// floor, so the file's form is the contract.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AgentStatus {
    /// One word: `starting`, `idle`, `partitioning`, `ready` or `degraded`.
    pub phase: String,
    /// Whether the node is what it was asked to be.
    pub ready: bool,
    /// One sentence.
    #[serde(default)]
    pub message: String,
    /// How it stands with the layout.
    pub partition: Option<Partition>,
    /// The GPUs.
    pub inventory: Option<Inventory>,
}

impl AgentStatus {
    /// It does not speak of the layout that is wanted now. An agent that says nothing of layouts is taken at its word.
    #[must_use]
    pub fn is_behind(&self, wanted: Option<&str>) -> bool {
        let spoken = self.partition.as_ref().map(|it| it.layout.as_str());
        spoken.is_some_and(|layout| layout != wanted.unwrap_or_default())
    }
}

/// How it stands with the layout.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Partition {
    /// The GPUs were brought to it.
    pub done: bool,
    /// Why not, or how they differ by now.
    pub message: Option<String>,
    /// The layout that this is about; empty when none is wanted.
    #[serde(default)]
    pub layout: String,
}

/// The GPUs of a node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Inventory {
    /// The driver's version.
    pub driver_version: String,
    /// The GPUs that answer.
    pub gpus: Vec<Gpu>,
    /// The GPUs that are there and can't be read.
    #[serde(default)]
    pub failed: Vec<FailedGpu>,
}

/// A GPU that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FailedGpu {
    /// NVML's index.
    pub index: u32,
    /// `GPU-...`, where it was known before.
    pub uuid: Option<String>,
    /// Why, and what to do.
    pub reason: String,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Gpu {
    /// NVML's index.
    pub index: u32,
    /// `GPU-...`.
    pub uuid: String,
    /// The product.
    pub name: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// MIG mode, where the board has MIG.
    pub mig: Option<MigMode>,
    /// The board's own figures.
    pub board: Board,
    /// GPU instances.
    pub instances: Vec<GpuInstance>,
}

/// MIG mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct MigMode {
    /// On now.
    pub current: bool,
}

/// The figures that placements count in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Board {
    /// Memory units.
    pub memory_units: u8,
    /// Compute slices.
    pub compute_slices: u8,
}

/// A GPU instance.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GpuInstance {
    /// Its id.
    pub id: u32,
    /// Where it lies, in memory units.
    pub placement: mig::Placement,
    /// Its compute instances.
    pub compute_instances: Vec<ComputeInstance>,
}

/// A compute instance.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ComputeInstance {
    /// Its id.
    pub id: u32,
    /// Its MIG device.
    pub device: Option<MigDevice>,
}

/// A MIG device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MigDevice {
    /// `MIG-...`.
    pub uuid: String,
    /// What it is called.
    pub profile: String,
    /// Memory in MiB.
    pub memory_mib: u64,
}

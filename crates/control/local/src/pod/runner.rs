//! Keeps the containers of one pod that has a node: makes its folder, starts and adopts shims, and
//! ends them. One task per pod does all of it, one thing after the other.

mod ending;
mod sandbox;

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use kubelet_api::device_plugin::v1beta1::ContainerAllocateResponse;
use tokio::process::Command;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::kubelet::ledger::Assignment;
use crate::kubelet::{AdmissionError, DeviceManager};
use crate::pod::container::{ContainerFolder, ContainerState, ContainerStatus, Terminated};
use crate::pod::manifest::Container;
use crate::pod::shim::{CONTAINER_MARK, ShimArgs};
use crate::store::PodRow;
use ending::kill_marked;

/// How long to wait before something that did not work is tried again: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What all pods of this machine have in common.
#[derive(Debug, Clone)]
pub struct PodSettings {
    /// The folder of the pods.
    pub pods: PathBuf,
    /// The folder into which shims write.
    pub status: PathBuf,
    /// The program that is run as shim, and as `nvidia-smi` in pods.
    pub program: PathBuf,
    /// Says the name of a file in the status folder that has changed.
    pub touched: broadcast::Sender<String>,
}

/// The GPUs that a pod's view is cut from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// A node's simulated driver root.
    Simulated(PathBuf),
    /// This machine's own driver.
    Machine,
    /// None.
    None,
}

/// What a pod's task tells the engine.
#[derive(Debug)]
pub enum PodEvent {
    /// The containers are so now, in the manifest's order.
    Statuses(Vec<Option<ContainerStatus>>),
    /// It waits for something; empty when it does not any more.
    Waiting(String),
    /// A shim has died; the container's next one is of this generation. The task waits until it is
    /// written down.
    NextGeneration {
        /// The container's place in the manifest.
        container: usize,
        /// The generation.
        generation: u64,
        /// Answered once it is written down.
        written: tokio::sync::oneshot::Sender<()>,
    },
    /// It could not be started, for good. Nothing of it runs.
    Failed(String),
    /// Its containers have ended for good. Nothing of it runs.
    Ended(Vec<Option<ContainerStatus>>),
    /// It was stopped, and nothing of it is left.
    Gone,
}

/// One pod and all that its task needs.
#[derive(Debug)]
pub struct PodTask<R> {
    /// The pod.
    pub row: PodRow,
    /// What it holds.
    pub assignments: Vec<Assignment>,
    /// The device manager of its node; not needed by a pod that is only to be ended.
    pub manager: Option<DeviceManager>,
    /// The GPUs of its node.
    pub driver: Driver,
    /// What all pods have in common.
    pub settings: PodSettings,
    /// Cancelled when the pod is to end.
    pub stop: CancellationToken,
    /// Tells the engine.
    pub report: R,
}

/// Where the pod's things are.
impl<R> PodTask<R> {
    fn containers(&self) -> &[Container] {
        &self.row.manifest.spec.containers
    }

    fn folder(&self) -> PathBuf {
        self.settings.pods.join(&self.row.uid)
    }

    fn container_folder(&self, container: &Container) -> ContainerFolder {
        ContainerFolder::new(self.folder().join("containers").join(&container.name))
    }

    fn status_file(&self, container: &Container) -> PathBuf {
        self.settings
            .status
            .join(format!("{}.{}.json", self.row.uid, container.name))
    }

    fn mark(&self, container: &Container) -> String {
        format!("{}/{}", self.row.uid, container.name)
    }
}

impl<R: Fn(PodEvent) + Sync> PodTask<R> {
    /// Keeps the pod until it has ended or was stopped.
    pub async fn run(self) {
        let finished = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            finished = self.live() => Some(finished),
        };
        if let Some(Err(reason)) = &finished {
            tracing::warn!(pod = %self.row.name, reason, "pod could not be started");
        }
        if let Some(finished) = finished {
            self.sweep().await;
            match finished {
                Ok(finals) => (self.report)(PodEvent::Ended(finals)),
                Err(reason) => (self.report)(PodEvent::Failed(reason)),
            }
            // Its logs and its end can be looked at until it is deleted.
            self.stop.cancelled().await;
        }
        self.end().await;
        (self.report)(PodEvent::Gone);
    }

    /// Until all containers have ended for good. Dropped at any await it leaves things as a killed
    /// control plane does, so stopping is as safe as that.
    async fn live(&self) -> Result<Vec<Option<ContainerStatus>>, String> {
        if !self.is_made().await {
            let responses = self.allocate().await?;
            self.make_at_last(&responses).await;
        }
        let mut touched = self.settings.touched.subscribe();
        let mut running: FuturesUnordered<_> = (0..self.containers().len())
            .map(|index| self.keep_container(index))
            .collect();
        let mut finals = vec![None; self.containers().len()];
        loop {
            (self.report)(PodEvent::Statuses(self.statuses()));
            tokio::select! {
                next = running.next() => match next {
                    Some((index, status)) => {
                        if let Some(last) = finals.get_mut(index) {
                            *last = Some(status);
                        }
                    }
                    None => return Ok(finals),
                },
                () = self.own_touch(&mut touched) => {}
            }
        }
    }

    async fn own_touch(&self, touched: &mut broadcast::Receiver<String>) {
        loop {
            match touched.recv().await {
                // An empty name is anybody's.
                Ok(name) if name.is_empty() || name.starts_with(&self.row.uid) => return,
                Ok(_) => {}
                // Something was missed, which may have been ours.
                Err(broadcast::error::RecvError::Lagged(_)) => return,
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    fn statuses(&self) -> Vec<Option<ContainerStatus>> {
        let read = |container: &Container| {
            ContainerStatus::read(&self.status_file(container)).unwrap_or_else(|error| {
                tracing::warn!(%error, "a container's status cannot be read");
                None
            })
        };
        self.containers().iter().map(read).collect()
    }

    async fn is_made(&self) -> bool {
        // The specs are written in the manifest's order, so the last one says that all are there.
        let Some(last) = self.containers().last() else {
            return false;
        };
        loop {
            match self.container_folder(last).read_spec() {
                Ok(spec) => return spec.is_some(),
                // The power was cut while it was written.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return false,
                // Its containers may well run: no reason to end them.
                Err(error) => {
                    let folder = self.folder();
                    let reason = format!("cannot read {}: {error}", folder.display());
                    (self.report)(PodEvent::Waiting(format!("{reason}; it is tried again")));
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Makes the pod's folder as soon as that is possible: a disk that is full today need not be so
    /// tomorrow.
    async fn make_at_last(&self, responses: &[(usize, ContainerAllocateResponse)]) {
        let mut pause = FIRST_PAUSE;
        while let Err(error) = self.make(responses) {
            let folder = self.folder();
            let reason = format!("cannot make the pod's folder {}: {error}", folder.display());
            (self.report)(PodEvent::Waiting(format!("{reason}; it is tried again")));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        (self.report)(PodEvent::Waiting(String::new()));
    }

    async fn allocate(&self) -> Result<Vec<(usize, ContainerAllocateResponse)>, String> {
        let mut responses = Vec::new();
        for assignment in &self.assignments {
            let response = self.allocate_one(assignment).await?;
            let holder = &assignment.holder.container;
            if let Some(index) = self.containers().iter().position(|c| c.name == *holder) {
                responses.push((index, response));
            }
        }
        (self.report)(PodEvent::Waiting(String::new()));
        Ok(responses)
    }

    async fn allocate_one(
        &self,
        assignment: &Assignment,
    ) -> Result<ContainerAllocateResponse, String> {
        let Some(manager) = &self.manager else {
            return Err("its node has no device manager".to_owned());
        };
        let mut view = manager.view();
        loop {
            view.mark_unchanged();
            match manager.allocate(assignment).await {
                Ok(response) => return Ok(response),
                // Only a plugin that is not there is waited for; a refusal is final, as the kubelet's.
                Err(
                    error @ (AdmissionError::NoPlugin { .. }
                    | AdmissionError::Plugin { gone: true, .. }),
                ) => {
                    (self.report)(PodEvent::Waiting(format!("{error}; it is waited for")));
                    let _ = tokio::time::timeout(Duration::from_secs(1), view.changed()).await;
                }
                Err(error) => return Err(format!("UnexpectedAdmissionError: {error}")),
            }
        }
    }

    /// Runs or adopts the shims of one container until it has ended for good.
    async fn keep_container(&self, index: usize) -> (usize, ContainerStatus) {
        let mut generation = self.row.generations.get(index).copied().unwrap_or(1);
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            match self.keep_shim(index, generation).await {
                Ok(Kept::Finished(status)) => return (index, status),
                Ok(Kept::Died) => generation = self.next_generation(index, generation + 1).await,
                Ok(Kept::NotStarted(reason)) => (self.report)(PodEvent::Waiting(reason)),
                Err(error) => (self.report)(PodEvent::Waiting(error.to_string())),
            }
            // What went well for long is no part of a row of failures.
            if began.elapsed() > 2 * LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits until the generation is written down: it must not be used before.
    async fn next_generation(&self, container: usize, generation: u64) -> u64 {
        loop {
            let (written, done) = tokio::sync::oneshot::channel();
            (self.report)(PodEvent::NextGeneration {
                container,
                generation,
                written,
            });
            if done.await.is_ok() {
                return generation;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn keep_shim(&self, index: usize, generation: u64) -> io::Result<Kept> {
        let Some(container) = self.containers().get(index) else {
            return Err(io::Error::other("the pod has no such container"));
        };
        let folder = self.container_folder(container);
        if !folder.is_claimed(generation) {
            let args = ShimArgs {
                folder: folder.path().to_owned(),
                generation,
                exec: false,
            };
            let mut child = Command::new(&self.settings.program)
                .args(args.command_line())
                .env(CONTAINER_MARK, self.mark(container))
                .current_dir("/")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            // It ends when its container has, or at once when it could not claim the generation.
            let exit = child.wait().await?;
            if !folder.is_claimed(generation) {
                let program = self.settings.program.display();
                let reason = format!(
                    "the shim of container {} ended at once: {program} pod-shim: {exit}; see that the disk of {} has room",
                    container.name,
                    folder.path().display()
                );
                return Ok(Kept::NotStarted(reason));
            }
        }
        if let Some(shim) = folder.claimed_by(generation)?
            && let Some(handle) = shim.open()?
        {
            handle.ended().await?;
        }
        let status = match ContainerStatus::read(&self.status_file(container)) {
            // The power was cut while it was written, which ended the container as well.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            status => status?,
        };
        if let Some(status) = status
            .clone()
            .filter(|s| s.finished && s.generation == generation)
        {
            return Ok(Kept::Finished(status));
        }
        // The shim was killed. What it left behind must be gone before anything else is started.
        kill_marked(&self.mark(container)).await?;
        if self.row.manifest.spec.restart_policy.restarts(137) {
            return Ok(Kept::Died);
        }
        Ok(Kept::Finished(killed(status, generation)))
    }
}

enum Kept {
    Finished(ContainerStatus),
    Died,
    NotStarted(String),
}

fn killed(status: Option<ContainerStatus>, generation: u64) -> ContainerStatus {
    let mut status = status.unwrap_or_else(|| ContainerStatus::new(generation));
    let started_at = match &status.state {
        ContainerState::Running { started_at, .. } => *started_at,
        _ => Timestamp::now(),
    };
    status.generation = generation;
    status.finished = true;
    status.state = ContainerState::Terminated(Terminated {
        exit_code: 137,
        signal: Some(9),
        reason: "Error".to_owned(),
        message: "its shim was killed, and the container with it".to_owned(),
        started_at,
        finished_at: Timestamp::now(),
    });
    status
}

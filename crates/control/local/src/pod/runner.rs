//! Keeps the containers of one pod that has a node: makes its folder, starts and adopts shims, and
//! ends them. One task per pod does all of it, one thing after the other.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use kubelet_api::device_plugin::v1beta1::ContainerAllocateResponse;
use rustix::process::Signal;
use tokio::process::Command;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::kubelet::ledger::Assignment;
use crate::kubelet::{AdmissionError, DeviceManager};
use crate::pod::container::{
    Claim, ContainerFolder, ContainerSpec, ContainerState, ContainerStatus, Terminated,
};
use crate::pod::manifest::Container;
use crate::pod::shim::{CONTAINER_MARK, ShimArgs};
use crate::process::{self, ProcessId};
use crate::store::PodRow;

/// Beyond its grace period, how long a shim may take to end its container.
const SHIM_GRACE: Duration = Duration::from_secs(10);

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
        if !self.is_made()? {
            let responses = self.allocate().await?;
            self.make(&responses)
                .map_err(|error| format!("cannot make the pod's folder: {error}"))?;
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
                Ok(name) if name.starts_with(&self.row.uid) => return,
                Ok(_) => {}
                // Something was missed, which may have been ours.
                Err(broadcast::error::RecvError::Lagged(_)) => return,
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }

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

    fn statuses(&self) -> Vec<Option<ContainerStatus>> {
        let read = |container: &Container| {
            ContainerStatus::read(&self.status_file(container)).unwrap_or_else(|error| {
                tracing::warn!(%error, "a container's status cannot be read");
                None
            })
        };
        self.containers().iter().map(read).collect()
    }

    fn is_made(&self) -> Result<bool, String> {
        // The specs are written in the manifest's order, so the last one says that all are there.
        let Some(last) = self.containers().last() else {
            return Ok(false);
        };
        let spec = self.container_folder(last).read_spec();
        spec.map(|spec| spec.is_some())
            .map_err(|error| format!("cannot read the pod: {error}"))
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

    fn make(&self, responses: &[(usize, ContainerAllocateResponse)]) -> io::Result<()> {
        let logs = self.folder().join("logs");
        let work = self.folder().join("work");
        fs::create_dir_all(&logs)?;
        fs::create_dir_all(&work)?;
        for (index, container) in self.containers().iter().enumerate() {
            let own: Vec<&ContainerAllocateResponse> = responses
                .iter()
                .filter(|(at, _)| *at == index)
                .map(|(_, r)| r)
                .collect();
            let folder = self.container_folder(container);
            fs::create_dir_all(folder.path())?;
            let given = self.environment(&folder, container, &own, &work)?;
            let (command, environment) = container.expanded(&given);
            let working_dir = container
                .working_dir
                .as_ref()
                .map_or(work.clone(), PathBuf::from);
            folder.write_spec(&ContainerSpec {
                name: container.name.clone(),
                mark: self.mark(container),
                command,
                environment,
                working_dir,
                restart_policy: self.row.manifest.spec.restart_policy,
                grace_seconds: self.row.manifest.spec.termination_grace_period_seconds,
                log_file: logs.join(format!("{}.log", container.name)),
                status_file: self.status_file(container),
            })?;
        }
        Ok(())
    }

    /// What a container is given, before its own `env`.
    fn environment(
        &self,
        folder: &ContainerFolder,
        container: &Container,
        responses: &[&ContainerAllocateResponse],
        work: &Path,
    ) -> io::Result<BTreeMap<String, String>> {
        let mut given: BTreeMap<String, String> = BTreeMap::new();
        let path =
            std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
        let mut set = |name: &str, value: String| {
            given.entry(name.to_owned()).or_insert(value);
        };
        // The first of several answers wins, as with the kubelet.
        for (name, value) in responses.iter().flat_map(|response| &response.envs) {
            set(name, value.clone());
        }
        set("HOME", text(work)?);
        set("HOSTNAME", self.row.name.to_string());
        if self.driver == Driver::Machine {
            // No smaller root to show it: CUDA itself is told which devices are the pod's.
            let held = self
                .assignments
                .iter()
                .filter(|a| a.holder.container == container.name);
            let devices: Vec<String> = held.flat_map(|a| a.devices.clone()).collect();
            set("CUDA_VISIBLE_DEVICES", devices.join(","));
            set("PATH", path);
        } else {
            let root = folder.path().join("root");
            let files = responses.iter().flat_map(|response| &response.devices);
            let mut files: Vec<PathBuf> = files
                .map(|device| PathBuf::from(&device.container_path))
                .collect();
            files.sort();
            files.dedup();
            self.make_root(&root, &files)?;
            let library = root.join("usr/lib/x86_64-linux-gnu");
            set("NVIDIA_DRIVER_ROOT", text(&root)?);
            set("PATH", format!("{}:{path}", text(&root.join("usr/bin"))?));
            let library = match std::env::var("LD_LIBRARY_PATH") {
                Ok(others) if !others.is_empty() => format!("{}:{others}", text(&library)?),
                _ => text(&library)?,
            };
            set("LD_LIBRARY_PATH", library);
        }
        given.insert(CONTAINER_MARK.to_owned(), self.mark(container));
        Ok(given)
    }

    /// The driver as the container sees it: the node's, with no other devices than its own.
    fn make_root(&self, root: &Path, files: &[PathBuf]) -> io::Result<()> {
        fs::create_dir_all(root.join("usr/bin"))?;
        if let Driver::Simulated(node_root) = &self.driver {
            let node = nvml_sim::DriverRoot::open(node_root).map_err(io::Error::other)?;
            node.pod_view(root, files).map_err(io::Error::other)?;
        }
        let smi = root.join("usr/bin/nvidia-smi");
        match std::os::unix::fs::symlink(&self.settings.program, smi) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Runs or adopts the shims of one container until it has ended for good.
    async fn keep_container(&self, index: usize) -> (usize, ContainerStatus) {
        let mut generation = self.row.generations.get(index).copied().unwrap_or(1);
        let mut pause = Duration::from_millis(100);
        loop {
            match self.keep_shim(index, generation).await {
                Ok(Kept::Finished(status)) => return (index, status),
                Ok(Kept::Died) => {
                    generation = self.next_generation(index, generation + 1).await;
                    continue;
                }
                Ok(Kept::NotStarted(reason)) => (self.report)(PodEvent::Waiting(reason)),
                Err(error) => (self.report)(PodEvent::Waiting(error.to_string())),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(30));
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
                    "the shim of container {} ended at once: {program} pod-shim: {exit}",
                    container.name
                );
                return Ok(Kept::NotStarted(reason));
            }
        }
        if let Some(shim) = folder.claimed_by(generation)?
            && let Some(handle) = shim.open()?
        {
            handle.ended().await?;
        }
        let status = ContainerStatus::read(&self.status_file(container))?;
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

    /// Nothing that bears the pod's mark is left when it returns.
    async fn sweep(&self) {
        for container in self.containers() {
            while let Err(error) = kill_marked(&self.mark(container)).await {
                // Devices are freed after this: better late than twice.
                tracing::error!(%error, pod = %self.row.name, "cannot look for a pod's processes");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    /// Ends every container and removes the pod's files.
    async fn end(&self) {
        let mut shims: FuturesUnordered<_> = self
            .containers()
            .iter()
            .map(|container| self.end_container(container))
            .collect();
        while shims.next().await.is_some() {}
        drop(shims);
        self.sweep().await;
        for container in self.containers() {
            remove(fs::remove_file(self.status_file(container)));
        }
        remove(fs::remove_dir_all(self.folder()));
    }

    async fn end_container(&self, container: &Container) {
        let folder = self.container_folder(container);
        let index = self
            .containers()
            .iter()
            .position(|c| c.name == container.name);
        let written = index
            .and_then(|index| self.row.generations.get(index))
            .copied()
            .unwrap_or(1);
        // A generation begins only after the one before it was claimed, so the first that can be
        // forbidden is the last there is.
        for generation in written.. {
            let Ok(Claim::Taken) = folder.forbid(generation) else {
                return;
            };
            if let Ok(Some(shim)) = folder.claimed_by(generation)
                && let Err(error) = self.end_shim(&shim).await
            {
                tracing::warn!(%error, pod = %self.row.name, "cannot end a shim");
            }
        }
    }

    async fn end_shim(&self, shim: &ProcessId) -> io::Result<()> {
        let Some(handle) = shim.open()? else {
            return Ok(());
        };
        handle.signal(Signal::TERM)?;
        let grace = self.row.manifest.spec.termination_grace_period_seconds;
        let patience = Duration::from_secs(grace).saturating_add(SHIM_GRACE);
        if tokio::time::timeout(patience, handle.ended())
            .await
            .is_err()
        {
            handle.signal(Signal::KILL)?;
            handle.ended().await?;
        }
        Ok(())
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

/// Kills the processes that bear a container's mark until there are none.
async fn kill_marked(mark: &str) -> io::Result<()> {
    loop {
        let found = process::with_environment(CONTAINER_MARK, mark)?;
        if found.is_empty() {
            return Ok(());
        }
        for process in found {
            if let Some(handle) = process.open()? {
                handle.signal(Signal::KILL)?;
                handle.ended().await?;
            }
        }
    }
}

fn remove(outcome: io::Result<()>) {
    if let Err(error) = outcome
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "a pod's files cannot be removed");
    }
}

fn text(path: &Path) -> io::Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| io::Error::other(format!("path {} is not UTF-8", path.display())))
}

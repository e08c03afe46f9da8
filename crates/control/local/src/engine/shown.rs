//! Pods as they are shown to people.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pool::{ClusterKey, ExecEnvironment, Invalid, PodName, PodPhase, WorkloadError};

use super::pods::has_ended;
use super::{Engine, Pod};
use crate::pod::container::{ContainerFolder, ContainerState, ContainerStatus};
use crate::pod::manifest::Container;

impl Engine {
    pub(super) fn find(&self, cluster: &ClusterKey, name: &PodName) -> Result<&Pod, WorkloadError> {
        let mut pods = self.pods.values();
        let found = pods.find(|pod| pod.row.cluster == *cluster && pod.row.name == *name);
        found.ok_or_else(|| WorkloadError::NotFound(name.clone()))
    }

    pub(super) fn list(&self, cluster: &ClusterKey) -> Vec<pool::Pod> {
        let own = self.pods.values().filter(|pod| pod.row.cluster == *cluster);
        let mut pods: Vec<pool::Pod> = own.map(|pod| self.show(pod)).collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        pods
    }

    // A method for the sake of its callers, who have the engine at hand.
    #[allow(clippy::unused_self)]
    pub(super) fn show(&self, pod: &Pod) -> pool::Pod {
        let row = &pod.row;
        let containers = row.manifest.spec.containers.iter().enumerate();
        pool::Pod {
            name: row.name.clone(),
            namespace: row.manifest.metadata.namespace.clone(),
            uid: row.uid.clone(),
            phase: phase(pod),
            message: message(pod),
            node: row.node.clone(),
            containers: containers
                .map(|(index, container)| show(pod, index, container))
                .collect(),
            created: row.created,
            notices: vec![notice(pod)],
        }
    }

    pub(super) fn log(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
        container: Option<&str>,
    ) -> Result<PathBuf, WorkloadError> {
        let pod = self.find(cluster, name)?;
        let container = pick(pod, container)?;
        let logs = self.settings.pods.pods.join(&pod.row.uid).join("logs");
        Ok(logs.join(format!("{}.log", container.name)))
    }

    pub(super) fn exec_environment(
        &self,
        cluster: &ClusterKey,
        name: &PodName,
        container: Option<&str>,
    ) -> Result<ExecEnvironment, WorkloadError> {
        let pod = self.find(cluster, name)?;
        let container = pick(pod, container)?;
        if phase(pod) != PodPhase::Running {
            let reason = message(pod);
            let reason = if reason.is_empty() {
                "wait until it runs".to_owned()
            } else {
                reason
            };
            return Err(WorkloadError::Conflict(format!(
                "pod {name} does not run: {reason}"
            )));
        }
        let folder = self
            .settings
            .pods
            .pods
            .join(&pod.row.uid)
            .join("containers");
        let folder = ContainerFolder::new(folder.join(&container.name));
        let spec = folder
            .read_spec()
            .map_err(|error| WorkloadError::Failed(error.to_string()))?;
        let spec = spec.ok_or_else(|| {
            WorkloadError::Conflict(format!("pod {name} is about to start: wait until it runs"))
        })?;
        Ok(ExecEnvironment {
            environment: spec.environment,
            working_directory: spec.working_dir.to_str().map(str::to_owned),
        })
    }
}

fn pick<'a>(pod: &'a Pod, name: Option<&str>) -> Result<&'a Container, WorkloadError> {
    let containers = &pod.row.manifest.spec.containers;
    let found = match name {
        Some(name) => containers.iter().find(|container| container.name == name),
        None => containers.first(),
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = containers.iter().map(|c| c.name.as_str()).collect();
        let wanted = name.unwrap_or_default();
        let message = format!(
            "Pod {} has no container {wanted}; it has {}.",
            pod.row.name,
            names.join(", ")
        );
        WorkloadError::Invalid(Invalid::parameter("container", message))
    })
}

pub(super) fn phase(pod: &Pod) -> PodPhase {
    let row = &pod.row;
    if row.deleting {
        return PodPhase::Terminating;
    }
    if row.failure.is_some() {
        return PodPhase::Failed;
    }
    if has_ended(row) {
        let good = row
            .finals
            .iter()
            .flatten()
            .all(|status| exit_code(status) == Some(0));
        return if good {
            PodPhase::Succeeded
        } else {
            PodPhase::Failed
        };
    }
    // Like the kubelet: a pod runs once all its containers have been started.
    let started = |status: &Option<ContainerStatus>| {
        status.as_ref().is_some_and(|status| {
            status.last.is_some() || !matches!(status.state, ContainerState::Waiting { .. })
        })
    };
    if row.node.is_some() && !pod.statuses.is_empty() && pod.statuses.iter().all(started) {
        PodPhase::Running
    } else {
        PodPhase::Pending
    }
}

fn message(pod: &Pod) -> String {
    if let Some(failure) = &pod.row.failure {
        return failure.clone();
    }
    if !pod.waiting.is_empty() {
        return pod.waiting.clone();
    }
    let names = pod
        .row
        .manifest
        .spec
        .containers
        .iter()
        .map(|container| &container.name);
    let said = names.zip(&pod.statuses).filter_map(|(name, status)| {
        let status = status.as_ref()?;
        match &status.state {
            ContainerState::Waiting { reason, message } if !message.is_empty() => {
                Some(format!("{reason}: {message}"))
            }
            ContainerState::Terminated(end) if !end.message.is_empty() => {
                Some(format!("{}: {}", end.reason, end.message))
            }
            ContainerState::Terminated(end) if end.exit_code != 0 => Some(format!(
                "{}: container {name} ended with {}",
                end.reason, end.exit_code
            )),
            _ => None,
        }
    });
    said.collect::<Vec<_>>().join("; ")
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    match &status.state {
        ContainerState::Terminated(end) => Some(end.exit_code),
        _ => None,
    }
}

fn show(pod: &Pod, index: usize, container: &Container) -> pool::workload::PodContainer {
    let status = pod.statuses.get(index).and_then(Option::as_ref);
    let pid = status.and_then(|status| match &status.state {
        ContainerState::Running { pid, .. } => u32::try_from(*pid).ok(),
        _ => None,
    });
    let mut devices: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // What an ended pod held is somebody else's by now.
    if !has_ended(&pod.row) {
        for held in pod
            .assignments
            .iter()
            .filter(|a| a.holder.container == container.name)
        {
            devices
                .entry(held.resource.clone())
                .or_default()
                .extend(held.devices.clone());
        }
    }
    pool::workload::PodContainer {
        name: container.name.clone(),
        image: container.image.clone(),
        pid,
        exit_code: status.and_then(exit_code),
        devices,
    }
}

fn notice(pod: &Pod) -> String {
    let images: Vec<&str> = pod
        .row
        .manifest
        .spec
        .containers
        .iter()
        .map(|container| container.image.as_str())
        .filter(|image| !image.is_empty())
        .collect();
    let images = if images.is_empty() {
        "no image is pulled".to_owned()
    } else {
        format!("image {} is not pulled", images.join(", "))
    };
    format!(
        "pod {}: {images}; its command runs as plain processes on this machine, with this machine's files",
        pod.row.name
    )
}

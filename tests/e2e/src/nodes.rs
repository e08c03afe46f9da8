//! What a node is like from outside Kubernetes: its kubelet's own word on who holds what, its files, its processes, and
//! its simulated driver.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use anyhow::{Context, bail};
use kubelet_api::device_plugin::v1beta1::DEVICE_PLUGIN_DIR;
use kubelet_api::pod_resources::v1::pod_resources_lister_client::PodResourcesListerClient;
use kubelet_api::pod_resources::v1::{
    AllocatableResourcesRequest, ListPodResourcesRequest, SOCKET,
};
use kubelet_api::uds;
use rustix::process::{Pid, Signal, kill_process};
use test_cluster::Service;

use crate::seen::{Seen, Slice};
use crate::world::World;

/// Where the simulated driver is mounted on a node, as NVIDIA's driver containers mount theirs.
pub(crate) const DRIVER_ROOT: &str = "/run/nvidia/driver";

/// Where the simulated driver is kept on a node.
pub(crate) const SIMULATED_ROOT: &str = "/var/lib/migpool/nvml-sim";

/// The folder of CDI specifications: `/var/run/cdi`, without the link to `/run`, that would lead to this machine's own.
pub(crate) const CDI_DIR: &str = "/run/cdi";

/// The folder in which node feature discovery looks for labels.
pub(crate) const FEATURES_DIR: &str = "/etc/kubernetes/node-feature-discovery/features.d";

/// Devices that a container holds, says the kubelet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    /// The pod's namespace.
    pub(crate) namespace: String,
    /// The pod's name.
    pub(crate) pod: String,
    /// The container's name.
    pub(crate) container: String,
    /// The resource.
    pub(crate) resource: String,
    /// The ids of the devices.
    pub(crate) devices: Vec<String>,
}

/// A node of the cluster.
#[derive(Clone, Copy)]
pub(crate) struct Node<'w> {
    world: &'w World,
    name: &'w str,
}

impl<'w> Node<'w> {
    /// The node of this name.
    pub(crate) fn new(world: &'w World, name: &'w str) -> Self {
        Self { world, name }
    }

    /// Its name.
    pub(crate) fn name(self) -> &'w str {
        self.name
    }

    /// A file of the node, as a path on this machine.
    ///
    /// # Errors
    /// The node is not there.
    pub(crate) fn path(self, path: &str) -> anyhow::Result<PathBuf> {
        let root = self.world.node_root(self.name)?;
        Ok(root.join(path.trim_start_matches('/')))
    }

    /// The node's network, to be entered.
    ///
    /// # Errors
    /// The node is not there.
    pub(crate) fn network(self) -> anyhow::Result<File> {
        let root = self.path("/")?;
        let process = root.parent().context("a node's root without a process")?;
        let path = process.join("ns/net");
        File::open(&path).with_context(|| format!("cannot open {}", path.display()))
    }

    /// The names of the files in a folder of the node; none if it is not there.
    ///
    /// # Errors
    /// The folder can't be read.
    pub(crate) fn files(self, folder: &str) -> anyhow::Result<BTreeSet<String>> {
        let path = self.path(folder)?;
        match fs::read_dir(&path) {
            Ok(entries) => entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(error) => Err(error).with_context(|| format!("cannot list {}", path.display())),
        }
    }

    /// The sockets in the kubelet's folder of device plugins, the kubelet's own left out.
    ///
    /// # Errors
    /// The folder can't be read.
    pub(crate) fn plugin_sockets(self) -> anyhow::Result<BTreeSet<String>> {
        let mut files = self.files(DEVICE_PLUGIN_DIR)?;
        files.retain(|name| name != "kubelet.sock" && name != "kubelet_internal_checkpoint");
        Ok(files)
    }

    /// How many devices of a resource the kubelet can give, in its own words: what the API server shows is older while
    /// the kubelet is just starting.
    ///
    /// # Errors
    /// The kubelet does not answer.
    pub(crate) fn allocatable(self, resource: &str) -> anyhow::Result<usize> {
        let socket = self.path(SOCKET)?;
        let answer = self.world.wait_for(async {
            let channel = uds::connect(&socket).await?;
            let answer = PodResourcesListerClient::new(channel)
                .get_allocatable_resources(AllocatableResourcesRequest {})
                .await
                .map_err(|status| {
                    anyhow::anyhow!("PodResources.GetAllocatableResources failed: {status}")
                })?;
            anyhow::Ok(answer.into_inner())
        })?;
        let devices: BTreeSet<_> = answer
            .devices
            .into_iter()
            .filter(|devices| devices.resource_name == resource)
            .flat_map(|devices| devices.device_ids)
            .collect();
        Ok(devices.len())
    }

    /// Which containers hold which devices, in the words of the kubelet's `PodResources` API.
    ///
    /// # Errors
    /// The kubelet does not answer.
    pub(crate) fn holdings(self) -> anyhow::Result<Vec<Holding>> {
        let socket = self.path(SOCKET)?;
        let listed = self.world.wait_for(async {
            let channel = uds::connect(&socket).await?;
            let listed = PodResourcesListerClient::new(channel)
                .list(ListPodResourcesRequest {})
                .await
                .map_err(|status| anyhow::anyhow!("PodResources.List failed: {status}"))?;
            anyhow::Ok(listed.into_inner())
        })?;
        Ok(listed
            .pod_resources
            .into_iter()
            .flat_map(|pod| {
                pod.containers.into_iter().flat_map(move |container| {
                    let (namespace, name) = (pod.namespace.clone(), pod.name.clone());
                    container.devices.into_iter().map(move |devices| Holding {
                        namespace: namespace.clone(),
                        pod: name.clone(),
                        container: container.name.clone(),
                        resource: devices.resource_name,
                        devices: devices.device_ids,
                    })
                })
            })
            .filter(|holding| holding.resource.starts_with("nvidia.com/"))
            .collect())
    }

    /// The devices of resources under `nvidia.com/` that each pod holds, sorted, by namespace and name.
    ///
    /// # Errors
    /// The kubelet does not answer.
    pub(crate) fn held(self) -> anyhow::Result<BTreeMap<(String, String), Vec<String>>> {
        let mut held: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for holding in self.holdings()? {
            held.entry((holding.namespace, holding.pod))
                .or_default()
                .extend(holding.devices);
        }
        for devices in held.values_mut() {
            devices.sort();
        }
        Ok(held)
    }

    /// Kills the processes of a pod that run a program of this name with SIGKILL.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn kill(self, pod_uid: &str, program: &str) -> anyhow::Result<()> {
        let processes = processes(pod_uid, program)?;
        if processes.is_empty() {
            bail!(
                "the pod {pod_uid} has no process {program} on {}",
                self.name
            );
        }
        for pid in processes {
            self.world.log(&format!("kill -9 {pid} ({program})"));
            kill_process(pid, Signal::KILL)
                .with_context(|| format!("cannot kill process {pid} ({program})"))?;
        }
        Ok(())
    }

    /// Our own program on the node itself, outside of any pod: its simulated driver has a copy, there called
    /// `nvidia-smi`.
    ///
    /// # Errors
    /// What it said.
    fn migpool(self, arguments: &[&str]) -> anyhow::Result<String> {
        let program = format!("{DRIVER_ROOT}/usr/bin/nvidia-smi");
        let mut command = self.world.cluster().node(self.name)?.command("bash");
        command
            .args(["-c", r#"exec -a migpool "$0" "$@""#, &program])
            .args(arguments)
            .env("NVIDIA_DRIVER_ROOT", DRIVER_ROOT);
        self.world.done(command, None)
    }

    /// Brings the node's GPUs to a layout, as a cloud's node image does when it boots, before anything of Kubernetes
    /// looks at them.
    ///
    /// # Errors
    /// What migpool said.
    pub(crate) fn partition(self, layout: &str) -> anyhow::Result<()> {
        self.migpool(&[
            "partition",
            "apply",
            "--replace-all",
            "--wait",
            // Not where the agent keeps what it has created: these are not its own.
            "--partition-state-dir=/run/node-image/partition",
            layout,
        ])
        .with_context(|| format!("cannot partition {} into {layout}", self.name))?;
        Ok(())
    }

    /// The UUIDs of the node's GPUs, in the order of their indices.
    ///
    /// # Errors
    /// The driver does not answer.
    pub(crate) fn gpus(self) -> anyhow::Result<Vec<String>> {
        let listed = self.smi(&["--query-gpu=uuid", "--format=csv,noheader"])?;
        Ok(listed.lines().map(|line| line.trim().to_owned()).collect())
    }

    fn smi(self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut all = vec!["smi"];
        all.extend(arguments);
        self.migpool(&all)
    }

    /// All MIG devices of the node.
    ///
    /// # Errors
    /// The driver does not answer.
    pub(crate) fn slices(self) -> anyhow::Result<BTreeSet<Slice>> {
        let printed = self.smi(&["-L"])?;
        // A GPU whose MIG mode is on without a slice has a line of its own; no device is not an error here either.
        Ok(Seen::from_smi(&printed)?.slices)
    }

    /// Restarts the kubelet: as an upgrade does, or with SIGKILL.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn restart_kubelet(self, by_force: bool) -> anyhow::Result<()> {
        let kubelet = self.world.cluster().node(self.name)?.kubelet();
        self.restart(&kubelet, by_force)
    }

    /// Stops the kubelet, as the end of a node does.
    ///
    /// # Errors
    /// It does not end.
    pub(crate) fn stop_kubelet(self) -> anyhow::Result<()> {
        self.world
            .log(&format!("stop the kubelet of {}", self.name));
        Ok(self.world.cluster().node(self.name)?.kubelet().stop()?)
    }

    /// Starts the kubelet.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn start_kubelet(self) -> anyhow::Result<()> {
        self.world
            .log(&format!("start the kubelet of {}", self.name));
        Ok(self.world.cluster().node(self.name)?.kubelet().start()?)
    }

    /// Restarts containerd with SIGTERM.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn restart_containerd(self) -> anyhow::Result<()> {
        let containerd = self.world.cluster().node(self.name)?.containerd();
        self.restart(&containerd, false)
    }

    fn restart(self, service: &Service, by_force: bool) -> anyhow::Result<()> {
        self.world
            .log(&format!("restart {}, by force: {by_force}", service.name()));
        if by_force {
            service.kill()?;
        } else {
            service.stop()?;
        }
        service.start()?;
        Ok(())
    }

    /// Makes something go wrong in the node's simulated driver, or stops it: `migpool sim inject ROOT arguments`.
    ///
    /// # Errors
    /// What migpool said.
    pub(crate) fn inject(self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut all = vec!["sim", "inject", DRIVER_ROOT];
        all.extend(arguments);
        self.migpool(&all)
            .with_context(|| format!("cannot inject {arguments:?} on {}", self.name))?;
        Ok(())
    }

    /// Boots the simulated machine: what a reboot takes from GPUs is gone.
    ///
    /// # Errors
    /// What migpool said.
    pub(crate) fn reboot(self) -> anyhow::Result<()> {
        self.migpool(&["sim", "reboot", DRIVER_ROOT])?;
        Ok(())
    }
}

/// Runs `migpool sim COMMAND ROOT arguments` where a person does: in the pod of the node's simulated driver.
///
/// # Errors
/// What migpool said.
pub(crate) fn simulate(
    world: &World,
    node: Node<'_>,
    command: &str,
    arguments: &[&str],
) -> anyhow::Result<()> {
    let pod = world.release_pod(&format!("boards-{}", node.name()), node.name())?;
    let root = format!("/host{SIMULATED_ROOT}");
    let mut all = vec!["exec", "--namespace", &pod.namespace, &pod.name, "--"];
    all.extend(["migpool", "sim", command, &root]);
    all.extend(arguments);
    world.kubectl(&all)?;
    Ok(())
}

/// The processes of a pod that run a program of this name.
///
/// # Errors
/// The machine's processes can't be listed.
pub(crate) fn processes(pod_uid: &str, program: &str) -> anyhow::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?.path();
        let pid = entry
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok())
            .and_then(Pid::from_raw);
        // A process may end while it is looked at.
        let read = |name| fs::read_to_string(entry.join(name)).unwrap_or_default();
        if let Some(pid) = pid
            && read("comm").trim_end() == program
            && read("cgroup").contains(pod_uid)
        {
            found.push(pid);
        }
    }
    Ok(found)
}

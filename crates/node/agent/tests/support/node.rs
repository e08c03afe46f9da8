//! A node of simulated A100s with an agent on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use device_plugin::Recovery;
use kubelet_api::pod_resources::v1::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use kubelet_api::pod_resources::v1::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices,
    ContainerResources, GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesRequest,
    ListPodResourcesResponse, PodResources as Pod,
};
use kubelet_api::uds;
use migpool_agent::{AgentConfig, Error, PartitionConfig, run};
use nvml_sim::DriverRoot;
use nvml_sim::state::Fault;
use partition::{Options, Partitioner};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// How long a test waits for something to come about before it counts as not coming.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until something is so.
pub(crate) async fn eventually(wanted: impl Fn() -> bool) {
    let start = Instant::now();
    while !wanted() {
        assert!(start.elapsed() < PATIENCE, "it never came to be so");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) struct Node {
    folder: TempDir,
    cancel: CancellationToken,
    agent: Option<JoinHandle<Result<(), Error>>>,
}

impl Node {
    pub(crate) fn without_driver() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            cancel: CancellationToken::new(),
            agent: None,
        }
    }

    pub(crate) fn with_gpus(gpus: u32) -> Self {
        let node = Self::without_driver();
        node.install_driver(gpus);
        node
    }

    /// Puts a driver where there was none.
    pub(crate) fn install_driver(&self, gpus: u32) {
        DriverRoot::create(self.root(), &[(mig::board("A100-40GB").unwrap(), gpus)]).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path("root")
    }

    pub(crate) fn kubelet_dir(&self) -> PathBuf {
        self.path("kubelet")
    }

    /// An agent with partition and plugin. Only events make it look: in between it waits for an hour.
    pub(crate) fn config(&self, layout: &str, mig_strategy: &str) -> AgentConfig {
        AgentConfig {
            node_name: Some("node-1".to_owned()),
            driver_root: self.root(),
            partition: Some(PartitionConfig {
                layout: layout.parse().unwrap(),
                state_dir: self.path("state"),
                replace_all: true,
                pod_resources: None,
            }),
            plugin: Some(device_plugin::Config {
                mig_strategy: mig_strategy.parse().unwrap(),
                driver_root: self.root(),
                dev_root: self.root(),
                kubelet_dir: self.kubelet_dir(),
                sysfs: self.path("sys"),
                ..device_plugin::Config::default()
            }),
            status_file: Some(self.path("status.json")),
            recovery: Recovery {
                first: Duration::from_millis(300),
                longest: Duration::from_secs(1),
            },
            look_interval: Duration::from_hours(1),
            ..AgentConfig::default()
        }
    }

    pub(crate) fn start(&mut self, config: AgentConfig) {
        self.cancel = CancellationToken::new();
        self.agent = Some(tokio::spawn(run(config, self.cancel.clone())));
    }

    pub(crate) async fn stop(&mut self) {
        self.cancel.cancel();
        self.agent.take().unwrap().await.unwrap().unwrap();
    }

    pub(crate) fn status(&self) -> Value {
        let text = fs::read(self.path("status.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Waits until the status file is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "the status never came to be as wanted: {status}"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Somebody else brings the GPUs to a layout.
    pub(crate) fn partition(&self, layout: &str) {
        let nvml = nvml::Nvml::load(&self.root()).unwrap();
        let partitioner = Partitioner::new(nvml, self.path("elsewhere"));
        let options = Options {
            replace_all: true,
            ..Options::default()
        };
        let report = partitioner
            .apply(&layout.parse().unwrap(), options, &[])
            .unwrap();
        assert!(report.is_done(), "{report:?}");
    }

    pub(crate) fn inject(&self, fault: Fault) {
        DriverRoot::open(self.root())
            .unwrap()
            .inject(fault)
            .unwrap();
    }

    pub(crate) fn clear_faults(&self) {
        DriverRoot::open(self.root())
            .unwrap()
            .clear_faults()
            .unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// A kubelet's pod resources, with one pod `default/train` that holds one device.
pub(crate) struct PodResources {
    socket: PathBuf,
    held: Arc<AtomicBool>,
}

struct Lister {
    resource: String,
    device: String,
    held: Arc<AtomicBool>,
}

impl PodResources {
    pub(crate) fn start(node: &Node, resource: &str, device: &str) -> Self {
        let socket = node.path("pods.sock");
        let held = Arc::new(AtomicBool::new(true));
        let lister = Lister {
            resource: resource.to_owned(),
            device: device.to_owned(),
            held: Arc::clone(&held),
        };
        let incoming = uds::listen(&socket).unwrap();
        tokio::spawn(
            Server::builder()
                .add_service(PodResourcesListerServer::new(lister))
                .serve_with_incoming(incoming),
        );
        Self { socket, held }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        Path::new(&self.socket).to_path_buf()
    }

    /// The pod ends.
    pub(crate) fn release(&self) {
        self.held.store(false, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl PodResourcesLister for Lister {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        let devices = ContainerDevices {
            resource_name: self.resource.clone(),
            device_ids: vec![self.device.clone()],
            topology: None,
        };
        let container = ContainerResources {
            name: "main".to_owned(),
            devices: vec![devices],
            ..ContainerResources::default()
        };
        let pod = Pod {
            name: "train".to_owned(),
            namespace: "default".to_owned(),
            containers: vec![container],
        };
        let held = self.held.load(Ordering::SeqCst);
        let pod_resources = if held { vec![pod] } else { Vec::new() };
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        Err(Status::unimplemented("the agent does not ask"))
    }

    async fn get(
        &self,
        _: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        Err(Status::unimplemented("the agent does not ask"))
    }
}

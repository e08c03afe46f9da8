//! The kubelet's word on who holds what.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kubelet_api::pod_resources::v1::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use kubelet_api::pod_resources::v1::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices,
    ContainerResources, GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesRequest,
    ListPodResourcesResponse, PodResources as Pod,
};
use kubelet_api::uds;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::node::Node;

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

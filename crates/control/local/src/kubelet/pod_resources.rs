//! The pod resources API v1: which pod holds which device. Pods that hold no device are not listed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kubelet_api::pod_resources::v1::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use kubelet_api::pod_resources::v1::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices,
    ContainerResources, GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesRequest,
    ListPodResourcesResponse, NumaNode, PodResources, TopologyInfo,
};
use kubelet_api::uds;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::DeviceView;
use super::ledger::DeviceLedger;

/// Serves the API until the token is cancelled.
pub(super) fn serve(
    socket: &Path,
    view: watch::Receiver<Arc<DeviceView>>,
    cancel: CancellationToken,
) -> Result<(), uds::Error> {
    let incoming = uds::listen(socket)?;
    let server = tonic::transport::Server::builder()
        .add_service(PodResourcesListerServer::new(Lister { view }))
        .serve_with_incoming_shutdown(incoming, cancel.cancelled_owned());
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the pod resources server ended");
        }
    });
    Ok(())
}

struct Lister {
    view: watch::Receiver<Arc<DeviceView>>,
}

#[tonic::async_trait]
impl PodResourcesLister for Lister {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        let pod_resources = pods(self.view.borrow().ledger());
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        let view = self.view.borrow().clone();
        let ledger = view.ledger();
        let healthy = ledger.devices().filter(|(_, device)| device.healthy);
        let ids: Vec<(&str, &str)> = healthy
            .map(|(resource, device)| (resource, device.id.as_str()))
            .collect();
        Ok(Response::new(AllocatableResourcesResponse {
            devices: grouped(ledger, &ids),
            ..AllocatableResourcesResponse::default()
        }))
    }

    async fn get(
        &self,
        request: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        let GetPodResourcesRequest {
            pod_name,
            pod_namespace,
        } = request.into_inner();
        let found = pods(self.view.borrow().ledger())
            .into_iter()
            .find(|pod| pod.name == pod_name && pod.namespace == pod_namespace);
        let pod_resources = found.ok_or_else(|| {
            Status::not_found(format!(
                "pod {pod_namespace}/{pod_name} holds no device here"
            ))
        })?;
        Ok(Response::new(GetPodResourcesResponse {
            pod_resources: Some(pod_resources),
        }))
    }
}

fn pods(ledger: &DeviceLedger) -> Vec<PodResources> {
    let assignments = ledger.assignments();
    let mut pods: BTreeMap<&str, PodResources> = BTreeMap::new();
    for assignment in &assignments {
        let holder = &assignment.holder;
        let pod = pods.entry(&holder.pod_uid).or_insert_with(|| PodResources {
            name: holder.pod.clone(),
            namespace: holder.namespace.clone(),
            containers: Vec::new(),
        });
        let ids: Vec<(&str, &str)> = assignment
            .devices
            .iter()
            .map(|device| (assignment.resource.as_str(), device.as_str()))
            .collect();
        let devices = grouped(ledger, &ids);
        match pod
            .containers
            .iter_mut()
            .find(|container| container.name == holder.container)
        {
            Some(container) => container.devices.extend(devices),
            None => pod.containers.push(ContainerResources {
                name: holder.container.clone(),
                devices,
                ..ContainerResources::default()
            }),
        }
    }
    pods.into_values().collect()
}

/// One entry for each resource and set of NUMA nodes.
fn grouped(ledger: &DeviceLedger, ids: &[(&str, &str)]) -> Vec<ContainerDevices> {
    let near: BTreeMap<&str, &[i64]> = ledger
        .devices()
        .map(|(_, device)| (device.id.as_str(), device.numa_nodes.as_slice()))
        .collect();
    let mut groups: BTreeMap<(&str, &[i64]), Vec<String>> = BTreeMap::new();
    for (resource, id) in ids {
        let nodes = near.get(id).copied().unwrap_or_default();
        groups
            .entry((resource, nodes))
            .or_default()
            .push((*id).to_owned());
    }
    let entry = |((resource, nodes), device_ids): ((&str, &[i64]), Vec<String>)| ContainerDevices {
        resource_name: resource.to_owned(),
        device_ids,
        topology: (!nodes.is_empty()).then(|| TopologyInfo {
            nodes: nodes.iter().map(|id| NumaNode { id: *id }).collect(),
        }),
    };
    groups.into_iter().map(entry).collect()
}

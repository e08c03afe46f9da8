//! Which container holds which device, and which devices can be held: what the kubelet tells anyone on the node.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::{Code, Status};

use crate::pod_resources::v1::pod_resources_lister_client::PodResourcesListerClient;
use crate::pod_resources::v1::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ListPodResourcesRequest,
    PodResources,
};
use crate::uds;

/// How long the kubelet may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest answer that is taken: a large node's is well over gRPC's ordinary 4 MiB.
const LARGEST: usize = 16 << 20;

/// A device that a container holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holding {
    /// The resource that it was asked for as: `nvidia.com/mig-1g.5gb`.
    pub resource: String,
    /// The device's id, as its plugin advertises it.
    pub device: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container of the pod.
    pub container: String,
}

/// What the kubelet tells of the node's devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// What is held, sorted.
    pub holdings: Vec<Holding>,
    /// The ids of what can be held: advertised, and healthy. `None` where the kubelet does not say.
    pub allocatable: Option<BTreeSet<String>>,
}

/// Why the kubelet did not tell.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers.
    #[error(transparent)]
    Connect(#[from] uds::Error),
    /// It answered with a refusal.
    #[error("the kubelet at {} refuses: {}", path.display(), status.message())]
    Refused {
        /// Its socket.
        path: PathBuf,
        /// Its word.
        status: Box<Status>,
    },
    /// It did not answer in time.
    #[error("the kubelet at {} gives no answer for {PATIENCE:?}", path.display())]
    Late {
        /// Its socket.
        path: PathBuf,
    },
}

/// Asks the kubelet whose socket this is. Must be called within a tokio runtime.
///
/// # Errors
/// When nobody answers, or not in time, or with a refusal.
pub async fn devices(socket: &Path) -> Result<Devices, Error> {
    let late = |_| Error::Late {
        path: socket.to_owned(),
    };
    tokio::time::timeout(PATIENCE, ask(socket))
        .await
        .map_err(late)?
}

async fn ask(socket: &Path) -> Result<Devices, Error> {
    let refused = |status| Error::Refused {
        path: socket.to_owned(),
        status: Box::new(status),
    };
    let mut client = PodResourcesListerClient::new(uds::connect(socket).await?)
        .max_decoding_message_size(LARGEST);
    let listed = client
        .list(ListPodResourcesRequest {})
        .await
        .map_err(refused)?;
    let allocatable = match client
        .get_allocatable_resources(AllocatableResourcesRequest {})
        .await
    {
        Ok(answer) => Some(ids(answer.into_inner())),
        // A kubelet may have that turned off, and tell the rest all the same.
        Err(status) if matches!(status.code(), Code::Unimplemented | Code::Unknown) => None,
        Err(status) => return Err(refused(status)),
    };
    Ok(Devices {
        holdings: holdings(listed.into_inner().pod_resources),
        allocatable,
    })
}

fn ids(answer: AllocatableResourcesResponse) -> BTreeSet<String> {
    let devices = answer.devices.into_iter();
    devices.flat_map(|devices| devices.device_ids).collect()
}

/// One entry for each device of each container.
fn holdings(pods: Vec<PodResources>) -> Vec<Holding> {
    let mut holdings = Vec::new();
    for pod in pods {
        for container in pod.containers {
            for devices in container.devices {
                for device in devices.device_ids {
                    holdings.push(Holding {
                        resource: devices.resource_name.clone(),
                        device,
                        namespace: pod.namespace.clone(),
                        pod: pod.name.clone(),
                        container: container.name.clone(),
                    });
                }
            }
        }
    }
    holdings.sort();
    holdings
}

#[cfg(test)]
mod tests {
    use tonic::transport::Server;
    use tonic::{Request, Response};

    use super::*;
    use crate::pod_resources::v1::pod_resources_lister_server::{
        PodResourcesLister, PodResourcesListerServer,
    };
    use crate::pod_resources::v1::{
        ContainerDevices, ContainerResources, GetPodResourcesRequest, GetPodResourcesResponse,
        ListPodResourcesResponse,
    };

    struct Kubelet {
        tells_allocatable: bool,
    }

    fn of(ids: &[&str]) -> ContainerDevices {
        ContainerDevices {
            resource_name: "nvidia.com/mig-1g.5gb".into(),
            device_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            topology: None,
        }
    }

    #[tonic::async_trait]
    impl PodResourcesLister for Kubelet {
        async fn list(
            &self,
            _: Request<ListPodResourcesRequest>,
        ) -> Result<Response<ListPodResourcesResponse>, Status> {
            let container = |name: &str, devices| ContainerResources {
                name: name.into(),
                devices,
                ..ContainerResources::default()
            };
            let pod = PodResources {
                name: "train".into(),
                namespace: "ml".into(),
                containers: vec![
                    container("main", vec![of(&["MIG-b", "MIG-a"])]),
                    container("side", Vec::new()),
                ],
            };
            Ok(Response::new(ListPodResourcesResponse {
                pod_resources: vec![pod],
            }))
        }

        async fn get_allocatable_resources(
            &self,
            _: Request<AllocatableResourcesRequest>,
        ) -> Result<Response<AllocatableResourcesResponse>, Status> {
            if !self.tells_allocatable {
                return Err(Status::unknown("endpoint is disabled"));
            }
            Ok(Response::new(AllocatableResourcesResponse {
                devices: vec![of(&["MIG-a"]), of(&["MIG-c"])],
                ..AllocatableResourcesResponse::default()
            }))
        }

        async fn get(
            &self,
            _: Request<GetPodResourcesRequest>,
        ) -> Result<Response<GetPodResourcesResponse>, Status> {
            Err(Status::unimplemented("not asked for"))
        }
    }

    async fn told(kubelet: Kubelet) -> Devices {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("kubelet.sock");
        let incoming = uds::listen(&socket).unwrap();
        let server = Server::builder().add_service(PodResourcesListerServer::new(kubelet));
        let server = tokio::spawn(server.serve_with_incoming(incoming));
        let told = devices(&socket).await.unwrap();
        server.abort();
        told
    }

    #[tokio::test]
    async fn each_device_is_told_with_the_container_that_holds_it() {
        let told = told(Kubelet {
            tells_allocatable: true,
        })
        .await;
        let held: Vec<_> = told
            .holdings
            .iter()
            .map(|holding| (holding.device.as_str(), holding.container.as_str()))
            .collect();
        assert_eq!(held, [("MIG-a", "main"), ("MIG-b", "main")]);
        assert_eq!(
            told.allocatable,
            Some(BTreeSet::from(["MIG-a".to_owned(), "MIG-c".to_owned()]))
        );
    }

    #[tokio::test]
    async fn a_kubelet_that_keeps_allocatable_to_itself_tells_who_holds_what() {
        let told = told(Kubelet {
            tells_allocatable: false,
        })
        .await;
        assert_eq!((told.holdings.len(), told.allocatable), (2, None));
    }

    #[tokio::test]
    async fn a_kubelet_that_is_not_there_is_named_by_its_socket() {
        let error = devices(Path::new("/nowhere/kubelet.sock"))
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("/nowhere/kubelet.sock"),
            "{error}"
        );
    }
}

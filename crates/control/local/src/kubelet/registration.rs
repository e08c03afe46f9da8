//! Taking plugins in: the Registration server, and a follower of each plugin's device list.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kubelet_api::device_plugin::v1beta1::device_plugin_client::DevicePluginClient;
use kubelet_api::device_plugin::v1beta1::registration_server::{Registration, RegistrationServer};
use kubelet_api::device_plugin::v1beta1::{
    Empty, HEALTHY, ListAndWatchResponse, MAX_DEVICE_ID, RegisterRequest, VERSION,
};
use kubelet_api::uds;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::ledger::Device;
use super::{Endpoint, Message};

/// How long a plugin may take to answer while it registers (the kubelet's).
const DIAL: Duration = Duration::from_secs(10);

/// Serves Registration until the token is cancelled.
pub(super) fn serve(
    dir: &Path,
    socket: &Path,
    messages: mpsc::WeakUnboundedSender<Message>,
    cancel: CancellationToken,
) -> Result<(), uds::Error> {
    let incoming = uds::listen(socket)?;
    let service = Registrar {
        dir: dir.to_owned(),
        messages,
        generations: AtomicU64::new(0),
        cancel: cancel.clone(),
    };
    let server = tonic::transport::Server::builder()
        .add_service(RegistrationServer::new(service))
        .serve_with_incoming_shutdown(incoming, cancel.cancelled_owned());
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the registration server ended");
        }
    });
    Ok(())
}

struct Registrar {
    dir: PathBuf,
    messages: mpsc::WeakUnboundedSender<Message>,
    generations: AtomicU64,
    cancel: CancellationToken,
}

#[tonic::async_trait]
impl Registration for Registrar {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        check(&request)?;
        let RegisterRequest {
            endpoint,
            resource_name: resource,
            ..
        } = request;
        // Dialled while the plugin still waits: one that does not serve is never taken in.
        let reach = async {
            let channel = uds::connect(&self.dir.join(&endpoint))
                .await
                .map_err(|error| Status::unavailable(error.to_string()))?;
            let mut client = DevicePluginClient::new(channel);
            let options = client
                .get_device_plugin_options(Empty {})
                .await?
                .into_inner();
            let list = client.list_and_watch(Empty {}).await?.into_inner();
            Ok::<_, Status>((client, options, list))
        };
        let (client, options, list) = tokio::time::timeout(DIAL, reach).await.map_err(|_| {
            Status::deadline_exceeded(format!("{endpoint} did not answer in time"))
        })??;
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        let registered = Message::Registered {
            resource: resource.clone(),
            endpoint: Endpoint {
                generation,
                client,
                prefers: options.get_preferred_allocation_available,
                pre_start: options.pre_start_required,
            },
        };
        let messages = self.messages.upgrade().ok_or_else(ended)?;
        messages.send(registered).map_err(|_| ended())?;
        tokio::spawn(follow(
            list,
            resource,
            generation,
            self.messages.clone(),
            self.cancel.clone(),
        ));
        Ok(Response::new(Empty {}))
    }
}

fn ended() -> Status {
    Status::unavailable("the device manager is ending")
}

fn check(request: &RegisterRequest) -> Result<(), Status> {
    if request.version != VERSION {
        let found = &request.version;
        return Err(Status::invalid_argument(format!(
            "version {found:?} of the device plugin interface is not supported: use {VERSION}"
        )));
    }
    let name = &request.resource_name;
    if !name
        .split_once('/')
        .is_some_and(|(domain, name)| !domain.is_empty() && !name.is_empty())
    {
        return Err(Status::invalid_argument(format!(
            "resource name {name:?} has no domain: use one such as nvidia.com/gpu"
        )));
    }
    let endpoint = &request.endpoint;
    if endpoint.is_empty() || endpoint.contains('/') || endpoint.starts_with('.') {
        return Err(Status::invalid_argument(format!(
            "endpoint {endpoint:?} is not the name of a socket in the device plugin folder"
        )));
    }
    Ok(())
}

async fn follow(
    mut list: Streaming<ListAndWatchResponse>,
    resource: String,
    generation: u64,
    messages: mpsc::WeakUnboundedSender<Message>,
    cancel: CancellationToken,
) {
    loop {
        let next = tokio::select! {
            () = cancel.cancelled() => return,
            next = list.message() => next,
        };
        let message = match next {
            Ok(Some(response)) => {
                let devices = devices(&resource, response);
                Message::Listed {
                    resource: resource.clone(),
                    generation,
                    devices,
                }
            }
            Ok(None) | Err(_) => Message::StreamEnded {
                resource: resource.clone(),
                generation,
            },
        };
        let is_last = matches!(message, Message::StreamEnded { .. });
        let Some(messages) = messages.upgrade() else {
            return;
        };
        if messages.send(message).is_err() || is_last {
            return;
        }
    }
}

fn devices(resource: &str, response: ListAndWatchResponse) -> Vec<Device> {
    let mut devices = Vec::new();
    for device in response.devices {
        if device.id.is_empty() || device.id.len() > MAX_DEVICE_ID {
            tracing::warn!(
                resource,
                id = device.id,
                "device id is not 1 to 63 characters: left out"
            );
            continue;
        }
        let nodes = device
            .topology
            .into_iter()
            .flat_map(|topology| topology.nodes);
        devices.push(Device {
            healthy: device.health == HEALTHY,
            numa_nodes: nodes.map(|node| node.id).collect(),
            id: device.id,
        });
    }
    devices
}

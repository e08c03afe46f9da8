//! A device plugin of the tests' own, honest or broken on purpose, at the same gRPC boundary as ours.
//!
//! It runs in this process and serves on the node's kubelet. It borrows the CDI specification that the real plugin has
//! written for another resource, so that its containers get real slices: just not always those they should.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, anyhow};
use kubelet_api::device_plugin::v1beta1::device_plugin_server::{DevicePlugin, DevicePluginServer};
use kubelet_api::device_plugin::v1beta1::registration_client::RegistrationClient;
use kubelet_api::device_plugin::v1beta1::{
    AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateRequest,
    ContainerAllocateResponse, DEVICE_PLUGIN_DIR, Device, DevicePluginOptions, Empty, HEALTHY,
    KUBELET_SOCKET, ListAndWatchResponse, PreStartContainerRequest, PreStartContainerResponse,
    PreferredAllocationRequest, PreferredAllocationResponse, RegisterRequest, VERSION,
};
use kubelet_api::uds;
use tokio::sync::{oneshot, watch};
use tokio_stream::{Stream, StreamExt, wrappers::WatchStream};
use tonic::{Request, Response, Status};

use crate::nodes::Node;
use crate::seen::Slice;

/// How CDI calls the devices of the specification that is borrowed.
const CDI_KIND: &str = "k8s.device-plugin.nvidia.com/gpu";

/// What is wrong with a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: what is checked holds.
    None,
    /// The last device is not advertised.
    OneMissing,
    /// A device is advertised that is no slice.
    OneTooMany,
    /// Whoever asks gets the first slice.
    SameSliceForAll,
    /// A container gets the slice after the one that the kubelet gave it.
    TheNextSlice,
    /// A container gets all slices of the GPU that its slice is on.
    TheWholeGpu,
    /// A container gets its slice, and another one.
    OneMoreSlice,
    /// A container gets nothing.
    Nothing,
    /// The plugin does not come back when the kubelet was restarted.
    RegistersOnce,
}

/// A plugin that serves until it is dropped.
pub(crate) struct Plugin {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Plugin {
    /// Serves these slices on a node as `resource`, with this fault.
    ///
    /// # Errors
    /// The kubelet does not take it.
    pub(crate) fn serve(
        node: Node<'_>,
        resource: &str,
        slices: Vec<Slice>,
        fault: Fault,
    ) -> anyhow::Result<Self> {
        let folder = node.path(DEVICE_PLUGIN_DIR)?;
        let service = Service::new(slices, fault);
        let resource = resource.to_owned();
        let (stop, stopped) = oneshot::channel();
        let (say, said) = std::sync::mpsc::channel();
        let thread = thread::Builder::new()
            .name("plugin".to_owned())
            .spawn(move || {
                let served = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(anyhow::Error::from)
                    .and_then(|runtime| {
                        runtime.block_on(run(service, &folder, &resource, stopped, &say))
                    });
                // After the registration nobody listens any more, and nobody needs to.
                let _ = say.send(served);
            })
            .context("cannot start a thread")?;
        said.recv()
            .unwrap_or_else(|_| Err(anyhow!("the plugin's thread ended")))
            .context("the kubelet did not take the tests' own plugin")?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves and registers, says so, and registers again whenever the kubelet has a new socket, unless told otherwise.
async fn run(
    service: Service,
    folder: &Path,
    resource: &str,
    stopped: oneshot::Receiver<()>,
    say: &std::sync::mpsc::Sender<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let once = service.fault == Fault::RegistersOnce;
    // The streams end when this goes away, so that the server can end.
    let (alive, living) = watch::channel(());
    let work = async {
        let mut round = 0_u32;
        loop {
            round += 1;
            let endpoint = format!("e2e-{round}.sock");
            let incoming = uds::listen(&folder.join(&endpoint))?;
            let server = tonic::transport::Server::builder().add_service(DevicePluginServer::new(
                service.clone().living(living.clone()),
            ));
            let kubelet = folder.join(KUBELET_SOCKET);
            let serving = tokio::spawn(server.serve_with_incoming(incoming));
            let mut registered = register(&kubelet, &endpoint, resource).await;
            if round == 1 {
                registered?;
                let _ = say.send(Ok(()));
            } else {
                // The socket may be that of the kubelet that has ended, until the new one deletes it.
                while registered.is_err() && folder.join(&endpoint).exists() {
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    registered = register(&kubelet, &endpoint, resource).await;
                }
            }
            // A kubelet that starts deletes the sockets of plugins.
            while once || folder.join(&endpoint).exists() {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            serving.abort();
            while !kubelet.exists() {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    };
    tokio::select! {
        ended = work => ended,
        _ = stopped => {
            drop(alive);
            Ok(())
        }
    }
}

async fn register(kubelet: &Path, endpoint: &str, resource: &str) -> anyhow::Result<()> {
    let channel = uds::connect(kubelet).await?;
    RegistrationClient::new(channel)
        .register(RegisterRequest {
            version: VERSION.to_owned(),
            endpoint: endpoint.to_owned(),
            resource_name: resource.to_owned(),
            options: Some(DevicePluginOptions::default()),
        })
        .await
        .map_err(|status| anyhow!("Register failed: {status}"))?;
    Ok(())
}

/// The plugin's side of the contract.
#[derive(Clone)]
struct Service {
    slices: Arc<Vec<Slice>>,
    fault: Fault,
    living: Option<watch::Receiver<()>>,
}

impl Service {
    fn new(slices: Vec<Slice>, fault: Fault) -> Self {
        Self {
            slices: Arc::new(slices),
            fault,
            living: None,
        }
    }

    fn living(mut self, living: watch::Receiver<()>) -> Self {
        self.living = Some(living);
        self
    }

    /// What is advertised.
    fn devices(&self) -> Vec<Device> {
        let mut ids: Vec<_> = self.slices.iter().map(|slice| slice.uuid.clone()).collect();
        match self.fault {
            Fault::OneMissing => {
                ids.pop();
            }
            Fault::OneTooMany => ids.push("MIG-00000000-0000-0000-0000-000000000000".to_owned()),
            _ => {}
        }
        ids.into_iter()
            .map(|id| Device {
                id,
                health: HEALTHY.to_owned(),
                topology: None,
            })
            .collect()
    }

    /// The slices that a container gets which the kubelet gave these devices.
    fn given(&self, asked: &ContainerAllocateRequest) -> Vec<String> {
        let uuids: Vec<&str> = self.slices.iter().map(|slice| &*slice.uuid).collect();
        let next = |id: &String| {
            let index = uuids.iter().position(|uuid| uuid == id).unwrap_or(0);
            uuids[(index + 1) % uuids.len()].to_owned()
        };
        let siblings = |id: &String| {
            let gpu = self.slices.iter().find(|slice| slice.uuid == *id);
            self.slices
                .iter()
                .filter(|slice| gpu.is_some_and(|of| of.gpu == slice.gpu))
                .map(|slice| slice.uuid.clone())
                .collect::<Vec<_>>()
        };
        let ids = asked.devices_ids.iter();
        match self.fault {
            Fault::None | Fault::OneMissing | Fault::OneTooMany | Fault::RegistersOnce => {
                ids.cloned().collect()
            }
            Fault::SameSliceForAll => vec![uuids[0].to_owned()],
            Fault::TheNextSlice => ids.map(next).collect(),
            Fault::TheWholeGpu => ids.flat_map(siblings).collect(),
            Fault::OneMoreSlice => ids.flat_map(|id| [id.clone(), next(id)]).collect(),
            Fault::Nothing => Vec::new(),
        }
    }
}

#[tonic::async_trait]
impl DevicePlugin for Service {
    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(DevicePluginOptions::default()))
    }

    type ListAndWatchStream =
        Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

    async fn list_and_watch(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let devices = self.devices();
        let living = self
            .living
            .clone()
            .ok_or_else(|| Status::unavailable("the plugin has not begun"))?;
        // One message, and then a stream that stays open for as long as the plugin lives.
        let stream = WatchStream::new(living).map(move |()| {
            Ok(ListAndWatchResponse {
                devices: devices.clone(),
            })
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_preferred_allocation(
        &self,
        _: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        Err(Status::unimplemented("no preference"))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let container_responses = request
            .into_inner()
            .container_requests
            .iter()
            .map(|asked| ContainerAllocateResponse {
                envs: BTreeMap::from([("E2E_PLUGIN".to_owned(), format!("{:?}", self.fault))])
                    .into_iter()
                    .collect(),
                cdi_devices: self
                    .given(asked)
                    .into_iter()
                    .map(|uuid| CdiDevice {
                        name: format!("{CDI_KIND}={uuid}"),
                    })
                    .collect(),
                ..Default::default()
            })
            .collect();
        Ok(Response::new(AllocateResponse {
            container_responses,
        }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Ok(Response::new(PreStartContainerResponse {}))
    }
}

//! The kubelet's side of the device plugin interface, as small as tests need it.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kubelet_api::device_plugin::v1beta1::device_plugin_client::DevicePluginClient;
use kubelet_api::device_plugin::v1beta1::registration_server::{Registration, RegistrationServer};
use kubelet_api::device_plugin::v1beta1::{
    AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse,
    ContainerPreferredAllocationRequest, Empty, HEALTHY, KUBELET_SOCKET,
    PreferredAllocationRequest, RegisterRequest, VERSION,
};
use kubelet_api::uds;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

/// How long a test waits for something to come about before it counts as not coming.
const PATIENCE: Duration = Duration::from_mins(1);

/// Each device's id, and whether it is healthy.
pub(crate) type Devices = BTreeMap<String, bool>;

/// What the kubelet knows of one resource.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    /// The devices of the last list.
    pub(crate) devices: Devices,
    /// How many lists have come since the registration.
    pub(crate) lists: usize,
    /// The stream of lists is open.
    pub(crate) connected: bool,
    /// The plugin's socket.
    pub(crate) endpoint: String,
    client: DevicePluginClient<Channel>,
}

type Resources = BTreeMap<String, Resource>;

/// A running kubelet. It ends when it is dropped.
pub(crate) struct Kubelet {
    folder: PathBuf,
    resources: watch::Receiver<Resources>,
    stop: CancellationToken,
}

#[derive(Clone)]
struct Registrations {
    folder: PathBuf,
    resources: watch::Sender<Resources>,
    stop: CancellationToken,
    /// How many registrations are refused before one is taken.
    refusals: Arc<Mutex<usize>>,
}

impl Kubelet {
    /// Starts a kubelet as a real one starts: it deletes every socket in its folder first.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_refusing(folder, 0)
    }

    /// Starts one that refuses so many registrations at first.
    pub(crate) fn start_refusing(folder: &Path, refusals: usize) -> Self {
        fs::create_dir_all(folder).unwrap();
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_socket() {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        let stop = CancellationToken::new();
        let (sender, resources) = watch::channel(Resources::new());
        let registrations = Registrations {
            folder: folder.to_path_buf(),
            resources: sender,
            stop: stop.clone(),
            refusals: Arc::new(Mutex::new(refusals)),
        };
        let incoming = uds::listen(&folder.join(KUBELET_SOCKET)).unwrap();
        tokio::spawn(
            Server::builder()
                .add_service(RegistrationServer::new(registrations))
                .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned()),
        );
        Self {
            folder: folder.to_path_buf(),
            resources,
            stop,
        }
    }

    /// Ends this kubelet and starts another one in its place.
    pub(crate) async fn restart(self) -> Self {
        let folder = self.folder.clone();
        self.stop().await;
        Self::start(&folder)
    }

    /// Ends this kubelet, and waits until its socket is gone.
    pub(crate) async fn stop(self) {
        let socket = self.folder.join(KUBELET_SOCKET);
        self.stop.cancel();
        while socket.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until a resource is as wanted.
    pub(crate) async fn until(
        &self,
        resource: &str,
        wanted: impl Fn(&Resource) -> bool,
    ) -> Resource {
        let mut resources = self.resources.clone();
        let found = resources.wait_for(|all| all.get(resource).is_some_and(&wanted));
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found.unwrap()[resource].clone(),
            Err(tokio::time::error::Elapsed { .. }) => panic!(
                "{resource} never came to be as wanted: {:?}",
                self.resources.borrow()
            ),
        }
    }

    /// Waits until a resource has so many devices and so many of them healthy.
    pub(crate) async fn until_counts(
        &self,
        resource: &str,
        devices: usize,
        healthy: usize,
    ) -> Resource {
        self.until(resource, |now| {
            now.devices.len() == devices
                && now.devices.values().filter(|healthy| **healthy).count() == healthy
        })
        .await
    }

    /// The resources that were registered.
    pub(crate) fn names(&self) -> Vec<String> {
        self.resources.borrow().keys().cloned().collect()
    }

    /// Gives devices to a container.
    pub(crate) async fn allocate(
        &self,
        resource: &str,
        ids: &[&str],
    ) -> Result<ContainerAllocateResponse, Status> {
        let mut client = self.resources.borrow()[resource].client.clone();
        let devices_ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let request = AllocateRequest {
            container_requests: vec![ContainerAllocateRequest { devices_ids }],
        };
        let response = client.allocate(request).await?.into_inner();
        Ok(response.container_responses.into_iter().next().unwrap())
    }

    /// Asks for a preference among ids.
    pub(crate) async fn preferred(
        &self,
        resource: &str,
        available: Vec<String>,
        size: i32,
    ) -> Vec<String> {
        let mut client = self.resources.borrow()[resource].client.clone();
        let request = PreferredAllocationRequest {
            container_requests: vec![ContainerPreferredAllocationRequest {
                available_device_ids: available,
                must_include_device_ids: Vec::new(),
                allocation_size: size,
            }],
        };
        let response = client
            .get_preferred_allocation(request)
            .await
            .unwrap()
            .into_inner();
        response
            .container_responses
            .into_iter()
            .next()
            .unwrap()
            .device_ids
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tonic::async_trait]
impl Registration for Registrations {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        assert_eq!(request.version, VERSION);
        {
            let mut refusals = self.refusals.lock().unwrap();
            if *refusals > 0 {
                *refusals -= 1;
                return Err(Status::unavailable("not yet"));
            }
        }
        // The real one dials back before it answers, too.
        let socket = self.folder.join(&request.endpoint);
        let channel = uds::connect(&socket)
            .await
            .map_err(|e| Status::internal(e.to_string()))?;
        let mut client = DevicePluginClient::new(channel);
        let options = client
            .get_device_plugin_options(Empty {})
            .await?
            .into_inner();
        assert_eq!(Some(options), request.options);
        let lists = client.list_and_watch(Empty {}).await?.into_inner();

        let name = request.resource_name;
        let endpoint = request.endpoint.clone();
        self.resources.send_modify(|resources| {
            let devices = Devices::new();
            let resource = Resource {
                devices,
                lists: 0,
                connected: true,
                endpoint: request.endpoint,
                client,
            };
            resources.insert(name.clone(), resource);
        });
        tokio::spawn(self.clone().follow(name, endpoint, lists));
        Ok(Response::new(Empty {}))
    }
}

impl Registrations {
    async fn follow(
        self,
        name: String,
        endpoint: String,
        mut lists: tonic::Streaming<kubelet_api::device_plugin::v1beta1::ListAndWatchResponse>,
    ) {
        let change = |change: &dyn Fn(&mut Resource)| {
            self.resources.send_modify(|resources| {
                let resource = resources.get_mut(&name);
                if let Some(resource) = resource.filter(|now| now.endpoint == endpoint) {
                    change(resource);
                }
            });
        };
        loop {
            let list = tokio::select! {
                () = self.stop.cancelled() => return,
                list = lists.message() => list,
            };
            let Ok(Some(list)) = list else { break };
            let devices: Devices = list
                .devices
                .into_iter()
                .map(|device| (device.id, device.health == HEALTHY))
                .collect();
            change(&|resource| {
                resource.devices.clone_from(&devices);
                resource.lists += 1;
            });
        }
        change(&|resource| resource.connected = false);
    }
}

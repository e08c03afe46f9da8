use std::collections::BTreeSet;
use std::sync::Mutex;

use kubelet_api::device_plugin::v1beta1::device_plugin_server::{DevicePlugin, DevicePluginServer};
use kubelet_api::device_plugin::v1beta1::registration_client::RegistrationClient;
use kubelet_api::device_plugin::v1beta1::{
    AllocateRequest, AllocateResponse, ContainerAllocateResponse,
    ContainerPreferredAllocationResponse, DevicePluginOptions, Empty, HEALTHY,
    ListAndWatchResponse, PreStartContainerRequest, PreStartContainerResponse,
    PreferredAllocationRequest, PreferredAllocationResponse, RegisterRequest, UNHEALTHY, VERSION,
};
use kubelet_api::pod_resources::v1::pod_resources_lister_client::PodResourcesListerClient;
use kubelet_api::pod_resources::v1::{
    AllocatableResourcesRequest, GetPodResourcesRequest, ListPodResourcesRequest,
};
use kubelet_api::uds;
use tonic::{Code, Request, Response, Status};

use super::*;

const GPU: &str = "nvidia.com/gpu";

/// A plugin whose device list is a watch channel, and which remembers what it was asked.
struct Plugin {
    list: watch::Receiver<Vec<(String, bool)>>,
    asked: Arc<Mutex<Vec<String>>>,
    end: CancellationToken,
}

impl Plugin {
    fn note(&self, call: &str) {
        self.asked.lock().expect("lock").push(call.to_owned());
    }
}

#[tonic::async_trait]
impl DevicePlugin for Plugin {
    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        let get_preferred_allocation_available = true;
        Ok(Response::new(DevicePluginOptions {
            pre_start_required: true,
            get_preferred_allocation_available,
        }))
    }

    type ListAndWatchStream =
        std::pin::Pin<Box<dyn futures::Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

    async fn list_and_watch(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let stream = tokio_stream::wrappers::WatchStream::new(self.list.clone());
        let stream = futures::StreamExt::map(stream, |list| {
            let device =
                |(id, healthy): (String, bool)| kubelet_api::device_plugin::v1beta1::Device {
                    id,
                    health: if healthy { HEALTHY } else { UNHEALTHY }.to_owned(),
                    topology: None,
                };
            Ok(ListAndWatchResponse {
                devices: list.into_iter().map(device).collect(),
            })
        });
        let end = self.end.clone().cancelled_owned();
        Ok(Response::new(Box::pin(futures::StreamExt::take_until(
            stream, end,
        ))))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        self.note("GetPreferredAllocation");
        // The last one, and one that is no candidate.
        let available = request
            .into_inner()
            .container_requests
            .remove(0)
            .available_device_ids;
        let device_ids = vec![
            "MIG-nowhere".to_owned(),
            available.last().expect("some").clone(),
        ];
        let response = ContainerPreferredAllocationResponse { device_ids };
        Ok(Response::new(PreferredAllocationResponse {
            container_responses: vec![response],
        }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let ids = request
            .into_inner()
            .container_requests
            .remove(0)
            .devices_ids;
        self.note(&format!("Allocate {}", ids.join(",")));
        if ids.iter().any(|id| id == "MIG-bad") {
            return Err(Status::invalid_argument("MIG-bad is not to be had"));
        }
        let envs = [("NVIDIA_VISIBLE_DEVICES".to_owned(), ids.join(","))].into();
        let response = ContainerAllocateResponse {
            envs,
            ..Default::default()
        };
        Ok(Response::new(AllocateResponse {
            container_responses: vec![response],
        }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        self.note("PreStartContainer");
        Ok(Response::new(PreStartContainerResponse {}))
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    manager: DeviceManager,
}

struct Registered {
    list: watch::Sender<Vec<(String, bool)>>,
    asked: Arc<Mutex<Vec<String>>>,
    end: CancellationToken,
}

impl Fixture {
    fn new(assignments: Vec<Assignment>) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let manager = DeviceManager::start_with(DeviceManagerConfig {
            dir: dir.path().to_owned(),
            pod_resources_socket: Some(dir.path().join("pod-resources.sock")),
            assignments,
        });
        Self {
            dir,
            manager: manager.expect("starts"),
        }
    }

    async fn register(&self, endpoint: &str, ids: &[&str]) -> Registered {
        let devices = ids.iter().map(|id| ((*id).to_owned(), true)).collect();
        let (list, receiver) = watch::channel(devices);
        let (asked, end) = (Arc::default(), CancellationToken::new());
        let plugin = Plugin {
            list: receiver,
            asked: Arc::clone(&asked),
            end: end.clone(),
        };
        let incoming = uds::listen(&self.dir.path().join(endpoint)).expect("listens");
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(DevicePluginServer::new(plugin))
                .serve_with_incoming(incoming),
        );
        self.ask_to_register(endpoint, VERSION, GPU)
            .await
            .expect("registers");
        Registered { list, asked, end }
    }

    async fn ask_to_register(
        &self,
        endpoint: &str,
        version: &str,
        resource: &str,
    ) -> Result<(), Status> {
        let channel = uds::connect(&self.dir.path().join(KUBELET_SOCKET))
            .await
            .expect("connects");
        let request = RegisterRequest {
            version: version.to_owned(),
            endpoint: endpoint.to_owned(),
            resource_name: resource.to_owned(),
            options: None,
        };
        RegistrationClient::new(channel)
            .register(request)
            .await
            .map(|_| ())
    }

    async fn until(&self, holds: impl Fn(&DeviceLedger) -> bool) {
        let mut view = self.manager.view();
        view.wait_for(|view| holds(view.ledger()))
            .await
            .expect("the manager lives");
    }
}

fn wish(pod: &str, count: u64) -> Wish {
    let holder = Holder {
        pod_uid: format!("uid-{pod}"),
        namespace: "default".to_owned(),
        pod: pod.to_owned(),
        container: "main".to_owned(),
    };
    Wish {
        holder,
        devices: [(GPU.to_owned(), count)].into(),
    }
}

fn count(map: &BTreeMap<String, u64>) -> u64 {
    map.get(GPU).copied().unwrap_or_default()
}

#[tokio::test]
async fn a_plugin_is_dialled_back_and_asked_only_when_there_is_a_choice() {
    let fixture = Fixture::new(vec![]);
    let plugin = fixture
        .register("a.sock", &["MIG-1", "MIG-2", "MIG-3"])
        .await;
    fixture
        .until(|ledger| count(&ledger.allocatable()) == 3)
        .await;
    let first = fixture
        .manager
        .assign(&[wish("one", 1)])
        .await
        .expect("free");
    assert_eq!(first[0].devices, ["MIG-3"]);
    let rest = fixture
        .manager
        .assign(&[wish("two", 2)])
        .await
        .expect("free");
    assert_eq!(rest[0].devices, ["MIG-1", "MIG-2"]);
    let answer = fixture.manager.allocate(&rest[0]).await.expect("allocated");
    assert_eq!(answer.envs["NVIDIA_VISIBLE_DEVICES"], "MIG-1,MIG-2");
    assert_eq!(
        *plugin.asked.lock().expect("lock"),
        [
            "GetPreferredAllocation",
            "Allocate MIG-1,MIG-2",
            "PreStartContainer"
        ]
    );
    let none = fixture
        .manager
        .assign(&[wish("three", 1)])
        .await
        .expect_err("none left");
    assert_eq!(none.to_string(), "1 of nvidia.com/gpu wanted and 0 free");
    fixture.manager.release("uid-one").await;
    let again = fixture
        .manager
        .assign(&[wish("three", 1)])
        .await
        .expect("free again");
    assert_eq!(again[0].devices, ["MIG-3"]);
}

#[tokio::test]
async fn a_whole_list_replaces_the_last_and_a_lost_plugin_gives_nothing() {
    let fixture = Fixture::new(vec![]);
    let plugin = fixture.register("a.sock", &["MIG-1", "MIG-2"]).await;
    fixture
        .until(|ledger| count(&ledger.allocatable()) == 2)
        .await;
    plugin.list.send_replace(vec![
        ("MIG-9".to_owned(), false),
        ("MIG-2".to_owned(), true),
    ]);
    fixture
        .until(|ledger| ledger.candidates(GPU) == ["MIG-2"])
        .await;
    plugin.end.cancel();
    fixture
        .until(|l| count(&l.capacity()) == 2 && count(&l.allocatable()) == 0)
        .await;
    let held = Assignment {
        holder: wish("one", 1).holder,
        resource: GPU.to_owned(),
        devices: vec!["MIG-2".to_owned()],
    };
    let gone = fixture
        .manager
        .allocate(&held)
        .await
        .expect_err("nobody serves");
    assert!(matches!(gone, AdmissionError::NoPlugin { .. }), "{gone}");
    // It comes back under another name, as it does after a restart.
    let _plugin = fixture.register("b.sock", &["MIG-2"]).await;
    fixture
        .until(|ledger| count(&ledger.allocatable()) == 1)
        .await;
}

#[tokio::test]
async fn a_plugin_that_refuses_is_quoted() {
    let fixture = Fixture::new(vec![]);
    let _plugin = fixture.register("a.sock", &["MIG-bad"]).await;
    fixture
        .until(|ledger| count(&ledger.allocatable()) == 1)
        .await;
    let held = fixture
        .manager
        .assign(&[wish("one", 1)])
        .await
        .expect("free");
    let error = fixture
        .manager
        .allocate(&held[0])
        .await
        .expect_err("refused");
    assert!(
        error.to_string().contains("MIG-bad is not to be had"),
        "{error}"
    );
    assert!(
        matches!(error, AdmissionError::Plugin { gone: false, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_registration_that_cannot_be_served_is_refused() {
    let fixture = Fixture::new(vec![]);
    let absent = fixture
        .ask_to_register("absent.sock", VERSION, GPU)
        .await
        .expect_err("absent");
    assert!(absent.message().contains("absent.sock"), "{absent}");
    for (endpoint, version, resource) in [
        ("a.sock", "v1alpha", GPU),
        ("a.sock", VERSION, "gpu"),
        ("../a.sock", VERSION, GPU),
    ] {
        let refused = fixture.ask_to_register(endpoint, version, resource).await;
        let refused = refused.expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    assert!(!fixture.manager.view().borrow().serves(GPU));
}

#[tokio::test]
async fn what_was_held_before_is_held_again_and_shown_by_pod_resources() {
    let held = Assignment {
        holder: wish("one", 1).holder,
        resource: GPU.to_owned(),
        devices: vec!["MIG-1".to_owned()],
    };
    let fixture = Fixture::new(vec![held]);
    let _plugin = fixture.register("a.sock", &["MIG-1", "MIG-2"]).await;
    fixture
        .until(|ledger| count(&ledger.allocatable()) == 2)
        .await;
    let given = fixture
        .manager
        .assign(&[wish("two", 1)])
        .await
        .expect("free");
    assert_eq!(given[0].devices, ["MIG-2"]);

    let channel = uds::connect(&fixture.dir.path().join("pod-resources.sock")).await;
    let mut lister = PodResourcesListerClient::new(channel.expect("connects"));
    let pods = lister
        .list(ListPodResourcesRequest {})
        .await
        .expect("lists")
        .into_inner();
    let shown: Vec<(&str, &[String])> = pods
        .pod_resources
        .iter()
        .map(|pod| {
            (
                pod.name.as_str(),
                pod.containers[0].devices[0].device_ids.as_slice(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("one", &["MIG-1".to_owned()][..]),
            ("two", &["MIG-2".to_owned()][..])
        ]
    );
    let request = AllocatableResourcesRequest {};
    let all = lister
        .get_allocatable_resources(request)
        .await
        .expect("answers")
        .into_inner();
    assert_eq!(all.devices[0].device_ids, ["MIG-1", "MIG-2"]);
    let get = |name: &str| GetPodResourcesRequest {
        pod_name: name.to_owned(),
        pod_namespace: "default".to_owned(),
    };
    let one = lister.get(get("one")).await.expect("answers").into_inner();
    assert_eq!(
        one.pod_resources.expect("a pod").containers[0].devices[0].resource_name,
        GPU
    );
    let none = lister.get(get("none")).await.expect_err("not found");
    assert_eq!(none.code(), Code::NotFound);
}

#[tokio::test]
async fn pods_that_ask_at_once_get_different_devices() {
    let fixture = Fixture::new(vec![]);
    let ids: Vec<String> = (0..32).map(|id| format!("MIG-{id}")).collect();
    let _plugin = fixture
        .register(
            "a.sock",
            &ids.iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .await;
    fixture
        .until(|ledger| count(&ledger.allocatable()) == 32)
        .await;
    // They see the same candidates and get the same advice; five tries each are enough for three.
    let asks = (0..3).map(|pod| {
        let manager = fixture.manager.clone();
        async move {
            manager
                .assign(&[wish(&pod.to_string(), 4)])
                .await
                .expect("enough for all")
        }
    });
    let given = futures::future::join_all(asks).await;
    let all: BTreeSet<String> = given
        .into_iter()
        .flatten()
        .flat_map(|a| a.devices)
        .collect();
    assert_eq!(all.len(), 12);
}

//! The program that the tests of this crate give to the local engine in migpool's place: its
//! `pod-shim` is the real one, its `agent` a device plugin of 56 invented devices on a real socket, and
//! `keep STATE PODS` is a control plane to be killed, and `front STATE` an API over the store alone, to be killed too.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use kubelet_api::device_plugin::v1beta1::device_plugin_server::{DevicePlugin, DevicePluginServer};
use kubelet_api::device_plugin::v1beta1::registration_client::RegistrationClient;
use kubelet_api::device_plugin::v1beta1::{
    AllocateRequest, AllocateResponse, ContainerAllocateResponse,
    ContainerPreferredAllocationResponse, Device, DevicePluginOptions, DeviceSpec, Empty, HEALTHY,
    ListAndWatchResponse, PreStartContainerRequest, PreStartContainerResponse,
    PreferredAllocationRequest, PreferredAllocationResponse, RegisterRequest, VERSION,
};
use kubelet_api::uds;
use migpool_local::store::Database;
use migpool_local::{Running, UpConfig, shim::ShimArgs};
use pool::{Action, Controller, NodeProvider, Workloads};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

#[path = "../tests/common/front.rs"]
mod front;
#[path = "../tests/common/model.rs"]
mod model;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|role| role == "pod-shim") {
        let number = |name| option(&arguments, name).and_then(|text| text.parse().ok());
        let Some((folder, generation)) = arguments.get(1).zip(number("--generation")) else {
            return ExitCode::FAILURE;
        };
        let exec = arguments.iter().any(|word| word == "--exec");
        return migpool_local::shim::run(&ShimArgs {
            folder: folder.into(),
            generation,
            exec,
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime.map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            match arguments.first().map(String::as_str) {
                Some("agent") => agent(&arguments).await,
                Some("keep") => keep(&arguments).await,
                Some("front") => serve(&arguments).await,
                _ => Err("unknown role".into()),
            }
        })
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn option<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let at = arguments.iter().position(|word| word == name)?;
    arguments.get(at + 1).map(String::as_str)
}

/// Makes a node and runs so many pods on it, then waits to be killed.
async fn keep(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let state_dir = PathBuf::from(arguments.get(1).ok_or("no state folder")?);
    let pods: usize = arguments.get(2).ok_or("no number of pods")?.parse()?;
    let config = UpConfig {
        state_dir,
        real_gpus: false,
        agent_program: std::env::current_exe()?,
        ready: None,
    };
    let running = Running::start(&config, CancellationToken::new()).await?;
    let backend = running.backend();
    backend.apply(Action::CreateNode(model::node())).await?;
    for pod in 0..pods {
        let name = format!("pod-{pod}");
        backend
            .run_pod(&model::cluster(), &name.parse()?, &model::sleeper(&name))
            .await?;
    }
    std::future::pending().await
}

/// Answers on a socket beside the store, with its controller, until it is killed.
async fn serve(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let state_dir = PathBuf::from(arguments.get(1).ok_or("no state folder")?);
    let backend = front::Backend::over(Database::open(&state_dir.join("migpool.db"))?);
    let socket = state_dir.join("api.sock");
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = tokio::net::UnixListener::bind(&socket)?;
    let controller = Controller::new(backend.clone(), backend.clone());
    tokio::spawn(controller.run(std::future::pending()));
    let front = axum::ServiceExt::<axum::extract::Request>::into_make_service(backend.front());
    axum::serve(listener, front).await?;
    Ok(())
}

async fn agent(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let kubelet_dir = PathBuf::from(option(arguments, "--kubelet-dir").ok_or("no kubelet dir")?);
    let reports = PathBuf::from(option(arguments, "--status-file").ok_or("no status file")?);
    let labels = option(arguments, "--labels-file").ok_or("no labels file")?;
    let layout = option(arguments, "--layout-file").map(std::fs::read_to_string);
    if layout.transpose()?.is_some_and(|layout| !layout.is_empty()) {
        std::fs::write(labels, "nvidia.com/gpu.count=56\n")?;
        register(&kubelet_dir).await?;
    }
    let status =
        r#"{"phase": "ready", "ready": true, "message": "", "partition": null, "inventory": null}"#;
    let beside = reports.with_extension("tmp");
    std::fs::write(&beside, status)?;
    std::fs::rename(beside, reports)?;
    // The lifeline: the other end is closed when the control plane ends, however it ends.
    let end =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    end.await??;
    Ok(())
}

async fn register(dir: &Path) -> Result<(), Box<dyn Error>> {
    let endpoint = format!("plugin-{}.sock", std::process::id());
    let incoming = uds::listen(&dir.join(&endpoint))?;
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(DevicePluginServer::new(Plugin))
            .serve_with_incoming(incoming),
    );
    let mut kubelet = RegistrationClient::new(uds::connect(&dir.join("kubelet.sock")).await?);
    let request = RegisterRequest {
        version: VERSION.to_owned(),
        endpoint,
        resource_name: "nvidia.com/gpu".to_owned(),
        options: None,
    };
    kubelet.register(request).await?;
    Ok(())
}

struct Plugin;

#[tonic::async_trait]
impl DevicePlugin for Plugin {
    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(DevicePluginOptions {
            pre_start_required: false,
            get_preferred_allocation_available: true,
        }))
    }

    type ListAndWatchStream =
        std::pin::Pin<Box<dyn futures::Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

    async fn list_and_watch(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let device = |index: usize| Device {
            id: format!("MIG-{index}"),
            health: HEALTHY.to_owned(),
            topology: None,
        };
        let devices = (0..model::DEVICES).map(device).collect();
        let once = futures::stream::once(async { Ok(ListAndWatchResponse { devices }) });
        let stream = futures::StreamExt::chain(once, futures::stream::pending());
        Ok(Response::new(Box::pin(stream)))
    }

    /// Prefers the last.
    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let requests = request.into_inner().container_requests;
        let preferred = requests.into_iter().map(|request| {
            let size = usize::try_from(request.allocation_size).unwrap_or_default();
            let device_ids = request
                .available_device_ids
                .into_iter()
                .rev()
                .take(size)
                .collect();
            ContainerPreferredAllocationResponse { device_ids }
        });
        Ok(Response::new(PreferredAllocationResponse {
            container_responses: preferred.collect(),
        }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        // Long enough to be killed in.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let requests = request.into_inner().container_requests;
        let response = |ids: Vec<String>| ContainerAllocateResponse {
            envs: [("NVIDIA_VISIBLE_DEVICES".to_owned(), ids.join(","))].into(),
            devices: vec![DeviceSpec {
                container_path: "/dev/nvidia0".to_owned(),
                host_path: "/dev/nvidia0".to_owned(),
                permissions: "rw".to_owned(),
            }],
            ..ContainerAllocateResponse::default()
        };
        let responses = requests
            .into_iter()
            .map(|request| response(request.devices_ids));
        Ok(Response::new(AllocateResponse {
            container_responses: responses.collect(),
        }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Ok(Response::new(PreStartContainerResponse {}))
    }
}

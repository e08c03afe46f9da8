//! Allocate against a bare tonic echo on the same kind of socket: what the plugin itself costs.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::hint::black_box;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use futures::Stream;
use kubelet_api::device_plugin::v1beta1::device_plugin_client::DevicePluginClient;
use kubelet_api::device_plugin::v1beta1::device_plugin_server::{DevicePlugin, DevicePluginServer};
use kubelet_api::device_plugin::v1beta1::{
    AllocateRequest, AllocateResponse, ContainerAllocateRequest, ContainerAllocateResponse,
    DevicePluginOptions, Empty, ListAndWatchResponse, PreStartContainerRequest,
    PreStartContainerResponse, PreferredAllocationRequest, PreferredAllocationResponse,
};
use kubelet_api::uds;
use mig::{MigStrategy, NodeLayout};
use migpool_device_plugin::{Config, ControlNodes, Fleet, Health, Service, Table, resources};
use nvml::Nvml;
use nvml_sim::DriverRoot;
use partition::{Options, Partitioner};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

/// How many calls the printed percentiles are of.
const CALLS: usize = 20_000;

/// Gives back what it was given, in a response of the same shape; and with an answer, always that one, so that as many bytes
/// travel.
#[derive(Default)]
struct Echo {
    answer: Option<ContainerAllocateResponse>,
}

#[tonic::async_trait]
impl DevicePlugin for Echo {
    type ListAndWatchStream =
        Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let container_responses = request
            .into_inner()
            .container_requests
            .into_iter()
            .map(|request| {
                self.answer
                    .clone()
                    .unwrap_or_else(|| ContainerAllocateResponse {
                        envs: [("ECHO".to_owned(), request.devices_ids.join(","))].into(),
                        ..ContainerAllocateResponse::default()
                    })
            })
            .collect();
        Ok(Response::new(AllocateResponse {
            container_responses,
        }))
    }

    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Err(Status::unimplemented("only an echo"))
    }

    async fn list_and_watch(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        Err(Status::unimplemented("only an echo"))
    }

    async fn get_preferred_allocation(
        &self,
        _: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        Err(Status::unimplemented("only an echo"))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Err(Status::unimplemented("only an echo"))
    }
}

/// 56 slices on eight simulated A100s.
fn slices(folder: &Path, config: &Config) -> Table {
    let root = &folder.join("root");
    DriverRoot::create(root, &[(mig::board("A100-40GB").unwrap(), 8)]).unwrap();
    let nvml = Nvml::load(root).unwrap();
    let layout: NodeLayout = "1g.5gb".parse().unwrap();
    let partitioner = Partitioner::new(nvml.clone(), folder.join("partition"));
    assert!(
        partitioner
            .apply(&layout, Options::default(), &[])
            .unwrap()
            .is_done()
    );
    let mut fleet = Fleet::default();
    let inventory = nvml.inventory().unwrap();
    fleet.update(&inventory, |_| None);
    let advertised = resources(&fleet, &Health::default(), config).unwrap();
    let (resource, devices) = advertised.resources.into_iter().next().unwrap();
    let dev_root = config.dev_root(&config.driver_root(&inventory));
    Table::new(resource, devices).with_control_nodes(ControlNodes::present(dev_root))
}

fn serve<S: DevicePlugin>(runtime: &Runtime, socket: &Path, service: S) {
    let _guard = runtime.enter();
    let incoming = uds::listen(socket).unwrap();
    runtime.spawn(
        Server::builder()
            .add_service(DevicePluginServer::new(service))
            .serve_with_incoming(incoming),
    );
}

fn request(id: &str) -> AllocateRequest {
    let devices_ids = vec![id.to_owned()];
    AllocateRequest {
        container_requests: vec![ContainerAllocateRequest { devices_ids }],
    }
}

async fn call(client: &mut DevicePluginClient<Channel>, id: &str) -> AllocateResponse {
    client.allocate(request(id)).await.unwrap().into_inner()
}

async fn timed(client: &mut DevicePluginClient<Channel>, id: &str) -> Duration {
    let start = Instant::now();
    black_box(call(client, id).await);
    start.elapsed()
}

/// The two percentiles that are printed.
fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    (at(50), at(99))
}

fn allocate(criterion: &mut Criterion) {
    compare(criterion, "allocate", false);
    compare(criterion, "allocate with device specs", true);
}

/// The plugin beside an echo. By default both answer with one variable; with device specs the echo answers with what the
/// plugin does.
fn compare(criterion: &mut Criterion, name: &str, pass_device_specs: bool) {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        mig_strategy: MigStrategy::Single,
        pass_device_specs,
        ..Config::default()
    };
    let table = slices(folder.path(), &config);
    let ids: Vec<String> = table
        .devices()
        .iter()
        .map(|device| device.id.clone())
        .collect();
    let (_tables, watched) = watch::channel(Arc::new(table));
    let service = Service::new(Arc::new(config), watched, CancellationToken::new());

    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (plugin_socket, echo_socket) = (
        folder.path().join("plugin.sock"),
        folder.path().join("echo.sock"),
    );
    let connect = |socket: &Path| {
        let channel = runtime.block_on(uds::connect(socket)).unwrap();
        DevicePluginClient::new(channel)
    };
    serve(&runtime, &plugin_socket, service);
    let mut plugin = connect(&plugin_socket);
    let mut bare_echo = Echo::default();
    if pass_device_specs {
        bare_echo.answer = runtime
            .block_on(call(&mut plugin, &ids[0]))
            .container_responses
            .pop();
    }
    serve(&runtime, &echo_socket, bare_echo);
    let mut echo = connect(&echo_socket);

    let mut group = criterion.benchmark_group(name);
    group.bench_function("plugin", |bencher| {
        bencher.iter(|| runtime.block_on(call(&mut plugin, &ids[0])));
    });
    group.bench_function("echo", |bencher| {
        bencher.iter(|| runtime.block_on(call(&mut echo, &ids[0])));
    });
    group.finish();

    // Taken in turns, so that whatever else the machine does strikes both alike.
    let (mut ours, mut bare) = (Vec::with_capacity(CALLS), Vec::with_capacity(CALLS));
    runtime.block_on(async {
        for id in ids.iter().cycle().take(CALLS) {
            ours.push(timed(&mut plugin, id).await);
            bare.push(timed(&mut echo, id).await);
        }
    });
    let ((p50, p99), (echo_p50, echo_p99)) = (percentiles(ours), percentiles(bare));
    let ratio = |ours: Duration, bare: Duration| ours.as_secs_f64() / bare.as_secs_f64();
    println!(
        "{name}: p50 {p50:?}, echo p50 {echo_p50:?}, ratio {:.2}",
        ratio(p50, echo_p50)
    );
    println!(
        "{name}: p99 {p99:?}, echo p99 {echo_p99:?}, goal 1.3 times, ratio {:.2}",
        ratio(p99, echo_p99)
    );
}

criterion_group!(benches, allocate);
criterion_main!(benches);

//! The gRPC service of one resource.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use kubelet_api::device_plugin::v1beta1::device_plugin_server::DevicePlugin;
use kubelet_api::device_plugin::v1beta1::{
    AllocateRequest, AllocateResponse, ContainerPreferredAllocationResponse, DevicePluginOptions,
    Empty, ListAndWatchResponse, PreStartContainerRequest, PreStartContainerResponse,
    PreferredAllocationRequest, PreferredAllocationResponse,
};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::allocate::{AllocateError, allocate};
use crate::{Config, Table, preferred};

/// Serves one resource from its current [`Table`]; clones share it.
#[derive(Debug, Clone)]
pub struct Service {
    config: Arc<Config>,
    table: watch::Receiver<Arc<Table>>,
    stop: CancellationToken,
}

impl Service {
    /// A service of the resource whose table is on the channel. Its `ListAndWatch` streams end with `stop`.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        table: watch::Receiver<Arc<Table>>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            config,
            table,
            stop,
        }
    }

    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.borrow())
    }
}

/// What the plugin tells the kubelet that it can do.
pub(crate) const OPTIONS: DevicePluginOptions = DevicePluginOptions {
    pre_start_required: false,
    get_preferred_allocation_available: true,
};

impl From<AllocateError> for Status {
    fn from(error: AllocateError) -> Self {
        match &error {
            AllocateError::Unknown { .. } => Self::not_found(error.to_string()),
            AllocateError::Unhealthy { .. } => Self::failed_precondition(error.to_string()),
        }
    }
}

#[tonic::async_trait]
impl DevicePlugin for Service {
    type ListAndWatchStream =
        Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(OPTIONS))
    }

    async fn list_and_watch(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let lists = WatchStream::new(self.table.clone())
            .map(|table| Ok(table.to_api()))
            .take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(Box::pin(lists)))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let table = self.table();
        let container_responses = request
            .into_inner()
            .container_requests
            .into_iter()
            .map(|request| {
                let size = usize::try_from(request.allocation_size).unwrap_or(0);
                let device_ids = preferred(
                    &table,
                    &request.available_device_ids,
                    &request.must_include_device_ids,
                    size,
                );
                ContainerPreferredAllocationResponse { device_ids }
            })
            .collect();
        Ok(Response::new(PreferredAllocationResponse {
            container_responses,
        }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let table = self.table();
        let container_responses = request
            .into_inner()
            .container_requests
            .iter()
            .map(|request| {
                let devices = table.healthy(&request.devices_ids)?;
                Ok(allocate(&devices, &self.config, table.control_nodes()))
            })
            .collect::<Result<_, AllocateError>>()
            .inspect_err(|error| tracing::warn!(%error, "refused an allocation"))?;
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

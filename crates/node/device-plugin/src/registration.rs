//! Keeps one resource served and registered, through every restart of the kubelet.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kubelet_api::device_plugin::v1beta1 as api;
use kubelet_api::device_plugin::v1beta1::device_plugin_server::DevicePluginServer;
use kubelet_api::device_plugin::v1beta1::registration_client::RegistrationClient;
use kubelet_api::uds;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use uuid::Uuid;

use crate::kubelet::SocketId;
use crate::service::{OPTIONS, Service};
use crate::{Config, Registration, Resource, Table};

/// What the names of our sockets start with.
const PREFIX: &str = "migpool-";

/// How long the kubelet may take: it dials back within a registration, and waits up to ten seconds for us.
const PATIENCE: Duration = Duration::from_secs(15);

/// The first wait after a registration that failed; the kubelet makes its socket before it listens on it.
const FIRST_RETRY: Duration = Duration::from_millis(20);

/// The longest such wait.
const LAST_RETRY: Duration = Duration::from_secs(10);

/// How long open calls may take to end when a server is stopped.
const FAREWELL: Duration = Duration::from_secs(1);

/// One resource's server, and its place with the kubelet.
pub(crate) struct Registrar {
    pub(crate) resource: Resource,
    pub(crate) config: Arc<Config>,
    pub(crate) table: watch::Receiver<Arc<Table>>,
    pub(crate) kubelet: watch::Receiver<Option<SocketId>>,
    pub(crate) report: mpsc::UnboundedSender<(Resource, Registration)>,
    pub(crate) stop: CancellationToken,
}

/// Why a registration failed.
#[derive(Debug, thiserror::Error)]
enum RegistrationError {
    /// No socket for our server, or no kubelet behind its own.
    #[error(transparent)]
    Socket(#[from] uds::Error),
    /// The kubelet refused.
    #[error("the kubelet refused the registration: {}", .0.message())]
    Refused(#[from] Box<tonic::Status>),
    /// The kubelet did not answer.
    #[error("the kubelet did not answer the registration for {} seconds", PATIENCE.as_secs())]
    Silent,
    /// The server that was registered is gone.
    #[error("the resource's server ended by itself")]
    ServerEnded,
}

/// What ended a registration.
enum Ending {
    /// Another kubelet is there.
    KubeletRestarted,
    /// Our own server is gone; nobody asked it to.
    ServerEnded,
    /// Everything is being stopped.
    Stopped,
}

impl Registrar {
    /// Runs until stopped.
    pub(crate) async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        loop {
            let Some(kubelet) = self.kubelet_started(None).await else {
                return;
            };
            let error = match self.serve_and_register().await {
                Ok(serving) => {
                    tracing::info!(resource = %self.resource, "registered with the kubelet");
                    self.tell(Registration::Registered);
                    let since = Instant::now();
                    match self.attend(kubelet, serving).await {
                        Ending::Stopped => return,
                        Ending::KubeletRestarted => {
                            retry = FIRST_RETRY;
                            continue;
                        }
                        Ending::ServerEnded => {
                            if since.elapsed() > LAST_RETRY {
                                retry = FIRST_RETRY;
                            }
                            RegistrationError::ServerEnded
                        }
                    }
                }
                Err(error) => error,
            };
            if self.stop.is_cancelled() {
                return;
            }
            tracing::debug!(resource = %self.resource, %error, "registration failed");
            self.tell(Registration::Failed(error.to_string()));
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(retry) => retry = (retry * 2).min(LAST_RETRY),
                _ = self.kubelet.changed() => retry = FIRST_RETRY,
            }
        }
    }

    /// Stays with a registered server until something ends the registration. The server is gone then.
    async fn attend(&mut self, kubelet: SocketId, mut serving: Serving) -> Ending {
        let next = tokio::select! {
            next = self.kubelet_started(Some(kubelet)) => next,
            _ = &mut serving.task => {
                // Connections that it took outlive it.
                serving.stop.cancel();
                return Ending::ServerEnded;
            }
        };
        // Before the next registration: the kubelet takes the end of an old stream for the end of the resource,
        // whichever server it came from.
        serving.stop().await;
        match next {
            Some(_) => Ending::KubeletRestarted,
            None => Ending::Stopped,
        }
    }

    fn tell(&self, registration: Registration) {
        // Nobody listens any more when everything is being stopped.
        let _ = self.report.send((self.resource.clone(), registration));
    }

    /// Waits for a kubelet other than the `known` one; `None` when stopped meanwhile.
    async fn kubelet_started(&mut self, known: Option<SocketId>) -> Option<SocketId> {
        loop {
            let now = *self.kubelet.borrow_and_update();
            match now {
                Some(kubelet) if Some(kubelet) != known => return Some(kubelet),
                Some(_) => {}
                None => self.tell(Registration::WaitingForKubelet),
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                changed = self.kubelet.changed() => changed.ok()?,
            }
        }
    }

    /// Serves first and registers second: the kubelet dials back before it answers.
    async fn serve_and_register(&self) -> Result<Serving, RegistrationError> {
        let serving = self.serve()?;
        let registered = tokio::select! {
            () = self.stop.cancelled() => Err(RegistrationError::Silent),
            result = tokio::time::timeout(PATIENCE, self.register(&serving.endpoint)) => {
                result.unwrap_or(Err(RegistrationError::Silent))
            }
        };
        match registered {
            Ok(()) => Ok(serving),
            Err(error) => {
                serving.stop().await;
                Err(error)
            }
        }
    }

    fn serve(&self) -> Result<Serving, RegistrationError> {
        let endpoint = endpoint(&self.resource);
        let incoming = uds::listen(&self.config.kubelet_dir.join(&endpoint))?;
        let stop = CancellationToken::new();
        let service = Service::new(Arc::clone(&self.config), self.table.clone(), stop.clone());
        let server = Server::builder()
            .add_service(DevicePluginServer::new(service))
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        let resource = self.resource.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::warn!(%resource, %error, "the resource's server failed");
            }
        });
        Ok(Serving {
            endpoint,
            stop,
            task,
        })
    }

    async fn register(&self, endpoint: &str) -> Result<(), RegistrationError> {
        let channel = uds::connect(&self.config.kubelet_dir.join(api::KUBELET_SOCKET)).await?;
        let request = api::RegisterRequest {
            version: api::VERSION.to_owned(),
            endpoint: endpoint.to_owned(),
            resource_name: self.resource.to_string(),
            options: Some(OPTIONS),
        };
        RegistrationClient::new(channel)
            .register(request)
            .await
            .map_err(Box::new)?;
        Ok(())
    }
}

/// A server that runs.
struct Serving {
    endpoint: String,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Serving {
    async fn stop(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(FAREWELL, &mut self.task)
            .await
            .is_err()
        {
            self.task.abort();
        }
    }
}

/// A socket name that was never used before, and is short: the whole path must fit a socket address.
fn endpoint(resource: &Resource) -> String {
    let (unique, _, _, _) = Uuid::new_v4().as_fields();
    let short: String = resource.short().chars().take(24).collect();
    format!("{PREFIX}{short}-{unique:08x}.sock")
}

/// Removes the sockets that a killed plugin left behind; those that someone listens on stay.
pub(crate) fn remove_abandoned_sockets(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_ours = name.starts_with(PREFIX) && name.ends_with(".sock");
        if is_ours && uds::remove_abandoned(&entry.path()) {
            tracing::debug!(socket = %entry.path().display(), "removed an abandoned socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::watch_socket;
    use kubelet_api::device_plugin::v1beta1::registration_server::{
        Registration as RegistrationService, RegistrationServer,
    };

    #[test]
    fn socket_names_are_fresh_and_fit_a_socket_address() {
        let resource: Resource = "nvidia.com/mig-1c.3g.20gb.me.all-renamed-at-length"
            .parse()
            .unwrap();
        let (first, second) = (endpoint(&resource), endpoint(&resource));
        assert_ne!(first, second);
        assert!(
            Path::new(api::DEVICE_PLUGIN_DIR)
                .join(first)
                .as_os_str()
                .len()
                < 108
        );
    }

    #[test]
    fn only_abandoned_sockets_of_ours_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let bind =
            |name: &str| std::os::unix::net::UnixListener::bind(folder.path().join(name)).unwrap();
        let live = bind("migpool-gpu-1.sock");
        drop((bind("migpool-gpu-2.sock"), bind("other.sock")));
        remove_abandoned_sockets(folder.path());
        let left = |name: &str| folder.path().join(name).exists();
        assert!(left("migpool-gpu-1.sock") && left("other.sock") && !left("migpool-gpu-2.sock"));
        drop(live);
    }

    /// A kubelet that takes every registration.
    struct Taking;

    #[tonic::async_trait]
    impl RegistrationService for Taking {
        async fn register(
            &self,
            _: tonic::Request<api::RegisterRequest>,
        ) -> Result<tonic::Response<api::Empty>, tonic::Status> {
            Ok(tonic::Response::new(api::Empty {}))
        }
    }

    #[tokio::test]
    async fn a_server_that_ends_by_itself_ends_its_registration() {
        let folder = tempfile::tempdir().unwrap();
        let incoming = uds::listen(&folder.path().join(api::KUBELET_SOCKET)).unwrap();
        tokio::spawn(
            Server::builder()
                .add_service(RegistrationServer::new(Taking))
                .serve_with_incoming(incoming),
        );
        let stop = CancellationToken::new();
        let resource: Resource = "nvidia.com/gpu".parse().unwrap();
        let table = watch::Sender::new(Arc::new(Table::new(resource.clone(), Vec::new())));
        let config = Config {
            kubelet_dir: folder.path().to_path_buf(),
            ..Config::default()
        };
        let mut registrar = Registrar {
            resource,
            config: Arc::new(config),
            table: table.subscribe(),
            kubelet: watch_socket(folder.path().to_path_buf(), stop.clone()).unwrap(),
            report: mpsc::unbounded_channel().0,
            stop,
        };
        let kubelet = registrar.kubelet_started(None).await.unwrap();
        let serving = registrar.serve_and_register().await.unwrap();
        let socket = folder.path().join(&serving.endpoint);
        assert!(socket.exists());
        serving.task.abort();
        let ending = registrar.attend(kubelet, serving).await;
        assert!(matches!(ending, Ending::ServerEnded));
        assert!(!socket.exists());
    }
}

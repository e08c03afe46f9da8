//! The control plane of one machine: [`up`].

use std::fs::{self, Permissions};
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use notify::{RecursiveMode, Watcher};
use pool::Controller;
use tokio::net::UnixListener;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::backend::LocalBackend;
use crate::engine::{self, Engine, Settings};
use crate::node::NodeSettings;
use crate::pod::runner::PodSettings;
use crate::state_folder::{StateFolder, StateFolderError};
use crate::store::{Database, DatabaseError};

/// What [`up`] needs to know.
#[derive(Debug, Clone)]
pub struct UpConfig {
    /// The folder that holds everything; created (mode 0700) where it is missing.
    pub state_dir: PathBuf,
    /// Nodes of GPU sizes use this machine's own GPUs (driver root `/`) and no simulated driver.
    pub real_gpus: bool,
    /// The migpool program: run as `agent` for each node, as `pod-shim` for each container, and
    /// linked into pods as `nvidia-smi`. Usually the current executable.
    pub agent_program: PathBuf,
    /// Told `true` once the API socket answers.
    pub ready: Option<tokio::sync::watch::Sender<bool>>,
}

/// Why [`up`] could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The state folder cannot be used; the sentence says why and what to do.
    #[error(transparent)]
    StateFolder(#[from] StateFolderError),
    /// The start broke off.
    #[error("the start broke off: {0}")]
    Interrupted(String),
    /// The store does not work.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The API's socket cannot be made or failed.
    #[error("the API cannot answer on {}: {source}", socket.display())]
    Socket {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder of the pods' states cannot be watched.
    #[error("{} cannot be watched: {source}", folder.display())]
    Watch {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: notify::Error,
    },
    /// What answers beside the socket could not start, or failed.
    #[error("{0}")]
    Beside(#[source] BesideError),
}

/// Why a front that answers beside the socket could not start, or failed.
pub type BesideError = Box<dyn std::error::Error + Send + Sync>;

/// A control plane that runs: its backend, and what keeps it.
#[derive(Debug)]
pub struct Running {
    backend: LocalBackend,
    engine: tokio::task::JoinHandle<()>,
    folder: StateFolder,
    _watcher: notify::RecommendedWatcher,
}

impl Running {
    /// Opens the state folder and takes over what is kept in it. Nodes and pods are kept from here
    /// on until `cancel`; nothing reconciles pools and nothing answers yet.
    ///
    /// # Errors
    /// As [`up`].
    pub async fn start(config: &UpConfig, cancel: CancellationToken) -> Result<Self, UpError> {
        let state_dir = config.state_dir.clone();
        let opened = tokio::task::spawn_blocking(move || StateFolder::open(&state_dir)).await;
        let folder = opened.map_err(|error| UpError::Interrupted(error.to_string()))??;
        let database = Database::open(&folder.database())?;
        let (touched, _) = broadcast::channel(1024);
        let watcher = watch_names(&folder.status(), touched.clone())?;
        let settings = Settings {
            nodes: NodeSettings {
                nodes: folder.nodes(),
                real_gpus: config.real_gpus,
                agent_program: config.agent_program.clone(),
            },
            pods: PodSettings {
                pods: folder.pods(),
                status: folder.status(),
                program: config.agent_program.clone(),
                touched,
            },
        };
        let (outbox, inbox, changes, node_changes) = engine::channel();
        let engine = Engine::start(database.clone(), settings, outbox.clone(), changes).await?;
        let engine = tokio::spawn(engine.run(inbox, cancel));
        let backend = LocalBackend {
            database,
            engine: outbox,
            changes: node_changes,
        };
        Ok(Self {
            backend,
            engine,
            folder,
            _watcher: watcher,
        })
    }

    /// The store, the nodes and the pods.
    #[must_use]
    pub fn backend(&self) -> LocalBackend {
        self.backend.clone()
    }

    /// Waits until the agents have ended, once `cancel` was cancelled, and gives the folder back.
    pub async fn ended(self) {
        if let Err(error) = self.engine.await {
            tracing::error!(%error, "the engine broke");
        }
        drop(self.folder);
    }
}

/// Runs the control plane until `cancel` is cancelled. Pods go on running when it ends, however it
/// ends; agents stop. The next `up` on the same folder adopts the pods and starts the agents.
///
/// # Errors
/// When the state folder cannot be used, or the store or the socket fails.
pub async fn up(config: UpConfig, cancel: CancellationToken) -> Result<(), UpError> {
    up_beside(config, cancel, |_, cancel| async move {
        cancel.cancelled().await;
        Ok(())
    })
    .await
}

/// Runs the control plane as [`up`] does, and beside its socket whatever `beside` makes of the same
/// backend. That is asked for once the state folder is this process's own, and has to end when the
/// token that it is given is cancelled; when it ends before, everything does.
///
/// # Errors
/// As [`up`], and [`UpError::Beside`] with the error of what `beside` made.
pub async fn up_beside<F, B>(
    config: UpConfig,
    cancel: CancellationToken,
    beside: F,
) -> Result<(), UpError>
where
    F: FnOnce(LocalBackend, CancellationToken) -> B,
    B: Future<Output = Result<(), BesideError>>,
{
    // A failure in here ends everything, and nothing else of the caller's.
    let cancel = cancel.child_token();
    let running = Running::start(&config, cancel.clone()).await?;
    let socket = running.folder.api_socket();
    let on_socket = async {
        let served = serve(&running, &socket, config.ready.as_ref(), cancel.clone()).await;
        cancel.cancel();
        served
    };
    let beside = async {
        let served = beside(running.backend(), cancel.clone()).await;
        cancel.cancel();
        served
    };
    let (on_socket, beside) = tokio::join!(on_socket, beside);
    if let Err(error) = fs::remove_file(&socket) {
        tracing::debug!(%error, "the API's socket was gone already");
    }
    running.ended().await;
    on_socket.map_err(|source| UpError::Socket { socket, source })?;
    beside.map_err(UpError::Beside)
}

async fn serve(
    running: &Running,
    socket: &Path,
    ready: Option<&tokio::sync::watch::Sender<bool>>,
    cancel: CancellationToken,
) -> io::Result<()> {
    // This process has the folder's lock, so a socket that is there is a dead one's.
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    let controller = Controller::new(running.backend(), running.backend());
    let controller = tokio::spawn(controller.run(cancel.clone().cancelled_owned()));
    let deployer = arm::Deployer::new(std::sync::Arc::new(running.backend()));
    let deployer = tokio::spawn(deployer.run(cancel.clone().cancelled_owned()));
    if let Some(ready) = ready {
        ready.send_replace(true);
    }
    let served = arm::serve(
        listener,
        std::sync::Arc::new(running.backend()),
        arm::Account::local(),
        cancel.clone(),
    )
    .await;
    cancel.cancel();
    if let Err(error) = controller.await {
        tracing::error!(%error, "the controller broke");
    }
    if let Err(error) = deployer.await {
        tracing::error!(%error, "what carries deployments out broke");
    }
    served
}

fn watch_names(
    folder: &Path,
    touched: broadcast::Sender<String>,
) -> Result<notify::RecommendedWatcher, UpError> {
    let failed = |source| UpError::Watch {
        folder: folder.to_owned(),
        source,
    };
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let event = match event {
            Ok(event) if !event.need_rescan() => event,
            // Something was missed, and nobody knows whose it was.
            _ => {
                let _ = touched.send(String::new());
                return;
            }
        };
        if event.kind.is_access() {
            return;
        }
        for path in event.paths {
            if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
                // Nobody listens while no pod runs.
                let _ = touched.send(name.to_owned());
            }
        }
    })
    .map_err(failed)?;
    watcher
        .watch(folder, RecursiveMode::NonRecursive)
        .map_err(failed)?;
    Ok(watcher)
}

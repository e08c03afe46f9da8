//! The agent as a whole.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use device_plugin::{Health, PluginStatus};
use nvml::Inventory;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::inventories::nothing;
use crate::observation::Observation;
use crate::owner::{Owner, OwnerConfig, Published, Pulse};
use crate::{AgentConfig, DiscoveryStatus, Phase, Status, discover, http, lifeline, status_file};

/// How long after a status that could not be written it is tried again.
const STATUS_RETRY: Duration = Duration::from_secs(1);

/// Why the agent gave up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address for health and metrics cannot be used.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// The device plugin gave up.
    #[error(transparent)]
    Plugin(#[from] device_plugin::Error),
    /// The labels could not be written.
    #[error(transparent)]
    Labels(#[from] discovery::FileError),
    /// The labels could not be printed.
    #[error("cannot write the labels to standard output: {0}")]
    Stdout(#[source] io::Error),
    /// There is a driver, it does not work, and it was asked for only once.
    #[error("{0}")]
    Driver(String),
    /// The status file cannot be written.
    #[error("cannot write the status file {}: {source}", path.display())]
    StatusFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The thread that holds NVML ended by itself, which is an error in migpool.
    #[error("the thread that watches the GPUs ended unexpectedly; this is a bug in migpool")]
    OwnerDied,
}

/// The receiving ends of everything that is published.
#[derive(Clone)]
struct Watched {
    inventory: watch::Receiver<Arc<Inventory>>,
    /// What of it the device plugin is to advertise.
    advertised: watch::Receiver<Arc<Inventory>>,
    health: watch::Receiver<Arc<Health>>,
    observation: watch::Receiver<Observation>,
}

/// Which part ended.
enum Ended {
    Plugin,
    Discovery,
}

/// Runs the parts that are asked for until `cancel`, or the lifeline ends, or nothing is left to do.
///
/// # Errors
/// When a part cannot do what it was asked for and trying again would not help.
pub async fn run(config: AgentConfig, cancel: CancellationToken) -> Result<(), Error> {
    let stop = cancel.child_token();
    // Whatever ends this function ends every part.
    let _guard = stop.clone().drop_guard();
    if config.lifeline {
        lifeline::watch(stop.clone()).map_err(Error::Thread)?;
    }
    let listener = match config.listen {
        None => None,
        Some(address) => Some(
            TcpListener::bind(address)
                .await
                .map_err(|source| Error::Listen { address, source })?,
        ),
    };

    let pulse = Arc::new(Pulse::new());
    let (watched, _owner) = start_owner(&config, Arc::clone(&pulse))?;
    let (plugin_status, plugin_watch) = watch::channel(PluginStatus::default());
    let (discovery_status, discovery_watch) = watch::channel(DiscoveryStatus::default());
    let mut parts = JoinSet::new();
    let (has_plugin, has_discovery) = (config.plugin.is_some(), config.discovery.is_some());
    let oneshot = config
        .discovery
        .as_ref()
        .is_some_and(|discovery| discovery.oneshot);
    if let Some(mut plugin) = config.plugin {
        // A layout that is being worked on may break the strategy's rules for a while.
        plugin.fail_on_init_error &= config.partition.is_none();
        let (watched, stop) = (watched.clone(), stop.clone());
        parts.spawn(async move {
            run_plugin(plugin, watched, plugin_status, stop)
                .await
                .map(|()| Ended::Plugin)
        });
    }
    if let Some(discovery) = config.discovery {
        let (watched, stop) = (watched.clone(), stop.clone());
        let run = discover::run(
            discovery,
            watched.inventory,
            watched.observation,
            discovery_status,
            stop,
        );
        parts.spawn(async move { run.await.map(|()| Ended::Discovery) });
    }

    let mut reporter = Reporter {
        node: config.node_name,
        file: config.status_file,
        watched,
        plugin: has_plugin.then_some(plugin_watch),
        discovery: has_discovery.then_some(discovery_watch),
        status: watch::Sender::new(Arc::default()),
        unsaved: false,
    };
    reporter.publish()?;
    if let Some(listener) = listener {
        tokio::spawn(http::serve(
            listener,
            reporter.status.subscribe(),
            pulse,
            stop.clone(),
        ));
    }

    let alone = oneshot && !has_plugin && config.partition.is_none();
    let result = loop {
        tokio::select! {
            () = stop.cancelled() => break Ok(()),
            changed = reporter.changed() => {
                if !changed {
                    break Err(Error::OwnerDied);
                }
                let again = reporter.unsaved;
                if let Err(error) = reporter.publish()
                    && !again
                {
                    tracing::error!(%error, "the status is not up to date");
                }
            }
            Some(ended) = parts.join_next() => match ended {
                Ok(Ok(Ended::Discovery)) if alone => break Ok(()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => break Err(error),
                // Only a panic ends up here, and was reported where it happened.
                Err(_) => break Err(Error::OwnerDied),
            },
        }
    };
    stop.cancel();
    let mut result = result;
    while let Some(ended) = parts.join_next().await {
        if let (Ok(()), Ok(Err(error))) = (&result, ended) {
            result = Err(error);
        }
    }
    reporter.farewell(result.as_ref().err());
    result
}

/// Starts the thread that holds NVML. It ends some time after the returned sender is dropped.
fn start_owner(
    config: &AgentConfig,
    pulse: Arc<Pulse>,
) -> Result<(Watched, mpsc::Sender<()>), Error> {
    let inventory = watch::Sender::new(Arc::new(nothing()));
    let advertised = watch::Sender::new(Arc::new(nothing()));
    let health = watch::Sender::new(Arc::new(Health::default()));
    let observation = watch::Sender::new(Observation::default());
    let watched = Watched {
        inventory: inventory.subscribe(),
        advertised: advertised.subscribe(),
        health: health.subscribe(),
        observation: observation.subscribe(),
    };
    let owner_config = OwnerConfig {
        driver_root: config.driver_root.clone(),
        partition: config.partition.clone(),
        health_checks: config
            .plugin
            .as_ref()
            .map(|plugin| plugin.health_checks.clone())
            .unwrap_or_default(),
        recovery: config.recovery,
        look_interval: config.look_interval,
    };
    let published = Published {
        inventory,
        advertised,
        health,
        observation,
        pulse,
    };
    let (stop, stopped) = mpsc::channel();
    let owner = Owner::new(owner_config, published, stopped);
    thread::Builder::new()
        .name("nvml".to_owned())
        .spawn(move || owner.run())
        .map_err(Error::Thread)?;
    Ok((watched, stop))
}

/// The device plugin, from when there is something to say: it never registers half-initialised.
async fn run_plugin(
    config: device_plugin::Config,
    mut watched: Watched,
    status: watch::Sender<PluginStatus>,
    stop: CancellationToken,
) -> Result<(), Error> {
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        seen = watched.observation.wait_for(|now| now.seen) => {
            seen.map_err(|_| Error::OwnerDied)?;
        }
    }
    device_plugin::run(config, watched.advertised, watched.health, status, stop).await?;
    Ok(())
}

/// Puts the status together.
struct Reporter {
    node: Option<String>,
    file: Option<PathBuf>,
    watched: Watched,
    plugin: Option<watch::Receiver<PluginStatus>>,
    discovery: Option<watch::Receiver<DiscoveryStatus>>,
    status: watch::Sender<Arc<Status>>,
    /// The status is not in the file yet.
    unsaved: bool,
}

impl Reporter {
    /// Waits until something is new, or is to be written again; `false` when the owner is gone.
    async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.watched.inventory.changed() => changed.is_ok(),
            changed = self.watched.health.changed() => changed.is_ok(),
            changed = self.watched.observation.changed() => changed.is_ok(),
            () = changed(self.plugin.as_mut()) => true,
            () = changed(self.discovery.as_mut()) => true,
            () = tokio::time::sleep(STATUS_RETRY), if self.unsaved => true,
        }
    }

    fn publish(&mut self) -> Result<(), Error> {
        let status = Status::new(
            self.node.clone(),
            self.watched.observation.borrow_and_update().clone(),
            self.watched.inventory.borrow_and_update().clone(),
            &self.watched.health.borrow_and_update().clone(),
            self.plugin
                .as_mut()
                .map(|plugin| plugin.borrow_and_update().clone()),
            self.discovery
                .as_mut()
                .map(|discovery| discovery.borrow_and_update().clone()),
        );
        self.set(status)
    }

    fn set(&mut self, status: Status) -> Result<(), Error> {
        if **self.status.borrow() == status && !self.unsaved {
            return Ok(());
        }
        if self.status.borrow().message != status.message {
            tracing::info!(phase = status.phase.as_str(), "{}", status.message);
        }
        let status = Arc::new(status);
        self.status.send_replace(Arc::clone(&status));
        let Some(path) = &self.file else {
            return Ok(());
        };
        let written = status_file::write(path, &status);
        self.unsaved = written.is_err();
        written.map_err(|source| Error::StatusFile {
            path: path.clone(),
            source,
        })
    }

    /// Leaves a status that does not claim that the agent still runs.
    fn farewell(&mut self, error: Option<&Error>) {
        let last = Arc::clone(&self.status.borrow());
        let status = Status {
            phase: Phase::Stopped,
            ready: false,
            message: error.map_or_else(|| "stopped".to_owned(), ToString::to_string),
            ..Status::clone(&last)
        };
        if let Err(error) = self.set(status) {
            tracing::error!(%error, "the status is not up to date");
        }
    }
}

/// Waits for a change of a part's status; for ever, when the part does not run (any more).
async fn changed<T>(part: Option<&mut watch::Receiver<T>>) {
    if let Some(part) = part
        && part.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

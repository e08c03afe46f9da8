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

use crate::connection::Connection;
use crate::evictions::{self, EvictionStatus};
use crate::inventories::nothing;
use crate::observation::{Driver, Observation};
use crate::owner::{Fence, Owner, OwnerConfig, Published, Pulse};
use crate::status::Parts;
use crate::{
    AgentConfig, ClusterStatus, DiscoveryStatus, Drain, LabelsError, Phase, Status, discover, http,
    lifeline, node_status, status_file, wanted,
};

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
    /// The labels could not be written, and were asked for only once, or not be removed.
    #[error(transparent)]
    Labels(#[from] LabelsError),
    /// There is no driver, or it does not work, and the agent was told to give up then.
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
    Discovery,
    Other,
}

/// Runs the parts that are asked for until `cancel`, or the lifeline ends, or nothing is left to do.
///
/// # Errors
/// When a part cannot do what it was asked for and trying again would not help.
pub async fn run(config: AgentConfig, cancel: CancellationToken) -> Result<(), Error> {
    let (_, no_complaints) = watch::channel(None);
    run_with(config, no_complaints, cancel).await
}

/// [`run`], with the configuration judged by somebody else: while there is a complaint the agent is not ready.
pub(crate) async fn run_with(
    config: AgentConfig,
    complaints: watch::Receiver<Option<String>>,
    cancel: CancellationToken,
) -> Result<(), Error> {
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
    let connection = match &config.cluster {
        Some(cluster) => Some(Connection::open(cluster.clone(), stop.clone()).await),
        None => None,
    };
    let for_status = connection.clone().filter(|_| config.node_status);

    let pulse = Arc::new(Pulse::new());
    let fence = watch::Sender::new(Fence::Down);
    let kept_off = for_status.is_some().then(|| fence.subscribe());
    let (watched, _owner) = start_owner(&config, kept_off, Arc::clone(&pulse), &stop)?;
    let mut parts = JoinSet::new();
    let oneshot = config.discovery.as_ref().is_some_and(|it| it.oneshot);
    let alone = oneshot && config.plugin.is_none() && config.partition.is_none();
    let evicts = config
        .partition
        .as_ref()
        .is_some_and(|partition| partition.drain == Drain::Evict);

    let plugin = config.plugin.map(|mut plugin| {
        // A layout that is being worked on may break the strategy's rules for a while.
        plugin.fail_on_init_error &= config.partition.is_none();
        let (status, receiver) = watch::channel(PluginStatus::default());
        let run = run_plugin(plugin, watched.clone(), status, stop.clone());
        parts.spawn(async move { run.await.map(|()| Ended::Other) });
        receiver
    });
    let discovery = config.discovery.map(|discovery| {
        let (status, receiver) = watch::channel(DiscoveryStatus::default());
        let run = discover::run(
            discovery,
            connection.clone(),
            watched.inventory.clone(),
            watched.observation.clone(),
            status,
            stop.clone(),
        );
        parts.spawn(async move { run.await.map(|()| Ended::Discovery) });
        receiver
    });
    let evictions = connection.filter(|_| evicts).map(|connection| {
        let (status, receiver) = watch::channel(Vec::new());
        let run = evictions::run(
            connection,
            watched.observation.clone(),
            status,
            stop.clone(),
        );
        parts.spawn(async move {
            run.await;
            Ok(Ended::Other)
        });
        receiver
    });

    let status = watch::Sender::new(Arc::default());
    let cluster = for_status.map(|connection| {
        let (published, receiver) = watch::channel(ClusterStatus::default());
        let run = node_status::run(
            connection,
            status.subscribe(),
            published,
            fence,
            stop.clone(),
        );
        parts.spawn(async move {
            run.await;
            Ok(Ended::Other)
        });
        receiver
    });
    let mut reporter = Reporter {
        node: config.node_name,
        file: config.status_file,
        watched,
        complaints,
        plugin,
        discovery,
        cluster,
        evictions,
        status,
        unsaved: false,
    };
    reporter.publish()?;
    let server = listener.map(|listener| {
        let status = reporter.status.subscribe();
        tokio::spawn(http::serve(listener, status, pulse, stop.clone()))
    });

    // Only what holds at the start counts.
    let mut must_work = config.fail_on_init_error;
    let result = loop {
        if must_work {
            match &reporter.watched.observation.borrow().driver {
                Driver::Missing(reason) | Driver::Failed(reason) => {
                    break Err(Error::Driver(reason.clone()));
                }
                Driver::Loaded => must_work = false,
                Driver::Unknown => {}
            }
        }
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
    if let Some(server) = server {
        // Its address is free when this returns, whoever still holds a connection open.
        server.abort();
        let _ = server.await;
    }
    reporter.farewell(result.as_ref().err());
    result
}

/// Starts the thread that holds NVML. It ends some time after the returned sender is dropped.
fn start_owner(
    config: &AgentConfig,
    fence: Option<watch::Receiver<Fence>>,
    pulse: Arc<Pulse>,
    stop: &CancellationToken,
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
        driver: config.driver.clone(),
        partition: config.partition.clone().map(|partition| {
            let wanted = wanted::follow(partition.layout.clone(), stop.clone());
            (partition, wanted)
        }),
        fence,
        sysfs: config.sysfs.clone(),
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
    /// Why the configuration cannot be followed.
    complaints: watch::Receiver<Option<String>>,
    plugin: Option<watch::Receiver<PluginStatus>>,
    discovery: Option<watch::Receiver<DiscoveryStatus>>,
    cluster: Option<watch::Receiver<ClusterStatus>>,
    evictions: Option<watch::Receiver<Vec<EvictionStatus>>>,
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
            () = changed(Some(&mut self.complaints)) => true,
            () = changed(self.plugin.as_mut()) => true,
            () = changed(self.discovery.as_mut()) => true,
            () = changed(self.cluster.as_mut()) => true,
            () = changed(self.evictions.as_mut()) => true,
            () = tokio::time::sleep(STATUS_RETRY), if self.unsaved => true,
        }
    }

    fn publish(&mut self) -> Result<(), Error> {
        let status = Status::new(Parts {
            node: self.node.clone(),
            config: self.complaints.borrow_and_update().clone(),
            observation: self.watched.observation.borrow_and_update().clone(),
            inventory: self.watched.inventory.borrow_and_update().clone(),
            health: self.watched.health.borrow_and_update().clone(),
            plugin: latest(self.plugin.as_mut()),
            discovery: latest(self.discovery.as_mut()),
            cluster: latest(self.cluster.as_mut()),
            evictions: latest(self.evictions.as_mut()).unwrap_or_default(),
        });
        self.set(status)
    }

    fn set(&mut self, status: Status) -> Result<(), Error> {
        if **self.status.borrow() == status && !self.unsaved {
            return Ok(());
        }
        if self.status.borrow().message != status.message {
            log(&status);
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

/// Says how it stands now: the one line for it, whoever found it out.
fn log(status: &Status) {
    let phase = status.phase.as_str();
    if status.phase == Phase::Degraded {
        tracing::error!(phase, ready = status.ready, "{}", status.message);
    } else {
        tracing::info!(phase, ready = status.ready, "{}", status.message);
    }
}

/// A part's status, if it runs.
fn latest<T: Clone>(part: Option<&mut watch::Receiver<T>>) -> Option<T> {
    part.map(|part| part.borrow_and_update().clone())
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

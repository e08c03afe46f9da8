//! Starts the agent's parts, each over the channels of those that it reads.

use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};
use std::thread;

use device_plugin::{Health, PluginStatus, Resource};
use nvml::Inventory;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::connection::Connection;
use crate::inventories::nothing;
use crate::observation::Observation;
use crate::owner::{Fence, Owner, OwnerConfig, Published};
use crate::pulse::Pulse;
use crate::reporter::Reporter;
use crate::wish::Wish;
use crate::{
    AgentConfig, ClusterStatus, DiscoveryStatus, Error, GpuNodeLink, Status, counted, discover,
    evictions, node_status, wanted,
};

/// The receiving ends of everything that is published.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) inventory: watch::Receiver<Arc<Inventory>>,
    /// What of it the device plugin is to advertise.
    pub(crate) advertised: watch::Receiver<Arc<Inventory>>,
    pub(crate) health: watch::Receiver<Arc<Health>>,
    pub(crate) observation: watch::Receiver<Observation>,
}

/// Which part ended.
pub(crate) enum Ended {
    Discovery,
    Other,
}

/// The parts that run.
pub(crate) struct Parts {
    pub(crate) running: JoinSet<Result<Ended, Error>>,
    /// The thread that holds NVML ends some time after this is dropped.
    _owner: mpsc::Sender<()>,
}

/// What outlives the parts: they may be started anew with another configuration.
#[derive(Clone)]
pub(crate) struct Surroundings {
    /// Why the configuration cannot be followed.
    pub(crate) complaints: watch::Receiver<Option<String>>,
    /// The connection to the API server, where there is anything to say to it.
    pub(crate) connection: Option<Connection>,
    /// What the node's `GpuNode` wants.
    pub(crate) wishes: Option<watch::Receiver<Option<Wish>>>,
    /// How it stands with it.
    pub(crate) gpu_node: Option<watch::Receiver<GpuNodeLink>>,
    /// The agent's status, for whoever reads it.
    pub(crate) status: watch::Sender<Arc<Status>>,
}

/// Starts whatever is asked for, and who puts its status together.
pub(crate) fn start(
    config: AgentConfig,
    around: Surroundings,
    pulse: &Arc<Pulse>,
    stop: &CancellationToken,
) -> Result<(Parts, Reporter), Error> {
    let connection = around.connection.filter(|_| config.needs_cluster());
    let for_status = connection.clone().filter(|_| config.node_status);
    let for_evictions = connection.clone().filter(|_| config.evicts());

    let fence = watch::Sender::new(Fence::Down);
    let kept_off = for_status.is_some().then(|| fence.subscribe());
    let (watched, owner) = start_owner(&config, around.wishes, kept_off, Arc::clone(pulse), stop)?;
    let mut running = JoinSet::new();
    let plugin = config.plugin.map(|mut plugin| {
        // A layout that is being worked on may break the strategy's rules for a while.
        plugin.fail_on_init_error &= config.partition.is_none();
        let (status, receiver) = watch::channel(PluginStatus::default());
        let (sender, counted) = watch::channel(Arc::default());
        if let Some(connection) = for_status.clone() {
            let run = counted::follow(connection, sender, stop.clone());
            running.spawn(async move {
                run.await;
                Ok(Ended::Other)
            });
        }
        let run = run_plugin(plugin, watched.clone(), counted, status, stop.clone());
        running.spawn(async move { run.await.map(|()| Ended::Other) });
        receiver
    });
    let discovery = config.discovery.map(|discovery| {
        let (status, receiver) = watch::channel(DiscoveryStatus::default());
        let (inventory, observation) = (watched.inventory.clone(), watched.observation.clone());
        let stop = stop.clone();
        let run = discover::run(discovery, connection, inventory, observation, status, stop);
        running.spawn(async move { run.await.map(|()| Ended::Discovery) });
        receiver
    });
    let evictions = for_evictions.map(|connection| {
        let (status, receiver) = watch::channel(Vec::new());
        let run = evictions::run(
            connection,
            watched.observation.clone(),
            status,
            stop.clone(),
        );
        running.spawn(async move {
            run.await;
            Ok(Ended::Other)
        });
        receiver
    });
    let status = around.status;
    // What was so before holds no more.
    status.send_replace(Arc::default());
    let cluster = for_status.map(|connection| {
        let (published, receiver) = watch::channel(ClusterStatus::default());
        let run = node_status::run(
            connection,
            status.subscribe(),
            published,
            fence,
            stop.clone(),
        );
        running.spawn(async move {
            run.await;
            Ok(Ended::Other)
        });
        receiver
    });
    let reporter = Reporter {
        node: config.node_name,
        file: config.status_file,
        watched,
        complaints: around.complaints,
        plugin,
        discovery,
        cluster,
        gpu_node: around.gpu_node,
        evictions,
        status,
        unsaved: false,
    };
    let parts = Parts {
        running,
        _owner: owner,
    };
    Ok((parts, reporter))
}

/// Starts the thread that holds NVML. It ends some time after the returned sender is dropped.
fn start_owner(
    config: &AgentConfig,
    wishes: Option<watch::Receiver<Option<Wish>>>,
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
            let wanted = wanted::follow(partition.layout.clone(), wishes, stop.clone());
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
    counted: watch::Receiver<Arc<BTreeSet<Resource>>>,
    status: watch::Sender<PluginStatus>,
    stop: CancellationToken,
) -> Result<(), Error> {
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        seen = watched.observation.wait_for(|now| now.seen) => {
            seen.map_err(|_| Error::OwnerDied)?;
        }
    }
    let Watched {
        advertised, health, ..
    } = watched;
    device_plugin::run(config, advertised, health, counted, status, stop).await?;
    Ok(())
}

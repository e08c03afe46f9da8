//! The plugin as a whole: one server per resource, all fed from the same inventory.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kubelet_api::device_plugin::v1beta1::KUBELET_SOCKET;
use nvml::Inventory;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::advertise::unchecked;
use crate::cdi::{Driver, Keeper};
use crate::kubelet::{SocketId, watch_socket};
use crate::registration::{Registrar, remove_abandoned_sockets};
use crate::{
    Advertisement, Config, ControlNodes, Fleet, Health, PluginStatus, Registration, Resource,
    StrategyError, Table, fleet, resources,
};

/// How often device nodes and the CDI specification are looked after: a file that was deleted or could not be written,
/// and device nodes that appear late, such as that of unified memory, are told by nobody.
const NODE_CHECK: Duration = Duration::from_secs(5);

/// Why the plugin gave up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubelet's folder cannot be watched.
    #[error("cannot watch {} for the kubelet's socket: {source}", folder.display())]
    Watch {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: notify::Error,
    },
    /// Nobody watches for the kubelet's socket any more.
    #[error("the watch of {} for the kubelet's socket ended by itself; start again", folder.display())]
    WatchEnded {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder that was mounted for the kubelet's socket is deleted. Whatever lies at its path now can only be seen by
    /// mounting it anew.
    #[error(
        "the kubelet's folder {} was deleted, and what is mounted here is what is left of it: start again, to see the one \
         that has taken its place",
        folder.display()
    )]
    FolderDeleted {
        /// The folder.
        folder: PathBuf,
    },
    /// The node breaks the strategy's rules from the start, and the plugin was told to fail then.
    #[error("{0} (set fail-on-init-error to false to wait for it to change)")]
    Strategy(#[from] StrategyError),
}

/// Advertises the inventory to the kubelet until `cancel`, again whenever the inventory, the health of its devices
/// or the kubelet changes.
///
/// A resource that vanishes stays registered with an empty list, so that the kubelet does not go on counting its
/// devices. A node that comes to break the strategy's rules, be it only while somebody partitions it, keeps the
/// devices that were advertised and are still there, for the sake of those who use them; nothing new is advertised
/// until the rules are kept again, and the status says why.
///
/// Where containers get CDI names, the specification is kept as it has to be; a device that it does not describe,
/// because it cannot be written or a device node is missing, is unhealthy meanwhile. The specification goes with the
/// plugin when that ends.
///
/// A kubelet that is not there, nor even its folder, is waited for.
///
/// `counted` is what the node is said to have. What of it is [ours](Config::is_ours) and not there is registered with an
/// empty list, too. For the kubelet says only once, in one update of the node, that a plugin is gone for good; when that
/// update fails (the API server is restarted, say), the node can give what the plugin had until a plugin says otherwise.
///
/// # Errors
/// When the kubelet's folder cannot be watched, or was deleted under its mount, or the watch ends, or at the start when the node breaks the strategy's rules and
/// [`Config::fail_on_init_error`] is set.
pub async fn run(
    config: Config,
    inventory: watch::Receiver<Arc<Inventory>>,
    health: watch::Receiver<Arc<Health>>,
    counted: watch::Receiver<Arc<BTreeSet<Resource>>>,
    status: watch::Sender<PluginStatus>,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let stop = cancel.child_token();
    // Whatever ends this function ends the servers.
    let _guard = stop.clone().drop_guard();
    remove_abandoned_sockets(&config.kubelet_dir);
    let kubelet =
        watch_socket(config.kubelet_dir.clone(), stop.clone()).map_err(|source| Error::Watch {
            folder: config.kubelet_dir.clone(),
            source,
        })?;
    let watched = Watched {
        inventory,
        health,
        counted,
    };
    serve(config, kubelet, watched, status, stop).await
}

/// What the plugin goes by.
struct Watched {
    inventory: watch::Receiver<Arc<Inventory>>,
    health: watch::Receiver<Arc<Health>>,
    counted: watch::Receiver<Arc<BTreeSet<Resource>>>,
}

impl Watched {
    /// Waits for a change; false when the inventory or the health is told no more.
    async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.inventory.changed() => changed.is_ok(),
            changed = self.health.changed() => changed.is_ok(),
            Ok(()) = self.counted.changed() => true,
        }
    }

    fn now(&mut self) -> (Arc<Inventory>, Arc<Health>, Arc<BTreeSet<Resource>>) {
        (
            self.inventory.borrow_and_update().clone(),
            self.health.borrow_and_update().clone(),
            self.counted.borrow_and_update().clone(),
        )
    }
}

/// [`run`], with the kubelet's socket watched by somebody else.
async fn serve(
    config: Config,
    mut kubelet: watch::Receiver<Option<SocketId>>,
    mut watched: Watched,
    status: watch::Sender<PluginStatus>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let (report, mut reports) = mpsc::unbounded_channel();
    let config = Arc::new(config);
    let mut manager = Manager {
        config: Arc::clone(&config),
        fleet: Fleet::default(),
        driver: None,
        control: ControlNodes::default(),
        specification: Keeper::new(config),
        folder_missing: false,
        tables: BTreeMap::new(),
        registrars: JoinSet::new(),
        kubelet: kubelet.clone(),
        report,
        stop: stop.clone(),
        status,
    };
    let mut node_check = tokio::time::interval(NODE_CHECK);
    node_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once.
    node_check.tick().await;

    let (inventory, health, counted) = watched.now();
    if let Err(error) = manager.update(&inventory, &health, &counted).await
        && manager.config.fail_on_init_error
    {
        return Err(error.into());
    }
    let mut end = Ok(());
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            goes_on = watched.changed() => if !goes_on { break },
            _ = node_check.tick(), if manager.config.needs_device_nodes() || manager.folder_missing => {}
            Some((resource, registration)) = reports.recv() => {
                manager.registered(&resource, registration);
                continue;
            }
            changed = kubelet.changed() => {
                if changed.is_err() {
                    // The watch ends with `stop`, too.
                    if !stop.is_cancelled() {
                        end = Err(Error::WatchEnded { folder: manager.config.kubelet_dir.clone() });
                    }
                    break;
                }
            }
        }
        if is_deleted(&manager.config.kubelet_dir) {
            let folder = manager.config.kubelet_dir.clone();
            end = Err(Error::FolderDeleted { folder });
            break;
        }
        let (inventory, health, counted) = watched.now();
        // The status says what is wrong; the next change may right it.
        let _ = manager.update(&inventory, &health, &counted).await;
    }
    stop.cancel();
    while manager.registrars.join_next().await.is_some() {}
    manager.specification.end().await;
    end
}

struct Manager {
    config: Arc<Config>,
    fleet: Fleet,
    /// The last driver that there was: the files of one that is away for a moment are where they were.
    driver: Option<Driver>,
    control: ControlNodes,
    specification: Keeper,
    /// Whether the kubelet's folder was missing at the last look.
    folder_missing: bool,
    tables: BTreeMap<Resource, watch::Sender<Arc<Table>>>,
    registrars: JoinSet<()>,
    kubelet: watch::Receiver<Option<SocketId>>,
    report: mpsc::UnboundedSender<(Resource, Registration)>,
    stop: CancellationToken,
    status: watch::Sender<PluginStatus>,
}

impl Manager {
    /// Takes in what the node looks like now.
    async fn update(
        &mut self,
        inventory: &Arc<Inventory>,
        health: &Health,
        counted: &BTreeSet<Resource>,
    ) -> Result<(), StrategyError> {
        let sysfs = self.config.sysfs.clone();
        self.fleet
            .update(inventory, |pci_bus_id| fleet::numa_node(&sysfs, pci_bus_id));
        if !inventory.driver_root.as_os_str().is_empty() {
            self.driver = Some(Driver {
                root: self.config.driver_root(inventory),
                version: inventory.driver_version.clone(),
            });
        }
        let result = resources(&self.fleet, health, &self.config);
        let (mut advertisement, mut error) = match &result {
            Ok(advertisement) => (advertisement.clone(), None),
            Err(error) => (
                self.still_there(unchecked(&self.fleet, health, &self.config)),
                Some(error.to_string()),
            ),
        };
        if let Some(driver) = &self.driver
            && self.config.needs_device_nodes()
        {
            self.control = ControlNodes::present(self.config.dev_root(&driver.root));
        }
        // The specification first: a container may be given a device as soon as it is advertised.
        let driver = self.driver.as_ref();
        let kept = self
            .specification
            .keep(&mut advertisement, driver, &self.control);
        if let Some(reason) = kept.await {
            error.get_or_insert(reason);
        }
        let Advertisement {
            mut resources,
            warnings,
        } = advertisement;
        for vanished in self.tables.keys() {
            resources.entry(vanished.clone()).or_default();
        }
        // Where there are no GPUs to be seen, another plugin may serve what there is.
        if !self.fleet.gpus().is_empty() {
            for left in counted.iter().filter(|it| self.config.is_ours(it)) {
                resources.entry(left.clone()).or_insert_with(|| {
                    tracing::info!(
                        resource = %left, "the node is said to have what is not there, telling the kubelet that there is none"
                    );
                    Vec::new()
                });
            }
        }
        for (resource, devices) in resources {
            self.advertise(Table::new(resource, devices).with_control_nodes(self.control.clone()));
        }
        // Only what has something to advertise misses the kubelet.
        let anything = self
            .tables
            .values()
            .any(|table| !table.borrow().devices().is_empty());
        self.folder_missing = anything && !self.config.kubelet_dir.is_dir();
        if self.folder_missing {
            error.get_or_insert(format!(
                "the kubelet's folder {} is not there: nothing can be advertised until it is; kubelet-socket says where it is \
                 when the kubelet has another root",
                self.config.kubelet_dir.display()
            ));
        }
        self.publish(inventory, error, warnings);
        result.map(|_| ())
    }

    /// What of an advertisement was advertised already.
    fn still_there(&self, mut advertisement: Advertisement) -> Advertisement {
        for (resource, devices) in &mut advertisement.resources {
            let table = self.tables.get(resource).map(|table| table.borrow());
            devices.retain(|device| table.as_ref().is_some_and(|t| t.get(&device.id).is_some()));
        }
        advertisement
            .resources
            .retain(|resource, _| self.tables.contains_key(resource));
        advertisement
    }

    fn advertise(&mut self, table: Table) {
        let resource = table.resource().clone();
        match self.tables.entry(resource.clone()) {
            Entry::Occupied(known) => {
                known.get().send_if_modified(|now| {
                    let changed = **now != table;
                    if changed {
                        tracing::info!(
                            %resource, devices = table.devices().len(), "the resource's devices changed"
                        );
                        *now = Arc::new(table);
                    }
                    changed
                });
            }
            Entry::Vacant(new) => {
                let (sender, receiver) = watch::channel(Arc::new(table));
                new.insert(sender);
                let registrar = Registrar {
                    resource,
                    config: Arc::clone(&self.config),
                    table: receiver,
                    kubelet: self.kubelet.clone(),
                    report: self.report.clone(),
                    stop: self.stop.clone(),
                };
                self.registrars.spawn(registrar.run());
            }
        }
    }

    fn publish(&self, inventory: &Arc<Inventory>, error: Option<String>, warnings: Vec<String>) {
        self.status.send_if_modified(|status| {
            let mut now = PluginStatus {
                kubelet_socket: self.config.kubelet_dir.join(KUBELET_SOCKET),
                inventory: Some(Arc::clone(inventory)),
                error,
                warnings,
                ..status.clone()
            };
            for (resource, table) in &self.tables {
                now.resources
                    .entry(resource.clone())
                    .or_default()
                    .count(&table.borrow());
            }
            let changed = now != *status;
            if changed
                && now.error != status.error
                && let Some(error) = &now.error
            {
                tracing::error!(%error, "cannot advertise this node's devices");
            }
            for warning in now
                .warnings
                .iter()
                .filter(|warning| !status.warnings.contains(warning))
            {
                tracing::warn!("{warning}");
            }
            *status = now;
            changed
        });
    }

    fn registered(&self, resource: &Resource, registration: Registration) {
        self.status.send_if_modified(|status| {
            let Some(entry) = status.resources.get_mut(resource) else {
                return false;
            };
            let changed = entry.registration != registration;
            if changed && let Registration::Failed(reason) = &registration {
                tracing::warn!(%resource, %reason, "not registered with the kubelet, trying again");
            }
            entry.registration = registration;
            changed
        });
    }
}

/// Whether a folder is there by a mount alone: nobody has a name for it any more.
fn is_deleted(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|metadata| metadata.nlink() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{a100, inventory};

    #[test]
    fn a_deleted_folder_is_told_from_one_that_is_there_and_from_none() {
        let folder = tempfile::tempdir().unwrap();
        let kept = fs::File::open(folder.path()).unwrap();
        // As a mount does, this leads to the folder whatever becomes of its name.
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&kept));
        assert!(!is_deleted(Path::new(&path)));
        let name = folder.path().to_owned();
        folder.close().unwrap();
        assert!(is_deleted(Path::new(&path)));
        assert!(!is_deleted(&name));
    }

    #[tokio::test]
    async fn a_watch_of_the_kubelet_that_ends_by_itself_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            kubelet_dir: folder.path().to_path_buf(),
            ..Config::default()
        };
        let inventory = watch::Sender::new(Arc::new(inventory(vec![a100(0, 0)])));
        let health = watch::Sender::new(Arc::default());
        let watched = Watched {
            inventory: inventory.subscribe(),
            health: health.subscribe(),
            counted: watch::channel(Arc::default()).1,
        };
        let (gone, kubelet) = watch::channel(None);
        drop(gone);
        let end = serve(
            config,
            kubelet,
            watched,
            watch::Sender::new(PluginStatus::default()),
            CancellationToken::new(),
        );
        assert!(matches!(end.await, Err(Error::WatchEnded { .. })));
    }
}

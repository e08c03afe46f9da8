//! The plugin as a whole: one server per resource, all fed from the same inventory.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;

use nvml::Inventory;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::advertise::unchecked;
use crate::allocate::ControlNodes;
use crate::kubelet::{SocketId, watch_socket};
use crate::registration::{Registrar, remove_abandoned_sockets};
use crate::{
    Advertisement, Config, Fleet, Health, PluginStatus, Registration, Resource, StrategyError,
    Table, cdi, fleet, resources,
};

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
/// # Errors
/// When the kubelet's folder cannot be watched, or at the start when the node breaks the strategy's rules and
/// [`Config::fail_on_init_error`] is set.
pub async fn run(
    config: Config,
    mut inventory: watch::Receiver<Arc<Inventory>>,
    mut health: watch::Receiver<Arc<Health>>,
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
    let (report, mut reports) = mpsc::unbounded_channel();
    let mut manager = Manager {
        config: Arc::new(config),
        fleet: Fleet::default(),
        tables: BTreeMap::new(),
        specification: None,
        registrars: JoinSet::new(),
        kubelet,
        report,
        stop: stop.clone(),
        status,
    };

    let first = (
        inventory.borrow_and_update().clone(),
        health.borrow_and_update().clone(),
    );
    if let Err(error) = manager.update(&first.0, &first.1)
        && manager.config.fail_on_init_error
    {
        return Err(error.into());
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            changed = inventory.changed() => if changed.is_err() { break },
            changed = health.changed() => if changed.is_err() { break },
            Some((resource, registration)) = reports.recv() => {
                manager.registered(&resource, registration);
                continue;
            }
        }
        let now = (
            inventory.borrow_and_update().clone(),
            health.borrow_and_update().clone(),
        );
        // The status says what is wrong; the next change may right it.
        let _ = manager.update(&now.0, &now.1);
    }
    stop.cancel();
    while manager.registrars.join_next().await.is_some() {}
    Ok(())
}

struct Manager {
    config: Arc<Config>,
    fleet: Fleet,
    tables: BTreeMap<Resource, watch::Sender<Arc<Table>>>,
    /// The CDI specification as it was written last.
    specification: Option<cdi::Specification>,
    registrars: JoinSet<()>,
    kubelet: watch::Receiver<Option<SocketId>>,
    report: mpsc::UnboundedSender<(Resource, Registration)>,
    stop: CancellationToken,
    status: watch::Sender<PluginStatus>,
}

impl Manager {
    /// Takes in what the node looks like now.
    fn update(&mut self, inventory: &Inventory, health: &Health) -> Result<(), StrategyError> {
        let sysfs = self.config.sysfs.clone();
        self.fleet
            .update(inventory, |pci_bus_id| fleet::numa_node(&sysfs, pci_bus_id));
        let result = resources(&self.fleet, health, &self.config);
        let (advertisement, mut error) = match &result {
            Ok(advertisement) => (advertisement.clone(), None),
            Err(error) => (
                self.still_there(unchecked(&self.fleet, health, &self.config)),
                Some(error.to_string()),
            ),
        };
        // The specification first: a container may be given a device as soon as it is advertised.
        if let Err(failed) = self.write_specification(&advertisement) {
            error.get_or_insert(failed.to_string());
        }
        let Advertisement {
            mut resources,
            warnings,
        } = advertisement;
        for vanished in self.tables.keys() {
            resources.entry(vanished.clone()).or_default();
        }
        for (resource, devices) in resources {
            self.advertise(Table::new(resource, devices));
        }
        self.publish(error, warnings);
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

    fn write_specification(&mut self, advertisement: &Advertisement) -> Result<(), cdi::CdiError> {
        if !self.config.uses_cdi() {
            return Ok(());
        }
        let control = ControlNodes::present(&self.config.dev_root);
        let devices = advertisement.resources.values().flatten();
        let specification = cdi::Specification::new(devices, &self.config, &control);
        if self.specification.as_ref() != Some(&specification) {
            specification.write(&self.config.cdi_spec_dir)?;
            self.specification = Some(specification);
        }
        Ok(())
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

    fn publish(&self, error: Option<String>, warnings: Vec<String>) {
        self.status.send_if_modified(|status| {
            let mut now = PluginStatus {
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

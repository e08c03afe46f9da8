//! Keeps the specification of what is advertised.

use std::sync::Arc;

use crate::cdi::{Found, Scan, Specification, file};
use crate::{Advertisement, Config, ControlNodes, DeviceHealth, NodeFolder};

/// The driver of a node.
#[derive(Debug, Clone)]
pub(crate) struct Driver {
    /// Its root.
    pub(crate) root: NodeFolder,
    /// Its version, by which its files are known.
    pub(crate) version: String,
}

/// The one who writes the specification.
#[derive(Debug)]
pub(crate) struct Keeper {
    config: Arc<Config>,
    scan: Scan,
}

impl Keeper {
    /// Nothing is written yet.
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self { config, scan: None }
    }

    /// Sees to the specification of what is advertised, if containers get CDI names at all. Where that fails the answer is
    /// why. Devices that no specification describes become unhealthy: no container could be started with them.
    pub(crate) async fn keep(
        &mut self,
        advertisement: &mut Advertisement,
        driver: Option<&Driver>,
        control: &ControlNodes,
    ) -> Option<String> {
        if !self.config.uses_cdi() {
            return None;
        }
        let devices: Vec<_> = advertisement
            .resources
            .values()
            .flatten()
            .cloned()
            .collect();
        let config = Arc::clone(&self.config);
        let driver = driver.cloned().filter(|_| !devices.is_empty());
        let control = control.clone();
        let mut scan = self.scan.take();
        // It waits for the disk, and this thread answers the kubelet.
        let kept = tokio::task::spawn_blocking(move || {
            let found = driver.map_or_else(Found::default, |driver| {
                Found::look(&devices, driver.root, &driver.version, control, &mut scan)
            });
            let (specification, mut unusable) = Specification::new(&devices, &config, &found);
            let folder = &config.cdi_spec_dir;
            let ensured = specification.ensure(folder);
            let reason = ensured.err().map(|error| error.to_string());
            if let Some(reason) = &reason {
                let missing = specification.missing(folder).into_iter();
                unusable.extend(missing.map(|name| (name, reason.clone())));
            }
            (scan, reason, unusable, found.files.warnings.clone())
        });
        // It can only be cancelled together with the runtime.
        let (scan, reason, unusable, warnings) = kept.await.ok()?;
        self.scan = scan;
        advertisement.warnings.extend(warnings);
        for device in advertisement.resources.values_mut().flatten() {
            let name = device.visible_id(self.config.device_id_strategy);
            if device.is_healthy()
                && let Some(reason) = unusable.get(name)
            {
                device.health = DeviceHealth::Unhealthy(reason.clone());
            }
        }
        reason
    }

    /// Takes the specification away: where nobody keeps it any more, nobody shall go by it.
    pub(crate) async fn end(self) {
        if !self.config.uses_cdi() {
            return;
        }
        let folder = self.config.cdi_spec_dir.clone();
        let removed = tokio::task::spawn_blocking(move || file::remove(&folder)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%error, "the CDI specification stays behind");
        }
    }
}

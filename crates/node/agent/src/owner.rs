//! The one thread that holds NVML.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use device_plugin::{Health, HealthChecks, Monitor, Recovery};
use nvml::{CudaVersion, Event, EventSet, GpuUuid, Inventory, Nvml};
use tokio::sync::watch;

use crate::PartitionConfig;
use crate::observation::{Driver, Observation};
use crate::partitioning::Partitioning;

/// The first wait before the driver is looked for again, and the longest.
const RELOAD: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// The pause after waiting for events failed, so that a driver that always fails is not asked without end.
const AFTER_FAILED_WAIT: Duration = Duration::from_secs(1);

/// How many events are taken in before a look at the GPUs, however many more there are.
const MOST_EVENTS: usize = 256;

/// What the owner is told.
#[derive(Debug, Clone)]
pub(crate) struct OwnerConfig {
    pub(crate) driver_root: PathBuf,
    pub(crate) partition: Option<PartitionConfig>,
    pub(crate) health_checks: HealthChecks,
    pub(crate) recovery: Recovery,
    pub(crate) look_interval: Duration,
}

/// What the owner publishes, the sending ends.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) inventory: watch::Sender<Arc<Inventory>>,
    pub(crate) health: watch::Sender<Arc<Health>>,
    pub(crate) observation: watch::Sender<Observation>,
    pub(crate) pulse: Arc<Pulse>,
}

/// Tells whether the owner is alive: a driver that hangs hangs it.
#[derive(Debug)]
pub(crate) struct Pulse {
    start: Instant,
    last: AtomicU64,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    fn beat(&self) {
        self.last
            .store(self.start.elapsed().as_secs(), Ordering::Relaxed);
    }

    /// How long ago the last sign of life was.
    pub(crate) fn age(&self) -> Duration {
        let last = Duration::from_secs(self.last.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(last)
    }
}

/// A node without GPUs, which is what there is until there is more.
pub(crate) fn nothing() -> Inventory {
    Inventory {
        driver_version: String::new(),
        nvml_version: String::new(),
        cuda_version: CudaVersion::default(),
        gpus: Vec::new(),
        failed: Vec::new(),
    }
}

/// The thread's state. It runs until the other end of `stop` is dropped; in a wait for driver events it notices
/// that only when the wait is over.
pub(crate) struct Owner {
    config: OwnerConfig,
    published: Published,
    stop: Receiver<()>,
    monitor: Monitor,
}

/// Why a session with the driver ended.
enum End {
    Stopped,
    Driver(nvml::Error),
}

impl Owner {
    pub(crate) fn new(config: OwnerConfig, published: Published, stop: Receiver<()>) -> Self {
        let monitor = Monitor::new(config.health_checks.clone(), config.recovery);
        Self {
            config,
            published,
            stop,
            monitor,
        }
    }

    /// Loads the driver, and again whenever it is lost or was not there.
    pub(crate) fn run(mut self) {
        let (first, longest) = RELOAD;
        let mut wait = first;
        loop {
            let begun = Instant::now();
            let end = match Nvml::load(&self.config.driver_root) {
                Ok(nvml) => self.session(&nvml),
                Err(error) => End::Driver(error),
            };
            let End::Driver(error) = end else { return };
            self.no_driver(&error);
            // A session that lasted was no failed attempt.
            wait = if begun.elapsed() > longest {
                first
            } else {
                wait
            };
            if self.sleep(wait) {
                return;
            }
            wait = (wait * 2).min(longest);
        }
    }

    /// Waits; `true` when stopped meanwhile.
    fn sleep(&self, duration: Duration) -> bool {
        self.stop.recv_timeout(duration) != Err(RecvTimeoutError::Timeout)
    }

    /// Everything between loading the driver and losing it.
    fn session(&mut self, nvml: &Nvml) -> End {
        let mut partitioning = self
            .config
            .partition
            .clone()
            .map(|config| Partitioning::new(nvml.clone(), config));
        let mut events = Events::default();
        let mut look = true;
        loop {
            self.published.pulse.beat();
            if self.sleep(Duration::ZERO) {
                return End::Stopped;
            }
            if let Some(partitioning) = partitioning.as_mut().filter(|p| p.is_due()) {
                self.observe(|now| {
                    now.driver = Driver::Loaded;
                    now.partition = Some(partitioning.status());
                });
                partitioning.attempt();
                look = true;
            }
            if look && let Err(error) = self.look(nvml, &mut events, partitioning.as_mut()) {
                return End::Driver(error);
            }
            look = match events.wait(self.patience(partitioning.as_ref()), &self.stop) {
                Waited::Nothing => true,
                Waited::Event(event) => self.take_in(&event) | self.take_in_more(&mut events),
                Waited::Failed(error) => {
                    tracing::warn!(%error, "waiting for driver events failed");
                    events = Events::default();
                    if self.sleep(AFTER_FAILED_WAIT) {
                        return End::Stopped;
                    }
                    true
                }
            };
        }
    }

    /// How long to wait for an event: until something is due.
    fn patience(&self, partitioning: Option<&Partitioning>) -> Duration {
        let now = Instant::now();
        [self.monitor.due(), partitioning.and_then(Partitioning::due)]
            .into_iter()
            .flatten()
            .map(|due| due.saturating_duration_since(now))
            .fold(self.config.look_interval, Duration::min)
            // Whole milliseconds are waited for; one more, lest it is a little too early.
            + Duration::from_millis(1)
    }

    /// Takes in an event; `true` when it is worth a look at the GPUs.
    fn take_in(&mut self, event: &Event) -> bool {
        match event {
            Event::Xid {
                gpu,
                xid,
                gpu_instance,
                compute_instance,
            } => {
                tracing::warn!(%gpu, xid, ?gpu_instance, ?compute_instance, "the driver reports an XID");
            }
            Event::EccDouble {
                gpu,
                gpu_instance,
                compute_instance,
            } => {
                tracing::warn!(%gpu, ?gpu_instance, ?compute_instance, "uncorrectable memory error");
            }
            Event::MigConfigChange { gpu } => tracing::debug!(%gpu, "MIG configuration changed"),
            Event::EccSingle { .. } | Event::Other { .. } => return false,
        }
        self.monitor.observe(event, Instant::now());
        self.publish_health();
        true
    }

    /// Takes in what came at the same time: one look is enough for all of it.
    fn take_in_more(&mut self, events: &mut Events) -> bool {
        let mut look = false;
        for _ in 0..MOST_EVENTS {
            let Waited::Event(event) = events.wait(Duration::ZERO, &self.stop) else {
                break;
            };
            look |= self.take_in(&event);
        }
        look
    }

    /// Takes a snapshot and publishes what is new in it.
    fn look(
        &mut self,
        nvml: &Nvml,
        events: &mut Events,
        partitioning: Option<&mut Partitioning>,
    ) -> Result<(), nvml::Error> {
        // Events first, snapshot second: what changes in between is an event then.
        events.begin(nvml);
        let mut inventory = nvml.inventory()?;
        if events.follow(nvml, &inventory) {
            inventory = nvml.inventory()?;
        }
        self.monitor.look(&inventory, Instant::now());
        self.publish_health();
        let partition = partitioning.map(|partitioning| partitioning.compare(&inventory));
        self.published.inventory.send_if_modified(|now| {
            let changed = **now != inventory;
            if changed {
                tracing::info!(
                    gpus = inventory.gpus.len(),
                    mig_devices = inventory.mig_devices().count(),
                    failed = inventory.failed.len(),
                    "the GPUs"
                );
                *now = Arc::new(inventory);
            }
            changed
        });
        self.observe(|now| {
            now.driver = Driver::Loaded;
            now.partition = partition;
            now.seen = true;
        });
        Ok(())
    }

    fn publish_health(&self) {
        let health = self.monitor.health();
        self.published.health.send_if_modified(|now| {
            let changed = **now != health;
            if changed {
                *now = Arc::new(health);
            }
            changed
        });
    }

    fn no_driver(&self, error: &nvml::Error) {
        let reason = error.to_string();
        let driver = if error.is_no_driver() {
            Driver::Missing(reason)
        } else {
            Driver::Failed(reason)
        };
        let changed = self.observe(|now| now.driver = driver);
        if changed {
            tracing::warn!(%error, "no driver; looking for it again from time to time");
        }
        self.published.inventory.send_if_modified(|now| {
            let changed = **now != nothing();
            *now = Arc::new(nothing());
            changed
        });
        self.published.pulse.beat();
    }

    /// Changes the observation; `true` when that made a difference.
    fn observe(&self, change: impl FnOnce(&mut Observation)) -> bool {
        self.published.observation.send_if_modified(|now| {
            let mut next = now.clone();
            change(&mut next);
            let changed = next != *now;
            *now = next;
            changed
        })
    }
}

/// The driver's events, as far as it has any.
#[derive(Default)]
struct Events {
    set: Option<EventSet>,
    /// The GPUs that the set was made for, each with its MIG mode: a GPU that was reset or came back has to be
    /// watched anew.
    watched: Option<Vec<(GpuUuid, bool)>>,
}

enum Waited {
    Event(Event),
    Nothing,
    Failed(nvml::Error),
}

impl Events {
    /// Begins to watch, the first time.
    fn begin(&mut self, nvml: &Nvml) {
        if self.watched.is_none() {
            self.watched = Some(Vec::new());
            self.watch(nvml);
        }
    }

    fn watch(&mut self, nvml: &Nvml) {
        self.set = match nvml.event_set() {
            Ok(set) => {
                for gpu in set.unwatched() {
                    tracing::warn!(
                        gpu = gpu.index,
                        reason = gpu.reason,
                        "events of the GPU are not seen"
                    );
                }
                Some(set)
            }
            Err(error) => {
                tracing::warn!(%error, "the driver has no events; looking from time to time instead");
                None
            }
        };
    }

    /// Watches anew if the GPUs are others than before; `true` when they were.
    fn follow(&mut self, nvml: &Nvml, inventory: &Inventory) -> bool {
        let gpus: Vec<_> = inventory
            .gpus
            .iter()
            .map(|gpu| (gpu.uuid.clone(), gpu.mig_enabled()))
            .collect();
        let before = self.watched.replace(gpus);
        let begun = before.as_ref().is_some_and(|before| !before.is_empty());
        let changed = begun && before != self.watched;
        if changed {
            self.watch(nvml);
        }
        changed
    }

    fn wait(&mut self, patience: Duration, stop: &Receiver<()>) -> Waited {
        let Some(set) = &mut self.set else {
            // The result does not matter: being stopped is noticed next.
            let _ = stop.recv_timeout(patience);
            return Waited::Nothing;
        };
        match set.wait(patience) {
            Ok(Some(event)) => Waited::Event(event),
            Ok(None) => Waited::Nothing,
            Err(error) => Waited::Failed(error),
        }
    }
}

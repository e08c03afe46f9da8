//! The one thread that holds NVML.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use device_plugin::{Fault, Health, HealthChecks, Monitor, Recovery};
use nvml::{Event, GpuUuid, Inventory, Nvml, ReturnCode};
use tokio::sync::watch;

use crate::driver::DriverError;
use crate::events::{Events, Waited};
use crate::inventories::{nothing, unanswering, with_known_uuids, without};
use crate::observation::{Driver, Observation};
use crate::partitioning::{Decision, Partitioning};
use crate::pulse::Pulse;
use crate::schedule::{Backoff, Next, Quiet, Schedule};
use crate::wanted::Wanted;
use crate::{DriverSearch, PartitionConfig, hardware};

/// The first wait before the driver is looked for again, and the longest.
const RELOAD: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// The pauses before a snapshot that failed as a whole is tried again: most such failures pass.
const SNAPSHOT_RETRIES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(100)];

/// The longest wait for the node's taint before the GPUs are changed all the same.
const FENCE_PATIENCE: Duration = Duration::from_secs(3);

/// The longest wait for driver events while something else may tell the owner what to do: nothing interrupts it.
const ATTENTION: Duration = Duration::from_secs(1);

/// Whether the node's taint keeps pods away while the GPUs are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fence {
    /// It does not (yet).
    Down,
    /// It does.
    Up,
    /// It cannot be put up now: there is nothing to wait for.
    Unavailable,
}

/// What the owner is told.
#[derive(Debug, Clone)]
pub(crate) struct OwnerConfig {
    pub(crate) driver: DriverSearch,
    /// How to partition, and the layout that is wanted.
    pub(crate) partition: Option<(PartitionConfig, watch::Receiver<Wanted>)>,
    /// Waited for before the GPUs are changed, if there is one.
    pub(crate) fence: Option<watch::Receiver<Fence>>,
    /// The system's device tree.
    pub(crate) sysfs: PathBuf,
    pub(crate) health_checks: HealthChecks,
    pub(crate) recovery: Recovery,
    pub(crate) look_interval: Duration,
}

/// What the owner publishes, the sending ends.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) inventory: watch::Sender<Arc<Inventory>>,
    /// The inventory without GPUs that are not to be advertised (yet).
    pub(crate) advertised: watch::Sender<Arc<Inventory>>,
    pub(crate) health: watch::Sender<Arc<Health>>,
    pub(crate) observation: watch::Sender<Observation>,
    pub(crate) pulse: Arc<Pulse>,
}

/// The thread's state. It runs until the other end of `stop` is dropped; in a wait for driver events it notices
/// that only when the wait is over.
pub(crate) struct Owner {
    config: OwnerConfig,
    published: Published,
    stop: Receiver<()>,
    monitor: Monitor,
    partitioning: Option<Partitioning>,
    schedule: Schedule,
    /// A driver was loaded since the agent started.
    had_driver: bool,
    /// XIDs that were logged a moment ago.
    logged: Quiet<(GpuUuid, u64)>,
}

/// Why a session with the driver ended.
enum End {
    Stopped,
    /// GPUs do not answer, and might in another session.
    Reopen,
    Driver(DriverError),
}

impl Owner {
    pub(crate) fn new(config: OwnerConfig, published: Published, stop: Receiver<()>) -> Self {
        let reload = Backoff::new(RELOAD.0, RELOAD.1);
        Self {
            monitor: Monitor::new(config.health_checks.clone(), config.recovery),
            partitioning: config
                .partition
                .clone()
                .map(|(config, wanted)| Partitioning::new(config, wanted)),
            had_driver: false,
            schedule: Schedule::new(config.look_interval, config.recovery, reload),
            logged: Quiet::new(),
            config,
            published,
            stop,
        }
    }

    /// Loads the driver, and again whenever it is lost or was not there.
    pub(crate) fn run(mut self) {
        let wanted = self.partitioning.as_ref().map(Partitioning::status);
        observe(&self.published.observation, |now| now.partition = wanted);
        let (first, longest) = RELOAD;
        let mut waits = Backoff::new(first, longest);
        loop {
            let begun = Instant::now();
            let end = match self.config.driver.load() {
                Ok(nvml) => {
                    self.had_driver = true;
                    self.session(&nvml)
                }
                Err(error) => End::Driver(error),
            };
            let error = match end {
                End::Stopped => return,
                End::Reopen => {
                    tracing::debug!("loading the driver anew: GPUs do not answer");
                    continue;
                }
                End::Driver(error) => error,
            };
            self.no_driver(&error);
            // A session that lasted was no failed attempt.
            if begun.elapsed() > longest {
                waits.reset();
            }
            if self.rest(waits.next()) {
                return;
            }
        }
    }

    /// Waits while there is no driver, and takes in what is wanted meanwhile; `true` when stopped.
    fn rest(&mut self, duration: Duration) -> bool {
        let Some(partitioning) = &mut self.partitioning else {
            return self.sleep(duration);
        };
        let mut left = duration;
        loop {
            if partitioning.follow() {
                let wanted = Some(partitioning.status());
                observe(&self.published.observation, |now| now.partition = wanted);
            }
            let step = left.min(ATTENTION);
            if step.is_zero() {
                return false;
            }
            left -= step;
            if self.stop.recv_timeout(step) != Err(RecvTimeoutError::Timeout) {
                return true;
            }
        }
    }

    /// Waits; `true` when stopped meanwhile.
    fn sleep(&self, duration: Duration) -> bool {
        self.stop.recv_timeout(duration) != Err(RecvTimeoutError::Timeout)
    }

    /// Everything between loading the driver and losing it.
    fn session(&mut self, nvml: &Nvml) -> End {
        let mut events = Events::new();
        self.schedule.begin();
        if let Some(partitioning) = &mut self.partitioning {
            partitioning.interrupted();
        }
        loop {
            self.published.pulse.beat();
            if self.sleep(Duration::ZERO) {
                return End::Stopped;
            }
            self.follow();
            let layout = self.partitioning.as_ref().and_then(Partitioning::due);
            match self
                .schedule
                .next(self.monitor.due(), layout, Instant::now())
            {
                Next::Reopen => {
                    self.take_in(&events.end());
                    return End::Reopen;
                }
                Next::Partition => self.partition(nvml),
                Next::Look => {
                    if let Err(error) = self.look(nvml, &mut events) {
                        self.take_in(&events.end());
                        return End::Driver(error.into());
                    }
                }
                Next::Wait(patience) => {
                    let patience = if self.partitioning.is_some() {
                        patience.min(ATTENTION)
                    } else {
                        patience
                    };
                    let failed = match events.wait(patience, &self.stop) {
                        Waited::Nothing => None,
                        Waited::Failed(error) => Some(error),
                        Waited::Event(event) => {
                            // One look is enough for all that came at the same time.
                            let (mut all, failed) = events.more(&self.stop);
                            all.insert(0, event);
                            self.take_in(&all);
                            failed
                        }
                    };
                    if let Some(error) = failed {
                        let left = events.renew(nvml, &error, Instant::now());
                        self.take_in(&left);
                        self.schedule.want_look();
                    }
                }
            }
        }
    }

    /// Takes in what layout is wanted by now.
    fn follow(&mut self) {
        let Some(partitioning) = &mut self.partitioning else {
            return;
        };
        let before = partitioning.status().layout;
        if partitioning.follow() {
            let layout = partitioning.status().layout;
            if layout != before {
                tracing::info!(layout, "another layout is wanted");
            }
            self.publish_partition();
            // What was held back for the layout that was wanted before may be given out again.
            self.schedule.look_at_once();
        }
    }

    fn partition(&mut self, nvml: &Nvml) {
        let advertised = self.published.observation.borrow().seen;
        let Some(partitioning) = &mut self.partitioning else {
            return;
        };
        let decision = partitioning.decide(nvml, advertised);
        self.publish_partition();
        self.publish_health();
        if decision == Decision::Later {
            return;
        }
        if decision == Decision::Change {
            self.wait_for_fence();
        }
        if let Some(partitioning) = &mut self.partitioning {
            partitioning.apply(nvml);
        }
        self.publish_partition();
        self.schedule.look_at_once();
    }

    fn publish_partition(&self) {
        let status = self.partitioning.as_ref().map(Partitioning::status);
        observe(&self.published.observation, |now| {
            now.driver = Driver::Loaded;
            now.partition = status;
        });
    }

    /// Waits until the node's taint keeps pods away, which is a courtesy: slices are not given away meanwhile anyhow.
    fn wait_for_fence(&self) {
        let Some(fence) = &self.config.fence else {
            return;
        };
        let begun = Instant::now();
        while *fence.borrow() == Fence::Down && begun.elapsed() < FENCE_PATIENCE {
            if self.sleep(Duration::from_millis(10)) {
                return;
            }
        }
    }

    /// Takes in events. Those that can change what is published make for a look at the GPUs.
    fn take_in(&mut self, events: &[Event]) {
        let now = Instant::now();
        for event in events {
            if self.is_news(event, now) {
                self.schedule.want_look();
            }
            self.monitor.observe(event, now);
        }
        self.publish_health();
    }

    /// Whether an event can change what is published. A pod that crashes again and again can't.
    fn is_news(&mut self, event: &Event, now: Instant) -> bool {
        match event {
            Event::Xid {
                gpu,
                xid,
                gpu_instance,
                compute_instance,
            } => {
                let counts = self.config.health_checks.counts(*xid);
                if let Some(unlogged) = self.logged.admit((gpu.clone(), *xid), now) {
                    tracing::warn!(
                        %gpu, xid, ?gpu_instance, ?compute_instance, counts, unlogged,
                        "the driver reports an XID"
                    );
                }
                counts
            }
            Event::EccDouble {
                gpu,
                gpu_instance,
                compute_instance,
            } => {
                tracing::warn!(%gpu, ?gpu_instance, ?compute_instance, "uncorrectable memory error");
                self.config.health_checks.counts_memory_errors()
            }
            Event::MigConfigChange { gpu } => {
                tracing::debug!(%gpu, "MIG configuration changed");
                true
            }
            Event::EccSingle { .. } | Event::Other { .. } => false,
        }
    }

    /// Takes a snapshot and publishes what is new in it.
    fn look(&mut self, nvml: &Nvml, events: &mut Events) -> Result<(), nvml::Error> {
        // Events first, snapshot second: what changes in between is an event then.
        events.begin(nvml, Instant::now());
        let mut inventory = self.snapshot(nvml)?;
        if let Some(left) = events.follow(nvml, &inventory, Instant::now()) {
            self.take_in(&left);
            inventory = self.snapshot(nvml)?;
        }
        with_known_uuids(&mut inventory, &self.published.inventory.borrow());
        let now = Instant::now();
        self.monitor.look(&inventory, now);
        let failed = inventory.failed.iter().map(|gpu| gpu.index).collect();
        self.schedule.looked(inventory.gpus.len(), failed, now);
        let partition = self
            .partitioning
            .as_mut()
            .map(|partitioning| partitioning.compare(&inventory));
        // What is gone must not look as if it could be had again, so the health comes last.
        self.publish(inventory);
        self.publish_health();
        observe(&self.published.observation, |now| {
            now.driver = Driver::Loaded;
            now.partition = partition;
            now.seen = true;
        });
        Ok(())
    }

    /// A snapshot, tried again where the driver as a whole does not answer for a moment.
    fn snapshot(&self, nvml: &Nvml) -> Result<Inventory, nvml::Error> {
        for pause in SNAPSHOT_RETRIES {
            match nvml.inventory() {
                // Nothing but loading it anew helps then.
                Err(error) if error.is(ReturnCode::ERROR_UNINITIALIZED) => return Err(error),
                Err(error) => tracing::debug!(%error, "no snapshot, trying again"),
                Ok(inventory) => return Ok(inventory),
            }
            if self.sleep(pause) {
                break;
            }
        }
        nvml.inventory()
    }

    fn publish(&self, inventory: Inventory) {
        let published = &self.published;
        let inventory = if **published.inventory.borrow() == inventory {
            Arc::clone(&published.inventory.borrow())
        } else {
            tracing::info!(
                gpus = inventory.gpus.len(),
                mig_devices = inventory.mig_devices().count(),
                failed = inventory.failed.len(),
                "the GPUs"
            );
            Arc::new(inventory)
        };
        let advertised = match &self.partitioning {
            Some(partitioning) => without(&inventory, |gpu| partitioning.withholds(gpu)),
            None => Arc::clone(&inventory),
        };
        send(&published.advertised, advertised);
        send(&published.inventory, inventory);
    }

    fn publish_health(&self) {
        let health = self.monitor.health();
        let held = self.partitioning.iter().flat_map(Partitioning::held);
        let health: Health = held
            .map(|at| (at.clone(), Fault::HeldBack))
            // A fault proper says more.
            .chain(health.faults().map(|(at, fault)| (at.clone(), fault)))
            .collect();
        send(&self.published.health, Arc::new(health));
    }

    /// Publishes that there is no driver, or that it does not work. GPUs that it does not tell of for now are still
    /// there: the kubelet is to see unhealthy devices, not none.
    fn no_driver(&self, error: &DriverError) {
        let (missing, reason) = match (error.is_no_driver(), self.is_expected()) {
            (true, Some(why)) => (false, format!("{error} ({why})")),
            (missing, _) => (missing, error.to_string()),
        };
        let driver = if missing {
            Driver::Missing(reason.clone())
        } else {
            Driver::Failed(reason.clone())
        };
        tracing::debug!(%error, "no driver; looking for it again from time to time");
        let partition = self.partitioning.as_ref().map(Partitioning::status);
        observe(&self.published.observation, |now| {
            now.driver = driver;
            now.partition = partition;
        });
        for channel in [&self.published.advertised, &self.published.inventory] {
            let inventory = if missing {
                nothing()
            } else {
                unanswering(&channel.borrow(), &reason)
            };
            send(channel, Arc::new(inventory));
        }
        self.published.pulse.beat();
    }

    /// Why a node that has no driver should have one.
    fn is_expected(&self) -> Option<String> {
        hardware::evidence(&self.config.sysfs, &self.config.driver.folders())
            .or_else(|| self.had_driver.then(|| "there was one before".to_owned()))
    }
}

/// Sends what is new.
fn send<T: PartialEq>(channel: &watch::Sender<T>, value: T) {
    channel.send_if_modified(|now| {
        let changed = *now != value;
        if changed {
            *now = value;
        }
        changed
    });
}

/// Changes the observation.
fn observe(channel: &watch::Sender<Observation>, change: impl FnOnce(&mut Observation)) {
    channel.send_if_modified(|now| {
        let mut next = now.clone();
        change(&mut next);
        let changed = next != *now;
        *now = next;
        changed
    });
}

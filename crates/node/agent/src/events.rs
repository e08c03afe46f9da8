//! The driver's events, as far as it has any.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use nvml::{Event, EventSet, GpuUuid, Inventory, Nvml};

use crate::schedule::Backoff;

/// How many events are taken from a set at once, however many more there are.
const MOST_EVENTS: usize = 256;

/// How often a set that is given up may fail before the rest of its events is given up, too.
const MOST_FAILURES: usize = 3;

/// Event sets of one session with the driver, one after the other. A new one is made before the old one is given
/// up, and the old one is emptied then, so that no event falls in between; one may be seen twice.
pub(crate) struct Events {
    set: Option<EventSet>,
    /// The GPUs that the set was made for, each with its MIG mode: a GPU that was reset or came back has to be
    /// watched anew. `None` from when the first set is made until the first look.
    watched: Option<Vec<(GpuUuid, bool)>>,
    begun: bool,
    /// When to try again to watch what can't be watched.
    retry: Option<Instant>,
    retries: Backoff,
    /// Until when not to wait on the set, because that failed.
    pause: Option<Instant>,
    failures: Backoff,
    /// What was said last of what can't be watched.
    said: Vec<String>,
}

pub(crate) enum Waited {
    Event(Event),
    Nothing,
    Failed(nvml::Error),
}

impl Events {
    pub(crate) fn new() -> Self {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
        Self {
            set: None,
            watched: None,
            begun: false,
            retry: None,
            retries: backoff.clone(),
            pause: None,
            failures: backoff,
            said: Vec::new(),
        }
    }

    /// Begins to watch, the first time.
    pub(crate) fn begin(&mut self, nvml: &Nvml, now: Instant) {
        if !self.begun {
            self.begun = true;
            self.watch(nvml, now);
        }
    }

    /// Makes a new set, and returns what the old one still had.
    fn watch(&mut self, nvml: &Nvml, now: Instant) -> Vec<Event> {
        let mut complaints = Vec::new();
        let mut left = Vec::new();
        match nvml.event_set() {
            Ok(set) => {
                complaints.extend(set.unwatched().iter().map(|gpu| {
                    format!("events of GPU {} are not seen: {}", gpu.index, gpu.reason)
                }));
                left = self.set.replace(set).map(drain).unwrap_or_default();
            }
            Err(error) => complaints.push(format!(
                "the driver has no events; looking from time to time instead: {error}"
            )),
        }
        if complaints.is_empty() {
            self.retry = None;
            self.retries.reset();
        } else {
            self.retry = Some(now + self.retries.next());
        }
        if complaints != self.said {
            for complaint in &complaints {
                tracing::warn!("{complaint}");
            }
            self.said = complaints;
        }
        left
    }

    /// Watches anew if the GPUs are others than before: then the events that were left, and a new snapshot is
    /// needed, since something may have changed before the new set saw it.
    pub(crate) fn follow(
        &mut self,
        nvml: &Nvml,
        inventory: &Inventory,
        now: Instant,
    ) -> Option<Vec<Event>> {
        let gpus: Vec<_> = inventory
            .gpus
            .iter()
            .map(|gpu| (gpu.uuid.clone(), gpu.mig_enabled()))
            .collect();
        let before = self.watched.replace(gpus);
        let changed = before.is_some() && before != self.watched;
        let retry = self.retry.is_some_and(|retry| retry <= now);
        (changed || retry).then(|| self.watch(nvml, now))
    }

    /// Gives up a set that failed for another; returns what the old one still had. Waits less and less often on
    /// sets that all fail.
    pub(crate) fn renew(&mut self, nvml: &Nvml, error: &nvml::Error, now: Instant) -> Vec<Event> {
        let pause = self.failures.next();
        if self.pause.is_none() {
            tracing::warn!(%error, "waiting for driver events failed");
        } else {
            tracing::debug!(%error, ?pause, "waiting for driver events failed again");
        }
        self.pause = Some(now + pause);
        self.watch(nvml, now)
    }

    pub(crate) fn wait(&mut self, patience: Duration, stop: &Receiver<()>) -> Waited {
        let pause = self
            .pause
            .map(|pause| pause.saturating_duration_since(Instant::now()))
            .filter(|pause| !pause.is_zero());
        let (Some(set), None) = (&mut self.set, pause) else {
            // The result does not matter: being stopped is noticed next.
            let _ = stop.recv_timeout(pause.map_or(patience, |pause| pause.min(patience)));
            return Waited::Nothing;
        };
        match set.wait(patience) {
            Ok(event) => {
                self.pause = None;
                self.failures.reset();
                event.map_or(Waited::Nothing, Waited::Event)
            }
            Err(error) => Waited::Failed(error),
        }
    }

    /// What is there already, without waiting.
    pub(crate) fn more(&mut self, stop: &Receiver<()>) -> (Vec<Event>, Option<nvml::Error>) {
        let mut events = Vec::new();
        while events.len() < MOST_EVENTS {
            match self.wait(Duration::ZERO, stop) {
                Waited::Event(event) => events.push(event),
                Waited::Nothing => break,
                Waited::Failed(error) => return (events, Some(error)),
            }
        }
        (events, None)
    }

    /// Gives the set up, before the driver is let go; returns what it still had.
    pub(crate) fn end(&mut self) -> Vec<Event> {
        self.set.take().map(drain).unwrap_or_default()
    }
}

/// Everything that a set has, though it may fail now and then.
fn drain(mut set: EventSet) -> Vec<Event> {
    let mut events = Vec::new();
    let mut failures = 0;
    while events.len() < MOST_EVENTS && failures < MOST_FAILURES {
        match set.wait(Duration::ZERO) {
            Ok(Some(event)) => events.push(event),
            Ok(None) => break,
            Err(_) => failures += 1,
        }
    }
    events
}

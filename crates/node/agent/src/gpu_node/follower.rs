//! Follows the node's `GpuNode`, and keeps its status.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::{Error, GpuNodeChange, GpuNodeNow, GpuNodeWatch, NodeClient, Owner};
use gpu_node::GpuNodeStatus;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::connection::Connection;
use crate::gpu_node_status::{report, stopped};
use crate::holders::Holders;
use crate::observation::Driver;
use crate::reporter::changed;
use crate::wish::{Kept, Wish};
use crate::{GpuNodeLink, Phase, Status};

/// How often the status is written at most, and the object asked for.
const SPACING: Duration = Duration::from_secs(1);

/// How long what an earlier agent wrote stays while this one has not found out anything.
const UNKNOWN: Duration = Duration::from_secs(10);

/// How long a wish outlives its object where another one takes its place: the operator is about to write it anew.
const HOLD: Duration = Duration::from_secs(30);

/// How long the end of the agent may take for the sake of its last words.
const FAREWELL: Duration = Duration::from_secs(5);

/// When something is tried (again), and what came of it last.
struct Pace {
    due: Instant,
    pauses: Box<dyn Iterator<Item = Duration> + Send>,
    /// What went wrong, and whether somebody has to do something about it.
    error: Option<(String, bool)>,
}

impl Pace {
    fn new() -> Self {
        Self {
            due: Instant::now(),
            pauses: Box::new(cluster::backoff()),
            error: None,
        }
    }

    fn is_due(&self) -> bool {
        self.due <= Instant::now()
    }

    /// It worked.
    fn worked(&mut self) {
        *self = Self::new();
        self.due += SPACING;
    }

    fn failed(&mut self, error: String, blocked: bool) {
        tracing::debug!(error, "the GpuNode is not followed");
        self.due = Instant::now() + self.pauses.next().unwrap_or(HOLD);
        self.error = Some((error, blocked));
    }
}

/// What the follower reads, and what it publishes.
pub(crate) struct Channels {
    pub(crate) connection: Connection,
    pub(crate) status: watch::Receiver<Arc<Status>>,
    /// Who holds what, where the kubelet can be asked.
    pub(crate) holders: Option<watch::Receiver<Holders>>,
    pub(crate) wishes: watch::Sender<Option<Wish>>,
    pub(crate) state: watch::Sender<GpuNodeLink>,
}

/// Follows the object until it is stopped.
pub(crate) struct Follower {
    channels: Channels,
    kept: Option<Kept>,
    stop: CancellationToken,
    begun: Instant,
    /// The object that is followed.
    uid: Option<String>,
    /// There is one, and it is that of a node of this name that is no more.
    is_others: bool,
    /// What is followed from a time on, if nothing else is wanted until then.
    held: Option<(Instant, Wish)>,
    watch: Option<GpuNodeWatch>,
    reading: Pace,
    writing: Pace,
    /// The status as it should be, and as it was written.
    made: GpuNodeStatus,
    written: Option<GpuNodeStatus>,
}

impl Follower {
    pub(crate) fn new(channels: Channels, kept: Option<Kept>, stop: CancellationToken) -> Self {
        Self {
            channels,
            kept,
            stop,
            begun: Instant::now(),
            uid: None,
            is_others: false,
            held: None,
            watch: None,
            reading: Pace::new(),
            writing: Pace::new(),
            made: GpuNodeStatus::default(),
            written: None,
        }
    }

    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.step() => {}
            }
        }
        self.farewell().await;
    }

    /// Does what is due, and waits for more.
    async fn step(&mut self) {
        if let Some((_, wish)) = self.held.take_if(|(until, _)| *until <= Instant::now()) {
            self.publish(wish);
        }
        let can_be_made = self.uid.is_none() && !self.is_others && self.has_gpus();
        if (self.watch.is_none() || can_be_made) && self.reading.is_due() {
            self.watch = None;
            match self.look().await {
                Ok(watch) => {
                    self.watch = Some(watch);
                    self.reading.worked();
                    // Somebody may have changed it.
                    self.written = None;
                }
                Err((error, blocked)) => self.reading.failed(error, blocked),
            }
        }
        self.write().await;
        self.tell();
        self.wait(can_be_made && self.uid.is_none()).await;
    }

    /// Waits until there is something to do. `looks` is whether the object is asked for though there is a watch.
    async fn wait(&mut self, looks: bool) {
        let is_unwritten = self.uid.is_some() && self.written.as_ref() != Some(&self.made);
        let due = [
            (looks || self.watch.is_none()).then_some(self.reading.due),
            is_unwritten.then_some(self.writing.due),
            self.held.as_ref().map(|(until, _)| *until),
            // Until then a look at the status is put off.
            Some(self.begun + UNKNOWN).filter(|at| *at > Instant::now()),
        ];
        let due = due.into_iter().flatten().min();
        let change = tokio::select! {
            changed = self.channels.status.changed() => {
                if changed.is_err() {
                    std::future::pending::<()>().await;
                }
                None
            }
            () = changed(self.channels.holders.as_mut()) => None,
            () = self.channels.connection.changed() => {
                self.reading.due = Instant::now();
                self.writing.due = Instant::now();
                None
            }
            change = next(self.watch.as_mut()) => Some(change),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => None,
        };
        match change {
            None => {}
            Some(Ok(GpuNodeChange::Is(object)))
                if !object.is_ending && self.uid.as_ref() == Some(&object.uid) =>
            {
                self.take_in(&object);
            }
            Some(Ok(GpuNodeChange::Gone)) => {
                self.lose();
                self.watch = None;
            }
            // Whose it is has to be found out, or it is asked for again for having been watched for long.
            Some(Ok(GpuNodeChange::Is(_) | GpuNodeChange::Over)) => self.watch = None,
            Some(Err(error)) => {
                self.watch = None;
                self.reading
                    .failed(error.to_string(), !error.is_transient());
            }
        }
    }

    /// Whether the node has, or should have, a driver.
    fn has_gpus(&self) -> bool {
        matches!(
            self.channels.status.borrow().driver,
            Driver::Loaded | Driver::Failed(_)
        )
    }

    /// Looks for the object, makes it where it is missing, and watches it from then on.
    async fn look(&mut self) -> Result<GpuNodeWatch, (String, bool)> {
        let client = self
            .channels
            .connection
            .now()
            .map_err(|reason| (reason, true))?;
        let result = self.look_at(&client).await;
        if let Err(Error::NoGpuNodeResource) = &result
            && self.channels.wishes.borrow().is_none()
        {
            // Nobody can want anything yet.
            self.publish(Wish::default());
        }
        result.map_err(|error| (error.to_string(), !error.is_transient()))
    }

    async fn look_at(&mut self, client: &NodeClient) -> Result<GpuNodeWatch, Error> {
        let found = client.gpu_node().await?;
        self.is_others = false;
        match found.object {
            None => {
                self.lose();
                if self.has_gpus() {
                    let owner = client.uid().await?;
                    let object = client.create_gpu_node(&owner).await?;
                    tracing::info!("made the node's GpuNode");
                    self.take_in(&object);
                }
            }
            Some(object) => {
                let owner = client.uid().await;
                let is_of_another = match (&object.owner, &owner) {
                    (Owner::Node(of), Ok(owner)) => of != owner,
                    _ => false,
                };
                if is_of_another || object.is_ending {
                    // It goes, and then there is one to be made.
                    self.lose();
                    self.is_others = true;
                } else {
                    self.take_in(&object);
                    let owner = owner?;
                    if object.owner == Owner::Nobody {
                        client.own_gpu_node(&owner).await?;
                    }
                }
            }
        }
        client.watch_gpu_node(&found.version).await
    }

    /// Takes in what an object says.
    fn take_in(&mut self, object: &GpuNodeNow) {
        if self.uid.as_ref() != Some(&object.uid) {
            self.uid = Some(object.uid.clone());
            self.written = None;
            self.made.observed_generation = None;
            if self.made.conditions.is_empty() {
                self.made.conditions.clone_from(&object.conditions);
                self.made.last_actions.clone_from(&object.last_actions);
            }
        }
        let wish = Wish::of(object);
        let known = self.channels.wishes.borrow().clone().unwrap_or_default();
        let is_made_anew = known.pool.is_some() && wish.pool.is_none() && known.uid != wish.uid;
        if is_made_anew {
            let until = match &self.held {
                Some((until, _)) => *until,
                None => Instant::now() + HOLD,
            };
            self.held = Some((until, wish));
            self.publish(Wish {
                generation: None,
                ..known
            });
        } else {
            self.held = None;
            self.publish(wish);
        }
    }

    /// There is no object (any more). What it wanted holds until another one takes its place.
    fn lose(&mut self) {
        self.uid = None;
        let known = self.channels.wishes.borrow().clone().unwrap_or_default();
        self.publish(Wish {
            generation: None,
            ..known
        });
    }

    fn publish(&self, wish: Wish) {
        let is_new = self.channels.wishes.borrow().as_ref() != Some(&wish);
        if is_new {
            if let Some(kept) = &self.kept {
                kept.write(&wish);
            }
            self.channels.wishes.send_replace(Some(wish));
        }
    }

    /// Writes the status if it is another one than was written.
    async fn write(&mut self) {
        let status = Arc::clone(&self.channels.status.borrow_and_update());
        let is_early = status.driver == Driver::Unknown && self.begun.elapsed() < UNKNOWN;
        // An agent that has stopped is about to start with other settings, or says its last words itself.
        if status.phase == Phase::Stopped || (is_early && self.written.is_none()) {
            return;
        }
        let holders = self.channels.holders.as_mut();
        let holders = holders.map(|holders| holders.borrow_and_update().clone());
        let holders = holders.unwrap_or_default();
        let Some(uid) = &self.uid else {
            return;
        };
        self.made = report(uid, &status, &holders, &self.made, Timestamp::now());
        if self.written.as_ref() == Some(&self.made) {
            self.writing.error = None;
            return;
        }
        if !self.writing.is_due() {
            return;
        }
        let client = match self.channels.connection.now() {
            Ok(client) => client,
            Err(reason) => return self.writing.failed(reason, true),
        };
        match client.apply_gpu_node_status(uid, &self.made).await {
            Ok(()) => {
                self.written = Some(self.made.clone());
                self.writing.worked();
            }
            Err(error) => {
                if matches!(error, Error::GpuNodeGone { .. }) {
                    self.watch = None;
                }
                self.writing
                    .failed(error.to_string(), !error.is_transient());
            }
        }
    }

    /// Publishes how it stands.
    fn tell(&self) {
        let wish = self.channels.wishes.borrow().clone().unwrap_or_default();
        let error = self.reading.error.as_ref().or(self.writing.error.as_ref());
        let next = GpuNodeLink {
            pool: wish.pool,
            generation: wish.generation,
            error: error.map(|(error, _)| error.clone()),
            blocked: error.is_some_and(|(_, blocked)| *blocked),
        };
        self.channels.state.send_if_modified(|now| {
            let changed = *now != next;
            *now = next;
            changed
        });
    }

    /// Says that the agent has ended.
    async fn farewell(&mut self) {
        let (Some(uid), Ok(client)) = (&self.uid, self.channels.connection.now()) else {
            return;
        };
        if self.made.agent_version.is_empty() {
            // It has not said anything yet, and what an earlier one said stays.
            return;
        }
        let last = Arc::clone(&self.channels.status.borrow());
        let status = stopped(&self.made, &last, Timestamp::now());
        let write = client.apply_gpu_node_status(uid, &status);
        match tokio::time::timeout(FAREWELL, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the GpuNode does not say that the agent ended");
            }
            Err(_) => tracing::warn!(
                "the GpuNode does not say that the agent ended: no answer for {} seconds",
                FAREWELL.as_secs()
            ),
        }
    }
}

/// The next change; none, for ever, while nothing is watched.
async fn next(watch: Option<&mut GpuNodeWatch>) -> Result<GpuNodeChange, Error> {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}

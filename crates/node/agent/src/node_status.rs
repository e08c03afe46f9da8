//! Keeps the node's taint and conditions, and says events on it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::{Error, Event, Events, NodeClient, NodeCondition};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::connection::Connection;
use crate::node_report::{Journal, NodeReport, desired};
use crate::owner::Fence;
use crate::{ClusterStatus, Status};

/// Who says the events.
const COMPONENT: &str = "migpool-agent";

/// How often the taint and the conditions are looked at though nothing has changed here: the node may have been deleted
/// and made anew, or somebody may have changed them.
const REFRESH: Duration = Duration::from_mins(5);

/// The most events that wait for the server. Of more the oldest are given up.
const MOST_EVENTS: usize = 64;

/// How long the end of the agent may take for the sake of what it leaves on the node.
const FAREWELL: Duration = Duration::from_secs(10);

/// What was written of a report, and what there is still to say.
#[derive(Default)]
struct Written {
    taint: Option<bool>,
    conditions: Option<Vec<NodeCondition>>,
    events: VecDeque<Event>,
}

impl Written {
    /// Everything of this report is written.
    fn is_all(&self, report: &NodeReport) -> bool {
        let is_written = self.events.is_empty();
        is_written
            && (report.taint.is_none() || self.taint == report.taint)
            && (report.conditions.is_none() || self.conditions == report.conditions)
    }

    fn add(&mut self, events: Vec<Event>) {
        self.events.extend(events);
        while self.events.len() > MOST_EVENTS {
            self.events.pop_front();
        }
    }

    /// Writes what is not written yet. What cannot be written does not keep the rest from it; the first error counts,
    /// the events being the least.
    async fn write(
        &mut self,
        client: &NodeClient,
        events: &mut Events,
        report: &NodeReport,
    ) -> Result<(), Error> {
        let mut result = Ok(());
        if let Some(on) = report.taint.filter(|on| self.taint != Some(*on)) {
            match client.set_taint(on).await {
                Ok(changed) => {
                    self.taint = Some(on);
                    if changed {
                        tracing::info!(on, "the node's taint {}", cluster::PARTITIONING_TAINT);
                    }
                }
                // Everything else would wait for an answer, too.
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => result = Err(error),
            }
        }
        if let Some(conditions) = &report.conditions
            && self.conditions.as_ref() != Some(conditions)
        {
            match client.set_conditions(conditions).await {
                Ok(_) => self.conditions = Some(conditions.clone()),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => result = result.and(Err(error)),
            }
        }
        while let Some(event) = self.events.front() {
            match events.publish(event).await {
                Ok(()) => drop(self.events.pop_front()),
                Err(error) => return result.and(Err(error)),
            }
        }
        result
    }
}

/// Keeps what the cluster is told of the node as the status wants it, until `stop`; then takes it all away.
pub(crate) async fn run(
    mut connection: Connection,
    mut status: watch::Receiver<Arc<Status>>,
    published: watch::Sender<ClusterStatus>,
    fence: watch::Sender<Fence>,
    stop: CancellationToken,
) {
    let mut journal = Journal::default();
    let mut written = Written::default();
    let mut events: Option<Events> = None;
    let mut pauses = cluster::backoff();
    let mut retry: Option<Instant> = None;
    let mut refresh = Instant::now() + REFRESH;
    loop {
        let now = Instant::now();
        let mut report = desired(&status.borrow_and_update());
        written.add(journal.take(std::mem::take(&mut report.notes), now));
        if refresh <= now {
            refresh = now + REFRESH;
            written.taint = None;
            written.conditions = None;
        }
        if !written.is_all(&report) && retry.is_none_or(|retry| retry <= now) {
            let result = match connection.now() {
                Err(reason) => Err((reason, true)),
                Ok(client) => {
                    let events = events.get_or_insert_with(|| client.events(COMPONENT));
                    let write = written.write(&client, events, &report);
                    tokio::select! {
                        () = stop.cancelled() => break,
                        result = write => {
                            result.map_err(|error| (error.to_string(), !error.is_transient()))
                        }
                    }
                }
            };
            match &result {
                Ok(()) => {
                    retry = None;
                    pauses = cluster::backoff();
                }
                Err((error, _)) => {
                    tracing::debug!(error, "the node in the cluster is not up to date");
                    retry = Some(Instant::now() + pauses.next().unwrap_or(REFRESH));
                }
            }
            tell(&published, &fence, &written, result.err());
        }
        let next = [retry, journal.due(), Some(refresh)];
        let next = next.into_iter().flatten().min().unwrap_or(refresh);
        tokio::select! {
            () = stop.cancelled() => break,
            changed = status.changed() => if changed.is_err() { break },
            () = connection.changed() => retry = None,
            () = tokio::time::sleep_until(next.into()) => {}
        }
    }
    farewell(&mut connection).await;
}

/// Publishes how it stands.
fn tell(
    published: &watch::Sender<ClusterStatus>,
    fence: &watch::Sender<Fence>,
    written: &Written,
    error: Option<(String, bool)>,
) {
    fence.send_replace(match (&error, written.taint) {
        (_, Some(true)) => Fence::Up,
        (Some(_), _) => Fence::Unavailable,
        (None, _) => Fence::Down,
    });
    let (error, blocked) = error.map_or((None, false), |(error, blocked)| (Some(error), blocked));
    let next = ClusterStatus {
        tainted: written.taint,
        error,
        blocked,
    };
    published.send_if_modified(|now| {
        let changed = *now != next;
        *now = next;
        changed
    });
}

/// Takes the taint and the conditions away: nobody keeps them any more. An agent that was killed leaves them to the
/// next one.
async fn farewell(connection: &mut Connection) {
    let Ok(client) = connection.now() else {
        return;
    };
    let both = async {
        client.set_taint(false).await?;
        client.remove_conditions().await
    };
    match tokio::time::timeout(FAREWELL, both).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "taint and conditions of the node stay behind"),
        Err(_) => tracing::warn!(
            "taint and conditions of the node stay behind: no answer for {} seconds",
            FAREWELL.as_secs()
        ),
    }
}

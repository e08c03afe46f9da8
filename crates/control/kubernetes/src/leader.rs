//! Which of the operator's replicas acts: the one that holds a Lease.
//!
//! The crate kube-lease-manager does not do here: it compares another process's clock with its own, and its writes carry
//! no resource version, so that two standbys that see the same lease run out can both take it. The rules here are client-go's:
//! nobody's clock is believed but one's own, and that only for how long something lasted.
//!
//! A leader ends before its lease can be another's, by its own clock ([`Mandate::holds`]). A process that was stopped in the
//! middle of a write and goes on a minute later can't know that. So a write that must not come late has to carry the resource
//! version of what it was decided on: the API server then refuses it where another leader has written since.

mod candidate;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use candidate::{Action, Answer, Candidate, Timing};

/// How long a request about the lease may take.
const REQUEST: Duration = Duration::from_secs(3);

/// How long to try to give the lease back.
const RELEASE: Duration = Duration::from_secs(5);

/// What is led, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Leadership {
    /// The name of this process in the lease. A process that finds its own name there takes over at once, since a pod's container
    /// that starts again has the name of the one that ended: no two that run may have the same.
    pub(crate) identity: String,
    /// The lease's namespace.
    pub(crate) namespace: String,
    /// The lease's name. It is created when it is missing.
    pub(crate) lease: String,
}

/// Whether this process leads. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Mandate(watch::Receiver<Option<Instant>>);

/// A candidacy that goes on until it is stopped.
#[derive(Debug)]
pub(crate) struct Candidacy {
    mandate: Mandate,
    task: JoinHandle<()>,
}

impl Leadership {
    /// Becomes a candidate, and leads whenever it can until `stop`; then leads no more and gives the lease back.
    ///
    /// Whoever acts as the leader is to have stopped before `stop` is cancelled, because another one begins a second later.
    pub(crate) fn seek(self, client: Client, stop: CancellationToken) -> Candidacy {
        let (until, mandate) = watch::channel(None);
        let api = Api::namespaced(client, &self.namespace);
        let shell = Shell {
            api,
            until,
            start: Instant::now(),
            failure: String::new(),
            of: self,
        };
        Candidacy {
            mandate: Mandate(mandate),
            task: tokio::spawn(shell.run(stop)),
        }
    }
}

impl Candidacy {
    /// Whether it leads.
    pub(crate) fn mandate(&self) -> Mandate {
        self.mandate.clone()
    }

    /// Waits, once `stop` is cancelled, until the lease was given back or could not be within a few seconds.
    pub(crate) async fn ended(self) {
        // It does not panic, and nobody aborts it.
        let _ = self.task.await;
    }
}

impl Mandate {
    /// Whether this process leads right now. Ask before each write.
    pub(crate) fn holds(&self) -> bool {
        self.0.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until this process leads; for ever when its candidacy is over.
    pub(crate) async fn gained(&mut self) {
        let leads = |until: &Option<Instant>| until.is_some_and(|until| Instant::now() < until);
        if self.0.wait_for(leads).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until it does not, and returns early enough that nobody else does yet.
    pub(crate) async fn lost(&mut self) {
        loop {
            let until = *self.0.borrow_and_update();
            let Some(until) = until.filter(|until| Instant::now() < *until) else {
                return;
            };
            tokio::select! {
                () = sleep_until(until) => {}
                changed = self.0.changed() => if changed.is_err() {
                    return;
                }
            }
        }
    }

    /// One that holds for ever, or never, for tests of what asks it.
    #[cfg(test)]
    pub(crate) fn fixed(leads: bool) -> Self {
        let until = leads.then(|| Instant::now() + Duration::from_hours(1));
        Self(watch::channel(until).1)
    }
}

struct Shell {
    of: Leadership,
    api: Api<Lease>,
    until: watch::Sender<Option<Instant>>,
    start: Instant,
    /// What was said last about a request that failed: it is said once.
    failure: String,
}

impl Shell {
    async fn run(mut self, stop: CancellationToken) {
        let mut candidate = Candidate::new(self.of.identity.clone(), Timing::USUAL);
        while !stop.is_cancelled() {
            let action = candidate.next(self.start.elapsed(), Timestamp::now());
            self.publish(&candidate);
            tokio::select! {
                () = self.turn(&mut candidate, &action) => {}
                () = stop.cancelled() => {}
            }
            self.publish(&candidate);
        }
        candidate.resign(self.start.elapsed());
        self.publish(&candidate);
        let release = async {
            loop {
                match candidate.next(self.start.elapsed(), Timestamp::now()) {
                    Action::Done => break,
                    action => self.turn(&mut candidate, &action).await,
                }
            }
        };
        if timeout(RELEASE, release).await.is_err() {
            warn!(
                lease = self.of.lease,
                "cannot give the lease back; others take it when it has run out"
            );
        }
    }

    /// Does what is next, or rests; not longer than a term lasts.
    async fn turn(&mut self, candidate: &mut Candidate, action: &Action) {
        let now = self.start.elapsed();
        let end = candidate.leads_until().filter(|end| now < *end);
        let before_end = |time: Duration| end.map_or(time, |end| time.min(end));
        if let Action::Rest(until) = action {
            sleep_until(self.start + before_end(*until)).await;
            return;
        }
        let limit = self.start + before_end(now + REQUEST);
        let answer = tokio::time::timeout_at(limit, self.send(action)).await;
        let answer = match answer {
            Ok(Ok(answer)) => {
                self.failure.clear();
                answer
            }
            Ok(Err(error)) => self.failed(error.to_string()),
            Err(_) => self.failed("the API server does not answer in time".to_owned()),
        };
        candidate.answered(action, now, self.start.elapsed(), answer);
    }

    async fn send(&self, action: &Action) -> kube::Result<Answer> {
        let name = &self.of.lease;
        let parameters = PostParams::default();
        let answer = match action {
            Action::Read => self.api.get(name).await,
            Action::Create(lease) => {
                let mut lease = lease.clone();
                lease.metadata.name = Some(name.clone());
                self.api.create(&parameters, &lease).await
            }
            Action::Replace(lease) => self.api.replace(name, &parameters, lease).await,
            Action::Rest(_) | Action::Done => return Ok(Answer::Failed),
        };
        match answer {
            // Without a version nothing would guard the next write.
            Ok(lease) if lease.metadata.resource_version.is_none() => Ok(Answer::Failed),
            Ok(lease) => Ok(Answer::Lease(Box::new(lease))),
            // A namespace that is missing has this code as well, and is no reason to ask without a pause.
            Err(kube::Error::Api(status)) if status.code == 404 && *action == Action::Read => {
                Ok(Answer::Missing)
            }
            Err(kube::Error::Api(status))
                if status.code == 409 || (status.code == 404 && !is_create(action)) =>
            {
                Ok(Answer::Conflict)
            }
            Err(error) => Err(error),
        }
    }

    fn failed(&mut self, reason: String) -> Answer {
        if self.failure != reason {
            let Leadership {
                namespace, lease, ..
            } = &self.of;
            warn!("cannot get or write the lease {namespace}/{lease}: {reason}");
            self.failure = reason;
        }
        Answer::Failed
    }

    fn publish(&self, candidate: &Candidate) {
        let until = candidate
            .leads_until()
            .map(|until| self.start + until)
            .filter(|until| Instant::now() < *until);
        let identity = &self.of.identity;
        self.until.send_if_modified(|old| {
            match (&old, until) {
                (None, Some(_)) => info!(identity, "leads"),
                (Some(_), None) => info!(identity, "leads no more"),
                _ => {}
            }
            std::mem::replace(old, until) != until
        });
    }
}

fn is_create(action: &Action) -> bool {
    matches!(action, Action::Create(_))
}

#[cfg(test)]
mod tests;

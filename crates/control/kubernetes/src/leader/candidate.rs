//! Who leads, as far as one process can tell: client-go's rules, without a clock, a network or a lease of its own.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

/// The most that another holder's own duration is believed: one that somebody mistyped must end, too.
const LONGEST: Duration = Duration::from_mins(5);

/// How long things take. Two leaders at a time are impossible as long as the clocks of two processes run at rates that differ
/// by less than `duration / deadline`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// How long a lease has to be seen unchanged before it is taken from its holder.
    pub(crate) duration: Duration,
    /// How long after the sending of the last renewal that was granted the leader goes on.
    pub(crate) deadline: Duration,
    /// How often the leader renews.
    pub(crate) renew: Duration,
    /// How often others look, and how soon what failed is tried again.
    pub(crate) retry: Duration,
    /// How long a lease that was there stays gone: whoever uninstalls the operator deletes the lease first and the operator
    /// a moment later, and a lease that is made in between would be left for good.
    pub(crate) mourning: Duration,
}

impl Timing {
    /// Those of client-go, but for a standby that looks every second: a lease that is given back is taken within that.
    pub(crate) const USUAL: Self = Self {
        duration: Duration::from_secs(15),
        deadline: Duration::from_secs(10),
        renew: Duration::from_secs(2),
        retry: Duration::from_secs(1),
        mourning: Duration::from_secs(5),
    };
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Nothing before this time.
    Rest(Duration),
    /// Get the lease.
    Read,
    /// Create it.
    Create(Lease),
    /// Replace it, if it still has the resource version that is in it.
    Replace(Lease),
    /// Nothing any more.
    Done,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// The lease, as it is or as it was written.
    Lease(Box<Lease>),
    /// There is none.
    Missing,
    /// Somebody else wrote it in between.
    Conflict,
    /// Nobody knows: it may have been done, or may still be.
    Failed,
}

/// One process that wants to lead. Times are its own, since some moment, by a clock that never goes back.
#[derive(Debug)]
pub(crate) struct Candidate {
    identity: String,
    timing: Timing,
    /// The lease as it was seen last, and since when it is so.
    seen: Option<(Lease, Duration)>,
    /// Whether that is the answer to the last request: a lease that may have changed is read before it is written.
    fresh: bool,
    /// Since when there is no lease.
    missing: Option<Duration>,
    /// The labels and annotations of the lease that was seen last: one that takes its place belongs to the same release.
    worn: ObjectMeta,
    /// Whether another one held a lease that is missing now.
    held: bool,
    term: Option<Term>,
    /// Nothing is asked before this time.
    next: Duration,
    stage: Stage,
}

/// How far a candidacy has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing was written, so that there is nothing to give back.
    Looks,
    /// Something was.
    Wrote,
    /// The lease is to be given back.
    Leaves,
    /// Nothing is to be done.
    Over,
}

/// A time of leading.
#[derive(Debug)]
struct Term {
    /// By which this process knows its own writes from those of one that had its name before.
    acquired: MicroTime,
    until: Duration,
}

impl Candidate {
    pub(crate) fn new(identity: String, timing: Timing) -> Self {
        Self {
            identity,
            timing,
            seen: None,
            fresh: false,
            missing: None,
            worn: ObjectMeta::default(),
            held: false,
            term: None,
            next: Duration::ZERO,
            stage: Stage::Looks,
        }
    }

    /// Until when this process leads, if nothing else happens.
    pub(crate) fn leads_until(&self) -> Option<Duration> {
        self.term.as_ref().map(|term| term.until)
    }

    /// Leads no more, and gives the lease back with what [`Self::next`] says from now on.
    pub(crate) fn resign(&mut self, now: Duration) {
        self.term = None;
        self.stage = match self.stage {
            Stage::Looks | Stage::Over => Stage::Over,
            Stage::Wrote | Stage::Leaves => Stage::Leaves,
        };
        self.next = now;
    }

    /// What to do at `now`; `wall` is what others will read in the lease.
    pub(crate) fn next(&mut self, now: Duration, wall: Timestamp) -> Action {
        if self.stage == Stage::Over {
            return Action::Done;
        }
        if now < self.next {
            return Action::Rest(self.next);
        }
        if !self.fresh {
            return Action::Read;
        }
        let wall = MicroTime(Timestamp::from_microsecond(wall.as_microsecond()).unwrap_or(wall));
        if self.stage == Stage::Leaves {
            return self.release(wall);
        }
        let Some((lease, since)) = &self.seen else {
            let over = self.missing.is_none_or(|since| self.is_over(since, now));
            if self.held && !over {
                return self.look_again(now);
            }
            self.stage = Stage::Wrote;
            let lease = Lease {
                metadata: self.worn.clone(),
                ..Lease::default()
            };
            return Action::Create(self.taken(lease, wall));
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let action = match holder(&spec) {
            Some(holder) if *holder == self.identity => {
                let renewed = self.is_own(&spec);
                let lease = lease.clone();
                Action::Replace(if renewed {
                    renewal(lease, wall)
                } else {
                    self.taken(lease, wall)
                })
            }
            Some(_) if now < *since + self.patience(&spec) => return self.look_again(now),
            _ => Action::Replace(self.taken(lease.clone(), wall)),
        };
        self.stage = Stage::Wrote;
        action
    }

    /// Takes in what came of `action`, which was begun at `sent`.
    pub(crate) fn answered(
        &mut self,
        action: &Action,
        sent: Duration,
        now: Duration,
        answer: Answer,
    ) {
        let writes = matches!(action, Action::Create(_) | Action::Replace(_));
        self.fresh = false;
        self.next = now;
        match answer {
            Answer::Lease(lease) if writes => {
                let spec = lease.spec.clone().unwrap_or_default();
                if self.stage == Stage::Wrote
                    && holder(&spec) == Some(&self.identity)
                    && let Some(acquired) = spec.acquire_time
                {
                    let until = sent + self.timing.deadline;
                    self.term = Some(Term { acquired, until });
                    self.next = now + self.timing.renew;
                }
                self.fresh = true;
                self.see(*lease, now);
            }
            Answer::Lease(lease) => {
                self.fresh = true;
                self.see(*lease, now);
            }
            Answer::Missing => {
                self.fresh = true;
                if self.seen.take().is_some() {
                    self.next = now + self.timing.mourning;
                }
                self.term = None;
                self.missing.get_or_insert(now);
            }
            Answer::Conflict => {}
            Answer::Failed => self.next = now + self.timing.retry,
        }
    }

    fn see(&mut self, lease: Lease, now: Duration) {
        self.missing = None;
        self.worn = ObjectMeta {
            labels: lease.metadata.labels.clone(),
            annotations: lease.metadata.annotations.clone(),
            ..ObjectMeta::default()
        };
        let spec = lease.spec.clone().unwrap_or_default();
        self.held = holder(&spec).is_some_and(|holder| *holder != self.identity);
        if self.term.is_some() && !self.is_own(&spec) {
            self.term = None;
        }
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        let since = match &self.seen {
            Some((old, since)) if version(old) == version(&lease) => *since,
            _ => now,
        };
        self.seen = Some((lease, since));
    }

    fn look_again(&mut self, now: Duration) -> Action {
        self.fresh = false;
        self.next = now + self.timing.retry;
        Action::Rest(self.next)
    }

    fn release(&self, wall: MicroTime) -> Action {
        match &self.seen {
            Some((lease, _)) => {
                let mut lease = lease.clone();
                let spec = lease.spec.get_or_insert_default();
                if holder(spec) != Some(&self.identity) {
                    return Action::Done;
                }
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                spec.renew_time = Some(wall);
                Action::Replace(lease)
            }
            None => Action::Done,
        }
    }

    fn is_own(&self, spec: &LeaseSpec) -> bool {
        self.term.as_ref().is_some_and(|term| {
            holder(spec) == Some(&self.identity)
                && spec.acquire_time.as_ref() == Some(&term.acquired)
        })
    }

    fn is_over(&self, since: Duration, now: Duration) -> bool {
        now >= since + self.timing.duration
    }

    /// How long the lease has to be seen unchanged: a holder of another version may need longer than we do.
    fn patience(&self, spec: &LeaseSpec) -> Duration {
        let own = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(self.timing.duration, Duration::from_secs);
        own.clamp(self.timing.duration, LONGEST.max(self.timing.duration))
    }

    fn taken(&self, mut lease: Lease, wall: MicroTime) -> Lease {
        let seconds = i32::try_from(self.timing.duration.as_secs()).unwrap_or(i32::MAX);
        let spec = lease.spec.get_or_insert_default();
        spec.lease_transitions = Some(
            spec.lease_transitions
                .map_or(0, |count| count.saturating_add(1)),
        );
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = Some(seconds);
        spec.acquire_time = Some(wall.clone());
        spec.renew_time = Some(wall);
        lease
    }
}

fn renewal(mut lease: Lease, wall: MicroTime) -> Lease {
    lease.spec.get_or_insert_default().renew_time = Some(wall);
    lease
}

fn holder(spec: &LeaseSpec) -> Option<&String> {
    spec.holder_identity
        .as_ref()
        .filter(|holder| !holder.is_empty())
}

#[cfg(test)]
mod tests;

//! Has pods evicted that use what has to go, as often as it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use cluster::{Eviction, PodRef};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Drain;
use crate::connection::Connection;
use crate::holders::Pod;
use crate::observation::{Observation, PartitionStep};
use crate::schedule::Backoff;

/// How long after a pod was told to end it is looked at again: perhaps another one has taken its name.
const ENDING: Duration = Duration::from_secs(30);

/// How often a disruption budget is asked again.
const BLOCKED: Duration = Duration::from_secs(5);

/// How often a pod that is not evicted is looked at again: its owner may have changed.
const REFUSED: Duration = Duration::from_mins(1);

/// The first wait after a request that failed, and the longest.
const FAILED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How it stands with a pod's eviction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum EvictionState {
    /// It is about to be asked for.
    Due,
    /// The pod was told to end, or has ended: the kubelet is about to take its devices back.
    Ending,
    /// A disruption budget does not let it go now.
    Blocked {
        /// The `PodDisruptionBudget` in the pod's namespace, where the server names it.
        budget: Option<String>,
        /// What the server said.
        message: String,
    },
    /// It is not evicted, since that would not help.
    Refused {
        /// Why.
        reason: String,
    },
    /// It could not be asked for.
    Failed {
        /// Why.
        reason: String,
    },
}

impl EvictionState {
    /// In a word.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Ending => "ending",
            Self::Blocked { .. } => "blocked",
            Self::Refused { .. } => "refused",
            Self::Failed { .. } => "failed",
        }
    }
}

/// A pod that is evicted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EvictionStatus {
    /// The pod.
    pub pod: Pod,
    /// How it stands.
    #[serde(flatten)]
    pub state: EvictionState,
}

impl fmt::Display for EvictionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pod = &self.pod;
        match &self.state {
            EvictionState::Due => write!(f, "pod {pod} is about to be evicted"),
            EvictionState::Ending => write!(f, "pod {pod} is ending"),
            EvictionState::Blocked { budget, message } => {
                let budget = budget.as_ref().map_or_else(
                    || "a PodDisruptionBudget".to_owned(),
                    |budget| format!("PodDisruptionBudget {}/{budget}", pod.namespace),
                );
                write!(f, "{budget} does not let pod {pod} go: {message}")
            }
            EvictionState::Refused { reason } => write!(f, "pod {pod} is not evicted: {reason}"),
            EvictionState::Failed { reason } => {
                write!(f, "pod {pod} could not be evicted: {reason}")
            }
        }
    }
}

/// The evictions so far. Pure: time and answers are given to it.
#[derive(Debug, Default)]
struct Evictions {
    pods: BTreeMap<Pod, Attempt>,
}

#[derive(Debug)]
struct Attempt {
    state: EvictionState,
    due: Instant,
    failures: Backoff,
}

impl Evictions {
    /// These pods have to go, and no others (any more).
    fn follow(&mut self, wanted: &BTreeSet<Pod>, now: Instant) {
        self.pods.retain(|pod, _| wanted.contains(pod));
        for pod in wanted {
            self.pods.entry(pod.clone()).or_insert_with(|| Attempt {
                state: EvictionState::Due,
                due: now,
                failures: Backoff::new(FAILED.0, FAILED.1),
            });
        }
    }

    /// A pod to be evicted now.
    fn due(&self, now: Instant) -> Option<Pod> {
        let mut due = self.pods.iter().filter(|(_, attempt)| attempt.due <= now);
        due.next().map(|(pod, _)| pod.clone())
    }

    /// When the next is due.
    fn next(&self) -> Option<Instant> {
        self.pods.values().map(|attempt| attempt.due).min()
    }

    /// Takes in what became of an attempt.
    fn record(&mut self, pod: &Pod, result: Result<Eviction, String>, now: Instant) {
        let Some(attempt) = self.pods.get_mut(pod) else {
            return;
        };
        let (state, wait) = match result {
            Ok(Eviction::Accepted | Eviction::Gone | Eviction::Finished) => {
                (EvictionState::Ending, ENDING)
            }
            Ok(Eviction::Blocked { budget, message }) => {
                (EvictionState::Blocked { budget, message }, BLOCKED)
            }
            Ok(Eviction::Refused { reason }) => (EvictionState::Refused { reason }, REFUSED),
            Err(reason) => (EvictionState::Failed { reason }, attempt.failures.next()),
        };
        if !matches!(state, EvictionState::Failed { .. }) {
            attempt.failures.reset();
        }
        attempt.state = state;
        attempt.due = now + wait;
    }

    fn status(&self) -> Vec<EvictionStatus> {
        let of = |(pod, attempt): (&Pod, &Attempt)| EvictionStatus {
            pod: pod.clone(),
            state: attempt.state.clone(),
        };
        self.pods.iter().map(of).collect()
    }
}

/// The pods that have to go now.
fn wanted(observation: &Observation) -> BTreeSet<Pod> {
    let partition = observation.partition.iter().filter(|partition| {
        partition.drain == Drain::Evict && partition.step == PartitionStep::Draining
    });
    partition
        .flat_map(|partition| &partition.blockers)
        .filter_map(|blocker| blocker.pod.clone())
        .collect()
}

/// Evicts whoever has to go, until `stop`.
pub(crate) async fn run(
    mut connection: Connection,
    mut observation: watch::Receiver<Observation>,
    status: watch::Sender<Vec<EvictionStatus>>,
    stop: CancellationToken,
) {
    let mut evictions = Evictions::default();
    loop {
        evictions.follow(&wanted(&observation.borrow_and_update()), Instant::now());
        publish(&status, &evictions);
        if let Some(pod) = evictions.due(Instant::now()) {
            let result = tokio::select! {
                () = stop.cancelled() => return,
                result = evict(&mut connection, &pod) => result,
            };
            evictions.record(&pod, result, Instant::now());
            continue;
        }
        let next = evictions.next();
        tokio::select! {
            () = stop.cancelled() => return,
            changed = observation.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {}
        }
    }
}

async fn evict(connection: &mut Connection, pod: &Pod) -> Result<Eviction, String> {
    let client = connection.now()?;
    let pod = PodRef {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: None,
    };
    let result = client.evict(&pod).await;
    match &result {
        Ok(Eviction::Accepted) => tracing::info!(%pod, "evicted"),
        Ok(eviction) => tracing::debug!(%pod, ?eviction, "asked to evict"),
        Err(error) => tracing::debug!(%pod, %error, "not evicted"),
    }
    result.map_err(|error| error.to_string())
}

fn publish(status: &watch::Sender<Vec<EvictionStatus>>, evictions: &Evictions) {
    let next = evictions.status();
    status.send_if_modified(|now| {
        let changed = *now != next;
        *now = next;
        changed
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PartitionStatus;
    use crate::observation::Blocker;

    fn pod(name: &str) -> Pod {
        Pod {
            namespace: "default".to_owned(),
            name: name.to_owned(),
        }
    }

    fn blocked() -> Eviction {
        Eviction::Blocked {
            budget: Some("guard".to_owned()),
            message: "it would violate the budget".to_owned(),
        }
    }

    #[test]
    fn only_pods_in_the_way_are_evicted_and_only_where_that_was_asked_for() {
        let blocker = |name: Option<&str>| Blocker {
            gpu: 0,
            what: "1g.5gb at 0 (GPU instance 1)".to_owned(),
            who: String::new(),
            pod: name.map(pod),
        };
        let with = |drain, step| Observation {
            partition: Some(PartitionStatus {
                drain,
                step,
                blockers: vec![blocker(Some("train")), blocker(None)],
                ..PartitionStatus::default()
            }),
            ..Observation::default()
        };
        let evict = with(Drain::Evict, PartitionStep::Draining);
        assert_eq!(wanted(&evict), [pod("train")].into());
        for other in [
            with(Drain::Wait, PartitionStep::Draining),
            with(Drain::Never, PartitionStep::Refused),
            with(Drain::Evict, PartitionStep::Refused),
        ] {
            assert_eq!(wanted(&other), BTreeSet::new());
        }
    }

    #[test]
    fn a_budget_is_asked_again_until_the_pod_goes_or_need_not_go_any_more() {
        let now = Instant::now();
        let mut evictions = Evictions::default();
        evictions.follow(&[pod("a"), pod("b")].into(), now);
        for name in ["a", "b"] {
            assert_eq!(evictions.due(now), Some(pod(name)));
            evictions.record(&pod(name), Ok(blocked()), now);
        }
        assert_eq!(evictions.due(now), None);
        assert_eq!(evictions.next(), Some(now + BLOCKED));
        let later = now + BLOCKED;
        assert_eq!(evictions.due(later), Some(pod("a")));
        evictions.record(&pod("a"), Ok(Eviction::Accepted), later);
        evictions.follow(&[pod("a")].into(), later);
        assert_eq!(evictions.due(later + BLOCKED), None);
        evictions.follow(&BTreeSet::new(), later);
        assert_eq!(evictions.next(), None);
    }

    #[test]
    fn a_server_that_is_away_is_asked_less_and_less() {
        let mut now = Instant::now();
        let mut evictions = Evictions::default();
        evictions.follow(&[pod("a")].into(), now);
        let mut waits = Vec::new();
        for _ in 0..7 {
            evictions.record(&pod("a"), Err("away".to_owned()), now);
            let next = evictions.next().unwrap();
            waits.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn the_budget_and_the_pod_are_named() {
        let mut evictions = Evictions::default();
        let now = Instant::now();
        evictions.follow(&[pod("train")].into(), now);
        evictions.record(&pod("train"), Ok(blocked()), now);
        assert_eq!(
            evictions.status()[0].to_string(),
            "PodDisruptionBudget default/guard does not let pod default/train go: it would violate the budget"
        );
    }
}

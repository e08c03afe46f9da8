//! The operator's figures in Prometheus' text format.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pool::Slices;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

type Labels = Vec<(&'static str, String)>;

/// The `Content-Type` of [`Metrics::text`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const PREFIX: &str = "migpool_operator";

/// In seconds.
const BUCKETS: [f64; 12] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// One pool's part of the figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolFigures {
    /// Where it is on its way: the status' phase or reason.
    pub(crate) state: String,
    /// The profile or layout of its nodes.
    pub(crate) profile: String,
    /// Its slices.
    pub(crate) slices: Slices,
    /// Its nodes.
    pub(crate) nodes: u32,
    /// Those that are as asked.
    pub(crate) ready: u32,
}

/// What is counted. Cheap to clone; all clones count the same.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Figures>);

#[derive(Debug)]
struct Figures {
    registry: Registry,
    duration: Histogram,
    reconciles: Family<Labels, Counter>,
    requests: Family<Labels, Counter>,
    queue: Gauge,
    leader: Gauge,
    pools: Mutex<Vec<PoolFigures>>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let duration = Histogram::new(BUCKETS);
        registry.register(
            "reconcile_duration_seconds",
            "How long it took to bring a pool one step nearer to what is asked",
            duration.clone(),
        );
        let reconciles = Family::<Labels, Counter>::default();
        registry.register(
            "reconciles",
            "How often a pool was looked at, by result",
            reconciles.clone(),
        );
        let requests = Family::<Labels, Counter>::default();
        registry.register(
            "api_requests",
            "Requests to the API server, by verb",
            requests.clone(),
        );
        let queue = Gauge::default();
        registry.register("queue", "Pools that wait to be looked at", queue.clone());
        let leader = Gauge::default();
        registry.register(
            "leader",
            "1 when this replica is the one that acts",
            leader.clone(),
        );
        Self(Arc::new(Figures {
            registry,
            duration,
            reconciles,
            requests,
            queue,
            leader,
            pools: Mutex::default(),
        }))
    }

    /// Counts one look at a pool; `result` is one of a few words.
    pub(crate) fn reconciled(&self, duration: Duration, result: &'static str) {
        self.0.duration.observe(duration.as_secs_f64());
        let labels = vec![("result", result.to_owned())];
        self.0.reconciles.get_or_create(&labels).inc();
    }

    /// Counts a request to the API server.
    pub(crate) fn requested(&self, verb: &'static str) {
        let labels = vec![("verb", verb.to_owned())];
        self.0.requests.get_or_create(&labels).inc();
    }

    /// What there is of all pools; what was said of them before is forgotten.
    pub(crate) fn set_pools(&self, pools: impl IntoIterator<Item = PoolFigures>) {
        let pools = pools.into_iter().collect();
        *self.0.pools.lock().unwrap_or_else(PoisonError::into_inner) = pools;
    }

    /// Whether this replica leads. One that does not has nothing to say of pools.
    pub(crate) fn set_leader(&self, leads: bool) {
        self.0.leader.set(i64::from(leads));
        if !leads {
            self.set_pools([]);
        }
    }

    /// How many pools wait.
    pub(crate) fn set_queue(&self, length: usize) {
        self.0.queue.set(figure(length));
    }

    /// All of it.
    ///
    /// # Errors
    /// If a figure can't be written.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let pools = self
            .0
            .pools
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut text = String::new();
        encode_registry(&mut text, &self.0.registry)?;
        encode_registry(&mut text, &of_pools(&pools))?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

/// Built for each request, so that no profile or state stays that no pool has any more.
fn of_pools(pools: &[PoolFigures]) -> Registry {
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    let mut slices: BTreeMap<&str, Slices> = BTreeMap::new();
    let mut ready = 0;
    let mut other = 0;
    for pool in pools {
        *states.entry(&pool.state).or_default() += 1;
        *slices.entry(&pool.profile).or_default() += pool.slices;
        ready += u64::from(pool.ready);
        other += u64::from(pool.nodes.saturating_sub(pool.ready));
    }
    let mut registry = Registry::with_prefix(PREFIX);
    let mut add = |name: &str, help: &str| {
        let family = Family::<Labels, Gauge>::default();
        registry.register(name, help, family.clone());
        family
    };
    let of = add("node_pools", "Node pools by state");
    for (state, count) in states {
        set(&of, &vec![("state", state.to_owned())], count);
    }
    let of = add("nodes", "Nodes of pools by state");
    set(&of, &vec![("state", "ready".to_owned())], ready);
    set(&of, &vec![("state", "not_ready".to_owned())], other);
    let of = add(
        "slices",
        "Slices of pools by profile and by what can be had of them",
    );
    for (profile, slices) in slices {
        let states = [
            ("total", slices.total),
            ("ready", slices.ready),
            ("in_use", slices.in_use),
        ];
        for (state, count) in states {
            let labels = vec![("profile", profile.to_owned()), ("state", state.to_owned())];
            set(&of, &labels, count);
        }
    }
    registry
}

fn set(family: &Family<Labels, Gauge>, labels: &Labels, value: u64) {
    family.get_or_create_owned(labels).set(figure(value));
}

fn figure(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(state: &str, profile: &str, total: u64) -> PoolFigures {
        PoolFigures {
            state: state.to_owned(),
            profile: profile.to_owned(),
            slices: Slices {
                total,
                ready: total - 1,
                in_use: 2,
            },
            nodes: 2,
            ready: 1,
        }
    }

    fn has(metrics: &Metrics, line: &str) -> bool {
        let text = metrics.text().unwrap();
        assert!(text.ends_with("# EOF\n"), "{text}");
        text.lines().any(|found| found == line)
    }

    #[test]
    fn pools_nodes_and_slices_are_summed_by_state() {
        let metrics = Metrics::new();
        metrics.set_pools([
            pool("Ready", "1g.5gb", 56),
            pool("Ready", "1g.5gb", 14),
            pool("Degraded", "3g.20gb", 4),
        ]);
        for line in [
            r#"migpool_operator_node_pools{state="Ready"} 2"#,
            r#"migpool_operator_node_pools{state="Degraded"} 1"#,
            r#"migpool_operator_nodes{state="ready"} 3"#,
            r#"migpool_operator_nodes{state="not_ready"} 3"#,
            r#"migpool_operator_slices{profile="1g.5gb",state="total"} 70"#,
            r#"migpool_operator_slices{profile="1g.5gb",state="ready"} 68"#,
            r#"migpool_operator_slices{profile="3g.20gb",state="in_use"} 2"#,
        ] {
            assert!(has(&metrics, line), "{line} not in {:?}", metrics.text());
        }
        metrics.set_pools([pool("Ready", "1g.5gb", 56)]);
        assert!(!metrics.text().unwrap().contains("3g.20gb"));
    }

    #[test]
    fn what_is_counted_stays_and_what_is_said_of_pools_ends_with_the_leading() {
        let metrics = Metrics::new();
        metrics.set_leader(true);
        metrics.set_queue(3);
        metrics.set_pools([pool("Ready", "1g.5gb", 56)]);
        metrics.reconciled(Duration::from_millis(3), "ok");
        metrics.reconciled(Duration::from_secs(2), "conflict");
        metrics.requested("patch");
        assert!(has(&metrics, "migpool_operator_leader 1"));
        metrics.set_leader(false);
        for line in [
            "migpool_operator_leader 0",
            "migpool_operator_queue 3",
            r#"migpool_operator_reconciles_total{result="conflict"} 1"#,
            r#"migpool_operator_api_requests_total{verb="patch"} 1"#,
            "migpool_operator_reconcile_duration_seconds_count 2",
            r#"migpool_operator_reconcile_duration_seconds_bucket{le="0.005"} 1"#,
        ] {
            assert!(has(&metrics, line), "{line} not in {:?}", metrics.text());
        }
        assert!(!metrics.text().unwrap().contains("1g.5gb"));
    }
}

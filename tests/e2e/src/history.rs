//! What became of each node's `GpuNode` while somebody was watching, in the order in which it was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures::StreamExt;
use gpu_node::{GpuNode, Phase};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::time::timeout;

use crate::inside::{Stop, Task};
use crate::wait::LATER;
use crate::world::World;

/// One version of a node's object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// When it came, since the watch began.
    pub(crate) at: Duration,
    /// The node.
    pub(crate) node: String,
    /// The pool that it is in: its name and UID.
    pub(crate) pool: Option<(String, String)>,
    /// It is leaving its pool.
    pub(crate) releasing: bool,
    /// The layout that is wanted of it.
    pub(crate) wanted: Option<String>,
    /// Its agent has what is wanted.
    pub(crate) settled: bool,
}

impl Seen {
    fn of(object: &GpuNode, at: Duration) -> Self {
        let status = object.status.clone().unwrap_or_default();
        let spec = &object.spec;
        Self {
            at,
            node: object.name_any(),
            pool: spec
                .pool
                .as_ref()
                .map(|pool| (pool.name.clone(), pool.uid.clone())),
            releasing: spec.releasing,
            wanted: spec.layout.clone(),
            settled: status.observed_generation == object.metadata.generation
                && status.phase == Phase::Ready
                && status.layout == spec.layout,
        }
    }
}

/// A watch of all `GpuNode`s that goes on until it is ended, and has seen by then what there is.
pub(crate) struct Recording(Task<History>);

impl Recording {
    /// Begins to record.
    ///
    /// # Errors
    /// The thread can't be started.
    pub(crate) fn start(world: &World) -> anyhow::Result<Self> {
        Task::start(world, "history", record).map(Self)
    }

    /// Ends it.
    ///
    /// # Errors
    /// It has ended before by itself.
    pub(crate) fn end(self) -> anyhow::Result<History> {
        self.0.end()
    }
}

async fn record(client: Client, stop: Stop) -> anyhow::Result<History> {
    let mut record = Record {
        began: Instant::now(),
        history: History::default(),
        versions: BTreeMap::new(),
    };
    let objects = Api::<GpuNode>::all(client);
    let mut events = pin!(
        watcher(objects.clone(), watcher::Config::default())
            .default_backoff()
            .applied_objects()
    );
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            _ = &mut stop => break,
            event = events.next() => record.take(event)?,
        }
    }
    // Whoever ends it has heard of all that there is from others, and this watch may be behind theirs.
    let there = objects.list_metadata(&ListParams::default()).await?;
    let rest = async {
        while !there
            .items
            .iter()
            .all(|object| record.knows(&object.metadata))
        {
            record.take(events.next().await)?;
        }
        anyhow::Ok(())
    };
    timeout(LATER, rest)
        .await
        .context("the watch is behind")??;
    Ok(record.history)
}

/// What was seen so far.
struct Record {
    began: Instant,
    history: History,
    /// The version of each object that was seen last.
    versions: BTreeMap<String, u64>,
}

impl Record {
    fn take(&mut self, event: Option<watcher::Result<GpuNode>>) -> anyhow::Result<()> {
        match event {
            Some(Ok(object)) => {
                let at = self.began.elapsed();
                self.history.0.push(Seen::of(&object, at));
                let version = version(&object.metadata);
                self.versions.insert(object.name_any(), version);
            }
            Some(Err(_)) => {}
            None => bail!("the watch has ended"),
        }
        Ok(())
    }

    /// This version of an object was seen, or a later one.
    fn knows(&self, object: &ObjectMeta) -> bool {
        let name = object.name.as_deref().unwrap_or_default();
        let seen = self.versions.get(name);
        seen.is_some_and(|seen| *seen >= version(object))
    }
}

/// The API server counts versions up.
fn version(object: &ObjectMeta) -> u64 {
    let version = object.resource_version.as_deref();
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or_default()
}

/// All that was seen.
#[derive(Debug, Default)]
pub(crate) struct History(pub(crate) Vec<Seen>);

impl History {
    /// No node ever went from one pool to another without having been free between them.
    ///
    /// # Errors
    /// The node that did.
    pub(crate) fn each_node_was_in_one_pool(&self) -> anyhow::Result<()> {
        let mut pools: BTreeMap<&str, &(String, String)> = BTreeMap::new();
        for seen in &self.0 {
            let Some(pool) = &seen.pool else {
                pools.remove(seen.node.as_str());
                continue;
            };
            let before = pools.insert(&seen.node, pool);
            ensure!(
                before.is_none_or(|before| before == pool),
                "{} went from pool {before:?} straight to {pool:?}, {:.1} s after the watch began",
                seen.node,
                seen.at.as_secs_f64()
            );
        }
        Ok(())
    }

    /// The most nodes of a pool that were without what was wanted of them at a time, from `since` on.
    pub(crate) fn most_out_of_work(&self, pool: &str, since: Duration) -> usize {
        let mut out = BTreeSet::new();
        let mut most = 0;
        for seen in &self.0 {
            let of_pool = seen.pool.as_ref().is_some_and(|(name, _)| name == pool);
            if of_pool && !seen.settled {
                out.insert(&seen.node);
            } else {
                out.remove(&seen.node);
            }
            if seen.at >= since {
                most = most.max(out.len());
            }
        }
        most
    }

    /// How long the nodes of a pool took from being told this layout to having it: of each node, sorted.
    pub(crate) fn took(&self, pool: &str, layout: &str) -> Vec<Duration> {
        let mut told: BTreeMap<&str, Duration> = BTreeMap::new();
        let mut took = Vec::new();
        for seen in &self.0 {
            let of_pool = seen.pool.as_ref().is_some_and(|(name, _)| name == pool);
            if !of_pool || seen.wanted.as_deref() != Some(layout) {
                continue;
            }
            if seen.settled {
                took.extend(
                    told.remove(seen.node.as_str())
                        .map(|told| seen.at.saturating_sub(told)),
                );
            } else {
                told.entry(&seen.node).or_insert(seen.at);
            }
        }
        took.sort();
        took
    }
}

#[cfg(test)]
mod tests {
    use gpu_node::GpuNodeSpec;

    use super::*;

    #[test]
    fn what_is_newer_than_what_was_seen_is_not_known() {
        let object = |version: &str| {
            let mut object = GpuNode::new("n", GpuNodeSpec::default());
            object.metadata.resource_version = Some(version.to_owned());
            object
        };
        let mut record = Record {
            began: Instant::now(),
            history: History::default(),
            versions: BTreeMap::new(),
        };
        assert!(!record.knows(&object("9").metadata));
        record.take(Some(Ok(object("10")))).unwrap();
        assert!(record.knows(&object("9").metadata));
        assert!(record.knows(&object("10").metadata));
        assert!(!record.knows(&object("11").metadata));
    }

    fn seen(at: u64, node: &str, pool: Option<&str>, settled: bool) -> Seen {
        Seen {
            at: Duration::from_secs(at),
            node: node.to_owned(),
            pool: pool.map(|name| (name.to_owned(), name.to_owned())),
            releasing: false,
            wanted: Some("MIG1g".to_owned()),
            settled,
        }
    }

    #[test]
    fn a_node_that_changes_pools_without_being_free_is_told() {
        let good = [seen(0, "n", Some("a"), true), seen(1, "n", None, true)];
        let mut history = History(good.to_vec());
        history.0.push(seen(2, "n", Some("b"), true));
        assert!(history.each_node_was_in_one_pool().is_ok());
        history.0.push(seen(3, "n", Some("a"), true));
        let error = history.each_node_was_in_one_pool().unwrap_err();
        assert!(error.to_string().starts_with("n went from"), "{error}");
    }

    #[test]
    fn nodes_out_of_work_are_counted_at_each_moment() {
        let history = History(vec![
            seen(0, "a", Some("p"), false),
            seen(1, "b", Some("p"), false),
            seen(2, "a", Some("p"), true),
            seen(3, "c", Some("p"), false),
            seen(4, "d", Some("other"), false),
            seen(9, "b", Some("p"), true),
        ]);
        assert_eq!(history.most_out_of_work("p", Duration::ZERO), 2);
        assert_eq!(history.most_out_of_work("p", Duration::from_secs(9)), 1);
        let took = history.took("p", "MIG1g");
        assert_eq!(took, [2, 8].map(Duration::from_secs));
    }
}

//! What a change of layout costs the operator when there are many nodes: simulated ones, see [`crate::fleet`].

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;

use crate::audit::{self, Audit};
use crate::charts;
use crate::fleet::{Fleet, SIZE};
use crate::footprint;
use crate::history::Recording;
use crate::operators::{self, OPERATOR};
use crate::pods::Pod;
use crate::pools;
use crate::wait::until;
use crate::world::{CPUNODE, NAMESPACE, World};

/// The pool of all simulated nodes.
const POOL: &str = "fleet";

/// The layouts, before and after.
const LAYOUTS: [&str; 2] = ["MIG1g", "MIG3g"];

/// How many of a hundred nodes may be out of work at a time.
const PERCENT: usize = 10;

/// How long simulated agents take. A real one takes a second or two.
const PACE: Duration = Duration::from_millis(500);

/// The operator's processor time for 5,000 nodes, in seconds.
pub(crate) const PROCESSOR_GOAL: f64 = 60.0;

/// The operator's memory for a node, in KiB.
pub(crate) const MEMORY_GOAL: f64 = 20.0;

/// What was measured.
#[derive(Debug)]
pub(crate) struct Figures {
    /// How many nodes.
    pub(crate) nodes: usize,
    /// Until all of them were in the pool with the first layout, in seconds.
    pub(crate) filled: f64,
    /// Until all had the second, in seconds.
    pub(crate) rolled: f64,
    /// The most that were out of work at a time.
    pub(crate) out_of_work: usize,
    /// From a node's being told the second layout to its having it, in seconds: the median.
    pub(crate) wave: f64,
    /// The operator's processor time while the pool was filled, in seconds.
    pub(crate) filling_processor: f64,
    /// The same while the layout was changed.
    pub(crate) rolling_processor: f64,
    /// The operator's resident memory without nodes, in MiB.
    pub(crate) memory_before: f64,
    /// The most that was seen of it with all nodes.
    pub(crate) memory_after: f64,
    /// The operator's requests to the API server, for each node, while the pool was filled.
    pub(crate) filling_requests: f64,
    /// The same while the layout was changed.
    pub(crate) rolling_requests: f64,
    /// Its requests by verb and resource.
    pub(crate) requests: Vec<(usize, String)>,
    /// The image has a release build.
    pub(crate) is_release: bool,
}

impl Figures {
    /// How many nodes were allowed to be out of work.
    pub(crate) fn allowed(&self) -> usize {
        (self.nodes * PERCENT / 100).max(1)
    }

    /// The memory that each node takes, in KiB.
    pub(crate) fn memory_per_node(&self) -> f64 {
        (self.memory_after - self.memory_before) * 1024.0 / as_float(self.nodes)
    }

    /// The processor time of both, in seconds.
    pub(crate) fn processor(&self) -> f64 {
        self.filling_processor + self.rolling_processor
    }

    /// All of it for a person.
    pub(crate) fn lines(&self) -> Vec<String> {
        let Self { nodes, .. } = self;
        let mut lines = vec![
            format!(
                "{nodes} simulated nodes in a pool after {:.1} s, another layout on all of them after {:.1} s",
                self.filled, self.rolled
            ),
            format!(
                "  out of work at a time: {} nodes at most, {} allowed; a node for {:.2} s (median)",
                self.out_of_work,
                self.allowed(),
                self.wave
            ),
            format!(
                "  the operator's processor time: {:.1} s filling, {:.1} s rolling",
                self.filling_processor, self.rolling_processor
            ),
            format!(
                "  its memory: {:.1} MiB without nodes, {:.1} MiB with them, {:.1} KiB a node",
                self.memory_before,
                self.memory_after,
                self.memory_per_node()
            ),
            format!(
                "  its requests: {:.2} a node filling, {:.2} a node rolling",
                self.filling_requests, self.rolling_requests
            ),
        ];
        let most = self.requests.iter().take(8);
        lines.extend(most.map(|(count, what)| format!("    {count} x {what}")));
        if !self.is_release {
            lines.push("  the image has no release build: the figures say little".to_owned());
        }
        lines
    }
}

/// Brings a pool of so many simulated nodes from nothing to a layout, and from that to another.
///
/// # Errors
/// Something of it does not come about.
pub(crate) fn measure(world: &World, nodes: usize) -> anyhow::Result<Figures> {
    let patience = Duration::from_mins(5) + Duration::from_millis(300) * u32::try_from(nodes)?;
    // The agents of the real nodes are to stay out of this, and with them their nodes.
    operators::install(world, &[&charts::only_on(CPUNODE)])?;
    let operator = operators::leader(world)?;
    let is_release = footprint::is_release(&operator)?;
    let memory_before = settled_memory(&operator)?;
    let fleet = Fleet::start(world, nodes, PACE)?;

    let audit = Audit::from_now_on(world)?;
    let user = audit::user(NAMESPACE, OPERATOR);
    let recording = Recording::start(world)?;
    let began = Instant::now();
    let meter = Meter::start(&operator)?;
    pools::ask(
        world,
        POOL,
        &json!({
            "vmSize": SIZE,
            "count": nodes,
            "layouts": LAYOUTS[0],
            "maxUnavailable": format!("{PERCENT}%"),
        }),
    )?;
    let mut memory_after: f64 = 0.0;
    let mut wait = |fleet: &Fleet<'_>| {
        until("the pool to be as asked", patience, || {
            fleet.goes_on()?;
            memory_after = memory_after.max(footprint::resident(&operator)?);
            let pool = pools::pool(world, POOL)?;
            let status = &pool["status"];
            ensure!(
                status["observedGeneration"] == pool["metadata"]["generation"]
                    && status["phase"] == "Succeeded"
                    && status["readyNodes"] == nodes,
                "{}",
                pools::line(&pool)
            );
            Ok(())
        })
    };
    wait(&fleet)?;
    let filled = began.elapsed();
    let filling_processor = meter.read()?;
    let filling = audit.requests(|whose| whose == user)?.len();

    let second = Instant::now();
    let meter = Meter::start(&operator)?;
    pools::change(world, POOL, &json!({"layouts": LAYOUTS[1]}))?;
    wait(&fleet)?;
    let rolled = second.elapsed();
    let rolling_processor = meter.read()?;
    let requests = audit.requests(|whose| whose == user)?;
    let history = recording.end()?;
    history.each_node_was_in_one_pool()?;
    let took = history.took(POOL, LAYOUTS[1]);
    ensure!(
        took.len() == nodes,
        "{} of {nodes} nodes were seen to change",
        took.len()
    );
    let figures = Figures {
        nodes,
        filled: filled.as_secs_f64(),
        rolled: rolled.as_secs_f64(),
        out_of_work: history.most_out_of_work(POOL, second - began),
        wave: took
            .get(took.len() / 2)
            .context("no node has changed")?
            .as_secs_f64(),
        filling_processor,
        rolling_processor,
        memory_before,
        memory_after,
        filling_requests: as_float(filling) / as_float(nodes),
        rolling_requests: as_float(requests.len() - filling) / as_float(nodes),
        requests: audit::counted(&requests),
        is_release,
    };
    for line in figures.lines() {
        world.log(&line);
    }
    let after = operators::leader(world)?;
    ensure!(
        (&after.uid, after.restarts) == (&operator.uid, operator.restarts),
        "the operator was {}, and is {}",
        operator.line(),
        after.line()
    );
    pools::delete_within(world, POOL, patience)?;
    fleet.end()?;
    Ok(figures)
}

/// The operator's processor time from one moment to another.
struct Meter<'p> {
    pod: &'p Pod,
    before: f64,
}

impl<'p> Meter<'p> {
    fn start(pod: &'p Pod) -> anyhow::Result<Self> {
        let before = footprint::processor_time(pod)?;
        Ok(Self { pod, before })
    }

    fn read(&self) -> anyhow::Result<f64> {
        Ok(footprint::processor_time(self.pod)? - self.before)
    }
}

/// The memory of an operator that has started and has nothing to do.
fn settled_memory(pod: &Pod) -> anyhow::Result<f64> {
    thread::sleep(Duration::from_secs(3));
    footprint::resident(pod)
}

/// Nodes and requests are few enough.
fn as_float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

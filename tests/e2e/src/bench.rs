//! How long it takes until a new agent's slices can be had, where the time goes, and what the agent takes of memory; and what
//! the operator takes for thousands of nodes.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::charts;
use crate::checks;
use crate::footprint;
use crate::machine::workspace;
use crate::scaling;
use crate::wait::{LATER, SOON, until};
use crate::world::{CPUNODE, MIGNODE, World};

/// How often; the medians count.
const ROUNDS: usize = 5;

const RESOURCE: &str = "nvidia.com/gpu";

/// From the pod to 56 slices that can be had, in seconds.
const READY_GOAL: f64 = 3.0;

/// The nodes of a large cluster.
const NODES: usize = 5000;

/// The image, compressed, in MiB.
const IMAGE_GOAL: f64 = 20.0;

/// A pod's way to 56 slices: when it came where, in seconds since it was created.
struct Round {
    /// It is bound to its node.
    scheduled: f64,
    /// Its program has begun.
    started: f64,
    /// The GPUs have their slices.
    partitioned: f64,
    /// The kubelet has taken the resource.
    registered: f64,
    /// The API server shows 56 that can be had.
    allocatable: f64,
}

/// Measures and prints.
///
/// # Errors
/// The cluster does not do what it is asked.
pub(crate) fn run(world: &World) -> anyhow::Result<()> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        world.fresh()?;
        rounds.push(round(world)?);
    }
    let median = |of: fn(&Round) -> f64| {
        let mut all: Vec<_> = rounds.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(ROUNDS / 2).copied().unwrap_or(f64::NAN)
    };
    compare(
        &format!("pod of the agent created to 56 slices allocatable, median of {ROUNDS}"),
        median(|round| round.allocatable),
        READY_GOAL,
        "s",
    );
    for (what, took) in [
        ("created to scheduled", median(|round| round.scheduled)),
        (
            "scheduled to the agent's first line",
            median(|round| round.started - round.scheduled),
        ),
        (
            "to 56 slices made",
            median(|round| round.partitioned - round.started),
        ),
        (
            "to taken by the kubelet",
            median(|round| round.registered - round.partitioned),
        ),
        (
            "to told by the kubelet to the API server, which it does each second here (each ten by default)",
            median(|round| round.allocatable - round.registered),
        ),
    ] {
        println!("  {what}: {took:.2} s");
    }

    let busy = world.release_pod("migpool", MIGNODE)?;
    if !footprint::is_release(&busy)? {
        println!("the image has no release build: the figures of memory say little");
    }
    compare(
        "agent on a node with 56 slices, resident",
        footprint::resident(&busy)?,
        footprint::BUSY_GOAL,
        "MiB",
    );
    world.fresh()?;
    install(world, CPUNODE)?;
    until("an agent without GPUs to be ready", LATER, || {
        let pod = world.release_pod("migpool", CPUNODE)?;
        ensure!(pod.runs(), "{}", pod.line());
        Ok(())
    })?;
    let idle = world.release_pod("migpool", CPUNODE)?;
    let set = until("the kubelet to know the working set", LATER, || {
        footprint::working_set(world, &idle)
    })?;
    compare(
        "agent on a node without GPUs, working set",
        set,
        footprint::IDLE_GOAL,
        "MiB",
    );
    compare("image, compressed", image()?, IMAGE_GOAL, "MiB");
    world.fresh()?;
    operator(world)?;
    world.fresh()
}

/// A pool of many simulated nodes, filled and brought to another layout.
fn operator(world: &World) -> anyhow::Result<()> {
    let figures = scaling::measure(world, NODES)?;
    for line in figures.lines() {
        println!("{line}");
    }
    compare(
        &format!("operator, processor time for both with {NODES} nodes"),
        figures.processor(),
        scaling::PROCESSOR_GOAL,
        "s",
    );
    compare(
        "operator, memory for a node",
        figures.memory_per_node(),
        scaling::MEMORY_GOAL,
        "KiB",
    );
    Ok(())
}

/// A figure, its goal and their ratio: below 1 is better than the goal.
fn compare(what: &str, measured: f64, goal: f64, unit: &str) {
    println!(
        "{what}: {measured:.2} {unit}, goal {goal} {unit}, ratio {:.2}",
        measured / goal
    );
}

fn install(world: &World, node: &str) -> anyhow::Result<()> {
    charts::install(
        world,
        "migpool",
        "migpool",
        &[
            "gpuInstanceProfile=MIG1g",
            "migStrategy=single",
            &charts::only_on(node),
        ],
    )
}

fn round(world: &World) -> anyhow::Result<Round> {
    let node = world.node(MIGNODE);
    node.partition("off")?;
    checks::nothing_allocatable(world, node, RESOURCE, LATER)?;
    let pods = Watch::of(world, "/api/v1/namespaces/default/pods?watch=true")?;
    let path = format!("/api/v1/nodes?watch=true&fieldSelector=metadata.name%3D{MIGNODE}");
    let nodes = Watch::of(world, &path)?;

    install(world, MIGNODE)?;
    let of_agent =
        |pod: &Value| pod["metadata"]["labels"]["app.kubernetes.io/component"] == "agent";
    let created = pods.first(of_agent)?;
    let scheduled = pods.first(|pod| of_agent(pod) && pod["spec"]["nodeName"].is_string())?;
    let allocatable = nodes.first(|node| node["status"]["allocatable"][RESOURCE] == "56")?;

    let agent = world.release_pod("migpool", MIGNODE)?;
    let log = world.kubectl(&["logs", "--timestamps", &agent.name])?;
    let logged = |words: &str| {
        let line = log.lines().find(|line| line.contains(words));
        line.and_then(|line| line.split(' ').next())
            .with_context(|| format!("the agent's log has no `{words}`:\n{log}"))
            .and_then(seconds)
    };
    let since = |at: f64| at - created;
    Ok(Round {
        scheduled: since(scheduled),
        started: since(logged("")?),
        partitioned: since(logged("the GPUs have the wanted layout")?),
        registered: since(logged("registered with the kubelet")?),
        allocatable: since(allocatable),
    })
}

/// The compressed size of the image, as its making has told it.
fn image() -> anyhow::Result<f64> {
    let path = workspace().join("target/images/migpool.made");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let bytes: u32 = text
        .lines()
        .find_map(|line| line.strip_prefix("compressed ")?.trim().parse().ok())
        .with_context(|| format!("{} tells no size", path.display()))?;
    Ok(f64::from(bytes) / f64::from(1 << 20))
}

/// The seconds since 1970 of a time as containerd writes it: `2026-11-24T04:26:11.123456789Z`.
fn seconds(time: &str) -> anyhow::Result<f64> {
    let time = humantime::parse_rfc3339(time).with_context(|| format!("`{time}` is no time"))?;
    Ok(time.duration_since(UNIX_EPOCH)?.as_secs_f64())
}

/// A watch of the API server, each object with the time at which it came.
struct Watch {
    process: Child,
    seen: Receiver<(f64, Value)>,
    kept: RefCell<Vec<(f64, Value)>>,
}

impl Watch {
    fn of(world: &World, path: &str) -> anyhow::Result<Self> {
        let mut process = world
            .cluster()
            .command("kubectl")
            .args(["get", "--raw", path])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start kubectl")?;
        let printed = process.stdout.take().context("no standard output")?;
        let (say, seen) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(printed).lines().map_while(Result::ok) {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                let now = now.unwrap_or_default().as_secs_f64();
                if let Ok(mut event) = serde_json::from_str::<Value>(&line) {
                    let _ = say.send((now, event["object"].take()));
                }
            }
        });
        Ok(Self {
            process,
            seen,
            kept: RefCell::default(),
        })
    }

    /// When the first object came that is like this; it is waited for.
    fn first(&self, is_it: impl Fn(&Value) -> bool) -> anyhow::Result<f64> {
        let mut kept = self.kept.borrow_mut();
        until("what is watched for", SOON, || {
            while let Ok(seen) = self.seen.recv_timeout(Duration::from_millis(10)) {
                kept.push(seen);
            }
            let found = kept.iter().find(|(_, object)| is_it(object));
            found.map(|(at, _)| *at).context("it has not come")
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

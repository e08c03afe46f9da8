//! How much memory our components take.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use rustix::process::Pid;

use crate::machine::workspace;
use crate::nodes::processes;
use crate::pods::Pod;
use crate::world::World;

/// The goal for an agent on a node with 56 slices, in MiB.
pub(crate) const BUSY_GOAL: f64 = 20.0;

/// The goal for the working set of an agent on a node without GPUs, in MiB.
pub(crate) const IDLE_GOAL: f64 = 10.0;

/// What the kubelet counts as a pod's working set, in MiB: what `kubectl top` shows, and what a memory limit and the
/// eviction of pods go by. Pages of the program's file that the kernel can drop at any time, and that the image's other
/// containers share, are not in it; how many of them are resident depends on what the page cache holds.
///
/// # Errors
/// The kubelet does not tell it (yet: it looks every few seconds).
pub(crate) fn working_set(world: &World, pod: &Pod) -> anyhow::Result<f64> {
    let node = pod.node.as_deref().context("a pod without a node")?;
    let metrics = world.kubectl(&[
        "get",
        "--raw",
        &format!("/api/v1/nodes/{node}/proxy/metrics/resource"),
    ])?;
    let namespace = format!("namespace=\"{}\"", pod.namespace);
    let name = format!("pod=\"{}\"", pod.name);
    let bytes: f64 = metrics
        .lines()
        .filter(|line| line.starts_with("pod_memory_working_set_bytes{"))
        .find(|line| line.contains(&namespace) && line.contains(&name))
        .and_then(|line| {
            line.split_once('}')?
                .1
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .with_context(|| {
            format!(
                "the kubelet of {node} tells no working set of {}",
                pod.line()
            )
        })?;
    ensure!(
        bytes > 0.0,
        "the kubelet of {node} has not looked at {} yet: it tells a working set of 0",
        pod.line()
    );
    Ok(bytes / 1024.0 / 1024.0)
}

/// A pod's working set is no more than the goal. A build for debugging is not held to it, which is said.
///
/// # Errors
/// It is more, or not known.
pub(crate) fn working_set_within(world: &World, pod: &Pod, goal: f64) -> anyhow::Result<()> {
    let working_set = working_set(world, pod)?;
    let resident = resident(pod)?;
    let line = format!(
        "{} has a working set of {working_set:.1} MiB ({resident:.1} MiB resident, with the program's file)",
        pod.line()
    );
    if !is_release(pod)? {
        println!("not checked, since the image has no release build: {line}, goal {goal} MiB");
        return Ok(());
    }
    world.log(&line);
    ensure!(working_set < goal, "{line}, and the goal is {goal} MiB");
    Ok(())
}

/// What a pod's one process of ours has resident, in MiB.
///
/// # Errors
/// There is not exactly one.
pub(crate) fn resident(pod: &Pod) -> anyhow::Result<f64> {
    let process = process(pod)?;
    let status = fs::read_to_string(proc(process, "status"))?;
    let kibibytes: u32 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok())
        .with_context(|| format!("process {process} has no VmRSS: {status}"))?;
    Ok(f64::from(kibibytes) / 1024.0)
}

/// The processor time that a pod's one process of ours has taken since it began, in seconds.
///
/// # Errors
/// There is not exactly one.
pub(crate) fn processor_time(pod: &Pod) -> anyhow::Result<f64> {
    let process = process(pod)?;
    let stat = fs::read_to_string(proc(process, "stat"))?;
    // The second word is the program's name in brackets, and may have spaces; user and system time are the 14th and 15th.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let times: Vec<u32> = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .map_while(|ticks| ticks.parse().ok())
        .collect();
    ensure!(times.len() == 2, "process {process} has no times: {stat}");
    let ticks: f64 = times.into_iter().map(f64::from).sum();
    Ok(ticks / f64::from(u32::try_from(rustix::param::clock_ticks_per_second())?))
}

/// Whether a pod runs the release build of the checkout.
///
/// # Errors
/// Its program can't be read.
pub(crate) fn is_release(pod: &Pod) -> anyhow::Result<bool> {
    let release = workspace().join("target/release/migpool");
    let running = proc(process(pod)?, "exe");
    // The image's program may have lost its symbols; one for debugging is several times as large even so.
    let size = |path: &Path| fs::metadata(path).map(|data| data.len());
    Ok(release.exists() && size(&running)? <= size(&release)?)
}

fn process(pod: &Pod) -> anyhow::Result<Pid> {
    let mut processes = processes(&pod.uid, "migpool")?;
    ensure!(
        processes.len() == 1,
        "{} has {} processes of migpool",
        pod.line(),
        processes.len()
    );
    processes.pop().context("no process")
}

fn proc(process: Pid, file: &str) -> std::path::PathBuf {
    Path::new("/proc")
        .join(process.as_raw_nonzero().to_string())
        .join(file)
}

//! How much memory our components take.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use rustix::process::Pid;

use crate::nodes::processes;
use crate::pods::Pod;
use crate::world::{World, workspace};

/// The goal for an agent on a node with 56 slices, in MiB.
pub(crate) const BUSY_GOAL: f64 = 20.0;

/// The goal for an agent on a node without GPUs, in MiB.
pub(crate) const IDLE_GOAL: f64 = 10.0;

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

/// A pod takes no more than the goal. A build for debugging is not held to it, which is said.
///
/// # Errors
/// It takes more.
pub(crate) fn within(world: &World, pod: &Pod, goal: f64) -> anyhow::Result<()> {
    let resident = resident(pod)?;
    if !is_release(pod)? {
        println!(
            "not checked, since the image has no release build: {resident:.1} MiB resident, goal {goal} MiB"
        );
        return Ok(());
    }
    world.log(&format!("{} has {resident:.1} MiB resident", pod.line()));
    ensure!(
        resident < goal,
        "{} has {resident:.1} MiB resident, and the goal is {goal} MiB",
        pod.line()
    );
    Ok(())
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

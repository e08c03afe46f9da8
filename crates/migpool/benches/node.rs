//! A node's figures: from the start of the agent to 56 advertised slices, and the memory that it then has.
//!
//! The agent is the real program on a simulated machine of eight A100s; the kubelet's side is the device manager of
//! `local`. Medians of several runs; nothing fails on a slow machine.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use local::kubelet::DeviceManager;

const RUNS: usize = 7;
const SLICES: u64 = 56;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run())
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let (mut fresh, mut again, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let folder = tempfile::tempdir()?;
        let board = mig::board("A100-40GB")?;
        nvml_sim::DriverRoot::create(folder.path().join("root"), &[(board, 8)])?;
        // First with everything to do, then as after a restart of the agent: the slices are there.
        let (took, _) = start(folder.path(), "first").await?;
        fresh.push(took);
        let (took, kib) = start(folder.path(), "second").await?;
        again.push(took);
        memory.push(kib);
    }
    compare(
        "agent start to 56 slices advertised, slices there",
        millis(&mut again),
        300.0,
        "ms",
    );
    compare(
        "agent start to 56 slices advertised, to be made",
        millis(&mut fresh),
        300.0,
        "ms",
    );
    memory.sort_unstable();
    let median = f64::from(memory.get(RUNS / 2).copied().unwrap_or_default()) / 1024.0;
    compare(
        "agent's resident memory with 56 slices",
        median,
        15.0,
        "MiB",
    );
    Ok(())
}

/// Starts an agent, waits until its slices are advertised, and gives how long that took and its resident KiB.
async fn start(folder: &Path, name: &str) -> Result<(Duration, u32), Box<dyn std::error::Error>> {
    let kubelet = folder.join(name);
    std::fs::create_dir_all(&kubelet)?;
    let manager = DeviceManager::start(&kubelet)?;
    let mut view = manager.view();
    let began = Instant::now();
    let mut agent = Agent(
        Command::new(env!("CARGO_BIN_EXE_migpool"))
            .args([
                "agent",
                "--layout",
                "MIG1g",
                "--mig-strategy",
                "single",
                "--node-name",
                "bench",
            ])
            .arg("--driver-root")
            .arg(folder.join("root"))
            .arg("--kubelet-dir")
            .arg(&kubelet)
            .arg("--state-dir")
            .arg(folder.join("state"))
            .arg("--labels-file")
            .arg(folder.join("labels"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?,
    );
    let advertised = view.wait_for(|view| {
        view.ledger()
            .allocatable()
            .get("nvidia.com/gpu")
            .is_some_and(|count| *count == SLICES)
    });
    tokio::time::timeout(Duration::from_secs(30), advertised).await??;
    let took = began.elapsed();
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.0.id()))?;
    let resident = status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .unwrap_or_default();
    agent.0.kill()?;
    agent.0.wait()?;
    Ok((took, resident))
}

/// An agent that does not outlive the benchmark.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn millis(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times.get(RUNS / 2).map_or(0.0, Duration::as_secs_f64) * 1000.0
}

/// Prints a figure, its goal and their ratio: below 1 is better than the goal.
fn compare(what: &str, measured: f64, goal: f64, unit: &str) {
    println!(
        "{what}, median of {RUNS}: {measured:.1} {unit}, goal {goal} {unit}, ratio {:.2}",
        measured / goal
    );
}

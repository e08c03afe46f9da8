//! How long an agent takes from its start to 56 advertised slices, against a process that only starts; and how much
//! memory it then holds.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../../device-plugin/tests/support/kubelet.rs"]
mod kubelet;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kubelet::Kubelet;
use migpool_agent::{AgentConfig, PartitionConfig, run};
use nvml_sim::DriverRoot;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

/// Set for the process that is measured: the node's folder.
const NODE: &str = "MIGPOOL_BENCH_NODE";
const RESOURCE: &str = "nvidia.com/gpu";
const ROUNDS: usize = 20;

fn main() {
    match env::var_os(NODE) {
        Some(folder) => agent(Path::new(&folder)),
        None => measure(),
    }
}

/// The process that is measured.
fn agent(folder: &Path) {
    let root = folder.join("root");
    let config = AgentConfig {
        driver_root: root.clone(),
        partition: Some(PartitionConfig {
            layout: "MIG1g".parse().unwrap(),
            state_dir: folder.join("state"),
            replace_all: false,
            pod_resources: None,
        }),
        plugin: Some(device_plugin::Config {
            mig_strategy: mig::MigStrategy::Single,
            driver_root: root.clone(),
            dev_root: root,
            pass_device_specs: true,
            kubelet_dir: folder.join("kubelet"),
            ..device_plugin::Config::default()
        }),
        status_file: Some(folder.join("status.json")),
        lifeline: true,
        ..AgentConfig::default()
    };
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(run(config, CancellationToken::new()))
        .unwrap();
}

fn spawn(folder: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .env(NODE, folder)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Ends the process by its lifeline.
fn end(mut child: Child) {
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    DriverRoot::create(&root, &[(mig::board("A100-40GB").unwrap(), 8)]).unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();

    let (first, _) = runtime.block_on(start(folder.path()));
    println!("agent start to 56 advertised, GPUs not yet partitioned: {first:?}");
    let mut starts = Vec::new();
    let mut resident = (0, 0);
    for _ in 0..ROUNDS {
        let (time, memory) = runtime.block_on(start(folder.path()));
        starts.push(time);
        resident = memory.max(resident);
    }
    starts.sort_unstable();
    println!(
        "agent start to 56 advertised, GPUs partitioned: median {:?}, longest {:?} of {ROUNDS}",
        starts[ROUNDS / 2],
        starts[ROUNDS - 1]
    );
    let bare = bare_start();
    let ratio = starts[ROUNDS / 2].as_secs_f64() / bare.as_secs_f64();
    println!("a process that does nothing: {bare:?}, ratio {ratio:.1}");
    let mib = |kib: u32| f64::from(kib) / 1024.0;
    println!(
        "resident memory with 56 slices: {:.1} MiB, {:.1} MiB of it not a file's",
        mib(resident.0),
        mib(resident.1)
    );
}

/// The time that one agent takes, and its resident memory in KiB: all of it, and what is not a file's.
async fn start(folder: &Path) -> (Duration, (u32, u32)) {
    let kubelet = Kubelet::start(&folder.join("kubelet"));
    let begun = Instant::now();
    let child = spawn(folder);
    kubelet.until_counts(RESOURCE, 56, 56).await;
    let time = begun.elapsed();
    let memory = (memory(child.id(), "VmRSS:"), memory(child.id(), "RssAnon:"));
    end(child);
    kubelet.stop().await;
    (time, memory)
}

fn bare_start() -> Duration {
    let begun = Instant::now();
    assert!(Command::new("/bin/true").status().unwrap().success());
    begun.elapsed()
}

fn memory(pid: u32, what: &str) -> u32 {
    let status = fs::read_to_string(PathBuf::from(format!("/proc/{pid}/status"))).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(what))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

//! `cargo xtask bench`: speed and size against the goals of SPECIFICATION.md, as ratios. Nothing fails on a slow machine.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use crate::step::{Error, cargo, release_binary, root, run};

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Also time a release build from nothing, in a folder of its own
    #[arg(long)]
    clean_build: bool,
}

/// Runs of the demo; the median counts.
const DEMO_RUNS: usize = 5;

impl Bench {
    pub(crate) fn run(&self) -> Result<(), Error> {
        let binary = release_binary()?;
        println!("\n== the demo and the binary");
        demo(&binary)?;
        size(&binary)?;
        println!("\n== a node: start of the agent, memory, a pod's slice");
        run(&mut cargo(&[
            "bench",
            "--quiet",
            "--package",
            "migpool",
            "--bench",
            "node",
        ]))?;
        println!("\n== Allocate, beside a bare tonic echo on the same kind of socket");
        run(&mut cargo(&[
            "bench",
            "--quiet",
            "--package",
            "migpool-device-plugin",
            "--bench",
            "allocate",
        ]))?;
        println!("\n== the planner, over the transitions of an A100");
        run(&mut cargo(&[
            "bench",
            "--quiet",
            "--package",
            "migpool-mig",
            "--bench",
            "planner",
        ]))?;
        println!("\n== the door of the ARM front, beside a bare axum and rustls");
        run(&mut cargo(&[
            "bench",
            "--quiet",
            "--package",
            "migpool-gateway",
            "--bench",
            "gateway",
        ]))?;
        println!("\n== an idle server");
        run(&mut cargo(&[
            "bench",
            "--quiet",
            "--package",
            "migpool",
            "--bench",
            "idle",
        ]))?;
        println!("\n== the front and the controller, with 100,000 pools in the store");
        run(&mut cargo(&[
            "bench",
            "--quiet",
            "--package",
            "migpool-local",
            "--bench",
            "many_pools",
        ]))?;
        if self.clean_build {
            clean_build()?;
        }
        Ok(())
    }
}

/// Prints a figure, its goal and their ratio: below 1 is better than the goal.
fn compare(what: &str, measured: f64, goal: f64, unit: &str) {
    println!(
        "{what}: {measured:.2} {unit}, goal {goal} {unit}, ratio {:.2}",
        measured / goal
    );
}

fn demo(binary: &Path) -> Result<(), Error> {
    let mut times = Vec::new();
    for _ in 0..DEMO_RUNS {
        let began = Instant::now();
        let status = Command::new(binary)
            .arg("demo")
            .stdout(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(Error::Failed {
                command: "migpool demo".to_owned(),
                status,
            });
        }
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let median = times.get(DEMO_RUNS / 2).map_or(0.0, Duration::as_secs_f64);
    compare(&format!("demo, median of {DEMO_RUNS}"), median, 5.0, "s");
    Ok(())
}

fn size(binary: &Path) -> Result<(), Error> {
    let bytes = u32::try_from(std::fs::metadata(binary)?.len()).unwrap_or(u32::MAX);
    compare(
        "release binary",
        f64::from(bytes) / f64::from(1 << 20),
        24.0,
        "MiB",
    );
    Ok(())
}

fn clean_build() -> Result<(), Error> {
    println!("\n== a release build from nothing");
    let folder = tempfile::tempdir_in(root().join("target"))?;
    let began = Instant::now();
    run(cargo(&["build", "--release", "--package", "migpool"])
        .env("CARGO_TARGET_DIR", folder.path()))?;
    compare(
        "clean release build",
        began.elapsed().as_secs_f64(),
        300.0,
        "s",
    );
    Ok(())
}

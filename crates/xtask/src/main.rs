//! The project's own chores: `cargo xtask test` is everything that must hold before a change lands, `cargo xtask
//! demo` the article in all its forms, `cargo xtask bench` the figures of SPECIFICATION.md, printed as ratios.
#![forbid(unsafe_code)]

mod bench;
mod charts;
mod cluster;
mod demo;
mod e2e;
mod images;
#[cfg(test)]
mod specification;
mod step;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    about = "The project's own chores",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Formatting, lints, docs, dependencies, every test, and the demo in all its forms
    Test(test::Test),
    /// `migpool demo` for every profile and strategy, and once as a user who is not root
    Demo,
    /// Speed and size against the goals of SPECIFICATION.md
    Bench(bench::Bench),
    /// The charts, packed into a repository in target/charts that `migpool up --chart-repository` serves
    Charts(charts::Charts),
    /// The container images as files in target/images, made without a Docker daemon and without a registry
    Images(images::Images),
    /// A Kubernetes on this machine, of nodes with simulated boards: up, down, kubectl ARGS, helm ARGS, shell NODE
    Cluster(cluster::Cluster),
    /// Every promise about a Kubernetes cluster, tried on a real one
    E2e(e2e::EndToEnd),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Test(test) => test.run(),
        Chore::Demo => demo::run(),
        Chore::Bench(bench) => bench.run(),
        Chore::Charts(charts) => charts.run(),
        Chore::Images(images) => images.run(),
        Chore::Cluster(cluster) => cluster.run(),
        Chore::E2e(e2e) => e2e.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

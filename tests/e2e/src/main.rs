//! What migpool promises of a Kubernetes cluster, tried on a real one.
//!
//! `e2e [SUITE|TEST]...` starts the test cluster (crate `test_cluster`), gives its nodes simulated boards with our own
//! chart, and runs the suites one after the other against it: [`suite`] is what a suite is, [`suites`] has one file for
//! each. [`world`] is the shared cluster, [`nodes`] what can be seen on a node from outside Kubernetes, [`pods`] and
//! [`charts`] what tests put into the cluster, [`checks`] what has to hold. The checks answer with a `Result`, so that
//! suite `soundness` can show that they fail where they must: on a device plugin of ours that is broken on purpose
//! ([`plugin`]).
//!
//! What needs no cluster runs on the [`machine`] alone: a [`stage`] sets up what a test needs when the first one comes that does,
//! and has several clusters where tests run side by side.
//!
//! Node pools have [`pools`] and [`operators`]; where more nodes are needed than there are, a [`fleet`] of simulated ones.
//! [`inside`] is how this program asks the API server by itself, [`history`] and [`audit`] are what was seen meanwhile,
//! and [`rights`] holds that against what roles allow.
//! [`azure`] is migpool's front for Azure's clients, and those clients.
#![forbid(unsafe_code)]

mod audit;
mod azure;
mod bench;
mod charts;
mod checks;
mod fleet;
mod footprint;
mod history;
mod inside;
mod machine;
mod nodes;
mod operators;
mod plugin;
mod pods;
mod pools;
mod recording;
mod rights;
mod scaling;
mod seen;
mod stage;
mod suite;
mod suites;
mod told;
mod traces;
mod wait;
mod world;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use libtest_mimic::{Failed, Trial};

use crate::machine::Machine;
use crate::stage::Stage;
use crate::suite::On;
use crate::world::World;

/// Tries what migpool promises of a Kubernetes cluster on a real one.
#[derive(Debug, Parser)]
#[command(name = "e2e")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct Options {
    /// Suites, or parts of tests' names; all of them by default
    names: Vec<String>,
    /// Only those that need no cluster
    #[arg(long, conflicts_with_all = ["bench", "stop", "keep"])]
    without_cluster: bool,
    /// Only list the tests
    #[arg(long)]
    list: bool,
    /// Leave the cluster up, for a next run or a person to use
    #[arg(long)]
    keep: bool,
    /// Stop at the first test that fails, and leave the cluster as it is
    #[arg(long)]
    fail_fast: bool,
    /// Stop the cluster that an earlier run kept, and do nothing else
    #[arg(long, conflicts_with_all = ["names", "keep"])]
    stop: bool,
    /// Measure instead of testing, and print figures with their goals
    #[arg(long, conflicts_with_all = ["names", "list"])]
    bench: bool,
    /// The cluster's name, among those of this checkout
    #[arg(long, value_name = "NAME", default_value = "e2e-cluster")]
    cluster: String,
    /// How many clusters to run tests on at a time; the second one is called NAME-2
    #[arg(long, value_name = "COUNT", default_value_t = NonZeroUsize::MIN)]
    clusters: NonZeroUsize,
    /// The seed of everything random; another one each time by default
    #[arg(long, env = "MIGPOOL_E2E_SEED")]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.stop {
        return match World::stop_kept(&options.cluster) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    if options.bench {
        return match measure(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let mut chosen = match suite::choose(&suites::all(), &options.names) {
        Ok(chosen) => chosen,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(2);
        }
    };
    if options.without_cluster {
        chosen.retain(|chosen| matches!(chosen.on, On::Machine(_)));
    }
    let arguments = libtest_mimic::Arguments {
        test_threads: Some(options.clusters.get()),
        list: options.list,
        ..Default::default()
    };
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    if !options.list {
        println!("seed {seed} (--seed {seed} repeats what is random)");
    }

    let stage = Arc::new(Stage::new(&options, seed));
    let trials = chosen
        .into_iter()
        .map(|chosen| {
            let stage = Arc::clone(&stage);
            Trial::test(chosen.name.clone(), move || {
                let outcome = stage.run(&chosen);
                outcome.map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);

    // The trials are gone, and with them every other owner.
    let ended = Arc::into_inner(stage).map(|stage| stage.end(conclusion.has_failed()));
    if let Some(Err(error)) = ended {
        eprintln!("error: the cluster could not be stopped: {error:#}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// Measures on a cluster, and stops that.
fn measure(options: &Options) -> anyhow::Result<()> {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    let machine = Arc::new(Machine::new(&options.cluster, seed)?);
    let world = World::start(machine, &options.cluster, options.keep)?;
    let measured = bench::run(&world);
    let ended = world.end(options.keep);
    measured.and(ended)
}

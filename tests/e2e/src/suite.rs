//! What a suite is: a name and a list of tests, that run against one shared cluster or need none.

use anyhow::{Context, bail};

use crate::machine::Machine;
use crate::world::World;

/// How a test ends.
pub(crate) type Outcome = anyhow::Result<()>;

/// One promise, and how it is tried.
#[derive(Clone, Copy)]
pub(crate) struct Test {
    /// The promise.
    pub(crate) name: &'static str,
    /// Tries it. It begins with the world as [`World::fresh`] leaves it.
    pub(crate) run: fn(&World) -> Outcome,
}

/// One promise that needs no cluster, and how it is tried.
#[derive(Clone, Copy)]
pub(crate) struct Alone {
    /// The promise.
    pub(crate) name: &'static str,
    /// Tries it.
    pub(crate) run: fn(&Machine) -> Outcome,
}

/// Where a promise is tried, and how.
#[derive(Clone, Copy)]
pub(crate) enum On {
    /// On the shared cluster.
    Cluster(fn(&World) -> Outcome),
    /// On this machine alone.
    Machine(fn(&Machine) -> Outcome),
}

/// Tests of one subject. They run one after the other, in their order.
pub(crate) struct Suite {
    /// How the command line calls it.
    pub(crate) name: &'static str,
    /// Its tests: each one's name, and where and how it is tried.
    pub(crate) tests: Vec<(&'static str, On)>,
}

impl Suite {
    /// A suite of these tests.
    pub(crate) fn new(name: &'static str, tests: &[Test]) -> Self {
        Self::alone(name, &[]).and(tests)
    }

    /// A suite of these tests, that need no cluster.
    pub(crate) fn alone(name: &'static str, tests: &[Alone]) -> Self {
        let tests = tests.iter().map(|test| (test.name, On::Machine(test.run)));
        Self {
            name,
            tests: tests.collect(),
        }
    }

    /// The suite, and then these tests.
    pub(crate) fn and(mut self, tests: &[Test]) -> Self {
        let tests = tests.iter().map(|test| (test.name, On::Cluster(test.run)));
        self.tests.extend(tests);
        self
    }
}

/// A test of a suite, by its whole name, `suite::test`.
#[derive(Clone)]
pub(crate) struct Chosen {
    /// `suite::test`.
    pub(crate) name: String,
    /// Where and how it is tried.
    pub(crate) on: On,
}

/// The tests that `wanted` names, in the suites' own order: a suite's name, or a part of a test's whole name. All of
/// them where nothing is named.
///
/// # Errors
/// A name that is no suite's and no test's.
pub(crate) fn choose(suites: &[Suite], wanted: &[String]) -> anyhow::Result<Vec<Chosen>> {
    for name in wanted {
        if !suites.iter().any(|suite| {
            suite
                .tests
                .iter()
                .any(|(test, _)| names(suites, suite, test, name))
        }) {
            let known: Vec<_> = suites.iter().map(|suite| suite.name).collect();
            bail!(
                "no suite and no test is called {name}; the suites are {}",
                known.join(", ")
            );
        }
    }
    Ok(suites
        .iter()
        .flat_map(|suite| suite.tests.iter().map(move |(test, on)| (suite, test, on)))
        .filter(|(suite, test, _)| {
            wanted.is_empty() || wanted.iter().any(|name| names(suites, suite, test, name))
        })
        .map(|(suite, test, on)| Chosen {
            name: format!("{}::{test}", suite.name),
            on: *on,
        })
        .collect())
}

fn names(suites: &[Suite], suite: &Suite, test: &str, wanted: &str) -> bool {
    if suites.iter().any(|suite| suite.name == wanted) {
        suite.name == wanted
    } else {
        format!("{}::{test}", suite.name).contains(wanted)
    }
}

/// Runs a test on a fresh world. Where it fails, what the cluster looks like is added to why.
pub(crate) fn run(world: &World, name: &str, test: fn(&World) -> Outcome) -> Outcome {
    world.log(&format!("==== {name}"));
    let outcome = world
        .fresh()
        .context("the cluster could not be brought back to how a test begins")
        .and_then(|()| test(world));
    let outcome = told(world.machine(), name, outcome);
    outcome.or_else(|error| {
        let state = world.describe_state();
        world.log(&state);
        bail!("{error:#}\n{state}")
    })
}

/// Runs a test that needs no cluster.
pub(crate) fn run_alone(machine: &Machine, name: &str, test: fn(&Machine) -> Outcome) -> Outcome {
    machine.log(&format!("==== {name}"));
    told(machine, name, test(machine))
}

/// Writes down how a test ended.
fn told(machine: &Machine, name: &str, outcome: Outcome) -> Outcome {
    machine.log(&match &outcome {
        Ok(()) => format!("==== {name}: ok"),
        Err(error) => format!("==== {name}: FAILED: {error:#}"),
    });
    outcome
}

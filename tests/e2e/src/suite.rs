//! What a suite is: a name and a list of tests that run against one shared cluster.

use anyhow::{Context, bail};

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

/// Tests of one subject. They run one after the other, in their order.
pub(crate) struct Suite {
    /// How the command line calls it.
    pub(crate) name: &'static str,
    /// Its tests.
    pub(crate) tests: Vec<Test>,
}

impl Suite {
    /// A suite of these tests.
    pub(crate) fn new(name: &'static str, tests: &[Test]) -> Self {
        Self {
            name,
            tests: tests.to_vec(),
        }
    }
}

/// A test of a suite, by its whole name, `suite::test`.
#[derive(Clone)]
pub(crate) struct Chosen {
    /// `suite::test`.
    pub(crate) name: String,
    /// The test.
    pub(crate) test: Test,
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
                .any(|test| names(suites, suite, test, name))
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
        .flat_map(|suite| suite.tests.iter().map(move |test| (suite, test)))
        .filter(|(suite, test)| {
            wanted.is_empty() || wanted.iter().any(|name| names(suites, suite, test, name))
        })
        .map(|(suite, test)| Chosen {
            name: format!("{}::{}", suite.name, test.name),
            test: *test,
        })
        .collect())
}

fn names(suites: &[Suite], suite: &Suite, test: &Test, wanted: &str) -> bool {
    if suites.iter().any(|suite| suite.name == wanted) {
        suite.name == wanted
    } else {
        format!("{}::{}", suite.name, test.name).contains(wanted)
    }
}

/// Runs a test on a fresh world. Where it fails, what the cluster looks like is added to why.
pub(crate) fn run(world: &World, chosen: &Chosen) -> Outcome {
    world.log(&format!("==== {}", chosen.name));
    let outcome = world
        .fresh()
        .context("the cluster could not be brought back to how a test begins")
        .and_then(|()| (chosen.test.run)(world));
    match outcome {
        Ok(()) => {
            world.log(&format!("==== {}: ok", chosen.name));
            Ok(())
        }
        Err(error) => {
            world.log(&format!("==== {}: FAILED: {error:#}", chosen.name));
            let state = world.describe_state();
            world.log(&state);
            bail!("{error:#}\n{state}")
        }
    }
}

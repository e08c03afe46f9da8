//! What tests run on: this machine and one cluster for all, each set up by the first test that needs it.

use std::sync::{Arc, OnceLock};

use anyhow::{anyhow, bail};

use crate::Options;
use crate::machine::Machine;
use crate::suite::{self, Chosen, On, Outcome};
use crate::world::World;

/// Something that is set up once, or the reason why it could not be.
type Once<T> = OnceLock<Result<T, String>>;

/// Where the chosen tests run.
pub(crate) struct Stage {
    machine: Once<Arc<Machine>>,
    world: Once<World>,
    /// The test that failed first, under `--fail-fast`.
    failed: OnceLock<String>,
    cluster: String,
    seed: u64,
    fail_fast: bool,
    keep: bool,
}

impl Stage {
    /// With nothing on it yet.
    pub(crate) fn new(options: &Options, seed: u64) -> Self {
        Self {
            machine: OnceLock::new(),
            world: OnceLock::new(),
            failed: OnceLock::new(),
            cluster: options.cluster.clone(),
            seed,
            fail_fast: options.fail_fast,
            keep: options.keep,
        }
    }

    /// Runs a test.
    ///
    /// # Errors
    /// It fails, or one has before it under `--fail-fast`, or what it runs on can't be set up.
    pub(crate) fn run(&self, chosen: &Chosen) -> Outcome {
        if let Some(failed) = self.failed.get() {
            bail!("not run, since {failed} failed");
        }
        let outcome = match chosen.on {
            On::Machine(test) => self
                .machine()
                .and_then(|machine| suite::run_alone(machine, &chosen.name, test)),
            On::Cluster(test) => self
                .world()
                .and_then(|world| suite::run(world, &chosen.name, test)),
        };
        if outcome.is_err() && self.fail_fast {
            // Whoever failed first is named.
            let _ = self.failed.set(chosen.name.clone());
        }
        outcome
    }

    fn machine(&self) -> anyhow::Result<&Arc<Machine>> {
        let machine = self.machine.get_or_init(|| {
            Machine::new(&self.cluster, self.seed)
                .map(Arc::new)
                .map_err(|error| format!("{error:#}"))
        });
        machine.as_ref().map_err(|error| anyhow!("{error}"))
    }

    fn world(&self) -> anyhow::Result<&World> {
        let machine = self.machine()?;
        let world = self.world.get_or_init(|| {
            World::start(
                Arc::clone(machine),
                &self.cluster,
                self.keep || self.fail_fast,
            )
            .map_err(|error| format!("{error:#}"))
        });
        world
            .as_ref()
            .map_err(|error| anyhow!("there is no cluster: {error}"))
    }

    /// Stops the cluster, if there is one that is not to be kept.
    ///
    /// # Errors
    /// It can't be stopped.
    pub(crate) fn end(self, has_failed: bool) -> anyhow::Result<()> {
        match self.world.into_inner() {
            Some(Ok(world)) => world.end(self.keep || (self.fail_fast && has_failed)),
            _ => Ok(()),
        }
    }
}

//! What tests run on: this machine, and clusters, each set up by the first test that finds none that is free.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Context, bail};

use crate::Options;
use crate::machine::Machine;
use crate::suite::{self, Chosen, On, Outcome};
use crate::world::World;

/// Where the chosen tests run. A test has what it runs on to itself; as many run at a time as there are threads.
pub(crate) struct Stage {
    machines: Shelf<Arc<Machine>>,
    worlds: Shelf<World>,
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
            machines: Shelf::new(),
            worlds: Shelf::new(),
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
        let outcome = self
            .machines
            .lend(|number| Machine::new(&self.name(number), self.seed).map(Arc::new))
            .and_then(|machine| {
                let outcome = self.run_on(&machine, chosen);
                self.machines.give_back(machine);
                outcome
            });
        if outcome.is_err() && self.fail_fast {
            // Whoever failed first is named.
            let _ = self.failed.set(chosen.name.clone());
        }
        outcome
    }

    fn run_on(&self, machine: &Arc<Machine>, chosen: &Chosen) -> Outcome {
        match chosen.on {
            On::Machine(test) => suite::run_alone(machine, &chosen.name, test),
            On::Cluster(test) => {
                let keep = self.keep || self.fail_fast;
                let world = self
                    .worlds
                    .lend(|number| World::start(Arc::clone(machine), &self.name(number), keep))
                    .context("there is no cluster")?;
                let outcome = suite::run(&world, &chosen.name, test);
                self.worlds.give_back(world);
                outcome
            }
        }
    }

    /// What the cluster, and the log, of this number is called.
    fn name(&self, number: usize) -> String {
        match number {
            1 => self.cluster.clone(),
            number => format!("{}-{number}", self.cluster),
        }
    }

    /// Stops the clusters, if they are not to be kept.
    ///
    /// # Errors
    /// One can't be stopped.
    pub(crate) fn end(self, has_failed: bool) -> anyhow::Result<()> {
        let keep = self.keep || (self.fail_fast && has_failed);
        let worlds = self.worlds.into_all().into_iter();
        let ended: Vec<_> = worlds.map(|world| world.end(keep)).collect();
        ended.into_iter().collect()
    }
}

/// Things that are set up as they are needed, and lent to one test at a time.
struct Shelf<T>(Mutex<Shelved<T>>);

struct Shelved<T> {
    free: Vec<T>,
    /// How many were set up, or tried to be.
    begun: usize,
    /// Why one could not be: then no other one is tried.
    broken: Option<String>,
}

impl<T> Shelf<T> {
    fn new() -> Self {
        Self(Mutex::new(Shelved {
            free: Vec::new(),
            begun: 0,
            broken: None,
        }))
    }

    /// One that is free, or a new one with its number, from 1 on.
    fn lend(&self, set_up: impl FnOnce(usize) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let number = {
            let mut shelved = self.lock();
            if let Some(free) = shelved.free.pop() {
                return Ok(free);
            }
            if let Some(reason) = &shelved.broken {
                bail!("{reason}");
            }
            shelved.begun += 1;
            shelved.begun
        };
        set_up(number).inspect_err(|error| self.lock().broken = Some(format!("{error:#}")))
    }

    fn give_back(&self, thing: T) {
        self.lock().free.push(thing);
    }

    fn into_all(self) -> Vec<T> {
        let shelved = self.0.into_inner();
        shelved.unwrap_or_else(PoisonError::into_inner).free
    }

    fn lock(&self) -> MutexGuard<'_, Shelved<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Clusters of one run: a test has one to itself, and as many run at a time as there are.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{anyhow, bail};

use crate::world::World;

/// The clusters of a run. Each is started by the first test that finds none that is free.
pub(crate) struct Worlds {
    name: String,
    seed: u64,
    keep: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those that no test has now.
    free: Vec<World>,
    /// How many were started, or tried to be.
    started: usize,
    /// Why one could not be: then no other one is tried.
    broken: Option<String>,
}

impl Worlds {
    /// Clusters that are called `name`, `name-2` and so on. With `keep` they are meant to stay.
    pub(crate) fn new(name: String, seed: u64, keep: bool) -> Self {
        Self {
            name,
            seed,
            keep,
            state: Mutex::default(),
        }
    }

    /// Lends a cluster to a test.
    ///
    /// # Errors
    /// The test's, or there is no cluster.
    pub(crate) fn with<T>(
        &self,
        test: impl FnOnce(&World) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let world = self.take()?;
        let outcome = test(&world);
        self.lock().free.push(world);
        outcome
    }

    fn take(&self) -> anyhow::Result<World> {
        let number = {
            let mut state = self.lock();
            if let Some(world) = state.free.pop() {
                return Ok(world);
            }
            if let Some(reason) = &state.broken {
                bail!("there is no cluster: {reason}");
            }
            state.started += 1;
            state.started
        };
        let name = match number {
            1 => self.name.clone(),
            number => format!("{}-{number}", self.name),
        };
        World::start(&name, self.seed, self.keep).map_err(|error| {
            let reason = format!("{error:#}");
            self.lock().broken = Some(reason.clone());
            anyhow!("there is no cluster: {reason}")
        })
    }

    /// Stops them, unless they are to be kept.
    ///
    /// # Errors
    /// One can't be stopped.
    pub(crate) fn end(&self, keep: bool) -> anyhow::Result<()> {
        let all = std::mem::take(&mut self.lock().free);
        let ended: Vec<_> = all.into_iter().map(|world| world.end(keep)).collect();
        ended.into_iter().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

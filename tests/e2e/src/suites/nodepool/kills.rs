//! The operator is killed again and again while pools come, change and go. Nodes and agents are simulated, and the operator
//! is a process of its own, so that a hundred rounds take minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use fastrand::Rng;
use serde_json::{Value, json};

use crate::fleet::{Fleet, SIZE};
use crate::history::Recording;
use crate::operators::{self, Process};
use crate::pools::{self, NODE_POOLS};
use crate::suite::{Outcome, Test};
use crate::wait::{LATER, until};
use crate::world::World;

pub(super) const TESTS: &[Test] = &[Test {
    name: "an_operator_that_is_killed_a_hundred_times_always_gets_there",
    run: hundred,
}];

/// How often it is killed.
const ROUNDS: usize = 100;

/// After how many rounds all has to come to rest.
const REST: usize = 10;

/// How many nodes there are.
const NODES: usize = 12;

const NAMES: [&str; 4] = ["red", "green", "blue", "grey"];

const LAYOUTS: [&str; 5] = [
    "MIG1g",
    "MIG2g",
    "MIG3g",
    "3g.20gb,2g.10gb,1g.5gb*2",
    "0-3=MIG7g;4-7=off",
];

/// What is wanted of a pool.
#[derive(Debug, Clone)]
struct Wish {
    count: usize,
    layout: &'static str,
}

/// What is wanted now: pools by name.
#[derive(Debug, Default)]
struct Wishes(BTreeMap<&'static str, Wish>);

impl Wishes {
    /// How many nodes nobody wants.
    fn spare(&self) -> usize {
        NODES - self.0.values().map(|wish| wish.count).sum::<usize>()
    }

    /// Something else is wanted of one pool. A pool may ask for more nodes than are free at the moment, but never for more
    /// than there will be.
    fn change(&mut self, world: &World, random: &mut Rng) -> Outcome {
        let name = NAMES[random.usize(..NAMES.len())];
        let layout = LAYOUTS[random.usize(..LAYOUTS.len())];
        let spare = self.spare();
        let Some(wish) = self.0.get_mut(name) else {
            let wish = Wish {
                count: random.usize(..=spare),
                layout,
            };
            // One that was just deleted may not be gone yet.
            let arguments = ["wait", "--for=delete", "--timeout=120s"];
            let pool = format!("{NODE_POOLS}/{name}");
            world.kubectl(&[&arguments[..], &[&pool]].concat())?;
            pools::ask(world, name, &spec(&wish))?;
            self.0.insert(name, wish);
            return Ok(());
        };
        match random.u8(..4) {
            0 => {
                world.kubectl(&["delete", NODE_POOLS, name, "--wait=false"])?;
                self.0.remove(name);
            }
            1 => {
                wish.count = random.usize(..=wish.count + spare);
                let count = format!("--replicas={}", wish.count);
                world.kubectl(&["scale", NODE_POOLS, name, &count])?;
            }
            _ => {
                wish.layout = layout;
                pools::change(world, name, &json!({"layouts": layout}))?;
            }
        }
        Ok(())
    }

    /// All of it comes to be, and nothing else.
    fn come_true(&self, world: &World) -> Outcome {
        until("all pools to be as asked", LATER, || {
            let list = world.get(&[NODE_POOLS])?;
            let pools = list["items"].as_array().context("no list")?;
            let names: BTreeSet<&str> = pools
                .iter()
                .filter_map(|pool| pool["metadata"]["name"].as_str())
                .collect();
            ensure!(
                names.iter().eq(self.0.keys()),
                "there are {names:?}, and {:?} are wanted",
                self.0.keys()
            );
            for pool in pools {
                let status = &pool["status"];
                ensure!(
                    status["observedGeneration"] == pool["metadata"]["generation"]
                        && status["phase"] == "Succeeded"
                        && status["nodes"] == pool["spec"]["count"],
                    "{}",
                    pools::line(pool)
                );
            }
            self.nodes_are_right(world)
        })
    }

    /// Every node is in the pool that it is said to be in, wears its labels, and has its layout; all others are free.
    fn nodes_are_right(&self, world: &World) -> Outcome {
        let objects = world.get(&["gpunodes.migpool.dev"])?;
        let nodes = world.get(&["nodes", "--selector=e2e.migpool.dev/fleet=simulated"])?;
        let by_name = |list: &Value| -> BTreeMap<String, Value> {
            let items = list["items"].as_array().cloned().unwrap_or_default();
            let name = |item: &Value| {
                item["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            items.into_iter().map(|item| (name(&item), item)).collect()
        };
        let nodes = by_name(&nodes);
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, object) in &by_name(&objects) {
            let node = nodes
                .get(name)
                .with_context(|| format!("{name} is no node"))?;
            let label = &node["metadata"]["labels"]["agentpool"];
            let spec = &object["spec"];
            let Some(pool) = spec["pool"]["name"].as_str() else {
                pools::nothing_is_wanted(name, spec)?;
                ensure!(label.is_null(), "{name} is free, and has the label {label}");
                let has = &object["status"]["currentLayout"];
                ensure!(*has == "0-7=off", "{name} is free, and has {has}");
                continue;
            };
            let (pool, wish) = self
                .0
                .get_key_value(pool)
                .with_context(|| format!("{name} is in {pool}, which is not wanted"))?;
            ensure!(
                label == pool && object["status"]["layout"] == wish.layout,
                "{name} is in {pool} ({wish:?}), and has the label {label} and {}",
                object["status"]["layout"]
            );
            *counts.entry(pool).or_default() += 1;
        }
        for (pool, wish) in &self.0 {
            let count = counts.get(pool).copied().unwrap_or_default();
            ensure!(
                count == wish.count,
                "{pool} has {count} nodes, and wants {}",
                wish.count
            );
        }
        Ok(())
    }
}

fn spec(wish: &Wish) -> Value {
    json!({
        "vmSize": SIZE,
        "count": wish.count,
        "layouts": wish.layout,
        "migStrategy": "mixed",
        "maxUnavailable": "50%",
    })
}

fn hundred(world: &World) -> Outcome {
    let mut random = world.random("kills");
    operators::define(world)?;
    let fleet = Fleet::start(world, NODES, Duration::from_millis(100))?;
    let recording = Recording::start(world)?;
    let mut operator = Process::start(world, "killed")?;
    let mut wishes = Wishes::default();
    for round in 1..=ROUNDS {
        for _ in 0..random.usize(1..3) {
            wishes.change(world, &mut random)?;
        }
        thread::sleep(Duration::from_millis(random.u64(..500)));
        operator.runs()?;
        world.log(&format!("round {round}: kill -9"));
        operator.kill_and_start()?;
        if round % REST == 0 {
            wishes
                .come_true(world)
                .with_context(|| format!("after {round} kills, wanted are {wishes:?}"))?;
            fleet.goes_on()?;
        }
    }
    for name in std::mem::take(&mut wishes.0).into_keys() {
        world.kubectl(&["delete", NODE_POOLS, name, "--wait=false"])?;
    }
    wishes.come_true(world)?;
    let history = recording.end()?;
    history.each_node_was_in_one_pool()?;
    let played = fleet.end()?;
    world.log(&format!(
        "{ROUNDS} kills, {} versions of {NODES} nodes, {} answers of agents",
        history.0.len(),
        played.answers
    ));
    Ok(())
}

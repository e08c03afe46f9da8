//! One pool of a thousand nodes. They are simulated (see [`crate::fleet`]); the operator is the real one.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;

use crate::charts;
use crate::fleet::{Fleet, SIZE};
use crate::history::Recording;
use crate::operators;
use crate::pools;
use crate::scaling;
use crate::suite::{Outcome, Test};
use crate::wait::LATER;
use crate::world::{CPUNODE, World};

/// The suite.
pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "a_thousand_nodes_change_layout_a_tenth_at_a_time",
        run: thousand,
    },
    Test {
        name: "requests_for_a_node_do_not_grow_with_the_nodes",
        run: constant,
    },
    Test {
        name: "one_node_that_refuses_takes_all_back",
        run: takes_all_back,
    },
];

fn told(world: &World, figures: &scaling::Figures) {
    for line in figures.lines() {
        println!("{line}");
        world.log(&line);
    }
}

fn thousand(world: &World) -> Outcome {
    let figures = scaling::measure(world, 1000)?;
    told(world, &figures);
    ensure!(
        figures.out_of_work <= figures.allowed(),
        "{} nodes were out of work at a time, and {} are allowed",
        figures.out_of_work,
        figures.allowed()
    );
    Ok(())
}

/// Counts are asserted, times are not: they are the same on a slow machine, but for what a longer time has more of.
fn constant(world: &World) -> Outcome {
    let few = scaling::measure(world, 50)?;
    told(world, &few);
    world.fresh()?;
    let more = scaling::measure(world, 400)?;
    told(world, &more);
    for (what, few, more) in [
        ("filling", few.filling_requests, more.filling_requests),
        ("rolling", few.rolling_requests, more.rolling_requests),
    ] {
        ensure!(
            more <= few * 1.5,
            "{what} takes {few:.2} requests for each of 50 nodes, and {more:.2} for each of 400"
        );
    }
    Ok(())
}

fn takes_all_back(world: &World) -> Outcome {
    const COUNT: u64 = 60;
    operators::install(world, &[&charts::only_on(CPUNODE)])?;
    let fleet = Fleet::start(world, usize::try_from(COUNT)?, Duration::from_millis(200))?;
    pools::ask(
        world,
        "fleet",
        &json!({
            "vmSize": SIZE, "count": COUNT, "layouts": "MIG1g", "maxUnavailable": "25%",
        }),
    )?;
    pools::comes_to_be_ready(world, "fleet", COUNT, LATER)?;
    let last = Fleet::node(fleet.len() - 1);
    fleet.refuse(&last, "MIG3g", "simulated: a GPU fell off the bus");
    let recording = Recording::start(world)?;
    pools::change(world, "fleet", &json!({"layouts": "MIG3g"}))?;
    pools::comes_to_say(
        world,
        "fleet",
        ("Degraded", "True", "RolledBack"),
        &[&last, "a GPU fell off the bus", "MIG3g"],
    )?;
    let history = recording.end()?;
    history.each_node_was_in_one_pool()?;
    let most = history.most_out_of_work("fleet", Duration::ZERO);
    ensure!(most <= 15, "{most} nodes were out of work at a time");
    for number in 0..fleet.len() {
        let object = pools::gpu_node(world, &Fleet::node(number))?;
        ensure!(
            object["status"]["layout"] == "MIG1g" && object["status"]["phase"] == "Ready",
            "{} has {}",
            Fleet::node(number),
            object["status"]["layout"]
        );
    }
    // What was refused once is not tried again by itself; something else is.
    pools::change(world, "fleet", &json!({"layouts": "MIG2g"}))?;
    pools::comes_to_be_ready(world, "fleet", COUNT, LATER)?;
    fleet.end()?;
    Ok(())
}

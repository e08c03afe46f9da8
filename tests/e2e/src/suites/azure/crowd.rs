//! Many clients at once, while migpool is killed.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::azure::Place;
use crate::machine::Machine;
use crate::suite::{Alone, Outcome, Test};
use crate::wait::{SOON, until};
use crate::world::World;

pub(super) const ALONE: &[Alone] = &[Alone {
    name: "of_200_pools_of_20_clients_none_is_lost_whenever_migpool_is_killed",
    run: |machine| crowd(machine, Place::on(machine, "crowd")?, ["20", "200"]),
}];

pub(super) const TESTS: &[Test] = &[Test {
    name: "of_24_pools_of_8_clients_of_a_cluster_none_is_lost_whenever_its_front_is_killed",
    run: |world: &World| crowd(world.machine(), Place::in_cluster(world)?, ["8", "24"]),
}];

/// How often migpool is killed meanwhile, and how often at least before the clients are done.
const KILLS: u32 = 3;
const KILLS_AT_LEAST: u32 = 2;

/// What passes before it is killed for the first time, and before each other time at most.
const FIRST: u64 = 300;
const THEN: u64 = 3_000;

fn crowd(machine: &Machine, mut place: Place<'_>, [clients, pools]: [&str; 2]) -> Outcome {
    let shell = place.with_cluster()?;
    let mut crowd = shell
        .python_command("tests/e2e/azure/crowd.py", &[clients, pools])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the clients")?;
    // It takes a moment until they have begun.
    let begun = shell.home().join("crowd-has-begun");
    until("the clients to begin", SOON, || {
        let ended = crowd.try_wait()?;
        ensure!(begun.exists() || ended.is_some(), "they have not");
        Ok(())
    })?;
    let mut random = machine.random("crowd");
    let mut kills = 0;
    for pause in (0..KILLS).map(|kill| match kill {
        0 => FIRST,
        _ => random.u64(FIRST..THEN),
    }) {
        thread::sleep(Duration::from_millis(pause));
        if crowd.try_wait()?.is_some() {
            break;
        }
        place.kill_and_start()?;
        kills += 1;
    }
    let said = crowd.wait_with_output()?;
    let printed = String::from_utf8_lossy(&said.stdout);
    ensure!(
        said.status.success(),
        "the clients: {printed}{}",
        String::from_utf8_lossy(&said.stderr)
    );
    machine.log(printed.trim());
    ensure!(
        kills >= KILLS_AT_LEAST,
        "the clients were done when migpool had been killed {kills} times"
    );
    // What is kept is what a new process reads.
    place.kill_and_start()?;
    shell.python("tests/e2e/azure/crowd.py", &["check", pools])?;
    Ok(())
}

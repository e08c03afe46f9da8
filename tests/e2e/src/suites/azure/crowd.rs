//! Many clients at once, while migpool is killed.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::azure::Up;
use crate::machine::Machine;
use crate::suite::{Alone, Outcome};

pub(super) const ALONE: &[Alone] = &[Alone {
    name: "of_200_pools_of_20_clients_none_is_lost_whenever_migpool_is_killed",
    run: crowd,
}];

/// How often migpool is killed meanwhile.
const KILLS: u32 = 3;

fn crowd(machine: &Machine) -> Outcome {
    let mut up = Up::start(machine, "crowd")?;
    let shell = up.with_cluster()?;
    let mut clients = shell
        .python_command("tests/e2e/azure/crowd.py", &["20", "200"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the clients")?;
    let mut random = machine.random("crowd");
    for _ in 0..KILLS {
        thread::sleep(Duration::from_millis(random.u64(2_000..6_000)));
        if clients.try_wait()?.is_some() {
            break;
        }
        up.kill_and_start()?;
    }
    let said = clients.wait_with_output()?;
    let printed = String::from_utf8_lossy(&said.stdout);
    ensure!(
        said.status.success(),
        "the clients: {printed}{}",
        String::from_utf8_lossy(&said.stderr)
    );
    machine.log(printed.trim());
    // What is kept is what a new process reads.
    up.kill_and_start()?;
    shell.python("tests/e2e/azure/crowd.py", &["check", "200"])?;
    Ok(())
}

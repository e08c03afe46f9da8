//! What becomes of a node is what az says of its pool: how it comes along, and why it can't come.

use std::process::Stdio;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::IN_CLUSTER;
use crate::azure::{Front, Up};
use crate::machine::Machine;
use crate::pools;
use crate::suite::{Alone, Outcome, Test};
use crate::wait::{LATER, SOON, until};
use crate::world::{MIGNODE, World};

pub(super) const ALONE: &[Alone] = &[
    Alone {
        name: "az_shows_how_an_operation_comes_along",
        run: progress,
    },
    Alone {
        name: "az_fails_with_the_reason_of_the_node_that_cannot_have_its_slices",
        run: failed,
    },
];

pub(super) const TESTS: &[Test] = &[Test {
    name: "az_fails_with_the_reason_of_the_clusters_node_that_cannot_have_its_slices",
    run: failed_on_a_cluster,
}];

/// The fault of a driver that makes no slices.
const FAULT: [&str; 7] = [
    "fail",
    "--call",
    "nvmlDeviceCreateGpuInstanceWithPlacement",
    "--code",
    "INSUFFICIENT_RESOURCES",
    "--times",
    "100000",
];

/// The article's command, for a pool of this name.
fn add(name: &str) -> String {
    format!(
        "az aks nodepool add {IN_CLUSTER} --name {name} --node-count 1 --node-vm-size Standard_ND96asr_v4 \
         --gpu-instance-profile MIG1g --output none"
    )
}

fn progress(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "progress")?;
    let shell = up.with_cluster()?;
    let held = up.hold_agents("mignode");
    // az shows it to a person, which is to say on a terminal.
    let mut command = shell.command("script");
    command
        .args(["--quiet", "--return", "--flush", "--command"])
        .args([&add("mignode"), "progress"])
        .current_dir(shell.home())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let mut az = command.spawn().context("cannot start script")?;
    let screen = shell.home().join("progress");
    let shows = |word: &str| {
        let text = std::fs::read(&screen)?;
        let text = String::from_utf8_lossy(&text);
        ensure!(text.contains(word), "no {word} in {text:?}");
        Ok(())
    };
    let comes = until("az to show InProgress", SOON, || shows("InProgress"));
    drop(held);
    let status = az.wait()?;
    comes?;
    ensure!(status.success(), "az ended with {status}");
    shows("Finished")
}

fn failed(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "failed")?;
    let shell = up.with_cluster()?;
    let held = up.hold_agents("mignode");
    let mut command = shell.command("sh");
    command
        .args(["-c", &add("mignode")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let az = command.spawn().context("cannot start az")?;
    let broken = until("the node to have a driver", SOON, || {
        let node = node_of(&up, "mignode")?;
        ensure!(node.join("root/sim/state").exists(), "it has none");
        // In its folder: what names that is taken for an agent, and held.
        let mut inject = shell.command("migpool");
        inject.args(["sim", "inject", "root"]).args(FAULT);
        inject.current_dir(&node);
        machine.done(inject, None)?;
        Ok(())
    });
    drop(held);
    let said = az.wait_with_output()?;
    broken?;
    let words = String::from_utf8_lossy(&said.stderr);
    ensure!(said.status.code() == Some(1), "{}: {words}", said.status);

    // The node's own words are az's.
    let node = shell.json("migpool node describe mignode --output json")?;
    is_the_nodes_reason(&words, &node[0]["message"])?;
    shell.prints(
        &format!(
            "az aks nodepool show {IN_CLUSTER} --name mignode --query provisioningState --output tsv"
        ),
        "Failed",
    )?;
    shell.done(&format!(
        "az aks nodepool delete {IN_CLUSTER} --name mignode"
    ))?;
    Ok(())
}

/// The folder of the first node of a pool.
fn node_of(up: &Up<'_>, pool: &str) -> anyhow::Result<std::path::PathBuf> {
    let mut entries = std::fs::read_dir(up.state().join("nodes"))?.flatten();
    let node = entries.find(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with(&format!("aks-{pool}-"))
    });
    Ok(node.context("no node yet")?.path())
}

/// What az has said names the fault, in the words of the node.
fn is_the_nodes_reason(said: &str, reason: &Value) -> Outcome {
    let reason = reason.as_str().unwrap_or_default();
    ensure!(reason.contains(FAULT[2]), "the node says {reason:?}");
    // What comes after the first GPU may have changed since.
    let first = reason.split(';').next().unwrap_or(reason);
    ensure!(said.contains(first), "az does not say {first:?}: {said}");
    ensure!(!said.contains("Traceback"), "{said}");
    Ok(())
}

fn failed_on_a_cluster(world: &World) -> Outcome {
    let front = Front::install(world)?;
    let shell = front.shell()?;
    shell.done(
        "az group create --name myResourceGroup --location southcentralus --output none &&
         az aks create --resource-group myResourceGroup --name myAKSCluster --node-count 1 --output none",
    )?;
    world.node(MIGNODE).inject(&FAULT)?;
    shell.fails(&add("mignode"), 1, &[FAULT[2], MIGNODE])?;
    world.node(MIGNODE).inject(&["clear"])?;
    // It gets better with its node.
    pools::comes_to_be_ready(world, "mignode", 1, LATER)?;
    shell.done("az group delete --name myResourceGroup --yes")?;
    pools::is_free(world, MIGNODE)
}

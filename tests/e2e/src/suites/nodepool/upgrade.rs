//! From the chart as it was before there were node pools, and out again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::json;

use super::{A100_SIZE, RESOURCE};
use crate::charts;
use crate::checks;
use crate::machine::workspace;
use crate::operators::{self, RELEASE};
use crate::pods::PodSpec;
use crate::pools::{self, NODE_POOLS};
use crate::suite::{Outcome, Test};
use crate::traces::{Traces, owned_by_releases};
use crate::wait::{LATER, until};
use crate::world::{H100NODE, MIGNODE, NAMESPACE, World};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "an_upgrade_from_before_node_pools_disturbs_nobody",
        run: upgraded,
    },
    Test {
        name: "the_operator_goes_and_leaves_the_cluster_as_it_was",
        run: uninstalled,
    },
];

/// The last commit whose chart knew no node pools.
const BEFORE: &str = "59d552c";

/// The chart as it was then, in a folder of its own; `None` where the checkout has no history.
fn chart_before(world: &World) -> anyhow::Result<Option<PathBuf>> {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(workspace()).args(arguments);
        world.run(command, None)
    };
    let listed = git(&["ls-tree", "-r", "--name-only", BEFORE, "charts/migpool"])?;
    if !listed.ok {
        return Ok(None);
    }
    let folder = world.scratch().join("before");
    for file in listed.stdout.lines() {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        let shown = git(&["show", &format!("{BEFORE}:{file}")])?;
        ensure!(shown.ok, "{}", shown.stderr);
        fs::write(path, shown.stdout)?;
    }
    Ok(Some(folder.join("charts/migpool")))
}

fn upgraded(world: &World) -> Outcome {
    let Some(chart) = chart_before(world)? else {
        let line = format!(
            "SKIPPED: this checkout has no commit {BEFORE} to upgrade from (a shallow clone?)"
        );
        println!("{line}");
        world.log(&line);
        return Ok(());
    };
    pools::forget(world)?;
    let node = world.node(MIGNODE);
    let only = charts::only_on(MIGNODE);
    let chart = chart.to_string_lossy().into_owned();
    // The program in the image is today's: only the chart is of then.
    world.helm(&[
        "install",
        RELEASE,
        &chart,
        "--set",
        "gpuInstanceProfile=MIG1g",
        "--set",
        &only,
    ])?;
    checks::allocatable(world, node, RESOURCE, 56, LATER)?;
    world.apply(&[PodSpec::with_slices("holder", RESOURCE, 1).manifest()])?;
    let holder = world.running("holder", LATER)?;
    let slices = node.slices()?;
    let undisturbed = || -> Outcome {
        let now = world.pod("holder")?;
        ensure!(
            now.runs() && now.containers == holder.containers,
            "it was {}, and is {}",
            holder.line(),
            now.line()
        );
        checks::sees_what_it_holds(world, node, "holder", 1)?;
        let now = node.slices()?;
        ensure!(now == slices, "the slices were {slices:?}, and are {now:?}");
        Ok(())
    };

    // With the old chart's values alone, as an upgrade by hand often has it, and then as the new chart wants it.
    let new = charts::chart("migpool");
    world.helm(&["upgrade", RELEASE, &new, "--reuse-values"])?;
    operators::acts(world)?;
    pools::comes_to_be_reported(world, MIGNODE, 8)?;
    ensure!(pools::are_known(world)?, "the definitions have not come");
    undisturbed()?;
    operators::install(world, &["gpuInstanceProfile=MIG1g", &only])?;
    checks::allocatable(world, node, RESOURCE, 56, LATER)?;
    undisturbed()?;

    pools::ask(
        world,
        "adopted",
        &json!({"vmSize": A100_SIZE, "gpuInstanceProfile": "MIG1g"}),
    )?;
    pools::comes_to_be_ready(world, "adopted", 1, LATER)?;
    pools::comes_to_wear(world, MIGNODE, Some("adopted"), &[])?;
    undisturbed()?;
    // And out of the pool again, whose layout is the agent's own.
    pools::delete(world, "adopted")?;
    pools::comes_to_wear(world, MIGNODE, None, &[])?;
    undisturbed()
}

fn uninstalled(world: &World) -> Outcome {
    let names = [MIGNODE, H100NODE];
    let look = || -> anyhow::Result<Vec<Traces>> {
        names
            .iter()
            .map(|name| Traces::of(world, world.node(name)))
            .collect()
    };
    // What Kubernetes itself has come to have is there before.
    let nodes = look()?;
    let objects = all_objects(world)?;
    operators::install(world, &[])?;
    pools::ask(
        world,
        "leaving",
        &json!({"vmSize": A100_SIZE, "gpuInstanceProfile": "MIG1g", "nodeTaints": ["sku=gpu:NoSchedule"]}),
    )?;
    pools::comes_to_be_ready(world, "leaving", 1, LATER)?;
    pools::delete(world, "leaving")?;
    charts::uninstall(world, RELEASE, NAMESPACE)?;
    until("the nodes to be as they were", LATER, || {
        let now = look()?;
        ensure!(now == nodes, "before {nodes:?}, after {now:?}");
        Ok(())
    })?;
    let left = all_objects(world)?;
    ensure!(
        left == objects,
        "the cluster still has {:?}, and lacks {:?}",
        left.difference(&objects).collect::<Vec<_>>(),
        objects.difference(&left).collect::<Vec<_>>()
    );
    ensure!(pools::are_known(world)?, "the definitions have gone");

    // Another install finds its pools again.
    let kept = json!({"vmSize": A100_SIZE, "gpuInstanceProfile": "MIG1g", "count": 0});
    pools::ask(world, "kept", &kept)?;
    operators::install(world, &[])?;
    pools::comes_to_be_ready(world, "kept", 0, LATER)?;
    charts::uninstall(world, RELEASE, NAMESPACE)?;
    let names = world.names_of(NODE_POOLS)?;
    ensure!(names.len() == 1, "{names:?}");
    // And one that is told to takes the definitions with it, once the pools are gone.
    operators::install(world, &["crds.keep=false"])?;
    pools::delete(world, "kept")?;
    charts::uninstall(world, RELEASE, NAMESPACE)?;
    until("the definitions to go", LATER, || {
        ensure!(!pools::are_known(world)?, "they are there");
        Ok(())
    })
}

/// What charts of ours make, and what an operator makes by itself.
fn all_objects(world: &World) -> anyhow::Result<BTreeSet<String>> {
    let mut names = owned_by_releases(world)?;
    let printed = world
        .kubectl(&["get", "leases", "--namespace", NAMESPACE, "--output=name"])
        .context("cannot list leases")?;
    names.extend(printed.lines().map(str::to_owned));
    Ok(names)
}

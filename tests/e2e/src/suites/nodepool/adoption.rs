//! Nodes that are there are taken into a pool, and given back as they were.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{A100_SIZE, RESOURCE};
use crate::checks;
use crate::footprint;
use crate::nodes::Node;
use crate::operators::{self, RELEASE};
use crate::pools::{self, Dress, INSTANCE_TYPE, NODE_POOLS};
use crate::suite::{Outcome, Test};
use crate::wait::{LATER, SOON, until};
use crate::world::{CPUNODE, H100NODE, MIGNODE, World};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "a_pool_of_mig1g_is_56_slices_and_the_articles_pod_runs",
        run: article,
    },
    Test {
        name: "a_node_is_found_by_its_instance_type",
        run: by_instance_type,
    },
    Test {
        name: "a_node_that_was_cut_by_others_gets_its_slices_back",
        run: gets_slices_back,
    },
    Test {
        name: "of_two_pools_that_want_one_node_one_gets_it",
        run: rivals,
    },
    Test {
        name: "the_examples_are_taken_as_they_are",
        run: examples,
    },
    Test {
        name: "an_agent_without_gpus_that_follows_an_operator_stays_small_and_reports_no_node",
        run: nothing_to_do,
    },
];

/// The chart with its own values, and an agent's word from every node with GPUs.
fn stage(world: &World) -> anyhow::Result<Node<'_>> {
    operators::install(world, &[])?;
    pools::comes_to_be_reported(world, MIGNODE, 8)?;
    pools::comes_to_be_reported(world, H100NODE, 2)?;
    Ok(world.node(MIGNODE))
}

fn article(world: &World) -> Outcome {
    let node = stage(world)?;
    let before = Dress::of(world, MIGNODE)?;
    pools::ask(
        world,
        "mignode",
        &json!({
            "vmSize": A100_SIZE,
            "count": 1,
            "gpuInstanceProfile": "MIG1g",
            "nodeLabels": {"e2e.migpool.dev/pool-team": "vision"},
            "nodeTaints": ["e2e=yes:PreferNoSchedule"],
        }),
    )?;
    taken(world, node)?;
    let dress = pools::comes_to_wear(
        world,
        MIGNODE,
        Some("mignode"),
        &["e2e=yes:PreferNoSchedule"],
    )?;
    for (key, value) in [
        ("agentpool", "mignode"),
        ("kubernetes.azure.com/agentpool", "mignode"),
        ("kubernetes.azure.com/mode", "user"),
        ("accelerator", "nvidia"),
        ("kubernetes.azure.com/accelerator", "nvidia"),
        ("e2e.migpool.dev/pool-team", "vision"),
    ] {
        ensure!(
            dress.labels.get(key).map(String::as_str) == Some(value),
            "{key} is not {value}: {dress:?}"
        );
    }
    shown(world)?;
    world.kubectl(&["cordon", H100NODE])?;
    world.apply_file("examples/single-strategy-example.yaml")?;
    world.running("nvidia-single", LATER)?;
    checks::sees_what_it_holds(world, node, "nvidia-single", 1)?;
    until("the slice to be counted", SOON, || {
        let slices = pools::pool(world, "mignode")?["status"]["slices"].take();
        ensure!(
            slices == json!({"total": 56, "ready": 56, "inUse": 1}),
            "{slices}"
        );
        Ok(())
    })?;
    world.delete_pods(&["nvidia-single"])?;

    // To none, and back.
    world.kubectl(&["scale", NODE_POOLS, "mignode", "--replicas=0"])?;
    pools::comes_to_be_ready(world, "mignode", 0, LATER)?;
    given_back(world, node, &before)?;
    world.kubectl(&["scale", NODE_POOLS, "mignode", "--replicas=1"])?;
    taken(world, node)?;
    pools::delete(world, "mignode")?;
    given_back(world, node, &before)?;
    checks::new_cpu_work_runs(world, &[MIGNODE, CPUNODE])
}

/// The pool has its node, and the node its slices.
fn taken(world: &World, node: Node<'_>) -> Outcome {
    let pool = pools::comes_to_be_ready(world, "mignode", 1, LATER)?;
    ensure!(
        pool["status"]["slices"]["total"] == 56,
        "{}",
        pools::line(&pool)
    );
    checks::allocatable(world, node, RESOURCE, 56, LATER)?;
    checks::described(world, node, RESOURCE, 56)
}

/// The node wears what it wore, and its GPUs are whole.
fn given_back(world: &World, node: Node<'_>, before: &Dress) -> Outcome {
    until("the node to be as it was", LATER, || {
        let now = Dress::of(world, node.name())?;
        ensure!(now == *before, "it was {before:?}, and is {now:?}");
        let slices = node.slices()?;
        ensure!(slices.is_empty(), "it has {} slices", slices.len());
        pools::is_free(world, node.name())
    })?;
    checks::allocatable(world, node, RESOURCE, 8, LATER)
}

/// `kubectl get nodepools` tells a person the essentials, and so does `kubectl get gpunodes`.
fn shown(world: &World) -> Outcome {
    let printed = world.kubectl(&["get", NODE_POOLS])?;
    let mut lines = printed.lines();
    let header = lines.next().unwrap_or_default();
    let row = lines.next().unwrap_or_default();
    for column in [
        "NAME",
        "PROFILE",
        "NODES",
        "READY",
        "SLICES",
        "SLICES READY",
        "IN USE",
        "STATE",
        "AGE",
    ] {
        ensure!(header.contains(column), "no column {column}: {header}");
    }
    for word in ["mignode", "MIG1g", "56", "AsAsked"] {
        ensure!(row.contains(word), "no {word}: {row}");
    }
    let printed = world.kubectl(&["get", "gpunodes.migpool.dev", MIGNODE])?;
    for word in ["8 x A100-40GB", "mignode", "56", "Ready"] {
        ensure!(printed.contains(word), "no {word}: {printed}");
    }
    let described = world.kubectl(&["describe", NODE_POOLS, "mignode"])?;
    for word in ["Ready", "Progressing", "Degraded", "Events:"] {
        ensure!(described.contains(word), "no {word}: {described}");
    }
    Ok(())
}

fn by_instance_type(world: &World) -> Outcome {
    let label = |node: &str, size: &str| -> Outcome {
        let label = format!("{INSTANCE_TYPE}={size}");
        world.kubectl(&["label", "node", node, &label, "--overwrite"])?;
        Ok(())
    };
    // The label has the last word, whatever the boards. An operator that starts later knows it before it hears of a pool.
    label(MIGNODE, "Standard_NC24ads_A100_v4")?;
    let node = stage(world)?;
    pools::ask(
        world,
        "sized",
        &json!({
            "vmSize": A100_SIZE, "gpuInstanceProfile": "MIG1g", "migStrategy": "mixed",
            "nodeTaints": ["sku=gpu:NoSchedule"],
        }),
    )?;
    pools::comes_to_say(
        world,
        "sized",
        ("Degraded", "True", "TooFewNodes"),
        &["1 more node is needed", MIGNODE, "Standard_NC24ads_A100_v4"],
    )?;
    label(MIGNODE, A100_SIZE)?;
    pools::comes_to_be_ready(world, "sized", 1, LATER)?;
    checks::allocatable(world, node, "nvidia.com/mig-1g.5gb", 56, LATER)?;
    pools::comes_to_wear(world, MIGNODE, Some("sized"), &["sku=gpu:NoSchedule"])?;
    // The machine's label is not the pool's, and stays when the pool goes.
    pools::delete(world, "sized")?;
    pools::comes_to_wear(world, MIGNODE, None, &[])?;
    let labels = world.get(&["node", MIGNODE])?["metadata"]["labels"].take();
    ensure!(labels[INSTANCE_TYPE] == A100_SIZE, "{labels}");
    Ok(())
}

/// What the node had before, whoever made it, is what it gets back.
fn gets_slices_back(world: &World) -> Outcome {
    let node = world.node(MIGNODE);
    node.partition("0-3=2g.10gb*3;4-7=off")?;
    let before = node.slices()?;
    ensure!(before.len() == 12, "{} slices", before.len());
    operators::install(world, &["replaceAll=true", "migStrategy=mixed"])?;
    pools::comes_to_be_reported(world, MIGNODE, 8)?;
    pools::ask(
        world,
        "borrowed",
        &json!({"vmSize": A100_SIZE, "layouts": "MIG3g", "migStrategy": "mixed"}),
    )?;
    pools::comes_to_be_ready(world, "borrowed", 1, LATER)?;
    checks::allocatable(world, node, "nvidia.com/mig-3g.20gb", 16, LATER)?;
    pools::delete(world, "borrowed")?;
    checks::allocatable(world, node, "nvidia.com/mig-2g.10gb", 12, LATER)?;
    let after = node.slices()?;
    ensure!(after.len() == 12, "{} slices", after.len());
    Ok(())
}

fn rivals(world: &World) -> Outcome {
    stage(world)?;
    let names = ["first", "second"];
    let both: Vec<Value> = names
        .iter()
        .map(|name| {
            pools::manifest(
                name,
                &json!({"vmSize": A100_SIZE, "gpuInstanceProfile": "MIG2g"}),
            )
        })
        .collect();
    world.apply(&both)?;
    let winner = until("one of the pools to be ready", LATER, || {
        let pool = pools::gpu_node(world, MIGNODE)?["spec"]["pool"]["name"].take();
        let name = pool.as_str().context("the node is in no pool")?;
        names
            .into_iter()
            .find(|other| *other == name)
            .with_context(|| format!("it is in pool {name}"))
    })?;
    let loser = if winner == names[0] {
        names[1]
    } else {
        names[0]
    };
    pools::comes_to_be_ready(world, winner, 1, LATER)?;
    let why = format!("it is in node pool {winner}");
    pools::comes_to_say(
        world,
        loser,
        ("Degraded", "True", "TooFewNodes"),
        &["1 more node is needed", &why],
    )?;
    pools::comes_to_wear(world, MIGNODE, Some(winner), &[])?;
    // The next in turn.
    pools::delete(world, winner)?;
    pools::comes_to_be_ready(world, loser, 1, LATER)?;
    pools::comes_to_wear(world, MIGNODE, Some(loser), &[]).map(drop)
}

/// Those without Cluster API need nothing but nodes.
fn examples(world: &World) -> Outcome {
    stage(world)?;
    for file in [
        "examples/nodepool-mig1g.yaml",
        "examples/nodepool-mixed.yaml",
    ] {
        let before = world.names_of(NODE_POOLS)?;
        world.apply_file(file)?;
        let after = world.names_of(NODE_POOLS)?;
        let new = after.iter().find(|name| !before.contains(name));
        let name = new.with_context(|| format!("{file} has no pool"))?;
        let name = name.rsplit('/').next().unwrap_or(name);
        let pool = pools::pool(world, name)?;
        let wanted = pool["spec"]["count"].as_u64().unwrap_or(1);
        ensure!(wanted >= 1, "{file} wants no node");
        // More nodes than there are here may be asked for; what is asked is understood.
        until(&format!("{file} to be understood"), LATER, || {
            let pool = pools::pool(world, name)?;
            let reason = &pool["status"]["reason"];
            ensure!(
                *reason == "AsAsked" || *reason == "TooFewNodes",
                "{}",
                pools::line(&pool)
            );
            Ok(())
        })?;
        pools::delete(world, name)?;
    }
    Ok(())
}

fn nothing_to_do(world: &World) -> Outcome {
    operators::install(world, &[])?;
    pools::comes_to_be_reported(world, MIGNODE, 8)?;
    let pod = until("an agent without GPUs to be ready", LATER, || {
        let pod = world.release_pod(RELEASE, CPUNODE)?;
        ensure!(pod.runs() && pod.restarts == 0, "{}", pod.line());
        Ok(pod)
    })?;
    // The kubelet looks every few seconds, and Kubernetes goes by what it saw.
    until("the working set of an idle agent", LATER, || {
        footprint::working_set_within(world, &pod, footprint::IDLE_GOAL)
    })?;
    let known = world.names_of("gpunodes.migpool.dev")?;
    ensure!(
        !known.iter().any(|name| name.ends_with(CPUNODE)),
        "{known:?}"
    );
    Ok(())
}

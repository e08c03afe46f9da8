//! Another layout for a pool in use.

use anyhow::ensure;
use serde_json::{Value, json};

use super::{A100_SIZE, RESOURCE};
use crate::checks::{self, CpuWork};
use crate::nodes::Node;
use crate::operators;
use crate::pods::PodSpec;
use crate::pools::{self, CHOSEN};
use crate::suite::{Outcome, Test};
use crate::wait::{LATER, until};
use crate::world::{CPUNODE, H100NODE, MIGNODE, World};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "layouts_change_under_load_and_a_disruption_budget_is_kept",
        run: under_load,
    },
    Test {
        name: "a_pool_that_waits_for_pods_says_for_which",
        run: waits,
    },
    Test {
        name: "a_layout_that_one_node_cannot_have_is_taken_back_from_all",
        run: rolled_back,
    },
    Test {
        name: "slices_that_stay_are_not_touched",
        run: smallest_change,
    },
];

/// A pool on `mignode` with 56 slices.
fn stage<'w>(world: &'w World, drain: &str) -> anyhow::Result<Node<'w>> {
    operators::install(world, &["operator.evict=true"])?;
    pools::ask(
        world,
        "loaded",
        &json!({"vmSize": A100_SIZE, "layouts": "MIG1g", "drain": drain}),
    )?;
    pools::comes_to_be_ready(world, "loaded", 1, LATER)?;
    let node = world.node(MIGNODE);
    checks::allocatable(world, node, RESOURCE, 56, LATER)?;
    // So that pods with slices have one node to be on.
    world.kubectl(&["cordon", H100NODE])?;
    Ok(node)
}

/// The pods run, and are those that they were.
fn undisturbed(world: &World, selector: &str, before: &[crate::pods::Pod]) -> Outcome {
    let now = world.all_running(selector, before.len(), LATER)?;
    for pod in before {
        ensure!(
            now.iter()
                .any(|other| other.uid == pod.uid && other.containers == pod.containers),
            "{} was disturbed",
            pod.line()
        );
    }
    Ok(())
}

fn under_load(world: &World) -> Outcome {
    let node = stage(world, "evict")?;
    let work = CpuWork::start(world, &[MIGNODE, CPUNODE])?;
    world.apply(&[
        PodSpec::with_slices("guarded", RESOURCE, 1).replicas(2),
        PodSpec::with_slices("load", RESOURCE, 1).replicas(6),
        json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "guard"},
            "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "guarded"}}},
        }),
    ])?;
    let guarded = world.all_running("app=guarded", 2, LATER)?;
    let load = world.all_running("app=load", 6, LATER)?;
    until("the budget to know its pods", LATER, || {
        let budget = world.get(&["poddisruptionbudget", "guard"])?;
        ensure!(
            budget["status"]["currentHealthy"] == 2,
            "{}",
            budget["status"]
        );
        Ok(())
    })?;
    pools::change(world, "loaded", &json!({"layouts": "MIG3g"}))?;
    let budget = "PodDisruptionBudget default/guard";
    pools::comes_to_say(
        world,
        "loaded",
        ("Progressing", "True", "RollingOut"),
        &[MIGNODE, budget],
    )?;
    undisturbed(world, "app=guarded", &guarded)?;
    // An operator that dies in the middle of it changes nothing.
    operators::kill(world, &operators::leader(world)?)?;
    operators::acts(world)?;
    pools::comes_to_say(
        world,
        "loaded",
        ("Progressing", "True", "RollingOut"),
        &[MIGNODE, budget],
    )?;
    undisturbed(world, "app=guarded", &guarded)?;
    world.kubectl(&["delete", "poddisruptionbudget", "guard"])?;
    pools::comes_to_be_ready(world, "loaded", 1, LATER)?;
    checks::allocatable(world, node, RESOURCE, 16, LATER)?;
    let now = world.all_running("app=load", 6, LATER)?;
    ensure!(
        now.iter()
            .all(|pod| load.iter().all(|old| old.uid != pod.uid)),
        "a pod has outlived its slice"
    );
    checks::each_sees_its_own(world, node, "app=load")?;
    checks::each_sees_its_own(world, node, "app=guarded")?;
    work.went_on()
}

fn waits(world: &World) -> Outcome {
    let node = stage(world, "wait")?;
    world.apply(&[PodSpec::with_slices("holder", RESOURCE, 1).manifest()])?;
    let holder = world.running("holder", LATER)?;
    let held = checks::sees_what_it_holds(world, node, "holder", 1)?;
    pools::change(world, "loaded", &json!({"layouts": "MIG3g"}))?;
    pools::comes_to_say(
        world,
        "loaded",
        ("Progressing", "True", "RollingOut"),
        &[MIGNODE, "default/holder"],
    )?;
    let now = world.pod("holder")?;
    ensure!(
        now.runs() && now.containers == holder.containers,
        "{}",
        now.line()
    );
    let still = checks::sees_what_it_holds(world, node, "holder", 1)?;
    ensure!(held == still, "the pod had {held:?}, and has {still:?}");
    // Another wish meanwhile is the one that counts: nothing has to go for it.
    pools::change(world, "loaded", &json!({"layouts": "MIG1g"}))?;
    pools::comes_to_be_ready(world, "loaded", 1, LATER)?;
    checks::allocatable(world, node, RESOURCE, 56, LATER)?;
    pools::change(world, "loaded", &json!({"layouts": "MIG3g"}))?;
    world.delete_pods(&["holder"])?;
    pools::comes_to_be_ready(world, "loaded", 1, LATER)?;
    checks::allocatable(world, node, RESOURCE, 16, LATER)
}

/// Slices of 5 GB are on the A100 only.
fn rolled_back(world: &World) -> Outcome {
    operators::install(world, &[])?;
    for node in [MIGNODE, H100NODE] {
        world.kubectl(&["label", "node", node, &format!("{CHOSEN}=yes")])?;
    }
    pools::ask(
        world,
        "both",
        &json!({
            "nodeSelector": {CHOSEN: "yes"},
            "count": 2,
            "layouts": "MIG1g",
            "migStrategy": "mixed",
            "maxUnavailable": 1,
        }),
    )?;
    let settled = |layout: &str, a100: (&str, u32), h100: (&str, u32)| -> Outcome {
        pools::comes_to_be_ready(world, "both", 2, LATER)?;
        has(world, MIGNODE, layout, a100)?;
        has(world, H100NODE, layout, h100)
    };
    let ones = (
        ("nvidia.com/mig-1g.5gb", 56),
        ("nvidia.com/mig-1g.10gb", 14),
    );
    settled("MIG1g", ones.0, ones.1)?;
    pools::change(world, "both", &json!({"layouts": "1g.5gb*4"}))?;
    let said = pools::comes_to_say(
        world,
        "both",
        ("Degraded", "True", "RolledBack"),
        &[H100NODE, "1g.5gb*4"],
    )?;
    ensure!(
        said["spec"]["layouts"] == "1g.5gb*4",
        "{}",
        pools::line(&said)
    );
    has(world, MIGNODE, "MIG1g", ones.0)?;
    has(world, H100NODE, "MIG1g", ones.1)?;
    told(world, "both", "RolledBack", H100NODE)?;
    // And it is content with what both can do.
    pools::change(world, "both", &json!({"layouts": "MIG2g"}))?;
    let twos = (
        ("nvidia.com/mig-2g.10gb", 24),
        ("nvidia.com/mig-2g.20gb", 6),
    );
    settled("MIG2g", twos.0, twos.1)
}

/// The node has a layout, and shows so many of a resource.
fn has(world: &World, node: &str, layout: &str, (resource, count): (&str, u32)) -> Outcome {
    checks::allocatable(world, world.node(node), resource, count, LATER)?;
    until(&format!("{node} to have {layout}"), LATER, || {
        let object = pools::gpu_node(world, node)?;
        ensure!(
            object["status"]["layout"] == layout && object["spec"]["layout"] == layout,
            "it has {}, and {} is wanted",
            object["status"]["layout"],
            object["spec"]["layout"]
        );
        Ok(())
    })
}

/// There comes to be an event about the pool with this reason, whose note names somebody.
fn told(world: &World, pool: &str, reason: &str, named: &str) -> Outcome {
    until(
        &format!("an event {reason} about pool {pool}"),
        LATER,
        || {
            let list = world.get(&["events.events.k8s.io", "--all-namespaces"])?;
            let events = list["items"].as_array();
            let about: Vec<&Value> = events
                .into_iter()
                .flatten()
                .filter(|event| {
                    event["regarding"]["kind"] == "NodePool" && event["regarding"]["name"] == pool
                })
                .collect();
            let found = about.iter().any(|event| {
                let note = event["note"].as_str().unwrap_or_default();
                event["reason"] == reason && note.contains(named)
            });
            ensure!(found, "{about:?}");
            Ok(())
        },
    )
}

fn smallest_change(world: &World) -> Outcome {
    operators::install(world, &[])?;
    let node = world.node(MIGNODE);
    let (ones, threes) = ("nvidia.com/mig-1g.5gb", "nvidia.com/mig-3g.20gb");
    pools::ask(
        world,
        "loaded",
        &json!({
            "vmSize": A100_SIZE, "layouts": "0-3=MIG1g;4-7=MIG3g", "migStrategy": "mixed", "drain": "never",
        }),
    )?;
    pools::comes_to_be_ready(world, "loaded", 1, LATER)?;
    checks::allocatable(world, node, ones, 28, LATER)?;
    world.apply(&[PodSpec::with_slices("holder", threes, 8).manifest()])?;
    world.running("holder", LATER)?;
    let before = checks::sees_what_it_holds(world, node, "holder", 8)?;
    pools::change(
        world,
        "loaded",
        &json!({"layouts": "0-1=MIG1g;2-3=MIG2g;4-7=MIG3g"}),
    )?;
    pools::comes_to_be_ready(world, "loaded", 1, LATER)?;
    checks::allocatable(world, node, ones, 14, LATER)?;
    checks::allocatable(world, node, threes, 8, LATER)?;
    let after = checks::sees_what_it_holds(world, node, "holder", 8)?;
    ensure!(before == after, "the pod had {before:?}, and has {after:?}");
    Ok(())
}

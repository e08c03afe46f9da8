//! Somebody is away for a while: what was asked meanwhile is done when he is back, and until then it is said who is waited
//! for.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;

use super::{A100_SIZE, RESOURCE};
use crate::charts;
use crate::checks;
use crate::fleet::{Fleet, SIZE};
use crate::operators::{self, RELEASE, WEBHOOK};
use crate::pods::PodSpec;
use crate::pools::{self, CHOSEN};
use crate::suite::{Outcome, Test};
use crate::wait::{LATER, until};
use crate::world::{CPUNODE, H100NODE, MIGNODE, World};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "an_agent_that_was_away_for_a_minute_does_what_was_asked_meanwhile",
        run: agent,
    },
    Test {
        name: "an_operator_that_was_away_does_what_was_asked_meanwhile",
        run: operator,
    },
    Test {
        name: "an_api_server_that_was_away_in_the_midst_of_a_rollout_changes_nothing",
        run: api_server,
    },
    Test {
        name: "what_a_webhook_that_is_away_lets_in_the_operator_refuses",
        run: webhook,
    },
    Test {
        name: "a_node_that_was_deleted_and_is_back_is_taken_again",
        run: node,
    },
];

/// How long somebody is away.
const ABSENCE: Duration = Duration::from_mins(1);

/// A pool on `mignode` that runs a pod with a slice.
fn stage(world: &World) -> Outcome {
    operators::install(world, &[])?;
    pools::ask(
        world,
        "steady",
        &json!({"vmSize": A100_SIZE, "layouts": "0-3=MIG1g;4-7=MIG3g", "migStrategy": "mixed"}),
    )?;
    pools::comes_to_be_ready(world, "steady", 1, LATER)?;
    let pod = PodSpec::with_slices("holder", "nvidia.com/mig-3g.20gb", 1);
    world.apply(&[pod.manifest()])?;
    world.running("holder", LATER)?;
    Ok(())
}

/// Another layout, for which no slice in use has to go.
fn ask(world: &World) -> Outcome {
    pools::change(world, "steady", &json!({"layouts": "0-3=MIG2g;4-7=MIG3g"}))
}

/// It is there, and the pod with its slice was left alone.
fn arrived(world: &World, held: &std::collections::BTreeSet<String>) -> Outcome {
    pools::comes_to_be_ready(world, "steady", 1, LATER)?;
    let node = world.node(MIGNODE);
    checks::allocatable(world, node, "nvidia.com/mig-2g.10gb", 12, LATER)?;
    let now = checks::sees_what_it_holds(world, node, "holder", 1)?;
    ensure!(now == *held, "the pod had {held:?}, and has {now:?}");
    Ok(())
}

fn agent(world: &World) -> Outcome {
    stage(world)?;
    let held = checks::sees_what_it_holds(world, world.node(MIGNODE), "holder", 1)?;
    operators::agents_only_on(world, Some(CPUNODE))?;
    operators::agent_has_gone(world, MIGNODE)?;
    let began = Instant::now();
    ask(world)?;
    pools::comes_to_say(
        world,
        "steady",
        ("Ready", "False", "RollingOut"),
        &[MIGNODE, "its agent"],
    )?;
    thread::sleep(ABSENCE.saturating_sub(began.elapsed()));
    // Nothing was given up meanwhile.
    let pool = pools::pool(world, "steady")?;
    ensure!(
        pool["spec"]["layouts"] == "0-3=MIG2g;4-7=MIG3g"
            && pools::has(&pool, ("Ready", "False", "RollingOut"), &["its agent"]),
        "{}",
        pools::line(&pool)
    );
    operators::agents_only_on(world, None)?;
    arrived(world, &held)
}

fn operator(world: &World) -> Outcome {
    stage(world)?;
    let held = checks::sees_what_it_holds(world, world.node(MIGNODE), "holder", 1)?;
    let replicas = |count: u32| -> Outcome {
        let count = format!("--replicas={count}");
        world.kubectl(&["scale", "deployment", operators::OPERATOR, &count])?;
        Ok(())
    };
    replicas(0)?;
    operators::have_gone(world)?;
    ask(world)?;
    // Agents and what they advertise need nobody.
    let agent = world.release_pod(RELEASE, MIGNODE)?;
    world.delete_pods(&[&agent.name])?;
    let node = world.node(MIGNODE);
    checks::allocatable(world, node, "nvidia.com/mig-1g.5gb", 28, LATER)?;
    world.kubectl(&["delete", "lease", operators::LEASE])?;
    replicas(1)?;
    arrived(world, &held)
}

fn api_server(world: &World) -> Outcome {
    const COUNT: u64 = 20;
    operators::install(world, &[&charts::only_on(CPUNODE)])?;
    let fleet = Fleet::start(world, usize::try_from(COUNT)?, Duration::from_secs(1))?;
    pools::ask(
        world,
        "steady",
        &json!({"vmSize": SIZE, "count": COUNT, "layouts": "MIG1g", "maxUnavailable": "20%"}),
    )?;
    pools::comes_to_be_ready(world, "steady", COUNT, LATER)?;
    pools::change(world, "steady", &json!({"layouts": "MIG3g"}))?;
    until("the rollout to begin", LATER, || {
        let pool = pools::pool(world, "steady")?;
        let updated = pool["status"]["updatedNodes"].as_u64();
        ensure!(
            updated.is_some_and(|count| (1..COUNT).contains(&count)),
            "{updated:?}"
        );
        Ok(())
    })?;
    let server = world.cluster().api_server();
    server.stop()?;
    thread::sleep(Duration::from_secs(20));
    server.start()?;
    world.cluster().wait_for_api_server()?;
    pools::comes_to_be_ready(world, "steady", COUNT, LATER)?;
    for number in 0..fleet.len() {
        let layout = pools::gpu_node(world, &Fleet::node(number))?["status"]["layout"].take();
        ensure!(layout == "MIG3g", "{} has {layout}", Fleet::node(number));
    }
    fleet.end()?;
    Ok(())
}

fn webhook(world: &World) -> Outcome {
    operators::install(world, &[])?;
    // Of a node that is not known yet nothing is wanted either.
    pools::comes_to_be_reported(world, MIGNODE, 8)?;
    world.kubectl(&["delete", "service", WEBHOOK])?;
    let impossible = json!({"vmSize": A100_SIZE, "layouts": "3g.20gb*3", "count": 1});
    until("the webhook to be away", LATER, || {
        pools::ask(world, "unchecked", &impossible)
    })?;
    pools::comes_to_say(
        world,
        "unchecked",
        ("Degraded", "True", "InvalidSpec"),
        &["3g.20gb"],
    )?;
    pools::is_free(world, MIGNODE)?;
    // It can be mended while the webhook is away, and when it is back.
    pools::change(world, "unchecked", &json!({"layouts": "3g.20gb*2"}))?;
    pools::comes_to_be_ready(world, "unchecked", 1, LATER)?;
    checks::allocatable(world, world.node(MIGNODE), RESOURCE, 16, LATER)?;
    operators::install(world, &[])?;
    pools::is_refused(
        world,
        &pools::manifest("unchecked", &impossible),
        &["3g.20gb"],
    )
}

/// Whoever deletes a node takes its pods with it; what its GPUs are like stays.
fn node(world: &World) -> Outcome {
    operators::install(world, &[])?;
    world.kubectl(&["label", "node", H100NODE, &format!("{CHOSEN}=yes")])?;
    pools::ask(
        world,
        "steady",
        &json!({"nodeSelector": {CHOSEN: "yes"}, "layouts": "MIG1g", "nodeTaints": ["sku=gpu:NoSchedule"]}),
    )?;
    pools::comes_to_be_ready(world, "steady", 1, LATER)?;
    let before = pools::gpu_node(world, H100NODE)?["metadata"]["uid"].take();
    let node = world.node(H100NODE);
    node.stop_kubelet()?;
    world.kubectl(&["delete", "node", H100NODE])?;
    pools::comes_to_say(
        world,
        "steady",
        ("Degraded", "True", "TooFewNodes"),
        &["1 more node is needed"],
    )?;
    until("what was known of the node to go", LATER, || {
        let said = world.try_kubectl(&["get", "gpunodes.migpool.dev", H100NODE])?;
        ensure!(
            !said.ok && said.stderr.contains("NotFound"),
            "{}",
            said.stdout
        );
        Ok(())
    })?;
    node.start_kubelet()?;
    until("the node to be back", LATER, || {
        let node = world.get(&["node", H100NODE])?;
        let labels = node["metadata"]["labels"]
            .as_object()
            .context("no labels")?;
        ensure!(!labels.contains_key("agentpool"), "{labels:?}");
        Ok(())
    })?;
    charts::give_boards(world)?;
    world.kubectl(&["label", "node", H100NODE, &format!("{CHOSEN}=yes")])?;
    pools::comes_to_be_ready(world, "steady", 1, LATER)?;
    pools::comes_to_wear(world, H100NODE, Some("steady"), &["sku=gpu:NoSchedule"])?;
    checks::allocatable(world, node, RESOURCE, 14, LATER)?;
    let after = pools::gpu_node(world, H100NODE)?["metadata"]["uid"].take();
    ensure!(
        before != after,
        "it is the object of the node that was deleted"
    );
    Ok(())
}

//! An agent and an operator of different versions. There is only one version to run, so the other side is played: the
//! definition of `GpuNode` learns words that this version does not know, and they are written where the other would write
//! them.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{A100_SIZE, RESOURCE};
use crate::checks;
use crate::operators::{self, OPERATOR, RELEASE};
use crate::pods::PodSpec;
use crate::pools::{self, CHOSEN};
use crate::suite::{Outcome, Test};
use crate::wait::{LATER, until};
use crate::world::{H100NODE, MIGNODE, World};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "an_operator_goes_on_where_one_agent_is_of_a_later_version",
        run: later_agent,
    },
    Test {
        name: "an_agent_keeps_its_slices_where_the_operator_is_of_a_later_version",
        run: later_operator,
    },
];

/// The definition of `GpuNode`, and as it was before it learned anything.
const DEFINITION: &str = "customresourcedefinition/gpunodes.migpool.dev";

/// Teaches the definition a later version's word and field, and gives back how it was.
fn teach(world: &World, list: &str, term: &str, fields: &str) -> anyhow::Result<Value> {
    let before = world.get(&[DEFINITION])?;
    let mut later = before.clone();
    let schema = "/spec/versions/0/schema/openAPIV3Schema";
    later
        .pointer_mut(&format!("{schema}{list}/enum"))
        .and_then(Value::as_array_mut)
        .with_context(|| format!("no words at {list}"))?
        .push(term.into());
    later
        .pointer_mut(&format!("{schema}{fields}/properties"))
        .and_then(Value::as_object_mut)
        .with_context(|| format!("no fields at {fields}"))?
        .insert("later".to_owned(), json!({"type": "string"}));
    let patch = json!({"spec": {"versions": later["spec"]["versions"]}}).to_string();
    world.kubectl(&["patch", DEFINITION, "--type=merge", "--patch", &patch])?;
    Ok(json!({"spec": {"versions": before["spec"]["versions"]}}))
}

fn forget(world: &World, before: &Value) -> Outcome {
    let patch = before.to_string();
    world.kubectl(&["patch", DEFINITION, "--type=merge", "--patch", &patch])?;
    Ok(())
}

/// Writes into a `GpuNode` what another version would, as soon as the API server has learned the words.
fn write(world: &World, node: &str, what: &Value, status: bool) -> Outcome {
    let patch = what.to_string();
    let mut arguments = vec![
        "patch",
        "gpunodes.migpool.dev",
        node,
        "--type=merge",
        "--patch",
        &patch,
    ];
    if status {
        arguments.push("--subresource=status");
    }
    until("the definition to be taken", LATER, || {
        let said = world.try_kubectl(&arguments)?;
        ensure!(said.ok, "{}", said.stderr);
        Ok(())
    })
}

fn later_agent(world: &World) -> Outcome {
    operators::install(world, &[])?;
    pools::comes_to_be_reported(world, MIGNODE, 8)?;
    // From here on nobody but this test speaks for `mignode`.
    operators::agents_only_on(world, Some(H100NODE))?;
    operators::agent_has_gone(world, MIGNODE)?;
    let before = teach(
        world,
        "/properties/status/properties/phase",
        "Polishing",
        "/properties/status",
    )?;
    let polishing = json!({"status": {
        "phase": "Polishing", "later": "yes", "message": "the GPUs are made to shine",
        "agentVersion": "99.0.0", "observedGeneration": 100,
    }});
    write(world, MIGNODE, &polishing, true)?;

    // The other node's pool does not notice, also with an operator that reads everything anew.
    world.kubectl(&["rollout", "restart", "deployment", OPERATOR])?;
    world.kubectl(&["label", "node", H100NODE, &format!("{CHOSEN}=yes")])?;
    let other = json!({"nodeSelector": {CHOSEN: "yes"}, "gpuInstanceProfile": "MIG1g"});
    pools::ask(world, "other", &other)?;
    pools::comes_to_be_ready(world, "other", 1, LATER)?;

    // And this one says whose turn it is.
    let ours = json!({"vmSize": A100_SIZE, "gpuInstanceProfile": "MIG1g"});
    pools::ask(world, "ours", &ours)?;
    pools::comes_to_say(
        world,
        "ours",
        ("Degraded", "True", "TooFewNodes"),
        &[MIGNODE, "99.0.0", "upgrade the operator"],
    )?;
    operators::agents_only_on(world, None)?;
    pools::comes_to_be_ready(world, "ours", 1, LATER)?;
    checks::allocatable(world, world.node(MIGNODE), RESOURCE, 56, LATER)?;
    forget(world, &before)
}

fn later_operator(world: &World) -> Outcome {
    operators::install(world, &[])?;
    let ours = json!({"vmSize": A100_SIZE, "gpuInstanceProfile": "MIG1g"});
    pools::ask(world, "ours", &ours)?;
    pools::comes_to_be_ready(world, "ours", 1, LATER)?;
    let node = world.node(MIGNODE);
    // The other node has whole GPUs of the same name to give.
    world.kubectl(&["cordon", H100NODE])?;
    world.apply(&[PodSpec::with_slices("holder", RESOURCE, 1).manifest()])?;
    let holder = world.running("holder", LATER)?;
    let held = checks::sees_what_it_holds(world, node, "holder", 1)?;
    // From here on nobody but this test speaks for the operator.
    world.kubectl(&["scale", "deployment", OPERATOR, "--replicas=0"])?;
    operators::have_gone(world)?;
    let before = teach(
        world,
        "/properties/spec/properties/drain",
        "persuade",
        "/properties/spec",
    )?;
    let later = json!({"spec": {"layout": "MIG2g", "drain": "persuade", "later": "yes"}});
    write(world, MIGNODE, &later, false)?;
    let undisturbed = || -> Outcome {
        checks::allocatable(world, node, RESOURCE, 56, LATER)?;
        let now = world.pod("holder")?;
        ensure!(
            now.containers == holder.containers,
            "it was {}, and is {}",
            holder.line(),
            now.line()
        );
        let now = checks::sees_what_it_holds(world, node, "holder", 1)?;
        ensure!(now == held, "the pod had {held:?}, and has {now:?}");
        Ok(())
    };
    let says = |what: &str| {
        until("the agent to say what it does not know", LATER, || {
            let described = world.kubectl(&["describe", "node", MIGNODE])?;
            ensure!(described.contains("persuade"), "{what}: {described}");
            Ok(())
        })
    };
    says("while it runs")?;
    undisturbed()?;
    // One that starts anew goes by what it was told last.
    let agent = world.release_pod(RELEASE, MIGNODE)?;
    world.delete_pods(&[&agent.name])?;
    says("after a restart")?;
    undisturbed()?;

    // An operator of its own version sets it right.
    world.kubectl(&["scale", "deployment", OPERATOR, "--replicas=1"])?;
    until("the operator to want what the pool wants", LATER, || {
        let spec = pools::gpu_node(world, MIGNODE)?["spec"].take();
        ensure!(
            spec["layout"] == "MIG1g" && spec["drain"] != "persuade",
            "{spec}"
        );
        Ok(())
    })?;
    pools::comes_to_be_ready(world, "ours", 1, LATER)?;
    undisturbed()?;
    forget(world, &before)
}

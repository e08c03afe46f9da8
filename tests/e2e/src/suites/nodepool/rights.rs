//! Operator and agents may do what they do, and do what they may.

use anyhow::ensure;
use serde_json::json;

use super::{A100_SIZE, RESOURCE};
use crate::audit::Audit;
use crate::checks;
use crate::operators::{self, OPERATOR, RELEASE};
use crate::pods::PodSpec;
use crate::pools;
use crate::rights::{self, Excuse};
use crate::suite::{Outcome, Test};
use crate::wait::{LATER, until};
use crate::world::{CPUNODE, H100NODE, MIGNODE, World};

pub(super) const TESTS: &[Test] = &[Test {
    name: "every_right_is_used_and_no_request_is_forbidden",
    run: every_right,
}];

/// Rights that a day without accidents does not take.
const FOR_ACCIDENTS: &[Excuse] = &[
    (
        RELEASE,
        "get gpunodes",
        "read where the watch has not told of it yet",
    ),
    (
        RELEASE,
        "list gpunodes",
        "the watch may begin with a stream instead",
    ),
    (
        RELEASE,
        "patch gpunodes",
        "a GpuNode that was nobody's is made its node's",
    ),
    (RELEASE, "patch events", "the same is told again"),
];

fn every_right(world: &World) -> Outcome {
    let audit = Audit::from_now_on(world)?;
    operators::install(world, &["operator.evict=true"])?;
    everyday(world)?;

    for account in [OPERATOR, RELEASE] {
        rights::are_used(world, &audit, account, FOR_ACCIDENTS)?;
    }
    Ok(())
}

/// What goes on in a cluster on any day.
fn everyday(world: &World) -> Outcome {
    world.kubectl(&["cordon", H100NODE])?;
    pools::ask(
        world,
        "daily",
        &json!({
            "vmSize": A100_SIZE, "layouts": "MIG1g", "drain": "evict", "nodeLabels": {"a": "b"},
            "nodeTaints": ["e2e=yes:PreferNoSchedule"],
        }),
    )?;
    pools::comes_to_be_ready(world, "daily", 1, LATER)?;
    let node = world.node(MIGNODE);
    checks::allocatable(world, node, RESOURCE, 56, LATER)?;
    world.apply(&[PodSpec::with_slices("load", RESOURCE, 1).replicas(2)])?;
    let before = world.all_running("app=load", 2, LATER)?;
    pools::change(world, "daily", &json!({"layouts": "MIG3g"}))?;
    pools::comes_to_be_ready(world, "daily", 1, LATER)?;
    checks::allocatable(world, node, RESOURCE, 16, LATER)?;
    until("the evicted pods to be replaced", LATER, || {
        let now = world.all_running("app=load", 2, LATER)?;
        let replaced = now
            .iter()
            .all(|pod| before.iter().all(|old| old.uid != pod.uid));
        ensure!(replaced, "they are not");
        Ok(())
    })?;
    world.kubectl(&["scale", "replicaset", "load", "--replicas=0"])?;
    // An operator that starts anew, an agent that starts anew, a certificate and a lease that are lost.
    world.kubectl(&[
        "patch",
        "secret",
        operators::WEBHOOK,
        "--type=merge",
        "--patch",
        r#"{"data": null}"#,
    ])?;
    operators::kill(world, &operators::leader(world)?)?;
    operators::acts(world)?;
    operators::lose_lease(world)?;
    let agent = world.release_pod(RELEASE, MIGNODE)?;
    world.delete_pods(&[&agent.name])?;
    world.kubectl(&["delete", "gpunodes.migpool.dev", H100NODE])?;
    pools::comes_to_be_reported(world, H100NODE, 2)?;
    pools::delete(world, "daily")?;
    pools::comes_to_wear(world, MIGNODE, None, &[])?;
    // A node without GPUs, for which the operator makes what an agent would.
    pools::ask(world, "plain", &json!({"vmSize": CPU_SIZE}))?;
    pools::comes_to_be_ready(world, "plain", 1, LATER)?;
    pools::delete(world, "plain")?;
    pools::comes_to_wear(world, CPUNODE, None, &[]).map(drop)
}

/// A size without GPUs.
const CPU_SIZE: &str = "Standard_DS2_v2";

//! What can't be, or must not be changed, is refused when it is asked for, in words that help.

use anyhow::ensure;
use serde_json::{Value, json};

use super::A100_SIZE;
use crate::operators;
use crate::pools::{self, NODE_POOLS, manifest};
use crate::suite::{Outcome, Test};
use crate::world::World;

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "a_profile_cannot_be_changed_and_the_articles_rule_says_so",
        run: immutable,
    },
    Test {
        name: "what_cannot_be_on_the_board_is_refused_with_the_nearest_that_can",
        run: impossible,
    },
    Test {
        name: "what_makes_no_sense_is_refused_by_the_schema",
        run: nonsense,
    },
];

fn sized(more: &Value) -> Value {
    let mut spec = json!({"vmSize": A100_SIZE});
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    spec
}

fn immutable(world: &World) -> Outcome {
    operators::install(world, &[])?;
    let asked = sized(&json!({"gpuInstanceProfile": "MIG1g", "count": 0}));
    pools::ask(world, "fixed", &asked)?;
    let mut changed = asked.clone();
    changed["gpuInstanceProfile"] = json!("MIG3g");
    pools::is_refused(
        world,
        &manifest("fixed", &changed),
        &["Changing property 'properties.gpuInstanceProfile' is not allowed."],
    )?;
    for (more, words) in [
        (
            json!({"vmSize": "Standard_NC24ads_A100_v4"}),
            "Changing property 'properties.vmSize' is not allowed.",
        ),
        (
            json!({"migStrategy": "mixed"}),
            "Changing property 'properties.migStrategy' is not allowed.",
        ),
        (
            json!({"gpuInstanceProfile": null, "layouts": "MIG1g"}),
            "Changing property 'properties.gpuInstanceProfile' is not allowed.",
        ),
    ] {
        let patch = json!({"spec": more}).to_string();
        let said = world.try_kubectl(&[
            "patch",
            NODE_POOLS,
            "fixed",
            "--type=merge",
            "--patch",
            &patch,
        ])?;
        ensure!(
            !said.ok && said.stderr.contains(words),
            "{patch}: {}{}",
            said.stdout,
            said.stderr
        );
    }
    // All else may be changed.
    pools::change(
        world,
        "fixed",
        &json!({"nodeLabels": {"a": "b"}, "maxUnavailable": "20%", "drain": "evict"}),
    )
}

fn impossible(world: &World) -> Outcome {
    operators::install(world, &[])?;
    for (more, words) in [
        // Three 3g.20gb take more memory units than there are.
        (json!({"layouts": "3g.20gb*3"}), &["3g.20gb", "earest"][..]),
        (
            json!({"layouts": "3g.20gb*2,2g.10gb"}),
            &["3g.20gb", "earest"],
        ),
        (
            json!({"layouts": "1g.10gb*7", "migStrategy": "mixed"}),
            &["1g.10gb"],
        ),
        (json!({"layouts": "1g.6gb*7"}), &["1g.6gb"]),
        (json!({"layouts": "8=MIG1g"}), &["8"]),
        (
            json!({"layouts": "3g.20gb,1g.5gb", "migStrategy": "single"}),
            &["Single", "Mixed"],
        ),
        (json!({"layouts": "a few slices"}), &["a few slices"]),
    ] {
        pools::is_refused(world, &manifest("impossible", &sized(&more)), words)?;
    }
    let unknown = json!({"vmSize": "Standard_ND96asr_v9", "gpuInstanceProfile": "MIG1g"});
    pools::is_refused(
        world,
        &manifest("unknown", &unknown),
        &["Standard_ND96asr_v4"],
    )?;
    let without = json!({"vmSize": "Standard_D4s_v3", "gpuInstanceProfile": "MIG1g"});
    pools::is_refused(world, &manifest("without", &without), &["Standard_D4s_v3"])?;
    // A change is judged too.
    pools::ask(
        world,
        "judged",
        &sized(&json!({"layouts": "MIG1g", "count": 0})),
    )?;
    let changed = sized(&json!({"layouts": "3g.20gb*3", "count": 0}));
    pools::is_refused(world, &manifest("judged", &changed), &["3g.20gb"])
}

fn nonsense(world: &World) -> Outcome {
    operators::install(world, &[])?;
    let one = json!({"gpuInstanceProfile": "MIG1g"});
    let with = |more: Value| {
        let mut spec = sized(&one);
        if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
            spec.extend(more.clone());
        }
        spec
    };
    for (spec, words) in [
        (json!({"count": 1}), &["either vmSize or nodeSelector"][..]),
        (
            with(json!({"nodeSelector": {"a": "b"}})),
            &["either vmSize or nodeSelector"],
        ),
        (
            with(json!({"layouts": "MIG1g"})),
            &["gpuInstanceProfile and layouts exclude each other"],
        ),
        (
            with(json!({"gpuInstanceProfile": "MIG5g"})),
            &["spec.gpuInstanceProfile", "MIG5g"],
        ),
        (with(json!({"migStrategy": "both"})), &["spec.migStrategy"]),
        (with(json!({"count": -1})), &["spec.count"]),
        (with(json!({"count": "many"})), &["spec.count"]),
        (
            with(json!({"count": 0, "mode": "System"})),
            &["mode System"],
        ),
        (
            with(json!({"nodeTaints": ["sku=gpu"]})),
            &["spec.nodeTaints"],
        ),
        (with(json!({"drain": "hard"})), &["spec.drain"]),
        (with(json!({"maxUnavailable": "0%"})), &["maxUnavailable"]),
        (
            with(json!({"provider": {"type": "ClusterAPI"}})),
            &["provider.clusterAPI"],
        ),
        (
            with(json!({"gpuInstanceProfil": "MIG1g"})),
            &["gpuInstanceProfil"],
        ),
    ] {
        pools::is_refused(world, &manifest("nonsense", &spec), words)?;
    }
    for name in ["Upper", "a-b", "averylongname1", "1a"] {
        pools::is_refused(world, &manifest(name, &sized(&one)), &["nvalid"])?;
    }
    Ok(())
}

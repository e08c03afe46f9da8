//! The OpenAPI document of what is served, and requests of all sorts that are made from it.

use anyhow::ensure;
use serde_json::Value;

use crate::azure::{Place, Up};
use crate::machine::Machine;
use crate::suite::{Alone, Outcome, Test};
use crate::world::World;

pub(super) const ALONE: &[Alone] = &[
    Alone {
        name: "the_openapi_document_is_served_without_a_token_and_printed",
        run: document,
    },
    Alone {
        name: "no_request_made_from_the_document_is_answered_otherwise_than_it_says",
        run: |machine| {
            conformance(
                machine,
                &Place::on(machine, "openapi-requests")?,
                &[EXAMPLES],
            )
        },
    },
];

pub(super) const TESTS: &[Test] = &[Test {
    name: "no_request_made_from_the_document_is_answered_otherwise_by_a_cluster",
    run: |world: &World| conformance(world.machine(), &Place::in_cluster(world)?, FEW),
}];

/// How many requests schemathesis makes up for each operation, beside those for the edges of its parameters.
const EXAMPLES: &str = "20";

/// The same for a cluster, and without the edges: a write takes longer there, and what is read of a request is read by the same
/// program.
const FEW: &[&str] = &["5", "fuzzing"];

fn document(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "openapi")?;
    let shell = up.shell()?;
    let served = shell.json(
        r#"curl --silent --fail --cacert "$REQUESTS_CA_BUNDLE" "$MIGPOOL_AZURE_ENDPOINT/openapi.json""#,
    )?;
    let printed: Value = shell.json("migpool azure openapi")?;
    ensure!(served == printed, "what is served is not what is printed");
    Ok(())
}

fn conformance(machine: &Machine, place: &Place<'_>, how: &[&str]) -> Outcome {
    let shell = place.with_cluster()?;
    let seed = machine.random("openapi").u32(..).to_string();
    machine.log(&format!("schemathesis with --seed {seed}"));
    let printed = shell.python("tests/e2e/azure/arm_checks.py", &[&[&*seed], how].concat())?;
    machine.log(printed.trim());
    Ok(())
}

//! The OpenAPI document of what is served, and requests of all sorts that are made from it.

use anyhow::ensure;
use serde_json::Value;

use crate::azure::Up;
use crate::machine::Machine;
use crate::suite::{Alone, Outcome};

pub(super) const ALONE: &[Alone] = &[
    Alone {
        name: "the_openapi_document_is_served_without_a_token_and_printed",
        run: document,
    },
    Alone {
        name: "no_request_made_from_the_document_is_answered_otherwise_than_it_says",
        run: conformance,
    },
];

/// How many requests schemathesis makes up for each operation, beside those for the edges of its parameters.
const EXAMPLES: &str = "20";

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

fn conformance(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "openapi-requests")?;
    let shell = up.with_cluster()?;
    let seed = machine.random("openapi").u32(..).to_string();
    machine.log(&format!("schemathesis with --seed {seed}"));
    let printed = shell.python("tests/e2e/azure/arm_checks.py", &[&seed, EXAMPLES])?;
    machine.log(printed.trim());
    Ok(())
}

//! api-versions: which are known, and what each knows.

use anyhow::ensure;

use crate::azure::{Place, Shell};
use crate::suite::{Alone, Outcome, Test};

pub(super) const ALONE: &[Alone] = &[Alone {
    name: "what_a_version_knows_is_as_the_article_says",
    run: |machine| versions(&Place::on(machine, "versions")?),
}];

pub(super) const TESTS: &[Test] = &[Test {
    name: "what_a_version_knows_of_a_cluster_is_as_the_article_says",
    run: |world| versions(&Place::in_cluster(world)?),
}];

/// The article's PUT with an api-version.
fn put(shell: &Shell<'_>, name: &str, version: &str, more: &str) -> anyhow::Result<String> {
    let subscription = shell.variable("AZURE_SUBSCRIPTION_ID")?;
    Ok(format!(
        "az rest --method put --url '/subscriptions/{subscription}/RESOURCEGROUPS/myresourcegroup/PROVIDERS/microsoft.containerservice\
         /MANAGEDCLUSTERS/MYAKSCLUSTER/agentpools/{name}?api-version={version}' \
         --body '{{\"properties\": {{\"count\": 0, \"vmSize\": \"Standard_ND96asr_v4\", \"gpuInstanceProfile\": \"MIG1g\"{more}}}}}'"
    ))
}

fn versions(place: &Place<'_>) -> Outcome {
    let shell = place.with_cluster()?;
    for (index, version) in [
        "2021-08-01",
        "2023-11-01",
        "2024-01-01",
        "2026-06-01",
        "2026-08-01",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("v{index}");
        let made = shell.json(&put(&shell, &name, version, "")?)?;
        ensure!(
            made["properties"]["gpuInstanceProfile"] == "MIG1g",
            "{version}: {made}"
        );
    }

    // The article's troubleshooting: the pool comes without its profile. Here the log says why.
    let made = shell.json(&put(&shell, "old", "2021-07-01", "")?)?;
    ensure!(
        made["properties"]["gpuInstanceProfile"].is_null(),
        "2021-07-01: {made}"
    );
    let log = place.log()?;
    ensure!(
        log.contains("2021-07-01") && log.contains("gpuInstanceProfile"),
        "the log does not say why the profile is gone: {log}"
    );
    let warning = shell.done(&format!(
        "{} --debug 2>&1",
        put(&shell, "old2", "2021-07-01", "")?
    ))?;
    ensure!(
        warning.to_lowercase().contains("x-ms-warning"),
        "no warning among the headers"
    );

    shell.fails(
        &put(&shell, "new", "2099-01-01", "")?,
        1,
        &["NoRegisteredProviderFound", "2099-01-01", "2026-06-01"],
    )?;
    let url = put(&shell, "none", "", "")?.replace("?api-version=", "");
    shell.fails(&url, 1, &["MissingApiVersionParameter"])?;

    // Fields that nobody knows.
    shell.done(&put(&shell, "lax", "2023-11-01", ", \"nope\": 1")?)?;
    shell.fails(
        &put(&shell, "strict", "2024-01-01", ", \"nope\": 1")?,
        1,
        &["UnmarshalError", "nope"],
    )
}

//! The clients, each in an environment of its own: az brings other versions of the SDK's packages than a user of that installs.

use test_cluster::Python;

use crate::machine::workspace;

/// azure-cli.
///
/// # Errors
/// It is not in the cache, and can't be put there.
pub(super) fn cli() -> anyhow::Result<Python> {
    named("azure-cli", "cli.txt")
}

/// The SDK, and what generates requests from an `OpenAPI` document.
///
/// # Errors
/// It is not in the cache, and can't be put there.
pub(super) fn sdk() -> anyhow::Result<Python> {
    named("azure-sdk", "sdk.txt")
}

fn named(name: &str, requirements: &str) -> anyhow::Result<Python> {
    let requirements = workspace().join("tests/e2e/azure").join(requirements);
    Ok(Python::ensure(name, &requirements)?)
}

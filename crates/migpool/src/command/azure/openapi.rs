//! `migpool azure openapi`: what is served, for programs that make clients and tests of it.

use clap::Args;
use local::backend::LocalBackend;

use crate::failure::Failure;
use crate::output::write_line;

/// Print the OpenAPI document of what is served
///
/// The front answers GET /openapi.json with the same.
#[derive(Debug, Args)]
pub(crate) struct Openapi {}

impl Openapi {
    /// Prints it.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let document = arm::openapi::<LocalBackend>();
        let text = serde_json::to_string_pretty(&document)
            .map_err(|error| Failure::failed(format!("the document can't be written: {error}")))?;
        write_line(&text)
    }
}

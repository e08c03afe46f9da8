//! `migpool azure openapi`: what is served, for programs that make clients and tests of it.

use local::backend::LocalBackend;

use crate::failure::Failure;
use crate::output::write_line;

/// Prints the document; the front gives the same to `GET /openapi.json`.
pub(crate) fn print() -> Result<(), Failure> {
    let document = arm::openapi::<LocalBackend>();
    let text = serde_json::to_string_pretty(&document)
        .map_err(|error| Failure::failed(format!("the document can't be written: {error}")))?;
    write_line(&text)
}

//! Writes what is generated from the routes: the OpenAPI document.

use std::path::Path;

use pool::memory::MemoryBackend;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let document = migpool_arm::openapi::<MemoryBackend>();
    let text = format!("{}\n", serde_json::to_string_pretty(&document)?);
    std::fs::write(root.join("docs/openapi.json"), text)?;
    Ok(())
}

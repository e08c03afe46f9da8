//! Writes what is generated from the types of the custom resources: the chart's `CustomResourceDefinition`s and the reference.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let folder = root.join("charts/migpool/crds-files");
    std::fs::create_dir_all(&folder)?;
    for (file, text) in migpool_kubernetes::custom_resource_definitions()? {
        std::fs::write(folder.join(file), text)?;
    }
    std::fs::write(
        root.join("docs/node-pools-reference.md"),
        migpool_kubernetes::reference(),
    )?;
    Ok(())
}

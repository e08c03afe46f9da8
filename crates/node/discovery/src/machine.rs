//! The machine's type, from DMI.

use std::path::Path;

/// Where Linux shows the machine's product name.
pub const DMI_PRODUCT_NAME: &str = "/sys/class/dmi/id/product_name";

/// The machine type where none can be told.
pub const UNKNOWN_MACHINE: &str = "unknown";

/// The machine's product name as a file gives it, [`DMI_PRODUCT_NAME`] unless told otherwise;
/// [`UNKNOWN_MACHINE`] where there is no such file or nothing in it. [`labels`](crate::labels) makes
/// a label's value of it.
#[must_use]
pub fn machine_type(file: &Path) -> String {
    match std::fs::read_to_string(file) {
        Ok(name) if !name.trim().is_empty() => name.trim().to_owned(),
        Ok(_) => UNKNOWN_MACHINE.to_owned(),
        Err(error) => {
            tracing::debug!(file = %file.display(), %error, "machine type unknown");
            UNKNOWN_MACHINE.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_line_is_the_machine_type() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("product_name");
        assert_eq!(machine_type(&file), "unknown", "a missing file");
        std::fs::write(&file, "Virtual Machine\n").unwrap();
        assert_eq!(machine_type(&file), "Virtual Machine");
        std::fs::write(&file, "\n").unwrap();
        assert_eq!(machine_type(&file), "unknown", "an empty file");
    }
}

//! Booting along with the machine that the root lies on.

use std::fs;
use std::io;

use super::{DriverRoot, RootError, io_error};

/// Which of the machine's boots the simulated node has booted with.
const BOOT_ID_FILE: &str = "sim/boot-id";

impl DriverRoot {
    /// Boots the simulated node if the machine has booted since this was last called, which `boot_id` (the kernel's
    /// `/proc/sys/kernel/random/boot_id`) tells. Says whether it did. The first call takes the root as booted.
    ///
    /// # Errors
    /// [`RootError::Io`], [`RootError::Store`].
    pub fn boot_with_machine(&self, boot_id: &str) -> Result<bool, RootError> {
        let file = self.path.join(BOOT_ID_FILE);
        let known = match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other.map_err(io_error(&file))?),
        };
        if known.as_deref() == Some(boot_id) {
            return Ok(false);
        }
        // A process that is killed in between boots the node once more, which no one has used meanwhile.
        if known.is_some() {
            self.reboot()?;
        }
        let new = file.with_extension(format!("new-{}", std::process::id()));
        fs::write(&new, boot_id)
            .and_then(|()| fs::rename(&new, &file))
            .map_err(io_error(&file))?;
        Ok(known.is_some())
    }
}

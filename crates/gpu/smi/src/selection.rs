//! Which GPUs a command is about.

use nvml::{FailedGpu, Gpu, Inventory};

use crate::exit::NOT_FOUND;
use crate::reply::Reply;

/// The GPUs that were asked for, and those of them that do not answer.
pub(crate) struct Selection<'a> {
    pub(crate) gpus: Vec<&'a Gpu>,
    pub(crate) failed: Vec<&'a FailedGpu>,
}

impl<'a> Selection<'a> {
    /// `ids` are indices, PCI addresses or UUIDs, separated by commas; none means every GPU. As for nvidia-smi, those that
    /// are not there matter only when nothing else is.
    pub(crate) fn of(inventory: &'a Inventory, ids: Option<&str>) -> Result<Self, Reply> {
        let Some(ids) = ids else {
            let selection = Self {
                gpus: inventory.gpus.iter().collect(),
                failed: inventory.failed.iter().collect(),
            };
            return if selection.is_empty() {
                Err(none())
            } else {
                Ok(selection)
            };
        };
        let ids: Vec<&str> = ids.split(',').map(str::trim).collect();
        let selection = Self {
            gpus: inventory
                .gpus
                .iter()
                .filter(|gpu| ids.iter().any(|id| is(gpu, id)))
                .collect(),
            failed: inventory
                .failed
                .iter()
                .filter(|gpu| ids.iter().any(|id| is_failed(gpu, id)))
                .collect(),
        };
        if selection.is_empty() {
            Err(none())
        } else {
            Ok(selection)
        }
    }

    fn is_empty(&self) -> bool {
        self.gpus.is_empty() && self.failed.is_empty()
    }
}

fn none() -> Reply {
    Reply::new(NOT_FOUND, "No devices were found")
}

fn is(gpu: &Gpu, id: &str) -> bool {
    id.parse() == Ok(gpu.index) || gpu.uuid.as_str() == id || same_address(&gpu.pci_bus_id, id)
}

fn is_failed(gpu: &FailedGpu, id: &str) -> bool {
    id.parse() == Ok(gpu.index) || gpu.uuid.as_ref().is_some_and(|uuid| uuid.as_str() == id)
}

/// PCI addresses are written with a domain of eight or of four digits, or none.
fn same_address(full: &str, given: &str) -> bool {
    let tail = |text: &str| {
        let parts: Vec<&str> = text.rsplitn(3, ':').collect();
        match parts.as_slice() {
            [device, bus] => Some((0, bus.to_ascii_lowercase(), device.to_ascii_lowercase())),
            [device, bus, domain] => {
                let domain = u32::from_str_radix(domain, 16).ok()?;
                Some((
                    domain,
                    bus.to_ascii_lowercase(),
                    device.to_ascii_lowercase(),
                ))
            }
            _ => None,
        }
    };
    tail(given).is_some_and(|address| tail(full) == Some(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pci_address_is_the_same_however_its_domain_is_written() {
        for given in ["00000000:00:06.0", "0000:00:06.0", "00:06.0"] {
            assert!(same_address("00000000:00:06.0", given), "{given}");
        }
        assert!(same_address("00000000:10:1C.0", "0000:10:1c.0"));
        assert!(
            !same_address("00000001:00:06.0", "00:06.0"),
            "another domain is another place"
        );
        assert!(!same_address("00000000:00:06.0", "0"));
    }
}

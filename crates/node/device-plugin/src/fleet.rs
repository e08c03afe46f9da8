//! The node's GPUs as they are, and the lost ones as they were.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nvml::{Gpu, GpuUuid, Inventory};

/// What is known of a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownGpu {
    /// The GPU, as it is, or as it was when it last answered.
    pub gpu: Gpu,
    /// Why it does not answer; `None` when it does.
    pub lost: Option<String>,
    /// The NUMA node that it is near, where the system tells.
    pub numa_node: Option<u32>,
}

/// The GPUs of a node over time.
///
/// A GPU that stops answering is not forgotten: its slices stay known, so that the kubelet is told that they are
/// unhealthy rather than that there never were such devices. One that has never answered is not known, and one
/// that the driver no longer counts is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fleet {
    gpus: BTreeMap<GpuUuid, KnownGpu>,
}

impl Fleet {
    /// Takes in a new snapshot. `numa_node` is asked once for each new GPU, with its PCI address.
    pub fn update(&mut self, inventory: &Inventory, numa_node: impl Fn(&str) -> Option<u32>) {
        let mut known = std::mem::take(&mut self.gpus);
        for failed in &inventory.failed {
            // Without a UUID only the index is left, and only if no GPU that answers has moved there.
            let uuid = failed.uuid.clone().or_else(|| {
                known
                    .values()
                    .map(|known| &known.gpu)
                    .find(|gpu| gpu.index == failed.index && inventory.gpu(&gpu.uuid).is_none())
                    .map(|gpu| gpu.uuid.clone())
            });
            if let Some((uuid, mut gpu)) = uuid.and_then(|uuid| known.remove_entry(&uuid)) {
                gpu.lost = Some(failed.reason.clone());
                self.gpus.insert(uuid, gpu);
            }
        }
        for gpu in &inventory.gpus {
            let numa_node = match known.get(&gpu.uuid) {
                Some(known) => known.numa_node,
                None => numa_node(&gpu.pci_bus_id),
            };
            self.gpus.insert(
                gpu.uuid.clone(),
                KnownGpu {
                    gpu: gpu.clone(),
                    lost: None,
                    numa_node,
                },
            );
        }
    }

    /// Every known GPU, in the order of its index.
    #[must_use]
    pub fn gpus(&self) -> Vec<&KnownGpu> {
        let mut gpus: Vec<_> = self.gpus.values().collect();
        gpus.sort_by_key(|known| known.gpu.index);
        gpus
    }
}

/// The NUMA node of the PCI device at an address such as `00000000:17:00.0`, as the kernel tells it.
pub(crate) fn numa_node(sysfs: &Path, pci_bus_id: &str) -> Option<u32> {
    // NVML writes the domain with eight digits, the kernel with four.
    let (domain, rest) = pci_bus_id.split_once(':')?;
    let domain = u32::from_str_radix(domain, 16).ok()?;
    let address = format!("{domain:04x}:{}", rest.to_ascii_lowercase());
    let file = sysfs
        .join("bus/pci/devices")
        .join(address)
        .join("numa_node");
    // The kernel says -1 where there is none.
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{a100, inventory};
    use nvml::FailedGpu;

    fn fail(inventory: &mut Inventory, index: u32, with_uuid: bool) {
        let at = inventory
            .gpus
            .iter()
            .position(|gpu| gpu.index == index)
            .unwrap();
        let gpu = inventory.gpus.remove(at);
        let uuid = with_uuid.then_some(gpu.uuid);
        inventory.failed.push(FailedGpu {
            index,
            uuid,
            reason: "lost".to_owned(),
        });
    }

    #[test]
    fn a_lost_gpu_is_remembered_as_it_was_and_found_again() {
        for with_uuid in [true, false] {
            let whole = inventory(vec![a100(0, 7), a100(1, 7)]);
            let mut broken = whole.clone();
            fail(&mut broken, 1, with_uuid);

            let mut fleet = Fleet::default();
            fleet.update(&whole, |_| None);
            fleet.update(&broken, |_| None);
            let lost: Vec<_> = fleet
                .gpus()
                .iter()
                .map(|known| known.lost.is_some())
                .collect();
            assert_eq!(lost, [false, true]);
            assert_eq!(fleet.gpus()[1].gpu, whole.gpus[1]);

            fleet.update(&whole, |_| None);
            assert!(fleet.gpus().iter().all(|known| known.lost.is_none()));
        }
    }

    #[test]
    fn a_gpu_that_never_answered_is_not_known() {
        let mut broken = inventory(vec![a100(0, 7), a100(1, 7)]);
        fail(&mut broken, 1, true);
        let mut fleet = Fleet::default();
        fleet.update(&broken, |_| None);
        assert_eq!(fleet.gpus().len(), 1);
    }

    #[test]
    fn a_gpu_that_is_no_longer_counted_is_forgotten() {
        let mut fleet = Fleet::default();
        fleet.update(&inventory(vec![a100(0, 7), a100(1, 7)]), |_| None);
        fleet.update(&inventory(vec![a100(0, 7)]), |_| None);
        assert_eq!(fleet.gpus().len(), 1);
    }

    #[test]
    fn the_numa_node_is_read_from_the_kernels_address() {
        let sysfs = tempfile::tempdir().unwrap();
        let device = sysfs.path().join("bus/pci/devices/0000:a7:00.0");
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("numa_node"), "1\n").unwrap();
        assert_eq!(numa_node(sysfs.path(), "00000000:A7:00.0"), Some(1));
        fs::write(device.join("numa_node"), "-1\n").unwrap();
        assert_eq!(numa_node(sysfs.path(), "00000000:A7:00.0"), None);
        assert_eq!(numa_node(sysfs.path(), "nonsense"), None);
    }
}

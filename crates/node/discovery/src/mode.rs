//! Whether the GPUs drive displays or compute, told by their PCI class.

use std::fmt;
use std::path::Path;

use nvml::{Gpu, Inventory};

/// PCI base class 3, subclass 2: a 3D controller.
const CLASS_3D: u16 = 0x0302;
/// PCI base class 3, subclass 0: a VGA controller.
const CLASS_VGA: u16 = 0x0300;

/// The label `gpu.mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GpuMode {
    /// All GPUs are 3D controllers.
    Compute,
    /// All GPUs are VGA controllers.
    Graphics,
    /// They differ, are something else, or it can't be told.
    #[default]
    Unknown,
}

impl GpuMode {
    /// The mode that all GPUs share: by the PCI class that the driver reports, and where it doesn't
    /// by the one in `sysfs` (`/sys`).
    #[must_use]
    pub fn detect(inventory: &Inventory, sysfs: &Path) -> Self {
        let mut modes = inventory.gpus.iter().map(|gpu| {
            match gpu.pci_class.or_else(|| class_in_sysfs(gpu, sysfs)) {
                Some(CLASS_3D) => Self::Compute,
                Some(CLASS_VGA) => Self::Graphics,
                _ => Self::Unknown,
            }
        });
        let first = modes.next().unwrap_or_default();
        if modes.all(|mode| mode == first) {
            first
        } else {
            Self::Unknown
        }
    }
}

impl fmt::Display for GpuMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compute => "compute",
            Self::Graphics => "graphics",
            Self::Unknown => "unknown",
        })
    }
}

/// Base class and subclass of a GPU in `<sysfs>/bus/pci/devices/<address>/class` (`0x030200`). NVML
/// writes a PCI domain with eight digits, sysfs with four.
fn class_in_sysfs(gpu: &Gpu, sysfs: &Path) -> Option<u16> {
    let (domain, rest) = gpu.pci_bus_id.split_once(':')?;
    let domain = u32::from_str_radix(domain, 16).ok()?;
    let address = format!("{domain:04x}:{}", rest.to_ascii_lowercase());
    let file = sysfs.join("bus/pci/devices").join(address).join("class");
    let text = std::fs::read_to_string(file).ok()?;
    let class = u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()?;
    u16::try_from(class >> 8).ok()
}

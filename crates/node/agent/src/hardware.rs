//! Whether a machine has NVIDIA GPUs, without asking a driver.

use std::fs;
use std::path::Path;

/// NVIDIA's PCI vendor id, as the kernel writes it.
const NVIDIA: &str = "0x10de";

/// The PCI base class of display controllers, to which GPUs belong; NVIDIA makes network cards and switches, too.
const DISPLAY: &str = "0x03";

/// How many NVIDIA GPUs the kernel sees on the PCI bus, by the system's device tree.
pub(crate) fn gpus(sysfs: &Path) -> usize {
    let Ok(devices) = fs::read_dir(sysfs.join("bus/pci/devices")) else {
        return 0;
    };
    devices
        .filter_map(Result::ok)
        .filter(|device| {
            let says = |file: &str, start: &str| {
                fs::read_to_string(device.path().join(file))
                    .is_ok_and(|text| text.starts_with(start))
            };
            says("vendor", NVIDIA) && says("class", DISPLAY)
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_of_nvidia_are_counted_and_nothing_else() {
        let sysfs = tempfile::tempdir().unwrap();
        assert_eq!(gpus(sysfs.path()), 0);
        let devices = [
            ("0000:17:00.0", "0x10de", "0x030200"),
            ("0000:18:00.0", "0x10de", "0x030000"),
            ("0000:19:00.0", "0x10de", "0x068000"),
            ("0000:1a:00.0", "0x1a03", "0x030000"),
        ];
        for (address, vendor, class) in devices {
            let folder = sysfs.path().join("bus/pci/devices").join(address);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("vendor"), format!("{vendor}\n")).unwrap();
            fs::write(folder.join("class"), format!("{class}\n")).unwrap();
        }
        assert_eq!(gpus(sysfs.path()), 2);
    }
}

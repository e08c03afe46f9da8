//! Whether a machine should have an NVIDIA driver, without asking one.

use std::fs;
use std::path::{Path, PathBuf};

/// NVIDIA's PCI vendor id, as the kernel writes it.
const NVIDIA: &str = "0x10de";

/// The PCI base class of display controllers, to which GPUs belong; NVIDIA makes network cards and switches, too.
const DISPLAY: &str = "0x03";

/// Why a machine should have a driver: it has GPUs, or a driver's device nodes in one of the folders where its library
/// was looked for.
pub(crate) fn evidence(sysfs: &Path, folders: &[PathBuf]) -> Option<String> {
    match gpus(sysfs) {
        0 => {}
        1 => return Some("the machine has an NVIDIA GPU".to_owned()),
        gpus => return Some(format!("the machine has {gpus} NVIDIA GPUs")),
    }
    let nodes = folders.iter().map(|folder| folder.join("dev/nvidiactl"));
    let node = nodes.into_iter().find(|node| node.exists())?;
    Some(format!(
        "a driver's device node {} is there",
        node.display()
    ))
}

/// How many NVIDIA GPUs the kernel sees on the PCI bus, by the system's device tree.
fn gpus(sysfs: &Path) -> usize {
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
        assert_eq!(
            evidence(sysfs.path(), &[]).as_deref(),
            Some("the machine has 2 NVIDIA GPUs")
        );
    }

    #[test]
    fn device_nodes_without_a_library_are_those_of_a_driver_that_is_not_all_there() {
        let root = tempfile::tempdir().unwrap();
        let folders = [root.path().join("elsewhere"), root.path().to_owned()];
        let sysfs = root.path().join("sys");
        assert_eq!(evidence(&sysfs, &folders), None);
        fs::create_dir(root.path().join("dev")).unwrap();
        fs::write(root.path().join("dev/nvidiactl"), "").unwrap();
        let why = evidence(&sysfs, &folders).unwrap();
        assert!(why.starts_with("a driver's device node /"), "{why}");
    }
}

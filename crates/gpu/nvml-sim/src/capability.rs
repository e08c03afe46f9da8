//! Device files and capability files: which minor number belongs to an instance, which files a root must have, and what a
//! process may see because it can open them.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::device_file::{self, CONTROL_FILE, DeviceFiles};
use crate::state::State;

/// Minor of `/proc/driver/nvidia/capabilities/mig/config`: who may change MIG devices.
pub const CONFIG_MINOR: u32 = 1;
/// Minor of `/proc/driver/nvidia/capabilities/mig/monitor`: who may monitor all MIG devices.
pub const MONITOR_MINOR: u32 = 2;
/// GPUs that the numbering has room for.
pub const MAX_GPUS: u32 = 32;
/// GPU instance ids of one GPU that the numbering has room for.
pub const MAX_GPU_INSTANCES: u32 = 15;
/// Compute instance ids of one GPU instance that the numbering has room for.
pub const MAX_COMPUTE_INSTANCES: u32 = 8;

/// Where capability device files lie below a root.
pub const CAPS_DIR: &str = "dev/nvidia-caps";
/// Where the list of minors lies below a root.
pub const MINORS_FILE: &str = "proc/driver/nvidia-caps/mig-minors";
const PROC_CAPABILITIES: &str = "proc/driver/nvidia/capabilities";

/// The minor number of a GPU instance's capability, by the numbering of `nv-caps.c`.
#[must_use]
pub fn gpu_instance_minor(gpu: u32, gpu_instance: u32) -> u32 {
    3 + gpu * MAX_GPU_INSTANCES * (1 + MAX_COMPUTE_INSTANCES)
        + gpu_instance * (1 + MAX_COMPUTE_INSTANCES)
}

/// The minor number of a compute instance's capability.
#[must_use]
pub fn compute_instance_minor(gpu: u32, gpu_instance: u32, compute_instance: u32) -> u32 {
    gpu_instance_minor(gpu, gpu_instance) + 1 + compute_instance
}

/// The text of `/proc/driver/nvidia-caps/mig-minors`: every minor that can ever be, whether the instance exists or not.
#[must_use]
pub fn minors_text() -> String {
    use std::fmt::Write as _;
    let mut text = format!("config {CONFIG_MINOR}\nmonitor {MONITOR_MINOR}\n");
    for gpu in 0..MAX_GPUS {
        for gi in 0..MAX_GPU_INSTANCES {
            let _ = writeln!(
                text,
                "gpu{gpu}/gi{gi}/access {}",
                gpu_instance_minor(gpu, gi)
            );
            for ci in 0..MAX_COMPUTE_INSTANCES {
                let minor = compute_instance_minor(gpu, gi, ci);
                let _ = writeln!(text, "gpu{gpu}/gi{gi}/ci{ci}/access {minor}");
            }
        }
    }
    text
}

/// What a process sees of a driver root: the real driver's rule, which is what it can open.
#[derive(Debug, Clone)]
pub struct View {
    root: Option<PathBuf>,
}

impl View {
    /// The view of whoever runs with this root.
    #[must_use]
    pub fn of(root: &Path) -> View {
        View {
            root: Some(root.to_owned()),
        }
    }

    /// The view of someone who may open everything.
    #[must_use]
    pub fn everything() -> View {
        View { root: None }
    }

    /// Whether `dev/nvidiactl` can be opened, without which there is no driver.
    #[must_use]
    pub fn control(&self) -> bool {
        self.opens(|| CONTROL_FILE.into())
    }

    /// Whether the GPU's device file can be opened.
    #[must_use]
    pub fn gpu(&self, minor: u32) -> bool {
        self.opens(|| format!("dev/nvidia{minor}"))
    }

    /// Whether the capability with this minor number can be opened.
    #[must_use]
    pub fn capability(&self, minor: u32) -> bool {
        self.opens(|| format!("{CAPS_DIR}/nvidia-cap{minor}"))
    }

    /// Whether MIG devices may be configured: the capability `mig/config`.
    #[must_use]
    pub fn config(&self) -> bool {
        self.capability(CONFIG_MINOR)
    }

    /// Whether a MIG device is seen: both its GPU instance's and its compute instance's capability can be opened.
    #[must_use]
    pub fn mig_device(&self, gpu: u32, gpu_instance: u32, compute_instance: u32) -> bool {
        self.capability(gpu_instance_minor(gpu, gpu_instance))
            && self.capability(compute_instance_minor(gpu, gpu_instance, compute_instance))
    }

    fn opens(&self, path: impl FnOnce() -> String) -> bool {
        self.root
            .as_ref()
            .is_none_or(|root| device_file::opens(&root.join(path())))
    }
}

/// Makes the capability files that the instances of `state` lack. To be called before the state is published, so that whoever
/// sees an instance finds its files.
///
/// The `/proc` entry is made before the device file and [removed](remove_stale) before it, so that no file of an earlier call
/// that was killed half way is overlooked: what has no device file has no `/proc` entry that counts.
///
/// # Errors
/// The first file that can't be made.
pub fn create_missing(root: &Path, state: &State) -> io::Result<()> {
    let there = device_minors(root)?;
    let kind = DeviceFiles::of(root);
    for (minor, path) in instances(state) {
        let access = format!("{path}/access");
        // An earlier removal may have been killed between the two.
        if !there.contains(&minor) || !root.join(PROC_CAPABILITIES).join(&access).exists() {
            write_capability(root, &access, minor, 0o444)?;
            if let Err(error) = kind.make(&device_path(root, minor), 0o444) {
                let _ = fs::remove_dir_all(root.join(PROC_CAPABILITIES).join(path));
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Removes the capability files of instances that `state` does not have.
///
/// # Errors
/// The first file that can't be removed; the next call tries again.
pub fn remove_stale(root: &Path, state: &State) -> io::Result<()> {
    let wanted: BTreeSet<u32> = instances(state)
        .into_iter()
        .map(|(minor, _)| minor)
        .collect();
    // Compute instances have higher minors than their GPU instance, so their folders go first.
    for minor in device_minors(root)?
        .iter()
        .rev()
        .filter(|minor| **minor > MONITOR_MINOR)
    {
        if !wanted.contains(minor) {
            let folder = root.join(PROC_CAPABILITIES).join(instance_path(*minor));
            ignore_missing(fs::remove_dir_all(folder))?;
            ignore_missing(fs::remove_file(device_path(root, *minor)))?;
        }
    }
    Ok(())
}

/// Makes the files that a root has from the start: the capabilities `config` and `monitor`, and the list of minors.
///
/// # Errors
/// The first file that can't be made.
pub fn create(root: &Path, gpus: u32, kind: DeviceFiles) -> io::Result<()> {
    fs::create_dir_all(root.join(CAPS_DIR))?;
    write_capability(root, "mig/config", CONFIG_MINOR, 0o400)?;
    write_capability(root, "mig/monitor", MONITOR_MINOR, 0o444)?;
    kind.make(&device_path(root, CONFIG_MINOR), 0o400)?;
    kind.make(&device_path(root, MONITOR_MINOR), 0o444)?;
    for gpu in 0..gpus {
        fs::create_dir_all(root.join(PROC_CAPABILITIES).join(format!("gpu{gpu}/mig")))?;
    }
    let minors = root.join(MINORS_FILE);
    if let Some(folder) = minors.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(minors, minors_text())
}

fn device_path(root: &Path, minor: u32) -> PathBuf {
    root.join(format!("{CAPS_DIR}/nvidia-cap{minor}"))
}

fn instances(state: &State) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for gpu in &state.gpus {
        for gi in &gpu.instances {
            let path = format!("gpu{}/mig/gi{}", gpu.minor, gi.id);
            for ci in &gi.compute_instances {
                let minor = compute_instance_minor(gpu.minor, gi.id, ci.id);
                found.push((minor, format!("{path}/ci{}", ci.id)));
            }
            found.push((gpu_instance_minor(gpu.minor, gi.id), path));
        }
    }
    found
}

fn instance_path(minor: u32) -> String {
    let per_instance = 1 + MAX_COMPUTE_INSTANCES;
    let number = minor.saturating_sub(3);
    let gpu = number / (MAX_GPU_INSTANCES * per_instance);
    let gi = number / per_instance % MAX_GPU_INSTANCES;
    match number % per_instance {
        0 => format!("gpu{gpu}/mig/gi{gi}"),
        ci => format!("gpu{gpu}/mig/gi{gi}/ci{}", ci - 1),
    }
}

fn device_minors(root: &Path) -> io::Result<BTreeSet<u32>> {
    let mut minors = BTreeSet::new();
    for entry in fs::read_dir(root.join(CAPS_DIR))? {
        let name = entry?.file_name();
        let minor: Option<u32> = name
            .to_str()
            .and_then(|name| name.strip_prefix("nvidia-cap")?.parse().ok());
        minors.extend(minor);
    }
    Ok(minors)
}

fn write_capability(root: &Path, name: &str, minor: u32, mode: u32) -> io::Result<()> {
    let path = root.join(PROC_CAPABILITIES).join(name);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    ignore_missing(fs::remove_file(&path))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(path)?;
    write!(
        file,
        "DeviceFileMinor: {minor}\nDeviceFileMode: {mode}\nDeviceFileModify: 1\n"
    )
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minors_are_numbered_as_on_a_real_machine() {
        let text = minors_text();
        let lines: Vec<_> = text.lines().collect();
        let start = [
            "config 1",
            "monitor 2",
            "gpu0/gi0/access 3",
            "gpu0/gi0/ci0/access 4",
            "gpu0/gi0/ci1/access 5",
        ];
        assert_eq!(lines[..5], start);
        assert_eq!(lines.last(), Some(&"gpu31/gi14/ci7/access 4322"));
        assert_eq!(lines.len(), 4322);
    }

    #[test]
    fn an_instances_path_is_found_from_its_minor() {
        for (gpu, gi) in [(0, 0), (0, 14), (7, 3), (31, 14)] {
            assert_eq!(
                instance_path(gpu_instance_minor(gpu, gi)),
                format!("gpu{gpu}/mig/gi{gi}")
            );
            for ci in 0..MAX_COMPUTE_INSTANCES {
                let path = instance_path(compute_instance_minor(gpu, gi, ci));
                assert_eq!(path, format!("gpu{gpu}/mig/gi{gi}/ci{ci}"));
            }
        }
    }
}

//! Capability minors: which `/dev/nvidia-caps/nvidia-cap<minor>` opens which instance.

use std::collections::HashMap;
use std::path::Path;

/// The table `/proc/driver/nvidia-caps/mig-minors` of a driver root. It lists every instance that could ever exist, so it
/// does not change while the driver is loaded.
#[derive(Debug, Default)]
pub(crate) struct CapabilityMinors {
    gpu_instances: HashMap<(u32, u32), u32>,
    compute_instances: HashMap<(u32, u32, u32), u32>,
}

impl CapabilityMinors {
    /// Empty where the file cannot be read: then no instance has a known minor. A driver root that holds no more than a
    /// driver's files, such as a driver container's, has no `/proc` of its own: then it is this machine's.
    pub(crate) fn read(root: &Path) -> Self {
        Self::first(&[root, Path::new("/")])
    }

    fn first(roots: &[&Path]) -> Self {
        for root in roots {
            let path = root.join("proc/driver/nvidia-caps/mig-minors");
            match std::fs::read_to_string(&path) {
                Ok(text) => return Self::parse(&text),
                Err(error) => {
                    tracing::debug!(path = %path.display(), %error, "no capability minors");
                }
            }
        }
        Self::default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.gpu_instances.is_empty()
    }

    /// Lines as `gpu0/gi1/access 12` and `gpu0/gi1/ci0/access 13`; others (`config 1`, `monitor 2`) are of no instance.
    fn parse(text: &str) -> Self {
        let mut table = Self::default();
        for line in text.lines() {
            let Some((path, minor)) = line.rsplit_once(' ') else {
                continue;
            };
            let Ok(minor) = minor.trim().parse::<u32>() else {
                continue;
            };
            let parts: Vec<&str> = path.trim().split('/').collect();
            let number = |part: &str, prefix: &str| part.strip_prefix(prefix)?.parse::<u32>().ok();
            match parts.as_slice() {
                [gpu, gi, "access"] => {
                    if let (Some(gpu), Some(gi)) = (number(gpu, "gpu"), number(gi, "gi")) {
                        table.gpu_instances.insert((gpu, gi), minor);
                    }
                }
                [gpu, gi, ci, "access"] => {
                    if let (Some(gpu), Some(gi), Some(ci)) =
                        (number(gpu, "gpu"), number(gi, "gi"), number(ci, "ci"))
                    {
                        table.compute_instances.insert((gpu, gi, ci), minor);
                    }
                }
                _ => {}
            }
        }
        table
    }

    /// `gpu` is the GPU's minor number, not its index.
    pub(crate) fn gpu_instance(&self, gpu: u32, gi: u32) -> Option<u32> {
        self.gpu_instances.get(&(gpu, gi)).copied()
    }

    /// `gpu` is the GPU's minor number, not its index.
    pub(crate) fn compute_instance(&self, gpu: u32, gi: u32, ci: u32) -> Option<u32> {
        self.compute_instances.get(&(gpu, gi, ci)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_without_the_table_has_the_next_ones() {
        let folder = tempfile::tempdir().unwrap();
        let (without, with) = (folder.path().join("a"), folder.path().join("b"));
        assert!(CapabilityMinors::first(&[&without, &with]).is_empty());
        std::fs::create_dir_all(with.join("proc/driver/nvidia-caps")).unwrap();
        let table = with.join("proc/driver/nvidia-caps/mig-minors");
        std::fs::write(table, "gpu0/gi1/access 12\n").unwrap();
        let found = CapabilityMinors::first(&[&without, &with]);
        assert_eq!(found.gpu_instance(0, 1), Some(12));
    }

    #[test]
    fn minors_are_what_the_file_says_and_nothing_else() {
        let table = CapabilityMinors::parse(
            "config 1\nmonitor 2\ngpu0/gi0/access 3\ngpu0/gi0/ci0/access 4\ngpu31/gi14/ci7/access 4322\ngpu0/gi1/access x\n",
        );
        assert_eq!(table.gpu_instance(0, 0), Some(3));
        assert_eq!(table.compute_instance(0, 0, 0), Some(4));
        assert_eq!(table.compute_instance(31, 14, 7), Some(4322));
        assert_eq!(
            table.gpu_instance(0, 1),
            None,
            "a line that is no number names no minor"
        );
        assert_eq!(table.gpu_instance(0, 2), None);
    }
}

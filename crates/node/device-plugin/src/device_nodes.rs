//! The device nodes of a node: where they are, and which are there.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::NodeFolder;

/// Device nodes that every container with a GPU needs, where the node has them.
const CONTROL_NODES: [&str; 4] = [
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvidia-modeset",
];

/// Where the node has its device nodes, and which of those are there that belong to the driver rather than to one GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ControlNodes {
    dev_root: NodeFolder,
    present: Vec<&'static str>,
}

impl ControlNodes {
    /// Looks which of them are there. Some appear only when CUDA is first used, so it is worth looking again.
    #[must_use]
    pub fn present(dev_root: NodeFolder) -> Self {
        let is_there = |node: &&str| below(&dev_root.here, node).exists();
        Self {
            present: CONTROL_NODES.into_iter().filter(is_there).collect(),
            dev_root,
        }
    }

    /// Their paths in a container.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> {
        self.present.iter().copied()
    }

    /// The path on the node of what a container sees as `path`.
    #[must_use]
    pub fn on_node(&self, path: &str) -> PathBuf {
        below(&self.dev_root.on_node, path)
    }

    /// Where those of them that are there, and others, are, and what they are. A path that is not there is left out.
    pub(crate) fn look(&self, others: impl IntoIterator<Item = String>) -> NodeFiles {
        let all = self.paths().map(str::to_owned).chain(others);
        let files = all.filter_map(|path| {
            let metadata = fs::metadata(below(&self.dev_root.here, &path)).ok()?;
            let file = NodeFile::new(self.on_node(&path), &metadata);
            Some((path, file))
        });
        NodeFiles {
            dev_root: self.dev_root.here.clone(),
            files: files.collect(),
        }
    }
}

/// Device nodes that are there, by their paths in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeFiles {
    dev_root: PathBuf,
    files: BTreeMap<String, NodeFile>,
}

/// The file of a device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeFile {
    /// Its path on the node.
    pub(crate) on_node: PathBuf,
    /// Its device; `None` where the file is no character device, as in a simulated driver root without device nodes.
    pub(crate) device: Option<CharDevice>,
}

/// A character device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CharDevice {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// The permission bits of its node.
    pub(crate) mode: u32,
    /// The group of its node.
    pub(crate) group: u32,
}

impl NodeFiles {
    /// The file of the node that a container sees as `path`, if it is there.
    pub(crate) fn get(&self, path: &str) -> Option<&NodeFile> {
        self.files.get(path)
    }

    /// Where it was looked for, as this process sees it.
    pub(crate) fn looked_at(&self, path: &str) -> PathBuf {
        below(&self.dev_root, path)
    }
}

impl NodeFile {
    fn new(on_node: PathBuf, metadata: &Metadata) -> Self {
        let device = metadata.file_type().is_char_device().then(|| CharDevice {
            major: rustix::fs::major(metadata.rdev()),
            minor: rustix::fs::minor(metadata.rdev()),
            mode: metadata.mode() & 0o777,
            group: metadata.gid(),
        });
        Self { on_node, device }
    }
}

/// What is `path` in a container, below a folder.
fn below(folder: &Path, path: &str) -> PathBuf {
    folder.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_device_is_told_with_its_numbers_and_another_file_without() {
        let system = NodeFolder {
            here: "/".into(),
            on_node: "/".into(),
        };
        let control = ControlNodes::present(system);
        let files = control.look([
            "/dev/null".to_owned(),
            "/etc".to_owned(),
            "/none".to_owned(),
        ]);
        let null = files.get("/dev/null").unwrap();
        assert_eq!(null.on_node, Path::new("/dev/null"));
        let device = null.device.unwrap();
        assert_eq!((device.major, device.minor), (1, 3));
        assert_eq!(files.get("/etc").unwrap().device, None);
        assert_eq!(files.get("/none"), None);
    }

    #[test]
    fn control_nodes_are_those_that_are_there_under_the_path_of_the_node() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("dev")).unwrap();
        fs::write(root.path().join("dev/nvidia-uvm"), "").unwrap();
        let control = ControlNodes::present(NodeFolder {
            here: root.path().to_owned(),
            on_node: "/run/nvidia/driver".into(),
        });
        assert_eq!(control.paths().collect::<Vec<_>>(), ["/dev/nvidia-uvm"]);
        let files = control.look([]);
        let uvm = files.get("/dev/nvidia-uvm").unwrap();
        assert_eq!(uvm.on_node, Path::new("/run/nvidia/driver/dev/nvidia-uvm"));
        assert_eq!(
            files.looked_at("/dev/nvidia0"),
            root.path().join("dev/nvidia0")
        );
    }
}

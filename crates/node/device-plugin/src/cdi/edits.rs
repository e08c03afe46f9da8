//! What a CDI specification changes in a container.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::NodeFolder;
use crate::cdi::Found;
use crate::device_nodes::NodeFile;
use crate::driver_files::{DriverFile, Library};

/// Mounts of the driver's files: read-only, and nothing in them can become more than a file.
const FILE_OPTIONS: &[&str] = &["ro", "nosuid", "nodev", "rbind", "rprivate"];

/// Mounts of its daemons' sockets, which have to be written to.
const SOCKET_OPTIONS: &[&str] = &["nosuid", "nodev", "rbind", "rprivate", "noexec"];

/// CDI's container edits, as far as they are needed here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Edits {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) env: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) device_nodes: Vec<Node>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) mounts: Vec<Mount>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) hooks: Vec<Hook>,
}

/// A device node. Its numbers are given where they are known, so that no runtime has to look for them itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Node {
    path: String,
    host_path: PathBuf,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    major: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minor: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_mode: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    permissions: &'static str,
}

/// A bind mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mount {
    host_path: PathBuf,
    container_path: String,
    options: &'static [&'static str],
}

/// A program that the runtime runs for a container that it makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Hook {
    #[serde(rename = "hookName")]
    stage: &'static str,
    path: PathBuf,
    args: Vec<String>,
}

impl Node {
    /// The node that a container sees as `path`.
    pub(crate) fn new(path: String, file: &NodeFile) -> Self {
        let device = file.device;
        Self {
            path,
            host_path: file.on_node.clone(),
            kind: device.map(|_| "c"),
            major: device.map(|device| device.major),
            minor: device.map(|device| device.minor),
            file_mode: device.map(|device| device.mode),
            gid: device
                .map(|device| device.group)
                .filter(|&group| group != 0),
            permissions: "rw",
        }
    }
}

impl Edits {
    /// What every container needs, whichever devices it gets.
    pub(crate) fn of_driver(found: &Found, hook: Option<&Path>) -> Self {
        let control = found.control.paths();
        let device_nodes = control
            .filter_map(|path| Some(Node::new(path.to_owned(), found.nodes.get(path)?)))
            .collect();
        let root = &found.driver_root;
        let libraries = &found.files.libraries;
        let (mut mounts, hooks) = match hook {
            None => (by_names(root, libraries), Vec::new()),
            Some(hook) => (by_paths(root, libraries), hooks(hook, libraries)),
        };
        let file = |file, options| Mount::of_file(root, file, options);
        mounts.extend(found.files.files.iter().map(|one| file(one, FILE_OPTIONS)));
        mounts.extend(found.sockets.iter().map(|one| file(one, SOCKET_OPTIONS)));
        Self {
            // NVIDIA's runtime, if it is in use as well, has nothing to add.
            env: vec!["NVIDIA_VISIBLE_DEVICES=void"],
            device_nodes,
            mounts,
            hooks,
        }
    }
}

impl Mount {
    fn new(root: &NodeFolder, path: &Path, container_path: String) -> Self {
        Self {
            host_path: root.on_node.join(path),
            container_path,
            options: FILE_OPTIONS,
        }
    }

    fn of_file(root: &NodeFolder, file: &DriverFile, options: &'static [&'static str]) -> Self {
        Self {
            options,
            ..Self::new(root, &file.path, file.in_container.clone())
        }
    }
}

/// Each library under the names that loaders ask for, in the folders that loaders look into by themselves: nothing in the
/// container has to be told of them, so no hook has to run.
fn by_names(root: &NodeFolder, libraries: &[Library]) -> Vec<Mount> {
    let mut mounts = Vec::new();
    let mut taken = BTreeSet::new();
    for library in libraries {
        for folder in library.machine.loader_folders() {
            let folder = match library.subfolder {
                None => folder.to_owned(),
                Some(subfolder) => format!("{folder}/{subfolder}"),
            };
            for name in std::iter::once(&library.soname).chain(&library.other_names) {
                let container_path = format!("{folder}/{name}");
                if taken.insert(container_path.clone()) {
                    mounts.push(Mount::new(root, &library.path, container_path));
                }
            }
        }
    }
    mounts
}

/// Each library where the driver has it, for hooks to make the rest.
fn by_paths(root: &NodeFolder, libraries: &[Library]) -> Vec<Mount> {
    let mount = |library: &Library| Mount::new(root, &library.path, in_container(&library.path));
    libraries.iter().map(mount).collect()
}

fn in_container(path: &Path) -> String {
    format!("/{}", path.display())
}

/// NVIDIA's hooks: one makes the links by which the libraries are found, one tells the container's loader of their folders.
fn hooks(program: &Path, libraries: &[Library]) -> Vec<Hook> {
    let mut links = Vec::new();
    let mut folders = Vec::new();
    for library in libraries {
        let (Some(folder), Some(name)) = (library.path.parent(), library.path.file_name()) else {
            continue;
        };
        let name = name.to_string_lossy();
        let folder = in_container(folder);
        let mut link = |target: &str, name: &str| {
            let link = format!("{target}::{folder}/{name}");
            if !links.contains(&link) {
                links.push(link);
            }
        };
        if library.soname != name {
            link(&name, &library.soname);
        }
        for other in &library.other_names {
            // What has a version of its own is no plain name of the library's.
            let is_plain = Path::new(other).extension() == Some("so".as_ref());
            let target = if is_plain { &*library.soname } else { &*name };
            // A link in a folder below leads out of it first.
            let out = "../".repeat(other.matches('/').count());
            link(&format!("{out}{target}"), other);
        }
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    let hook = |command: &str, flag: &str, values: Vec<String>| {
        let values = values
            .into_iter()
            .flat_map(|value| [flag.to_owned(), value]);
        Hook {
            stage: "createContainer",
            path: program.to_owned(),
            args: arguments(program, command).chain(values).collect(),
        }
    };
    let mut hooks = Vec::new();
    if !links.is_empty() {
        hooks.push(hook("create-symlinks", "--link", links));
    }
    if !folders.is_empty() {
        hooks.push(hook("update-ldcache", "--folder", folders));
    }
    hooks
}

/// How a hook's command line starts. `nvidia-ctk` has the hooks of `nvidia-cdi-hook`, too, as commands of `hook`.
fn arguments(program: &Path, command: &str) -> impl Iterator<Item = String> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let between = (name == "nvidia-ctk").then(|| "hook".to_owned());
    [name.into_owned()]
        .into_iter()
        .chain(between)
        .chain([command.to_owned()])
}

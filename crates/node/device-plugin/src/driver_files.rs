//! What of a driver a container needs, found below the driver's root.
//!
//! It is found by the patterns that `nvidia-ctk cdi generate` goes by. Symbolic links are followed as they are meant, from
//! the driver's root and not from this process's, and the paths here are relative to that root.

mod elf;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::driver_files::elf::Elf;

pub(crate) use elf::Machine;

/// Where distributions, NVIDIA's installer and container images put a driver's libraries. Those for 32 bits, which some
/// put into the last ones, are left out.
const LIBRARY_FOLDERS: [&str; 17] = [
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib/x86_64-linux-gnu/nvidia/current",
    "usr/lib/aarch64-linux-gnu/nvidia/current",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
    "lib/x86_64-linux-gnu/nvidia/current",
    "lib/aarch64-linux-gnu/nvidia/current",
    "usr/local/nvidia/lib64",
    "opt/nvidia/lib64",
    "usr/lib/wsl/lib",
    "usr/lib",
    "lib",
    "usr/local/lib",
    ".",
];

/// The folder in those that has libraries of VDPAU.
const VDPAU: &str = "vdpau";

/// Libraries that have versions of their own, by what their names start with.
const OWN_VERSIONS: [&str; 6] = [
    "libnvidia-egl-gbm.so.",
    "libnvidia-egl-wayland.so.",
    "libnvidia-egl-wayland2.so.",
    "libnvidia-egl-xcb.so.",
    "libnvidia-egl-xlib.so.",
    "libnvidia-nvvm70.so.",
];

/// Names by which programs ask for a library although it doesn't call itself so.
const OTHER_NAMES: [(&str, &str); 5] = [
    ("libcuda", "libcuda.so"),
    ("libGLX_nvidia", "libGLX_indirect.so.0"),
    ("libnvidia-opticalflow", "libnvidia-opticalflow.so"),
    ("libnvidia-allocator", "gbm/nvidia-drm_gbm.so"),
    ("libnvidia-vulkan-producer", "libnvidia-vulkan-producer.so"),
];

const PROGRAM_FOLDERS: [&str; 6] = [
    "usr/local/sbin",
    "usr/local/bin",
    "usr/sbin",
    "usr/bin",
    "sbin",
    "bin",
];

const PROGRAMS: [&str; 7] = [
    "nvidia-smi",
    "nvidia-debugdump",
    "nvidia-persistenced",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
    "nvidia-imex",
    "nvidia-imex-ctl",
];

/// Where configuration lies, in the order in which it is looked for.
const CONFIG_FOLDERS: [&str; 3] = ["etc", "usr/local/share", "usr/share"];

/// Configuration by which the libraries are found that others load by it, and the folder that it belongs into.
const CONFIGS: [(&str, &str); 13] = [
    ("OpenCL/vendors/nvidia.icd", "/etc"),
    ("vulkan/icd.d/nvidia_icd.json", "/etc"),
    ("vulkan/icd.d/nvidia_layers.json", "/etc"),
    ("vulkan/implicit_layer.d/nvidia_layers.json", "/etc"),
    ("vulkan/icd.d/nvidia_icd.x86_64.json", "/etc"),
    ("vulkan/icd.d/nvidia_icd.aarch64.json", "/etc"),
    ("glvnd/egl_vendor.d/10_nvidia.json", "/usr/share"),
    (
        "egl/egl_external_platform.d/15_nvidia_gbm.json",
        "/usr/share",
    ),
    (
        "egl/egl_external_platform.d/10_nvidia_wayland.json",
        "/usr/share",
    ),
    (
        "egl/egl_external_platform.d/09_nvidia_wayland2.json",
        "/usr/share",
    ),
    (
        "egl/egl_external_platform.d/20_nvidia_xcb.json",
        "/usr/share",
    ),
    (
        "egl/egl_external_platform.d/20_nvidia_xlib.json",
        "/usr/share",
    ),
    ("nvidia/nvoptix.bin", "/usr/share"),
];

/// Sockets of the driver's daemons, below either of the folders of such.
const SOCKETS: [&str; 2] = ["nvidia-persistenced/socket", "nvidia-fabricmanager/socket"];
const SOCKET_FOLDERS: [&str; 2] = ["run", "var/run"];

/// What of a driver a container needs. Two equal ones need the same of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DriverFiles {
    /// The libraries, in the order of their paths.
    pub(crate) libraries: Vec<Library>,
    /// Programs, firmware and configuration.
    pub(crate) files: Vec<DriverFile>,
    /// What should be there and isn't, or can't be read.
    pub(crate) warnings: Vec<String>,
}

/// A library of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Library {
    /// Where it is, below the driver's root.
    pub(crate) path: PathBuf,
    /// The machine it is for.
    pub(crate) machine: Machine,
    /// The name that a loader knows it by; below `subfolder`.
    pub(crate) soname: String,
    /// Other names that it is asked for by.
    pub(crate) other_names: Vec<String>,
    /// The folder, in that of a loader, that it belongs into.
    pub(crate) subfolder: Option<&'static str>,
}

/// Another file of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DriverFile {
    /// Where it is, below the driver's root.
    pub(crate) path: PathBuf,
    /// Where it belongs in a container.
    pub(crate) in_container: String,
}

/// What tells whether a scan would find anything else than the last one: the folders that it looks into, as they are. A
/// driver that is installed anew makes new files in them. What is written into a file later shows in no folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    root: PathBuf,
    version: String,
    folders: Vec<Option<(u64, u64, Option<SystemTime>)>>,
}

impl Fingerprint {
    pub(crate) fn of(root: &Path, version: &str) -> Self {
        let state = |folder: PathBuf| {
            let metadata = fs::metadata(root.join(resolve(root, &folder)?)).ok()?;
            Some((metadata.dev(), metadata.ino(), metadata.modified().ok()))
        };
        Self {
            root: root.to_owned(),
            version: version.to_owned(),
            folders: searched(version).into_iter().map(state).collect(),
        }
    }
}

/// All folders that a scan looks into.
fn searched(version: &str) -> BTreeSet<PathBuf> {
    let libraries = LIBRARY_FOLDERS.iter().map(Path::new);
    let configs = CONFIGS.iter().flat_map(|(config, _)| {
        let config = Path::new(config).parent();
        config.into_iter().flat_map(config_folders)
    });
    libraries
        .flat_map(|folder| [folder.to_owned(), folder.join(VDPAU)])
        .chain(PROGRAM_FOLDERS.iter().map(PathBuf::from))
        .chain(firmware_folders(version))
        .chain(configs)
        .collect()
}

/// Where configuration of this path is looked for.
fn config_folders(config: &Path) -> impl Iterator<Item = PathBuf> {
    // Where all of a driver lies in a folder of its own, Vulkan's lie directly in it.
    let folders = CONFIG_FOLDERS.into_iter().chain([""]);
    folders.map(move |folder| Path::new(folder).join(config))
}

impl DriverFiles {
    /// Looks through a driver's root for a driver of this version. Blocks.
    pub(crate) fn scan(root: &Path, version: &str) -> Self {
        let mut found = Self::default();
        found.find_libraries(root, version);
        if found.libraries.is_empty() {
            found.warnings.push(format!(
                "no library of driver {version} can be found below {}: containers that get their devices by CDI have to bring \
                 the driver's libraries themselves; see that nvidia-driver-root names the folder that the driver is installed in",
                root.display()
            ));
        }
        for program in PROGRAMS {
            let found_at = PROGRAM_FOLDERS
                .iter()
                .find_map(|folder| file(root, &Path::new(folder).join(program)));
            if let Some(path) = found_at.filter(|path| is_program(&root.join(path))) {
                let in_container = format!("/usr/bin/{program}");
                found.files.push(DriverFile { path, in_container });
            }
        }
        found.find_firmware(root, version);
        for (config, folder) in CONFIGS {
            let mut places = config_folders(Path::new(config));
            if let Some(path) = places.find_map(|place| file(root, &place)) {
                let in_container = format!("{folder}/{config}");
                found.files.push(DriverFile { path, in_container });
            }
        }
        found
    }

    fn find_libraries(&mut self, root: &Path, version: &str) {
        let mut folders = BTreeSet::new();
        let mut paths = BTreeSet::new();
        let mut names = BTreeSet::new();
        for folder in LIBRARY_FOLDERS {
            let Some(folder) = resolve(root, Path::new(folder)) else {
                continue;
            };
            for subfolder in [None, Some(VDPAU)] {
                let folder = subfolder.map_or_else(|| folder.clone(), |sub| folder.join(sub));
                if !folders.insert(folder.clone()) {
                    continue;
                }
                for name in names_in(&root.join(&folder)) {
                    if !is_of_driver(&name, version) {
                        continue;
                    }
                    let Some(path) = file(root, &folder.join(&name)) else {
                        continue;
                    };
                    if !paths.insert(path.clone()) {
                        continue;
                    }
                    match elf::read(&root.join(&path)) {
                        Ok(None) => {}
                        Ok(Some(elf)) => {
                            let library = Library::new(root, &folder, path, elf, subfolder);
                            // The first of several with the same name is the one that a loader would find.
                            if names.insert((library.subfolder, library.soname.clone())) {
                                self.libraries.push(library);
                            }
                        }
                        Err(error) => self.warnings.push(format!(
                            "the driver's library {} is left out of the CDI specification: {error}",
                            root.join(&path).display()
                        )),
                    }
                }
            }
        }
        self.libraries
            .sort_by(|one, other| one.path.cmp(&other.path));
    }

    fn find_firmware(&mut self, root: &Path, version: &str) {
        let is_firmware = |name: &str| {
            let stem = name.strip_suffix(".bin");
            stem.is_some_and(|stem| stem.starts_with("gsp") || stem.starts_with("ucodes"))
        };
        let mut names = BTreeSet::new();
        for folder in firmware_folders(version) {
            for name in names_in(&root.join(&folder)) {
                if is_firmware(&name)
                    && !names.contains(&name)
                    && let Some(path) = file(root, &folder.join(&name))
                {
                    let in_container = format!("/lib/firmware/nvidia/{version}/{name}");
                    self.files.push(DriverFile { path, in_container });
                    names.insert(name);
                }
            }
        }
    }
}

impl Library {
    fn new(
        root: &Path,
        folder: &Path,
        path: PathBuf,
        elf: Elf,
        subfolder: Option<&'static str>,
    ) -> Self {
        let file_name = |path: &Path| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let name = file_name(&path);
        let soname = elf.soname.unwrap_or_else(|| name.clone());
        let stem = soname.split_once(".so").map_or(&*soname, |(stem, _)| stem);
        let mut other_names: Vec<String> = OTHER_NAMES
            .iter()
            .filter(|(library, _)| *library == stem)
            .map(|(_, other)| (*other).to_owned())
            .collect();
        // What a program was linked with; only where the driver's own folder has it, too.
        let plain = format!("{stem}.so");
        let is_link = |name: &str| root.join(folder).join(name).is_symlink();
        if plain != soname && !other_names.contains(&plain) && is_link(&plain) {
            other_names.push(plain);
        }
        Self {
            path,
            machine: elf.machine,
            soname,
            other_names,
            subfolder,
        }
    }
}

/// The sockets of the driver's daemons that are there now, as paths below the driver's root and in a container.
pub(crate) fn sockets(root: &Path) -> Vec<DriverFile> {
    let socket = |name: &&str| {
        SOCKET_FOLDERS.iter().find_map(|folder| {
            let path = resolve(root, &Path::new(folder).join(name))?;
            fs::metadata(root.join(&path)).ok()?;
            let in_container = format!("/run/{name}");
            Some(DriverFile { path, in_container })
        })
    };
    SOCKETS.iter().filter_map(socket).collect()
}

/// Whether a file's name is that of a library of a driver of this version.
fn is_of_driver(name: &str, version: &str) -> bool {
    let of_this_version = name
        .strip_suffix(version)
        .is_some_and(|rest| rest.ends_with(".so."));
    let of_its_own = OWN_VERSIONS.iter().any(|start| {
        name.strip_prefix(start)
            .is_some_and(|version| version.contains('.') || *start == "libnvidia-nvvm70.so.")
    });
    of_this_version || of_its_own
}

/// Where the kernel looks for firmware, in its order.
fn firmware_folders(version: &str) -> Vec<PathBuf> {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    [
        format!("lib/firmware/updates/{release}"),
        "lib/firmware/updates".to_owned(),
        format!("lib/firmware/{release}"),
        "lib/firmware".to_owned(),
    ]
    .into_iter()
    .map(|folder| Path::new(&folder).join("nvidia").join(version))
    .collect()
}

/// A path below a root without its symbolic links, which lead to what is below that root.
fn resolve(root: &Path, path: &Path) -> Option<PathBuf> {
    safe_path::scoped_resolve(root, path).ok()
}

/// As [`resolve`], for a file that is there.
fn file(root: &Path, path: &Path) -> Option<PathBuf> {
    let path = resolve(root, path)?;
    root.join(&path).is_file().then_some(path)
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}

/// The names in a folder, in order; none where there is no such folder.
fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}

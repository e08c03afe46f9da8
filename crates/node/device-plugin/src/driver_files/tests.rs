use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use tempfile::TempDir;

use super::*;
use crate::test_support::elf;

const VERSION: &str = "580.159.04";
const DEBIAN: &str = "usr/lib/x86_64-linux-gnu";

/// A driver root, empty at first.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn library(&self, path: &str, soname: &str) {
        self.write(path, &elf::library(elf::X86_64, soname));
    }

    fn link(&self, path: &str, target: &str) {
        symlink(target, self.path().join(path)).unwrap();
    }

    fn program(&self, path: &str) {
        self.write(path, b"#!");
        let path = self.path().join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn scan(&self) -> DriverFiles {
        DriverFiles::scan(self.path(), VERSION)
    }

    fn names(&self) -> Vec<String> {
        let libraries = self.scan().libraries.into_iter();
        libraries.map(|library| library.soname).collect()
    }
}

#[test]
fn a_library_is_known_by_its_soname_and_by_what_else_it_is_asked_for() {
    let root = Root::new();
    let file = |name: &str| format!("{DEBIAN}/{name}.so.{VERSION}");
    root.library(&file("libcuda"), "libcuda.so.1");
    root.library(
        &file("libnvidia-rtcore"),
        &format!("libnvidia-rtcore.so.{VERSION}"),
    );
    root.library(&file("libnvidia-ml"), "libnvidia-ml.so.1");
    root.link(&format!("{DEBIAN}/libnvidia-ml.so"), "libnvidia-ml.so.1");
    root.library(&file("vdpau/libvdpau_nvidia"), "libvdpau_nvidia.so.1");
    root.library(&file("libnvidia-allocator"), "libnvidia-allocator.so.1");
    let found = root.scan();
    let told: Vec<_> = found
        .libraries
        .iter()
        .map(|library| {
            let others: Vec<_> = library.other_names.iter().map(String::as_str).collect();
            (library.soname.as_str(), others, library.subfolder)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("libcuda.so.1", vec!["libcuda.so"], None),
            (
                "libnvidia-allocator.so.1",
                vec!["gbm/nvidia-drm_gbm.so"],
                None
            ),
            ("libnvidia-ml.so.1", vec!["libnvidia-ml.so"], None),
            ("libnvidia-rtcore.so.580.159.04", vec![], None),
            ("libvdpau_nvidia.so.1", vec![], Some("vdpau")),
        ]
    );
    assert_eq!(found.libraries[0].path, Path::new(&file("libcuda")));
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
}

#[test]
fn libraries_of_another_version_machine_or_maker_are_none_of_the_drivers() {
    let root = Root::new();
    root.library("usr/lib64/libcuda.so.580.159.04", "libcuda.so.1");
    root.library("usr/lib64/libcuda.so.570.1", "libcuda.so.1");
    root.library("usr/lib64/libc.so.6", "libc.so.6");
    root.library(
        "usr/lib64/libnvidia-egl-gbm.so.1.1.2",
        "libnvidia-egl-gbm.so.1",
    );
    root.library("usr/lib64/libnvidia-nvvm70.so.4", "libnvidia-nvvm70.so.4");
    let mut small = elf::library(3, "libcuda.so.1");
    small[4] = 1;
    root.write("usr/lib/libcuda.so.580.159.04", &small);
    root.write(
        "lib/libnvidia-ml.so.580.159.04",
        &elf::library(21, "libnvidia-ml.so.1"),
    );
    assert_eq!(
        root.names(),
        [
            "libcuda.so.1",
            "libnvidia-egl-gbm.so.1",
            "libnvidia-nvvm70.so.4"
        ]
    );
    assert_eq!(root.scan().warnings, Vec::<String>::new());
}

#[test]
fn links_lead_to_what_is_below_the_drivers_root() {
    let root = Root::new();
    root.library("opt/real/libcuda.so.580.159.04", "libcuda.so.1");
    fs::create_dir_all(root.path().join("usr/lib64")).unwrap();
    root.link(
        "usr/lib64/libcuda.so.580.159.04",
        "/opt/real/libcuda.so.580.159.04",
    );
    root.link("lib64", "/usr/lib64");
    // Leads out of the root for whoever doesn't know of it.
    root.link("usr/lib64/libnvidia-ml.so.580.159.04", "/etc/hostname");
    let found = root.scan();
    assert_eq!(found.libraries.len(), 1, "{:?}", found.libraries);
    assert_eq!(
        found.libraries[0].path,
        Path::new("opt/real/libcuda.so.580.159.04")
    );
}

#[test]
fn a_library_that_cannot_be_read_is_left_out_with_a_warning_and_the_others_stay() {
    let root = Root::new();
    root.library("usr/lib64/libcuda.so.580.159.04", "libcuda.so.1");
    root.write("usr/lib64/libnvidia-ml.so.580.159.04", b"not a library");
    root.write(
        "usr/lib64/libnvidia-cfg.so.580.159.04",
        b"\x7fELF\x02\x01\x01",
    );
    let found = root.scan();
    assert_eq!(found.libraries.len(), 1);
    assert_eq!(found.warnings.len(), 2);
    for (warning, name) in found.warnings.iter().zip(["libnvidia-cfg", "libnvidia-ml"]) {
        assert!(
            warning.contains(name) && warning.contains("left out"),
            "{warning}"
        );
    }
}

#[test]
fn a_root_without_a_driver_is_told_of() {
    let warnings = Root::new().scan().warnings;
    assert!(
        warnings[0].contains("no library of driver 580.159.04"),
        "{warnings:?}"
    );
}

#[test]
fn a_soname_that_names_a_folder_is_not_gone_by() {
    let root = Root::new();
    root.library("usr/lib64/libcuda.so.580.159.04", "../../etc/passwd");
    assert_eq!(root.names(), ["libcuda.so.580.159.04"]);
}

#[test]
fn programs_firmware_configuration_and_sockets_go_where_containers_look_for_them() {
    let root = Root::new();
    root.program("bin/nvidia-smi");
    root.write("usr/bin/nvidia-imex", b"not for running");
    root.write("lib/firmware/nvidia/580.159.04/gsp_ga10x.bin", b"");
    root.write(
        "lib/firmware/updates/nvidia/580.159.04/gsp_ga10x.bin",
        b"newer",
    );
    root.write("lib/firmware/nvidia/570.1/gsp_ga10x.bin", b"");
    root.write("etc/OpenCL/vendors/nvidia.icd", b"");
    root.write("usr/share/glvnd/egl_vendor.d/10_nvidia.json", b"");
    root.write("vulkan/icd.d/nvidia_icd.json", b"");
    let files = root.scan().files;
    let told: Vec<_> = files
        .iter()
        .map(|file| (file.path.to_str().unwrap(), file.in_container.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("bin/nvidia-smi", "/usr/bin/nvidia-smi"),
            (
                "lib/firmware/updates/nvidia/580.159.04/gsp_ga10x.bin",
                "/lib/firmware/nvidia/580.159.04/gsp_ga10x.bin"
            ),
            (
                "etc/OpenCL/vendors/nvidia.icd",
                "/etc/OpenCL/vendors/nvidia.icd"
            ),
            (
                "vulkan/icd.d/nvidia_icd.json",
                "/etc/vulkan/icd.d/nvidia_icd.json"
            ),
            (
                "usr/share/glvnd/egl_vendor.d/10_nvidia.json",
                "/usr/share/glvnd/egl_vendor.d/10_nvidia.json"
            ),
        ]
    );

    assert!(sockets(root.path()).is_empty());
    fs::create_dir_all(root.path().join("run/nvidia-persistenced")).unwrap();
    let _socket = UnixListener::bind(root.path().join("run/nvidia-persistenced/socket")).unwrap();
    let sockets = sockets(root.path());
    assert_eq!(sockets.len(), 1);
    assert_eq!(sockets[0].in_container, "/run/nvidia-persistenced/socket");
}

#[test]
fn only_what_changes_a_folder_or_the_version_calls_for_another_scan() {
    let root = Root::new();
    root.library("usr/lib64/libcuda.so.580.159.04", "libcuda.so.1");
    root.write("home/somebody/file", b"");
    let first = Fingerprint::of(root.path(), VERSION);
    root.write("home/somebody/another", b"");
    assert_eq!(Fingerprint::of(root.path(), VERSION), first);
    assert_ne!(Fingerprint::of(root.path(), "590.1"), first);
    for late in [
        "usr/lib64/libnvidia-ml.so.580.159.04",
        "usr/lib64/vdpau/libvdpau_nvidia.so.580.159.04",
        "usr/bin/nvidia-smi",
        "lib/firmware/nvidia/580.159.04/gsp_ga10x.bin",
        "etc/OpenCL/vendors/nvidia.icd",
    ] {
        let folder = root.path().join(late);
        let folder = folder.parent().unwrap();
        fs::create_dir_all(folder).unwrap();
        let folder = fs::File::open(folder).unwrap();
        folder.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let before = Fingerprint::of(root.path(), VERSION);
        root.write(late, b"");
        assert_ne!(Fingerprint::of(root.path(), VERSION), before, "{late}");
    }
}

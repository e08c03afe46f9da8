use std::collections::BTreeSet;
use std::path::PathBuf;

use mig::MigStrategy;
use serde_json::{Value, json};

use super::*;
use crate::cdi::file::FILE;
use crate::driver_files::{Library, Machine};
use crate::test_support::{a100, elf, fleet};
use crate::{DeviceIdStrategy, Health, resources};

fn config() -> Config {
    Config {
        mig_strategy: MigStrategy::Single,
        ..Config::default()
    }
}

fn devices(slices: u32) -> Vec<AdvertisedDevice> {
    let fleet = fleet(vec![a100(0, slices)]);
    let advertised = resources(&fleet, &Health::default(), &config()).unwrap();
    advertised.resources.into_values().flatten().collect()
}

/// A dev root that has the nodes of these devices and two control nodes, and what a look at it finds.
fn found(devices: &[AdvertisedDevice]) -> Found {
    let root = tempfile::tempdir().unwrap();
    let own = devices.iter().filter_map(AdvertisedDevice::device_nodes);
    let control = ["/dev/nvidiactl", "/dev/nvidia-uvm"].map(str::to_owned);
    for node in own.flatten().chain(control) {
        let node = root.path().join(&node[1..]);
        std::fs::create_dir_all(node.parent().unwrap()).unwrap();
        std::fs::write(node, "").unwrap();
    }
    let driver_root = NodeFolder {
        here: root.path().to_owned(),
        on_node: "/run/nvidia/driver".into(),
    };
    let control = ControlNodes::present(driver_root.clone());
    Found::look(devices, driver_root, "580.159.04", control, &mut None)
}

fn specification(slices: u32) -> Specification {
    let devices = devices(slices);
    let (specification, left_out) = Specification::new(&devices, &config(), &found(&devices));
    assert!(left_out.is_empty());
    specification
}

/// What is written for these libraries.
fn with_libraries(libraries: Vec<Library>, config: &Config) -> Value {
    let devices = devices(1);
    let files = DriverFiles {
        libraries,
        ..DriverFiles::default()
    };
    let found = Found {
        files: Arc::new(files),
        ..found(&devices)
    };
    serde_json::to_value(Specification::new(&devices, config, &found).0).unwrap()
}

fn library(file: &str, soname: &str, other_names: &[&str]) -> Library {
    Library {
        path: Path::new("usr/lib/x86_64-linux-gnu").join(file),
        machine: Machine::X86_64,
        soname: soname.to_owned(),
        other_names: other_names.iter().map(|&name| name.to_owned()).collect(),
        subfolder: None,
    }
}

#[test]
fn each_slice_is_a_device_with_its_nodes_by_their_paths_on_the_node() {
    let written = serde_json::to_value(specification(2)).unwrap();
    assert_eq!(written["cdiVersion"], "0.5.0");
    assert_eq!(written["kind"], "k8s.device-plugin.nvidia.com/gpu");
    let node = |path: &str| json!({"path": path, "hostPath": format!("/run/nvidia/driver{path}"), "permissions": "rw"});
    assert_eq!(
        written["containerEdits"],
        json!({
            "env": ["NVIDIA_VISIBLE_DEVICES=void"],
            "deviceNodes": [node("/dev/nvidiactl"), node("/dev/nvidia-uvm")],
        })
    );
    assert_eq!(
        written["devices"][1],
        json!({"name": "MIG-0-1", "containerEdits": {"deviceNodes": [
            node("/dev/nvidia0"),
            node("/dev/nvidia-caps/nvidia-cap75"),
            node("/dev/nvidia-caps/nvidia-cap76"),
        ]}})
    );
}

#[test]
fn names_are_what_the_device_id_strategy_says() {
    let config = Config {
        device_id_strategy: DeviceIdStrategy::Index,
        ..config()
    };
    let devices = devices(2);
    let (specification, _) = Specification::new(&devices, &config, &found(&devices));
    let names: Vec<_> = specification
        .devices
        .iter()
        .map(|d| d.name.as_str())
        .collect();
    assert_eq!(names, ["0:0", "0:1"]);
}

#[test]
fn a_character_device_is_given_with_its_numbers() {
    let system = NodeFolder {
        here: "/".into(),
        on_node: "/".into(),
    };
    let nodes = ControlNodes::present(system).look(["/dev/null".to_owned()]);
    let node = Node::new("/dev/nvidia0".to_owned(), nodes.get("/dev/null").unwrap());
    assert_eq!(
        serde_json::to_value(node).unwrap(),
        json!({"path": "/dev/nvidia0", "hostPath": "/dev/null", "type": "c", "major": 1, "minor": 3,
            "fileMode": 0o666, "permissions": "rw"})
    );
}

#[test]
fn a_device_whose_node_is_missing_is_left_out_with_the_reason_and_the_others_stay() {
    let devices = devices(3);
    let found = found(&devices[..2]);
    let (specification, left_out) = Specification::new(&devices, &config(), &found);
    assert_eq!(specification.devices.len(), 2);
    let (name, reason) = left_out.into_iter().next().unwrap();
    assert_eq!(name, "MIG-0-2");
    assert!(
        reason.contains("/dev/nvidia-caps/nvidia-cap84 is not there"),
        "{reason}"
    );
}

#[test]
fn libraries_are_mounted_by_the_names_and_in_the_folders_that_loaders_go_by() {
    let cuda = library("libcuda.so.580.159.04", "libcuda.so.1", &["libcuda.so"]);
    let vdpau = Library {
        subfolder: Some("vdpau"),
        ..library(
            "vdpau/libvdpau_nvidia.so.580.159.04",
            "libvdpau_nvidia.so.1",
            &[],
        )
    };
    let written = with_libraries(vec![cuda, vdpau], &config());
    let edits = &written["containerEdits"];
    assert_eq!(edits.get("hooks"), None);
    let mounts = edits["mounts"].as_array().unwrap();
    let paths: Vec<_> = mounts
        .iter()
        .map(|m| m["containerPath"].as_str().unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
            "/usr/lib/x86_64-linux-gnu/libcuda.so",
            "/usr/lib64/libcuda.so.1",
            "/usr/lib64/libcuda.so",
            "/usr/lib/x86_64-linux-gnu/vdpau/libvdpau_nvidia.so.1",
            "/usr/lib64/vdpau/libvdpau_nvidia.so.1",
        ]
    );
    assert_eq!(
        mounts[2],
        json!({
            "hostPath": "/run/nvidia/driver/usr/lib/x86_64-linux-gnu/libcuda.so.580.159.04",
            "containerPath": "/usr/lib64/libcuda.so.1",
            "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"],
        })
    );
    let arm = Library {
        machine: Machine::Aarch64,
        ..library("libcuda.so.580.159.04", "libcuda.so.1", &[])
    };
    let written = with_libraries(vec![arm], &config());
    assert_eq!(
        written["containerEdits"]["mounts"][0]["containerPath"],
        "/usr/lib/aarch64-linux-gnu/libcuda.so.1"
    );
}

#[test]
fn with_nvidias_hook_program_libraries_stay_where_they_are_and_hooks_do_the_rest() {
    let libraries = || {
        vec![
            library("libcuda.so.580.159.04", "libcuda.so.1", &["libcuda.so"]),
            library(
                "libnvidia-allocator.so.580.159.04",
                "libnvidia-allocator.so.1",
                &["gbm/nvidia-drm_gbm.so"],
            ),
            library(
                "libnvidia-rtcore.so.580.159.04",
                "libnvidia-rtcore.so.580.159.04",
                &[],
            ),
        ]
    };
    let with = |program: &str| Config {
        cdi_hook: Some(program.into()),
        ..config()
    };
    let written = with_libraries(libraries(), &with("/usr/local/bin/nvidia-cdi-hook"));
    let edits = &written["containerEdits"];
    let folder = "/usr/lib/x86_64-linux-gnu";
    let mounts = edits["mounts"].as_array().unwrap();
    assert_eq!(mounts.len(), 3);
    assert_eq!(
        mounts[0]["containerPath"],
        format!("{folder}/libcuda.so.580.159.04")
    );
    assert_eq!(
        edits["hooks"],
        json!([
            {
                "hookName": "createContainer",
                "path": "/usr/local/bin/nvidia-cdi-hook",
                "args": ["nvidia-cdi-hook", "create-symlinks",
                    "--link", format!("libcuda.so.580.159.04::{folder}/libcuda.so.1"),
                    "--link", format!("libcuda.so.1::{folder}/libcuda.so"),
                    "--link", format!("libnvidia-allocator.so.580.159.04::{folder}/libnvidia-allocator.so.1"),
                    "--link", format!("../libnvidia-allocator.so.1::{folder}/gbm/nvidia-drm_gbm.so")],
            },
            {
                "hookName": "createContainer",
                "path": "/usr/local/bin/nvidia-cdi-hook",
                "args": ["nvidia-cdi-hook", "update-ldcache", "--folder", folder],
            },
        ])
    );
    let written = with_libraries(libraries(), &with("/usr/bin/nvidia-ctk"));
    let args = &written["containerEdits"]["hooks"][1]["args"];
    assert_eq!(args[0], "nvidia-ctk");
    assert_eq!(args[1], "hook");
}

#[test]
fn a_scan_is_kept_while_nothing_changes() {
    let root = tempfile::tempdir().unwrap();
    let driver_root = NodeFolder {
        here: root.path().to_owned(),
        on_node: PathBuf::from("/"),
    };
    let folder = root.path().join("usr/lib64");
    std::fs::create_dir_all(&folder).unwrap();
    for version in ["580.159.04", "590.1"] {
        let library = elf::library(elf::X86_64, "libcuda.so.1");
        std::fs::write(folder.join(format!("libcuda.so.{version}")), library).unwrap();
    }
    let mut scan = None;
    let mut look = |version| {
        let control = ControlNodes::present(driver_root.clone());
        Found::look(&[], driver_root.clone(), version, control, &mut scan).files
    };
    let first = look("580.159.04");
    assert!(Arc::ptr_eq(&first, &look("580.159.04")));
    assert!(!Arc::ptr_eq(&first, &look("590.1")));
}

#[test]
fn a_library_that_was_being_installed_is_found_when_it_is_whole() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("usr/lib64");
    std::fs::create_dir_all(&folder).unwrap();
    let whole = elf::library(elf::X86_64, "libcuda.so.1");
    let file = folder.join("libcuda.so.580.159.04");
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let driver_root = NodeFolder {
        here: root.path().to_owned(),
        on_node: PathBuf::from("/"),
    };
    let mut scan = None;
    let mut look = || {
        let control = ControlNodes::present(driver_root.clone());
        Found::look(&[], driver_root.clone(), "580.159.04", control, &mut scan).files
    };
    assert!(look().libraries.is_empty());
    // What is written into a file leaves its folder as it is.
    std::fs::write(&file, &whole).unwrap();
    let found = look();
    assert_eq!(found.libraries.len(), 1);
    assert!(Arc::ptr_eq(&found, &look()));
}

#[test]
fn a_specification_without_devices_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let none = Specification {
        devices: Vec::new(),
        ..specification(1)
    };
    none.ensure(folder.path()).unwrap();
    specification(1).ensure(folder.path()).unwrap();
    assert!(folder.path().join(FILE).exists());
    let unfinished = folder.path().join(format!(".{FILE}.x1y2z3"));
    std::fs::write(unfinished, "{").unwrap();
    none.ensure(folder.path()).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = specification(1).ensure(&file).unwrap_err();
    assert!(error.to_string().contains(FILE), "{error}");
}

#[test]
fn a_file_that_is_right_is_left_alone_and_one_that_is_not_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&file).unwrap());
    specification(1).ensure(folder.path()).unwrap();
    let first = inode();
    specification(1).ensure(folder.path()).unwrap();
    assert_eq!(inode(), first);
    let right = std::fs::read(&file).unwrap();
    std::fs::write(&file, "{").unwrap();
    specification(1).ensure(folder.path()).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), right);
}

#[test]
fn what_an_old_file_describes_is_told_from_what_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let names = |missing: BTreeSet<String>| missing.into_iter().collect::<Vec<_>>();
    assert_eq!(names(specification(1).missing(folder.path())), ["MIG-0-0"]);
    specification(1).ensure(folder.path()).unwrap();
    assert_eq!(names(specification(2).missing(folder.path())), ["MIG-0-1"]);
    assert!(specification(1).missing(folder.path()).is_empty());
    let of_another_driver = Specification {
        container_edits: Edits::default(),
        ..specification(1)
    };
    assert_eq!(names(of_another_driver.missing(folder.path())), ["MIG-0-0"]);
}

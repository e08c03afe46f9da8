//! NVML in a container: what NVIDIA's tools put there of a driver root, and nothing else of it.

use std::fs;
use std::path::{Path, PathBuf};

use nvml_sim::capability::{CAPS_DIR, CONFIG_MINOR, compute_instance_minor, gpu_instance_minor};
use nvml_sim::{Fault, firmware};

use crate::library::{
    DRIVER_NOT_LOADED, GPU_IS_LOST, Library, Machine, NO_PERMISSION, NOT_FOUND, SUCCESS, call,
};

const SONAME: &str = "libnvidia-ml.so.1";

/// A folder with what a container has of the machine's driver at its root: the library in one of the folders that
/// loaders search, the firmware, and these device files.
struct Container(PathBuf);

impl Container {
    fn new(machine: &Machine, name: &str, library_dir: &str, devices: &[String]) -> Container {
        let path = machine.folder.path().join(name);
        let node = machine.root.path();
        let folder = path.join(library_dir);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(machine.root.library_path(), folder.join(SONAME)).unwrap();
        let [state] = firmware::find(node).try_into().unwrap();
        let mounted = path.join(state.strip_prefix(node).unwrap());
        fs::create_dir_all(mounted.parent().unwrap()).unwrap();
        // A bind mount of one file is what a second link of it is to those who open it.
        fs::hard_link(&state, mounted).unwrap();
        fs::create_dir_all(path.join(CAPS_DIR)).unwrap();
        for device in devices.iter().map(String::as_str).chain(["nvidiactl"]) {
            fs::write(path.join("dev").join(device), "").unwrap();
        }
        Container(path)
    }

    fn library(&self, library_dir: &str) -> Library {
        Library::load(&self.0.join(library_dir).join(SONAME))
    }
}

/// The capability files' names of a slice, and its GPU's.
fn slice(gpu: u32, gi: u32) -> Vec<String> {
    let minors = [
        gpu_instance_minor(gpu, gi),
        compute_instance_minor(gpu, gi, 0),
    ];
    let mut files = vec![format!("nvidia{gpu}")];
    files.extend(minors.map(|minor| format!("nvidia-caps/nvidia-cap{minor}")));
    files
}

/// A machine of two A100s in seven slices each.
fn machine() -> (Machine, Library) {
    let machine = Machine::new(&[("A100-40GB", 2)]);
    let node = machine.nvml();
    for gpu in [0, 1] {
        let gpu = node.device(gpu);
        node.enable_mig(gpu);
        for _ in 0..7 {
            let instance = node.create(gpu, 19).unwrap();
            node.create_compute(instance, 0).unwrap();
        }
    }
    (machine, node)
}

fn count(nvml: &Library) -> u32 {
    let mut count = 0;
    assert_eq!(call!(nvml, nvmlDeviceGetCount_v2(&raw mut count)), SUCCESS);
    count
}

#[test]
fn a_container_sees_exactly_its_slice_wherever_the_library_was_put() {
    let (machine, node) = machine();
    let parent = node.device(1);
    for (index, folder) in [
        "usr/lib/x86_64-linux-gnu",
        "lib/x86_64-linux-gnu",
        "usr/lib64",
        "lib64",
        "usr/lib",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("container{index}");
        let container = Container::new(&machine, &name, folder, &slice(1, 9));
        let nvml = container.library(folder);
        assert_eq!(call!(nvml, nvmlInit_v2()), SUCCESS, "{folder}");
        assert_eq!(count(&nvml), 1);
        let own = nvml.device(0);
        assert_eq!(nvml.uuid(own), node.uuid(parent));
        let seen = nvml.uuid(nvml.mig_device(own, 0).unwrap());
        let all = (0..7).map(|i| node.mig_device(parent, i).unwrap());
        let of_gi_9 = all
            .filter(|device| {
                let mut gi = 0;
                call!(node, nvmlDeviceGetGpuInstanceId(*device, &raw mut gi));
                gi == 9
            })
            .map(|device| node.uuid(device));
        assert_eq!(of_gi_9.collect::<Vec<_>>(), [seen]);
        assert_eq!(nvml.mig_device(own, 1), Err(NOT_FOUND));
    }
}

/// Even one that was given the right to configure MIG devices: the rest of the root isn't there to be kept in step.
#[test]
fn a_container_changes_nothing_and_leaves_nothing() {
    let (machine, node) = machine();
    let mut devices = slice(0, 7);
    devices.push(format!("nvidia-caps/nvidia-cap{CONFIG_MINOR}"));
    let folder = "usr/lib/x86_64-linux-gnu";
    let container = Container::new(&machine, "container", folder, &devices);
    let before = machine.root.state().unwrap();
    let files = files_below(&container.0);
    let nvml = container.library(folder);
    assert_eq!(call!(nvml, nvmlInit_v2()), SUCCESS);
    let own = nvml.device(0);
    let mut activation = 0;
    assert_eq!(
        call!(nvml, nvmlDeviceSetMigMode(own, 0, &raw mut activation)),
        NO_PERMISSION
    );
    assert_eq!(nvml.create(own, 19), Err(NO_PERMISSION));
    for instance in nvml.instances(own, 19) {
        assert_eq!(call!(nvml, nvmlGpuInstanceDestroy(instance)), NO_PERMISSION);
    }
    assert_eq!(call!(nvml, nvmlShutdown()), SUCCESS);
    assert_eq!(machine.root.state().unwrap(), before);
    assert_eq!(files_below(&container.0), files);
    assert!(node.mig_device(node.device(0), 6).is_ok());
}

#[test]
fn a_container_notices_what_happens_to_its_gpu() {
    let (machine, _node) = machine();
    let folder = "usr/lib64";
    let container = Container::new(&machine, "container", folder, &slice(0, 7));
    let nvml = container.library(folder);
    assert_eq!(call!(nvml, nvmlInit_v2()), SUCCESS);
    let own = nvml.device(0);
    assert!(nvml.mig_device(own, 0).is_ok());
    machine.root.inject(Fault::GpuLost { gpu: 0 }).unwrap();
    assert_eq!(nvml.mig_device(own, 0), Err(GPU_IS_LOST));
    machine.root.clear_faults().unwrap();
    assert!(nvml.mig_device(own, 0).is_ok());
}

#[test]
fn a_container_without_a_gpu_finds_no_driver() {
    let (machine, _node) = machine();
    let folder = "usr/lib/x86_64-linux-gnu";
    let container = Container::new(&machine, "container", folder, &[]);
    fs::remove_file(container.0.join("dev/nvidiactl")).unwrap();
    let nvml = container.library(folder);
    assert_eq!(call!(nvml, nvmlInit_v2()), DRIVER_NOT_LOADED);
}

/// What finds a driver by its files' names has to find this one: the versioned file, and the name that it says it has.
#[test]
fn the_library_lies_as_a_real_drivers() {
    let machine = Machine::new(&[("A30", 1)]);
    let library = machine.root.library_path();
    assert_eq!(library.file_name().unwrap(), SONAME);
    let target = fs::read_link(&library).unwrap();
    assert_eq!(target, Path::new("libnvidia-ml.so.580.159.04"));
    let bytes = fs::read(&library).unwrap();
    let mut soname = SONAME.as_bytes().to_vec();
    soname.push(0);
    assert!(bytes.windows(soname.len()).any(|name| name == soname));
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

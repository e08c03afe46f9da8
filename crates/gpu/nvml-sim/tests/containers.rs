//! Roots whose devices and state go into containers: device nodes, and the state's name among the firmware.
#![cfg(feature = "host")]
#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use migpool_nvml_sim::driver::{Device, GpuInstanceRef, compute_instance, gpu_instance, mode};
use migpool_nvml_sim::store::STATE_FILE;
use migpool_nvml_sim::{Driver, DriverRoot, Machine, Options, Return, RootError, firmware};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use tempfile::TempDir;

const GPU: Device = Device::Gpu(0);

fn create(folder: &TempDir, device_nodes: bool) -> Result<DriverRoot, RootError> {
    let board = mig::board("A100-40GB").unwrap();
    let options = Options {
        device_nodes,
        ..Options::default()
    };
    DriverRoot::create_with(folder.path().join("root"), &[(board, 2)], &options)
}

/// A root with device nodes. Whoever may not make them has seen that this is refused, and with what.
fn with_device_nodes(folder: &TempDir) -> Option<DriverRoot> {
    let mine = capabilities(None).unwrap().effective;
    match create(folder, true) {
        Ok(root) => Some(root),
        Err(error) if !mine.contains(CapabilitySet::MKNOD) => {
            assert_refused(folder, &error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn assert_refused(folder: &TempDir, error: &RootError) {
    assert!(matches!(error, RootError::DeviceNode { .. }), "{error}");
    assert!(error.to_string().contains("MKNOD"), "{error}");
    assert!(!folder.path().join("root").join(STATE_FILE).exists());
}

fn without_mknod<T>(body: impl FnOnce() -> T) -> T {
    let before = capabilities(None).unwrap();
    let mut less = before;
    less.effective.remove(CapabilitySet::MKNOD);
    set_capabilities(None, less).unwrap();
    let answer = body();
    set_capabilities(None, before).unwrap();
    answer
}

fn enable(driver: &Driver) {
    driver
        .write("nvmlDeviceSetMigMode", |state, _| {
            mode::set(state, GPU, true)
        })
        .unwrap();
}

fn create_slice(driver: &Driver) -> Result<GpuInstanceRef, Return> {
    let gi = driver.write("nvmlDeviceCreateGpuInstance", |state, _| {
        gpu_instance::create(state, GPU, 19, None)
    })?;
    driver.write("nvmlGpuInstanceCreateComputeInstance", |state, _| {
        compute_instance::create(state, gi, 0, None)
    })?;
    Ok(gi)
}

fn devices(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in [root.join("dev"), root.join("dev/nvidia-caps")] {
        let files = fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path());
        found.extend(files.filter(|file| !file.is_dir()));
    }
    found.sort();
    found
}

#[test]
fn device_nodes_have_the_numbers_of_null_also_those_made_later_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let Some(root) = with_device_nodes(&folder) else {
        return;
    };
    let at_first = devices(root.path()).len();
    // As another process: nothing but the folder tells it what to make.
    let driver = Driver::open(root.path()).unwrap();
    enable(&driver);
    create_slice(&driver).unwrap();
    let files = devices(root.path());
    assert_eq!(files.len(), at_first + 2);
    let null = fs::metadata("/dev/null").unwrap().rdev();
    for file in files {
        let metadata = fs::symlink_metadata(&file).unwrap();
        assert!(metadata.file_type().is_char_device(), "{}", file.display());
        assert_eq!(metadata.rdev(), null);
        let name = file.file_name().unwrap().to_str().unwrap();
        let mode = match name {
            "nvidia-cap1" => 0o400,
            _ if name.starts_with("nvidia-cap") => 0o444,
            _ => 0o666,
        };
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
    }
    let machine = root.machine().unwrap();
    assert!(machine.device_nodes);
    assert_eq!(machine.boards, ["A100-40GB", "A100-40GB"]);
}

#[test]
fn who_may_not_make_device_nodes_is_refused_before_anything_changes() {
    let folder = tempfile::tempdir().unwrap();
    let error = without_mknod(|| create(&folder, true)).unwrap_err();
    assert_refused(&folder, &error);
    let Some(root) = with_device_nodes(&folder) else {
        return;
    };
    let driver = Driver::open(root.path()).unwrap();
    enable(&driver);
    let before = (root.state().unwrap(), everything_below(root.path()));
    let refused = without_mknod(|| create_slice(&driver));
    assert_eq!(refused, Err(Return::NO_PERMISSION));
    assert_eq!(
        (root.state().unwrap(), everything_below(root.path())),
        before
    );
    create_slice(&driver).unwrap();
}

#[test]
fn a_root_without_device_nodes_takes_no_privilege() {
    let folder = tempfile::tempdir().unwrap();
    without_mknod(|| {
        let root = create(&folder, false).unwrap();
        let driver = Driver::open(root.path()).unwrap();
        enable(&driver);
        create_slice(&driver).unwrap();
        assert!(devices(root.path()).iter().all(|file| file.is_file()));
        assert!(!root.machine().unwrap().device_nodes);
    });
}

/// A first attempt was killed or refused; what it left is of no use to the second.
#[test]
fn devices_of_the_other_kind_are_replaced_in_a_root_that_was_never_finished() {
    let folder = tempfile::tempdir().unwrap();
    create(&folder, false).unwrap();
    fs::remove_file(folder.path().join("root").join(STATE_FILE)).unwrap();
    let Some(root) = with_device_nodes(&folder) else {
        return;
    };
    let is_device = |file: &PathBuf| fs::metadata(file).unwrap().file_type().is_char_device();
    assert!(devices(root.path()).iter().all(is_device));
}

#[test]
fn a_pods_view_of_device_nodes_shows_its_slice() {
    let folder = tempfile::tempdir().unwrap();
    let Some(root) = with_device_nodes(&folder) else {
        return;
    };
    enable(root.driver());
    let gi = create_slice(root.driver()).unwrap();
    let minor = migpool_nvml_sim::capability::gpu_instance_minor(0, gi.id);
    let files = [
        PathBuf::from("/dev/nvidia0"),
        format!("/dev/nvidia-caps/nvidia-cap{minor}").into(),
        format!("/dev/nvidia-caps/nvidia-cap{}", minor + 1).into(),
    ];
    let view = folder.path().join("pod");
    root.pod_view(&view, &files).unwrap();
    let pod = Driver::open(&view).unwrap();
    assert!(pod.view().gpu(0) && !pod.view().gpu(1));
    assert!(pod.view().mig_device(0, gi.id, 0));
    assert!(!pod.may_configure());
}

#[test]
fn a_container_that_locks_its_state_keeps_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let root = create(&folder, false).unwrap();
    let [link] = firmware::find(root.path()).try_into().unwrap();
    // A container has the file for reading, which is enough to lock it.
    let container = fs::File::open(link).unwrap();
    container.lock().unwrap();
    let (done, changed) = std::sync::mpsc::channel();
    let writer = std::thread::spawn(move || {
        enable(&Driver::open(root.path()).unwrap());
        done.send(root.state().unwrap().gpus[0].mig_current)
            .unwrap();
    });
    let limit = std::time::Duration::from_secs(30);
    assert_eq!(changed.recv_timeout(limit), Ok(true));
    writer.join().unwrap();
}

/// Its making, or the making of its second name, was killed between two steps.
#[test]
fn what_a_killed_process_of_the_same_number_left_is_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root");
    let versions = path.join("lib/firmware/nvidia/580.159.04");
    fs::create_dir_all(&versions).unwrap();
    let number = std::process::id();
    fs::write(versions.join(format!("gsp_simulated.new-{number}")), "").unwrap();
    let libraries = path.join("usr/lib/x86_64-linux-gnu");
    fs::create_dir_all(&libraries).unwrap();
    fs::write(libraries.join(format!(".link-{number}")), "").unwrap();
    let root = create(&folder, false).unwrap();
    assert_eq!(fs::read_dir(versions).unwrap().count(), 1);
    assert_eq!(fs::read_dir(libraries).unwrap().count(), 3);
    assert!(root.library_path().is_file());
}

#[test]
fn a_device_node_whose_making_was_killed_gets_its_permissions() {
    let folder = tempfile::tempdir().unwrap();
    let Some(root) = with_device_nodes(&folder) else {
        return;
    };
    let node = root.path().join("dev/nvidia0");
    fs::set_permissions(&node, fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(root.path().join(STATE_FILE)).unwrap();
    create(&folder, true).unwrap();
    let mode = fs::metadata(&node).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
}

fn identity(path: &Path) -> (u64, u64) {
    let file = fs::metadata(path).unwrap();
    (file.dev(), file.ino())
}

#[test]
fn the_state_stays_one_file_under_both_names_whatever_happens_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = create(&folder, false).unwrap();
    let state = root.path().join(STATE_FILE);
    let [link] = firmware::find(root.path()).try_into().unwrap();
    assert_eq!(
        link.strip_prefix(root.path()).unwrap(),
        Path::new("lib/firmware/nvidia/580.159.04/gsp_simulated.bin")
    );
    let first = identity(&state);
    assert_eq!(identity(&link), first);
    enable(root.driver());
    while create_slice(root.driver()).is_ok() {}
    root.reboot().unwrap();
    assert_eq!((identity(&state), identity(&link)), (first, first));
}

#[test]
fn a_root_without_the_states_second_name_gets_it_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let root = create(&folder, false).unwrap();
    let state = root.path().join(STATE_FILE);
    let [link] = firmware::find(root.path()).try_into().unwrap();
    // One of an earlier migpool; and one that was copied file by file.
    let spoil: [fn(&Path); 2] = [
        |link| fs::remove_dir_all(link.parent().unwrap()).unwrap(),
        |link| {
            let content = fs::read(link).unwrap();
            fs::remove_file(link).unwrap();
            fs::write(link, content).unwrap();
        },
    ];
    for spoil in spoil {
        spoil(&link);
        Driver::open(root.path()).unwrap();
        assert_eq!(identity(&link), identity(&state));
        let beside = fs::read_dir(link.parent().unwrap()).unwrap();
        assert_eq!(beside.count(), 1);
    }
}

#[test]
fn a_removed_root_leaves_nothing_and_who_has_it_open_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let root = create(&folder, false).unwrap();
    let path = root.path().to_owned();
    DriverRoot::remove(&path).unwrap();
    assert!(!path.exists());
    assert_eq!(root.state().unwrap().gpus.len(), 2);
    DriverRoot::remove(&path).unwrap();
}

#[test]
fn a_removal_that_was_killed_half_way_is_finished_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let root = create(&folder, false).unwrap();
    for gone in [STATE_FILE, "lib/firmware", "dev"] {
        let path = root.path().join(gone);
        let _ = fs::remove_file(&path);
        let _ = fs::remove_dir_all(&path);
    }
    DriverRoot::remove(root.path()).unwrap();
    assert!(!root.path().exists());
}

#[test]
fn what_is_no_simulated_driver_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let root = create(&folder, false).unwrap();
    let own = root.path().join("diary");
    fs::write(&own, "").unwrap();
    let refused = DriverRoot::remove(root.path()).unwrap_err().to_string();
    assert!(refused.contains("diary"), "{refused}");
    assert!(root.state().is_ok() && DriverRoot::open(root.path()).is_ok());
    let system = DriverRoot::remove("/").unwrap_err();
    assert!(matches!(system, RootError::NotRemoved { .. }), "{system}");
    let driver = tempfile::tempdir().unwrap();
    fs::create_dir(driver.path().join("usr")).unwrap();
    assert!(DriverRoot::remove(driver.path()).is_err());
    assert!(driver.path().join("usr").exists());
}

#[test]
fn another_machine_is_told_from_the_same_one() {
    let folder = tempfile::tempdir().unwrap();
    let root = create(&folder, false).unwrap();
    let (a100, a30) = (mig::board("A100-40GB").unwrap(), mig::board("A30").unwrap());
    let there = root.machine().unwrap();
    let plain = Options::default();
    assert_eq!(there, Machine::of(&[(a100, 1), (a100, 1)], &plain));
    assert_ne!(there, Machine::of(&[(a100, 2), (a30, 1)], &plain));
    let guest = Options {
        pass_through: true,
        ..Options::default()
    };
    assert_ne!(there, Machine::of(&[(a100, 2)], &guest));
}

fn everything_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything_below(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

#[test]
fn the_simulated_node_boots_once_with_each_boot_of_its_machine() {
    let folder = tempfile::tempdir().unwrap();
    let root = create(&folder, false).unwrap();
    enable(root.driver());
    create_slice(root.driver()).unwrap();
    let slices = || root.state().unwrap().gpus[0].instances.len();
    assert!(!root.boot_with_machine("monday").unwrap());
    assert!(!root.boot_with_machine("monday").unwrap());
    assert_eq!(slices(), 1);
    assert!(root.boot_with_machine("tuesday").unwrap());
    assert_eq!((slices(), root.state().unwrap().boots), (0, 2));
    assert!(!root.boot_with_machine("tuesday").unwrap());
    assert_eq!(root.state().unwrap().boots, 2);
}

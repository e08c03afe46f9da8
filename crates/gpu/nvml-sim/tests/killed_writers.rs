//! Writers in other processes are killed with `kill -9` at any moment; whoever reads finds an old or a new state, never a mix,
//! and the next writer goes on. Readers in containers are killed as well, and nobody notices. This program starts itself again
//! as those writers and readers.
#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use migpool_nvml_sim::driver::{Device, Driver, compute_instance, gpu_instance, mode};
use migpool_nvml_sim::state::Moment;
use migpool_nvml_sim::{DriverRoot, Fault, Return, State, firmware};

const GPU: Device = Device::Gpu(0);
const ROLE: &str = "MIGPOOL_TEST_WRITER_ROOT";
const READ: &str = "MIGPOOL_TEST_READER";
const CHANGES: u64 = 100;
const CALL: &str = "MIGPOOL_TEST_WRITER_CALL";
const CONTAINER: &str = "MIGPOOL_TEST_CONTAINER";

fn main() {
    if let Some(root) = std::env::var_os(ROLE) {
        if std::env::var_os(READ).is_some() {
            read_until_the_last_change(Path::new(&root));
        } else if std::env::var_os(CONTAINER).is_some() {
            read_for_ever(Path::new(&root));
        } else if std::env::var_os(CALL).is_some() {
            create_one(Path::new(&root));
        } else {
            write_for_ever(Path::new(&root));
        }
        return;
    }
    killed_writers_leave_an_old_or_a_new_state();
    println!("killed writers leave an old or a new state: ok");
    every_writers_changes_count();
    println!("every writer's changes count: ok");
    a_process_dies_before_or_after_the_effect_as_asked();
    println!("a process dies before or after the effect as asked: ok");
    a_reader_without_write_access_follows_every_change();
    println!("a reader without write access follows every change: ok");
    killed_containers_hold_nobody_up_and_leave_nothing();
    println!("killed containers hold nobody up and leave nothing: ok");
}

fn machine() -> (tempfile::TempDir, DriverRoot) {
    let folder = tempfile::tempdir().unwrap();
    let board = mig::board("A100-40GB").unwrap();
    let root = DriverRoot::create(folder.path(), &[(board, 8)]).unwrap();
    let driver = Driver::open(folder.path()).unwrap();
    driver
        .write("nvmlDeviceSetMigMode", |state, _| {
            mode::set(state, GPU, true)
        })
        .unwrap();
    (folder, root)
}

fn writer(root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .env(ROLE, root)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit());
    command
}

/// Changes several places at once, so that a mix would show: all GPUs get the same ECC count and the same number of processes'
/// worth of padding, and instances come and go with their files.
fn write_for_ever(root: &Path) {
    let driver = Driver::open(root).unwrap();
    for round in 0_u64.. {
        driver
            .administer(|state| {
                bump(state, round);
                Ok(())
            })
            .unwrap();
        if round % 4 == 0 {
            let made = driver.write("nvmlDeviceCreateGpuInstance", |state, _| {
                let gi = gpu_instance::create(state, GPU, 19, None)?;
                compute_instance::create(state, gi, 0, None)
            });
            if made == Err(Return::INSUFFICIENT_RESOURCES) {
                driver
                    .administer(|state| {
                        state.gpus[0].instances.clear();
                        Ok(())
                    })
                    .unwrap();
            } else {
                made.unwrap();
            }
        }
    }
}

fn bump(state: &mut State, round: u64) {
    let next = state.gpus[0].ecc_aggregate.single + 1;
    for gpu in &mut state.gpus {
        gpu.ecc_aggregate.single = next;
        // The encoded length changes, too.
        gpu.serial = "x".repeat(usize::try_from(round % 2000).unwrap());
    }
}

fn assert_whole(state: &State) {
    let first = &state.gpus[0];
    assert!(
        state
            .gpus
            .iter()
            .all(|gpu| gpu.ecc_aggregate == first.ecc_aggregate)
    );
    assert!(
        state.gpus.iter().all(|gpu| gpu.serial == first.serial) || first.ecc_aggregate.single == 0
    );
}

fn killed_writers_leave_an_old_or_a_new_state() {
    let (_folder, root) = machine();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let driver = Driver::open(root.path()).unwrap();
            let (mut reads, mut last) = (0_u64, 0);
            while !done.load(Ordering::Relaxed) {
                let state = driver.store().read().unwrap();
                assert_whole(&state);
                let count = state.gpus[0].ecc_aggregate.single;
                assert!(count >= last, "the state went back from {last} to {count}");
                (last, reads) = (count, reads + 1);
            }
            reads
        });
        // Also when an assertion below fails.
        let stop = Stop(&done);
        for round in 0..40_u64 {
            let before = root.driver().store().generation();
            let mut writers: Vec<Child> = (0..2)
                .map(|_| writer(root.path()).spawn().unwrap())
                .collect();
            assert!(
                root.driver()
                    .store()
                    .wait_change(before, Duration::from_mins(1))
            );
            std::thread::sleep(Duration::from_micros(round * 137 % 4000));
            for child in &mut writers {
                child.kill().unwrap();
                child.wait().unwrap();
            }
            assert_whole(&root.state().unwrap());
            let reopened = DriverRoot::open(root.path()).unwrap();
            assert_files_agree(&reopened);
        }
        drop(stop);
        assert!(reader.join().unwrap() > 0);
    });
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn assert_files_agree(root: &DriverRoot) {
    let state = root.state().unwrap();
    let expected: usize = state
        .gpus
        .iter()
        .flat_map(|gpu| &gpu.instances)
        .map(|gi| 1 + gi.compute_instances.len())
        .sum();
    let caps = std::fs::read_dir(root.path().join("dev/nvidia-caps"))
        .unwrap()
        .count();
    assert_eq!(caps, 2 + expected);
    for gi in &state.gpus[0].instances {
        let folder = root.path().join(format!(
            "proc/driver/nvidia/capabilities/gpu0/mig/gi{}",
            gi.id
        ));
        assert!(folder.join("access").exists());
        for ci in &gi.compute_instances {
            assert!(folder.join(format!("ci{}/access", ci.id)).exists());
        }
    }
}

fn every_writers_changes_count() {
    let (_folder, root) = machine();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            // Two threads share one open root, and each pair has its own.
            let driver = std::sync::Arc::new(Driver::open(root.path()).unwrap());
            for _ in 0..2 {
                let driver = std::sync::Arc::clone(&driver);
                scope.spawn(move || {
                    for _ in 0..200 {
                        driver
                            .administer(|state| {
                                bump(state, 1);
                                Ok(())
                            })
                            .unwrap();
                    }
                });
            }
        }
    });
    assert_eq!(root.state().unwrap().gpus[7].ecc_aggregate.single, 1600);
}

fn create_one(root: &Path) {
    let driver = Driver::open(root).unwrap();
    let call = "nvmlDeviceCreateGpuInstance";
    driver
        .write(call, |state, _| gpu_instance::create(state, GPU, 19, None))
        .unwrap();
}

fn a_process_dies_before_or_after_the_effect_as_asked() {
    use std::os::unix::process::ExitStatusExt as _;
    let (_folder, root) = machine();
    for (moment, instances) in [(Moment::Before, 1), (Moment::After, 3)] {
        let call = "nvmlDeviceCreateGpuInstance".to_owned();
        root.inject(Fault::Abort {
            call,
            nth: 2,
            moment,
        })
        .unwrap();
        let run = || writer(root.path()).env(CALL, "1").status().unwrap();
        assert!(run().success());
        assert_eq!(run().signal(), Some(9));
        let state = root.state().unwrap();
        assert_eq!(state.gpus[0].instances.len(), instances);
        assert!(state.faults.is_empty());
    }
}

fn a_reader_without_write_access_follows_every_change() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    const NOBODY: u32 = 65_534;
    let (folder, root) = machine();
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    allow(folder.path(), 0o755);
    allow(&root.path().join("sim/state"), 0o444);
    let mut reader = writer(root.path());
    reader.env(READ, "1").stdout(Stdio::piped());
    if rustix::process::geteuid().is_root() {
        // File modes do not bind root.
        reader.uid(NOBODY);
    }
    let mut reader = reader.spawn().unwrap();
    let mut ready = [0];
    std::io::Read::read_exact(&mut reader.stdout.take().unwrap(), &mut ready).unwrap();
    for _ in 0..CHANGES {
        root.driver()
            .administer(|state| {
                bump(state, 1);
                Ok(())
            })
            .unwrap();
    }
    assert!(reader.wait().unwrap().success());
}

fn read_until_the_last_change(root: &Path) {
    use std::io::Write as _;
    let driver = Driver::open(root).unwrap();
    assert!(!driver.store().writable());
    let create = driver.write("nvmlDeviceCreateGpuInstance", |state, _| {
        gpu_instance::create(state, GPU, 19, None)
    });
    assert_eq!(create, Err(Return::NO_PERMISSION));
    let refused = driver.administer(|_| Ok(())).unwrap_err();
    assert!(refused.to_string().contains("no write access"), "{refused}");
    std::io::stdout().write_all(b"r").unwrap();
    std::io::stdout().flush().unwrap();
    loop {
        let (generation, state) = driver.store().read_with_generation().unwrap();
        if state.gpus[0].ecc_aggregate.single == CHANGES {
            return;
        }
        assert!(
            driver
                .store()
                .wait_change(generation, Duration::from_mins(1))
        );
    }
}

/// As many containers as eight boards have slices, each with what containers get of a root.
fn killed_containers_hold_nobody_up_and_leave_nothing() {
    const CONTAINERS: usize = 56;
    let (folder, root) = machine();
    let [state] = firmware::find(root.path()).try_into().unwrap();
    let containers = folder.path().join("containers");
    let start = |index: usize| {
        let container = containers.join(index.to_string());
        let firmware = container.join(state.strip_prefix(root.path()).unwrap());
        std::fs::create_dir_all(firmware.parent().unwrap()).unwrap();
        std::fs::hard_link(&state, firmware).unwrap();
        std::fs::create_dir(container.join("dev")).unwrap();
        for device in ["nvidiactl", "nvidia0"] {
            std::fs::write(container.join("dev").join(device), "").unwrap();
        }
        let mut command = writer(&container);
        let mut child = command
            .env(CONTAINER, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        child
    };
    let mut children: Vec<Child> = (0..CONTAINERS).map(start).collect();
    let before = files_below(&containers);
    // Changes go on while one after the other is killed, wherever it is.
    for round in 0..CHANGES {
        root.driver()
            .administer(|state| {
                bump(state, round);
                Ok(())
            })
            .unwrap();
        if let Some(mut child) = children.pop() {
            assert_eq!(child.try_wait().unwrap(), None, "a reader failed");
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
    assert_eq!(root.state().unwrap().gpus[0].ecc_aggregate.single, CHANGES);
    assert_eq!(files_below(&containers), before);
    let names = std::fs::read_dir(state.parent().unwrap()).unwrap();
    assert_eq!(names.count(), 1);
}

fn read_for_ever(root: &Path) {
    use std::io::Write as _;
    let driver = Driver::open(root).unwrap();
    std::io::stdout().write_all(b"r").unwrap();
    std::io::stdout().flush().unwrap();
    loop {
        driver
            .read("nvmlDeviceGetCount_v2", |state, view| {
                assert_whole(state);
                assert!(view.gpu(0) && !view.gpu(1));
                Ok(())
            })
            .unwrap();
        let _ = driver
            .store()
            .wait_change(driver.store().generation(), Duration::from_millis(1));
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

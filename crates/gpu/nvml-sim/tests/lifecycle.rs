//! The MIG lifecycle as the driver's users see it: placements, ids, codes, modes, visibility.
#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]
#![cfg(feature = "host")]

use std::path::PathBuf;
use std::process::{Child, Command};

use migpool_nvml_sim::capability::{compute_instance_minor, gpu_instance_minor};
use migpool_nvml_sim::driver::placement::Span;
use migpool_nvml_sim::driver::{
    ComputeInstanceRef, Device, Driver, GpuInstanceRef, compute_instance, device, gpu_instance,
    mig_device, mode, status,
};
use migpool_nvml_sim::{DriverRoot, Options, Return};
use tempfile::TempDir;

const GPU: Device = Device::Gpu(0);

struct Machine {
    root: DriverRoot,
    driver: Driver,
    _folder: TempDir,
}

impl Machine {
    fn with(board: &str, count: u32, options: &Options) -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let board = mig::board(board).unwrap();
        let path = folder.path().join("root");
        let root = DriverRoot::create_with(&path, &[(board, count)], options).unwrap();
        let driver = Driver::open(&path).unwrap();
        Machine {
            root,
            driver,
            _folder: folder,
        }
    }

    fn new(board: &str) -> Machine {
        Machine::with(board, 1, &Options::default())
    }

    fn in_mig_mode(board: &str) -> Machine {
        let machine = Machine::new(board);
        assert_eq!(machine.set_mode(true), Ok(Return::SUCCESS));
        machine
    }

    fn set_mode(&self, on: bool) -> Result<Return, Return> {
        self.driver
            .write("nvmlDeviceSetMigMode", |state, _| mode::set(state, GPU, on))
    }

    fn mode(&self) -> (bool, bool) {
        self.driver
            .read("nvmlDeviceGetMigMode", |state, _| mode::get(state, GPU))
            .unwrap()
    }

    fn create(&self, profile: u32) -> Result<GpuInstanceRef, Return> {
        let call = "nvmlDeviceCreateGpuInstance";
        self.driver.write(call, |state, _| {
            gpu_instance::create(state, GPU, profile, None)
        })
    }

    fn create_at(&self, profile: u32, start: u8, size: u8) -> Result<GpuInstanceRef, Return> {
        let call = "nvmlDeviceCreateGpuInstanceWithPlacement";
        let at = Some(Span { start, size });
        self.driver.write(call, |state, _| {
            gpu_instance::create(state, GPU, profile, at)
        })
    }

    fn create_compute(
        &self,
        gi: GpuInstanceRef,
        profile: u32,
    ) -> Result<ComputeInstanceRef, Return> {
        let call = "nvmlGpuInstanceCreateComputeInstance";
        self.driver.write(call, |state, _| {
            compute_instance::create(state, gi, profile, None)
        })
    }

    fn destroy(&self, gi: GpuInstanceRef) -> Result<(), Return> {
        self.driver.write("nvmlGpuInstanceDestroy", |state, _| {
            gpu_instance::destroy(state, gi)
        })
    }

    fn destroy_compute(&self, ci: ComputeInstanceRef) -> Result<(), Return> {
        let call = "nvmlComputeInstanceDestroy";
        self.driver
            .write(call, |state, _| compute_instance::destroy(state, ci))
    }

    fn start(&self, gi: GpuInstanceRef) -> u8 {
        self.driver
            .read("nvmlGpuInstanceGetInfo", |s, _| gpu_instance::info(s, gi))
            .unwrap()
            .placement
            .start
    }

    fn uuid(&self, device: Device) -> String {
        self.driver
            .read("nvmlDeviceGetUUID", |state, _| device::uuid(state, device))
            .unwrap()
    }

    fn mig_at(&self, index: u32) -> Result<Device, Return> {
        mig_at(&self.driver, index)
    }

    /// The ids and starts of instances created in this order with no placement given, up to the first that fails.
    fn defaults(&self, profiles: &[u32]) -> (Vec<u32>, Vec<u8>, Option<Return>) {
        let (mut ids, mut starts) = (Vec::new(), Vec::new());
        for profile in profiles {
            match self.create(*profile) {
                Ok(gi) => {
                    ids.push(gi.id);
                    starts.push(self.start(gi));
                }
                Err(code) => return (ids, starts, Some(code)),
            }
        }
        (ids, starts, None)
    }
}

fn mig_at(driver: &Driver, index: u32) -> Result<Device, Return> {
    driver.read("nvmlDeviceGetMigDeviceHandleByIndex", |s, v| {
        mig_device::by_index(s, v, GPU, index)
    })
}

struct Sleeper(Child);

impl Sleeper {
    fn new() -> Sleeper {
        Sleeper(Command::new("sleep").arg("600").spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn default_placements_are_those_that_nvidia_published() {
    let ones = Machine::in_mig_mode("A100-40GB").defaults(&[19; 7]);
    assert_eq!(
        ones,
        (
            vec![13, 11, 12, 7, 8, 9, 10],
            vec![6, 4, 5, 0, 1, 2, 3],
            None
        )
    );
    let (_, starts, failure) = Machine::in_mig_mode("A100-40GB").defaults(&[19, 19, 14, 9]);
    assert_eq!(
        (starts, failure),
        (vec![6, 4, 0], Some(Return::INSUFFICIENT_RESOURCES))
    );
    let (_, starts, _) = Machine::in_mig_mode("A100-40GB").defaults(&[9, 9]);
    assert_eq!(starts, [4, 0]);
    let (_, starts, _) = Machine::in_mig_mode("H100-SXM-80GB").defaults(&[9, 14]);
    assert_eq!(starts, [4, 0]);
}

#[test]
fn gpu_instance_ids_follow_from_where_they_lie() {
    let usual = [
        (0, 0, 8, 0),
        (9, 0, 4, 1),
        (9, 4, 4, 2),
        (14, 0, 2, 3),
        (14, 2, 2, 4),
        (14, 4, 2, 5),
        (15, 6, 2, 6),
        (19, 0, 1, 7),
        (19, 6, 1, 13),
    ];
    let machine = Machine::in_mig_mode("A100-40GB");
    for (profile, start, size, id) in usual {
        let gi = machine.create_at(profile, start, size).unwrap();
        assert_eq!(gi.id, id, "{start}:{size}");
        machine.destroy(gi).unwrap();
    }
    let (mut ids, ..) = Machine::in_mig_mode("A30").defaults(&[14; 4]);
    ids.sort_unstable();
    assert_eq!(ids, [3, 4, 5, 6]);
}

#[test]
fn every_board_fills_up_to_its_maximum_and_says_so() {
    for board in mig::boards() {
        for profile in &board.profiles {
            let machine = Machine::in_mig_mode(&board.name);
            let capacity = || {
                machine
                    .driver
                    .read("nvmlDeviceGetGpuInstanceRemainingCapacity", |state, _| {
                        gpu_instance::remaining_capacity(state, GPU, profile.id)
                    })
            };
            let mut left = u32::from(profile.max_instances);
            while left > 0 {
                assert_eq!(capacity(), Ok(left), "{} {}", board.name, profile.profile);
                machine.create(profile.id).unwrap();
                left -= 1;
            }
            assert_eq!(capacity(), Ok(0));
            assert_eq!(
                machine.create(profile.id),
                Err(Return::INSUFFICIENT_RESOURCES)
            );
        }
    }
}

#[test]
fn without_mig_mode_a_board_answers_as_a_real_h200() {
    let machine = Machine::new("H200-141GB");
    let read = |state: &migpool_nvml_sim::State| {
        let view = migpool_nvml_sim::capability::View::everything();
        assert_eq!(mig_device::max_count(state, GPU), Ok(0));
        for index in 0..8 {
            assert_eq!(
                mig_device::by_index(state, &view, GPU, index),
                Err(Return::NOT_FOUND)
            );
        }
        assert_eq!(
            mig_device::gpu_instance_id(state, GPU),
            Err(Return::INVALID_ARGUMENT)
        );
        assert_eq!(
            mig_device::attributes(state, GPU),
            Err(Return::NOT_SUPPORTED)
        );
        assert_eq!(gpu_instance::list(state, GPU, 19), Ok(vec![]));
        assert_eq!(gpu_instance::remaining_capacity(state, GPU, 19), Ok(7));
        assert_eq!(
            device::by_uuid(state, &view, "GPU-no-such"),
            Err(Return::NOT_FOUND)
        );
        assert_eq!(
            device::by_index(state, &view, 1),
            Err(Return::INVALID_ARGUMENT)
        );
        let memory = status::memory(state, GPU).unwrap();
        assert_eq!(
            (memory.total >> 20, memory.free >> 20, memory.used),
            (143_771, 143_156, 0)
        );
        assert_eq!(device::name(state, GPU).unwrap(), "NVIDIA H200");
        let starts: Vec<_> = [19, 20, 15, 14, 9, 5, 0]
            .map(|id| gpu_instance::possible_placements(state, GPU, id).unwrap())
            .map(|spans| {
                spans
                    .iter()
                    .map(|span| (span.start, span.size))
                    .collect::<Vec<_>>()
            })
            .into();
        assert_eq!(starts[2], [(0, 2), (2, 2), (4, 2), (6, 2)]);
        assert_eq!(starts[5..], [vec![(0, 4)], vec![(0, 8)]]);
        Ok(())
    };
    machine
        .driver
        .read("nvmlDeviceGetCount_v2", |state, _| read(state))
        .unwrap();
    assert_eq!(machine.create(19), Err(Return::NOT_SUPPORTED));
}

#[test]
fn refusals_carry_nvmls_codes_and_change_nothing() {
    let machine = Machine::in_mig_mode("A100-40GB");
    let three = machine.create_at(9, 4, 4).unwrap();
    let ci = machine.create_compute(three, 2).unwrap();
    let before = machine.root.state().unwrap();
    assert_eq!(machine.create(21), Err(Return::NOT_SUPPORTED));
    assert_eq!(machine.create_at(14, 1, 2), Err(Return::INVALID_ARGUMENT));
    assert_eq!(machine.create_at(14, 0, 4), Err(Return::INVALID_ARGUMENT));
    assert_eq!(
        machine.create_at(14, 4, 2),
        Err(Return::INSUFFICIENT_RESOURCES)
    );
    assert_eq!(machine.create(0), Err(Return::INSUFFICIENT_RESOURCES));
    assert_eq!(machine.destroy(three), Err(Return::IN_USE));
    assert_eq!(machine.set_mode(false), Err(Return::IN_USE));
    assert_eq!(machine.create_compute(three, 4), Err(Return::NOT_SUPPORTED));
    assert_eq!(
        machine.create_compute(three, 0),
        Err(Return::INSUFFICIENT_RESOURCES)
    );
    let gone = GpuInstanceRef { gpu: 0, id: 14 };
    assert_eq!(machine.destroy(gone), Err(Return::NOT_FOUND));
    assert_eq!(machine.create_compute(gone, 0), Err(Return::NOT_FOUND));
    let no_ci = ComputeInstanceRef {
        gpu_instance: three,
        id: 5,
    };
    assert_eq!(machine.destroy_compute(no_ci), Err(Return::NOT_FOUND));
    assert_eq!(machine.mig_at(1), Err(Return::NOT_FOUND));
    let by_enum = |profile| {
        machine
            .driver
            .read("nvmlDeviceGetGpuInstanceProfileInfo", |state, _| {
                gpu_instance::profile_by_enum(state, GPU, profile).map(|found| found.id)
            })
    };
    assert_eq!(
        (by_enum(2), by_enum(16), by_enum(17)),
        (
            Ok(9),
            Err(Return::NOT_SUPPORTED),
            Err(Return::INVALID_ARGUMENT)
        )
    );
    assert_eq!(machine.root.state().unwrap(), before);
    machine.destroy_compute(ci).unwrap();
    machine.destroy(three).unwrap();
}

#[test]
fn a_compute_instance_in_use_is_not_destroyed_until_its_process_ends() {
    let machine = Machine::in_mig_mode("A100-40GB");
    let gi = machine.create(19).unwrap();
    let ci = machine.create_compute(gi, 0).unwrap();
    let sleeper = Sleeper::new();
    let slice = machine.mig_at(0).unwrap();
    machine
        .root
        .register_process(sleeper.0.id(), slice, 1000, 50)
        .unwrap();
    assert_eq!(machine.destroy_compute(ci), Err(Return::IN_USE));
    let memory = machine
        .driver
        .read("nvmlDeviceGetMemoryInfo", |s, _| status::memory(s, slice))
        .unwrap();
    assert_eq!((memory.total >> 20, memory.used >> 20), (4864, 1000));
    drop(sleeper);
    assert_eq!(machine.destroy_compute(ci), Ok(()));
}

#[test]
fn smaller_compute_instances_share_a_gpu_instance() {
    let machine = Machine::in_mig_mode("A100-40GB");
    let gi = machine.create(9).unwrap();
    let ids: Vec<_> = (0..3)
        .map(|_| machine.create_compute(gi, 0).unwrap().id)
        .collect();
    assert_eq!(ids, [0, 1, 2]);
    assert_eq!(
        machine.create_compute(gi, 0),
        Err(Return::INSUFFICIENT_RESOURCES)
    );
    let names = (0..3).map(|index| {
        let found = machine.mig_at(index).unwrap();
        machine
            .driver
            .read("nvmlDeviceGetName", |state, _| device::name(state, found))
            .unwrap()
    });
    assert!(
        names
            .into_iter()
            .all(|name| name == "NVIDIA A100-SXM4-40GB MIG 1c.3g.20gb")
    );
    let slice = machine.mig_at(2).unwrap();
    let attributes = machine
        .driver
        .read("nvmlDeviceGetAttributes_v2", |s, _| {
            mig_device::attributes(s, slice)
        })
        .unwrap();
    assert_eq!(attributes.multiprocessors, 14);
    assert_eq!(
        (
            attributes.gpu_instance_slices,
            attributes.compute_instance_slices
        ),
        (3, 1)
    );
    assert_eq!(attributes.memory_mib, 19_968);
    assert_eq!(attributes.shared_copy_engines, 3);
}

#[test]
fn compute_instance_profiles_fit_as_often_as_mig_says() {
    for (profile, slices) in [(19, 1), (14, 2), (9, 3), (5, 4), (0, 7)] {
        for expected in mig::compute_instance_profiles(slices) {
            let machine = Machine::in_mig_mode("A100-40GB");
            let gi = machine.create(profile).unwrap();
            let made = (0..9)
                .take_while(|_| machine.create_compute(gi, expected.id).is_ok())
                .count();
            assert_eq!(
                made,
                usize::from(expected.max_instances),
                "{}c.{slices}g",
                expected.slices
            );
        }
    }
}

#[test]
fn an_idle_ampere_on_bare_metal_changes_its_mode_at_once_and_keeps_it() {
    let machine = Machine::new("A100-40GB");
    assert_eq!(machine.mode(), (false, false));
    assert_eq!(machine.set_mode(true), Ok(Return::SUCCESS));
    assert_eq!(machine.mode(), (true, true));
    machine.create(19).unwrap();
    machine.root.reboot().unwrap();
    assert_eq!(machine.mode(), (true, true));
    assert!(machine.root.state().unwrap().gpus[0].instances.is_empty());
}

#[test]
fn an_ampere_in_a_guest_waits_for_the_reboot() {
    let guest = Options {
        pass_through: true,
        ..Options::default()
    };
    let machine = Machine::with("A100-40GB", 1, &guest);
    assert_eq!(machine.set_mode(true), Ok(Return::RESET_REQUIRED));
    assert_eq!(machine.mode(), (false, true));
    assert_eq!(machine.create(19), Err(Return::NOT_SUPPORTED));
    machine.root.reboot().unwrap();
    assert_eq!(machine.mode(), (true, true));
    assert_eq!(machine.set_mode(false), Ok(Return::RESET_REQUIRED));
    assert_eq!(machine.set_mode(true), Ok(Return::SUCCESS));
    assert_eq!(machine.mode(), (true, true));
}

#[test]
fn a_busy_gpu_keeps_its_mode() {
    let machine = Machine::new("A100-40GB");
    let sleeper = Sleeper::new();
    machine
        .root
        .register_process(sleeper.0.id(), GPU, 100, 10)
        .unwrap();
    assert_eq!(machine.set_mode(true), Ok(Return::IN_USE));
    assert_eq!(machine.mode(), (false, true));
    drop(sleeper);
    assert_eq!(machine.set_mode(true), Ok(Return::SUCCESS));
    assert_eq!(machine.mode(), (true, true));
}

#[test]
fn hopper_needs_no_reset_and_forgets_its_mode_at_a_reboot() {
    let guest = Options {
        pass_through: true,
        ..Options::default()
    };
    let machine = Machine::with("H100-SXM-80GB", 1, &guest);
    assert_eq!(machine.set_mode(true), Ok(Return::SUCCESS));
    assert_eq!(machine.mode(), (true, true));
    machine.create(0).unwrap();
    machine.root.reboot().unwrap();
    assert_eq!(machine.mode(), (false, false));
    assert!(machine.root.state().unwrap().gpus[0].instances.is_empty());
}

#[test]
fn capability_files_come_and_go_with_the_instances() {
    let machine = Machine::in_mig_mode("A100-40GB");
    let gi = machine.create_at(14, 2, 2).unwrap();
    let ci = machine.create_compute(gi, 1).unwrap();
    let root = machine.root.path().to_owned();
    let proc = |path: &str| root.join("proc/driver/nvidia/capabilities").join(path);
    let cap = |minor: u32| root.join(format!("dev/nvidia-caps/nvidia-cap{minor}"));
    let text = std::fs::read_to_string(proc("gpu0/mig/gi4/ci0/access")).unwrap();
    assert!(text.starts_with(&format!(
        "DeviceFileMinor: {}\n",
        compute_instance_minor(0, 4, 0)
    )));
    assert!(proc("gpu0/mig/gi4/access").exists() && cap(gpu_instance_minor(0, 4)).exists());
    machine.destroy_compute(ci).unwrap();
    assert!(!proc("gpu0/mig/gi4/ci0").exists() && !cap(compute_instance_minor(0, 4, 0)).exists());
    assert!(proc("gpu0/mig/gi4/access").exists());
    machine.destroy(gi).unwrap();
    assert!(!proc("gpu0/mig/gi4").exists() && !cap(gpu_instance_minor(0, 4)).exists());
}

#[test]
fn files_of_a_call_that_was_killed_half_way_are_repaired_on_open() {
    let machine = Machine::in_mig_mode("A100-40GB");
    let gi = machine.create(19).unwrap();
    let caps = machine.root.path().join("dev/nvidia-caps");
    let lost = caps.join(format!("nvidia-cap{}", gpu_instance_minor(0, gi.id)));
    let stale = caps.join(format!("nvidia-cap{}", gpu_instance_minor(0, 0)));
    std::fs::remove_file(&lost).unwrap();
    std::fs::write(&stale, "").unwrap();
    DriverRoot::open(machine.root.path()).unwrap();
    assert!(lost.exists() && !stale.exists());
}

#[test]
fn a_pod_sees_exactly_the_slice_whose_files_it_has() {
    let machine = Machine::with("A100-40GB", 2, &Options::default());
    machine.set_mode(true).unwrap();
    let mut slices = Vec::new();
    for _ in 0..3 {
        let gi = machine.create(19).unwrap();
        slices.push(Device::Mig(machine.create_compute(gi, 0).unwrap()));
    }
    let Device::Mig(given) = slices[1] else {
        unreachable!("made as one")
    };
    let gi = given.gpu_instance.id;
    let files: Vec<PathBuf> = [
        "/dev/nvidia0".to_owned(),
        format!("/dev/nvidia-caps/nvidia-cap{}", gpu_instance_minor(0, gi)),
        format!(
            "/dev/nvidia-caps/nvidia-cap{}",
            compute_instance_minor(0, gi, 0)
        ),
    ]
    .map(PathBuf::from)
    .into();
    let folder = tempfile::tempdir().unwrap();
    machine.root.pod_view(folder.path(), &files).unwrap();
    let pod = Driver::open(folder.path()).unwrap();
    let seen = mig_at(&pod, 0).unwrap();
    assert_eq!(seen, slices[1]);
    assert_eq!(mig_at(&pod, 1), Err(Return::NOT_FOUND));
    assert_eq!(
        pod.read("nvmlDeviceGetCount_v2", |s, v| Ok(device::count(s, v))),
        Ok(1)
    );
    let uuid = pod
        .read("nvmlDeviceGetUUID", |state, _| device::uuid(state, seen))
        .unwrap();
    assert_eq!(uuid, machine.uuid(slices[1]));
    let other = machine.uuid(slices[0]);
    let by_uuid = |uuid: &str| {
        pod.read("nvmlDeviceGetHandleByUUID", |s, v| {
            device::by_uuid(s, v, uuid)
        })
    };
    assert_eq!(
        (by_uuid(&uuid), by_uuid(&other)),
        (Ok(seen), Err(Return::NOT_FOUND))
    );
    let create = pod.write("nvmlDeviceCreateGpuInstance", |s, _| {
        gpu_instance::create(s, GPU, 19, None)
    });
    assert_eq!(create, Err(Return::NO_PERMISSION));
    assert!(
        folder
            .path()
            .join("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1")
            .exists()
    );
    assert!(
        folder
            .path()
            .join("proc/driver/nvidia-caps/mig-minors")
            .exists()
    );
}

#[test]
fn a_pod_view_of_files_that_are_not_there_is_refused() {
    let machine = Machine::new("A100-40GB");
    let folder = tempfile::tempdir().unwrap();
    for file in ["/dev/nvidia7", "/dev/../sim/state", "/sim/state"] {
        let error = machine
            .root
            .pod_view(folder.path(), &[PathBuf::from(file)])
            .unwrap_err();
        assert!(error.to_string().contains(file), "{error}");
    }
}

#[test]
fn uuids_are_the_same_each_time_and_differ_between_slices_and_machines() {
    let machine = Machine::in_mig_mode("A100-40GB");
    let make = |machine: &Machine| {
        let mut made = Vec::new();
        for _ in 0..7 {
            let gi = machine.create(19).unwrap();
            let ci = machine.create_compute(gi, 0).unwrap();
            made.push((gi, ci, machine.uuid(Device::Mig(ci))));
        }
        made
    };
    let first = make(&machine);
    for (gi, ci, uuid) in &first {
        let text = uuid.strip_prefix("MIG-").unwrap();
        assert_eq!(text.parse::<uuid::Uuid>().unwrap().get_version_num(), 5);
        machine.destroy_compute(*ci).unwrap();
        machine.destroy(*gi).unwrap();
    }
    let second = make(&machine);
    assert_eq!(first, second);
    let other = make(&Machine::in_mig_mode("A100-40GB"));
    let mut all: Vec<_> = first
        .iter()
        .chain(&other)
        .map(|(.., uuid)| uuid.clone())
        .collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 14);
}

#[test]
fn a_root_says_that_it_is_simulated_and_is_not_made_twice() {
    let machine = Machine::new("A30");
    let serial = machine
        .driver
        .read("nvmlDeviceGetSerial", |s, _| device::serial(s, GPU))
        .unwrap();
    assert!(serial.starts_with("SIMULATED-") && serial.len() < 30);
    assert!(
        machine
            .root
            .describe()
            .unwrap()
            .to_string()
            .starts_with("Simulated driver")
    );
    let board = mig::board("A30").unwrap();
    let error = DriverRoot::create(machine.root.path(), &[(board, 1)]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("holds a simulated driver already"),
        "{error}"
    );
    let folder = tempfile::tempdir().unwrap();
    for count in [0, 33] {
        assert!(DriverRoot::create(folder.path(), &[(board, count)]).is_err());
    }
}

//! The door against a simulated driver: the same C ABI that a real one has.
#![allow(clippy::unwrap_used, clippy::panic)] // clippy knows the tests, not their helpers

use std::path::Path;
use std::time::Duration;

use migpool_nvml::{Error, Event, GpuUuid, Inventory, MigModeOutcome, Nvml, ReturnCode};
use nvml_sim::{DriverRoot, Fault, Options, Return};
use tempfile::TempDir;

struct Machine {
    root: DriverRoot,
    nvml: Nvml,
    _folder: TempDir,
}

impl Machine {
    fn new(board: &str, count: u32) -> Self {
        Self::with(board, count, &Options::default())
    }

    fn with(board: &str, count: u32, options: &Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let boards = [(mig::board(board).unwrap(), count)];
        let root = DriverRoot::create_with(folder.path().join("root"), &boards, options).unwrap();
        let nvml = Nvml::load(root.path()).unwrap();
        Self {
            root,
            nvml,
            _folder: folder,
        }
    }

    fn inventory(&self) -> Inventory {
        self.nvml.inventory().unwrap()
    }

    fn gpu(&self, index: u32) -> GpuUuid {
        self.inventory().gpu_at(index).unwrap().uuid.clone()
    }

    /// The calls that `act` makes.
    fn calls<T>(&self, act: impl FnOnce() -> T) -> (Vec<String>, T) {
        self.root.record_calls(true).unwrap();
        let answer = act();
        let calls = self.root.calls().unwrap();
        self.root.record_calls(false).unwrap();
        (calls, answer)
    }

    fn place(&self, gpu: &GpuUuid, profile: &str, start: u8) -> u32 {
        let inventory = self.inventory();
        let board = &inventory.gpu(gpu).unwrap().board;
        let profile = board.profile(profile.parse().unwrap()).unwrap();
        let placement = mig::Placement::new(profile, start).unwrap();
        self.nvml
            .create_gpu_instance(gpu, profile.id, placement)
            .unwrap()
    }
}

fn count(calls: &[String], name: &str) -> usize {
    calls.iter().filter(|call| *call == name).count()
}

#[test]
fn the_inventory_tells_a_gpu_as_its_driver_does() {
    let machine = Machine::new("H200-141GB", 1);
    let inventory = machine.inventory();
    assert_eq!(inventory.driver_version, "580.159.04");
    assert_eq!(inventory.cuda_version.to_string(), "13.0");
    assert_eq!(inventory.failed, []);
    let gpu = inventory.gpu_at(0).unwrap();
    assert_eq!(gpu.name, "NVIDIA H200");
    assert_eq!(gpu.memory_mib, 143_771);
    assert_eq!(gpu.compute_capability, (9, 0));
    assert_eq!(gpu.pci_device_id, 0x2335_10DE);
    assert_eq!(
        gpu.mig.map(|mode| (mode.current, mode.pending)),
        Some((false, false))
    );
    assert!(gpu.serial.as_ref().is_some_and(|serial| !serial.is_empty()));
}

#[test]
fn a_board_read_from_the_driver_is_the_one_in_the_data() {
    for known in mig::boards() {
        let machine = Machine::new(&known.name, 1);
        let inventory = machine.inventory();
        let live = &inventory.gpu_at(0).unwrap().board;
        assert_eq!(live.name, known.name);
        assert_eq!(live.memory_units, known.memory_units, "{}", known.name);
        assert_eq!(live.compute_slices, known.compute_slices, "{}", known.name);
        let rows = |board: &mig::Board| -> Vec<_> {
            let row = |p: &mig::BoardProfile| {
                (p.profile, p.id, p.starts.clone(), p.size, p.max_instances)
            };
            board.profiles.iter().map(row).collect()
        };
        assert_eq!(rows(live), rows(known), "{}", known.name);
    }
}

#[test]
fn a_slice_is_made_seen_and_destroyed() {
    let machine = Machine::new("A100-40GB", 2);
    let gpu = machine.gpu(1);
    assert_eq!(
        machine.nvml.set_mig_mode(&gpu, true).unwrap(),
        MigModeOutcome::Current
    );
    let gi = machine.place(&gpu, "3g.20gb", 4);
    let ci = machine.nvml.create_compute_instance(&gpu, gi, 2).unwrap();

    let inventory = machine.inventory();
    assert_eq!(inventory.mig_devices().count(), 1);
    let entry = inventory.mig_devices().next().unwrap();
    assert_eq!(entry.gpu.index, 1);
    assert_eq!(entry.gpu_instance.id, gi);
    assert_eq!(
        (
            entry.gpu_instance.placement.start(),
            entry.gpu_instance.placement.size()
        ),
        (4, 4)
    );
    assert_eq!(
        (entry.compute_instance.id, entry.compute_instance.slices),
        (ci, 3)
    );
    assert_eq!(entry.device.profile.to_string(), "3g.20gb");
    assert_eq!(
        (entry.device.memory_mib, entry.device.multiprocessors),
        (19_968, 42)
    );

    machine.nvml.destroy_compute_instance(&gpu, gi, ci).unwrap();
    machine.nvml.destroy_gpu_instance(&gpu, gi).unwrap();
    assert_eq!(machine.inventory().gpu(&gpu).unwrap().instances, []);
    assert_eq!(
        machine.nvml.set_mig_mode(&gpu, false).unwrap(),
        MigModeOutcome::Current
    );
}

#[test]
fn small_compute_instances_share_a_gpu_instance_and_are_named_so() {
    let machine = Machine::new("A100-40GB", 1);
    let gpu = machine.gpu(0);
    machine.nvml.set_mig_mode(&gpu, true).unwrap();
    let gi = machine.place(&gpu, "3g.20gb", 0);
    let profiles = machine.nvml.compute_instance_profiles(&gpu, gi).unwrap();
    let rows: Vec<_> = profiles
        .iter()
        .map(|p| (p.slices, p.total, p.free))
        .collect();
    assert_eq!(rows, [(1, 3, 3), (2, 1, 1), (3, 1, 1)]);
    let one = profiles.first().unwrap().id;
    let place = mig::Placement::from_driver(1, 1);
    let placed = machine
        .nvml
        .create_compute_instance_with_placement(&gpu, gi, one, place)
        .unwrap();
    machine.nvml.create_compute_instance(&gpu, gi, one).unwrap();
    let inventory = machine.inventory();
    let names: Vec<_> = inventory
        .mig_devices()
        .map(|entry| entry.device.profile.to_string())
        .collect();
    assert_eq!(names, ["1c.3g.20gb", "1c.3g.20gb"]);
    let instance = inventory.gpu(&gpu).unwrap().instance(gi).unwrap();
    let found = instance.compute_instances.iter().find(|ci| ci.id == placed);
    assert_eq!(found.map(|ci| ci.placement), Some(place));
}

#[test]
fn capability_minors_are_those_of_the_file_not_of_a_formula() {
    let machine = Machine::new("A100-40GB", 1);
    let gpu = machine.gpu(0);
    machine.nvml.set_mig_mode(&gpu, true).unwrap();
    let gi = machine.place(&gpu, "1g.5gb", 3);
    machine.nvml.create_compute_instance(&gpu, gi, 0).unwrap();
    let inventory = machine.inventory();
    let entry = inventory.mig_devices().next().unwrap();
    let text = std::fs::read_to_string(
        machine
            .root
            .path()
            .join("proc/driver/nvidia-caps/mig-minors"),
    )
    .unwrap();
    let minor = |path: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("gpu0/{path}/access ")));
        line.map(|minor| minor.parse::<u32>().unwrap())
    };
    assert_eq!(
        entry.gpu_instance.capability_minor,
        minor(&format!("gi{gi}"))
    );
    assert_eq!(
        entry.compute_instance.capability_minor,
        minor(&format!("gi{gi}/ci0"))
    );
    assert!(entry.gpu_instance.capability_minor.is_some());
}

#[test]
fn a_second_snapshot_asks_only_for_what_can_change() {
    let machine = Machine::new("A100-40GB", 1);
    let gpu = machine.gpu(0);
    machine.nvml.set_mig_mode(&gpu, true).unwrap();
    for start in 0..7 {
        let gi = machine.place(&gpu, "1g.5gb", start);
        machine.nvml.create_compute_instance(&gpu, gi, 0).unwrap();
    }
    machine.inventory();
    let (calls, inventory) = machine.calls(|| machine.inventory());
    assert_eq!(inventory.mig_devices().count(), 7);
    for constant in [
        "nvmlDeviceGetName",
        "nvmlDeviceGetPciInfo_v3",
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetGpuInstanceProfileInfoV",
        "nvmlDeviceGetGpuInstancePossiblePlacements_v2",
        "nvmlGpuInstanceGetComputeInstanceProfileInfo",
        "nvmlDeviceGetAttributes_v2",
        "nvmlSystemGetDriverVersion",
    ] {
        assert_eq!(count(&calls, constant), 0, "{constant} again in {calls:?}");
    }
    // Count, and for the GPU: handle, UUID, mode, minor, one list (its seven slices leave no room for another profile's),
    // MIG device count. For each slice: GPU instance, its list of compute instances, the compute instance; then the MIG
    // device's handle, two ids and UUID.
    assert_eq!(calls.len(), 1 + 6 + 7 * 3 + 7 * 4, "{calls:?}");
}

#[test]
fn changing_what_a_snapshot_showed_needs_no_look_up() {
    let machine = Machine::new("A100-40GB", 1);
    let gpu = machine.gpu(0);
    machine.nvml.set_mig_mode(&gpu, true).unwrap();
    let gi = machine.place(&gpu, "2g.10gb", 0);
    let ci = machine.nvml.create_compute_instance(&gpu, gi, 1).unwrap();
    machine.inventory();
    let (calls, ()) = machine.calls(|| {
        machine.nvml.destroy_compute_instance(&gpu, gi, ci).unwrap();
        machine.nvml.destroy_gpu_instance(&gpu, gi).unwrap();
    });
    assert_eq!(
        calls,
        ["nvmlComputeInstanceDestroy", "nvmlGpuInstanceDestroy"]
    );
}

#[test]
fn an_instance_made_anew_by_someone_else_is_found_again() {
    let machine = Machine::new("A100-40GB", 1);
    let gpu = machine.gpu(0);
    machine.nvml.set_mig_mode(&gpu, true).unwrap();
    let gi = machine.place(&gpu, "3g.20gb", 0);
    machine.inventory();
    let other = Nvml::load(machine.root.path()).unwrap();
    other.destroy_gpu_instance(&gpu, gi).unwrap();
    let again = other
        .create_gpu_instance(&gpu, 9, mig::Placement::from_driver(0, 4))
        .unwrap();
    assert_eq!(again, gi, "the driver numbers a place always alike");
    machine.nvml.create_compute_instance(&gpu, gi, 2).unwrap();
    assert_eq!(machine.inventory().mig_devices().count(), 1);
}

#[test]
fn a_refusal_names_call_gpu_code_and_what_to_do() {
    let machine = Machine::new("A100-40GB", 1);
    let gpu = machine.gpu(0);
    let off = machine
        .nvml
        .create_gpu_instance_anywhere(&gpu, 19)
        .unwrap_err();
    assert!(off.is(ReturnCode::ERROR_NOT_SUPPORTED), "{off}");
    assert!(off.to_string().contains("enable MIG mode first"), "{off}");

    machine.nvml.set_mig_mode(&gpu, true).unwrap();
    let gi = machine.place(&gpu, "7g.40gb", 0);
    let full = machine
        .nvml
        .create_gpu_instance_anywhere(&gpu, 19)
        .unwrap_err()
        .to_string();
    let expected = format!(
        "nvmlDeviceCreateGpuInstance on GPU 0 ({gpu}): Insufficient Resources (NVML_ERROR_INSUFFICIENT_RESOURCES, 23); \
         there is no room for it: destroy instances that overlap, or choose another placement"
    );
    assert_eq!(full, expected);

    machine.nvml.create_compute_instance(&gpu, gi, 4).unwrap();
    let used = machine.nvml.destroy_gpu_instance(&gpu, gi).unwrap_err();
    assert!(used.is(ReturnCode::ERROR_IN_USE), "{used}");
    assert!(
        used.to_string().starts_with(&format!(
            "nvmlGpuInstanceDestroy on GPU instance {gi} of GPU 0"
        )),
        "{used}"
    );

    let gone = machine
        .nvml
        .destroy_compute_instance(&gpu, gi, 5)
        .unwrap_err();
    assert!(gone.is(ReturnCode::ERROR_NOT_FOUND), "{gone}");
}

#[test]
fn a_lost_gpu_is_told_with_its_uuid_and_hides_no_other() {
    let machine = Machine::new("A100-40GB", 3);
    let lost = machine.gpu(1);
    machine.root.inject(Fault::GpuLost { gpu: 1 }).unwrap();
    let inventory = machine.inventory();
    let indices: Vec<_> = inventory.gpus.iter().map(|gpu| gpu.index).collect();
    assert_eq!(indices, [0, 2]);
    let [failed] = inventory.failed.as_slice() else {
        panic!("{:?}", inventory.failed)
    };
    assert_eq!((failed.index, failed.uuid.as_ref()), (1, Some(&lost)));
    assert!(
        failed.reason.contains("NVML_ERROR_GPU_IS_LOST"),
        "{}",
        failed.reason
    );

    machine.root.clear_faults().unwrap();
    let inventory = machine.inventory();
    assert_eq!((inventory.gpus.len(), inventory.failed.len()), (3, 0));
}

#[test]
fn a_call_that_fails_in_a_snapshot_fails_its_gpu_alone() {
    let machine = Machine::new("A100-40GB", 2);
    let call = "nvmlDeviceGetMinorNumber".to_owned();
    machine
        .root
        .inject(Fault::CallFails {
            call,
            times: 1,
            code: Return(999),
        })
        .unwrap();
    let inventory = machine.inventory();
    assert_eq!((inventory.gpus.len(), inventory.failed.len()), (1, 1));
    let failed = inventory.failed.first().unwrap();
    assert!(
        failed
            .reason
            .starts_with("nvmlDeviceGetMinorNumber on GPU 0 (GPU-"),
        "{}",
        failed.reason
    );
}

#[test]
fn a_slice_whose_attributes_cannot_be_read_hides_no_other_and_has_its_profiles() {
    let machine = Machine::new("A100-40GB", 1);
    let gpu = machine.gpu(0);
    machine.nvml.set_mig_mode(&gpu, true).unwrap();
    for start in [0, 4] {
        let id = machine.place(&gpu, "3g.20gb", start);
        machine.nvml.create_compute_instance(&gpu, id, 2).unwrap();
    }
    machine
        .root
        .inject(Fault::CallFails {
            call: "nvmlDeviceGetAttributes_v2".to_owned(),
            times: 2,
            code: Return(999),
        })
        .unwrap();
    let broken = machine.inventory();
    assert_eq!(broken.failed, []);
    assert_eq!(broken.mig_devices().count(), 2);
    assert_eq!(broken, machine.inventory());
}

#[test]
fn a_compute_instance_that_cannot_be_read_back_is_not_made_twice() {
    let machine = Machine::new("A100-40GB", 1);
    let gpu = machine.gpu(0);
    machine.nvml.set_mig_mode(&gpu, true).unwrap();
    let id = machine.place(&gpu, "3g.20gb", 0);
    machine
        .root
        .inject(Fault::CallFails {
            call: "nvmlComputeInstanceGetInfo_v2".to_owned(),
            times: 1,
            code: Return::INVALID_ARGUMENT,
        })
        .unwrap();
    machine
        .nvml
        .create_compute_instance(&gpu, id, 0)
        .unwrap_err();
    let inventory = machine.inventory();
    let instance = inventory.gpu(&gpu).unwrap().instance(id).unwrap();
    assert_eq!(instance.compute_instances.len(), 1);
}

#[test]
fn capability_minors_that_appear_later_are_read_then() {
    let machine = Machine::new("A100-40GB", 1);
    let gpu = machine.gpu(0);
    machine.nvml.set_mig_mode(&gpu, true).unwrap();
    machine.place(&gpu, "3g.20gb", 0);
    let table = machine
        .root
        .path()
        .join("proc/driver/nvidia-caps/mig-minors");
    let aside = table.with_extension("aside");
    std::fs::rename(&table, &aside).unwrap();
    machine.inventory();
    std::fs::rename(&aside, &table).unwrap();
    let inventory = machine.inventory();
    let instance = inventory.gpu(&gpu).unwrap().instances.first().unwrap();
    assert!(instance.capability_minor.is_some());
}

#[test]
fn in_a_guest_the_mode_of_an_ampere_board_waits_for_the_reboot() {
    let options = Options {
        pass_through: true,
        ..Options::default()
    };
    let machine = Machine::with("A100-40GB", 1, &options);
    let gpu = machine.gpu(0);
    let outcome = machine.nvml.set_mig_mode(&gpu, true).unwrap();
    assert!(
        matches!(&outcome, MigModeOutcome::Pending(status) if !status.is_empty()),
        "{outcome:?}"
    );
    let mode = machine.inventory().gpu(&gpu).unwrap().mig.unwrap();
    assert_eq!((mode.current, mode.pending), (false, true));
    machine.root.reboot().unwrap();
    let mode = machine.inventory().gpu(&gpu).unwrap().mig.unwrap();
    assert_eq!((mode.current, mode.pending), (true, true));
}

#[test]
fn an_xid_arrives_with_the_slice_that_it_struck() {
    let machine = Machine::new("A100-40GB", 2);
    let gpu = machine.gpu(1);
    let mut events = machine.nvml.event_set().unwrap();
    assert_eq!(events.unwatched(), []);
    machine
        .root
        .inject(Fault::Xid {
            gpu: 1,
            xid: 94,
            gpu_instance: Some(9),
            compute_instance: Some(0),
        })
        .unwrap();
    let event = events.wait(Duration::from_secs(10)).unwrap();
    let expected = Event::Xid {
        gpu: gpu.clone(),
        xid: 94,
        gpu_instance: Some(9),
        compute_instance: Some(0),
    };
    assert_eq!(event, Some(expected));
    machine
        .root
        .inject(Fault::Xid {
            gpu: 1,
            xid: 79,
            gpu_instance: None,
            compute_instance: None,
        })
        .unwrap();
    let event = events.wait(Duration::from_secs(10)).unwrap();
    assert_eq!(
        event,
        Some(Event::Xid {
            gpu,
            xid: 79,
            gpu_instance: None,
            compute_instance: None
        })
    );
    assert_eq!(
        events.wait(Duration::ZERO).unwrap(),
        None,
        "nothing more happened"
    );
}

#[test]
fn a_gpu_that_cannot_be_watched_hides_no_other() {
    let machine = Machine::new("A100-40GB", 2);
    let gpu = machine.gpu(1);
    machine.root.inject(Fault::GpuLost { gpu: 0 }).unwrap();
    let mut events = machine.nvml.event_set().unwrap();
    let unwatched: Vec<_> = events
        .unwatched()
        .iter()
        .map(|failed| failed.index)
        .collect();
    assert_eq!(unwatched, [0]);
    let fault = Fault::Ecc {
        gpu: 1,
        double: true,
        count: 1,
        gpu_instance: None,
        compute_instance: None,
    };
    machine.root.inject(fault).unwrap();
    let event = events.wait(Duration::from_secs(10)).unwrap();
    assert_eq!(
        event,
        Some(Event::EccDouble {
            gpu,
            gpu_instance: None,
            compute_instance: None
        })
    );
}

#[test]
fn a_pod_sees_only_the_slice_whose_files_it_has() {
    let machine = Machine::new("A100-40GB", 1);
    let gpu = machine.gpu(0);
    machine.nvml.set_mig_mode(&gpu, true).unwrap();
    for start in [0, 1] {
        let gi = machine.place(&gpu, "1g.5gb", start);
        machine.nvml.create_compute_instance(&gpu, gi, 0).unwrap();
    }
    let inventory = machine.inventory();
    let mine = inventory.mig_devices().nth(1).unwrap();
    let cap = |minor: Option<u32>| format!("/dev/nvidia-caps/nvidia-cap{}", minor.unwrap()).into();
    let files = [
        "/dev/nvidia0".into(),
        cap(mine.gpu_instance.capability_minor),
        cap(mine.compute_instance.capability_minor),
    ];
    let pod = tempfile::tempdir().unwrap();
    machine.root.pod_view(pod.path(), &files).unwrap();
    let seen = Nvml::load(pod.path()).unwrap().inventory().unwrap();
    let uuids: Vec<_> = seen
        .mig_devices()
        .map(|entry| entry.device.uuid.clone())
        .collect();
    assert_eq!(uuids, std::slice::from_ref(&mine.device.uuid));
}

#[test]
fn who_may_not_list_instances_still_sees_its_mig_devices() {
    let machine = Machine::new("A100-40GB", 1);
    let gpu = machine.gpu(0);
    machine.nvml.set_mig_mode(&gpu, true).unwrap();
    let gi = machine.place(&gpu, "2g.10gb", 2);
    machine.nvml.create_compute_instance(&gpu, gi, 1).unwrap();
    let complete = machine.inventory();
    for call in ["nvmlDeviceGetGpuInstances", "nvmlDeviceGetGpuInstanceById"] {
        let code = Return(ReturnCode::ERROR_NO_PERMISSION.0);
        machine
            .root
            .inject(Fault::CallFails {
                call: call.to_owned(),
                times: 100,
                code,
            })
            .unwrap();
    }
    let partial = machine.inventory();
    assert!(complete.gpu(&gpu).unwrap().instances_complete);
    assert!(!partial.gpu(&gpu).unwrap().instances_complete);
    let seen = |inventory: &Inventory| -> Vec<_> {
        inventory
            .mig_devices()
            .map(|entry| {
                (
                    entry.device.clone(),
                    entry.gpu_instance.id,
                    entry.gpu_instance.profile,
                )
            })
            .collect()
    };
    assert_eq!(seen(&partial), seen(&complete));
    assert_eq!(seen(&partial).len(), 1);
}

#[test]
fn processes_are_told_with_their_slice() {
    let machine = Machine::new("A100-40GB", 1);
    let gpu = machine.gpu(0);
    machine.nvml.set_mig_mode(&gpu, true).unwrap();
    let gi = machine.place(&gpu, "3g.20gb", 0);
    let ci = machine.nvml.create_compute_instance(&gpu, gi, 2).unwrap();
    assert_eq!(machine.nvml.processes(&gpu).unwrap(), []);
    let inventory = machine.inventory();
    let uuid = &inventory.mig_devices().next().unwrap().device.uuid;
    let device = machine.root.device(uuid.as_str()).unwrap();
    machine
        .root
        .register_process(std::process::id(), device, 512, 10)
        .unwrap();
    let processes = machine.nvml.processes(&gpu).unwrap();
    let [process] = processes.as_slice() else {
        panic!("{processes:?}")
    };
    assert_eq!(process.pid, std::process::id());
    assert_eq!(
        (process.gpu_instance, process.compute_instance),
        (Some(gi), Some(ci))
    );
    assert_eq!(process.memory_mib, Some(512));
}

#[test]
fn a_driver_root_without_a_library_says_where_it_looked() {
    let root = tempfile::tempdir().unwrap();
    let error = Nvml::load(root.path()).unwrap_err();
    assert!(
        matches!(&error, Error::LibraryNotFound { searched, .. } if !searched.is_empty()),
        "{error}"
    );
}

#[test]
fn a_driver_that_is_not_loaded_is_no_driver() {
    let machine = Machine::new("A100-40GB", 1);
    let code = Return(ReturnCode::ERROR_DRIVER_NOT_LOADED.0);
    machine
        .root
        .inject(Fault::CallFails {
            call: "nvmlInit_v2".to_owned(),
            times: 1,
            code,
        })
        .unwrap();
    let error = Nvml::load(machine.root.path()).unwrap_err();
    assert!(error.is_no_driver(), "{error}");
    assert!(error.to_string().contains("modprobe nvidia"), "{error}");
}

#[test]
fn values_outlive_the_library() {
    let machine = Machine::new("A100-40GB", 1);
    let Machine {
        root,
        nvml,
        _folder,
    } = machine;
    let inventory = nvml.inventory().unwrap();
    drop(nvml);
    assert_eq!(
        Nvml::load(root.path()).unwrap().inventory().unwrap(),
        inventory
    );
    assert_ne!(root.path(), Path::new("/"));
}

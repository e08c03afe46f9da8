//! NVML's answers when something is wrong, row by row of its error table, and what a real H200 answers.

use std::path::Path;

use nvml_sim::Return;
use nvml_sim::root::{DriverRoot, Options};
use nvml_sim::state::Fault;
use nvml_wrapper_sys::bindings::nvmlGpuInstanceProfileInfo_t;

use crate::library::{
    GPU_IS_LOST, IN_USE, INSUFFICIENT_RESOURCES, INSUFFICIENT_SIZE, INVALID_ARGUMENT, Library,
    Machine, NOT_FOUND, NOT_SUPPORTED, RESET_REQUIRED, SUCCESS, call,
};

/// A machine of one A100 in MIG mode, NVML, and the GPU.
fn a100() -> (Machine, Library, nvml_wrapper_sys::bindings::nvmlDevice_t) {
    let machine = Machine::new(&[("A100-40GB", 1)]);
    let nvml = machine.nvml();
    let gpu = nvml.device(0);
    nvml.enable_mig(gpu);
    (machine, nvml, gpu)
}

fn profile(nvml: &Library, gpu: nvml_wrapper_sys::bindings::nvmlDevice_t, number: u32) -> u32 {
    // SAFETY: a struct of numbers.
    let mut info: nvmlGpuInstanceProfileInfo_t = unsafe { std::mem::zeroed() };
    call!(
        nvml,
        nvmlDeviceGetGpuInstanceProfileInfo(gpu, number, &raw mut info)
    )
}

#[test]
fn creating_without_mig_mode_is_not_supported() {
    let machine = Machine::new(&[("A100-40GB", 1)]);
    let nvml = machine.nvml();
    let gpu = nvml.device(0);
    assert_eq!(nvml.create(gpu, 19), Err(NOT_SUPPORTED));
    assert_eq!(nvml.create_at(gpu, 19, 0, 1), Err(NOT_SUPPORTED));
    assert!(nvml.instances(gpu, 19).is_empty());
}

#[test]
fn a_profile_of_another_board_is_not_supported() {
    let (_machine, nvml, gpu) = a100();
    // 6_SLICE, and 1_SLICE_GFX.
    assert_eq!(
        [6, 10].map(|number| profile(&nvml, gpu, number)),
        [NOT_SUPPORTED; 2]
    );
    assert_eq!(nvml.create(gpu, 47), Err(NOT_SUPPORTED));
    // Queries of its ID are refused differently, as by a real H200.
    let mut count = 0;
    let code = call!(
        nvml,
        nvmlDeviceGetGpuInstanceRemainingCapacity(gpu, 47, &raw mut count)
    );
    assert_eq!(code, INVALID_ARGUMENT);
}

#[test]
fn a_profile_number_out_of_range_is_an_invalid_argument() {
    let (_machine, nvml, gpu) = a100();
    assert_eq!(
        [17, 99, u32::MAX].map(|n| profile(&nvml, gpu, n)),
        [INVALID_ARGUMENT; 3]
    );
}

#[test]
fn an_illegal_placement_is_an_invalid_argument() {
    let (_machine, nvml, gpu) = a100();
    for (start, size) in [(1, 4), (4, 3), (8, 4), (256, 4), (u32::MAX, u32::MAX)] {
        assert_eq!(
            nvml.create_at(gpu, 9, start, size),
            Err(INVALID_ARGUMENT),
            "{start}:{size}"
        );
    }
}

#[test]
fn no_room_is_insufficient_resources_also_for_an_occupied_placement() {
    let (_machine, nvml, gpu) = a100();
    for profile in [19, 19, 14] {
        nvml.create(gpu, profile).unwrap();
    }
    // The order that NVIDIA's guide shows to fail: a 3g would have fitted first.
    assert_eq!(nvml.create(gpu, 9), Err(INSUFFICIENT_RESOURCES));
    assert_eq!(nvml.create_at(gpu, 19, 6, 1), Err(INSUFFICIENT_RESOURCES));
}

#[test]
fn what_has_parts_or_users_is_in_use() {
    let (machine, nvml, gpu) = a100();
    let instance = nvml.create(gpu, 9).unwrap();
    let mut activation = 99;
    assert_eq!(
        call!(nvml, nvmlDeviceSetMigMode(gpu, 0, &raw mut activation)),
        IN_USE
    );
    let compute = nvml.create_compute(instance, 2).unwrap();
    assert_eq!(call!(nvml, nvmlGpuInstanceDestroy(instance)), IN_USE);
    let uuid = nvml.uuid(nvml.mig_device(gpu, 0).unwrap());
    let device = machine.root.device(&uuid).unwrap();
    machine
        .root
        .register_process(std::process::id(), device, 100, 50)
        .unwrap();
    assert_eq!(call!(nvml, nvmlComputeInstanceDestroy(compute)), IN_USE);
    machine.root.unregister_process(std::process::id()).unwrap();
    assert_eq!(call!(nvml, nvmlComputeInstanceDestroy(compute)), SUCCESS);
}

#[test]
fn what_does_not_exist_is_not_found() {
    let (_machine, nvml, gpu) = a100();
    let mut instance = std::ptr::dangling_mut();
    let code = call!(
        nvml,
        nvmlDeviceGetGpuInstanceById(gpu, 5, &raw mut instance)
    );
    assert_eq!((code, instance), (NOT_FOUND, std::ptr::null_mut()));
    let there = nvml.create(gpu, 9).unwrap();
    let mut compute = std::ptr::null_mut();
    let code = call!(
        nvml,
        nvmlGpuInstanceGetComputeInstanceById(there, 0, &raw mut compute)
    );
    assert_eq!(code, NOT_FOUND);
    assert_eq!(nvml.mig_device(gpu, 0), Err(NOT_FOUND));
    for uuid in [
        c"GPU-nothing",
        c"MIG-d3b4fd7f-ec8a-97a0-22b1-7c0a278b9ee2",
        c"",
        c"gpu",
    ] {
        assert_eq!(nvml.by_uuid(uuid), Err(NOT_FOUND), "{uuid:?}");
    }
}

#[test]
fn null_and_foreign_handles_are_invalid_arguments() {
    let (_machine, nvml, gpu) = a100();
    let mut mode = 0;
    let null = std::ptr::null_mut();
    assert_eq!(
        call!(
            nvml,
            nvmlDeviceGetMigMode(null, &raw mut mode, &raw mut mode)
        ),
        INVALID_ARGUMENT
    );
    assert_eq!(
        call!(nvml, nvmlDeviceGetCount_v2(std::ptr::null_mut())),
        INVALID_ARGUMENT
    );
    assert_eq!(
        call!(
            nvml,
            nvmlDeviceGetMigMode(gpu, &raw mut mode, std::ptr::null_mut())
        ),
        INVALID_ARGUMENT
    );
    let foreign = (&raw mut mode).cast();
    assert_eq!(
        call!(nvml, nvmlDeviceGetMinorNumber(foreign, &raw mut mode)),
        INVALID_ARGUMENT
    );
    // A GPU is no GPU instance.
    assert_eq!(
        call!(nvml, nvmlGpuInstanceDestroy(gpu.cast())),
        INVALID_ARGUMENT
    );
    // Nothing is made when there is nowhere to say what.
    assert_eq!(
        call!(
            nvml,
            nvmlDeviceCreateGpuInstance(gpu, 19, std::ptr::null_mut())
        ),
        INVALID_ARGUMENT
    );
    assert!(nvml.instances(gpu, 19).is_empty());
}

#[test]
fn a_short_buffer_is_of_insufficient_size() {
    let (_machine, nvml, gpu) = a100();
    let mut buffer = [0x55_u8; 96];
    let length = u32::try_from("NVIDIA A100-SXM4-40GB".len()).unwrap();
    for short in [0, 1, length] {
        let code = call!(
            nvml,
            nvmlDeviceGetName(gpu, buffer.as_mut_ptr().cast(), short)
        );
        assert_eq!(code, INSUFFICIENT_SIZE);
    }
    assert_eq!(buffer, [0x55; 96]);
    let code = call!(
        nvml,
        nvmlDeviceGetName(gpu, buffer.as_mut_ptr().cast(), length + 1)
    );
    assert_eq!(
        (code, &buffer[..22]),
        (SUCCESS, b"NVIDIA A100-SXM4-40GB\0".as_slice())
    );
}

#[test]
fn a_guest_learns_that_an_ampere_gpu_needs_a_reset() {
    let folder = tempfile::tempdir().unwrap();
    let board = mig::board("A100-40GB").unwrap();
    let options = Options {
        pass_through: true,
        ..Options::default()
    };
    let root =
        DriverRoot::create_with(folder.path().join("guest"), &[(board, 1)], &options).unwrap();
    let nvml = Library::load(&root.library_path());
    assert_eq!(call!(nvml, nvmlInit_v2()), SUCCESS);
    let gpu = nvml.device(0);
    let (mut activation, mut current, mut pending) = (99, 99, 99);
    assert_eq!(
        call!(nvml, nvmlDeviceSetMigMode(gpu, 1, &raw mut activation)),
        SUCCESS
    );
    assert_eq!(activation, RESET_REQUIRED);
    call!(
        nvml,
        nvmlDeviceGetMigMode(gpu, &raw mut current, &raw mut pending)
    );
    assert_eq!((current, pending), (0, 1));
    root.reboot().unwrap();
    call!(
        nvml,
        nvmlDeviceGetMigMode(gpu, &raw mut current, &raw mut pending)
    );
    assert_eq!((current, pending), (1, 1));
}

#[test]
fn a_lost_gpu_says_so_and_the_others_answer() {
    let machine = Machine::new(&[("A100-40GB", 2)]);
    let nvml = machine.nvml();
    let gpus = [nvml.device(0), nvml.device(1)];
    machine.root.inject(Fault::GpuLost { gpu: 0 }).unwrap();
    let mut minor = 99;
    let codes = gpus.map(|gpu| call!(nvml, nvmlDeviceGetMinorNumber(gpu, &raw mut minor)));
    assert_eq!(codes, [GPU_IS_LOST, SUCCESS]);
}

#[test]
fn an_injected_fault_strikes_its_call_as_often_as_it_says() {
    let (machine, nvml, gpu) = a100();
    let call = "nvmlDeviceCreateGpuInstance".to_owned();
    let code = Return::UNKNOWN;
    machine
        .root
        .inject(Fault::CallFails {
            call,
            times: 2,
            code,
        })
        .unwrap();
    assert_eq!(nvml.create(gpu, 19), Err(999));
    assert_eq!(nvml.create(gpu, 19), Err(999));
    assert!(nvml.instances(gpu, 19).is_empty());
    assert!(nvml.create(gpu, 19).is_ok());
}

#[test]
fn a_library_outside_of_a_driver_root_finds_no_driver() {
    let machine = Machine::new(&[("A30", 1)]);
    let alone = machine.folder.path().join("a/b/c/d/libnvidia-ml.so.1");
    std::fs::create_dir_all(alone.parent().unwrap_or(Path::new("/"))).unwrap();
    std::fs::copy(machine.root.library_path(), &alone).unwrap();
    let nvml = Library::load(&alone);
    // DRIVER_NOT_LOADED
    assert_eq!(call!(nvml, nvmlInit_v2()), 9);
}

/// What facts an H200 with MIG disabled showed.
#[test]
fn an_h200_without_mig_mode_answers_as_the_real_one() {
    let machine = Machine::new(&[("H200-141GB", 1)]);
    let nvml = machine.nvml();
    let gpu = nvml.device(0);
    for index in [0, 1, 99] {
        assert_eq!(nvml.mig_device(gpu, index), Err(NOT_FOUND));
    }
    let mut instance = std::ptr::dangling_mut();
    let code = call!(
        nvml,
        nvmlDeviceGetGpuInstanceById(gpu, 0, &raw mut instance)
    );
    assert_eq!((code, instance), (NOT_FOUND, std::ptr::null_mut()));
    let (mut value, mut device) = (99, std::ptr::null_mut());
    assert_eq!(
        call!(nvml, nvmlDeviceGetMaxMigDeviceCount(gpu, &raw mut value)),
        SUCCESS
    );
    assert_eq!(value, 0);
    assert_eq!(
        call!(nvml, nvmlDeviceGetGpuInstanceId(gpu, &raw mut value)),
        INVALID_ARGUMENT
    );
    assert_eq!(
        call!(nvml, nvmlDeviceGetComputeInstanceId(gpu, &raw mut value)),
        INVALID_ARGUMENT
    );
    let code = call!(
        nvml,
        nvmlDeviceGetDeviceHandleFromMigDeviceHandle(gpu, &raw mut device)
    );
    assert_eq!(code, INVALID_ARGUMENT);
    let attributes = std::ptr::null_mut();
    assert_eq!(
        call!(nvml, nvmlDeviceGetAttributes_v2(gpu, attributes)),
        NOT_SUPPORTED
    );
    assert_eq!(
        call!(nvml, nvmlDeviceIsMigDeviceHandle(gpu, &raw mut value)),
        SUCCESS
    );
    assert_eq!(value, 0);
    for (profile, capacity) in [(19, 7), (20, 1), (15, 4), (14, 3), (9, 2), (5, 1), (0, 1)] {
        assert!(nvml.instances(gpu, profile).is_empty());
        call!(
            nvml,
            nvmlDeviceGetGpuInstanceRemainingCapacity(gpu, profile, &raw mut value)
        );
        assert_eq!(value, capacity, "profile {profile}");
    }
    for index in [1, u32::MAX] {
        let code = call!(nvml, nvmlDeviceGetHandleByIndex_v2(index, &raw mut device));
        assert_eq!(code, INVALID_ARGUMENT);
    }
    // The UUID is found without its prefix too.
    let uuid = nvml.uuid(gpu);
    let short = std::ffi::CString::new(uuid.trim_start_matches("GPU-")).unwrap();
    assert_eq!(nvml.by_uuid(&short), Ok(gpu));
}

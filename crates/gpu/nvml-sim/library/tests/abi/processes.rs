//! Two processes on one machine: one state.

use std::path::Path;
use std::process::Command;

use nvml_wrapper_sys::bindings::nvmlProcessInfo_v2_t;

use crate::library::{INSUFFICIENT_SIZE, Library, Machine, SUCCESS, call};

const LIBRARY: &str = "MIGPOOL_TEST_LIBRARY";

/// Runs `test` of this program in a process of its own.
fn in_another_process(machine: &Machine, test: &str) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--quiet"])
        .env(LIBRARY, machine.root.library_path())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "the other process of the test below"]
fn make_an_instance() {
    let nvml = Library::load(Path::new(&std::env::var_os(LIBRARY).unwrap()));
    assert_eq!(call!(nvml, nvmlInit_v2()), SUCCESS);
    let gpu = nvml.device(0);
    nvml.enable_mig(gpu);
    let instance = nvml.create(gpu, 9).unwrap();
    nvml.create_compute(instance, 2).unwrap();
}

#[test]
fn what_one_process_makes_the_other_sees_at_once() {
    let machine = Machine::new(&[("A100-40GB", 1)]);
    let nvml = machine.nvml();
    let gpu = nvml.device(0);
    assert!(nvml.mig_device(gpu, 0).is_err());
    in_another_process(&machine, "processes::make_an_instance");
    assert_eq!(
        nvml.name(nvml.mig_device(gpu, 0).unwrap()),
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb"
    );
}

#[test]
fn a_process_on_a_slice_is_listed_with_it_and_with_its_gpu() {
    let machine = Machine::new(&[("A100-40GB", 1)]);
    let nvml = machine.nvml();
    let gpu = nvml.device(0);
    nvml.enable_mig(gpu);
    let instance = nvml.create(gpu, 9).unwrap();
    nvml.create_compute(instance, 2).unwrap();
    let mig = nvml.mig_device(gpu, 0).unwrap();
    let device = machine.root.device(&nvml.uuid(mig)).unwrap();
    machine
        .root
        .register_process(std::process::id(), device, 300, 40)
        .unwrap();

    let empty = nvmlProcessInfo_v2_t {
        pid: 0,
        usedGpuMemory: 0,
        gpuInstanceId: 0,
        computeInstanceId: 0,
    };
    for device in [gpu, mig] {
        let mut found = [empty; 2];
        let mut count = 0;
        let null = std::ptr::null_mut();
        let code = call!(
            nvml,
            nvmlDeviceGetComputeRunningProcesses_v3(device, &raw mut count, null)
        );
        assert_eq!((code, count), (INSUFFICIENT_SIZE, 1));
        count = 2;
        let code = call!(
            nvml,
            nvmlDeviceGetComputeRunningProcesses_v3(device, &raw mut count, found.as_mut_ptr())
        );
        assert_eq!((code, count), (SUCCESS, 1));
        assert_eq!(
            (found[0].pid, found[0].usedGpuMemory),
            (std::process::id(), 300 << 20)
        );
        assert_eq!((found[0].gpuInstanceId, found[0].computeInstanceId), (2, 0));
    }
    let mut count = 5;
    let null = std::ptr::null_mut();
    let code = call!(
        nvml,
        nvmlDeviceGetGraphicsRunningProcesses_v3(gpu, &raw mut count, null)
    );
    assert_eq!((code, count), (SUCCESS, 0));
}

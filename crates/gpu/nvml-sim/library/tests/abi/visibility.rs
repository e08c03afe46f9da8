//! Who sees what: a pod's view of a machine's GPUs.

use std::ffi::CString;
use std::path::PathBuf;

use nvml_sim::capability::{compute_instance_minor, gpu_instance_minor};

use crate::library::{Library, Machine, NO_PERMISSION, NOT_FOUND, SUCCESS, call};

/// Loads NVML from a view of the machine with these device files.
fn pod(machine: &Machine, name: &str, files: &[String]) -> Library {
    let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
    let view = machine.folder.path().join(name);
    machine.root.pod_view(&view, &files).unwrap();
    let nvml = Library::load(&view.join("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"));
    assert_eq!(call!(nvml, nvmlInit_v2()), SUCCESS);
    nvml
}

fn capability(minor: u32) -> String {
    format!("/dev/nvidia-caps/nvidia-cap{minor}")
}

#[test]
fn a_pod_sees_its_slice_and_no_other() {
    let machine = Machine::new(&[("A100-40GB", 2)]);
    let node = machine.nvml();
    let gpu = node.device(1);
    node.enable_mig(gpu);
    for start in 0..7 {
        let instance = node.create_at(gpu, 19, start, 1).unwrap();
        node.create_compute(instance, 0).unwrap();
    }
    let third = node.mig_device(gpu, 2).unwrap();
    let mut gi = 0;
    call!(node, nvmlDeviceGetGpuInstanceId(third, &raw mut gi));
    let files = [
        "/dev/nvidia1".to_owned(),
        capability(gpu_instance_minor(1, gi)),
        capability(compute_instance_minor(1, gi, 0)),
    ];
    let pod = pod(&machine, "pod", &files);
    let mut count = 0;
    call!(pod, nvmlDeviceGetCount_v2(&raw mut count));
    assert_eq!(count, 1);
    let own = pod.device(0);
    assert_eq!(pod.uuid(own), node.uuid(gpu));
    let seen = pod.mig_device(own, 0).unwrap();
    assert_eq!(pod.uuid(seen), node.uuid(third));
    assert_eq!(pod.mig_device(own, 1), Err(NOT_FOUND));
    assert_eq!(pod.instances(own, 19).len(), 1);
    for other in [0, 1, 3, 4, 5, 6] {
        let uuid = node.uuid(node.mig_device(gpu, other).unwrap());
        assert_eq!(pod.by_uuid(&CString::new(uuid).unwrap()), Err(NOT_FOUND));
    }
    let foreign = CString::new(node.uuid(node.device(0))).unwrap();
    assert_eq!(pod.by_uuid(&foreign), Err(NOT_FOUND));
}

#[test]
fn both_capabilities_are_needed_to_see_a_slice() {
    let machine = Machine::new(&[("A30", 1)]);
    let node = machine.nvml();
    let gpu = node.device(0);
    node.enable_mig(gpu);
    let instance = node.create(gpu, 0).unwrap();
    node.create_compute(instance, 3).unwrap();
    let gpu_file = "/dev/nvidia0".to_owned();
    let (gi, ci) = (
        capability(gpu_instance_minor(0, 0)),
        capability(compute_instance_minor(0, 0, 0)),
    );
    let views = [
        ("neither", vec![gpu_file.clone()], Err(NOT_FOUND)),
        (
            "only-gi",
            vec![gpu_file.clone(), gi.clone()],
            Err(NOT_FOUND),
        ),
        (
            "only-ci",
            vec![gpu_file.clone(), ci.clone()],
            Err(NOT_FOUND),
        ),
        ("both", vec![gpu_file, gi, ci], Ok(())),
    ];
    for (name, files, expected) in views {
        let pod = pod(&machine, name, &files);
        let own = pod.device(0);
        assert_eq!(pod.mig_device(own, 0).map(drop), expected, "{name}");
    }
}

#[test]
fn a_pod_may_not_change_what_is_there() {
    let machine = Machine::new(&[("A30", 1)]);
    let node = machine.nvml();
    node.enable_mig(node.device(0));
    let pod = pod(&machine, "pod", &["/dev/nvidia0".to_owned()]);
    let own = pod.device(0);
    assert_eq!(pod.create(own, 14), Err(NO_PERMISSION));
    let mut activation = 0;
    assert_eq!(
        call!(pod, nvmlDeviceSetMigMode(own, 0, &raw mut activation)),
        NO_PERMISSION
    );
}

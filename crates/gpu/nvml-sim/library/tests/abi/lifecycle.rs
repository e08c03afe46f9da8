//! From MIG off to a MIG device and back.

use nvml_wrapper_sys::bindings::{
    nvmlComputeInstanceInfo_t, nvmlDeviceAttributes_t, nvmlGpuInstanceInfo_t,
    nvmlGpuInstancePlacement_t, nvmlMemory_t,
};

use crate::library::{
    IN_USE, INVALID_ARGUMENT, Library, Machine, NOT_FOUND, SUCCESS, UNINITIALIZED, call,
};

fn zeroed<T>() -> T {
    // SAFETY: used for C structs of numbers and pointers, for which zeros are a value.
    unsafe { std::mem::zeroed() }
}

fn gpu_instance_info(
    nvml: &Library,
    instance: nvml_wrapper_sys::bindings::nvmlGpuInstance_t,
) -> nvmlGpuInstanceInfo_t {
    let mut info = zeroed();
    assert_eq!(
        call!(nvml, nvmlGpuInstanceGetInfo(instance, &raw mut info)),
        SUCCESS
    );
    info
}

#[test]
fn init_is_counted() {
    let machine = Machine::new(&[("A30", 1)]);
    let nvml = machine.load();
    let mut count = 9;
    assert_eq!(
        call!(nvml, nvmlDeviceGetCount_v2(&raw mut count)),
        UNINITIALIZED
    );
    assert_eq!(call!(nvml, nvmlInit_v2()), SUCCESS);
    assert_eq!(call!(nvml, nvmlInitWithFlags(1)), SUCCESS);
    assert_eq!(call!(nvml, nvmlShutdown()), SUCCESS);
    assert_eq!(call!(nvml, nvmlDeviceGetCount_v2(&raw mut count)), SUCCESS);
    assert_eq!(count, 1);
    assert_eq!(call!(nvml, nvmlShutdown()), SUCCESS);
    assert_eq!(call!(nvml, nvmlShutdown()), UNINITIALIZED);
    assert_eq!(
        call!(nvml, nvmlDeviceGetCount_v2(&raw mut count)),
        UNINITIALIZED
    );
    assert_eq!(call!(nvml, nvmlInit()), SUCCESS);
    assert_eq!(call!(nvml, nvmlDeviceGetCount(&raw mut count)), SUCCESS);
}

#[test]
fn an_instance_is_made_seen_and_destroyed() {
    let machine = Machine::new(&[("A100-40GB", 2)]);
    let nvml = machine.nvml();
    let gpu = nvml.device(1);
    nvml.enable_mig(gpu);
    let (mut current, mut pending) = (9, 9);
    call!(
        nvml,
        nvmlDeviceGetMigMode(gpu, &raw mut current, &raw mut pending)
    );
    assert_eq!((current, pending), (1, 1));

    let instance = nvml.create_at(gpu, 9, 4, 4).unwrap();
    let info = gpu_instance_info(&nvml, instance);
    assert_eq!((info.device, info.profileId), (gpu, 9));
    assert_eq!((info.placement.start, info.placement.size), (4, 4));
    assert_eq!(nvml.instances(gpu, 9), [instance]);
    assert_eq!(nvml.mig_device(gpu, 0), Err(NOT_FOUND));

    let compute = nvml.create_compute(instance, 2).unwrap();
    let mut compute_info: nvmlComputeInstanceInfo_t = zeroed();
    call!(
        nvml,
        nvmlComputeInstanceGetInfo_v2(compute, &raw mut compute_info)
    );
    assert_eq!(
        (compute_info.device, compute_info.gpuInstance),
        (gpu, instance)
    );
    assert_eq!(
        (compute_info.placement.start, compute_info.placement.size),
        (0, 3)
    );

    let mig = nvml.mig_device(gpu, 0).unwrap();
    assert_eq!(nvml.name(mig), "NVIDIA A100-SXM4-40GB MIG 3g.20gb");
    let uuid = nvml.uuid(mig);
    assert!(uuid.starts_with("MIG-"), "{uuid}");
    assert_eq!(
        nvml.by_uuid(&std::ffi::CString::new(uuid).unwrap()),
        Ok(mig)
    );
    let (mut gi, mut ci, mut parent) = (99, 99, std::ptr::null_mut());
    call!(nvml, nvmlDeviceGetGpuInstanceId(mig, &raw mut gi));
    call!(nvml, nvmlDeviceGetComputeInstanceId(mig, &raw mut ci));
    call!(
        nvml,
        nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig, &raw mut parent)
    );
    assert_eq!((gi, ci, parent), (info.id, compute_info.id, gpu));
    let mut attributes: nvmlDeviceAttributes_t = zeroed();
    call!(nvml, nvmlDeviceGetAttributes_v2(mig, &raw mut attributes));
    assert_eq!(
        (attributes.multiprocessorCount, attributes.memorySizeMB),
        (42, 19968)
    );
    assert_eq!(
        (
            attributes.gpuInstanceSliceCount,
            attributes.computeInstanceSliceCount
        ),
        (3, 3)
    );
    let mut memory: nvmlMemory_t = zeroed();
    call!(nvml, nvmlDeviceGetMemoryInfo(mig, &raw mut memory));
    assert_eq!(memory.total, 19968 << 20);

    assert_eq!(call!(nvml, nvmlGpuInstanceDestroy(instance)), IN_USE);
    assert_eq!(call!(nvml, nvmlComputeInstanceDestroy(compute)), SUCCESS);
    assert_eq!(call!(nvml, nvmlComputeInstanceDestroy(compute)), NOT_FOUND);
    assert_eq!(
        call!(nvml, nvmlDeviceGetMemoryInfo(mig, &raw mut memory)),
        NOT_FOUND
    );
    assert_eq!(call!(nvml, nvmlGpuInstanceDestroy(instance)), SUCCESS);
    let mut gone: nvmlGpuInstanceInfo_t = zeroed();
    assert_eq!(
        call!(nvml, nvmlGpuInstanceGetInfo(instance, &raw mut gone)),
        NOT_FOUND
    );
    let mut activation = 9;
    assert_eq!(
        call!(nvml, nvmlDeviceSetMigMode(gpu, 0, &raw mut activation)),
        SUCCESS
    );
    assert_eq!(activation, SUCCESS);
}

#[test]
fn without_a_placement_instances_lie_where_nvidia_shows_them() {
    let machine = Machine::new(&[("A100-40GB", 1)]);
    let nvml = machine.nvml();
    let gpu = nvml.device(0);
    nvml.enable_mig(gpu);
    let places: Vec<_> = (0..7)
        .map(|_| {
            let info = gpu_instance_info(&nvml, nvml.create(gpu, 19).unwrap());
            (info.placement.start, info.id)
        })
        .collect();
    assert_eq!(
        places,
        [(6, 13), (4, 11), (5, 12), (0, 7), (1, 8), (2, 9), (3, 10)]
    );
}

#[test]
fn placements_are_counted_with_a_null_array_and_listed_with_one() {
    let machine = Machine::new(&[("A100-40GB", 1)]);
    let nvml = machine.nvml();
    let gpu = nvml.device(0);
    let mut count = 0;
    let null = std::ptr::null_mut();
    let code = call!(
        nvml,
        nvmlDeviceGetGpuInstancePossiblePlacements_v2(gpu, 14, null, &raw mut count)
    );
    assert_eq!((code, count), (SUCCESS, 3));
    let mut found = [nvmlGpuInstancePlacement_t {
        start: 99,
        size: 99,
    }; 3];
    count = 0;
    let code = call!(
        nvml,
        nvmlDeviceGetGpuInstancePossiblePlacements_v2(gpu, 14, found.as_mut_ptr(), &raw mut count)
    );
    assert_eq!((code, count), (SUCCESS, 3));
    assert_eq!(
        found.map(|place| (place.start, place.size)),
        [(0, 2), (2, 2), (4, 2)]
    );
    let code = call!(
        nvml,
        nvmlDeviceGetGpuInstancePossiblePlacements(gpu, 14, null, &raw mut count)
    );
    assert_eq!(code, INVALID_ARGUMENT);
}

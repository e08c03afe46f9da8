//! Structs that say their version.

use nvml_wrapper_sys::bindings::{
    nvmlGpuInstanceProfileInfo_v2_t, nvmlGpuInstanceProfileInfo_v3_t, nvmlMemory_v2_t,
    nvmlPciInfoExt_v1_t, nvmlUUID_v1_t, nvmlUUIDValue_t,
};

use crate::library::{
    ARGUMENT_VERSION_MISMATCH, FUNCTION_NOT_FOUND, INVALID_ARGUMENT, Machine, SUCCESS, call,
};

const fn version<T>(number: u32) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "the structs are small")]
    let size = size_of::<T>() as u32;
    size | (number << 24)
}

fn zeroed<T>() -> T {
    // SAFETY: used for C structs of numbers and characters, for which zeros are a value.
    unsafe { std::mem::zeroed() }
}

fn text(characters: &[std::ffi::c_char]) -> String {
    let bytes = characters
        .iter()
        .map(|c| u8::from_ne_bytes(c.to_ne_bytes()));
    String::from_utf8(bytes.take_while(|byte| *byte != 0).collect()).unwrap()
}

#[test]
fn a_profile_is_told_in_versions_two_and_three() {
    let machine = Machine::new(&[("H200-141GB", 1)]);
    let nvml = machine.nvml();
    let gpu = nvml.device(0);
    let mut v2: nvmlGpuInstanceProfileInfo_v2_t = zeroed();
    v2.version = version::<nvmlGpuInstanceProfileInfo_v2_t>(2);
    assert_eq!(
        call!(
            nvml,
            nvmlDeviceGetGpuInstanceProfileInfoV(gpu, 0, &raw mut v2)
        ),
        SUCCESS
    );
    assert_eq!(
        (v2.id, v2.sliceCount, v2.instanceCount, v2.memorySizeMB),
        (19, 1, 7, 16384)
    );
    assert_eq!(text(&v2.name), "MIG 1g.18gb");

    let mut v3: nvmlGpuInstanceProfileInfo_v3_t = zeroed();
    v3.version = version::<nvmlGpuInstanceProfileInfo_v3_t>(3);
    let pointer = (&raw mut v3).cast();
    assert_eq!(
        call!(
            nvml,
            nvmlDeviceGetGpuInstanceProfileInfoByIdV(gpu, 19, pointer)
        ),
        SUCCESS
    );
    assert_eq!(
        (v3.id, v3.sliceCount, v3.instanceCount, v3.memorySizeMB),
        (19, 1, 7, 16384)
    );
}

#[test]
fn a_wrong_version_is_refused_as_each_call_of_the_real_library_refuses_it() {
    let machine = Machine::new(&[("H200-141GB", 1)]);
    let nvml = machine.nvml();
    let gpu = nvml.device(0);
    let mut profile: nvmlGpuInstanceProfileInfo_v2_t = zeroed();
    for wrong in [
        0,
        version::<nvmlGpuInstanceProfileInfo_v2_t>(1),
        0x30 | 1 << 24,
    ] {
        profile.version = wrong;
        let code = call!(
            nvml,
            nvmlDeviceGetGpuInstanceProfileInfoV(gpu, 0, &raw mut profile)
        );
        assert_eq!(code, INVALID_ARGUMENT);
    }
    let mut pci: nvmlPciInfoExt_v1_t = zeroed();
    pci.version = version::<nvmlPciInfoExt_v1_t>(9);
    assert_eq!(
        call!(nvml, nvmlDeviceGetPciInfoExt(gpu, &raw mut pci)),
        ARGUMENT_VERSION_MISMATCH
    );
    let mut memory: nvmlMemory_v2_t = zeroed();
    memory.version = version::<nvmlMemory_v2_t>(9);
    assert_eq!(
        call!(nvml, nvmlDeviceGetMemoryInfo_v2(gpu, &raw mut memory)),
        FUNCTION_NOT_FOUND
    );
    assert_eq!(memory.total, 0);
}

#[test]
fn memory_counts_what_is_reserved_apart_from_version_two_on() {
    let machine = Machine::new(&[("H200-141GB", 1)]);
    let nvml = machine.nvml();
    let gpu = nvml.device(0);
    let mut v2: nvmlMemory_v2_t = zeroed();
    v2.version = version::<nvmlMemory_v2_t>(2);
    assert_eq!(
        call!(nvml, nvmlDeviceGetMemoryInfo_v2(gpu, &raw mut v2)),
        SUCCESS
    );
    assert_eq!((v2.total >> 20, v2.used), (143_771, 0));
    assert_eq!(v2.free + v2.reserved, v2.total);
    let mut v1 = zeroed();
    assert_eq!(
        call!(nvml, nvmlDeviceGetMemoryInfo(gpu, &raw mut v1)),
        SUCCESS
    );
    assert_eq!(
        (v1.total, v1.free, v1.used),
        (v2.total, v2.free, v2.reserved)
    );
}

#[test]
fn a_uuid_struct_finds_a_gpu_by_text_and_by_bytes() {
    let machine = Machine::new(&[("A30", 2)]);
    let nvml = machine.nvml();
    let gpu = nvml.device(1);
    let uuid = nvml.uuid(gpu);
    let mut str_ = [0; 41];
    for (to, from) in str_.iter_mut().zip(uuid.bytes()) {
        *to = std::ffi::c_char::from_ne_bytes([from]);
    }
    let mut wanted = nvmlUUID_v1_t {
        version: version::<nvmlUUID_v1_t>(1),
        type_: 1,
        value: nvmlUUIDValue_t { str_ },
    };
    let find = |wanted: &nvmlUUID_v1_t| {
        let mut device = std::ptr::null_mut();
        let code = call!(
            nvml,
            nvmlDeviceGetHandleByUUIDV(std::ptr::from_ref(wanted), &raw mut device)
        );
        (code, device)
    };
    assert_eq!(find(&wanted), (SUCCESS, gpu));
    let digits = uuid.trim_start_matches("GPU-").replace('-', "");
    wanted.type_ = 2;
    wanted.value.bytes = u128::from_str_radix(&digits, 16).unwrap().to_be_bytes();
    assert_eq!(find(&wanted), (SUCCESS, gpu));
    wanted.version = 0;
    assert_eq!(
        find(&wanted),
        (ARGUMENT_VERSION_MISMATCH, std::ptr::null_mut())
    );
}

#[test]
fn an_old_caller_gets_no_more_than_its_struct_holds() {
    let machine = Machine::new(&[("A30", 1)]);
    let nvml = machine.nvml();
    let gpu = nvml.device(0);
    // Each buffer is larger than the struct of that time; what lies behind it must stay.
    let mut pci = [0x55_u8; 64];
    assert_eq!(
        call!(nvml, nvmlDeviceGetPciInfo(gpu, pci.as_mut_ptr().cast())),
        SUCCESS
    );
    assert_eq!(pci[32..], [0x55; 32]);
    assert_eq!(
        call!(nvml, nvmlDeviceGetPciInfo_v2(gpu, pci.as_mut_ptr().cast())),
        SUCCESS
    );
    assert_eq!(pci[36..], [0x55; 28]);
    assert_eq!(&pci[..13], b"0000:07:00.0\0");

    nvml.enable_mig(gpu);
    let instance = nvml.create(gpu, 0).unwrap();
    let compute = nvml.create_compute(instance, 3).unwrap();
    let mut info = [0x55_u8; 40];
    let code = call!(
        nvml,
        nvmlComputeInstanceGetInfo(compute, info.as_mut_ptr().cast())
    );
    assert_eq!((code, &info[24..]), (SUCCESS, [0x55; 16].as_slice()));
    let mig = nvml.mig_device(gpu, 0).unwrap();
    let mut attributes = [0x55_u8; 40];
    let code = call!(
        nvml,
        nvmlDeviceGetAttributes(mig, attributes.as_mut_ptr().cast())
    );
    assert_eq!((code, &attributes[32..]), (SUCCESS, [0x55; 8].as_slice()));
}

//! Readings, against what an idle H200 answered.

use std::ffi::{CStr, CString};

use nvml_wrapper_sys::bindings::{nvmlFieldValue_t, nvmlPciInfo_t, nvmlReturn_t};

use crate::library::{INVALID_ARGUMENT, Library, Machine, NOT_FOUND, NOT_SUPPORTED, SUCCESS, call};

fn zeroed<T>() -> T {
    // SAFETY: used for C structs of numbers and characters, for which zeros are a value.
    unsafe { std::mem::zeroed() }
}

/// What a call writes into its last argument, a number.
fn number(nvml: &Library, get: impl Fn(&Library, *mut u32) -> nvmlReturn_t) -> Result<u32, u32> {
    let mut value = 0xDEAD;
    match get(nvml, &raw mut value) {
        SUCCESS => Ok(value),
        code => Err(code),
    }
}

#[test]
fn an_idle_h200_reads_as_the_real_one() {
    let machine = Machine::new(&[("H200-141GB", 1)]);
    let nvml = machine.nvml();
    let gpu = nvml.device(0);
    assert_eq!(nvml.name(gpu), "NVIDIA H200");
    macro_rules! reads {
        ($($name:ident($($argument:expr),*) == $expected:expr;)*) => {$(
            let found = number(&nvml, |nvml, out| call!(nvml, $name(gpu, $($argument,)* out)));
            assert_eq!(found, $expected, stringify!($name($($argument),*)));
        )*};
    }
    reads! {
        nvmlDeviceGetBrand() == Ok(14);
        nvmlDeviceGetArchitecture() == Ok(9);
        nvmlDeviceGetNumGpuCores() == Ok(16_896);
        nvmlDeviceGetMemoryBusWidth() == Ok(6016);
        nvmlDeviceGetMaxPcieLinkGeneration() == Ok(5);
        nvmlDeviceGetCurrPcieLinkWidth() == Ok(16);
        nvmlDeviceGetPcieSpeed() == Ok(32_000);
        nvmlDeviceGetClockInfo(0) == Ok(345);
        nvmlDeviceGetClockInfo(2) == Ok(3201);
        nvmlDeviceGetClockInfo(4) == Err(NOT_SUPPORTED);
        nvmlDeviceGetMaxClockInfo(1) == Ok(1980);
        nvmlDeviceGetMaxClockInfo(4) == Err(INVALID_ARGUMENT);
        nvmlDeviceGetApplicationsClock(0) == Ok(1980);
        nvmlDeviceGetTemperature(1) == Err(INVALID_ARGUMENT);
        nvmlDeviceGetTemperatureThreshold(0) == Ok(95);
        nvmlDeviceGetTemperatureThreshold(1) == Ok(89);
        nvmlDeviceGetTemperatureThreshold(2) == Ok(95);
        nvmlDeviceGetTemperatureThreshold(3) == Ok(87);
        nvmlDeviceGetTemperatureThreshold(5) == Err(NOT_SUPPORTED);
        nvmlDeviceGetTemperatureThreshold(8) == Err(INVALID_ARGUMENT);
        nvmlDeviceGetPowerManagementLimit() == Ok(700_000);
        nvmlDeviceGetEnforcedPowerLimit() == Ok(700_000);
        nvmlDeviceGetFanSpeed() == Err(NOT_SUPPORTED);
        nvmlDeviceGetNumFans() == Ok(0);
        nvmlDeviceGetFanSpeed_v2(0) == Err(INVALID_ARGUMENT);
        nvmlDeviceGetPerformanceState() == Ok(0);
        nvmlDeviceGetPersistenceMode() == Ok(1);
        nvmlDeviceGetComputeMode() == Ok(0);
        nvmlDeviceGetNumaNodeId() == Err(NOT_SUPPORTED);
        nvmlDeviceGetNvLinkState(0) == Err(NOT_SUPPORTED);
        nvmlDeviceGetTopologyCommonAncestor(gpu) == Err(NOT_SUPPORTED);
        nvmlDeviceGetRetiredPagesPendingStatus() == Err(NOT_SUPPORTED);
    }
    let (mut current, mut pending) = (9, 9);
    assert_eq!(
        call!(
            nvml,
            nvmlDeviceGetEccMode(gpu, &raw mut current, &raw mut pending)
        ),
        SUCCESS
    );
    assert_eq!((current, pending), (1, 1));
    let version =
        nvml.text(|nvml, buffer, size| call!(nvml, nvmlSystemGetDriverVersion(buffer, size)));
    assert_eq!(version, "580.159.04");
}

#[test]
fn a_gpu_is_found_by_its_pci_address_in_each_usual_form() {
    let machine = Machine::new(&[("A100-40GB", 2)]);
    let nvml = machine.nvml();
    let gpu = nvml.device(1);
    let mut pci: nvmlPciInfo_t = zeroed();
    assert_eq!(
        call!(nvml, nvmlDeviceGetPciInfo_v3(gpu, &raw mut pci)),
        SUCCESS
    );
    assert_eq!(pci.pciDeviceId & 0xFFFF, 0x10DE);
    let find = |text: &CStr| {
        let mut device = std::ptr::null_mut();
        match call!(
            nvml,
            nvmlDeviceGetHandleByPciBusId_v2(text.as_ptr(), &raw mut device)
        ) {
            SUCCESS => Ok(device),
            code => Err(code),
        }
    };
    let bus = pci.bus;
    let forms = [
        format!("00000000:{bus:02X}:00.0"),
        format!("0000:{bus:02x}:00.0"),
        format!("{bus:02x}:00.0"),
        format!("0:{bus:x}:0.0"),
    ];
    for form in forms {
        assert_eq!(
            find(&CString::new(form.clone()).unwrap()),
            Ok(gpu),
            "{form}"
        );
    }
    assert_eq!(find(c"0000:f1:00.0"), Err(NOT_FOUND));
    for junk in [c"junk", c"", c"07:00", c"0000:07:00.1"] {
        assert_eq!(find(junk), Err(INVALID_ARGUMENT), "{junk:?}");
    }
}

#[test]
fn each_field_has_its_own_answer() {
    let machine = Machine::new(&[("H200-141GB", 1)]);
    let nvml = machine.nvml();
    let gpu = nvml.device(0);
    let mut fields: [nvmlFieldValue_t; 4] = [zeroed(), zeroed(), zeroed(), zeroed()];
    // The default power limit, the shutdown margin, nothing, and a field that no board answers.
    for (field, id) in fields.iter_mut().zip([189, 193, 0, 284]) {
        field.fieldId = id;
    }
    assert_eq!(
        call!(nvml, nvmlDeviceGetFieldValues(gpu, 4, fields.as_mut_ptr())),
        SUCCESS
    );
    assert_eq!(
        fields.map(|field| field.nvmlReturn),
        [SUCCESS, SUCCESS, INVALID_ARGUMENT, NOT_SUPPORTED]
    );
    assert_eq!(fields.map(|field| field.valueType)[..2], [1, 5]);
    // SAFETY: the types above say which member was written.
    let (limit, margin) = unsafe { (fields[0].value.uiVal, fields[1].value.siVal) };
    assert_eq!((limit, margin), (700_000, -8));
    assert_eq!(
        call!(nvml, nvmlDeviceGetFieldValues(gpu, 0, fields.as_mut_ptr())),
        INVALID_ARGUMENT
    );
}

#[test]
fn gpus_of_one_half_are_nearer_than_those_of_the_other() {
    let machine = Machine::new(&[("A100-40GB", 8)]);
    let nvml = machine.nvml();
    let level = |one, other| {
        let (one, other) = (nvml.device(one), nvml.device(other));
        number(&nvml, |nvml, out| {
            call!(nvml, nvmlDeviceGetTopologyCommonAncestor(one, other, out))
        })
    };
    assert_eq!((level(0, 3), level(4, 7)), (Ok(40), Ok(40)));
    assert_eq!((level(0, 4), level(3, 7)), (Ok(50), Ok(50)));
    let mut near = [std::ptr::null_mut(); 8];
    let mut count = 8;
    let code = call!(
        nvml,
        nvmlDeviceGetTopologyNearestGpus(nvml.device(1), 40, &raw mut count, near.as_mut_ptr())
    );
    assert_eq!((code, count), (SUCCESS, 3));
    assert_eq!(near[..3], [nvml.device(0), nvml.device(2), nvml.device(3)]);
}

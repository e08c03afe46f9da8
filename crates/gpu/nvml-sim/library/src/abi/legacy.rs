//! Structs of functions without a version suffix, from the headers of their time. The bindings have
//! only their successors.

use std::ffi::{c_char, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlGpuInstance_t};

/// `nvmlPciInfo_t` of `nvmlDeviceGetPciInfo`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PciInfoV1 {
    pub(crate) bus_id: [c_char; 16],
    pub(crate) domain: c_uint,
    pub(crate) bus: c_uint,
    pub(crate) device: c_uint,
    pub(crate) pci_device_id: c_uint,
}

/// `nvmlPciInfo_t` of `nvmlDeviceGetPciInfo_v2`, up to its reserved fields, which the real driver
/// does not write.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PciInfoV2 {
    pub(crate) v1: PciInfoV1,
    pub(crate) pci_subsystem_id: c_uint,
}

/// `nvmlEventData_t` of `nvmlEventSetWait`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct EventDataV1 {
    pub(crate) device: nvmlDevice_t,
    pub(crate) event_type: c_ulonglong,
    pub(crate) event_data: c_ulonglong,
}

/// `nvmlDeviceAttributes_t` of `nvmlDeviceGetAttributes`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct AttributesV1 {
    pub(crate) multiprocessor_count: c_uint,
    pub(crate) shared_copy_engine_count: c_uint,
    pub(crate) shared_decoder_count: c_uint,
    pub(crate) shared_encoder_count: c_uint,
    pub(crate) shared_jpeg_count: c_uint,
    pub(crate) shared_ofa_count: c_uint,
    pub(crate) memory_size_mb: c_ulonglong,
}

/// `nvmlComputeInstanceInfo_t` of `nvmlComputeInstanceGetInfo`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ComputeInstanceInfoV1 {
    pub(crate) device: nvmlDevice_t,
    pub(crate) gpu_instance: nvmlGpuInstance_t,
    pub(crate) id: c_uint,
    pub(crate) profile_id: c_uint,
}

// The sizes are part of the ABI: a wrong one would write past the caller's struct.
const _: () = {
    assert!(size_of::<PciInfoV1>() == 32);
    assert!(size_of::<PciInfoV2>() == 36);
    assert!(size_of::<EventDataV1>() == 24);
    assert!(size_of::<AttributesV1>() == 32);
    assert!(size_of::<ComputeInstanceInfoV1>() == 24);
};

//! MIG devices: compute instances as devices.

use std::ffi::c_uint;

use nvml_sim::driver::{Device, device, mig_device};
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlDeviceAttributes_t};

use crate::abi::Out;
use crate::abi::legacy::AttributesV1;
use crate::handle::DeviceHandle;

nvml! {
    fn nvmlDeviceIsMigDeviceHandle(handle: DeviceHandle, is_mig: Out<c_uint>) read |state, _| {
        let found = handle.get()?;
        device::resolve(state, found)?;
        is_mig.set(c_uint::from(matches!(found, Device::Mig(_))))
    }

    fn nvmlDeviceGetMaxMigDeviceCount(handle: DeviceHandle, count: Out<c_uint>) read |state, _| {
        count.set(mig_device::max_count(state, handle.get()?)?)
    }

    fn nvmlDeviceGetMigDeviceHandleByIndex(
        handle: DeviceHandle,
        index: c_uint,
        out: Out<nvmlDevice_t>,
    ) read |state, view| {
        out.check()?;
        out.set(DeviceHandle::raw(mig_device::by_index(state, view, handle.get()?, index)?))
    }

    fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(
        handle: DeviceHandle,
        out: Out<nvmlDevice_t>,
    ) read |state, _| {
        out.set(DeviceHandle::raw(mig_device::parent(state, handle.get()?)?))
    }

    fn nvmlDeviceGetGpuInstanceId(handle: DeviceHandle, id: Out<c_uint>) read |state, _| {
        id.set(mig_device::gpu_instance_id(state, handle.get()?)?)
    }

    fn nvmlDeviceGetComputeInstanceId(handle: DeviceHandle, id: Out<c_uint>) read |state, _| {
        id.set(mig_device::compute_instance_id(state, handle.get()?)?)
    }

    fn nvmlDeviceGetAttributes_v2(
        handle: DeviceHandle,
        attributes: Out<nvmlDeviceAttributes_t>,
    ) read |state, _| {
        let found = mig_device::attributes(state, handle.get()?)?;
        attributes.set(nvmlDeviceAttributes_t {
            multiprocessorCount: found.multiprocessors,
            sharedCopyEngineCount: found.shared_copy_engines,
            sharedDecoderCount: found.shared_decoders,
            sharedEncoderCount: found.shared_encoders,
            sharedJpegCount: found.shared_jpeg_engines,
            sharedOfaCount: found.shared_ofa_engines,
            gpuInstanceSliceCount: found.gpu_instance_slices,
            computeInstanceSliceCount: found.compute_instance_slices,
            memorySizeMB: found.memory_mib,
        })
    }

    fn nvmlDeviceGetAttributes(
        handle: DeviceHandle,
        attributes: Out<AttributesV1>,
    ) read |state, _| {
        let found = mig_device::attributes(state, handle.get()?)?;
        attributes.set(AttributesV1 {
            multiprocessor_count: found.multiprocessors,
            shared_copy_engine_count: found.shared_copy_engines,
            shared_decoder_count: found.shared_decoders,
            shared_encoder_count: found.shared_encoders,
            shared_jpeg_count: found.shared_jpeg_engines,
            shared_ofa_count: found.shared_ofa_engines,
            memory_size_mb: found.memory_mib,
        })
    }
}

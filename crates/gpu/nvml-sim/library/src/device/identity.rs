//! What a device is called, and what kind of board it is.

use std::ffi::{c_int, c_uint};

use nvml_sim::Return;
use nvml_sim::driver::{device, status};
use nvml_wrapper_sys::bindings::{
    NVML_BUS_TYPE_PCIE, NVML_DEVICE_ARCH_AMPERE, NVML_DEVICE_ARCH_BLACKWELL,
    NVML_DEVICE_ARCH_HOPPER, nvmlBrandType_enum_NVML_BRAND_NVIDIA, nvmlPdi_v1_t,
};

use crate::abi::{Out, Text, expect_version};
use crate::handle::DeviceHandle;

nvml! {
    fn nvmlDeviceGetName(handle: DeviceHandle, name: Text, length: c_uint) read |state, _| {
        name.set(length, &device::name(state, handle.get()?)?)
    }

    fn nvmlDeviceGetUUID(handle: DeviceHandle, uuid: Text, length: c_uint) read |state, _| {
        uuid.set(length, &device::uuid(state, handle.get()?)?)
    }

    fn nvmlDeviceGetSerial(handle: DeviceHandle, serial: Text, length: c_uint) read |state, _| {
        serial.set(length, &device::serial(state, handle.get()?)?)
    }

    fn nvmlDeviceGetIndex(handle: DeviceHandle, index: Out<c_uint>) read |state, view| {
        index.set(device::index(state, view, handle.get()?)?)
    }

    fn nvmlDeviceGetMinorNumber(handle: DeviceHandle, minor: Out<c_uint>) read |state, _| {
        minor.set(device::minor(state, handle.get()?)?)
    }

    /// NVIDIA's own data centre boards, as seen on an H200.
    fn nvmlDeviceGetBrand(handle: DeviceHandle, brand: Out<c_uint>) read |state, _| {
        device::resolve(state, handle.get()?)?;
        brand.set(nvmlBrandType_enum_NVML_BRAND_NVIDIA)
    }

    fn nvmlDeviceGetArchitecture(handle: DeviceHandle, architecture: Out<c_uint>) read |state, _| {
        use nvml_sim::state::SimArchitecture::{Ampere, Blackwell, Hopper};
        architecture.set(match status::architecture(state, handle.get()?)? {
            Ampere => NVML_DEVICE_ARCH_AMPERE,
            Hopper => NVML_DEVICE_ARCH_HOPPER,
            Blackwell => NVML_DEVICE_ARCH_BLACKWELL,
        })
    }

    fn nvmlDeviceGetCudaComputeCapability(
        handle: DeviceHandle,
        major: Out<c_int>,
        minor: Out<c_int>,
    ) read |state, _| {
        let capability = status::compute_capability(state, handle.get()?)?;
        minor.check()?;
        major.set(capability.0)?;
        minor.set(capability.1)
    }

    /// The PCI bus and device, as an H200 answers.
    fn nvmlDeviceGetBoardId(handle: DeviceHandle, id: Out<c_uint>) read |state, _| {
        handle.get()?.physical()?;
        let address = status::pci(state, handle.get()?)?.address;
        id.set((address.domain << 16) | (address.bus << 8) | address.device)
    }

    fn nvmlDeviceGetMultiGpuBoard(handle: DeviceHandle, multiple: Out<c_uint>) read |state, _| {
        status::readings(state, handle.get()?)?;
        multiple.set(0)
    }

    fn nvmlDeviceGetBoardPartNumber(
        handle: DeviceHandle,
        number: Text,
        length: c_uint,
    ) read |state, _| {
        number.set(length, &status::readings(state, handle.get()?)?.part_number)
    }

    fn nvmlDeviceGetVbiosVersion(
        handle: DeviceHandle,
        version: Text,
        length: c_uint,
    ) read |state, _| {
        version.set(length, &status::readings(state, handle.get()?)?.vbios_version)
    }

    fn nvmlDeviceGetModuleId(handle: DeviceHandle, id: Out<c_uint>) read |state, _| {
        id.set(device::minor(state, handle.get()?)? + 1)
    }

    fn nvmlDeviceGetNumGpuCores(handle: DeviceHandle, cores: Out<c_uint>) read |state, _| {
        cores.set(status::readings(state, handle.get()?)?.cores)
    }

    fn nvmlDeviceGetBusType(handle: DeviceHandle, bus: Out<c_uint>) read |state, _| {
        status::readings(state, handle.get()?)?;
        bus.set(NVML_BUS_TYPE_PCIE)
    }

    /// A number that is the same each time: half of the UUID.
    fn nvmlDeviceGetPdi(handle: DeviceHandle, pdi: Out<nvmlPdi_v1_t>) read |state, _| {
        let version = pdi.version()?;
        expect_version::<nvmlPdi_v1_t>(version, 1)?;
        let gpu = state.gpu(handle.get()?.physical()?)?;
        pdi.set(nvmlPdi_v1_t { version, value: gpu.uuid.as_u64_pair().1 })
    }

    /// The image follows the board part number, as on an H200.
    fn nvmlDeviceGetInforomImageVersion(
        handle: DeviceHandle,
        version: Text,
        length: c_uint,
    ) read |state, _| {
        let mut parts = status::readings(state, handle.get()?)?.part_number.split('-').skip(1);
        let (Some(board), Some(sku)) = (parts.next(), parts.next()) else {
            return Err(Return::NOT_SUPPORTED);
        };
        let board = board.trim_start_matches(|c: char| c.is_ascii_digit());
        version.set(length, &format!("{board}.{sku}.02.02"))
    }

    /// OEM and ECC objects as an H200 has them; the others it does not have.
    fn nvmlDeviceGetInforomVersion(
        handle: DeviceHandle,
        object: c_uint,
        version: Text,
        length: c_uint,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        match object {
            0 => version.set(length, "2.1"),
            1 => version.set(length, "7.16"),
            2 | 3 => Err(Return::NOT_SUPPORTED),
            _ => Err(Return::INVALID_ARGUMENT),
        }
    }

    fn nvmlDeviceGetInforomConfigurationChecksum(
        handle: DeviceHandle,
        checksum: Out<c_uint>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        checksum.set(0)
    }

    /// Has no length argument: its buffer is `NVML_GSP_FIRMWARE_VERSION_BUF_SIZE` long, and filled
    /// up with zeros.
    fn nvmlDeviceGetGspFirmwareVersion(
        handle: DeviceHandle,
        version: Out<[std::ffi::c_char; 64]>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        version.set(crate::abi::chars(&state.driver_version))
    }

    fn nvmlDeviceGetGspFirmwareMode(
        handle: DeviceHandle,
        enabled: Out<c_uint>,
        default: Out<c_uint>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        default.check()?;
        enabled.set(1)?;
        default.set(1)
    }
}

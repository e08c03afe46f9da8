//! Enumeration: from an index, UUID, serial number or PCI address to a device.

use std::ffi::{CStr, c_uint};
use std::fmt::Write;

use nvml_sim::capability::View;
use nvml_sim::driver::{Device, device};
use nvml_sim::{Return, State};
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlUUID_v1_t};

use crate::abi::{In, Out, TextIn, expect_version};
use crate::handle::DeviceHandle;

/// `NVML_UUID_TYPE_ASCII`.
const UUID_ASCII: c_uint = 1;
/// `NVML_UUID_TYPE_BINARY`.
const UUID_BINARY: c_uint = 2;

nvml! {
    fn nvmlDeviceGetCount_v2(count: Out<c_uint>) read |state, view| {
        count.set(device::count(state, view))
    }

    fn nvmlDeviceGetCount(count: Out<c_uint>) read |state, view| {
        count.set(device::count(state, view))
    }

    fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, out: Out<nvmlDevice_t>) read |state, view| {
        out.set(DeviceHandle::raw(device::by_index(state, view, index)?))
    }

    fn nvmlDeviceGetHandleByIndex(index: c_uint, out: Out<nvmlDevice_t>) read |state, view| {
        out.set(DeviceHandle::raw(device::by_index(state, view, index)?))
    }

    /// Takes `GPU-...`, `MIG-...` and, as the real driver, a GPU's UUID without its prefix.
    fn nvmlDeviceGetHandleByUUID(uuid: TextIn, out: Out<nvmlDevice_t>) read |state, view| {
        out.check()?;
        out.set(DeviceHandle::raw(by_uuid(state, view, uuid.get()?)?))
    }

    fn nvmlDeviceGetHandleByUUIDV(
        uuid: In<nvmlUUID_v1_t>,
        out: Out<nvmlDevice_t>,
    ) read |state, view| {
        out.check()?;
        expect_version::<nvmlUUID_v1_t>(uuid.version()?, 1)?;
        let text = uuid_text(&uuid.get()?)?;
        out.set(DeviceHandle::raw(by_uuid(state, view, &text)?))
    }

    fn nvmlDeviceGetHandleBySerial(serial: TextIn, out: Out<nvmlDevice_t>) read |state, view| {
        out.check()?;
        out.set(DeviceHandle::raw(device::by_serial(state, view, serial.get()?)?))
    }

    fn nvmlDeviceGetHandleByPciBusId_v2(bus_id: TextIn, out: Out<nvmlDevice_t>) read |state, view| {
        out.check()?;
        out.set(DeviceHandle::raw(device::by_pci_bus_id(state, view, bus_id.get()?)?))
    }

    fn nvmlDeviceGetHandleByPciBusId(bus_id: TextIn, out: Out<nvmlDevice_t>) read |state, view| {
        out.check()?;
        out.set(DeviceHandle::raw(device::by_pci_bus_id(state, view, bus_id.get()?)?))
    }
}

fn by_uuid(state: &State, view: &View, text: &str) -> Result<Device, Return> {
    if text.starts_with("GPU-") || text.starts_with("MIG-") {
        device::by_uuid(state, view, text)
    } else if text.is_empty() {
        Err(Return::NOT_FOUND)
    } else {
        device::by_uuid(state, view, &format!("GPU-{text}"))
    }
}

/// A UUID as text. The binary form has no room for a prefix and names a GPU.
fn uuid_text(uuid: &nvmlUUID_v1_t) -> Result<String, Return> {
    // SAFETY: both members are arrays of bytes, for which any bits are a value, and the whole union
    // was read from the caller.
    let (text, bytes) = unsafe { (uuid.value.str_, uuid.value.bytes) };
    match uuid.type_ {
        UUID_ASCII => {
            let text = text.map(|c| u8::from_ne_bytes(c.to_ne_bytes()));
            let text = CStr::from_bytes_until_nul(&text).map_err(|_| Return::INVALID_ARGUMENT)?;
            Ok(text.to_str().map_err(|_| Return::NOT_FOUND)?.to_owned())
        }
        UUID_BINARY => {
            let mut text = String::from("GPU");
            for (index, byte) in bytes.iter().enumerate() {
                let dash = if matches!(index, 0 | 4 | 6 | 8 | 10) {
                    "-"
                } else {
                    ""
                };
                // Writing to a string cannot fail.
                let _ = write!(text, "{dash}{byte:02x}");
            }
            Ok(text)
        }
        _ => Err(Return::INVALID_ARGUMENT),
    }
}

#[cfg(test)]
mod tests {
    use nvml_wrapper_sys::bindings::nvmlUUIDValue_t;

    use super::*;
    use crate::abi::chars;

    #[test]
    fn a_uuid_is_read_from_text_and_from_bytes() {
        let text = "GPU-d3b4fd7f-ec8a-97a0-22b1-7c0a278b9ee2";
        let mut uuid = nvmlUUID_v1_t {
            version: 0,
            type_: UUID_ASCII,
            value: nvmlUUIDValue_t { str_: chars(text) },
        };
        assert_eq!(uuid_text(&uuid).as_deref(), Ok(text));
        let bytes = 0xd3b4_fd7f_ec8a_97a0_22b1_7c0a_278b_9ee2_u128.to_be_bytes();
        uuid.value.bytes = bytes;
        uuid.type_ = UUID_BINARY;
        assert_eq!(uuid_text(&uuid).as_deref(), Ok(text));
        uuid.type_ = 3;
        assert_eq!(uuid_text(&uuid), Err(Return::INVALID_ARGUMENT));
    }
}

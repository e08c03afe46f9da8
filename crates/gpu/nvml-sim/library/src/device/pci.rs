//! PCI identity and link.

use std::ffi::c_uint;

use nvml_sim::Return;
use nvml_sim::driver::status::{self, Pci};
use nvml_wrapper_sys::bindings::{nvmlPciInfo_t, nvmlPciInfoExt_v1_t};

use crate::abi::legacy::{PciInfoV1, PciInfoV2};
use crate::abi::{Out, chars, expect_version};
use crate::handle::DeviceHandle;

/// The legacy bus id's format has four digits for the domain.
fn v1(pci: Pci) -> PciInfoV1 {
    PciInfoV1 {
        bus_id: chars(&pci.address.short_bus_id()),
        domain: pci.address.domain,
        bus: pci.address.bus,
        device: pci.address.device,
        pci_device_id: pci.device_id,
    }
}

/// Megatransfers per second of one lane, and `NVML_PCIE_LINK_MAX_SPEED_*` is the generation itself.
fn lane_speed(generation: c_uint) -> c_uint {
    match generation {
        0 => 0,
        1 => 2500,
        2 => 5000,
        generation => 8000 << generation.saturating_sub(3).min(8),
    }
}

nvml! {
    fn nvmlDeviceGetPciInfo(handle: DeviceHandle, info: Out<PciInfoV1>) read |state, _| {
        info.set(v1(status::pci(state, handle.get()?)?))
    }

    fn nvmlDeviceGetPciInfo_v2(handle: DeviceHandle, info: Out<PciInfoV2>) read |state, _| {
        let pci = status::pci(state, handle.get()?)?;
        info.set(PciInfoV2 { v1: v1(pci), pci_subsystem_id: pci.subsystem_id })
    }

    fn nvmlDeviceGetPciInfo_v3(handle: DeviceHandle, info: Out<nvmlPciInfo_t>) read |state, _| {
        let pci = status::pci(state, handle.get()?)?;
        let old = v1(pci);
        info.set(nvmlPciInfo_t {
            busIdLegacy: old.bus_id,
            domain: old.domain,
            bus: old.bus,
            device: old.device,
            pciDeviceId: old.pci_device_id,
            pciSubSystemId: pci.subsystem_id,
            busId: chars(&pci.address.bus_id()),
        })
    }

    fn nvmlDeviceGetPciInfoExt(
        handle: DeviceHandle,
        info: Out<nvmlPciInfoExt_v1_t>,
    ) read |state, _| {
        let version = info.version()?;
        expect_version::<nvmlPciInfoExt_v1_t>(version, 1)?;
        let pci = status::pci(state, handle.get()?)?;
        info.set(nvmlPciInfoExt_v1_t {
            version,
            domain: pci.address.domain,
            bus: pci.address.bus,
            device: pci.address.device,
            pciDeviceId: pci.device_id,
            pciSubSystemId: pci.subsystem_id,
            baseClass: pci.base_class,
            subClass: pci.sub_class,
            busId: chars(&pci.address.bus_id()),
        })
    }

    fn nvmlDeviceGetMaxPcieLinkGeneration(
        handle: DeviceHandle,
        generation: Out<c_uint>,
    ) read |state, _| {
        generation.set(status::readings(state, handle.get()?)?.pcie_generation)
    }

    fn nvmlDeviceGetGpuMaxPcieLinkGeneration(
        handle: DeviceHandle,
        generation: Out<c_uint>,
    ) read |state, _| {
        generation.set(status::readings(state, handle.get()?)?.pcie_generation)
    }

    fn nvmlDeviceGetCurrPcieLinkGeneration(
        handle: DeviceHandle,
        generation: Out<c_uint>,
    ) read |state, _| {
        generation.set(status::readings(state, handle.get()?)?.pcie_generation)
    }

    fn nvmlDeviceGetMaxPcieLinkWidth(handle: DeviceHandle, width: Out<c_uint>) read |state, _| {
        width.set(status::readings(state, handle.get()?)?.pcie_width)
    }

    fn nvmlDeviceGetCurrPcieLinkWidth(handle: DeviceHandle, width: Out<c_uint>) read |state, _| {
        width.set(status::readings(state, handle.get()?)?.pcie_width)
    }

    fn nvmlDeviceGetPcieLinkMaxSpeed(handle: DeviceHandle, speed: Out<c_uint>) read |state, _| {
        speed.set(status::readings(state, handle.get()?)?.pcie_generation)
    }

    fn nvmlDeviceGetPcieSpeed(handle: DeviceHandle, speed: Out<c_uint>) read |state, _| {
        speed.set(lane_speed(status::readings(state, handle.get()?)?.pcie_generation))
    }

    fn nvmlDeviceGetPcieReplayCounter(handle: DeviceHandle, count: Out<c_uint>) read |state, _| {
        status::readings(state, handle.get()?)?;
        count.set(0)
    }

    /// Nothing moves over a simulated bus.
    fn nvmlDeviceGetPcieThroughput(
        handle: DeviceHandle,
        counter: c_uint,
        value: Out<c_uint>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        if counter > 1 {
            return Err(Return::INVALID_ARGUMENT);
        }
        value.set(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lanes_speed_doubles_from_the_third_generation_on() {
        assert_eq!(
            [1, 3, 4, 5, 6].map(lane_speed),
            [2500, 8000, 16000, 32000, 64000]
        );
    }
}

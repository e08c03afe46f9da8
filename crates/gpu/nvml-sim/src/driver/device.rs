//! Enumeration and identity: which GPUs there are, and what they are called.
#![allow(
    clippy::missing_errors_doc,
    reason = "the codes are NVML's; see the module `driver` and each text"
)]

use crate::capability::View;
use crate::code::Return;
use crate::driver::{ComputeInstanceRef, Device, mig_device};
use crate::state::{SimBoard, SimGpu, State};

/// How many GPUs this process sees.
#[must_use]
pub fn count(state: &State, view: &View) -> u32 {
    u32::try_from(visible(state, view).count()).unwrap_or(u32::MAX)
}

/// The GPU at this index among those that this process sees. `INVALID_ARGUMENT` out of range, `GPU_IS_LOST` when lost.
pub fn by_index(state: &State, view: &View, index: u32) -> Result<Device, Return> {
    let gpu = visible(state, view)
        .nth(index as usize)
        .ok_or(Return::INVALID_ARGUMENT)?;
    state.gpu(gpu.minor)?;
    Ok(Device::Gpu(gpu.minor))
}

/// The GPU or MIG device with this UUID, `GPU-...` or `MIG-...`. `NOT_FOUND` when there is none that this process sees,
/// and for every other text. Case counts, as seen on an H200.
pub fn by_uuid(state: &State, view: &View, uuid: &str) -> Result<Device, Return> {
    if let Some(text) = uuid.strip_prefix("GPU-") {
        let gpu = visible(state, view)
            .find(|gpu| gpu.uuid.to_string() == text)
            .ok_or(Return::NOT_FOUND)?;
        state.gpu(gpu.minor)?;
        Ok(Device::Gpu(gpu.minor))
    } else if uuid.starts_with("MIG-") {
        mig_device::by_uuid(state, view, uuid).map(Device::Mig)
    } else {
        Err(Return::NOT_FOUND)
    }
}

/// The GPU with this serial number. `NOT_FOUND` when there is none that this process sees.
pub fn by_serial(state: &State, view: &View, serial: &str) -> Result<Device, Return> {
    let gpu = visible(state, view)
        .find(|gpu| gpu.serial == serial)
        .ok_or(Return::NOT_FOUND)?;
    state.gpu(gpu.minor)?;
    Ok(Device::Gpu(gpu.minor))
}

/// The GPU with this PCI bus id, `00000000:07:00.0`, `0000:07:00.0` or `07:00.0`, in any case. `NOT_FOUND` when
/// there is none that this process sees; `INVALID_ARGUMENT` for a text that is no bus id.
pub fn by_pci_bus_id(state: &State, view: &View, bus_id: &str) -> Result<Device, Return> {
    let wanted = parse_bus_id(bus_id).ok_or(Return::INVALID_ARGUMENT)?;
    let gpu = visible(state, view)
        .find(|gpu| (gpu.pci.domain, gpu.pci.bus, gpu.pci.device) == wanted)
        .ok_or(Return::NOT_FOUND)?;
    state.gpu(gpu.minor)?;
    Ok(Device::Gpu(gpu.minor))
}

/// The index that [`by_index`] takes; for a MIG device its index among its GPU's.
pub fn index(state: &State, view: &View, device: Device) -> Result<u32, Return> {
    match device {
        Device::Gpu(gpu) => {
            state.gpu(gpu)?;
            let position = visible(state, view).position(|found| found.minor == gpu);
            position
                .and_then(|index| u32::try_from(index).ok())
                .ok_or(Return::NOT_FOUND)
        }
        Device::Mig(instance) => mig_device::index(state, view, instance),
    }
}

/// The GPU that a device is, or is a part of, and its board. Checks that a MIG device still exists.
pub fn resolve(state: &State, device: Device) -> Result<(&SimGpu, &SimBoard), Return> {
    let gpu = state.gpu(device.gpu())?;
    if let Device::Mig(ComputeInstanceRef { gpu_instance, id }) = device {
        gpu.instance(gpu_instance.id)?.compute(id)?;
    }
    Ok((gpu, state.board(gpu)?))
}

/// The product name; for a MIG device with its profile, `NVIDIA A100-SXM4-40GB MIG 1g.5gb`.
pub fn name(state: &State, device: Device) -> Result<String, Return> {
    let (_, board) = resolve(state, device)?;
    match device {
        Device::Gpu(_) => Ok(board.product_name.clone()),
        Device::Mig(instance) => {
            let profile = mig_device::profile_name(state, instance)?;
            Ok(format!("{} MIG {profile}", board.product_name))
        }
    }
}

/// The UUID, `GPU-...` or `MIG-...`.
pub fn uuid(state: &State, device: Device) -> Result<String, Return> {
    let (gpu, _) = resolve(state, device)?;
    match device {
        Device::Gpu(_) => Ok(gpu.uuid_text()),
        Device::Mig(instance) => mig_device::uuid(state, instance),
    }
}

/// The serial number of a GPU; it says that it is simulated. `NOT_SUPPORTED` for a MIG device.
pub fn serial(state: &State, device: Device) -> Result<String, Return> {
    Ok(state.gpu(device.physical()?)?.serial.clone())
}

/// The minor number of a GPU. `NOT_SUPPORTED` for a MIG device.
pub fn minor(state: &State, device: Device) -> Result<u32, Return> {
    Ok(state.gpu(device.physical()?)?.minor)
}

fn visible<'a>(state: &'a State, view: &'a View) -> impl Iterator<Item = &'a SimGpu> {
    state.gpus.iter().filter(|gpu| view.gpu(gpu.minor))
}

fn parse_bus_id(text: &str) -> Option<(u32, u32, u32)> {
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    let (address, function) = text.rsplit_once('.')?;
    if hex(function)? != 0 {
        return None;
    }
    let (rest, device) = address.rsplit_once(':')?;
    let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
    Some((hex(domain)?, hex(bus)?, hex(device)?))
}

//! Readings: memory, utilisation, power, temperature, clocks, errors, PCI, topology. All of them are simulated; the H200's are
//! what a real idle one answered.
#![allow(
    clippy::missing_errors_doc,
    reason = "the codes are NVML's; see the module `driver` and each text"
)]

use crate::code::Return;
use crate::driver::{Device, device, gpu_instance, processes};
use crate::state::{EccCounts, PciAddress, Readings, SimArchitecture, State};

const MIB: u64 = 1 << 20;

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of it, with what is reserved.
    pub total: u64,
    /// Reserved by the driver.
    pub reserved: u64,
    /// Free.
    pub free: u64,
    /// Used by processes, without what is reserved. Version 1 of the C structure counts both as used.
    pub used: u64,
}

/// Utilisation in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utilization {
    /// The GPU.
    pub gpu: u32,
    /// Its memory.
    pub memory: u32,
}

/// PCI identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pci {
    /// Where it is.
    pub address: PciAddress,
    /// PCI device and vendor, `0x20B010DE`.
    pub device_id: u32,
    /// PCI subsystem device and vendor.
    pub subsystem_id: u32,
    /// Base class (3, display controller).
    pub base_class: u32,
    /// Subclass (2, 3D controller).
    pub sub_class: u32,
}

/// `nvmlClockType_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// `NVML_CLOCK_GRAPHICS`, 0.
    Graphics,
    /// `NVML_CLOCK_SM`, 1.
    Sm,
    /// `NVML_CLOCK_MEM`, 2.
    Memory,
    /// `NVML_CLOCK_VIDEO`, 3.
    Video,
}

/// `nvmlTemperatureThresholds_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemperatureThreshold {
    /// `NVML_TEMPERATURE_THRESHOLD_SHUTDOWN`, 0.
    Shutdown,
    /// `NVML_TEMPERATURE_THRESHOLD_SLOWDOWN`, 1.
    Slowdown,
    /// `NVML_TEMPERATURE_THRESHOLD_MEM_MAX`, 2.
    MemoryMax,
    /// `NVML_TEMPERATURE_THRESHOLD_GPU_MAX`, 3.
    GpuMax,
}

/// How two GPUs are connected (`nvmlGpuTopologyLevel_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum TopologyLevel {
    /// The same board.
    Internal = 0,
    /// Under one host bridge of the same NUMA node.
    Node = 40,
    /// Across NUMA nodes.
    System = 50,
}

impl Clock {
    /// The clock of this number. `INVALID_ARGUMENT` for another.
    pub fn from_number(number: u32) -> Result<Clock, Return> {
        [Clock::Graphics, Clock::Sm, Clock::Memory, Clock::Video]
            .get(number as usize)
            .copied()
            .ok_or(Return::INVALID_ARGUMENT)
    }
}

impl TemperatureThreshold {
    /// The threshold of this number. `NOT_SUPPORTED` for those that these boards don't have.
    pub fn from_number(number: u32) -> Result<TemperatureThreshold, Return> {
        use TemperatureThreshold::{GpuMax, MemoryMax, Shutdown, Slowdown};
        let known = [Shutdown, Slowdown, MemoryMax, GpuMax];
        known
            .get(number as usize)
            .copied()
            .ok_or(Return::NOT_SUPPORTED)
    }
}

/// Memory of a GPU or of a MIG device (that of its GPU instance).
pub fn memory(state: &State, device: Device) -> Result<Memory, Return> {
    let (_, board) = device::resolve(state, device)?;
    let (total, reserved) = match device {
        Device::Gpu(_) => (board.memory_mib, board.reserved_mib),
        Device::Mig(instance) => (
            gpu_instance::profile_of(state, instance.gpu_instance)?.memory_mib,
            0,
        ),
    };
    let used = processes::alive(state)
        .filter(|process| match device {
            Device::Gpu(gpu) => process.gpu == gpu,
            // Compute instances share the memory of their GPU instance.
            Device::Mig(instance) => {
                process.gpu == instance.gpu_instance.gpu
                    && process.gpu_instance == Some(instance.gpu_instance.id)
            }
        })
        .map(|process| process.memory_mib)
        .fold(0, u64::saturating_add)
        .min(total - reserved.min(total));
    Ok(Memory {
        total: total * MIB,
        reserved: reserved * MIB,
        free: total.saturating_sub(reserved).saturating_sub(used) * MIB,
        used: used * MIB,
    })
}

/// BAR1 memory of a GPU in bytes: total and used. `NOT_SUPPORTED` for a MIG device.
pub fn bar1_memory(state: &State, device: Device) -> Result<(u64, u64), Return> {
    Ok((readings(state, device)?.bar1_mib * MIB, MIB))
}

/// Utilisation of a GPU. `NOT_SUPPORTED` in MIG mode and for a MIG device, as NVML documents.
pub fn utilization(state: &State, device: Device) -> Result<Utilization, Return> {
    let gpu = state.gpu(device.physical()?)?;
    if gpu.mig_current {
        return Err(Return::NOT_SUPPORTED);
    }
    let busy = processes::alive(state)
        .filter(|process| process.gpu == gpu.minor)
        .map(|process| process.utilization)
        .fold(0_u32, u32::saturating_add)
        .min(100);
    Ok(Utilization {
        gpu: busy,
        memory: busy / 2,
    })
}

/// Power draw of a GPU in milliwatts: idle, and up to the limit by how busy its processes keep it.
pub fn power_draw(state: &State, device: Device) -> Result<u32, Return> {
    let readings = readings(state, device)?;
    let busy = busy(state, device.gpu());
    let range = readings
        .power_limit_mw
        .saturating_sub(readings.idle_power_mw);
    Ok(readings.idle_power_mw + range / 100 * busy)
}

/// Power limit of a GPU in milliwatts: default, lowest, highest. The limit in force is the default.
pub fn power_limits(state: &State, device: Device) -> Result<(u32, u32, u32), Return> {
    let readings = readings(state, device)?;
    Ok((
        readings.power_limit_mw,
        readings.power_min_mw,
        readings.power_max_mw,
    ))
}

/// Temperature of a GPU in degrees Celsius.
pub fn temperature(state: &State, device: Device) -> Result<u32, Return> {
    let readings = readings(state, device)?;
    Ok(readings.idle_temperature_c + busy(state, device.gpu()) * 2 / 5)
}

/// Temperature of a GPU's memory in degrees Celsius.
pub fn memory_temperature(state: &State, device: Device) -> Result<u32, Return> {
    let readings = readings(state, device)?;
    Ok(readings.idle_memory_temperature_c + busy(state, device.gpu()) * 2 / 5)
}

/// A threshold in degrees Celsius.
pub fn temperature_threshold(
    state: &State,
    device: Device,
    threshold: TemperatureThreshold,
) -> Result<u32, Return> {
    let readings = readings(state, device)?;
    Ok(match threshold {
        // The memory's is the same on an H200.
        TemperatureThreshold::Shutdown | TemperatureThreshold::MemoryMax => {
            readings.shutdown_temperature_c
        }
        TemperatureThreshold::Slowdown => readings.slowdown_temperature_c,
        TemperatureThreshold::GpuMax => readings.max_operating_temperature_c,
    })
}

/// A clock in MHz, as it is now: high while a process is busy.
pub fn clock(state: &State, device: Device, clock: Clock) -> Result<u32, Return> {
    let readings = readings(state, device)?;
    let idle = busy(state, device.gpu()) == 0;
    Ok(match clock {
        Clock::Memory => readings.memory_mhz,
        Clock::Graphics | Clock::Sm if idle => readings.idle_sm_mhz,
        Clock::Graphics | Clock::Sm => readings.max_sm_mhz,
        Clock::Video if idle => readings.idle_video_mhz,
        Clock::Video => readings.max_video_mhz,
    })
}

/// The highest clock in MHz.
pub fn max_clock(state: &State, device: Device, clock: Clock) -> Result<u32, Return> {
    let readings = readings(state, device)?;
    Ok(match clock {
        Clock::Memory => readings.memory_mhz,
        Clock::Graphics | Clock::Sm => readings.max_sm_mhz,
        Clock::Video => readings.max_video_mhz,
    })
}

/// ECC errors of a GPU: since the boot, and since the board was made. ECC is always on.
pub fn ecc(state: &State, device: Device) -> Result<(EccCounts, EccCounts), Return> {
    let gpu = state.gpu(device.physical()?)?;
    Ok((gpu.ecc_volatile, gpu.ecc_aggregate))
}

/// PCI identity of a GPU. A MIG device answers with its GPU's, as the real library does.
pub fn pci(state: &State, device: Device) -> Result<Pci, Return> {
    let (gpu, board) = device::resolve(state, device)?;
    Ok(Pci {
        address: gpu.pci,
        device_id: board.pci_device_id,
        subsystem_id: board.pci_subsystem_id,
        base_class: 3,
        sub_class: 2,
    })
}

/// CUDA compute capability, major and minor.
pub fn compute_capability(state: &State, device: Device) -> Result<(i32, i32), Return> {
    Ok(device::resolve(state, device)?.1.compute_capability)
}

/// The architecture.
pub fn architecture(state: &State, device: Device) -> Result<SimArchitecture, Return> {
    Ok(device::resolve(state, device)?.1.architecture)
}

/// The board's constants, for what has no function of its own here. `NOT_SUPPORTED` for a MIG device.
pub fn readings(state: &State, device: Device) -> Result<&Readings, Return> {
    let gpu = state.gpu(device.physical()?)?;
    Ok(&state.board(gpu)?.readings)
}

/// How two GPUs are connected: the first half of the GPUs is on one NUMA node, the second on another.
/// `NOT_SUPPORTED` for MIG devices.
pub fn topology(state: &State, one: Device, other: Device) -> Result<TopologyLevel, Return> {
    let (one, other) = (one.physical()?, other.physical()?);
    state.gpu(one)?;
    state.gpu(other)?;
    if one == other {
        return Ok(TopologyLevel::Internal);
    }
    let node = |gpu: u32| gpu as usize * 2 / state.gpus.len().max(1);
    Ok(if node(one) == node(other) {
        TopologyLevel::Node
    } else {
        TopologyLevel::System
    })
}

fn busy(state: &State, gpu: u32) -> u32 {
    let on_gpu = processes::alive(state).filter(|process| process.gpu == gpu);
    on_gpu
        .map(|process| process.utilization)
        .fold(0_u32, u32::saturating_add)
        .min(100)
}

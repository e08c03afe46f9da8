//! What a GPU feels like right now: temperature, power, clocks, memory in use.

use nvml_wrapper_sys::bindings as sys;
use serde::{Deserialize, Serialize};

use crate::calls::{Answer, Device};
use crate::{Error, GpuUuid, MigUuid, Nvml};

/// Live readings of a GPU; `None` where the GPU, its mode or the driver does not have one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuStatus {
    /// Temperature of the GPU in degrees Celsius.
    pub temperature: Option<u32>,
    /// Fan speed in percent.
    pub fan: Option<u32>,
    /// Power draw in milliwatts.
    pub power: Option<u32>,
    /// Enforced power limit in milliwatts.
    pub power_limit: Option<u32>,
    /// GPU utilisation in percent; MIG mode has none.
    pub gpu_utilization: Option<u32>,
    /// Utilisation of the memory interface in percent; MIG mode has none.
    pub memory_utilization: Option<u32>,
    /// Graphics clock in MHz.
    pub graphics_clock: Option<u32>,
    /// Clock of the multiprocessors in MHz.
    pub sm_clock: Option<u32>,
    /// Memory clock in MHz.
    pub memory_clock: Option<u32>,
    /// Clock of the video engines in MHz.
    pub video_clock: Option<u32>,
    /// Memory of the GPU.
    pub memory: Option<Memory>,
    /// Performance state, 0 (most) to 15.
    pub performance_state: Option<u32>,
    /// Whether the driver stays initialised without a client.
    pub persistence: Option<bool>,
    /// Whether a display is driven.
    pub display_active: Option<bool>,
    /// Who may compute.
    pub compute_mode: Option<ComputeMode>,
    /// ECC mode.
    pub ecc: Option<EccMode>,
    /// Uncorrected ECC errors since the driver was loaded.
    pub volatile_uncorrected_errors: Option<u64>,
    /// Version of the video BIOS.
    pub vbios: Option<String>,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What the driver keeps for itself, where it tells.
    pub reserved: Option<u64>,
    /// What is left.
    pub free: u64,
    /// What is in use.
    pub used: u64,
    /// In use and all of the BAR1 window, where there is one.
    pub bar1: Option<(u64, u64)>,
}

/// ECC mode of a GPU. They differ while a reset is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EccMode {
    /// On now.
    pub current: bool,
    /// On after the next reset.
    pub pending: bool,
}

/// Who may compute on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ComputeMode {
    /// Any number of processes.
    Default,
    /// One thread (no longer supported by NVIDIA).
    ExclusiveThread,
    /// No process.
    Prohibited,
    /// One process.
    ExclusiveProcess,
}

impl Nvml {
    /// Live readings of a GPU, each as far as it is there.
    #[must_use]
    pub fn status(&self, gpu: &GpuUuid) -> GpuStatus {
        let calls = &self.session.calls;
        let Ok(device) = self.session.device(gpu) else {
            return GpuStatus::default();
        };
        let clock = |kind| calls.clock(device, kind).ok();
        let (gpu_utilization, memory_utilization) = calls.utilization(device).ok().unzip();
        GpuStatus {
            temperature: calls.temperature(device).ok(),
            fan: calls.fan_speed(device).ok(),
            power: calls.power_usage(device).ok(),
            power_limit: calls
                .enforced_power_limit(device)
                .or_else(|_| calls.power_management_limit(device))
                .ok(),
            gpu_utilization,
            memory_utilization,
            graphics_clock: clock(sys::nvmlClockType_enum_NVML_CLOCK_GRAPHICS),
            sm_clock: clock(sys::nvmlClockType_enum_NVML_CLOCK_SM),
            memory_clock: clock(sys::nvmlClockType_enum_NVML_CLOCK_MEM),
            video_clock: clock(sys::nvmlClockType_enum_NVML_CLOCK_VIDEO),
            memory: self.memory_of(device).ok(),
            // 32 is NVML's "unknown".
            performance_state: calls
                .performance_state(device)
                .ok()
                .filter(|state| *state <= 15),
            persistence: calls.persistence_mode(device).ok().map(|state| state != 0),
            display_active: calls.display_active(device).ok().map(|state| state != 0),
            compute_mode: calls.compute_mode(device).ok().and_then(|mode| match mode {
                0 => Some(ComputeMode::Default),
                1 => Some(ComputeMode::ExclusiveThread),
                2 => Some(ComputeMode::Prohibited),
                3 => Some(ComputeMode::ExclusiveProcess),
                _ => None,
            }),
            ecc: calls
                .ecc_mode(device)
                .ok()
                .map(|(current, pending)| EccMode { current, pending }),
            volatile_uncorrected_errors: calls.volatile_uncorrected_errors(device).ok(),
            vbios: calls.vbios_version(device).ok(),
        }
    }

    /// Memory of a MIG device, shared by the compute instances of its GPU instance.
    ///
    /// # Errors
    /// [`Error::Call`] with `NOT_FOUND` where the device is gone or hidden from this process.
    pub fn mig_device_memory(&self, uuid: &MigUuid) -> Result<Memory, Error> {
        let calls = &self.session.calls;
        calls
            .device_by_uuid(uuid.as_str())
            .and_then(|device| self.memory_of(device))
            .map_err(|failure| calls.error(failure, None))
    }

    fn memory_of(&self, device: Device) -> Answer<Memory> {
        let calls = &self.session.calls;
        let info = calls.memory_info(device)?;
        Ok(Memory {
            total: info.total,
            reserved: info.reserved,
            free: info.free,
            used: info.used,
            bar1: calls.bar1_memory(device).ok(),
        })
    }
}

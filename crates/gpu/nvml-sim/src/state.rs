//! What the simulated driver knows: plain data that every process of a driver root shares through the [store](crate::store).
//!
//! GPUs are addressed by their position in [`State::gpus`], which is also their minor number. Memory is in MiB, power in
//! milliwatts, clocks in MHz, temperatures in degrees Celsius.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::code::Return;

/// Version of the encoding below. It changes with every change of these types.
pub const STATE_VERSION: u32 = 1;

/// How many events are kept for those who wait for them.
pub const EVENT_RING: usize = 256;

/// Everything that the driver of one machine knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Random identity of the driver root; every UUID is derived from it.
    pub root_id: Uuid,
    /// How often the node was booted, from 1.
    pub boots: u64,
    /// The driver's version, `580.159.04`.
    pub driver_version: String,
    /// The library's version, `13.580.159.04`.
    pub nvml_version: String,
    /// CUDA's version as NVML writes it: 13000 is 13.0.
    pub cuda_version: i32,
    /// The kinds of board in this machine.
    pub boards: Vec<SimBoard>,
    /// The GPUs by minor number.
    pub gpus: Vec<SimGpu>,
    /// Processes that use a GPU; those that have ended are filtered out when read.
    pub processes: Vec<SimProcess>,
    /// Faults that act on calls.
    pub faults: Vec<ArmedFault>,
    /// Number for the next fault.
    pub next_fault: u64,
    /// The last [`EVENT_RING`] events, oldest first.
    pub events: VecDeque<SimEvent>,
    /// Number of the next event.
    pub next_event: u64,
    /// Every call's name is appended to `sim/calls`.
    pub record_calls: bool,
}

/// NVML's architecture numbers (`NVML_DEVICE_ARCH_*`) of boards that have MIG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u32)]
pub enum SimArchitecture {
    /// A100, A30.
    Ampere = 7,
    /// H100, H200, H20, GH200.
    Hopper = 9,
    /// B200, B300, RTX PRO 6000.
    Blackwell = 10,
}

/// What all GPUs of one kind have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimBoard {
    /// The name in migpool's data, `A100-40GB`.
    pub name: String,
    /// What `nvmlDeviceGetName` answers, `NVIDIA A100-SXM4-40GB`.
    pub product_name: String,
    /// Its architecture.
    pub architecture: SimArchitecture,
    /// CUDA compute capability, `(8, 0)`.
    pub compute_capability: (i32, i32),
    /// PCI device and vendor, `0x20B010DE`.
    pub pci_device_id: u32,
    /// PCI subsystem device and vendor.
    pub pci_subsystem_id: u32,
    /// Memory in MiB, with what the driver reserves.
    pub memory_mib: u64,
    /// Memory that the driver reserves, in MiB.
    pub reserved_mib: u64,
    /// Memory units that placements count in: 8, 4 or 12.
    pub memory_units: u8,
    /// Compute slices: 7 or 4.
    pub compute_slices: u8,
    /// A change of MIG mode needs a GPU reset (Ampere).
    pub mode_change_needs_reset: bool,
    /// GPU instance profiles, in the order of `nvidia-smi mig -lgip`.
    pub profiles: Vec<SimProfile>,
    /// Readings that are the same for every GPU of the board.
    pub readings: Readings,
    /// Memory sizes or engine counts were assumed because no published value is known.
    pub assumed: bool,
}

/// A GPU instance profile as the driver reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimProfile {
    /// The GPU instance profile ID, 19 for 1g on an A100.
    pub id: u32,
    /// `NVML_GPU_INSTANCE_PROFILE_*`, 0 for 1g.
    pub nvml_enum: u32,
    /// Its name without `MIG`, `1g.5gb+me`.
    pub name: String,
    /// Compute slices.
    pub slices: u8,
    /// Memory units.
    pub size: u8,
    /// Legal starts in memory units, ascending.
    pub starts: Vec<u8>,
    /// How many instances an empty GPU takes.
    pub max_instances: u8,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Copy engines.
    pub copy_engines: u32,
    /// Decoders.
    pub decoders: u32,
    /// Encoders.
    pub encoders: u32,
    /// JPEG engines.
    pub jpeg_engines: u32,
    /// Optical flow engines.
    pub ofa_engines: u32,
    /// `NVML_GPU_INSTANCE_PROFILE_CAPS_*`: 1 peer to peer, 2 graphics.
    pub capabilities: u32,
    /// A number above was not in the data and is scaled from the board's other profiles.
    pub assumed: bool,
}

/// Constants of a board's sensors. Only the H200's are measured; the others are plausible figures for an idle board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readings {
    /// Idle power draw in milliwatts.
    pub idle_power_mw: u32,
    /// Power limit in force, which is also the default, in milliwatts.
    pub power_limit_mw: u32,
    /// Lowest power limit that can be set, in milliwatts.
    pub power_min_mw: u32,
    /// Highest power limit that can be set, in milliwatts.
    pub power_max_mw: u32,
    /// Temperature when idle.
    pub idle_temperature_c: u32,
    /// Temperature at which clocks are reduced.
    pub slowdown_temperature_c: u32,
    /// Temperature at which the GPU shuts down.
    pub shutdown_temperature_c: u32,
    /// Highest temperature in normal operation.
    pub max_operating_temperature_c: u32,
    /// Temperature of the memory when idle.
    pub idle_memory_temperature_c: u32,
    /// SM and graphics clock when idle.
    pub idle_sm_mhz: u32,
    /// Highest SM and graphics clock.
    pub max_sm_mhz: u32,
    /// Memory clock.
    pub memory_mhz: u32,
    /// Video clock when idle.
    pub idle_video_mhz: u32,
    /// Highest video clock.
    pub max_video_mhz: u32,
    /// BAR1 size in MiB.
    pub bar1_mib: u64,
    /// Generation of its PCI Express link.
    pub pcie_generation: u32,
    /// Lanes of its PCI Express link.
    pub pcie_width: u32,
    /// Width of the memory bus in bits.
    pub memory_bus_bits: u32,
    /// CUDA cores of the whole board.
    pub cores: u32,
    /// Number of its `NVLink` links.
    pub nvlinks: u32,
    /// VBIOS version.
    pub vbios_version: String,
    /// Board part number.
    pub part_number: String,
}

/// One GPU.
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts that NVML reports one by one"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimGpu {
    /// Index into [`State::boards`].
    pub board: u32,
    /// Number of `/dev/nvidia<minor>`; its position in [`State::gpus`].
    pub minor: u32,
    /// The 128 bits behind `GPU-...`.
    pub uuid: Uuid,
    /// A serial number that says that it is simulated.
    pub serial: String,
    /// Where it is on the PCI bus.
    pub pci: PciAddress,
    /// MIG mode now.
    pub mig_current: bool,
    /// MIG mode after the next reset.
    pub mig_pending: bool,
    /// The machine is a guest that cannot reset this GPU (pass-through, as on Azure).
    pub pass_through: bool,
    /// The GPU has fallen off the bus.
    pub lost: bool,
    /// Errors since the last boot.
    pub ecc_volatile: EccCounts,
    /// Errors since the board was made.
    pub ecc_aggregate: EccCounts,
    /// GPU instances, by id.
    pub instances: Vec<SimGpuInstance>,
}

/// A PCI address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciAddress {
    /// PCI domain.
    pub domain: u32,
    /// PCI bus.
    pub bus: u32,
    /// PCI device.
    pub device: u32,
}

/// Counts of ECC errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EccCounts {
    /// Corrected, single bit.
    pub single: u64,
    /// Uncorrected, double bit.
    pub double: u64,
}

/// A GPU instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimGpuInstance {
    /// GPU instance ID.
    pub id: u32,
    /// GPU instance profile ID.
    pub profile_id: u32,
    /// Start in memory units.
    pub start: u8,
    /// Size in memory units.
    pub size: u8,
    /// Compute instances, by id.
    pub compute_instances: Vec<SimComputeInstance>,
}

/// A compute instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimComputeInstance {
    /// Compute instance ID.
    pub id: u32,
    /// Compute instance profile ID (equal to `NVML_COMPUTE_INSTANCE_PROFILE_*`).
    pub profile_id: u32,
    /// Start in compute slices of its GPU instance.
    pub start: u8,
    /// Size in compute slices.
    pub size: u8,
}

/// A process on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimProcess {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot, so that another process with this pid is not taken for it.
    pub started: u64,
    /// Name of its program.
    pub name: String,
    /// GPU, by minor number.
    pub gpu: u32,
    /// GPU instance, where the GPU is in MIG mode.
    pub gpu_instance: Option<u32>,
    /// Compute instance, where the GPU is in MIG mode.
    pub compute_instance: Option<u32>,
    /// Device memory that it uses, in MiB.
    pub memory_mib: u64,
    /// How busy it keeps its GPU, in percent.
    pub utilization: u32,
}

/// Something that goes wrong on demand. Calls are named as in `nvml.h`; `*` is every call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// An XID error: an event for those who wait.
    Xid {
        /// GPU, by minor number.
        gpu: u32,
        /// The XID.
        xid: u64,
        /// GPU instance that it happened on.
        gpu_instance: Option<u32>,
        /// Compute instance that it happened on.
        compute_instance: Option<u32>,
    },
    /// The GPU falls off the bus (XID 79): every call on it answers `GPU_IS_LOST` until the faults are cleared or the
    /// node boots.
    GpuLost {
        /// GPU, by minor number.
        gpu: u32,
    },
    /// ECC errors: counted, and an event.
    Ecc {
        /// GPU, by minor number.
        gpu: u32,
        /// Uncorrected, double bit; else corrected, single bit.
        double: bool,
        /// How many.
        count: u64,
        /// GPU instance that they happened on.
        gpu_instance: Option<u32>,
        /// Compute instance that they happened on.
        compute_instance: Option<u32>,
    },
    /// The next calls fail.
    CallFails {
        /// Name of the call.
        call: String,
        /// How often.
        times: u32,
        /// What it answers.
        code: Return,
    },
    /// Every such call takes longer, until the faults are cleared.
    Delay {
        /// Name of the call.
        call: String,
        /// By how much, in milliseconds.
        milliseconds: u32,
    },
    /// The process that makes the call is killed.
    Abort {
        /// Name of the call.
        call: String,
        /// Which of them, from now on; 1 is the next.
        nth: u32,
        /// Before or after it had its effect.
        moment: Moment,
    },
}

/// When [`Fault::Abort`] strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moment {
    /// Before the call has its effect.
    Before,
    /// After the call has its effect, before its caller learns of it.
    After,
}

/// A fault that waits for calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmedFault {
    /// Its number in this root.
    pub id: u64,
    /// What happens. Its `times` and `nth` count down.
    pub fault: Fault,
}

/// Something that happened to a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimEvent {
    /// Its number in this root.
    pub sequence: u64,
    /// GPU, by minor number.
    pub gpu: u32,
    /// `nvmlEventType*`.
    pub kind: u64,
    /// The XID; 0 for other kinds.
    pub data: u64,
    /// GPU instance that it happened on.
    pub gpu_instance: Option<u32>,
    /// Compute instance that it happened on.
    pub compute_instance: Option<u32>,
}

impl State {
    /// The GPU with this minor number.
    ///
    /// # Errors
    /// [`Return::INVALID_ARGUMENT`] when there is none, [`Return::GPU_IS_LOST`] when it has fallen off the bus.
    pub fn gpu(&self, gpu: u32) -> Result<&SimGpu, Return> {
        let gpu = self
            .gpus
            .get(gpu as usize)
            .ok_or(Return::INVALID_ARGUMENT)?;
        if gpu.lost {
            Err(Return::GPU_IS_LOST)
        } else {
            Ok(gpu)
        }
    }

    /// As [`State::gpu`], to change it.
    ///
    /// # Errors
    /// As [`State::gpu`].
    pub fn gpu_mut(&mut self, gpu: u32) -> Result<&mut SimGpu, Return> {
        let gpu = self
            .gpus
            .get_mut(gpu as usize)
            .ok_or(Return::INVALID_ARGUMENT)?;
        if gpu.lost {
            Err(Return::GPU_IS_LOST)
        } else {
            Ok(gpu)
        }
    }

    /// The board of a GPU.
    ///
    /// # Errors
    /// [`Return::UNKNOWN`] when the state names a board that it does not have.
    pub fn board(&self, gpu: &SimGpu) -> Result<&SimBoard, Return> {
        self.boards.get(gpu.board as usize).ok_or(Return::UNKNOWN)
    }

    /// Adds an event and forgets the oldest when there are too many.
    pub fn push_event(
        &mut self,
        gpu: u32,
        kind: u64,
        data: u64,
        gpu_instance: Option<u32>,
        compute_instance: Option<u32>,
    ) {
        let sequence = self.next_event;
        self.next_event += 1;
        self.events.push_back(SimEvent {
            sequence,
            gpu,
            kind,
            data,
            gpu_instance,
            compute_instance,
        });
        while self.events.len() > EVENT_RING {
            self.events.pop_front();
        }
    }
}

impl SimBoard {
    /// The profile with this GPU instance profile ID.
    #[must_use]
    pub fn profile(&self, id: u32) -> Option<&SimProfile> {
        self.profiles.iter().find(|profile| profile.id == id)
    }

    /// The profile that takes the whole board.
    #[must_use]
    pub fn whole(&self) -> Option<&SimProfile> {
        self.profiles
            .iter()
            .filter(|profile| profile.size == self.memory_units)
            .max_by_key(|p| p.slices)
    }
}

impl SimGpu {
    /// The UUID as NVML writes it, `GPU-48aeb943-...`.
    #[must_use]
    pub fn uuid_text(&self) -> String {
        format!("GPU-{}", self.uuid)
    }

    /// The GPU instance with this id.
    ///
    /// # Errors
    /// [`Return::NOT_FOUND`] when there is none.
    pub fn instance(&self, id: u32) -> Result<&SimGpuInstance, Return> {
        self.instances
            .iter()
            .find(|instance| instance.id == id)
            .ok_or(Return::NOT_FOUND)
    }
}

impl SimGpuInstance {
    /// The compute instance with this id.
    ///
    /// # Errors
    /// [`Return::NOT_FOUND`] when there is none.
    pub fn compute(&self, id: u32) -> Result<&SimComputeInstance, Return> {
        self.compute_instances
            .iter()
            .find(|instance| instance.id == id)
            .ok_or(Return::NOT_FOUND)
    }
}

impl PciAddress {
    /// NVML's long form, `00000000:07:00.0`.
    #[must_use]
    pub fn bus_id(self) -> String {
        format!("{:08X}:{:02X}:{:02X}.0", self.domain, self.bus, self.device)
    }

    /// NVML's legacy form and sysfs's, with a domain of four digits: `0000:07:00.0`.
    #[must_use]
    pub fn short_bus_id(self) -> String {
        format!("{:04X}:{:02X}:{:02X}.0", self.domain, self.bus, self.device)
    }
}

impl Fault {
    /// The call that the fault waits for; nothing for a fault that happens at once.
    #[must_use]
    pub fn call(&self) -> Option<&str> {
        match self {
            Fault::CallFails { call, .. }
            | Fault::Delay { call, .. }
            | Fault::Abort { call, .. } => Some(call),
            Fault::Xid { .. } | Fault::GpuLost { .. } | Fault::Ecc { .. } => None,
        }
    }
}

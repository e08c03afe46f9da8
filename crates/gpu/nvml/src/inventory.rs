//! What a node's GPUs are at one moment, as plain data.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use mig::{Board, MigProfile, Placement, Profile};
use serde::{Deserialize, Serialize};

use crate::{GpuUuid, MigUuid};

/// One snapshot of the node's GPUs. Two equal snapshots mean that nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The driver root that the library was loaded from, as this process sees it; empty where none was loaded.
    #[serde(default)]
    pub driver_root: PathBuf,
    /// Version of the kernel driver, "580.159.04".
    pub driver_version: String,
    /// Version of the NVML library, "13.580.159.04".
    pub nvml_version: String,
    /// The newest CUDA version that the driver supports.
    pub cuda_version: CudaVersion,
    /// The GPUs that answered, in the order of their index.
    pub gpus: Vec<Gpu>,
    /// The GPUs that did not; they never hide the others.
    pub failed: Vec<FailedGpu>,
}

/// A CUDA version, as `13.0`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct CudaVersion {
    /// 13 of 13.0.
    pub major: u32,
    /// 0 of 13.0.
    pub minor: u32,
}

impl CudaVersion {
    /// From NVML's one number, 1000 x major + 10 x minor.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        Self {
            major: number / 1000,
            minor: number % 1000 / 10,
        }
    }
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A GPU that could not be read, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedGpu {
    /// NVML's index of the GPU.
    pub index: u32,
    /// Its UUID, where the driver still told it.
    pub uuid: Option<GpuUuid>,
    /// What failed, with NVML's code and what to do.
    pub reason: String,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// NVML's index: the order of PCI addresses among the GPUs that this process sees.
    pub index: u32,
    /// The GPU's UUID.
    pub uuid: GpuUuid,
    /// Product name, "NVIDIA A100-SXM4-40GB".
    pub name: String,
    /// The board's serial number, where it has one.
    pub serial: Option<String>,
    /// PCI address, "00000000:00:06.0".
    pub pci_bus_id: String,
    /// PCI device and vendor id as NVML gives them: `0x2335_10DE`, device in the upper half.
    pub pci_device_id: u32,
    /// PCI base class and subclass, `0x0302`, where the library can tell.
    pub pci_class: Option<u16>,
    /// Minor number of `/dev/nvidia<minor>`.
    pub minor: u32,
    /// Total memory in MiB, as `nvidia-smi` shows it.
    pub memory_mib: u64,
    /// CUDA compute capability, (8, 0) on an A100.
    pub compute_capability: (u8, u8),
    /// MIG mode; `None` where the GPU has no MIG.
    pub mig: Option<MigMode>,
    /// Profiles and placements as this driver reports them (not as a table remembers them); no profiles without MIG.
    pub board: Arc<Board>,
    /// True when the driver let this process list every GPU instance. False for a process without the permission: then
    /// `instances` holds only those whose MIG devices it sees, and a `placement` may be the lowest legal one.
    pub instances_complete: bool,
    /// GPU instances in the order of their id.
    pub instances: Vec<GpuInstance>,
}

impl Gpu {
    /// True when MIG mode is on now.
    #[must_use]
    pub fn mig_enabled(&self) -> bool {
        self.mig.is_some_and(|mode| mode.current)
    }

    /// The GPU instance of this id.
    #[must_use]
    pub fn instance(&self, id: u32) -> Option<&GpuInstance> {
        self.instances.iter().find(|instance| instance.id == id)
    }

    /// Every MIG device of this GPU that this process sees, with the instances that hold it.
    pub fn mig_devices(&self) -> impl Iterator<Item = MigDeviceEntry<'_>> {
        self.instances.iter().flat_map(move |gpu_instance| {
            gpu_instance
                .compute_instances
                .iter()
                .filter_map(move |compute_instance| {
                    let device = compute_instance.device.as_ref()?;
                    Some(MigDeviceEntry {
                        gpu: self,
                        gpu_instance,
                        compute_instance,
                        device,
                    })
                })
        })
    }
}

/// MIG mode of a GPU. They differ while a reset or a reboot is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MigMode {
    /// On now.
    pub current: bool,
    /// On after the next reset.
    pub pending: bool,
}

/// A GPU instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuInstance {
    /// The driver's id, unique within the GPU.
    pub id: u32,
    /// Its profile, "3g.20gb".
    pub profile: Profile,
    /// The driver's id of that profile, 9 for 3g on most boards.
    pub profile_id: u32,
    /// Where it lies, in memory units.
    pub placement: Placement,
    /// Minor number of its capability device, `/dev/nvidia-caps/nvidia-cap<minor>`.
    pub capability_minor: Option<u32>,
    /// Its compute instances in the order of their id.
    pub compute_instances: Vec<ComputeInstance>,
}

/// A compute instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeInstance {
    /// The driver's id, unique within the GPU instance.
    pub id: u32,
    /// The driver's id of its profile.
    pub profile_id: u32,
    /// Its compute slices.
    pub slices: u8,
    /// Where it lies among the GPU instance's compute slices.
    pub placement: Placement,
    /// Minor number of its capability device.
    pub capability_minor: Option<u32>,
    /// The MIG device that work sees, unless it is hidden from this process.
    pub device: Option<MigDevice>,
}

/// A MIG device: what work runs on, a compute instance in its GPU instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigDevice {
    /// Index among the MIG devices of the GPU.
    pub index: u32,
    /// Its UUID.
    pub uuid: MigUuid,
    /// What it is called: "3g.20gb", "1c.3g.20gb".
    pub profile: MigProfile,
    /// Memory of its GPU instance in MiB.
    pub memory_mib: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Copy engines, shared within the GPU instance.
    pub copy_engines: u32,
    /// Decoders, shared within the GPU instance.
    pub decoders: u32,
    /// Encoders, shared within the GPU instance.
    pub encoders: u32,
    /// JPEG engines, shared within the GPU instance.
    pub jpeg: u32,
    /// Optical flow engines, shared within the GPU instance.
    pub ofa: u32,
    /// Compute slices of its GPU instance.
    pub gpu_instance_slices: u32,
    /// Compute slices of its compute instance.
    pub compute_instance_slices: u32,
}

/// A MIG device together with everything that it lies in.
#[derive(Debug, Clone, Copy)]
pub struct MigDeviceEntry<'a> {
    /// The GPU.
    pub gpu: &'a Gpu,
    /// The GPU instance.
    pub gpu_instance: &'a GpuInstance,
    /// The compute instance.
    pub compute_instance: &'a ComputeInstance,
    /// The device.
    pub device: &'a MigDevice,
}

impl Inventory {
    /// Every MIG device that this process sees, GPU by GPU.
    pub fn mig_devices(&self) -> impl Iterator<Item = MigDeviceEntry<'_>> {
        self.gpus.iter().flat_map(Gpu::mig_devices)
    }

    /// The GPU of this UUID.
    #[must_use]
    pub fn gpu(&self, uuid: &GpuUuid) -> Option<&Gpu> {
        self.gpus.iter().find(|gpu| gpu.uuid == *uuid)
    }

    /// The GPU of this index.
    #[must_use]
    pub fn gpu_at(&self, index: u32) -> Option<&Gpu> {
        self.gpus.iter().find(|gpu| gpu.index == index)
    }
}

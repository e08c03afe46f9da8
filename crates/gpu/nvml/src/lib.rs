//! Safe, owned access to NVML, the one door to a GPU.
//!
//! [`Nvml::load`] finds `libnvidia-ml.so.1` under a driver root at run time and keeps it initialised for as long as a
//! clone of the value lives. [`Nvml::inventory`] answers with one [`Inventory`]: every GPU, its MIG mode, its GPU
//! instances, compute instances and MIG devices, as plain owned data that anyone may keep, compare and print. What
//! cannot change while a GPU stays in its slot (its name, its board's profiles and placements) is asked once and kept.
//! The lifecycle of instances is a handful of methods that name a GPU by its [`GpuUuid`]; [`EventSet`] waits for what
//! the driver has to report. Every failure is an [`Error`] that names the call, the GPU and NVML's own code.
//!
//! `library` finds and loads, `calls` is the only caller of C, `board` and `snapshot` read, `lifecycle`
//! changes, `events`, `processes` and `status` watch.

mod board;
mod calls;
mod capabilities;
mod error;
mod events;
mod inventory;
mod library;
mod lifecycle;
mod nvml;
mod processes;
mod profiles;
mod return_code;
mod snapshot;
mod status;
mod uuid;

pub use error::{Error, GpuLabel};
pub use events::{Event, EventSet};
pub use inventory::{
    ComputeInstance, CudaVersion, FailedGpu, Gpu, GpuInstance, Inventory, MigDevice,
    MigDeviceEntry, MigMode,
};
pub use lifecycle::MigModeOutcome;
pub use nvml::Nvml;
pub use processes::{GpuProcess, ProcessKind};
pub use profiles::{ComputeInstanceProfile, GpuInstanceProfile};
pub use return_code::ReturnCode;
pub use status::{ComputeMode, EccMode, GpuStatus, Memory};
pub use uuid::{GpuUuid, InvalidUuid, MigUuid};

//! A root in words, for people and for programs.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::capability::{compute_instance_minor, gpu_instance_minor};
use crate::code::Return;
use crate::device_file::DeviceFiles;
use crate::driver::{ComputeInstanceRef, GpuInstanceRef, mig_device};
use crate::state::{Fault, SimGpu, SimGpuInstance, State};

/// The GPUs, their instances and the faults, and that all of it is simulated. Its text is for people; serialised it is for
/// programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    /// The root's folder.
    pub root: PathBuf,
    /// Always true: nothing here is hardware.
    pub simulated: bool,
    /// The driver's version.
    pub driver_version: String,
    /// How often the node was booted, from 1.
    pub boots: u64,
    /// Whether the device files are device nodes.
    pub device_nodes: bool,
    /// The GPUs by minor number.
    pub gpus: Vec<Gpu>,
    /// The faults that wait for calls.
    pub faults: Vec<WaitingFault>,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gpu {
    /// The number of `/dev/nvidia<minor>`.
    pub minor: u32,
    /// `GPU-...`.
    pub uuid: String,
    /// `NVIDIA A100-SXM4-40GB`.
    pub product: String,
    /// A serial number that says that it is simulated.
    pub serial: String,
    /// MIG mode now.
    pub mig: bool,
    /// MIG mode after the next reset or boot.
    pub mig_pending: bool,
    /// It has fallen off the bus.
    pub lost: bool,
    /// The GPU instances.
    pub gpu_instances: Vec<GpuInstance>,
}

/// A GPU instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuInstance {
    /// Its ID.
    pub id: u32,
    /// `3g.20gb`.
    pub profile: String,
    /// Its start in memory units.
    pub start: u8,
    /// Its size in memory units.
    pub size: u8,
    /// The number of its capability's device file.
    pub capability: u32,
    /// The compute instances.
    pub compute_instances: Vec<ComputeInstance>,
}

/// A compute instance, which is a MIG device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComputeInstance {
    /// Its ID.
    pub id: u32,
    /// `MIG-...`.
    pub uuid: String,
    /// The number of its capability's device file.
    pub capability: u32,
}

/// A fault that waits for calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaitingFault {
    /// Its number in this root.
    pub id: u64,
    /// What happens.
    pub fault: Fault,
}

impl Description {
    pub(super) fn of(root: &Path, state: &State) -> Result<Description, Return> {
        // What a lost GPU holds is described too, and only a GPU that answers tells its devices' UUIDs.
        let mut found = state.clone();
        for gpu in &mut found.gpus {
            gpu.lost = false;
        }
        let gpus = state.gpus.iter().map(|gpu| describe_gpu(&found, gpu));
        let faults = state.faults.iter().map(|armed| WaitingFault {
            id: armed.id,
            fault: armed.fault.clone(),
        });
        Ok(Description {
            root: root.to_owned(),
            simulated: true,
            driver_version: state.driver_version.clone(),
            boots: state.boots,
            device_nodes: DeviceFiles::of(root) == DeviceFiles::Nodes,
            gpus: gpus.collect::<Result<_, _>>()?,
            faults: faults.collect(),
        })
    }
}

fn describe_gpu(state: &State, gpu: &SimGpu) -> Result<Gpu, Return> {
    let instances = gpu
        .instances
        .iter()
        .map(|gi| describe_instance(state, gpu, gi));
    Ok(Gpu {
        minor: gpu.minor,
        uuid: gpu.uuid_text(),
        product: state.board(gpu)?.product_name.clone(),
        serial: gpu.serial.clone(),
        mig: gpu.mig_current,
        mig_pending: gpu.mig_pending,
        lost: gpu.lost,
        gpu_instances: instances.collect::<Result<_, _>>()?,
    })
}

fn describe_instance(
    state: &State,
    gpu: &SimGpu,
    gi: &SimGpuInstance,
) -> Result<GpuInstance, Return> {
    let gpu_instance = GpuInstanceRef {
        gpu: gpu.minor,
        id: gi.id,
    };
    let compute = gi.compute_instances.iter().map(|ci| {
        let id = ci.id;
        Ok::<_, Return>(ComputeInstance {
            id,
            uuid: mig_device::uuid(state, ComputeInstanceRef { gpu_instance, id })?,
            capability: compute_instance_minor(gpu.minor, gi.id, id),
        })
    });
    let profile = state.board(gpu)?.profile(gi.profile_id);
    Ok(GpuInstance {
        id: gi.id,
        profile: profile.ok_or(Return::UNKNOWN)?.name.clone(),
        start: gi.start,
        size: gi.size,
        capability: gpu_instance_minor(gpu.minor, gi.id),
        compute_instances: compute.collect::<Result<_, _>>()?,
    })
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Simulated driver {} in {}\nNothing here is hardware. Booted {} time(s).",
            self.driver_version,
            self.root.display(),
            self.boots
        )?;
        if self.device_nodes {
            writeln!(
                f,
                "Its device files are device nodes with the numbers of /dev/null."
            )?;
        }
        for gpu in &self.gpus {
            write!(f, "{gpu}")?;
        }
        for waiting in &self.faults {
            writeln!(f, "Fault {}: {:?}", waiting.id, waiting.fault)?;
        }
        Ok(())
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = |on: bool| if on { "on" } else { "off" };
        write!(
            f,
            "GPU {}: {} ({}, {}) MIG {}",
            self.minor,
            self.product,
            self.uuid,
            self.serial,
            mode(self.mig)
        )?;
        if self.mig != self.mig_pending {
            write!(f, ", {} after the next boot", mode(self.mig_pending))?;
        }
        writeln!(f, "{}", if self.lost { ", LOST" } else { "" })?;
        for gi in &self.gpu_instances {
            let compute: Vec<_> = gi
                .compute_instances
                .iter()
                .map(|ci| format!("{} ({})", ci.id, ci.uuid))
                .collect();
            let compute = match compute.as_slice() {
                [] => "none".to_owned(),
                some => some.join(", "),
            };
            writeln!(
                f,
                "  GPU instance {}: {} at {}:{}, compute instances: {compute}",
                gi.id, gi.profile, gi.start, gi.size
            )?;
        }
        Ok(())
    }
}

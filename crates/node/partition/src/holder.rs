//! Who uses a GPU or a slice of it.

use nvml::{Gpu, GpuInstance, GpuProcess, GpuUuid};

/// Somebody who uses a GPU or a slice, so that it must not be destroyed now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// What is held.
    pub held: Held,
    /// Who holds it, in words for a person: `pod default/train`, `process 4711 (python)`.
    pub who: String,
}

/// What a [`Holder`] holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// The GPU or the MIG device of this UUID, as the device plugin advertises it and the kubelet's
    /// `PodResources` API gives it back.
    Uuid(String),
    /// A GPU instance, or one compute instance of it, as NVML names a process's place.
    Instance {
        /// The GPU.
        gpu: GpuUuid,
        /// Id of the GPU instance.
        gpu_instance: u32,
        /// Id of the compute instance; none: the whole GPU instance.
        compute_instance: Option<u32>,
    },
}

impl Holder {
    /// The holder of an advertised device id. A replica's id (`<uuid>::<n>`) holds the device that
    /// it is a replica of.
    #[must_use]
    pub fn of_device(device_id: &str, who: impl Into<String>) -> Self {
        let uuid = device_id.split("::").next().unwrap_or(device_id);
        Self {
            held: Held::Uuid(uuid.to_owned()),
            who: who.into(),
        }
    }

    /// A process that NVML lists on a GPU. One without instance ids holds the GPU as a whole.
    #[must_use]
    pub fn of_process(gpu: &GpuUuid, process: &GpuProcess) -> Self {
        let who = match &process.name {
            Some(name) => format!("process {} ({name})", process.pid),
            None => format!("process {}", process.pid),
        };
        let held = match process.gpu_instance {
            Some(gpu_instance) => Held::Instance {
                gpu: gpu.clone(),
                gpu_instance,
                compute_instance: process.compute_instance,
            },
            None => Held::Uuid(gpu.to_string()),
        };
        Self { held, who }
    }

    /// Whether this holds the GPU as a whole.
    pub(crate) fn holds_gpu(&self, gpu: &Gpu) -> bool {
        matches!(&self.held, Held::Uuid(uuid) if *uuid == gpu.uuid.to_string())
    }

    /// Whether this holds the GPU instance or anything in it, the GPU as a whole included.
    pub(crate) fn holds_gpu_instance(&self, gpu: &Gpu, instance: &GpuInstance) -> bool {
        match &self.held {
            Held::Instance {
                gpu: held,
                gpu_instance,
                ..
            } => *held == gpu.uuid && *gpu_instance == instance.id,
            Held::Uuid(_) => {
                self.holds_gpu(gpu)
                    || instance
                        .compute_instances
                        .iter()
                        .any(|compute| self.holds_compute_instance(gpu, instance, compute))
            }
        }
    }

    /// Whether this holds the compute instance, the GPU instance or the GPU around it included.
    pub(crate) fn holds_compute_instance(
        &self,
        gpu: &Gpu,
        instance: &GpuInstance,
        compute: &nvml::ComputeInstance,
    ) -> bool {
        match &self.held {
            Held::Instance {
                gpu: held,
                gpu_instance,
                compute_instance,
            } => {
                *held == gpu.uuid
                    && *gpu_instance == instance.id
                    && compute_instance.is_none_or(|id| id == compute.id)
            }
            Held::Uuid(uuid) => {
                self.holds_gpu(gpu)
                    || compute
                        .device
                        .as_ref()
                        .is_some_and(|device| device.uuid.to_string() == *uuid)
            }
        }
    }
}

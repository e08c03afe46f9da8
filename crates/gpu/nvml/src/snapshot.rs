//! Reading one [`Inventory`] in as few calls as NVML allows.

mod instances;

use std::sync::Arc;

use mig::Board;

use crate::board::{self, ProfileEntry};
use crate::calls::{Answer, Device, Failure};
use crate::nvml::Session;
use crate::{CudaVersion, Error, FailedGpu, Gpu, GpuLabel, GpuUuid, Inventory, MigMode, Nvml};

pub(crate) use instances::DeviceFacts;
use instances::Found;

/// What is the same for the whole machine while the driver is loaded.
pub(crate) struct DriverVersions {
    driver: String,
    nvml: String,
    cuda: CudaVersion,
}

/// What a GPU is, apart from MIG.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) serial: Option<String>,
    pub(crate) pci_bus_id: String,
    pub(crate) pci_device_id: u32,
    pub(crate) pci_class: Option<u16>,
    pub(crate) memory_mib: u64,
    pub(crate) compute_capability: (u8, u8),
}

/// What cannot change while a GPU stays in its slot.
#[derive(Debug)]
pub(crate) struct Constants {
    identity: Identity,
    pub(crate) profiles: Vec<ProfileEntry>,
    board: Arc<Board>,
}
impl Nvml {
    /// One snapshot of every GPU. A GPU that does not answer is in [`Inventory::failed`] and takes no other along.
    ///
    /// # Errors
    /// [`Error::Call`] where the driver as a whole does not answer.
    pub fn inventory(&self) -> Result<Inventory, Error> {
        let session = &self.session;
        let versions = session
            .driver_versions()
            .map_err(|failure| session.calls.error(failure, None))?;
        let mut inventory = Inventory {
            driver_root: self.driver_root().to_owned(),
            driver_version: versions.driver.clone(),
            nvml_version: versions.nvml.clone(),
            cuda_version: versions.cuda,
            gpus: Vec::new(),
            failed: Vec::new(),
        };
        let count = session
            .calls
            .device_count()
            .map_err(|failure| session.calls.error(failure, None))?;
        for index in 0..count {
            match session.gpu(index) {
                Ok(gpu) => inventory.gpus.push(gpu),
                Err(error) => {
                    tracing::debug!(index, %error, "GPU left out of the snapshot");
                    let uuid = error.gpu().and_then(|label| label.uuid.clone());
                    inventory.failed.push(FailedGpu {
                        index,
                        uuid,
                        reason: error.to_string(),
                    });
                }
            }
        }
        Ok(inventory)
    }
}

impl Session {
    fn driver_versions(&self) -> Answer<&DriverVersions> {
        if let Some(versions) = self.versions.get() {
            return Ok(versions);
        }
        let versions = DriverVersions {
            driver: self.calls.driver_version()?,
            nvml: self.calls.nvml_version()?,
            cuda: CudaVersion::from_number(self.calls.cuda_driver_version().unwrap_or_default()),
        };
        Ok(self.versions.get_or_init(|| versions))
    }

    fn gpu(&self, index: u32) -> Result<Gpu, Error> {
        // What the GPU was called when it last answered, for one that no longer does.
        let last_known = || {
            let memory = self.memory();
            let uuid = memory
                .devices
                .iter()
                .find(|(_, (own, _))| *own == Some(index));
            uuid.map_or_else(
                || GpuLabel::index(index),
                |(uuid, _)| GpuLabel::uuid(Some(index), uuid),
            )
        };
        let device = self
            .calls
            .device_by_index(index)
            .map_err(|failure| self.calls.error(failure, Some(last_known())))?;
        let text = self
            .calls
            .uuid(device)
            .map_err(|failure| self.calls.error(failure, Some(last_known())))?;
        let uuid: GpuUuid = text
            .parse()
            .map_err(|error: crate::InvalidUuid| Error::Answer {
                call: "nvmlDeviceGetUUID",
                gpu: Some(GpuLabel::index(index)),
                reason: error.to_string(),
            })?;
        {
            let mut memory = self.memory();
            memory.devices.retain(|_, (own, _)| *own != Some(index));
            memory.devices.insert(uuid.clone(), (Some(index), device));
        }
        self.named_gpu(index, device, &uuid)
    }

    fn named_gpu(&self, index: u32, device: Device, uuid: &GpuUuid) -> Result<Gpu, Error> {
        let constants = self.constants(uuid, device)?;
        let named = |failure| self.error_on(failure, uuid);
        let mig = match self.calls.mig_mode(device) {
            Ok((current, pending)) => Some(MigMode { current, pending }),
            Err(failure) if failure.is_unavailable() => None,
            Err(failure) => return Err(named(failure)),
        };
        // A change of MIG mode may renumber the device files.
        let minor = self.calls.minor_number(device).map_err(named)?;
        let mut found = Found {
            complete: true,
            ..Found::default()
        };
        if mig.is_some_and(|mode| mode.current) {
            found = self.instances(device, uuid, minor, &constants)?;
        }
        let mut memory = self.memory();
        memory.gpu_instances.retain(|(owner, _), _| owner != uuid);
        memory
            .compute_instances
            .retain(|(owner, _, _), _| owner != uuid);
        for (id, handle) in found.gpu_handles {
            memory.gpu_instances.insert((uuid.clone(), id), handle);
        }
        for (gpu_instance, id, handle) in found.compute_handles {
            memory
                .compute_instances
                .insert((uuid.clone(), gpu_instance, id), handle);
        }
        let identity = constants.identity.clone();
        Ok(Gpu {
            index,
            uuid: uuid.clone(),
            name: identity.name,
            serial: identity.serial,
            pci_bus_id: identity.pci_bus_id,
            pci_device_id: identity.pci_device_id,
            pci_class: identity.pci_class,
            minor,
            memory_mib: identity.memory_mib,
            compute_capability: identity.compute_capability,
            mig,
            board: Arc::clone(&constants.board),
            instances_complete: found.complete,
            instances: found.instances,
        })
    }

    /// What cannot change, asked once for each GPU.
    pub(crate) fn constants(
        &self,
        uuid: &GpuUuid,
        device: Device,
    ) -> Result<Arc<Constants>, Error> {
        if let Some(constants) = self.memory().constants.get(uuid) {
            return Ok(Arc::clone(constants));
        }
        let constants = Arc::new(
            self.read_constants(device)
                .map_err(|failure| self.error_on(failure, uuid))?,
        );
        self.memory()
            .constants
            .insert(uuid.clone(), Arc::clone(&constants));
        Ok(constants)
    }

    fn read_constants(&self, device: Device) -> Answer<Constants> {
        let pci = self.calls.pci_info(device)?;
        let optional = |answer: Answer<String>| match answer {
            Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
            Err(failure) if failure.is_unavailable() => Ok(None),
            Err(failure) => Err(failure),
        };
        let identity = Identity {
            name: self.calls.name(device)?,
            serial: optional(self.calls.serial(device))?,
            pci_bus_id: pci.bus_id,
            pci_device_id: pci.device_id,
            pci_class: self.calls.pci_class(device).ok(),
            memory_mib: self.calls.memory_info(device)?.total >> 20,
            compute_capability: self.calls.compute_capability(device)?,
        };
        let profiles = match board::profiles(&self.calls, device, identity.memory_mib) {
            Ok(profiles) => profiles,
            // A library from before MIG.
            Err(Failure::Missing(_)) => Vec::new(),
            Err(failure) => return Err(failure),
        };
        let board = Arc::new(board::board(&identity, &profiles));
        Ok(Constants {
            identity,
            profiles,
            board,
        })
    }
}

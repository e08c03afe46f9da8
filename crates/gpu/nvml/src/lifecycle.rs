//! What changes a GPU: its MIG mode, its instances.

use mig::Placement;

use crate::{Error, GpuUuid, Nvml, ReturnCode};

/// What became of a change of MIG mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MigModeOutcome {
    /// The mode is the wanted one now.
    Current,
    /// The mode waits for a reset or a reboot; the text is NVML's activation status, "In use by another client".
    Pending(String),
}

impl Nvml {
    /// Switches MIG mode on or off. NVML resets an idle GPU by itself where that is needed and allowed.
    ///
    /// # Errors
    /// [`Error::Call`] with `NOT_SUPPORTED` on a GPU without MIG, `NO_PERMISSION` for who may not, `IN_USE` for
    /// switching off with instances.
    pub fn set_mig_mode(&self, gpu: &GpuUuid, enable: bool) -> Result<MigModeOutcome, Error> {
        let session = &self.session;
        let device = session.device(gpu)?;
        let status = session
            .calls
            .set_mig_mode(device, enable)
            .map_err(|failure| session.error_on(failure, gpu))?;
        // A reset takes every instance along.
        let mut memory = session.memory();
        memory.gpu_instances.retain(|(owner, _), _| owner != gpu);
        memory
            .compute_instances
            .retain(|(owner, _, _), _| owner != gpu);
        Ok(match status {
            ReturnCode::SUCCESS => MigModeOutcome::Current,
            status => MigModeOutcome::Pending(status.text().to_owned()),
        })
    }

    /// Creates a GPU instance at a placement, and answers its id.
    ///
    /// # Errors
    /// [`Error::Call`] with `INSUFFICIENT_RESOURCES` where the place is taken, `INVALID_ARGUMENT` where the profile may
    /// not lie there, `NOT_SUPPORTED` without MIG mode or for a profile that the board lacks, `NO_PERMISSION`.
    pub fn create_gpu_instance(
        &self,
        gpu: &GpuUuid,
        profile_id: u32,
        placement: Placement,
    ) -> Result<u32, Error> {
        let place = (u32::from(placement.start()), u32::from(placement.size()));
        self.create_gpu_instance_at(gpu, profile_id, Some(place))
    }

    /// Creates a GPU instance where the driver likes, and answers its id.
    ///
    /// # Errors
    /// As [`Nvml::create_gpu_instance`].
    pub fn create_gpu_instance_anywhere(
        &self,
        gpu: &GpuUuid,
        profile_id: u32,
    ) -> Result<u32, Error> {
        self.create_gpu_instance_at(gpu, profile_id, None)
    }

    fn create_gpu_instance_at(
        &self,
        gpu: &GpuUuid,
        profile_id: u32,
        placement: Option<(u32, u32)>,
    ) -> Result<u32, Error> {
        let session = &self.session;
        let device = session.device(gpu)?;
        let (handle, info) = session
            .calls
            .create_gpu_instance(device, profile_id, placement)
            .and_then(|handle| Ok((handle, session.calls.gpu_instance_info(handle)?)))
            .map_err(|failure| session.error_on(failure, gpu))?;
        session
            .memory()
            .gpu_instances
            .insert((gpu.clone(), info.id), handle);
        Ok(info.id)
    }

    /// Creates a compute instance in a GPU instance, and answers its id.
    ///
    /// # Errors
    /// [`Error::Call`] with `INSUFFICIENT_RESOURCES` where no slices are left, `NOT_FOUND` for no such GPU instance,
    /// `NOT_SUPPORTED` or `INVALID_ARGUMENT` for a profile that it lacks, `NO_PERMISSION`.
    pub fn create_compute_instance(
        &self,
        gpu: &GpuUuid,
        gpu_instance: u32,
        profile_id: u32,
    ) -> Result<u32, Error> {
        self.create_compute_instance_at(gpu, gpu_instance, profile_id, None)
    }

    /// Creates a compute instance at a placement among the GPU instance's compute slices, and answers its id.
    ///
    /// # Errors
    /// As [`Nvml::create_compute_instance`]; `INVALID_ARGUMENT` where the profile may not lie there.
    pub fn create_compute_instance_with_placement(
        &self,
        gpu: &GpuUuid,
        gpu_instance: u32,
        profile_id: u32,
        placement: Placement,
    ) -> Result<u32, Error> {
        let place = (u32::from(placement.start()), u32::from(placement.size()));
        self.create_compute_instance_at(gpu, gpu_instance, profile_id, Some(place))
    }

    fn create_compute_instance_at(
        &self,
        gpu: &GpuUuid,
        gpu_instance: u32,
        profile_id: u32,
        placement: Option<(u32, u32)>,
    ) -> Result<u32, Error> {
        let calls = &self.session.calls;
        // Only the creation may be tried again with a fresh handle: asking after it must not make a second one.
        let handle = self
            .session
            .with_gpu_instance(gpu, gpu_instance, |parent| {
                calls.create_compute_instance(parent, profile_id, placement)
            })?;
        let label = || self.session.label(gpu).gpu_instance(gpu_instance);
        let id = calls
            .compute_instance_info(handle)
            .map_err(|failure| calls.error(failure, Some(label())))?
            .id;
        self.session
            .memory()
            .compute_instances
            .insert((gpu.clone(), gpu_instance, id), handle);
        Ok(id)
    }

    /// Destroys a compute instance.
    ///
    /// # Errors
    /// [`Error::Call`] with `IN_USE` while a process runs on it, `NOT_FOUND` where it is gone, `NO_PERMISSION`.
    pub fn destroy_compute_instance(
        &self,
        gpu: &GpuUuid,
        gpu_instance: u32,
        id: u32,
    ) -> Result<(), Error> {
        let calls = &self.session.calls;
        self.session
            .with_compute_instance(gpu, gpu_instance, id, |handle| {
                calls.destroy_compute_instance(handle)
            })?;
        self.session
            .memory()
            .compute_instances
            .remove(&(gpu.clone(), gpu_instance, id));
        Ok(())
    }

    /// Destroys a GPU instance, which must have no compute instances.
    ///
    /// # Errors
    /// [`Error::Call`] with `IN_USE` while it has compute instances, `NOT_FOUND` where it is gone, `NO_PERMISSION`.
    pub fn destroy_gpu_instance(&self, gpu: &GpuUuid, id: u32) -> Result<(), Error> {
        let calls = &self.session.calls;
        self.session
            .with_gpu_instance(gpu, id, |handle| calls.destroy_gpu_instance(handle))?;
        self.session
            .memory()
            .gpu_instances
            .remove(&(gpu.clone(), id));
        Ok(())
    }
}

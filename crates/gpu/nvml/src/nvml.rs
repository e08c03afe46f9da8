//! The loaded library, initialised for as long as it is held, and what it remembers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::calls::{Answer, Calls, ComputeInstanceHandle, Device, Failure, GpuInstanceHandle};
use crate::capabilities::CapabilityMinors;
use crate::snapshot::{Constants, DeviceFacts, DriverVersions};
use crate::{Error, GpuLabel, GpuUuid, MigUuid, ReturnCode, library};

/// NVML, loaded and initialised. Clones share one initialisation, which ends with the last of them.
#[derive(Clone)]
pub struct Nvml {
    pub(crate) session: Arc<Session>,
}

pub(crate) struct Session {
    pub(crate) calls: Calls,
    root: PathBuf,
    pub(crate) versions: OnceLock<DriverVersions>,
    minors: Mutex<Arc<CapabilityMinors>>,
    memory: Mutex<Memory>,
}

/// What need not be asked again.
#[derive(Default)]
pub(crate) struct Memory {
    /// Where each GPU was last seen; without an index where it was only looked up by its UUID.
    pub(crate) devices: HashMap<GpuUuid, (Option<u32>, Device)>,
    /// What cannot change while a GPU stays in its slot.
    pub(crate) constants: HashMap<GpuUuid, Arc<Constants>>,
    /// Instances seen by the last snapshot or made since, so that changing one needs no look-up.
    pub(crate) gpu_instances: HashMap<(GpuUuid, u32), GpuInstanceHandle>,
    /// As above, by GPU, GPU instance and compute instance.
    pub(crate) compute_instances: HashMap<(GpuUuid, u32, u32), ComputeInstanceHandle>,
    /// Compute instance profiles of a GPU instance profile, by GPU and profile id.
    pub(crate) compute_profiles: HashMap<(GpuUuid, u32), Arc<[ComputeProfile]>>,
    /// Attributes of MIG devices. A UUID names a place, which may later hold another profile: so by both profile ids too.
    pub(crate) attributes: HashMap<(MigUuid, u32, u32), DeviceFacts>,
}

/// A compute instance profile as the driver reports it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ComputeProfile {
    pub(crate) id: u32,
    pub(crate) slices: u8,
    pub(crate) instances: u32,
    pub(crate) multiprocessors: u32,
    pub(crate) copy_engines: u32,
    pub(crate) decoders: u32,
    pub(crate) encoders: u32,
    pub(crate) jpeg: u32,
    pub(crate) ofa: u32,
}

impl Nvml {
    /// Loads the NVML library of the driver under `driver_root` and initialises it. For `/` the system's own search path
    /// comes first.
    ///
    /// # Errors
    /// [`Error::LibraryNotFound`] where there is none, [`Error::LibraryUnusable`] and [`Error::SymbolMissing`] where
    /// there is none that works, [`Error::Call`] where the driver does not answer.
    pub fn load(driver_root: &Path) -> Result<Self, Error> {
        let calls = library::load(driver_root)?;
        calls
            .require_essentials()
            .and_then(|()| calls.init())
            .map_err(|failure| calls.error(failure, None))?;
        tracing::debug!(library = %calls.path().display(), "NVML loaded");
        let root = library::root_of(driver_root, calls.path());
        Ok(Self {
            session: Arc::new(Session {
                calls,
                root,
                versions: OnceLock::new(),
                minors: Mutex::default(),
                memory: Mutex::default(),
            }),
        })
    }

    /// Where the library was loaded from; a bare name where the system's loader found it.
    #[must_use]
    pub fn library_path(&self) -> &Path {
        self.session.calls.path()
    }

    /// The driver root that it was loaded from: the one asked for, or for `/` a driver container's.
    #[must_use]
    pub fn driver_root(&self) -> &Path {
        &self.session.root
    }
}

impl std::fmt::Debug for Nvml {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nvml")
            .field("library", &self.library_path())
            .finish_non_exhaustive()
    }
}

impl Session {
    /// The capability minors, read until there are some: the table appears with the driver's modules.
    pub(crate) fn minors(&self) -> Arc<CapabilityMinors> {
        let mut minors = self.minors.lock().unwrap_or_else(PoisonError::into_inner);
        if minors.is_empty() {
            *minors = Arc::new(CapabilityMinors::read(&self.root));
        }
        Arc::clone(&minors)
    }

    /// What is remembered is only ever replaced whole, so a panic elsewhere leaves it good.
    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `failure` as an error about `gpu`, with the index where it is known.
    pub(crate) fn error_on(&self, failure: Failure, gpu: &GpuUuid) -> Error {
        self.calls.error(failure, Some(self.label(gpu)))
    }

    pub(crate) fn label(&self, gpu: &GpuUuid) -> GpuLabel {
        let index = self.memory().devices.get(gpu).and_then(|(index, _)| *index);
        GpuLabel::uuid(index, gpu)
    }

    /// The GPU's handle, looked up only the first time.
    pub(crate) fn device(&self, gpu: &GpuUuid) -> Result<Device, Error> {
        if let Some((_, device)) = self.memory().devices.get(gpu) {
            return Ok(*device);
        }
        let device = self
            .calls
            .device_by_uuid(gpu.as_str())
            .map_err(|failure| self.error_on(failure, gpu))?;
        self.memory().devices.insert(gpu.clone(), (None, device));
        Ok(device)
    }

    /// Does something with a GPU instance by the handle that is remembered; where that one proves stale, or there is none,
    /// by a fresh one.
    pub(crate) fn with_gpu_instance<T>(
        &self,
        gpu: &GpuUuid,
        id: u32,
        act: impl Fn(GpuInstanceHandle) -> Answer<T>,
    ) -> Result<T, Error> {
        let key = (gpu.clone(), id);
        let remembered = self.memory().gpu_instances.get(&key).copied();
        if let Some(handle) = remembered {
            match act(handle) {
                Err(failure) if is_stale(failure) => {
                    self.memory().gpu_instances.remove(&key);
                }
                answer => {
                    return answer.map_err(|failure| {
                        self.calls
                            .error(failure, Some(self.label(gpu).gpu_instance(id)))
                    });
                }
            }
        }
        let device = self.device(gpu)?;
        self.calls
            .gpu_instance_by_id(device, id)
            .and_then(|handle| {
                self.memory().gpu_instances.insert(key, handle);
                act(handle)
            })
            .map_err(|failure| {
                self.calls
                    .error(failure, Some(self.label(gpu).gpu_instance(id)))
            })
    }

    /// As [`Self::with_gpu_instance`], for a compute instance.
    pub(crate) fn with_compute_instance<T>(
        &self,
        gpu: &GpuUuid,
        gpu_instance: u32,
        id: u32,
        act: impl Fn(ComputeInstanceHandle) -> Answer<T>,
    ) -> Result<T, Error> {
        let label = || {
            Some(
                self.label(gpu)
                    .gpu_instance(gpu_instance)
                    .compute_instance(id),
            )
        };
        let key = (gpu.clone(), gpu_instance, id);
        let remembered = self.memory().compute_instances.get(&key).copied();
        if let Some(handle) = remembered {
            match act(handle) {
                Err(failure) if is_stale(failure) => {
                    self.memory().compute_instances.remove(&key);
                }
                answer => return answer.map_err(|failure| self.calls.error(failure, label())),
            }
        }
        // The look-up says whose it is, so a missing GPU instance and a missing compute instance read differently.
        let handle = self.with_gpu_instance(gpu, gpu_instance, |parent| {
            self.calls.compute_instance_by_id(parent, id)
        })?;
        act(handle).map_err(|failure| self.calls.error(failure, label()))
    }
}

/// True for the answers that a handle gets whose instance was destroyed behind our back.
fn is_stale(failure: Failure) -> bool {
    failure.is(ReturnCode::ERROR_INVALID_ARGUMENT) || failure.is(ReturnCode::ERROR_NOT_FOUND)
}

impl Drop for Session {
    fn drop(&mut self) {
        // Nothing is left to do about a driver that does not want to be shut down.
        if let Err(failure) = self.calls.shutdown() {
            tracing::debug!(?failure, "NVML did not shut down");
        }
    }
}

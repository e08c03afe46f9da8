//! Waiting for what the driver has to report.

use std::time::Duration;

use nvml_wrapper_sys::bindings as sys;
use serde::{Deserialize, Serialize};

use crate::calls::{Device, EventSetHandle, RawEvent};
use crate::{Error, FailedGpu, GpuLabel, GpuUuid, Nvml, ReturnCode};

/// Something that the driver reports of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A critical error; its meaning is in NVIDIA's XID catalogue. `None` for both instances means the whole GPU.
    Xid {
        /// The GPU.
        gpu: GpuUuid,
        /// The error's number.
        xid: u64,
        /// The GPU instance that it struck.
        gpu_instance: Option<u32>,
        /// The compute instance that it struck.
        compute_instance: Option<u32>,
    },
    /// An uncorrectable memory error.
    EccDouble {
        /// The GPU.
        gpu: GpuUuid,
        /// The GPU instance that it struck.
        gpu_instance: Option<u32>,
        /// The compute instance that it struck.
        compute_instance: Option<u32>,
    },
    /// A memory error that the hardware corrected.
    EccSingle {
        /// The GPU.
        gpu: GpuUuid,
        /// The GPU instance that it struck.
        gpu_instance: Option<u32>,
        /// The compute instance that it struck.
        compute_instance: Option<u32>,
    },
    /// Instances were created or destroyed, or the MIG mode changed: take a new snapshot.
    MigConfigChange {
        /// The GPU.
        gpu: GpuUuid,
    },
    /// Something that this version of migpool does not know.
    Other {
        /// The GPU, where it can be told.
        gpu: Option<GpuUuid>,
        /// NVML's `nvmlEventType*`.
        kind: u64,
    },
}

const XID: u64 = sys::nvmlEventTypeXidCriticalError as u64;
const ECC_SINGLE: u64 = sys::nvmlEventTypeSingleBitEccError as u64;
const ECC_DOUBLE: u64 = sys::nvmlEventTypeDoubleBitEccError as u64;
const MIG_CONFIG: u64 = sys::nvmlEventMigConfigChange as u64;
const WANTED: u64 = XID | ECC_SINGLE | ECC_DOUBLE | MIG_CONFIG;

/// Reports of every GPU that supports them. Only what happens after its creation is seen.
#[derive(Debug)]
pub struct EventSet {
    nvml: Nvml,
    set: EventSetHandle,
    watched: Vec<(Device, GpuUuid)>,
    unwatched: Vec<FailedGpu>,
}

impl Nvml {
    /// Begins to watch every GPU for XIDs, ECC errors and MIG changes, as far as each supports them. A GPU that cannot be
    /// watched is in [`EventSet::unwatched`] and hides no other.
    ///
    /// # Errors
    /// [`Error::SymbolMissing`] or [`Error::Call`] where the driver has no events at all.
    pub fn event_set(&self) -> Result<EventSet, Error> {
        let calls = &self.session.calls;
        let whole = |failure| calls.error(failure, None);
        let count = calls.device_count().map_err(whole)?;
        let set = calls.event_set_create().map_err(whole)?;
        let mut events = EventSet {
            nvml: self.clone(),
            set,
            watched: Vec::new(),
            unwatched: Vec::new(),
        };
        for index in 0..count {
            if let Err((uuid, error)) = events.watch(index) {
                events.unwatched.push(FailedGpu {
                    index,
                    uuid,
                    reason: error.to_string(),
                });
            }
        }
        Ok(events)
    }
}

impl EventSet {
    fn watch(&mut self, index: u32) -> Result<(), (Option<GpuUuid>, Error)> {
        let calls = &self.nvml.session.calls;
        let unnamed = |failure| (None, calls.error(failure, Some(GpuLabel::index(index))));
        let device = calls.device_by_index(index).map_err(unnamed)?;
        let text = calls.uuid(device).map_err(unnamed)?;
        let uuid: GpuUuid = text.parse().map_err(|error: crate::InvalidUuid| {
            let gpu = Some(GpuLabel::index(index));
            (
                None,
                Error::Answer {
                    call: "nvmlDeviceGetUUID",
                    gpu,
                    reason: error.to_string(),
                },
            )
        })?;
        let named = |failure| {
            let label = GpuLabel::uuid(Some(index), &uuid);
            (Some(uuid.clone()), calls.error(failure, Some(label)))
        };
        let kinds = calls.supported_event_types(device).map_err(named)? & WANTED;
        if kinds != 0 {
            calls
                .register_events(device, kinds, &self.set)
                .map_err(named)?;
        }
        self.watched.push((device, uuid));
        Ok(())
    }

    /// The GPUs that cannot be watched, and why.
    #[must_use]
    pub fn unwatched(&self) -> &[FailedGpu] {
        &self.unwatched
    }

    /// The next event, or `None` when `timeout` (of whole milliseconds) passes without one.
    ///
    /// # Errors
    /// [`Error::Call`], notably `GPU_IS_LOST`; and `UNINITIALIZED` or `UNKNOWN` when the driver was reloaded: then
    /// NVML must be loaded again.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<Event>, Error> {
        let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let calls = &self.nvml.session.calls;
        match calls.event_set_wait(&self.set, milliseconds) {
            Ok(raw) => Ok(Some(self.event(raw))),
            Err(failure) if failure.is(ReturnCode::ERROR_TIMEOUT) => Ok(None),
            Err(failure) => Err(calls.error(failure, None)),
        }
    }

    fn event(&self, raw: RawEvent) -> Event {
        let known = self
            .watched
            .iter()
            .find(|(device, _)| *device == raw.device);
        // A GPU that was reset meanwhile may come with another handle.
        let gpu = known
            .map(|(_, uuid)| uuid.clone())
            .or_else(|| self.nvml.session.calls.uuid(raw.device).ok()?.parse().ok());
        let Some(gpu) = gpu else {
            return Event::Other {
                gpu: None,
                kind: raw.kind,
            };
        };
        let gpu_instance = instance(raw.gpu_instance);
        let compute_instance = instance(raw.compute_instance);
        match raw.kind {
            XID => Event::Xid {
                gpu,
                xid: raw.data,
                gpu_instance,
                compute_instance,
            },
            ECC_DOUBLE => Event::EccDouble {
                gpu,
                gpu_instance,
                compute_instance,
            },
            ECC_SINGLE => Event::EccSingle {
                gpu,
                gpu_instance,
                compute_instance,
            },
            MIG_CONFIG => Event::MigConfigChange { gpu },
            kind => Event::Other {
                gpu: Some(gpu),
                kind,
            },
        }
    }
}

impl Drop for EventSet {
    fn drop(&mut self) {
        if let Err(failure) = self.nvml.session.calls.event_set_free(&mut self.set) {
            tracing::debug!(?failure, "the event set was not freed");
        }
    }
}

/// NVML says "the whole GPU" by all ones.
pub(crate) fn instance(id: u32) -> Option<u32> {
    (id != u32::MAX).then_some(id)
}

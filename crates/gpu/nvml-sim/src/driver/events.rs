//! Events: what `nvmlEventSetWait_v2` waits for.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::code::Return;
use crate::driver::{Device, Driver};
use crate::state::{SimEvent, State};

/// `nvmlEventTypeSingleBitEccError`.
pub const SINGLE_BIT_ECC: u64 = 0x1;
/// `nvmlEventTypeDoubleBitEccError`.
pub const DOUBLE_BIT_ECC: u64 = 0x2;
/// `nvmlEventTypePState`.
pub const PSTATE: u64 = 0x4;
/// `nvmlEventTypeXidCriticalError`.
pub const XID_CRITICAL: u64 = 0x8;
/// `nvmlEventTypeClock`.
pub const CLOCK: u64 = 0x10;
/// `nvmlEventMigConfigChange`.
pub const MIG_CONFIG_CHANGE: u64 = 0x100;
/// What a GPU can report, as an H200 says. Only those with a name above but performance states and clocks ever come here.
pub const SUPPORTED: u64 = 0xFF9F;
/// What may be asked for without an error: an H200 takes the two types between those that it supports, too.
const ACCEPTED: u64 = 0xFFFF;

/// The types of event that a device can report.
///
/// # Errors
/// [`Return::NOT_SUPPORTED`] for a MIG device.
pub fn supported(state: &State, device: Device) -> Result<u64, Return> {
    state.gpu(device.physical()?)?;
    Ok(SUPPORTED)
}

/// What an `nvmlEventSet_t` stands for. Threads may register while another waits.
#[derive(Debug)]
pub struct EventSet(Mutex<Registrations>);

#[derive(Debug)]
struct Registrations {
    /// Events from this number on are still to be delivered.
    next: u64,
    gpus: Vec<Registration>,
}

#[derive(Debug)]
struct Registration {
    gpu: u32,
    types: u64,
    since: u64,
    loss_reported: bool,
}

/// An event for its waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The GPU.
    pub device: Device,
    /// `nvmlEventType*`.
    pub kind: u64,
    /// The XID; 0 for other kinds.
    pub data: u64,
    /// GPU instance, where it is known.
    pub gpu_instance: Option<u32>,
    /// Compute instance, where it is known.
    pub compute_instance: Option<u32>,
}

impl Driver {
    /// Makes an empty event set.
    ///
    /// # Errors
    /// As [`Driver::read`].
    pub fn create_event_set(&self, call: &str) -> Result<EventSet, Return> {
        self.read(call, |state, _| {
            let next = state.next_event;
            Ok(EventSet(Mutex::new(Registrations {
                next,
                gpus: Vec::new(),
            })))
        })
    }

    /// Adds a GPU's events of these types to the set, from now on.
    ///
    /// # Errors
    /// [`Return::NOT_SUPPORTED`] for a MIG device or types that are not supported; as [`Driver::read`].
    pub fn register_events(
        &self,
        call: &str,
        set: &EventSet,
        device: Device,
        types: u64,
    ) -> Result<(), Return> {
        self.read(call, |state, _| {
            state.gpu(device.physical()?)?;
            if types & !ACCEPTED != 0 {
                return Err(Return::NOT_SUPPORTED);
            }
            let mut set = set.0.lock().unwrap_or_else(PoisonError::into_inner);
            let gpu = device.gpu();
            match set.gpus.iter_mut().find(|found| found.gpu == gpu) {
                Some(found) => found.types |= types,
                None => set.gpus.push(Registration {
                    gpu,
                    types,
                    since: state.next_event,
                    loss_reported: false,
                }),
            }
            Ok(())
        })
    }

    /// Waits for the next event of the set. A GPU that is lost is reported once, after its events.
    ///
    /// # Errors
    /// [`Return::TIMEOUT`] when none came; [`Return::GPU_IS_LOST`]; as [`Driver::read`].
    pub fn wait_event(
        &self,
        call: &str,
        set: &EventSet,
        timeout: Duration,
    ) -> Result<Delivered, Return> {
        let start = Instant::now();
        self.read(call, |_, _| Ok(()))?;
        loop {
            let (generation, state) = self.store().read_with_generation()?;
            if let Some(event) = set.take(&state)? {
                return Ok(event);
            }
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() || !self.store().wait_change(generation, left) {
                return Err(Return::TIMEOUT);
            }
        }
    }
}

impl EventSet {
    fn take(&self, state: &State) -> Result<Option<Delivered>, Return> {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Registrations { next, gpus } = &mut *set;
        let waited_for = |event: &&SimEvent| {
            gpus.iter().any(|wanted| {
                wanted.gpu == event.gpu
                    && wanted.types & event.kind != 0
                    && event.sequence >= wanted.since
            })
        };
        let found = state
            .events
            .iter()
            .filter(|event| event.sequence >= *next)
            .find(waited_for);
        if let Some(event) = found {
            *next = event.sequence + 1;
            return Ok(Some(Delivered {
                device: Device::Gpu(event.gpu),
                kind: event.kind,
                data: event.data,
                gpu_instance: event.gpu_instance,
                compute_instance: event.compute_instance,
            }));
        }
        *next = state.next_event;
        for wanted in gpus {
            let lost = state
                .gpus
                .get(wanted.gpu as usize)
                .is_some_and(|gpu| gpu.lost);
            let news = lost && !wanted.loss_reported;
            wanted.loss_reported = lost;
            if news {
                return Err(Return::GPU_IS_LOST);
            }
        }
        Ok(None)
    }
}

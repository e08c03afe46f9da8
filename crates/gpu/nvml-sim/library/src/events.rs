//! Event sets.

use std::collections::BTreeMap;
use std::ffi::{c_uint, c_ulonglong};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nvml_sim::driver::events::{self, Delivered, EventSet};
use nvml_sim::{Driver, Return};
use nvml_wrapper_sys::bindings::{nvmlEventData_t, nvmlEventSet_t};

use crate::abi::Out;
use crate::abi::legacy::EventDataV1;
use crate::handle::{DeviceHandle, EVENT_SETS, EventSetHandle};

/// What an instance id is in an event that is about no instance.
const NO_INSTANCE: c_uint = c_uint::MAX;

static SETS: Mutex<Sets> = Mutex::new(Sets {
    last: 0,
    open: BTreeMap::new(),
});

/// The process's event sets by number. A number comes again only after all others were used.
struct Sets {
    last: u32,
    open: BTreeMap<u32, Arc<EventSet>>,
}

impl Sets {
    fn add(&mut self, set: EventSet) -> Result<u32, Return> {
        for _ in 0..EVENT_SETS {
            self.last = (self.last + 1) % EVENT_SETS;
            if !self.open.contains_key(&self.last) {
                self.open.insert(self.last, Arc::new(set));
                return Ok(self.last);
            }
        }
        Err(Return::MEMORY)
    }
}

fn open_set(handle: EventSetHandle) -> Result<Arc<EventSet>, Return> {
    let number = handle.get()?;
    let sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
    sets.open
        .get(&number)
        .map(Arc::clone)
        .ok_or(Return::INVALID_ARGUMENT)
}

fn wait(
    driver: &Driver,
    call: &str,
    set: EventSetHandle,
    milliseconds: c_uint,
) -> Result<Delivered, Return> {
    let set = open_set(set)?;
    driver.wait_event(call, &set, Duration::from_millis(milliseconds.into()))
}

nvml! {
    fn nvmlEventSetCreate(out: Out<nvmlEventSet_t>) driver |driver, call| {
        out.check()?;
        let set = driver.create_event_set(call)?;
        let number = SETS.lock().unwrap_or_else(PoisonError::into_inner).add(set)?;
        out.set(EventSetHandle::raw(number))
    }

    /// A set that is being waited for lives until that is over.
    fn nvmlEventSetFree(set: EventSetHandle) read |_, _| {
        let number = set.get()?;
        let removed = SETS.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&number);
        removed.map(drop).ok_or(Return::INVALID_ARGUMENT)
    }

    fn nvmlDeviceRegisterEvents(
        handle: DeviceHandle,
        types: c_ulonglong,
        set: EventSetHandle,
    ) driver |driver, call| {
        driver.register_events(call, &*open_set(set)?, handle.get()?, types)
    }

    fn nvmlDeviceGetSupportedEventTypes(
        handle: DeviceHandle,
        types: Out<c_ulonglong>,
    ) read |state, _| {
        types.set(events::supported(state, handle.get()?)?)
    }

    fn nvmlEventSetWait_v2(
        set: EventSetHandle,
        data: Out<nvmlEventData_t>,
        milliseconds: c_uint,
    ) driver |driver, call| {
        data.check()?;
        let event = wait(driver, call, set, milliseconds)?;
        data.set(nvmlEventData_t {
            device: DeviceHandle::raw(event.device),
            eventType: event.kind,
            eventData: event.data,
            gpuInstanceId: event.gpu_instance.unwrap_or(NO_INSTANCE),
            computeInstanceId: event.compute_instance.unwrap_or(NO_INSTANCE),
        })
    }

    fn nvmlEventSetWait(
        set: EventSetHandle,
        data: Out<EventDataV1>,
        milliseconds: c_uint,
    ) driver |driver, call| {
        data.check()?;
        let event = wait(driver, call, set, milliseconds)?;
        data.set(EventDataV1 {
            device: DeviceHandle::raw(event.device),
            event_type: event.kind,
            event_data: event.data,
        })
    }
}

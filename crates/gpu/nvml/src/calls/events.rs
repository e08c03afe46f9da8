//! Calls about events.

use nvml_wrapper_sys::bindings as sys;

use super::{Answer, Calls, Device, EventSetHandle, Failure, RawEvent, check};

impl Calls {
    pub(crate) fn event_set_create(&self) -> Answer<EventSetHandle> {
        let function = symbol!(self, nvmlEventSetCreate)?;
        let mut set: sys::nvmlEventSet_t = std::ptr::null_mut();
        // SAFETY: `set` is a live out-parameter.
        check("nvmlEventSetCreate", unsafe { function(&raw mut set) })?;
        Ok(EventSetHandle(set))
    }

    pub(crate) fn register_events(
        &self,
        device: Device,
        kinds: u64,
        set: &EventSetHandle,
    ) -> Answer<()> {
        let function = symbol!(self, nvmlDeviceRegisterEvents)?;
        // SAFETY: both handles came from this library, and the set is not freed while it is borrowed.
        check("nvmlDeviceRegisterEvents", unsafe {
            function(device.0, kinds, set.0)
        })
    }

    pub(crate) fn event_set_wait(&self, set: &EventSetHandle, timeout_ms: u32) -> Answer<RawEvent> {
        let (name, function) = match symbol!(self, nvmlEventSetWait_v2) {
            Ok(function) => ("nvmlEventSetWait_v2", function),
            Err(missing) => (
                "nvmlEventSetWait",
                symbol!(self, nvmlEventSetWait).map_err(|_| missing)?,
            ),
        };
        // Version 1 leaves the instances alone, so that they stay "the whole GPU".
        let mut data = sys::nvmlEventData_t {
            device: std::ptr::null_mut(),
            eventType: 0,
            eventData: 0,
            gpuInstanceId: u32::MAX,
            computeInstanceId: u32::MAX,
        };
        // SAFETY: the set came from this library and is not freed while it is borrowed; `data` is a live
        // out-parameter.
        check(name, unsafe { function(set.0, &raw mut data, timeout_ms) })?;
        Ok(RawEvent {
            device: Device(data.device),
            kind: data.eventType,
            data: data.eventData,
            gpu_instance: data.gpuInstanceId,
            compute_instance: data.computeInstanceId,
        })
    }

    /// Frees a set; the caller must not use it again, and owns it alone.
    pub(crate) fn event_set_free(&self, set: &mut EventSetHandle) -> Answer<()> {
        let function = symbol!(self, nvmlEventSetFree)?;
        let handle = std::mem::replace(&mut set.0, std::ptr::null_mut());
        if handle.is_null() {
            return Ok(());
        }
        // SAFETY: the set came from this library and, taken out of its place, is freed only this once.
        check("nvmlEventSetFree", unsafe { function(handle) })
    }
}

//! Event sets.

use nvml_sim::state::Fault;
use nvml_wrapper_sys::bindings::{nvmlEventData_t, nvmlEventSet_t, nvmlEventTypeXidCriticalError};

use crate::library::{INVALID_ARGUMENT, Library, Machine, NOT_SUPPORTED, SUCCESS, TIMEOUT, call};

fn set(nvml: &Library) -> nvmlEventSet_t {
    let mut set = std::ptr::null_mut();
    assert_eq!(call!(nvml, nvmlEventSetCreate(&raw mut set)), SUCCESS);
    set
}

fn wait(nvml: &Library, set: nvmlEventSet_t, milliseconds: u32) -> Result<nvmlEventData_t, u32> {
    // SAFETY: a struct of numbers and a pointer.
    let mut data: nvmlEventData_t = unsafe { std::mem::zeroed() };
    match call!(nvml, nvmlEventSetWait_v2(set, &raw mut data, milliseconds)) {
        SUCCESS => Ok(data),
        code => Err(code),
    }
}

#[test]
fn an_xid_reaches_its_waiter_with_the_instance_that_it_happened_on() {
    let machine = Machine::new(&[("A100-40GB", 2)]);
    let nvml = machine.nvml();
    let set = set(&nvml);
    for index in 0..2 {
        let xid = nvmlEventTypeXidCriticalError.into();
        assert_eq!(
            call!(nvml, nvmlDeviceRegisterEvents(nvml.device(index), xid, set)),
            SUCCESS
        );
    }
    assert_eq!(wait(&nvml, set, 0).map(drop), Err(TIMEOUT));
    let xid = |gpu, xid, gpu_instance| Fault::Xid {
        gpu,
        xid,
        gpu_instance,
        compute_instance: gpu_instance.map(|_| 0),
    };
    machine.root.inject(xid(1, 31, Some(9))).unwrap();
    machine.root.inject(xid(0, 48, None)).unwrap();
    let event = wait(&nvml, set, 60_000).unwrap();
    assert_eq!(event.device, nvml.device(1));
    assert_eq!((event.eventType, event.eventData), (8, 31));
    assert_eq!((event.gpuInstanceId, event.computeInstanceId), (9, 0));
    let event = wait(&nvml, set, 60_000).unwrap();
    assert_eq!((event.device, event.eventData), (nvml.device(0), 48));
    assert_eq!(
        (event.gpuInstanceId, event.computeInstanceId),
        (u32::MAX, u32::MAX)
    );
    assert_eq!(wait(&nvml, set, 1).map(drop), Err(TIMEOUT));
}

#[test]
fn a_waiter_is_woken_by_an_event_that_comes_later() {
    let machine = Machine::new(&[("A30", 1)]);
    let nvml = machine.nvml();
    let set = set(&nvml);
    call!(nvml, nvmlDeviceRegisterEvents(nvml.device(0), 8, set));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let fault = Fault::Xid {
                gpu: 0,
                xid: 63,
                gpu_instance: None,
                compute_instance: None,
            };
            machine.root.inject(fault).unwrap();
        });
        assert_eq!(
            wait(&nvml, set, 60_000).map(|event| event.eventData),
            Ok(63)
        );
    });
}

#[test]
fn a_freed_set_is_no_set() {
    let machine = Machine::new(&[("A30", 1)]);
    let nvml = machine.nvml();
    let (first, second) = (set(&nvml), set(&nvml));
    assert_ne!(first, second);
    assert_eq!(call!(nvml, nvmlEventSetFree(first)), SUCCESS);
    assert_eq!(call!(nvml, nvmlEventSetFree(first)), INVALID_ARGUMENT);
    assert_eq!(wait(&nvml, first, 0).map(drop), Err(INVALID_ARGUMENT));
    assert_eq!(wait(&nvml, second, 0).map(drop), Err(TIMEOUT));
}

#[test]
fn types_that_no_gpu_reports_are_not_supported() {
    let machine = Machine::new(&[("A30", 1)]);
    let nvml = machine.nvml();
    let set = set(&nvml);
    let gpu = nvml.device(0);
    assert_eq!(
        call!(nvml, nvmlDeviceRegisterEvents(gpu, 0x10_0000, set)),
        NOT_SUPPORTED
    );
    assert_eq!(call!(nvml, nvmlDeviceRegisterEvents(gpu, 0, set)), SUCCESS);
}

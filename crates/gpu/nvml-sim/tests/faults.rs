//! Faults on demand, events and the record of calls.
#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]
#![cfg(feature = "host")]

use std::sync::mpsc;
use std::time::{Duration, Instant};

use migpool_nvml_sim::driver::{Device, Driver, device, events, gpu_instance, mode, status};
use migpool_nvml_sim::{DriverRoot, Fault, Return};
use tempfile::TempDir;

const GPU: Device = Device::Gpu(0);
const LONG: Duration = Duration::from_mins(1);
const NONE: Duration = Duration::ZERO;

fn machine() -> (TempDir, DriverRoot, Driver) {
    let folder = tempfile::tempdir().unwrap();
    let board = mig::board("A100-40GB").unwrap();
    let root = DriverRoot::create(folder.path(), &[(board, 2)]).unwrap();
    let driver = Driver::open(folder.path()).unwrap();
    (folder, root, driver)
}

fn name(driver: &Driver) -> Result<String, Return> {
    driver.read("nvmlDeviceGetName", |state, _| device::name(state, GPU))
}

fn fails(call: &str, times: u32) -> Fault {
    Fault::CallFails {
        call: call.into(),
        times,
        code: Return::UNKNOWN,
    }
}

#[test]
fn a_call_fails_as_often_as_was_asked_and_then_works() {
    let (_folder, root, driver) = machine();
    root.inject(fails("nvmlDeviceGetName", 2)).unwrap();
    let uuid = || driver.read("nvmlDeviceGetUUID", |state, _| device::uuid(state, GPU));
    assert!(uuid().is_ok());
    assert_eq!(name(&driver), Err(Return::UNKNOWN));
    assert_eq!(name(&driver), Err(Return::UNKNOWN));
    assert!(name(&driver).is_ok());
    assert!(root.state().unwrap().faults.is_empty());
}

#[test]
fn a_call_that_fails_has_no_effect() {
    let (_folder, root, driver) = machine();
    root.inject(fails("*", 1)).unwrap();
    let set = || {
        driver.write("nvmlDeviceSetMigMode", |state, _| {
            mode::set(state, GPU, true)
        })
    };
    assert_eq!(set(), Err(Return::UNKNOWN));
    assert!(!root.state().unwrap().gpus[0].mig_current);
    assert_eq!(set(), Ok(Return::SUCCESS));
}

#[test]
fn a_delayed_call_answers_no_sooner_than_it_was_told() {
    let (_folder, root, driver) = machine();
    root.inject(Fault::Delay {
        call: "nvmlDeviceGetName".into(),
        milliseconds: 20,
    })
    .unwrap();
    for _ in 0..2 {
        let begun = Instant::now();
        assert!(name(&driver).is_ok());
        assert!(begun.elapsed() >= Duration::from_millis(20));
    }
}

#[test]
fn faults_are_taken_back() {
    let (_folder, root, driver) = machine();
    root.inject(fails("*", 1000)).unwrap();
    root.inject(Fault::GpuLost { gpu: 0 }).unwrap();
    root.inject(Fault::Ecc {
        gpu: 0,
        double: true,
        count: 3,
        gpu_instance: None,
        compute_instance: None,
    })
    .unwrap();
    root.clear_faults().unwrap();
    assert!(name(&driver).is_ok());
    let (volatile, aggregate) = driver
        .read("nvmlDeviceGetTotalEccErrors", |state, _| {
            status::ecc(state, GPU)
        })
        .unwrap();
    assert_eq!((volatile.double, aggregate.double), (0, 3));
}

#[test]
fn a_lost_gpu_answers_so_and_the_others_do_not_notice() {
    let (_folder, root, driver) = machine();
    root.inject(Fault::GpuLost { gpu: 0 }).unwrap();
    assert_eq!(name(&driver), Err(Return::GPU_IS_LOST));
    let by_index = |index| {
        driver.read("nvmlDeviceGetHandleByIndex_v2", |s, v| {
            device::by_index(s, v, index)
        })
    };
    assert_eq!(by_index(0), Err(Return::GPU_IS_LOST));
    assert_eq!(by_index(1), Ok(Device::Gpu(1)));
    assert_eq!(
        driver.read("nvmlDeviceGetCount_v2", |s, v| Ok(device::count(s, v))),
        Ok(2)
    );
    root.reboot().unwrap();
    assert!(name(&driver).is_ok());
}

#[test]
fn a_waiter_gets_the_xid_with_its_instance_as_soon_as_it_happens() {
    let (_folder, root, driver) = machine();
    let set = driver.create_event_set("nvmlEventSetCreate").unwrap();
    driver
        .register_events("nvmlDeviceRegisterEvents", &set, GPU, events::XID_CRITICAL)
        .unwrap();
    let call = "nvmlEventSetWait_v2";
    assert_eq!(driver.wait_event(call, &set, NONE), Err(Return::TIMEOUT));
    let (send, receive) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        send.send(()).unwrap();
        driver.wait_event(call, &set, LONG)
    });
    receive.recv().unwrap();
    for gpu in [1, 0] {
        root.inject(Fault::Xid {
            gpu,
            xid: 94,
            gpu_instance: Some(9),
            compute_instance: Some(0),
        })
        .unwrap();
    }
    let event = waiter.join().unwrap().unwrap();
    assert_eq!(
        (event.device, event.kind, event.data),
        (GPU, events::XID_CRITICAL, 94)
    );
    assert_eq!(
        (event.gpu_instance, event.compute_instance),
        (Some(9), Some(0))
    );
}

#[test]
fn events_are_delivered_in_order_once_and_only_from_registration_on() {
    let (_folder, root, driver) = machine();
    let xid = |xid| Fault::Xid {
        gpu: 0,
        xid,
        gpu_instance: None,
        compute_instance: None,
    };
    root.inject(xid(1)).unwrap();
    let set = driver.create_event_set("nvmlEventSetCreate").unwrap();
    root.inject(xid(2)).unwrap();
    let types = events::XID_CRITICAL | events::MIG_CONFIG_CHANGE;
    driver
        .register_events("nvmlDeviceRegisterEvents", &set, GPU, types)
        .unwrap();
    root.inject(xid(3)).unwrap();
    driver
        .write("nvmlDeviceSetMigMode", |state, _| {
            mode::set(state, GPU, true)
        })
        .unwrap();
    root.inject(xid(4)).unwrap();
    let next = || {
        driver
            .wait_event("nvmlEventSetWait_v2", &set, NONE)
            .map(|e| (e.kind, e.data))
    };
    assert_eq!(next(), Ok((events::XID_CRITICAL, 3)));
    assert_eq!(next(), Ok((events::MIG_CONFIG_CHANGE, 0)));
    assert_eq!(next(), Ok((events::XID_CRITICAL, 4)));
    assert_eq!(next(), Err(Return::TIMEOUT));
}

#[test]
fn a_lost_gpu_is_xid_79_and_then_reported_once() {
    let (_folder, root, driver) = machine();
    let set = driver.create_event_set("nvmlEventSetCreate").unwrap();
    driver
        .register_events("nvmlDeviceRegisterEvents", &set, GPU, events::XID_CRITICAL)
        .unwrap();
    root.inject(Fault::GpuLost { gpu: 0 }).unwrap();
    let next = || {
        driver
            .wait_event("nvmlEventSetWait_v2", &set, NONE)
            .map(|e| e.data)
    };
    assert_eq!(next(), Ok(79));
    assert_eq!(next(), Err(Return::GPU_IS_LOST));
    assert_eq!(next(), Err(Return::TIMEOUT));
}

#[test]
fn the_record_holds_every_call_by_name_and_in_order() {
    let (_folder, root, driver) = machine();
    name(&driver).unwrap();
    root.record_calls(true).unwrap();
    driver
        .write("nvmlDeviceSetMigMode", |state, _| {
            mode::set(state, GPU, true)
        })
        .unwrap();
    let create = |state: &mut migpool_nvml_sim::State| gpu_instance::create(state, GPU, 19, None);
    driver
        .write("nvmlDeviceCreateGpuInstance", |state, _| create(state))
        .unwrap();
    driver
        .write("nvmlDeviceCreateGpuInstance", |state, _| create(state))
        .unwrap();
    name(&driver).unwrap();
    let calls = root.calls().unwrap();
    assert_eq!(calls.first().unwrap(), "nvmlDeviceSetMigMode");
    assert_eq!(calls.last().unwrap(), "nvmlDeviceGetName");
    let counts = root.call_counts().unwrap();
    assert_eq!(
        (counts["nvmlDeviceCreateGpuInstance"], counts.len()),
        (2, 3)
    );
    root.record_calls(false).unwrap();
    name(&driver).unwrap();
    assert!(root.calls().unwrap().is_empty());
}

#[test]
fn a_process_without_write_access_feels_the_faults_too() {
    let (_folder, root, _driver) = machine();
    root.inject(fails("nvmlDeviceGetName", 2)).unwrap();
    let state = root.state().unwrap();
    let mut used = std::collections::BTreeMap::new();
    let mut code = || {
        migpool_nvml_sim::driver::faults::strike_locally(&state, &mut used, "nvmlDeviceGetName")
            .code
    };
    assert_eq!(
        [code(), code(), code()],
        [Some(Return::UNKNOWN), Some(Return::UNKNOWN), None]
    );
}

use std::sync::Arc;

use device_plugin::{Fault, Health, Location, PluginStatus, Resource, ResourceStatus};
use nvml::{FailedGpu, Nvml};
use nvml_sim::DriverRoot;
use partition::{CallRecord, Options, Outcome, Partitioner, Report};

use super::*;
use crate::Asked;
use crate::holders::{Container, Pod};
use crate::observation::{Blocker, Observation};
use crate::status::Parts;

const UID: &str = "uid";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// What two A100s look like in this layout.
fn gpus(layout: &str) -> Inventory {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    DriverRoot::create(&root, &[(mig::board("A100-40GB").unwrap(), 2)]).unwrap();
    let nvml = Nvml::load(&root).unwrap();
    let partitioner = Partitioner::new(nvml.clone(), folder.path().join("state"));
    let report = partitioner
        .apply(&layout.parse().unwrap(), Options::default(), &[])
        .unwrap();
    assert!(report.is_done());
    nvml.inventory().unwrap()
}

fn partition(layout: &str, step: PartitionStep) -> PartitionStatus {
    PartitionStatus {
        layout: layout.to_owned(),
        asked: Some(Asked {
            uid: UID.to_owned(),
            generation: 3,
        }),
        done: step == PartitionStep::Done,
        step,
        ..PartitionStatus::default()
    }
}

fn plugin(told_of: &Arc<Inventory>, devices: usize) -> PluginStatus {
    let resource: Resource = "mig-1g.5gb".parse().unwrap();
    let status = ResourceStatus {
        devices,
        unhealthy: Vec::new(),
        registration: Registration::Registered,
    };
    PluginStatus {
        inventory: Some(Arc::clone(told_of)),
        resources: [(resource, status)].into(),
        ..PluginStatus::default()
    }
}

fn parts(inventory: &Arc<Inventory>, partition: PartitionStatus) -> Parts {
    Parts {
        observation: Observation {
            driver: Driver::Loaded,
            partition: Some(partition),
            seen: true,
        },
        inventory: Arc::clone(inventory),
        advertised: Arc::clone(inventory),
        plugin: Some(plugin(inventory, inventory.mig_devices().count())),
        ..Parts::default()
    }
}

fn told(parts: Parts) -> GpuNodeStatus {
    let before = GpuNodeStatus::default();
    report(
        UID,
        &Status::new(parts),
        &Holders::default(),
        &before,
        at(1),
    )
}

fn condition<'a>(status: &'a GpuNodeStatus, kind: &str) -> &'a Condition {
    let mut conditions = status.conditions.iter();
    conditions.find(|it| it.type_ == kind).unwrap()
}

/// The same text on every machine: UUIDs by where they are.
fn readable(status: &GpuNodeStatus) -> String {
    let mut value = serde_json::to_value(status).unwrap();
    value["agentVersion"] = "0".into();
    let mut text = serde_json::to_string_pretty(&value).unwrap();
    for gpu in &status.gpus {
        text = text.replace(&gpu.uuid, &format!("GPU-{}", gpu.index));
        for slice in &gpu.slices {
            text = text.replace(&slice.uuid, &format!("MIG-{}-{}", gpu.index, slice.start));
        }
    }
    text
}

#[test]
fn a_node_that_is_as_wanted_says_all_of_itself() {
    let inventory = Arc::new(gpus("0=3g.20gb,2g.10gb;1=off"));
    let held = inventory
        .mig_devices()
        .next()
        .unwrap()
        .device
        .uuid
        .to_string();
    let whole = inventory.gpus[1].uuid.to_string();
    let pod = |name: &str| Pod {
        namespace: "ml".to_owned(),
        name: name.to_owned(),
    };
    let container = |name: &str, id: &str| Container {
        name: name.to_owned(),
        devices: vec![id.to_owned()],
    };
    let holders = Holders::new(vec![
        (pod("train"), vec![container("main", &format!("{held}::1"))]),
        (pod("whole"), vec![container("side", &whole)]),
    ]);
    let mut layout = partition("0=3g.20gb,2g.10gb;1=off", PartitionStep::Done);
    layout.report = Some(Report {
        started: "2026-11-24T00:00:00Z".parse().unwrap(),
        duration_us: 1,
        layout: layout.layout.clone(),
        outcome: Outcome::Done,
        calls: vec![CallRecord {
            call: "nvmlDeviceCreateGpuInstanceWithPlacement".to_owned(),
            gpu: 0,
            uuid: whole,
            arguments: "3g.20gb at 0".to_owned(),
            result: "ok, GPU instance 1".to_owned(),
            ok: true,
            duration_us: 1,
        }],
        problems: Vec::new(),
        inventory: None,
    });
    let second = inventory.mig_devices().nth(1).unwrap();
    let at_second = Location::slice(
        second.gpu.uuid.clone(),
        second.gpu_instance.id,
        second.compute_instance.id,
    );
    let status = Status::new(Parts {
        health: Arc::new(Health::from_iter([(at_second, Fault::Xid(48))])),
        ..parts(&inventory, layout)
    });
    let status = report(UID, &status, &holders, &GpuNodeStatus::default(), at(60));
    insta::assert_snapshot!(readable(&status));
}

#[test]
fn ready_is_only_said_of_what_was_seen_and_advertised() {
    let old = Arc::new(gpus("1g.5gb"));
    let new = Arc::new(gpus("3g.20gb"));
    let done = || partition("3g.20gb", PartitionStep::Done);

    // The driver has done it, and nobody has looked yet.
    let unseen = told(parts(&old, done()));
    assert_eq!(unseen.phase, Phase::Partitioning);
    assert_eq!(unseen.layout, None);
    assert_eq!(condition(&unseen, "Ready").status, "False");

    let untold = told(Parts {
        plugin: Some(plugin(&old, 14)),
        ..parts(&new, done())
    });
    assert_eq!(untold.phase, Phase::Starting);
    assert_eq!(condition(&untold, "Ready").status, "False");

    let ready = told(parts(&new, done()));
    assert_eq!(
        (ready.phase, ready.observed_generation),
        (Phase::Ready, Some(3))
    );
    assert_eq!(ready.layout.as_deref(), Some("3g.20gb"));
    assert_eq!(ready.current_layout.as_deref(), Some("0-1=3g.20gb*2"));
    assert_eq!(condition(&ready, "Ready").status, "True");
}

#[test]
fn each_step_has_its_phase_and_its_words() {
    let inventory = Arc::new(gpus("1g.5gb"));
    let of = |step, message: Option<&str>| {
        let mut partition = partition("MIG3g", step);
        partition.message = message.map(ToOwned::to_owned);
        told(parts(&inventory, partition))
    };
    assert_eq!(of(PartitionStep::Changing, None).phase, Phase::Partitioning);
    let refused = of(PartitionStep::Refused, Some("GPU 0 has no room"));
    assert_eq!(refused.phase, Phase::Refused);
    assert_eq!(refused.message, "GPU 0 has no room");
    let ready = condition(&refused, "Ready");
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "LayoutRefused")
    );
    assert_eq!(
        of(PartitionStep::Failed, Some("the driver")).phase,
        Phase::Failed
    );

    let mut draining = partition("MIG3g", PartitionStep::Draining);
    draining.message = Some("it waits".to_owned());
    draining.blockers = vec![Blocker {
        gpu: 0,
        what: "1g.5gb at 2 (GPU instance 9)".to_owned(),
        who: "pod ml/train".to_owned(),
        pod: None,
    }];
    let draining = told(parts(&inventory, draining));
    assert_eq!(draining.phase, Phase::Draining);
    assert_eq!(
        draining.waiting_for,
        ["pod ml/train uses 1g.5gb at 2 (GPU instance 9) of GPU 0"]
    );
    assert_eq!(draining.current_layout.as_deref(), Some("0-1=1g.5gb*7"));
}

#[test]
fn a_layout_that_is_none_is_refused_and_not_claimed() {
    let inventory = Arc::new(gpus("1g.5gb"));
    let mut partition = partition("1g.5gb", PartitionStep::Done);
    partition.complaint = Some("node pool training wants `oops`".to_owned());
    let status = told(parts(&inventory, partition));
    assert_eq!(status.phase, Phase::Refused);
    assert_eq!(status.message, "node pool training wants `oops`");
    assert_eq!(status.layout.as_deref(), Some("1g.5gb"));
    assert_eq!(condition(&status, "Ready").status, "False");
}

#[test]
fn what_another_object_wanted_is_not_said_of_this_one() {
    let inventory = Arc::new(gpus("1g.5gb"));
    let status = Status::new(parts(&inventory, partition("1g.5gb", PartitionStep::Done)));
    let before = GpuNodeStatus::default();
    let told = report("another", &status, &Holders::default(), &before, at(1));
    assert_eq!(told.observed_generation, None);
}

#[test]
fn a_condition_keeps_its_time_and_a_lost_gpu_is_told_of() {
    let inventory = Arc::new(gpus("1g.5gb"));
    let status = Status::new(parts(&inventory, partition("1g.5gb", PartitionStep::Done)));
    let first = report(
        UID,
        &status,
        &Holders::default(),
        &GpuNodeStatus::default(),
        at(1),
    );
    let again = report(UID, &status, &Holders::default(), &first, at(2));
    assert_eq!(first, again, "nothing is new, so nothing is written");

    let mut lost = Inventory::clone(&inventory);
    let gpu = lost.gpus.remove(1);
    lost.failed.push(FailedGpu {
        index: 1,
        uuid: Some(gpu.uuid),
        reason: "GPU is lost".to_owned(),
    });
    let lost = Arc::new(lost);
    let status = Status::new(parts(&lost, partition("1g.5gb", PartitionStep::Done)));
    let third = report(UID, &status, &Holders::default(), &first, at(3));
    assert_eq!(third.phase, Phase::Degraded);
    assert_eq!(third.layout.as_deref(), Some("1g.5gb"));
    assert_eq!((third.gpus.len(), third.slices), (2, 7));
    assert_eq!(third.gpus[1].fault, "GPU is lost");
    assert_eq!(third.summary, "1 x A100-40GB, 1 not answering");
    assert_eq!(condition(&third, "Ready").last_transition_time.0, at(1));
    assert_eq!(
        condition(&third, "GPUsHealthy").last_transition_time.0,
        at(3)
    );
}

#[test]
fn without_a_driver_it_is_idle_and_while_it_is_looked_for_all_stays() {
    let mut missing = Parts::default();
    missing.observation.driver = Driver::Missing("no library".to_owned());
    let idle = told(missing);
    assert_eq!(
        (idle.phase, idle.message.as_str()),
        (Phase::Idle, "no library")
    );
    assert!(idle.gpus.is_empty());
    assert_eq!(condition(&idle, "Ready").reason, "NoDriver");

    let inventory = Arc::new(gpus("1g.5gb"));
    let before = told(parts(&inventory, partition("1g.5gb", PartitionStep::Done)));
    let starting = Status::new(Parts::default());
    let starting = report(UID, &starting, &Holders::default(), &before, at(2));
    assert_eq!((starting.phase, starting.slices), (Phase::Starting, 14));
    assert_eq!(starting.layout, None);
    assert_eq!(condition(&starting, "Ready").status, "False");
}

#[test]
fn last_words_say_why_and_that_nothing_is_advertised() {
    let inventory = Arc::new(gpus("1g.5gb"));
    let before = told(parts(&inventory, partition("1g.5gb", PartitionStep::Done)));
    assert!(!before.resources.is_empty());
    let last = Status {
        phase: crate::Phase::Stopped,
        message: "cannot start a thread".to_owned(),
        ..Status::default()
    };
    let words = stopped(&before, &last, at(9));
    assert_eq!(words.phase, Phase::Stopped);
    assert_eq!(words.message, "the agent has ended: cannot start a thread");
    assert!(words.resources.is_empty());
    assert_eq!(words.slices, 14);
    assert_eq!(condition(&words, "Ready").reason, "AgentStopped");
    assert_eq!(condition(&words, "GPUsHealthy").status, "True");
}

#[test]
fn lists_are_bounded() {
    let lines = |count: usize| bounded((0..count).map(|line| line.to_string()).collect());
    assert_eq!(lines(64).len(), 64);
    let many = lines(100);
    assert_eq!((many.len(), many[63].as_str()), (64, "and 37 more"));
}

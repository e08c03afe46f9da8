use super::*;
use crate::evictions::EvictionStatus;
use crate::holders::Pod;
use crate::inventories::nothing;
use crate::observation::Observation;
use crate::status::Parts;
use crate::{DiscoveryStatus, Drain};
use device_plugin::{
    Fault, Health, Location, PluginStatus, Registration, Resource, ResourceStatus,
};
use nvml::{FailedGpu, Inventory};
use partition::{CallRecord, Outcome, Problem, Report};

fn parts(driver: Driver) -> Parts {
    Parts {
        observation: Observation {
            driver,
            seen: true,
            ..Observation::default()
        },
        ..Parts::default()
    }
}

fn partition(step: PartitionStep) -> PartitionStatus {
    PartitionStatus {
        layout: "MIG1g".to_owned(),
        done: step == PartitionStep::Done,
        step,
        ..PartitionStatus::default()
    }
}

fn with(partition: PartitionStatus) -> Parts {
    let mut parts = parts(Driver::Loaded);
    parts.observation.partition = Some(partition);
    parts
}

fn plugin(registration: Registration) -> PluginStatus {
    let resource: Resource = "gpu".parse().unwrap();
    let status = ResourceStatus {
        devices: 7,
        unhealthy: Vec::new(),
        registration,
    };
    PluginStatus {
        inventory: Some(nothing().into()),
        resources: [(resource, status)].into(),
        ..PluginStatus::default()
    }
}

fn report(kind: Option<ProblemKind>) -> Report {
    let call = CallRecord {
        call: "nvmlDeviceSetMigMode".to_owned(),
        gpu: 0,
        uuid: "GPU-a".to_owned(),
        arguments: String::new(),
        result: "ok".to_owned(),
        ok: true,
        duration_us: 1,
    };
    let problem = |kind| Problem {
        gpu: 0,
        uuid: None,
        kind,
        message: String::new(),
    };
    Report {
        started: "2026-11-24T00:00:00Z".parse().unwrap(),
        duration_us: 1,
        layout: "MIG1g".to_owned(),
        outcome: Outcome::Done,
        calls: vec![call],
        problems: kind.map(problem).into_iter().collect(),
        inventory: None,
    }
}

fn report_of(parts: Parts) -> NodeReport {
    desired(&Status::new(parts))
}

/// All that people read, in lines.
fn said(parts: Parts) -> String {
    let report = report_of(parts);
    let taint = match report.taint {
        None => "taint: as it is",
        Some(true) => "taint: on",
        Some(false) => "taint: off",
    };
    let mut lines = vec![taint.to_owned()];
    match &report.conditions {
        None => lines.push("conditions: as they are".to_owned()),
        Some(conditions) => lines.extend(
            conditions
                .iter()
                .map(|it| format!("{}={:?} {}: {}", it.kind, it.status, it.reason, it.message)),
        ),
    }
    for note in &report.notes {
        let Event {
            kind, reason, note, ..
        } = &note.event;
        lines.push(format!("{kind:?} {reason}: {note}"));
    }
    lines.join("\n")
}

#[test]
fn a_node_without_gpus_says_nothing_and_loses_what_an_earlier_agent_left() {
    let report = report_of(parts(Driver::Missing("no driver".to_owned())));
    let expected = NodeReport {
        taint: Some(false),
        conditions: Some(Vec::new()),
        notes: Vec::new(),
    };
    assert_eq!(report, expected);
}

#[test]
fn what_is_not_known_yet_changes_nothing() {
    assert_eq!(report_of(Parts::default()), NodeReport::default());
    let pending = report_of(with(partition(PartitionStep::Pending)));
    assert_eq!((pending.taint, pending.conditions), (None, None));
}

#[test]
fn the_taint_stays_until_the_kubelet_was_told_of_the_slices() {
    let taint = |step, registration| {
        let mut parts = with(partition(step));
        parts.plugin = Some(plugin(registration));
        report_of(parts).taint
    };
    let waiting = Registration::WaitingForKubelet;
    for step in [
        PartitionStep::HoldingBack,
        PartitionStep::Draining,
        PartitionStep::Changing,
    ] {
        assert_eq!(taint(step, waiting.clone()), Some(true), "{step:?}");
    }
    assert_eq!(taint(PartitionStep::Done, waiting), None);
    assert_eq!(
        taint(PartitionStep::Done, Registration::Registered),
        Some(false)
    );
}

#[test]
fn slices_that_the_plugin_has_not_taken_in_yet_are_not_told_of() {
    let mut parts = with(partition(PartitionStep::Done));
    parts.plugin = Some(PluginStatus {
        inventory: None,
        ..plugin(Registration::Registered)
    });
    let report = report_of(parts);
    assert_eq!((report.taint, report.conditions), (None, None));
}

#[test]
fn a_layout_that_cannot_be_and_a_gpu_that_is_lost_keep_no_pod_away() {
    assert_eq!(
        report_of(with(partition(PartitionStep::Refused))).taint,
        Some(false)
    );
    let failed = |kind| {
        report_of(with(PartitionStatus {
            report: Some(report(Some(kind))),
            ..partition(PartitionStep::Failed)
        }))
        .taint
    };
    assert_eq!(failed(ProblemKind::Unreadable), Some(false));
    assert_eq!(failed(ProblemKind::Call), Some(true));
}

#[test]
fn a_layout_that_is_there_is_told_once_it_can_be_had() {
    let parts = || Parts {
        plugin: Some(plugin(Registration::Registered)),
        ..with(PartitionStatus {
            report: Some(report(None)),
            ..partition(PartitionStep::Done)
        })
    };
    insta::assert_snapshot!(said(parts()), @r"
    taint: off
    GPUsHealthy=True NoFaults: nothing is wrong with 0 GPUs, 0 MIG devices
    MigLayoutReady=True LayoutReady: the GPUs have the layout MIG1g: 0 GPUs, 0 MIG devices
    Normal Partitioned: the GPUs have the layout MIG1g: 0 GPUs, 0 MIG devices
    ");
    let mut waiting = parts();
    waiting.plugin = Some(plugin(Registration::WaitingForKubelet));
    insta::assert_snapshot!(said(waiting), @r"
    taint: as it is
    GPUsHealthy=True NoFaults: nothing is wrong with 0 GPUs, 0 MIG devices
    MigLayoutReady=False NotAdvertised: waiting for the kubelet, to register nvidia.com/gpu
    Warning NotAdvertised: waiting for the kubelet, to register nvidia.com/gpu
    ");
}

#[test]
fn a_lost_gpu_and_an_xid_are_named_in_words() {
    let gpu = |name: &str| name.parse::<nvml::GpuUuid>().unwrap();
    let mut parts = parts(Driver::Loaded);
    parts.inventory = Inventory {
        failed: vec![FailedGpu {
            index: 3,
            uuid: Some(gpu("GPU-c")),
            reason: "GPU is lost (NVML_ERROR_GPU_IS_LOST, 15)".to_owned(),
        }],
        ..nothing()
    }
    .into();
    let at = Location::slice(gpu("GPU-a"), 7, 0);
    parts.health = Health::from_iter([(at, Fault::Xid(94))]).into();
    insta::assert_snapshot!(said(parts), @r"
    taint: off
    GPUsHealthy=False GPULost: GPU 3 (GPU-c): GPU is lost (NVML_ERROR_GPU_IS_LOST, 15); GPU-a GPU instance 7 compute instance 0: XID 94 (uncorrectable memory error, contained to one application)
    Warning GPULost: GPU 3 (GPU-c): GPU is lost (NVML_ERROR_GPU_IS_LOST, 15)
    Warning GPUFault: GPU-a GPU instance 7 compute instance 0: XID 94 (uncorrectable memory error, contained to one application)
    ");
}

#[test]
fn a_drain_names_who_is_waited_for_and_the_budget_that_keeps_them() {
    let mut parts = with(PartitionStatus {
        drain: Drain::Evict,
        drains: 1,
        message: Some(
            "the layout MIG3g waits until what has to go is free: pod default/train uses 1g.5gb at 0 (GPU instance 7) \
             of GPU 0"
                .to_owned(),
        ),
        ..partition(PartitionStep::Draining)
    });
    parts.evictions = vec![EvictionStatus {
        pod: Pod {
            namespace: "default".to_owned(),
            name: "train".to_owned(),
        },
        state: EvictionState::Blocked {
            budget: Some("guard".to_owned()),
            message: "Cannot evict pod as it would violate the pod's disruption budget.".to_owned(),
        },
    }];
    insta::assert_snapshot!(said(parts), @r"
    taint: on
    GPUsHealthy=True NoFaults: nothing is wrong with 0 GPUs, 0 MIG devices
    MigLayoutReady=False Draining: the layout MIG3g waits until what has to go is free: pod default/train uses 1g.5gb at 0 (GPU instance 7) of GPU 0; PodDisruptionBudget default/guard does not let pod default/train go: Cannot evict pod as it would violate the pod's disruption budget.
    Normal Draining: the layout MIG3g waits until what has to go is free: pod default/train uses 1g.5gb at 0 (GPU instance 7) of GPU 0
    Warning EvictionBlocked: PodDisruptionBudget default/guard does not let pod default/train go: Cannot evict pod as it would violate the pod's disruption budget.
    ");
}

#[test]
fn a_layout_that_is_refused_or_unknown_is_told_with_the_reason() {
    let refused = PartitionStatus {
        message: Some(
            "the layout cannot be applied, and nothing was changed: GPU 0: too large".to_owned(),
        ),
        ..partition(PartitionStep::Refused)
    };
    insta::assert_snapshot!(said(with(refused)), @r"
    taint: off
    GPUsHealthy=True NoFaults: nothing is wrong with 0 GPUs, 0 MIG devices
    MigLayoutReady=False LayoutRefused: the layout cannot be applied, and nothing was changed: GPU 0: too large
    Warning LayoutRefused: the layout cannot be applied, and nothing was changed: GPU 0: too large
    ");
    let unknown = PartitionStatus {
        complaint: Some(
            "the wanted layout is unknown, MIG1g stays wanted: cannot read it".to_owned(),
        ),
        ..partition(PartitionStep::Done)
    };
    insta::assert_snapshot!(said(with(unknown)), @r"
    taint: off
    GPUsHealthy=True NoFaults: nothing is wrong with 0 GPUs, 0 MIG devices
    MigLayoutReady=False LayoutUnknown: the wanted layout is unknown, MIG1g stays wanted: cannot read it
    Warning LayoutUnknown: the wanted layout is unknown, MIG1g stays wanted: cannot read it
    ");
}

#[test]
fn what_is_wrong_besides_the_gpus_is_told_too() {
    let mut parts = parts(Driver::Failed("no answer from the driver".to_owned()));
    parts.config = Some("cannot read /config/config.yaml".to_owned());
    parts.discovery = Some(DiscoveryStatus {
        error: Some("not allowed to patch nodes".to_owned()),
        warnings: vec!["the label nvidia.com/gpu.machine is left as it is".to_owned()],
        ..DiscoveryStatus::default()
    });
    insta::assert_snapshot!(said(parts), @r"
    taint: as it is
    GPUsHealthy=False DriverFailed: no answer from the driver
    Warning ConfigRefused: cannot read /config/config.yaml
    Warning DriverFailed: no answer from the driver
    Warning LabelsNotWritten: not allowed to patch nodes
    Warning LabelsIncomplete: the label nvidia.com/gpu.machine is left as it is
    ");
}

#[test]
fn a_note_is_said_once_for_as_long_as_it_holds_and_then_that_it_is_over() {
    let start = Instant::now();
    let over = normal("GPURecovered", "Watch", "over");
    let note = Note {
        over: Some(over.clone()),
        ..Note::new("gpu 3", warning("GPULost", "Watch", "lost"))
    };
    let mut journal = Journal::default();
    let first = journal.take(vec![note.clone()], start);
    assert_eq!(first.as_slice(), std::slice::from_ref(&note.event));
    assert_eq!(journal.take(vec![note.clone()], start), []);
    assert_eq!(journal.take(Vec::new(), start), [over]);
    assert_eq!(journal.take(vec![note.clone()], start), [note.event]);
}

#[test]
fn a_note_that_may_pass_is_not_said_before_its_time() {
    let start = Instant::now();
    let note = Note {
        after: KUBELET,
        over: Some(normal("Over", "Watch", "over")),
        ..Note::new("kubelet", warning("NotAdvertised", "Advertise", "waiting"))
    };
    let mut journal = Journal::default();
    assert_eq!(journal.take(vec![note.clone()], start), []);
    assert_eq!(journal.due(), Some(start + KUBELET));
    // What was not said is not over either.
    assert_eq!(journal.take(Vec::new(), start), []);
    assert_eq!(journal.take(vec![note.clone()], start), []);
    assert_eq!(
        journal.take(vec![note.clone()], start + KUBELET),
        [note.event]
    );
    assert_eq!(journal.due(), None);
}

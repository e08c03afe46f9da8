use super::*;
use crate::inventories::nothing as inventory;
use device_plugin::{Location, Resource, ResourceStatus};
use nvml::FailedGpu;

fn status(observation: Observation, plugin: Option<PluginStatus>) -> Status {
    Status::new(Parts {
        observation,
        plugin,
        ..Parts::default()
    })
}

fn with(inventory: Inventory, health: Health) -> Status {
    Status::new(Parts {
        observation: loaded(None),
        inventory: Arc::new(inventory),
        health: Arc::new(health),
        ..Parts::default()
    })
}

fn loaded(partition: Option<PartitionStatus>) -> Observation {
    Observation {
        driver: Driver::Loaded,
        partition,
        seen: true,
    }
}

fn plugin(registration: Registration) -> PluginStatus {
    let resource: Resource = "gpu".parse().unwrap();
    let status = ResourceStatus {
        devices: 1,
        unhealthy: Vec::new(),
        registration,
    };
    PluginStatus {
        resources: [(resource, status)].into(),
        ..PluginStatus::default()
    }
}

#[test]
fn no_driver_is_idle_and_ready() {
    let driver = Driver::Missing("no library".to_owned());
    let status = status(
        Observation {
            driver,
            ..Observation::default()
        },
        None,
    );
    assert_eq!((status.phase, status.ready), (Phase::Idle, true));
    assert_eq!(status.message, "no library");
    assert_eq!(status.inventory, None);
}

#[test]
fn a_driver_that_fails_is_not_ready() {
    let driver = Driver::Failed("mismatch".to_owned());
    let status = status(
        Observation {
            driver,
            ..Observation::default()
        },
        None,
    );
    assert_eq!((status.phase, status.ready), (Phase::Degraded, false));
}

#[test]
fn a_layout_that_is_not_reached_is_not_ready_and_says_why() {
    let partition = PartitionStatus {
        layout: "MIG1g".to_owned(),
        ..Default::default()
    };
    let running = status(loaded(Some(partition.clone())), None);
    assert_eq!((running.phase, running.ready), (Phase::Partitioning, false));
    let refused = PartitionStatus {
        step: PartitionStep::Refused,
        message: Some("in use".to_owned()),
        ..partition
    };
    let refused = status(loaded(Some(refused)), None);
    assert_eq!((refused.phase, refused.ready), (Phase::Degraded, false));
    assert_eq!(refused.message, "in use");
}

#[test]
fn ready_is_when_the_kubelet_has_taken_everything() {
    let waiting = status(loaded(None), Some(plugin(Registration::WaitingForKubelet)));
    assert_eq!((waiting.phase, waiting.ready), (Phase::Starting, false));
    let registered = status(loaded(None), Some(plugin(Registration::Registered)));
    assert_eq!((registered.phase, registered.ready), (Phase::Ready, true));
}

#[test]
fn a_lost_gpu_is_told_of_once() {
    let gpu: nvml::GpuUuid = "GPU-a".parse().unwrap();
    let health = Health::from_iter([(Location::gpu(gpu.clone()), Fault::Xid(79))]);
    let mut inventory = inventory();
    inventory.failed.push(FailedGpu {
        index: 3,
        uuid: Some(gpu),
        reason: "GPU is lost".to_owned(),
    });
    let status = with(inventory, health);
    assert_eq!(status.message, "GPU 3 (GPU-a): GPU is lost");
}

#[test]
fn a_fault_or_a_lost_gpu_degrades_a_node_that_still_works() {
    let at = Location::slice("GPU-a".parse().unwrap(), 7, 0);
    let health = Health::from_iter([(at, Fault::Xid(48))]);
    let mut inventory = inventory();
    inventory.failed.push(FailedGpu {
        index: 3,
        uuid: None,
        reason: "lost".to_owned(),
    });
    let status = with(inventory, health);
    assert_eq!((status.phase, status.ready), (Phase::Degraded, true));
    assert_eq!(
        status.message,
        "GPU 3: lost; GPU-a GPU instance 7 compute instance 0: XID 48 (memory error that ECC could not correct)"
    );
}

#[test]
fn what_only_somebody_can_mend_is_not_ready_and_a_server_that_is_away_is() {
    let cluster = |blocked| {
        Status::new(Parts {
            observation: loaded(None),
            cluster: Some(ClusterStatus {
                tainted: None,
                error: Some("the API server says".to_owned()),
                blocked,
            }),
            ..Parts::default()
        })
    };
    assert!(!cluster(true).ready);
    let away = cluster(false);
    assert_eq!((away.phase, away.ready), (Phase::Degraded, true));
    assert_eq!(away.message, "the API server says");
}

#[test]
fn a_wanted_layout_that_is_unknown_is_not_ready_though_the_old_one_is_there() {
    let partition = PartitionStatus {
        step: PartitionStep::Done,
        done: true,
        complaint: Some("cannot read it".to_owned()),
        ..PartitionStatus::default()
    };
    let status = status(loaded(Some(partition)), None);
    assert_eq!((status.phase, status.ready), (Phase::Degraded, false));
    assert_eq!(status.message, "cannot read it");
}

#[test]
fn what_is_held_back_is_no_fault() {
    let at = Location::slice("GPU-a".parse().unwrap(), 7, 0);
    let status = with(inventory(), Health::from_iter([(at, Fault::HeldBack)]));
    assert_eq!((status.faults.len(), status.held_back), (0, 1));
    assert_eq!(status.phase, Phase::Ready);
}

//! Nodes that are not as one expects.

use std::path::Path;

use discovery::{GpuMode, Labels, labels, warnings};
use mig::MigStrategy;
use nvml::FailedGpu;

use crate::node::{node, options};

fn get<'a>(labels: &'a Labels, name: &str) -> Option<&'a str> {
    labels
        .get(&format!("nvidia.com/{name}"))
        .map(String::as_str)
}

#[test]
fn the_single_strategy_is_invalid_for_each_of_its_reasons() {
    for (layout, reason) in [
        ("0=MIG1g;1=MIG2g", "MIG devices of"),
        ("0=MIG1g;1=off", "GPU 1 is not"),
        (
            "0=MIG1g;1=empty",
            "GPU 1 is in MIG mode and has no MIG device",
        ),
    ] {
        let inventory = node(&[("A100-40GB", 2)], layout);
        let options = options(MigStrategy::Single);
        let labels = labels(&inventory, &options);
        assert_eq!(
            get(&labels, "gpu.product"),
            Some("NVIDIA-A100-SXM4-40GB-MIG-INVALID")
        );
        for name in ["gpu.count", "gpu.replicas", "gpu.memory"] {
            assert_eq!(get(&labels, name), Some("0"), "{layout}: {name}");
        }
        assert_eq!(get(&labels, "mig.strategy"), Some("single"));
        assert_eq!(get(&labels, "gpu.slices.gi"), None, "{layout}");
        let warnings = warnings(&inventory, &options);
        assert!(
            matches!(&warnings[..], [one] if one.contains(reason)),
            "{warnings:?}"
        );
    }
}

#[test]
fn a_valid_node_has_no_warning_under_any_strategy() {
    let inventory = node(&[("A100-40GB", 2)], "MIG3g");
    for strategy in [MigStrategy::None, MigStrategy::Single, MigStrategy::Mixed] {
        assert_eq!(warnings(&inventory, &options(strategy)), [""; 0]);
    }
}

#[test]
fn of_several_models_the_labels_speak_of_the_one_with_whole_gpus_and_say_so() {
    let inventory = node(&[("A100-40GB", 2), ("H200-141GB", 1)], "0-1=MIG1g;2=off");
    let options = options(MigStrategy::Mixed);
    let labels = labels(&inventory, &options);
    assert_eq!(get(&labels, "gpu.product"), Some("NVIDIA-H200"));
    assert_eq!(get(&labels, "gpu.count"), Some("1"));
    assert_eq!(get(&labels, "mig-1g.5gb.count"), Some("14"));
    let warnings = warnings(&inventory, &options);
    assert!(
        matches!(&warnings[..], [one] if one.contains("NVIDIA A100-SXM4-40GB")),
        "{warnings:?}"
    );
}

#[test]
fn a_gpu_that_cannot_be_read_is_not_counted_and_told() {
    let mut inventory = node(&[("A100-40GB", 2)], "MIG1g");
    inventory.gpus.pop();
    let reason = "GPU is lost".to_owned();
    inventory.failed.push(FailedGpu {
        index: 1,
        uuid: None,
        reason,
    });
    let options = options(MigStrategy::Single);
    assert_eq!(get(&labels(&inventory, &options), "gpu.count"), Some("7"));
    assert_eq!(
        warnings(&inventory, &options),
        ["GPU 1 is not in the labels: GPU is lost"]
    );
}

#[test]
fn a_node_without_gpus_has_the_timestamp_alone() {
    let mut inventory = node(&[("A100-40GB", 1)], "off");
    inventory.gpus.clear();
    let mut options = options(MigStrategy::Mixed);
    let with_time = labels(&inventory, &options);
    assert_eq!(
        with_time.into_iter().collect::<Vec<_>>(),
        [(
            "nvidia.com/gfd.timestamp".to_owned(),
            "1790000000".to_owned()
        )]
    );
    options.timestamp = None;
    assert!(labels(&inventory, &options).is_empty());
}

#[test]
fn long_names_stay_label_values_and_keep_their_profile() {
    let mut inventory = node(&[("A100-40GB", 1)], "1g.5gb+me,1c.3g.20gb*3");
    inventory.gpus[0].name = format!("NVIDIA {}", "Very Long (TM) Board Name ".repeat(9));
    let mut options = options(MigStrategy::Mixed);
    options.machine_type = "§ Machine ".repeat(40);
    let labels = labels(&inventory, &options);
    for (name, value) in &labels {
        assert!(value.len() <= 63, "{name}={value}");
        assert!(
            value
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)),
            "{name}={value}"
        );
        let key = name.strip_prefix("nvidia.com/").unwrap();
        assert!(
            key.len() <= 63
                && key
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)),
            "{name}"
        );
    }
    assert!(
        get(&labels, "mig-1g.5gb.me.product")
            .unwrap()
            .ends_with("-MIG-1g.5gb.me")
    );
    assert!(
        get(&labels, "mig-1c.3g.20gb.product")
            .unwrap()
            .ends_with("-MIG-1c.3g.20gb")
    );
}

#[test]
fn the_mode_is_what_all_pci_classes_agree_on() {
    let mut inventory = node(&[("A100-40GB", 2)], "off");
    let mode = |inventory: &nvml::Inventory| GpuMode::detect(inventory, Path::new("/nonexistent"));
    for gpu in &mut inventory.gpus {
        gpu.pci_class = Some(0x0302);
    }
    assert_eq!(mode(&inventory), GpuMode::Compute);
    inventory.gpus[1].pci_class = Some(0x0300);
    assert_eq!(mode(&inventory), GpuMode::Unknown, "they differ");
    inventory.gpus[0].pci_class = Some(0x0300);
    assert_eq!(mode(&inventory), GpuMode::Graphics);
    inventory.gpus.clear();
    assert_eq!(mode(&inventory), GpuMode::Unknown, "no GPU");
}

#[test]
fn a_class_that_the_driver_does_not_tell_is_read_from_sysfs() {
    let mut inventory = node(&[("A100-40GB", 1)], "off");
    inventory.gpus[0].pci_class = None;
    inventory.gpus[0].pci_bus_id = "00000000:4E:00.0".to_owned();
    let sysfs = tempfile::tempdir().unwrap();
    assert_eq!(GpuMode::detect(&inventory, sysfs.path()), GpuMode::Unknown);
    let device = sysfs.path().join("bus/pci/devices/0000:4e:00.0");
    std::fs::create_dir_all(&device).unwrap();
    std::fs::write(device.join("class"), "0x030200\n").unwrap();
    assert_eq!(GpuMode::detect(&inventory, sysfs.path()), GpuMode::Compute);
}

//! Assert and export over inventories made by hand.

use mig::NodeLayout;
use nvml::Inventory;
use partition::{Difference, ExportError, assert, export};

use crate::by_hand::{a100, failed, in_mode, instance, inventory, whole};

fn layout(text: &str) -> NodeLayout {
    text.parse().unwrap()
}

fn told(inventory: &Inventory, wanted: &str) -> Vec<String> {
    assert(inventory, &layout(wanted))
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn placement_does_not_matter_and_profiles_do() {
    let node = inventory(vec![a100(
        0,
        vec![whole(1, "3g.20gb", 4), whole(5, "1g.5gb", 2)],
    )]);
    assert_eq!(told(&node, "3g.20gb,1g.5gb"), [""; 0]);
    assert_eq!(
        told(&node, "3g.20gb,2g.10gb"),
        ["GPU 0: 1 1g.5gb too many", "GPU 0: 1 2g.10gb missing"]
    );
}

#[test]
fn a_slice_without_its_compute_instance_is_a_difference() {
    let node = inventory(vec![a100(0, vec![instance(1, "3g.20gb", 0, &[])])]);
    assert_eq!(
        told(&node, "3g.20gb*1"),
        [
            "GPU 0: 1 3g.20gb without compute instances too many",
            "GPU 0: 1 3g.20gb missing"
        ]
    );
}

#[test]
fn a_pending_mode_and_an_unreadable_gpu_and_a_missing_one_are_differences() {
    let mut node = inventory(vec![in_mode(a100(0, vec![]), false, true)]);
    node.failed.push(failed(1));
    let differences = assert(&node, &layout("0-2=empty"));
    let told: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert!(
        matches!(differences[0], Difference::NoSuchGpu { gpu: 2 }),
        "{told:?}"
    );
    assert_eq!(
        told[1],
        "GPU 0: MIG mode is off, wanted on (it will be on after a reset)"
    );
    assert!(told[2].contains("GPU 1: cannot be read"), "{told:?}");
}

#[test]
fn a_uniform_node_is_exported_in_one_word() {
    let gpus =
        (0..2).map(|index| a100(index, vec![whole(1, "3g.20gb", 0), whole(2, "3g.20gb", 4)]));
    assert_eq!(
        export(&inventory(gpus.collect())).unwrap().to_string(),
        "3g.20gb*2"
    );
}

#[test]
fn a_mixed_node_is_exported_gpu_by_gpu() {
    let divided = instance(1, "3g.20gb", 0, &[(1, 0), (2, 1)]);
    let node = inventory(vec![
        a100(0, vec![divided]),
        in_mode(a100(1, vec![]), false, false),
        a100(2, vec![]),
        in_mode(a100(3, vec![]), false, false),
    ]);
    let exported = export(&node).unwrap();
    assert_eq!(assert(&node, &exported), []);
    assert!(exported.to_string().contains("1,3=off"), "{exported}");
    assert!(exported.to_string().contains("2=empty"), "{exported}");
}

#[test]
fn a_division_that_a_layout_cannot_say_is_an_error_not_a_lie() {
    let spread = vec![
        instance(1, "3g.20gb", 0, &[(1, 0)]),
        instance(2, "3g.20gb", 4, &[(1, 0), (1, 1)]),
    ];
    let error = export(&inventory(vec![a100(0, spread)])).unwrap_err();
    assert!(
        matches!(error, ExportError::NotExpressible { gpu: 0, .. }),
        "{error}"
    );
    assert_eq!(export(&inventory(vec![])).unwrap_err(), ExportError::NoGpu);
}

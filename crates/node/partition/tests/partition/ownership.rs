//! The record of what is ours.

use partition::{Options, Ownership, plan};

use crate::by_hand::{a100, failed, inventory, whole};

#[test]
fn the_record_survives_and_belongs_to_the_place_not_the_profile_alone() {
    let dir = tempfile::tempdir().unwrap();
    let node = inventory(vec![a100(
        0,
        vec![whole(1, "3g.20gb", 0), whole(2, "3g.20gb", 4)],
    )]);
    let gpu = &node.gpus[0];
    let mut ours = Ownership::load(dir.path()).unwrap();
    assert!(ours.claim(&gpu.uuid, 9, 4));
    assert!(!ours.claim(&gpu.uuid, 9, 4), "claimed already");
    ours.save(dir.path()).unwrap();
    let read = Ownership::load(dir.path()).unwrap();
    assert_eq!(read, ours);
    assert!(!read.owns(&gpu.uuid, &gpu.instances[0]));
    assert!(read.owns(&gpu.uuid, &gpu.instances[1]));
}

#[test]
fn an_intent_whose_place_is_empty_is_dropped_and_one_of_an_unreadable_gpu_is_kept() {
    let mut node = inventory(vec![a100(0, vec![whole(1, "3g.20gb", 0)])]);
    node.failed.push(failed(1));
    let mut ours = Ownership::default();
    ours.claim(&node.gpus[0].uuid, 9, 0);
    ours.claim(&node.gpus[0].uuid, 9, 4);
    ours.claim(&"GPU-1".parse().unwrap(), 9, 4);
    assert!(ours.retain_present(&node));
    let left: Vec<_> = ours
        .intents()
        .map(|intent| (intent.gpu.as_str(), intent.start))
        .collect();
    assert_eq!(left, [("GPU-0", 0), ("GPU-1", 4)]);
    assert!(!ours.retain_present(&node));
}

#[test]
fn a_plan_is_claimed_before_it_is_carried_out() {
    let node = inventory(vec![a100(0, vec![])]);
    let mut ours = Ownership::default();
    let wanted = "3g.20gb*2".parse().unwrap();
    let plan = plan(&node, &wanted, &ours, &[], Options::default()).unwrap();
    assert!(ours.claim_plan(&plan));
    assert_eq!(
        ours.intents()
            .map(|intent| intent.start)
            .collect::<Vec<_>>(),
        [0, 4]
    );
}

#[test]
fn a_record_of_another_boot_is_void() {
    let dir = tempfile::tempdir().unwrap();
    let mut ours = Ownership::load(dir.path()).unwrap();
    ours.claim(&"GPU-0".parse().unwrap(), 9, 4);
    ours.save(dir.path()).unwrap();
    let file = dir.path().join("partition-owned.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let other = text.replace(boot_id.trim(), "00000000-0000-0000-0000-000000000000");
    assert_ne!(text, other);
    std::fs::write(&file, other).unwrap();
    assert_eq!(Ownership::load(dir.path()).unwrap().intents().count(), 0);
}

#[test]
fn a_damaged_record_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("partition-owned.json"), "not json").unwrap();
    let error = Ownership::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("partition-owned.json is damaged"), "{error}");
}

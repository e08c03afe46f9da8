//! No more driver calls than the plan needs, one snapshot before and one after.

use std::collections::BTreeMap;

use crate::node::{LIFECYCLE, Node, layout};

fn lifecycle(counts: &BTreeMap<String, u64>) -> u64 {
    LIFECYCLE.iter().filter_map(|call| counts.get(*call)).sum()
}

/// The calls of one snapshot by a process that has asked nothing yet, load and unload included.
fn snapshot(node: &Node) -> u64 {
    node.root.record_calls(true).unwrap();
    node.inventory();
    node.root.call_counts().unwrap().values().sum()
}

#[test]
fn eight_a100s_take_the_plan_and_two_snapshots() {
    let node = Node::new(&[("A100-40GB", 8)]);
    let wanted = layout("MIG1g");
    let before = snapshot(&node);

    let partitioner = node.partitioner();
    let plan = partitioner
        .plan(&wanted, partition::Options::default(), &[])
        .unwrap();
    assert_eq!(
        plan.calls(),
        8 + 56 + 56,
        "modes, GPU instances, compute instances"
    );
    drop(partitioner);

    node.root.record_calls(true).unwrap();
    let report = node.apply("MIG1g").unwrap();
    let counts = node.root.call_counts().unwrap();
    assert!(report.is_done(), "{report}");
    assert_eq!(lifecycle(&counts), 120, "{counts:?}");
    assert_eq!(report.calls.len(), 120);
    let processes = counts.keys().find(|call| call.contains("RunningProcesses"));
    assert_eq!(
        processes, None,
        "nothing is destroyed, so nobody is asked who uses it"
    );

    // NVML gives the id of what it creates by a call of its own.
    let ids = 56 + 56;
    let total: u64 = counts.values().sum();
    let after = snapshot(&node);
    assert!(
        total <= before + 120 + ids + after,
        "{total} > {before} + 120 + {ids} + {after}"
    );
}

#[test]
fn a_second_apply_reads_one_snapshot_and_changes_nothing() {
    let node = Node::new(&[("A100-40GB", 8)]);
    let partitioner = node.partitioner();
    let apply = || {
        partitioner
            .apply(&layout("MIG1g"), partition::Options::default(), &[])
            .unwrap()
    };
    apply();
    let nvml = node.nvml();
    nvml.inventory().unwrap();
    node.root.record_calls(true).unwrap();
    nvml.inventory().unwrap();
    let snapshot = node.root.call_counts().unwrap();

    node.root.record_calls(true).unwrap();
    let report = apply();
    assert!(report.is_done() && report.calls.is_empty(), "{report}");
    assert_eq!(node.root.call_counts().unwrap(), snapshot);
}

#[test]
fn only_gpus_that_lose_something_are_asked_for_their_processes() {
    let node = Node::new(&[("A100-40GB", 3)]);
    node.reach("3g.20gb*1");
    node.root.record_calls(true).unwrap();
    let report = node.reach("0=3g.20gb*1;1=2g.10gb*1;2=3g.20gb*2");
    assert_eq!(
        report.calls.len(),
        6,
        "two destroys and two creates, and two creates"
    );
    assert_eq!(
        node.root
            .call_counts()
            .unwrap()
            .get("nvmlDeviceGetComputeRunningProcesses_v3"),
        Some(&1)
    );
}

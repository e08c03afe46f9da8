//! What an apply tells and keeps.

use partition::{Outcome, export};

use crate::node::{Node, layout};

#[test]
fn a_report_has_every_call_as_table_and_as_json_and_is_kept() {
    let node = Node::new(&[("A100-40GB", 1)]);
    let report = node.reach("3g.20gb*2");
    let calls: Vec<&str> = report.calls.iter().map(|call| call.call.as_str()).collect();
    assert_eq!(
        calls,
        [
            "nvmlDeviceSetMigMode",
            "nvmlDeviceCreateGpuInstanceWithPlacement",
            "nvmlGpuInstanceCreateComputeInstance",
            "nvmlDeviceCreateGpuInstanceWithPlacement",
            "nvmlGpuInstanceCreateComputeInstance",
        ]
    );
    let table = report.to_table();
    assert_eq!(table.lines().count(), 1 + calls.len(), "{table}");
    assert!(table.contains("3g.20gb (profile 9) at 4"), "{table}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["outcome"], "done");
    assert_eq!(json["calls"][0]["arguments"], "on");
    assert_eq!(json["layout"], "3g.20gb*2");
    assert!(
        report.to_string().starts_with("done: 5 driver calls"),
        "{report}"
    );
    assert_eq!(
        report.inventory.as_ref(),
        Some(&node.inventory()),
        "what is there now"
    );

    let mut kept = report;
    kept.inventory = None;
    assert_eq!(node.partitioner().journal().reports().unwrap(), [kept]);
}

#[test]
fn an_apply_with_nothing_to_do_leaves_no_trace() {
    let node = Node::new(&[("A100-40GB", 1)]);
    node.reach("MIG1g");
    let report = node.reach("MIG1g");
    assert_eq!(report.outcome, Outcome::Done);
    assert!(
        report.to_string().contains("nothing had to change"),
        "{report}"
    );
    assert_eq!(node.partitioner().journal().reports().unwrap().len(), 1);
}

#[test]
fn what_is_exported_changes_nothing_when_applied() {
    let node = Node::new(&[("A100-40GB", 2), ("H100-SXM-80GB", 1), ("A30", 1)]);
    for wanted in [
        "off",
        "MIG2g",
        "0=3g.20gb,2g.10gb,1g.5gb*2;1=off;2=1c.3g.40gb*3,1g.10gb+me;3=1g.6gb*4",
        "0=empty;1=1c.7g.40gb*7;2=off;3=2g.12gb*2",
    ] {
        node.reach(wanted);
        let exported = export(&node.inventory()).unwrap();
        let report = node.reach(&exported.to_string());
        assert_eq!(report.calls, [], "{wanted} was exported as {exported}");
        assert_eq!(
            layout(&exported.to_string()),
            exported,
            "it survives being written down"
        );
    }
}

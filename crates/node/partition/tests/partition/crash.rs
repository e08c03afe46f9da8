//! An apply is killed at each of its driver calls in turn, and the next one goes on.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use nvml::Nvml;
use nvml_sim::{Fault, Moment};
use partition::{Options, Outcome, Partitioner};

use crate::node::{Node, layout};

const ROOT: &str = "MIGPOOL_TEST_CRASH_ROOT";
const STATE: &str = "MIGPOOL_TEST_CRASH_STATE";
const LAYOUT: &str = "MIGPOOL_TEST_CRASH_LAYOUT";

/// This test starts itself again as the process that is killed; there it only applies.
#[test]
fn a_kill_at_any_driver_call_is_made_good_by_the_next_apply() {
    if let (Some(root), Some(state), Ok(wanted)) = (
        std::env::var_os(ROOT),
        std::env::var_os(STATE),
        std::env::var(LAYOUT),
    ) {
        let nvml = Nvml::load(&PathBuf::from(root)).unwrap();
        let report = Partitioner::new(nvml, state).apply(&layout(&wanted), Options::default(), &[]);
        assert_eq!(report.unwrap().outcome, Outcome::Done);
        return;
    }
    let node = Node::new(&[("A100-40GB", 1)]);
    for (from, to) in [
        ("off", "3g.20gb,1c.3g.20gb*2"),
        ("3g.20gb,2g.10gb,1g.5gb", "1c.3g.20gb*3,4g.20gb"),
        ("2g.10gb*2", "off"),
    ] {
        // As many calls as there are when nothing happens.
        begin(&node, from);
        node.root.record_calls(true).unwrap();
        assert!(apply_elsewhere(&node, to), "{from} to {to} without a kill");
        let calls = node.root.calls().unwrap();
        node.root.record_calls(false).unwrap();
        let last_change = calls
            .iter()
            .rposition(|call| crate::node::LIFECYCLE.contains(&call.as_str()));

        for (nth, call) in (1_u32..).zip(&calls).take(last_change.unwrap() + 3) {
            for moment in [Moment::Before, Moment::After] {
                begin(&node, from);
                node.root
                    .inject(Fault::Abort {
                        call: "*".to_owned(),
                        nth,
                        moment,
                    })
                    .unwrap();
                let survived = apply_elsewhere(&node, to);
                assert!(
                    !survived,
                    "{from} to {to}: not killed at {nth} ({call}) {moment:?}"
                );
                node.root.clear_faults().unwrap();
                let report = node.apply(to).unwrap_or_else(|error| {
                    panic!("{from} to {to}, killed at {nth} ({call}) {moment:?}: {error}")
                });
                let what = format!("{from} to {to}, killed at {nth} ({call}) {moment:?}: {report}");
                assert_eq!(report.outcome, Outcome::Done, "{what}");
                let after = report.inventory.as_ref().unwrap();
                assert_eq!(partition::assert(after, &layout(to)), [], "{what}");
            }
        }
    }
}

fn begin(node: &Node, from: &str) {
    node.start_over();
    node.reach(from);
}

/// Applies in a process of its own; tells whether that survived.
fn apply_elsewhere(node: &Node, wanted: &str) -> bool {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crash::a_kill_at_any_driver_call_is_made_good_by_the_next_apply",
        ])
        .env(ROOT, node.root.path())
        .env(STATE, node.state_dir())
        .env(LAYOUT, wanted)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

//! An apply is killed at each of its driver calls in turn, and the next one goes on.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;

use std::process::{Command, ExitStatus, Stdio};

use nvml::Nvml;
use nvml_sim::{Fault, Moment};
use partition::{Error, Options, Outcome, Partitioner, Refusal};

use crate::node::{LIFECYCLE, Node, layout};

const ROOT: &str = "MIGPOOL_TEST_CRASH_ROOT";
const STATE: &str = "MIGPOOL_TEST_CRASH_STATE";
const LAYOUT: &str = "MIGPOOL_TEST_CRASH_LAYOUT";

/// GPU instances of another tool: profiles and starts.
type Foreign<'a> = &'a [(&'a str, u8)];

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
    // What there is, what of that another tool made, what is wanted.
    let cases: [(&str, Foreign<'_>, &str); 3] = [
        ("off", &[], "3g.20gb,1c.3g.20gb*2"),
        (
            "3g.20gb,2g.10gb,1g.5gb",
            &[("1g.5gb", 6)],
            "4g.20gb,1c.2g.10gb*2,1g.5gb",
        ),
        ("2g.10gb*2", &[], "off"),
    ];
    for (from, foreign, to) in cases {
        // As many calls as there are when nothing happens.
        begin(&node, from, foreign);
        node.root.record_calls(true).unwrap();
        assert!(
            apply_elsewhere(&node, to).success(),
            "{from} to {to} without a kill"
        );
        let calls = node.root.calls().unwrap();
        node.root.record_calls(false).unwrap();

        for (nth, call) in (1_u32..).zip(&calls) {
            // A call that only reads has no effect that a kill could come after.
            let changes = LIFECYCLE.contains(&call.as_str());
            let moments: &[Moment] = if changes {
                &[Moment::Before, Moment::After]
            } else {
                &[Moment::Before]
            };
            for &moment in moments {
                begin(&node, from, foreign);
                node.root
                    .inject(Fault::Abort {
                        call: "*".to_owned(),
                        nth,
                        moment,
                    })
                    .unwrap();
                let what = format!("{from} to {to}, killed at {nth} ({call}) {moment:?}");
                let status = apply_elsewhere(&node, to);
                assert!(status.signal().is_some(), "{what}: {status}");
                node.root.clear_faults().unwrap();
                go_on(&node, foreign, to, &what);
            }
        }
    }
}

fn begin(node: &Node, from: &str, foreign: Foreign<'_>) {
    node.start_over();
    if !foreign.is_empty() {
        node.reach("empty");
        node.create_foreign(0, foreign);
    }
    node.reach(from);
}

/// The next apply reaches what is wanted, and it is still known what is ours and what isn't.
fn go_on(node: &Node, foreign: Foreign<'_>, to: &str, what: &str) {
    let report = node
        .apply(to)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(report.outcome, Outcome::Done, "{what}: {report}");
    let after = report.inventory.as_ref().unwrap();
    assert_eq!(
        partition::assert(after, &layout(to)),
        [],
        "{what}: {report}"
    );
    let refusals = match node
        .partitioner()
        .plan(&layout("empty"), Options::default(), &[])
    {
        Ok(_) => vec![],
        Err(Error::Refused(refused)) => refused.refusals,
        Err(error) => panic!("{what}: {error}"),
    };
    assert_eq!(refusals.len(), foreign.len(), "{what}: {refusals:?}");
    for ((profile, start), refusal) in foreign.iter().zip(&refusals) {
        assert!(
            matches!(refusal, Refusal::Foreign { .. }),
            "{what}: {refusal}"
        );
        assert!(
            refusal
                .to_string()
                .contains(&format!("{profile} at {start}")),
            "{what}: {refusal}"
        );
    }
}

/// Applies in a process of its own.
fn apply_elsewhere(node: &Node, wanted: &str) -> ExitStatus {
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
}

//! What fails, what is refused, and how the next apply goes on.

use std::process::{Child, Command};

use nvml_sim::driver::Device;
use nvml_sim::{Fault, Return};
use partition::{Error, Holder, NodeLock, Outcome, ProblemKind};

use crate::node::{LIFECYCLE, Node, REPLACE, layout};

fn fail_once(node: &Node, call: &str, code: Return) {
    node.root
        .inject(Fault::CallFails {
            call: call.to_owned(),
            times: 1,
            code,
        })
        .unwrap();
}

/// A process to be named as a user; ends with the value.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_call_that_fails_once_is_named_with_its_gpu_and_the_next_apply_goes_on() {
    let node = Node::new(&[("A100-40GB", 2)]);
    let (first, second) = ("3g.20gb*2", "3g.20gb,1g.5gb*4");
    for call in LIFECYCLE
        .into_iter()
        .filter(|call| *call != "nvmlDeviceCreateGpuInstance")
    {
        for code in [
            Return::INSUFFICIENT_RESOURCES,
            Return::UNKNOWN,
            Return::IN_USE,
            Return::GPU_IS_LOST,
        ] {
            node.start_over();
            let (from, to) = if call == "nvmlDeviceSetMigMode" {
                ("off", first)
            } else {
                (first, second)
            };
            node.reach(from);
            fail_once(&node, call, code);
            let report = node.apply(to).unwrap();
            assert_eq!(
                report.outcome,
                Outcome::Incomplete,
                "{call} {code:?}: {report}"
            );
            let [problem] = &report.problems[..] else {
                panic!("{call} {code:?}: {report}")
            };
            assert_eq!((problem.gpu, problem.kind), (0, ProblemKind::Call));
            assert!(problem.message.contains(call), "{}", problem.message);
            assert!(problem.message.contains("GPU 0"), "{}", problem.message);
            let failed: Vec<_> = report.calls.iter().filter(|call| !call.ok).collect();
            assert!(
                matches!(&failed[..], [record] if record.call == call),
                "{failed:?}"
            );
            assert_eq!(
                partition::assert(&node.inventory(), &layout(&format!("1={to}"))),
                []
            );
            node.reach(to);
        }
    }
}

#[test]
fn a_snapshot_that_fails_changes_nothing() {
    let node = Node::new(&[("A100-40GB", 1)]);
    node.root
        .inject(Fault::CallFails {
            call: "nvmlDeviceGetCount_v2".into(),
            times: 9,
            code: Return::UNKNOWN,
        })
        .unwrap();
    let error = node.apply("MIG1g").unwrap_err();
    assert!(matches!(&error, Error::Snapshot(_)), "{error}");
    assert!(
        error.to_string().contains("nvmlDeviceGetCount_v2"),
        "{error}"
    );
}

#[test]
fn a_lost_gpu_does_not_stop_the_others_and_the_node_is_not_done() {
    let node = Node::new(&[("A100-40GB", 3)]);
    node.root.inject(Fault::GpuLost { gpu: 1 }).unwrap();
    let report = node.apply("2g.10gb*3").unwrap();
    assert_eq!(report.outcome, Outcome::Incomplete);
    let [problem] = &report.problems[..] else {
        panic!("{report}")
    };
    assert_eq!((problem.gpu, problem.kind), (1, ProblemKind::Unreadable));
    assert_eq!(
        node.inventory()
            .gpus
            .iter()
            .map(|gpu| gpu.instances.len())
            .sum::<usize>(),
        6
    );
    node.root.clear_faults().unwrap();
    node.reach("2g.10gb*3");
}

#[test]
fn a_bad_layout_on_one_gpu_changes_none() {
    let node = Node::new(&[("A100-40GB", 2)]);
    node.root.record_calls(true).unwrap();
    let error = node.apply("0=MIG1g;1=3g.20gb*3").unwrap_err();
    assert!(matches!(&error, Error::Refused(_)));
    assert!(error.to_string().contains("GPU 1"), "{error}");
    let counts = node.root.call_counts().unwrap();
    assert!(
        LIFECYCLE.iter().all(|call| !counts.contains_key(*call)),
        "{counts:?}"
    );
}

#[test]
fn in_a_guest_only_a_reboot_finishes_an_ampere_and_the_others_are_done_at_once() {
    let node = Node::guest(&[("A100-40GB", 1), ("H100-SXM-80GB", 1)]);
    let report = node.apply("MIG1g").unwrap();
    assert_eq!(report.outcome, Outcome::RebootNeeded, "{report}");
    let [problem] = &report.problems[..] else {
        panic!("{report}")
    };
    assert_eq!((problem.gpu, problem.kind), (0, ProblemKind::RebootNeeded));
    assert!(
        problem.message.contains("only a reboot of this machine"),
        "{}",
        problem.message
    );
    assert_eq!(node.gpu(1).instances.len(), 7);
    assert_eq!(
        node.gpu(0).mig.map(|mode| (mode.current, mode.pending)),
        Some((false, true))
    );

    let again = node.apply("MIG1g").unwrap();
    assert_eq!(again.outcome, Outcome::RebootNeeded, "still: {again}");
    node.root.reboot().unwrap();
    node.reach("MIG1g");
}

#[test]
fn a_gpu_in_use_keeps_its_mode_and_its_user_is_named() {
    let node = Node::new(&[("A100-40GB", 2)]);
    let user = Sleeper::start();
    node.root
        .register_process(user.pid(), Device::Gpu(0), 100, 5)
        .unwrap();
    let report = node.apply("7g.40gb").unwrap();
    assert_eq!(report.outcome, Outcome::Incomplete, "{report}");
    let [problem] = &report.problems[..] else {
        panic!("{report}")
    };
    assert_eq!((problem.gpu, problem.kind), (0, ProblemKind::InUse));
    assert!(
        problem.message.contains(&format!("process {}", user.pid())),
        "{}",
        problem.message
    );
    assert_eq!(node.gpu(1).instances.len(), 1);
    drop(user);
    node.reach("7g.40gb");
}

#[test]
fn a_slice_with_a_process_is_kept_where_it_can_be_and_refused_where_not() {
    let node = Node::new(&[("A100-40GB", 1)]);
    node.reach("3g.20gb*2");
    for position in [0, 1] {
        let gpu = node.gpu(0);
        let entry = gpu.mig_devices().nth(position).unwrap();
        let (uuid, id) = (entry.device.uuid.to_string(), entry.gpu_instance.id);
        let user = Sleeper::start();
        let device = node.root.device(&uuid).unwrap();
        node.root
            .register_process(user.pid(), device, 100, 5)
            .unwrap();
        let error = node.apply("7g.40gb").unwrap_err().to_string();
        assert!(
            error.contains(&format!("in use by process {}", user.pid())),
            "{error}"
        );
        assert_eq!(node.gpu(0), gpu, "nothing changed");
        node.reach("3g.20gb,2g.10gb,1g.5gb");
        assert!(node.gpu(0).instance(id).is_some(), "the one in use stayed");
        drop(user);
        node.start_over();
        node.reach("3g.20gb*2");
    }
}

#[test]
fn a_slice_that_a_pod_holds_is_refused_with_the_pods_name() {
    let node = Node::new(&[("A100-40GB", 1)]);
    node.reach("7g.40gb");
    let uuid = node
        .gpu(0)
        .mig_devices()
        .next()
        .unwrap()
        .device
        .uuid
        .to_string();
    let pod = Holder::of_device(&uuid, "pod default/train");
    let error = node.apply_held("MIG1g", &[pod]).unwrap_err().to_string();
    assert!(error.contains("in use by pod default/train"), "{error}");
    node.reach("MIG1g");
}

#[test]
fn when_nobody_can_say_who_uses_a_gpu_nothing_on_it_is_destroyed() {
    let node = Node::new(&[("A100-40GB", 2)]);
    node.reach("7g.40gb");
    fail_once(
        &node,
        "nvmlDeviceGetComputeRunningProcesses_v3",
        Return::UNKNOWN,
    );
    let report = node.apply("MIG1g").unwrap();
    assert_eq!(report.outcome, Outcome::Incomplete, "{report}");
    assert_eq!(node.gpu(0).instances.len(), 1, "untouched");
    assert_eq!(node.gpu(1).instances.len(), 7, "done");
    node.reach("MIG1g");
}

#[test]
fn what_another_tool_created_is_kept_refused_or_replaced() {
    let node = Node::new(&[("A100-40GB", 1)]);
    node.reach("empty");
    node.create_foreign(0, &[("3g.20gb", 4)]);
    node.reach("3g.20gb,2g.10gb*2");
    let error = node.apply("7g.40gb").unwrap_err().to_string();
    assert!(
        error.contains("3g.20gb at 4") && error.contains("--replace-all"),
        "{error}"
    );
    assert!(
        !error.contains("2g.10gb"),
        "ours are not in the way of ourselves: {error}"
    );
    node.reach("3g.20gb*1");
    let report = node
        .partitioner()
        .apply(&layout("7g.40gb"), REPLACE, &[])
        .unwrap();
    assert!(report.is_done(), "{report}");
}

#[test]
fn after_a_reboot_everything_is_built_again() {
    for board in ["A100-40GB", "H100-SXM-80GB"] {
        let node = Node::new(&[(board, 2)]);
        node.reach("MIG2g");
        node.root.reboot().unwrap();
        assert_eq!(
            node.inventory()
                .gpus
                .iter()
                .map(|gpu| gpu.instances.len())
                .sum::<usize>(),
            0
        );
        node.reach("MIG2g");
    }
}

#[test]
fn a_second_apply_at_the_same_time_is_refused_with_the_name_of_the_first() {
    let node = Node::new(&[("A100-40GB", 1)]);
    std::fs::create_dir_all(node.state_dir()).unwrap();
    let lock = NodeLock::acquire(&node.state_dir(), false).unwrap();
    let error = node.apply("MIG1g").unwrap_err();
    assert!(matches!(&error, Error::Lock(_)));
    assert!(
        error
            .to_string()
            .contains(&format!("process {}", std::process::id())),
        "{error}"
    );
    drop(lock);
    node.reach("MIG1g");
}

#[test]
fn a_state_folder_that_cannot_be_written_stops_everything_before_it_begins() {
    let node = Node::new(&[("A100-40GB", 1)]);
    std::fs::create_dir_all(node.state_dir()).unwrap();
    // A folder in the record's place can't be replaced by a file, not even by root.
    std::fs::create_dir_all(node.state_dir().join("partition-owned.json/x")).unwrap();
    let error = node.apply("MIG1g").unwrap_err();
    assert!(matches!(&error, Error::State(_)), "{error}");
    assert_eq!(node.gpu(0).mig.map(|mode| mode.current), Some(false));
}

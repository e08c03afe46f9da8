//! Whatever is killed when: no device is given twice, no container is started twice, nothing is lost.
#![allow(clippy::expect_used)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Plane, devices, model, program, until};
use migpool_local::process;
use pool::{Action, NodePhase, NodeProvider, PodPhase};
use rustix::process::{Pid, Signal};

const PODS: usize = 12;

fn keep(state: &Path) -> Child {
    Command::new(program())
        .arg("keep")
        .arg(state)
        .arg(PODS.to_string())
        .stdin(Stdio::null())
        .spawn()
        .expect("starts")
}

#[tokio::test]
async fn a_control_plane_killed_at_any_moment_loses_nothing_and_gives_nothing_twice() {
    let dir = tempfile::tempdir().expect("tempdir");
    // Moments from before the store exists to after the last pod runs.
    for pause in [20, 60, 110, 170, 240, 330, 470, 800] {
        let mut up = keep(dir.path());
        tokio::time::sleep(Duration::from_millis(pause)).await;
        up.kill().expect("killed");
        // The next one starts while this one dies.
        std::thread::spawn(move || up.wait());
    }
    let plane = Plane::with_node(dir.path()).await;
    let mut held = BTreeSet::new();
    let mut uids = Vec::new();
    for pod in 0..PODS {
        let name = format!("pod-{pod}");
        plane.run(&name).await;
        let pod = plane.wait_for_phase(&name, PodPhase::Running).await;
        let own = devices(&pod);
        assert_eq!(own.len(), 1, "{name}");
        assert!(held.insert(own[0].clone()), "{} was given twice", own[0]);
        let said = until("the pod has started", async || {
            Some(plane.log(&name).await).filter(|log| !log.is_empty())
        })
        .await;
        assert_eq!(
            said,
            format!("started with {}\n", own[0]),
            "{name} was started once, with its own"
        );
        uids.push((name, pod.uid));
    }
    for (name, uid) in uids {
        plane.delete(&name).await;
        let mark = format!("{uid}/main");
        assert_eq!(
            process::with_environment("MIGPOOL_CONTAINER", &mark).expect("scan"),
            []
        );
    }
    plane.stop().await;
}

#[tokio::test]
async fn running_pods_outlive_the_control_plane_and_are_found_again() {
    let dir = tempfile::tempdir().expect("tempdir");
    let plane = Plane::with_node(dir.path()).await;
    plane.run("one").await;
    let before = plane.wait_for_phase("one", PodPhase::Running).await;
    plane.stop().await;
    let pid = before.containers[0].pid.expect("a process");
    let pid = i32::try_from(pid).expect("pid");
    let process = process::ProcessId::of(pid)
        .expect("proc")
        .expect("it runs on");
    let plane = Plane::with_node(dir.path()).await;
    let after = plane.wait_for_phase("one", PodPhase::Running).await;
    assert_eq!(after.containers, before.containers);
    assert_eq!(process::ProcessId::of(pid).expect("proc"), Some(process));
    plane.delete("one").await;
    assert_eq!(process::ProcessId::of(pid).expect("proc"), None);
    plane.stop().await;
}

#[tokio::test]
async fn a_killed_shim_takes_its_container_along_and_the_policy_starts_another() {
    let dir = tempfile::tempdir().expect("tempdir");
    let plane = Plane::with_node(dir.path()).await;
    plane.run("one").await;
    let before = plane.wait_for_phase("one", PodPhase::Running).await;
    let pid = i32::try_from(before.containers[0].pid.expect("a process")).expect("pid");
    let shim = process::Stat::of(pid).expect("proc").expect("alive").parent;
    let shim = Pid::from_raw(shim).expect("pid");
    rustix::process::kill_process(shim, Signal::KILL).expect("killed");
    let after = until("another process runs", async || {
        plane.pod("one").await.filter(|pod| {
            pod.containers[0].pid.is_some() && pod.containers[0].pid != before.containers[0].pid
        })
    })
    .await;
    assert_eq!(devices(&after), devices(&before));
    assert_eq!(process::ProcessId::of(pid).expect("proc"), None);
    plane.delete("one").await;
    plane.stop().await;
}

/// The live agent of the node, by the name of its socket.
fn agent_of(state: &Path) -> Option<i32> {
    let node = state.join("nodes").join(model::node().name.as_str());
    let names = std::fs::read_dir(node.join("kubelet"))
        .expect("folder")
        .flatten();
    let mut pids = names.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_prefix("plugin-")?
            .strip_suffix(".sock")?
            .parse::<i32>()
            .ok()
    });
    pids.find(|pid| process::ProcessId::of(*pid).ok().flatten().is_some())
}

#[tokio::test]
async fn a_killed_agent_is_started_again_and_devices_stay_with_their_pods() {
    let dir = tempfile::tempdir().expect("tempdir");
    let plane = Plane::with_node(dir.path()).await;
    plane.run("one").await;
    let before = plane.wait_for_phase("one", PodPhase::Running).await;
    let plugin = || agent_of(dir.path());
    let agent = plugin().expect("an agent");
    rustix::process::kill_process(Pid::from_raw(agent).expect("pid"), Signal::KILL)
        .expect("killed");
    until("another agent runs", async || {
        plugin().filter(|pid| *pid != agent)
    })
    .await;
    plane.wait_for_devices(model::DEVICES as u64).await;
    assert_eq!(
        plane.pod("one").await.expect("one").containers,
        before.containers
    );
    plane.run("two").await;
    let two = plane.wait_for_phase("two", PodPhase::Running).await;
    assert_ne!(devices(&two), devices(&before));
    plane.delete("one").await;
    plane.delete("two").await;
    plane.stop().await;
}

#[tokio::test]
async fn a_pod_deleted_before_its_node_is_made_again_leaves_no_device_held() {
    let dir = tempfile::tempdir().expect("tempdir");
    let plane = Plane::with_node(dir.path()).await;
    plane.run("one").await;
    plane.wait_for_phase("one", PodPhase::Running).await;
    plane.stop().await;
    // A file where a folder has to be: the node cannot be made until it is gone.
    let node = dir.path().join("nodes").join(model::node().name.as_str());
    std::fs::remove_dir_all(node.join("kubelet")).expect("removed");
    std::fs::write(node.join("kubelet"), "").expect("written");
    let plane = Plane::start(dir.path()).await;
    plane.delete("one").await;
    std::fs::remove_file(node.join("kubelet")).expect("removed");
    plane.wait_for_devices(model::DEVICES as u64).await;
    let every = model::sleeper("all").replace("gpu: 1", &format!("gpu: {}", model::DEVICES));
    plane.run_manifest("all", &every).await;
    let all = plane.wait_for_phase("all", PodPhase::Running).await;
    assert_eq!(devices(&all).len(), model::DEVICES);
    plane.delete("all").await;
    plane.stop().await;
}

#[tokio::test]
async fn a_node_whose_agent_hangs_is_taken_away_and_nobody_waits_for_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let plane = Plane::with_node(dir.path()).await;
    let agent = agent_of(dir.path()).expect("an agent");
    let agent = Pid::from_raw(agent).expect("pid");
    rustix::process::kill_process(agent, Signal::STOP).expect("stopped");
    let node = model::node();
    let delete = Action::DeleteNode(node.name.clone());
    plane.backend.apply(delete).await.expect("being deleted");
    // An engine that waited for the agent would answer when there is no node any more.
    let nodes = plane.backend.observe().await.expect("an answer");
    assert_eq!(nodes[0].phase, NodePhase::Deleting);
    until("the node is gone", async || {
        let nodes = plane.backend.observe().await.expect("an answer");
        nodes.is_empty().then_some(())
    })
    .await;
    assert!(!dir.path().join("nodes").join(node.name.as_str()).exists());
    plane.stop().await;
}

//! The life of pods on a local node, with real shims and a real device plugin socket.

mod common;

use std::collections::BTreeSet;

use common::{Plane, devices, model, until};
use migpool_local::process;
use pool::{Action, NodeProvider, PodPhase, WorkloadError, Workloads};

#[tokio::test]
async fn fifty_six_pods_hold_fifty_six_devices_and_the_next_waits_for_one() {
    let dir = tempfile::tempdir().expect("tempdir");
    let plane = Plane::with_node(dir.path()).await;
    for pod in 0..model::DEVICES {
        plane.run(&format!("pod-{pod}")).await;
    }
    let mut held = BTreeSet::new();
    for pod in 0..model::DEVICES {
        let pod = plane
            .wait_for_phase(&format!("pod-{pod}"), PodPhase::Running)
            .await;
        let devices = devices(&pod);
        assert_eq!(devices.len(), 1);
        assert!(
            held.insert(devices[0].clone()),
            "{devices:?} was given twice"
        );
    }
    assert_eq!(held.len(), model::DEVICES);

    let last = plane.run("late").await;
    assert_eq!(last.phase, PodPhase::Pending);
    assert_eq!(
        last.message,
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    );
    let freed = devices(&plane.pod("pod-7").await.expect("pod-7"));
    plane.delete("pod-7").await;
    let late = plane.wait_for_phase("late", PodPhase::Running).await;
    assert_eq!(devices(&late), freed);
    until("the pod says what it got", async || {
        plane.log("late").await.contains(&freed[0]).then_some(())
    })
    .await;
    let node = model::node().name;
    plane
        .backend
        .apply(Action::DeleteNode(node))
        .await
        .expect("deleting");
    until("the node and its pods are gone", async || {
        plane
            .backend
            .observe()
            .await
            .expect("nodes")
            .is_empty()
            .then_some(())
    })
    .await;
    assert!(
        plane
            .backend
            .pods(&model::cluster())
            .await
            .expect("pods")
            .is_empty()
    );
    assert_eq!(
        std::fs::read_dir(dir.path().join("nodes"))
            .expect("nodes")
            .count(),
        0
    );
    plane.stop().await;
}

#[tokio::test]
async fn a_pods_view_is_its_own_and_can_be_executed_in() {
    let dir = tempfile::tempdir().expect("tempdir");
    let plane = Plane::with_node(dir.path()).await;
    let first = plane.run("one").await;
    assert!(
        first.notices[0].contains("is not pulled"),
        "{:?}",
        first.notices
    );
    let pod = plane.wait_for_phase("one", PodPhase::Running).await;
    let name = "one".parse().expect("name");
    let inside = plane
        .backend
        .exec_environment(&model::cluster(), &name, None)
        .await
        .expect("inside");
    let root = std::path::PathBuf::from(&inside.environment["NVIDIA_DRIVER_ROOT"]);
    assert!(root.join("dev/nvidia0").exists());
    assert!(!root.join("dev/nvidia1").exists());
    assert!(root.join("usr/bin/nvidia-smi").is_symlink());
    assert!(inside.environment["PATH"].starts_with(root.join("usr/bin").to_str().expect("utf-8")));
    assert_eq!(
        inside.environment["NVIDIA_VISIBLE_DEVICES"],
        devices(&pod)[0]
    );
    let other = plane
        .backend
        .exec_environment(&model::cluster(), &name, Some("none"))
        .await;
    assert!(matches!(other, Err(WorkloadError::Invalid(_))), "{other:?}");
    plane.delete("one").await;
    assert!(!root.exists());
    plane.stop().await;
}

#[tokio::test]
async fn ended_pods_keep_their_log_and_give_back_their_device() {
    let dir = tempfile::tempdir().expect("tempdir");
    let plane = Plane::with_node(dir.path()).await;
    let once = model::sleeper("once")
        .replace("sleep 1000", "exit 3")
        .replace("spec:", "spec:\n  restartPolicy: Never");
    plane.run_manifest("once", &once).await;
    let pod = plane.wait_for_phase("once", PodPhase::Failed).await;
    assert_eq!(pod.containers[0].exit_code, Some(3));
    assert_eq!(devices(&pod), Vec::<String>::new());
    assert!(plane.log("once").await.contains("started with MIG-"));
    let missing = once
        .replace("name: once", "name: missing")
        .replace("[sh, -c]", "[/no/such/program]");
    plane.run_manifest("missing", &missing).await;
    let pod = plane.wait_for_phase("missing", PodPhase::Failed).await;
    assert!(pod.message.contains("/no/such/program"), "{}", pod.message);
    // What has ended is still so after a restart, and holds nothing.
    plane.stop().await;
    let plane = Plane::with_node(dir.path()).await;
    assert_eq!(
        plane.pod("once").await.expect("kept").phase,
        PodPhase::Failed
    );
    plane.delete("once").await;
    plane.delete("missing").await;
    plane.stop().await;
}

#[tokio::test]
async fn a_container_that_fails_is_started_again_by_its_policy() {
    let dir = tempfile::tempdir().expect("tempdir");
    let plane = Plane::with_node(dir.path()).await;
    let manifest = model::sleeper("flaky")
        .replace("spec:", "spec:\n  restartPolicy: OnFailure")
        .replace("sleep 1000", "test -e again || { touch again; exit 1; }");
    plane.run_manifest("flaky", &manifest).await;
    let pod = plane.wait_for_phase("flaky", PodPhase::Succeeded).await;
    assert_eq!(pod.containers[0].exit_code, Some(0));
    assert_eq!(plane.log("flaky").await.matches("started with").count(), 2);
    plane.delete("flaky").await;
    plane.stop().await;
}

#[tokio::test]
async fn a_deleted_pod_takes_everything_that_it_started_with_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let plane = Plane::with_node(dir.path()).await;
    // One process leaves the group and the session, one ignores the request to end.
    let manifest = model::sleeper("stubborn")
        .replace(
            "terminationGracePeriodSeconds: 5",
            "terminationGracePeriodSeconds: 1",
        )
        .replace(
            "sleep 1000",
            "trap '' TERM; setsid sleep 1000 & while :; do sleep 1; done",
        );
    plane.run_manifest("stubborn", &manifest).await;
    let pod = plane.wait_for_phase("stubborn", PodPhase::Running).await;
    let mark = format!("{}/main", pod.uid);
    until("its processes run", async || {
        let found = process::with_environment("MIGPOOL_CONTAINER", &mark).expect("scan");
        // The shim, the shell, the process of another session and the current sleep.
        (found.len() >= 3).then_some(())
    })
    .await;
    plane.delete("stubborn").await;
    let left = process::with_environment("MIGPOOL_CONTAINER", &mark).expect("scan");
    assert_eq!(left, []);
    plane.stop().await;
}

#[tokio::test]
async fn what_cannot_be_is_said() {
    let dir = tempfile::tempdir().expect("tempdir");
    let plane = Plane::start(dir.path()).await;
    let pod = plane.run("alone").await;
    assert_eq!(
        (pod.phase, pod.message.as_str()),
        (PodPhase::Pending, "no nodes available to schedule pods")
    );
    let other = model::sleeper("alone").replace("sleep 1000", "sleep 2000");
    let name = "alone".parse().expect("name");
    let changed = plane
        .backend
        .run_pod(&model::cluster(), &name, &other)
        .await;
    assert!(
        matches!(changed, Err(WorkloadError::Conflict(_))),
        "{changed:?}"
    );
    let again = plane.run("alone").await;
    assert_eq!(again.uid, pod.uid);
    let broken = plane
        .backend
        .run_pod(&model::cluster(), &name, "kind: [")
        .await;
    assert!(broken.expect_err("refused").to_string().contains("line "));
    let inside = plane
        .backend
        .exec_environment(&model::cluster(), &name, None)
        .await;
    assert!(
        matches!(inside, Err(WorkloadError::Conflict(_))),
        "{inside:?}"
    );
    plane.delete("alone").await;
    plane.stop().await;
}

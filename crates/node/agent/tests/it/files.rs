//! An agent whose layout and configuration come from files that change, and are wrong for a while.

use std::fs;

use crate::kubelet::Kubelet;
use crate::node::Node;
use crate::pod_resources::PodResources;
use migpool_agent::{AgentConfig, Defaults, LayoutSource, probe, run_configured};
use nvml_sim::DriverRoot;
use tokio_util::sync::CancellationToken;

const GPU: &str = "nvidia.com/gpu";
const MIG_1G: &str = "nvidia.com/mig-1g.5gb";
const MIG_3G: &str = "nvidia.com/mig-3g.20gb";

/// An agent that follows a layout file, which has this text.
fn following(node: &Node, text: &str) -> AgentConfig {
    let file = node.path("layout");
    fs::write(&file, text).unwrap();
    let mut config = node.config("off", "mixed");
    config.partition.as_mut().unwrap().layout = LayoutSource::File(file);
    config
}

/// Replaces the layout file as the kubelet does: in one step.
fn want(node: &Node, text: &str) {
    let next = node.path("layout.next");
    fs::write(&next, text).unwrap();
    fs::rename(next, node.path("layout")).unwrap();
}

#[tokio::test]
async fn another_layout_is_followed_without_a_restart_and_touches_only_what_differs() {
    let mut node = Node::with_gpus(2);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(following(&node, "1g.5gb"));
    let before = kubelet.until_counts(MIG_1G, 14, 14).await;
    node.until(|status| status["phase"] == "ready").await;
    let untouched: Vec<_> = probe(&node.root()).unwrap().gpus[0]
        .mig_devices()
        .map(|entry| entry.device.uuid.to_string())
        .collect();

    want(&node, "0=1g.5gb;1=3g.20gb");
    kubelet.until_counts(MIG_3G, 2, 2).await;
    let after = kubelet.until_counts(MIG_1G, 7, 7).await;
    assert_eq!(
        after.endpoint, before.endpoint,
        "the plugin was not registered anew"
    );
    assert!(untouched.iter().all(|uuid| after.devices[uuid]));
    node.until(|status| status["phase"] == "ready").await;
}

#[tokio::test]
async fn a_layout_that_is_taken_back_gives_out_again_what_was_held_back() {
    let mut node = Node::with_gpus(2);
    node.partition("1g.5gb");
    let held = probe(&node.root()).unwrap().gpus[0]
        .mig_devices()
        .next()
        .unwrap()
        .device
        .uuid
        .to_string();
    let pods = PodResources::start(&node, MIG_1G, &held);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let mut config = following(&node, "1g.5gb");
    config.partition.as_mut().unwrap().pod_resources = Some(pods.socket());
    node.start(config);
    kubelet.until_counts(MIG_1G, 14, 14).await;

    // GPU 1 stays as it is, and GPU 0 waits for the pod.
    want(&node, "0=3g.20gb;1=1g.5gb");
    kubelet.until_counts(MIG_1G, 14, 7).await;
    let status = node.until(|status| status["phase"] == "draining").await;
    assert_eq!(status["held_back"], 7);
    assert_eq!(status["partition"]["drains"], 1);
    want(&node, "1g.5gb");
    kubelet.until_counts(MIG_1G, 14, 14).await;
    let status = node.until(|status| status["phase"] == "ready").await;
    assert_eq!(status["held_back"], 0);
    assert_eq!(probe(&node.root()).unwrap().mig_devices().count(), 14);
}

#[tokio::test]
async fn a_layout_that_is_none_or_cannot_be_leaves_all_as_it_is_until_it_is_right() {
    let mut node = Node::with_gpus(1);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(following(&node, "1g.5gb"));
    kubelet.until_counts(MIG_1G, 7, 7).await;
    let root = DriverRoot::open(node.root()).unwrap();
    for (wrong, words) in [
        ("seven", "the wanted layout is unknown, 1g.5gb stays wanted"),
        ("4g.20gb*2", "the layout 4g.20gb*2 cannot be applied"),
        (
            "3=1g.5gb",
            "the layout 3=1g.5gb cannot be applied, and nothing was changed: there is no GPU 3",
        ),
    ] {
        root.record_calls(true).unwrap();
        want(&node, wrong);
        let status = node
            .until(|status| {
                status["message"]
                    .as_str()
                    .is_some_and(|message| message.contains(words))
            })
            .await;
        assert_eq!(
            (&status["phase"], &status["ready"]),
            (&"degraded".into(), &false.into())
        );
        want(&node, "1g.5gb");
        node.until(|status| status["phase"] == "ready").await;
        let calls = root.call_counts().unwrap();
        assert!(!calls.contains_key("nvmlGpuInstanceDestroy"), "{calls:?}");
    }
    kubelet.until_counts(MIG_1G, 7, 7).await;
}

#[tokio::test]
async fn whole_gpus_are_not_given_away_while_the_wanted_layout_is_unknown() {
    let mut node = Node::with_gpus(1);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(following(&node, "what?"));
    let status = node.until(|status| status["phase"] == "degraded").await;
    assert_eq!(status["ready"], false);
    want(&node, "1g.5gb");
    kubelet.until_counts(MIG_1G, 7, 7).await;
    assert_eq!(kubelet.names(), [MIG_1G]);
}

#[tokio::test]
async fn an_empty_layout_leaves_the_gpus_alone() {
    let mut node = Node::with_gpus(1);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(following(&node, ""));
    kubelet.until_counts(GPU, 1, 1).await;
    let status = node.until(|status| status["phase"] == "ready").await;
    assert_eq!(status["partition"]["step"], "left-alone");

    want(&node, "1g.5gb");
    kubelet.until_counts(MIG_1G, 7, 7).await;
    kubelet.until_counts(GPU, 0, 0).await;
    want(&node, "");
    node.until(|status| status["partition"]["step"] == "left-alone")
        .await;
    kubelet.until_counts(MIG_1G, 7, 7).await;
}

#[tokio::test]
async fn a_configuration_that_is_wrong_is_waited_for_and_changes_nothing_later() {
    let node = Node::with_gpus(1);
    node.partition("1g.5gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let file = node.path("config.yaml");
    let write = |text: &str| {
        fs::write(node.path("config.next"), text).unwrap();
        fs::rename(node.path("config.next"), node.path("config.yaml")).unwrap();
    };
    let (root, kubelet_dir, status_file) =
        (node.root(), node.kubelet_dir(), node.path("status.json"));
    let make = move |settings: migpool_agent::Settings| {
        let mut config = AgentConfig {
            driver: migpool_agent::DriverSearch::at(&root),
            discovery: None,
            status_file: Some(status_file.clone()),
            ..settings.into_agent_config(&Defaults::default())
        };
        let plugin = config.plugin.as_mut().unwrap();
        plugin.kubelet_dir.clone_from(&kubelet_dir);
        config
    };
    let cancel = CancellationToken::new();
    let agent = tokio::spawn(run_configured(file, make, cancel.clone()));

    let status = node.until(|status| status["phase"] == "degraded").await;
    assert_eq!(status["ready"], false);
    assert!(
        status["message"].as_str().unwrap().contains("config.yaml"),
        "{status}"
    );
    assert!(kubelet.names().is_empty());

    write("version: v1\nflags: {migStrategy: single}\n");
    kubelet.until_counts(GPU, 7, 7).await;
    node.until(|status| status["phase"] == "ready").await;

    write("version: v1\nflags: {migStrategy: both}\n");
    let status = node.until(|status| status["phase"] == "degraded").await;
    let message = status["message"].as_str().unwrap();
    assert!(
        message.contains("still holds") && message.contains("both"),
        "{message}"
    );
    kubelet.until_counts(GPU, 7, 7).await;

    write("version: v1\nflags: {migStrategy: mixed}\n");
    kubelet.until_counts(MIG_1G, 7, 7).await;
    node.until(|status| status["phase"] == "ready").await;
    cancel.cancel();
    agent.await.unwrap().unwrap();
}

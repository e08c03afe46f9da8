//! What is wrong around our components is told where a person looks, keeps no container from living, and is over when its
//! cause is.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::charts;
use crate::checks;
use crate::nodes::{DRIVER_ROOT, Node};
use crate::pods::{Pod, PodSpec};
use crate::suite::{Outcome, Test};
use crate::told::{self, MIG_LAYOUT_READY};
use crate::wait::{LATER, until};
use crate::world::{MIGNODE, World};

/// The suite.
pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "a_missing_driver_library_is_told_and_waited_for",
        run: missing_library,
    },
    Test {
        name: "a_kubelet_in_another_folder_is_told_and_waited_for",
        run: other_kubelet_root,
    },
    Test {
        name: "the_kubelets_socket_folder_is_deleted_and_made_anew",
        run: deleted_socket_folder,
    },
    Test {
        name: "a_layout_that_the_board_cannot_do_is_refused_in_words",
        run: impossible_layout,
    },
    Test {
        name: "a_layout_that_is_none_changes_nothing_until_it_is_mended",
        run: unintelligible_layout,
    },
    Test {
        name: "labels_are_never_longer_than_kubernetes_takes",
        run: long_labels,
    },
    Test {
        name: "an_unreadable_configuration_is_told_and_waited_for",
        run: unreadable_configuration,
    },
    Test {
        name: "a_wrong_node_name_is_told",
        run: wrong_node_name,
    },
    Test {
        name: "missing_rights_are_told_and_waited_for",
        run: missing_rights,
    },
];

const RESOURCE: &str = "nvidia.com/gpu";
const COUNT: u32 = 56;

/// The agent's release.
const RELEASE: &str = "migpool";

/// How often a complaint may be in a log: it is said when it begins, and not again with each attempt.
const SAID_AT_MOST: usize = 3;

fn install(world: &World, values: &[&str]) -> Outcome {
    let only = charts::only_on(MIGNODE);
    let mut all = vec!["migStrategy=single", &only];
    all.extend(values);
    charts::install(world, RELEASE, "migpool", &all)
}

/// 56 slices.
fn works(world: &World, node: Node<'_>) -> Outcome {
    checks::allocatable(world, node, RESOURCE, COUNT, LATER)
}

/// The one pod of a release on the node comes to say what is wrong, with all these words: at /readyz, to the kubelet, and
/// in its log, there without end neither. It lives.
fn complains(world: &World, release: &str, words: &[&str]) -> anyhow::Result<Pod> {
    let has_all = |text: &str| words.iter().all(|word| text.contains(word));
    until(
        &format!("{release} to complain with {words:?}"),
        LATER,
        || {
            let pod = world.release_pod(release, MIGNODE)?;
            ensure!(
                pod.restarts == 0 && pod.phase == "Running",
                "{}",
                pod.line()
            );
            let (ready, said) = told::readyz(world, &pod)?;
            ensure!(!ready && has_all(&said), "/readyz says {ready}: {said}");
            ensure!(!pod.ready, "its pod is ready");
            let log = world.kubectl(&["logs", "--namespace", &pod.namespace, &pod.name])?;
            let lines: Vec<_> = log.lines().filter(|line| has_all(line)).collect();
            ensure!(
                (1..=SAID_AT_MOST).contains(&lines.len()),
                "its log says so {} times:\n{log}",
                lines.len()
            );
            Ok(pod)
        },
    )
}

/// A pod that has complained comes to be ready by itself.
fn recovers(world: &World, release: &str, before: &Pod) -> Outcome {
    until(&format!("{release} to recover"), LATER, || {
        let pod = world.release_pod(release, MIGNODE)?;
        ensure!(
            pod.uid == before.uid && pod.restarts == 0,
            "it was {}, and is {}",
            before.line(),
            pod.line()
        );
        ensure!(pod.runs(), "{}", pod.line());
        let (ready, said) = told::readyz(world, &pod)?;
        ensure!(ready, "/readyz says {ready}: {said}");
        Ok(())
    })
}

/// A file that is away until this is dropped.
struct Hidden {
    path: PathBuf,
    elsewhere: PathBuf,
}

impl Hidden {
    fn away(path: &Path) -> anyhow::Result<Self> {
        let mut elsewhere = path.as_os_str().to_owned();
        elsewhere.push(".away");
        let hidden = Self {
            path: path.to_owned(),
            elsewhere: elsewhere.into(),
        };
        fs::rename(&hidden.path, &hidden.elsewhere)
            .with_context(|| format!("cannot rename {}", path.display()))?;
        Ok(hidden)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = fs::rename(&self.elsewhere, &self.path);
    }
}

fn missing_library(world: &World) -> Outcome {
    told::forget_events(world)?;
    let node = world.node(MIGNODE);
    let root = node.path(DRIVER_ROOT)?;
    let library = Hidden::away(&root.join("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"))?;
    install(world, &["gpuInstanceProfile=MIG1g"])?;
    let words = ["no NVIDIA driver found", "libnvidia-ml.so.1", DRIVER_ROOT];
    let pod = complains(world, RELEASE, &words)?;
    told::is_told(world, node, ("Warning", "DriverFailed"), &words)?;
    told::comes_to_be(
        world,
        node,
        MIG_LAYOUT_READY,
        ("False", "DriverFailed"),
        &words,
    )?;
    drop(library);
    works(world, node)?;
    recovers(world, RELEASE, &pod)?;
    told::is_told(world, node, ("Normal", "DriverWorks"), &[])?;
    Ok(())
}

fn other_kubelet_root(world: &World) -> Outcome {
    told::forget_events(world)?;
    let node = world.node(MIGNODE);
    let elsewhere = "/var/lib/another-kubelet";
    install(
        world,
        &[
            "gpuInstanceProfile=MIG1g",
            &format!("kubeletRoot={elsewhere}"),
        ],
    )?;
    let socket = format!("{elsewhere}/device-plugins/kubelet.sock");
    let words = ["waiting for the kubelet", &*socket, RESOURCE];
    complains(world, RELEASE, &words)?;
    told::is_told(world, node, ("Warning", "NotAdvertised"), &words)?;
    told::comes_to_be(
        world,
        node,
        MIG_LAYOUT_READY,
        ("False", "NotAdvertised"),
        &words,
    )?;
    // Told of the right folder, the next pod finds all done but that.
    install(world, &["gpuInstanceProfile=MIG1g"])?;
    works(world, node)?;
    fs::remove_dir_all(node.path(elsewhere)?)?;
    Ok(())
}

fn deleted_socket_folder(world: &World) -> Outcome {
    told::forget_events(world)?;
    let node = world.node(MIGNODE);
    install(world, &["gpuInstanceProfile=MIG1g"])?;
    works(world, node)?;
    world.apply(&[PodSpec::with_slices("holder", RESOURCE, 1).manifest()])?;
    let holder = world.running("holder", LATER)?;
    node.stop_kubelet()?;
    fs::remove_dir_all(node.path("/var/lib/kubelet/device-plugins")?)?;
    node.start_kubelet()?;
    // What the agent's container has mounted is the folder that was deleted: only a start of the container mounts
    // another, and that it has to bring about by itself.
    works(world, node)?;
    until("the agent to be ready", LATER, || {
        let agent = world.release_pod(RELEASE, MIGNODE)?;
        ensure!(agent.runs() && agent.restarts <= 1, "{}", agent.line());
        Ok(())
    })?;
    let now = world.pod("holder")?;
    ensure!(
        now.runs() && now.containers == holder.containers,
        "the pod was {}, and is {}",
        holder.line(),
        now.line()
    );
    world.delete_pods(&["holder"])?;
    checks::all_can_be_had(world, node, RESOURCE, COUNT)
}

fn impossible_layout(world: &World) -> Outcome {
    told::forget_events(world)?;
    let node = world.node(MIGNODE);
    install(world, &["gpuInstanceProfile=MIG1g"])?;
    works(world, node)?;
    world.apply(&[PodSpec::with_slices("holder", RESOURCE, 1).manifest()])?;
    world.running("holder", LATER)?;
    let before = node.slices()?;
    for (layout, words) in [
        // Two of these would be eight of a GPU's seven slices.
        ("4g.20gb*2", ["4g.20gb", "GPU"]),
        // Another board has this.
        ("1g.10gb*7", ["1g.10gb", "GPU"]),
        // A ninth GPU is not there.
        ("8=1g.5gb", ["there is no GPU 8", "it has 0-7"]),
    ] {
        install(world, &[&format!("layout={layout}"), "drain=evict"])?;
        let pod = complains(world, RELEASE, &words)?;
        told::is_told(world, node, ("Warning", "LayoutRefused"), &words)?;
        told::comes_to_be(
            world,
            node,
            MIG_LAYOUT_READY,
            ("False", "LayoutRefused"),
            &words,
        )?;
        // Nothing was touched, nobody evicted, and what is there can be had.
        ensure!(
            node.slices()? == before,
            "{layout} has changed slices, though it can't be"
        );
        checks::sees_what_it_holds(world, node, "holder", 1)?;
        ensure!(
            !told::is_tainted(world, node)?,
            "a layout that can't be keeps pods from the node"
        );
        install(world, &["gpuInstanceProfile=MIG1g", "drain=evict"])?;
        recovers(world, RELEASE, &pod)?;
        works(world, node)?;
    }
    Ok(())
}

fn unintelligible_layout(world: &World) -> Outcome {
    told::forget_events(world)?;
    let node = world.node(MIGNODE);
    install(world, &["gpuInstanceProfile=MIG1g"])?;
    works(world, node)?;
    // As by a person who edits what the chart has made.
    let set = |layout: &str| -> Outcome {
        let patch = json!({"data": {"layout": layout}}).to_string();
        let map = format!("configmap/{RELEASE}-layout");
        world.kubectl(&["patch", &map, "--type=merge", "--patch", &patch])?;
        Ok(())
    };
    set("MIG1g,seven of them")?;
    let words = ["the wanted layout is unknown", "MIG1g stays wanted"];
    let pod = complains(world, RELEASE, &words)?;
    told::is_told(world, node, ("Warning", "LayoutUnknown"), &words)?;
    told::comes_to_be(
        world,
        node,
        MIG_LAYOUT_READY,
        ("False", "LayoutUnknown"),
        &words,
    )?;
    works(world, node)?;
    checks::all_can_be_had(world, node, RESOURCE, COUNT)?;
    set("MIG3g")?;
    checks::allocatable(world, node, RESOURCE, 16, LATER)?;
    recovers(world, RELEASE, &pod)
}

fn long_labels(world: &World) -> Outcome {
    let node = world.node(MIGNODE);
    let name = format!(
        "{} {}",
        "A machine of a maker who likes long names ".repeat(3),
        "(rev. 7)"
    );
    let file = "/var/lib/e2e-product-name";
    fs::write(node.path(file)?, &name)?;
    install(
        world,
        &[
            "gpuInstanceProfile=MIG1g",
            "extraEnv[0].name=GFD_MACHINE_TYPE_FILE",
            &format!("extraEnv[0].value=/host{file}"),
        ],
    )?;
    works(world, node)?;
    until("the label of the machine", LATER, || {
        let labels = world.labels(MIGNODE)?;
        let machine = labels
            .get("nvidia.com/gpu.machine")
            .with_context(|| format!("there is none: {labels:?}"))?;
        ensure!(
            machine.starts_with("A-machine-of-a-maker") && machine.len() <= 63,
            "it is {machine}"
        );
        // One that is refused would have taken the others with it.
        ensure!(
            labels.get("nvidia.com/gpu.count").map(String::as_str) == Some("56"),
            "{labels:?}"
        );
        Ok(())
    })?;
    let pod = world.release_pod(RELEASE, MIGNODE)?;
    recovers(world, RELEASE, &pod)?;
    fs::remove_file(node.path(file)?)?;
    Ok(())
}

fn unreadable_configuration(world: &World) -> Outcome {
    let node = world.node(MIGNODE);
    node.partition("MIG1g")?;
    let set = |text: &str| {
        world.apply(&[json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "e2e-configs"},
            "data": {"ours": text},
        })])
    };
    set("version: v1\nflags: [")?;
    charts::install(
        world,
        "plugin",
        "nvidia-device-plugin",
        &[
            "config.name=e2e-configs",
            "config.default=ours",
            "nvidiaDriverRoot=auto",
            "deviceListStrategy=cdi-cri",
            &charts::only_on(MIGNODE),
        ],
    )?;
    let words = [
        "the configuration file cannot be used",
        "/etc/migpool/config/ours",
    ];
    let pod = complains(world, "plugin", &words)?;
    checks::nothing_allocatable(world, node, RESOURCE, LATER)?;
    set("version: v1\nflags:\n  migStrategy: single\n")?;
    works(world, node)?;
    recovers(world, "plugin", &pod)?;
    // Broken again, it keeps to what it knew.
    set("version: v2\n")?;
    let pod = complains(world, "plugin", &["what it said before still holds"])?;
    works(world, node)?;
    checks::all_can_be_had(world, node, RESOURCE, COUNT)?;
    set("version: v1\nflags:\n  migStrategy: mixed\n")?;
    checks::allocatable(world, node, "nvidia.com/mig-1g.5gb", COUNT, LATER)?;
    recovers(world, "plugin", &pod)?;
    charts::uninstall(world, "plugin", "default")?;
    world.kubectl(&["delete", "configmap", "e2e-configs"])?;
    Ok(())
}

/// Sets the node's name in a daemon set to this value of an environment variable (`value` or `valueFrom`).
fn set_node_name(world: &World, variable: &Value) -> Outcome {
    let daemonset = world.get(&["daemonset", RELEASE])?;
    let variables = daemonset
        .pointer("/spec/template/spec/containers/0/env")
        .and_then(Value::as_array)
        .context("a container without environment")?;
    let index = variables
        .iter()
        .position(|variable| variable["name"] == "NODE_NAME")
        .context("no NODE_NAME")?;
    let patch = json!([{
        "op": "replace",
        "path": format!("/spec/template/spec/containers/0/env/{index}"),
        "value": variable,
    }]);
    let patch = patch.to_string();
    world.kubectl(&[
        "patch",
        "daemonset",
        RELEASE,
        "--type=json",
        "--patch",
        &patch,
    ])?;
    Ok(())
}

fn wrong_node_name(world: &World) -> Outcome {
    let node = world.node(MIGNODE);
    install(world, &["gpuInstanceProfile=MIG1g"])?;
    works(world, node)?;
    for (name, words) in [
        ("mignode.example.com", ["NODE_NAME", "mignode.example.com"]),
        ("No Node", ["NODE_NAME", "No Node"]),
    ] {
        set_node_name(world, &json!({"name": "NODE_NAME", "value": name}))?;
        complains(world, RELEASE, &words)?;
        // The kubelet does not mind, and neither do pods.
        works(world, node)?;
        checks::all_can_be_had(world, node, RESOURCE, COUNT)?;
    }
    let from = json!({"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}});
    set_node_name(world, &json!({"name": "NODE_NAME", "valueFrom": from}))?;
    until("an agent that knows its node", LATER, || {
        let pod = world.release_pod(RELEASE, MIGNODE)?;
        ensure!(pod.runs() && pod.restarts == 0, "{}", pod.line());
        Ok(())
    })?;
    told::comes_to_be(
        world,
        node,
        MIG_LAYOUT_READY,
        ("True", "LayoutReady"),
        &["MIG1g"],
    )?;
    works(world, node)
}

fn missing_rights(world: &World) -> Outcome {
    told::forget_events(world)?;
    let node = world.node(MIGNODE);
    install(world, &["gpuInstanceProfile=MIG1g"])?;
    works(world, node)?;
    let binding = format!("clusterrolebinding/default-{RELEASE}");
    let mut kept = world.get(&[&binding])?;
    world.kubectl(&["delete", &binding])?;
    let agent = world.release_pod(RELEASE, MIGNODE)?;
    world.delete_pods(&[&agent.name])?;
    let words = [
        "not allowed to get nodes",
        "serviceaccount:default:migpool",
        "the chart's roles allow it",
    ];
    let pod = complains(world, RELEASE, &words)?;
    // Events have a right of their own, which is there.
    told::is_told(world, node, ("Warning", "LabelsNotWritten"), &words[..2])?;
    works(world, node)?;
    checks::all_can_be_had(world, node, RESOURCE, COUNT)?;

    if let Some(metadata) = kept["metadata"].as_object_mut() {
        for of_the_server in ["uid", "resourceVersion", "creationTimestamp"] {
            metadata.remove(of_the_server);
        }
    }
    world.apply(&[kept])?;
    recovers(world, RELEASE, &pod)?;
    told::comes_to_be(
        world,
        node,
        MIG_LAYOUT_READY,
        ("True", "LayoutReady"),
        &["MIG1g"],
    )?;
    until("the labels", LATER, || {
        let labels = world.labels(MIGNODE)?;
        ensure!(labels.contains_key("nvidia.com/gpu.count"), "{labels:?}");
        Ok(())
    })
}

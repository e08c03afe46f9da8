//! The cluster that all tests share, and how they speak to it: with `kubectl` and `helm`, as a person does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use test_cluster::{Cluster, Config, Lifetime, Parts};

use crate::azure;
use crate::charts::{self, Repository};
use crate::fleet;
use crate::machine::{Machine, Said, workspace};
use crate::nodes::Node;
use crate::pods::Pod;
use crate::pools;
use crate::wait::{LATER, until};

/// The node with eight A100 40GB.
pub(crate) const MIGNODE: &str = "mignode";
/// The node without GPUs.
pub(crate) const CPUNODE: &str = "cpunode";
/// The node with H100.
pub(crate) const H100NODE: &str = "h100node";

/// The namespace of the tests' pods.
pub(crate) const NAMESPACE: &str = "default";

/// What tests may leave in their namespace, owners before what they own.
const LEFTOVERS: &str = "deployments,replicasets,daemonsets,jobs,poddisruptionbudgets,pods";

/// The shared cluster.
pub(crate) struct World {
    cluster: Cluster,
    machine: Arc<Machine>,
    runtime: tokio::runtime::Runtime,
    repository: OnceLock<Repository>,
    /// Namespaces that were there before any test.
    namespaces: Vec<String>,
}

impl World {
    /// Attaches to the cluster that an earlier run kept, or starts one, and gives its nodes their simulated boards.
    ///
    /// # Errors
    /// A part is missing, or does not start.
    pub(crate) fn start(machine: Arc<Machine>, name: &str, keep: bool) -> anyhow::Result<Self> {
        let lifetime = if keep {
            Lifetime::UntilStopped
        } else {
            Lifetime::WithOwner
        };
        let config = Config {
            audit: true,
            ..Config::new(name, lifetime)
        };
        let cluster = if let Ok(cluster) = Cluster::attach(&config.state_dir) {
            all_parts_run(&cluster)?;
            cluster
        } else {
            let parts = Parts::ensure()?;
            Cluster::start(&parts, &config)?
        };
        let mut world = Self {
            cluster,
            machine,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            repository: OnceLock::new(),
            namespaces: Vec::new(),
        };
        charts::give_boards(&world)?;
        world.namespaces = world.names_of("namespaces")?;
        Ok(world)
    }

    /// Stops the cluster that an earlier run kept, if there is one.
    ///
    /// # Errors
    /// It can't be stopped.
    pub(crate) fn stop_kept(name: &str) -> anyhow::Result<()> {
        let config = Config::new(name, Lifetime::UntilStopped);
        Ok(Cluster::stop_at(&config.state_dir)?)
    }

    /// Stops the cluster, or leaves it for a next run.
    ///
    /// # Errors
    /// It can't be stopped.
    pub(crate) fn end(self, keep: bool) -> anyhow::Result<()> {
        drop(self.repository);
        if keep {
            println!(
                "the cluster is kept; what was done is in {}",
                self.machine.log_path().display()
            );
            return Ok(());
        }
        self.cluster.stop()?;
        Ok(())
    }

    /// This machine, for what needs no cluster.
    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Writes a line to the log of what was done.
    pub(crate) fn log(&self, line: &str) {
        self.machine.log(line);
    }

    /// What is random in the test of this name, the same for the same seed.
    pub(crate) fn random(&self, test: &str) -> fastrand::Rng {
        self.machine.random(test)
    }

    /// A folder for what tests need on this machine.
    pub(crate) fn scratch(&self) -> &Path {
        self.machine.scratch()
    }

    /// The cluster itself, to stop and start its parts.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A node.
    pub(crate) fn node<'w>(&'w self, name: &'w str) -> Node<'w> {
        Node::new(self, name)
    }

    /// Waits for something asynchronous.
    pub(crate) fn wait_for<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The repository of our charts, served by `migpool up` in the cluster's namespaces from the first use on.
    ///
    /// # Errors
    /// It does not come up.
    pub(crate) fn repository(&self) -> anyhow::Result<&Repository> {
        if let Some(repository) = self.repository.get() {
            return Ok(repository);
        }
        let repository = Repository::serve(self)?;
        Ok(self.repository.get_or_init(|| repository))
    }

    /// Runs a program to its end, and answers with what it said.
    ///
    /// # Errors
    /// It can't be started.
    pub(crate) fn run(&self, command: Command, input: Option<&str>) -> anyhow::Result<Said> {
        self.machine.run(command, input)
    }

    /// Runs a program that has to succeed, and answers with what it wrote.
    ///
    /// # Errors
    /// It fails; its own words are the reason.
    pub(crate) fn done(&self, command: Command, input: Option<&str>) -> anyhow::Result<String> {
        self.machine.done(command, input)
    }

    /// `kubectl` with these arguments.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.cluster.command("kubectl");
        command.args(arguments);
        self.done(command, None)
    }

    /// `kubectl` with these arguments, that may fail.
    ///
    /// # Errors
    /// It can't be started.
    pub(crate) fn try_kubectl(&self, arguments: &[&str]) -> anyhow::Result<Said> {
        let mut command = self.cluster.command("kubectl");
        command.args(arguments);
        self.run(command, None)
    }

    /// `helm` with these arguments.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn helm(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.cluster.command("helm");
        command.args(arguments);
        self.done(command, None)
    }

    /// A script of a POSIX shell, as a person would type it, in the cluster's namespaces. Each line has to succeed.
    ///
    /// # Errors
    /// A line fails.
    pub(crate) fn shell(
        &self,
        script: &str,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let mut command = self.cluster.command("sh");
        command
            .args(["-e", "-c", script])
            .envs(environment.iter().copied());
        self.done(command, None)
    }

    /// The labels of a node that are ours or NVIDIA's.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn labels(&self, node: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let node = self.get(&["node", node])?;
        Ok(node["metadata"]["labels"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| key.contains("nvidia.com/") || key.contains("migpool.dev/"))
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect())
    }

    /// `kubectl get ... -o json`.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn get(&self, what: &[&str]) -> anyhow::Result<Value> {
        let mut arguments = vec!["get", "--output=json"];
        arguments.extend(what);
        let text = self.kubectl(&arguments)?;
        serde_json::from_str(&text).with_context(|| format!("kubectl get {what:?} gave no JSON"))
    }

    /// `kubectl apply` of these objects.
    ///
    /// # Errors
    /// The API server refuses one.
    pub(crate) fn apply(&self, objects: &[Value]) -> anyhow::Result<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let mut command = self.cluster.command("kubectl");
        command.args(["apply", "-f", "-"]);
        self.done(command, Some(&list.to_string()))?;
        Ok(())
    }

    /// `kubectl apply` of a file of the checkout, unchanged.
    ///
    /// # Errors
    /// The API server refuses it.
    pub(crate) fn apply_file(&self, path: &str) -> anyhow::Result<()> {
        let path = workspace().join(path);
        self.kubectl(&["apply", "-f", &path.to_string_lossy()])?;
        Ok(())
    }

    /// The pods that `kubectl get pods` gives with these arguments.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn pods(&self, arguments: &[&str]) -> anyhow::Result<Vec<Pod>> {
        let mut all = vec!["pods"];
        all.extend(arguments);
        let list = self.get(&all)?;
        list["items"]
            .as_array()
            .context("a list of pods without items")?
            .iter()
            .map(Pod::from_json)
            .collect()
    }

    /// A pod of the tests' namespace.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn pod(&self, name: &str) -> anyhow::Result<Pod> {
        Pod::from_json(&self.get(&["pod", name])?)
    }

    /// Waits until a pod runs, all of it. A pod that has ended is not waited for.
    ///
    /// # Errors
    /// It does not come to run.
    pub(crate) fn running(&self, name: &str, limit: Duration) -> anyhow::Result<Pod> {
        let over = |pod: &Pod| matches!(&*pod.phase, "Failed" | "Succeeded");
        let pod = until(&format!("pod {name} to run"), limit, || {
            let pod = self.pod(name)?;
            ensure!(pod.runs() || over(&pod), "{}", pod.line());
            Ok(pod)
        })?;
        ensure!(!over(&pod), "the pod does not run: {}", pod.line());
        Ok(pod)
    }

    /// Waits until `count` pods of a selector run, and answers with those.
    ///
    /// # Errors
    /// They do not come to run.
    pub(crate) fn all_running(
        &self,
        selector: &str,
        count: usize,
        limit: Duration,
    ) -> anyhow::Result<Vec<Pod>> {
        until(
            &format!("{count} pods {selector} to run"),
            limit,
            || -> anyhow::Result<_> {
                let (running, others): (Vec<_>, Vec<_>) = self
                    .pods(&["--selector", selector])?
                    .into_iter()
                    .partition(Pod::runs);
                ensure!(
                    running.len() == count,
                    "{} run; others: {}",
                    running.len(),
                    others.iter().map(Pod::line).collect::<Vec<_>>().join(" | ")
                );
                Ok(running)
            },
        )
    }

    /// What each pod of a selector has written to its log, by name.
    ///
    /// # Errors
    /// `kubectl logs` fails.
    pub(crate) fn logs(&self, selector: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let printed = self.kubectl(&[
            "logs",
            "--selector",
            selector,
            "--prefix",
            "--tail=-1",
            "--max-log-requests=200",
            "--ignore-errors",
        ])?;
        let mut logs: BTreeMap<String, String> = BTreeMap::new();
        for line in printed.lines() {
            // [pod/NAME/CONTAINER] what it wrote
            let Some((pod, line)) = line
                .strip_prefix("[pod/")
                .and_then(|rest| rest.split_once("] "))
            else {
                continue;
            };
            let name = pod.split('/').next().unwrap_or(pod);
            let log = logs.entry(name.to_owned()).or_default();
            log.push_str(line);
            log.push('\n');
        }
        Ok(logs)
    }

    /// Deletes pods and waits until they are gone from the API server, which is when their node has let go of them.
    ///
    /// # Errors
    /// They stay.
    pub(crate) fn delete_pods(&self, names: &[&str]) -> anyhow::Result<()> {
        let mut arguments = vec!["delete", "pods", "--grace-period=1", "--timeout=180s"];
        arguments.extend(names);
        self.kubectl(&arguments)?;
        Ok(())
    }

    /// The pods of a release of a chart on a node, those that are ending among them, by the label that Helm's conventions
    /// give them.
    ///
    /// # Errors
    /// They can't be listed.
    pub(crate) fn release_pods(&self, release: &str, node: &str) -> anyhow::Result<Vec<Pod>> {
        // The operator of a release is on some node, and not of it.
        self.pods(&[
            "--all-namespaces",
            "--selector",
            &format!("app.kubernetes.io/instance={release},app.kubernetes.io/component!=operator"),
            "--field-selector",
            &format!("spec.nodeName={node}"),
        ])
    }

    /// The pod of a release of a chart on a node that is not about to go.
    ///
    /// # Errors
    /// There is not exactly one.
    pub(crate) fn release_pod(&self, release: &str, node: &str) -> anyhow::Result<Pod> {
        let pods = self.release_pods(release, node)?;
        let mut pods: Vec<_> = pods.into_iter().filter(|pod| !pod.deleting).collect();
        match (pods.pop(), pods.len()) {
            (Some(pod), 0) => Ok(pod),
            (None, _) => bail!("release {release} has no pod on {node}"),
            (Some(_), others) => bail!("release {release} has {} pods on {node}", others + 1),
        }
    }

    /// The names of all objects of a kind.
    ///
    /// # Errors
    /// `kubectl` fails.
    pub(crate) fn names_of(&self, kind: &str) -> anyhow::Result<Vec<String>> {
        let printed = self.kubectl(&["get", kind, "--output=name"])?;
        Ok(printed.lines().map(str::to_owned).collect())
    }

    /// Where a node's files are on this machine.
    ///
    /// # Errors
    /// The node is not there.
    pub(crate) fn node_root(&self, node: &str) -> anyhow::Result<PathBuf> {
        Ok(self.cluster.node(node)?.host_path("/"))
    }

    /// Brings the cluster back to how a test begins: every part runs, the nodes are ready and have their boards, without
    /// faults and without slices, and nothing of another test is left.
    ///
    /// # Errors
    /// It can't be brought there.
    pub(crate) fn fresh(&self) -> anyhow::Result<()> {
        all_parts_run(&self.cluster)?;
        pools::sweep(self)?;
        charts::uninstall_all(self)?;
        fleet::sweep(self)?;
        pools::sweep_nodes(self)?;
        azure::sweep(self)?;
        let extra: Vec<_> = self
            .names_of("namespaces")?
            .into_iter()
            .filter(|name| !self.namespaces.contains(name))
            .collect();
        if !extra.is_empty() {
            let mut arguments = vec!["delete", "--timeout=120s"];
            arguments.extend(extra.iter().map(String::as_str));
            self.kubectl(&arguments)?;
        }
        self.kubectl(&[
            "delete",
            LEFTOVERS,
            "--all",
            "--namespace",
            NAMESPACE,
            "--grace-period=1",
            "--timeout=180s",
        ])?;
        for node in [MIGNODE, H100NODE] {
            self.node(node).inject(&["clear"])?;
            self.node(node).partition("off")?;
        }
        let nodes = [MIGNODE, CPUNODE, H100NODE];
        self.kubectl(&[&["uncordon"], &nodes[..]].concat())?;
        // What is on a cordoned node, a controller takes off.
        until("the nodes to be for all pods", LATER, || {
            let list = self.get(&[&["nodes"], &nodes[..]].concat())?;
            let nodes = list["items"].as_array().context("no list of nodes")?;
            let mut taints = nodes
                .iter()
                .filter_map(|node| node["spec"]["taints"].as_array())
                .flatten();
            let left = taints.find(|taint| {
                let key = taint["key"].as_str().unwrap_or_default();
                key.starts_with("node.kubernetes.io/")
            });
            ensure!(left.is_none(), "{left:?}");
            Ok(())
        })
    }

    /// What a person would look at first: nodes, pods, events, and the last lines of our own components' logs.
    pub(crate) fn describe_state(&self) -> String {
        let mut text = String::new();
        let mut section = |title: &str, arguments: &[&str]| {
            let said = self.try_kubectl(arguments).map_or_else(
                |error| format!("{error:#}"),
                |said| said.stdout + &said.stderr,
            );
            for part in ["---- ", title, "\n", said.trim_end(), "\n"] {
                text.push_str(part);
            }
        };
        section(
            "nodes",
            &[
                "get",
                "nodes",
                "--output=jsonpath={range .items[*]}{.metadata.name}: allocatable {.status.allocatable} taints {.spec.taints}{\"\\n\"}{end}",
            ],
        );
        section(
            "pods",
            &["get", "pods", "--all-namespaces", "--output=wide"],
        );
        section(
            "node pools",
            &[
                "get",
                "nodepools.migpool.dev",
                "--output=jsonpath={range .items[*]}{.metadata.name}: {.spec} {.status}{\"\\n\"}{end}",
            ],
        );
        section(
            "GPUs, of the first nodes",
            &[
                "get",
                "gpunodes.migpool.dev",
                "--output=jsonpath={range .items[*]}{.metadata.name}: generation {.metadata.generation} {.spec} {.status.observedGeneration} {.status.phase} {.status.layout} {.status.message}{\"\\n\"}{end}",
            ],
        );
        section(
            "last events",
            &[
                "get",
                "events",
                "--all-namespaces",
                "--sort-by=.metadata.creationTimestamp",
                "--output=jsonpath={range .items[-15:]}{.involvedObject.kind}/{.involvedObject.name} {.reason}: {.message}{\"\\n\"}{end}",
            ],
        );
        for pod in self.own_pods().unwrap_or_default() {
            section(
                &format!("log of {}", pod.line()),
                &[
                    "logs",
                    "--namespace",
                    &pod.namespace,
                    &pod.name,
                    "--all-containers",
                    "--tail=25",
                ],
            );
        }
        text
    }

    /// The pods of our own components.
    pub(crate) fn own_pods(&self) -> anyhow::Result<Vec<Pod>> {
        let all = self.get(&["pods", "--all-namespaces"])?;
        all["items"]
            .as_array()
            .context("a list of pods without items")?
            .iter()
            .filter(|pod| {
                pod["metadata"]["ownerReferences"][0]["kind"] == "DaemonSet"
                    || pod["metadata"]["labels"]["app.kubernetes.io/component"] == "operator"
            })
            .map(Pod::from_json)
            .collect()
    }
}

/// Starts what a failed test has left stopped, and waits until all of it serves.
fn all_parts_run(cluster: &Cluster) -> anyhow::Result<()> {
    let control_plane = [
        cluster.api_server(),
        cluster.scheduler(),
        cluster.controller_manager(),
    ];
    let nodes = cluster.nodes().iter();
    for service in control_plane
        .into_iter()
        .chain(nodes.flat_map(|node| [node.containerd(), node.kubelet()]))
    {
        service.start()?;
    }
    Ok(cluster.wait_until_ready()?)
}

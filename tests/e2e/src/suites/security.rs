//! No component may do more than it needs, and what it needs is written down.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::charts;
use crate::checks;
use crate::footprint;
use crate::machine::{Said, workspace};
use crate::nodes::{DRIVER_ROOT, Node, SIMULATED_ROOT};
use crate::pods::{self, Pod, PodSpec};
use crate::suite::{Outcome, Test};
use crate::told;
use crate::traces::{Traces, owned_by_releases};
use crate::wait::{LATER, until};
use crate::world::{CPUNODE, MIGNODE, World};

/// The suite.
pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "the_agents_token_can_do_what_it_needs_and_no_more",
        run: agent_rights,
    },
    Test {
        name: "an_agent_that_evicts_can_evict_and_not_delete",
        run: evicting_agent_rights,
    },
    Test {
        name: "discoverys_token_can_label_its_node_and_no_more",
        run: discovery_rights,
    },
    Test {
        name: "pods_that_need_no_privileges_run_where_pod_security_is_restricted",
        run: restricted,
    },
    Test {
        name: "privileged_containers_are_those_that_the_documentation_lists",
        run: privileged,
    },
    Test {
        name: "an_agent_without_gpus_is_idle_ready_and_small",
        run: idle,
    },
    Test {
        name: "helm_test_passes_for_every_chart",
        run: helm_test,
    },
    Test {
        name: "all_charts_come_and_go_without_a_trace",
        run: no_trace,
    },
];

/// The charts.
const CHARTS: [&str; 4] = [
    "gpu-feature-discovery",
    "migpool",
    "nvidia-device-plugin",
    "nvml-sim",
];

/// The namespace of the releases.
const NAMESPACE: &str = "default";

/// Somebody who speaks to the API server with the token that a pod of ours has.
struct Bearer<'w> {
    world: &'w World,
    kubeconfig: String,
}

impl<'w> Bearer<'w> {
    /// The token is of the pod's service account, bound to the pod, as the kubelet's are.
    fn of(world: &'w World, pod: &Pod) -> anyhow::Result<Self> {
        let object = world.get(&["pod", "--namespace", &pod.namespace, &pod.name])?;
        let account = object["spec"]["serviceAccountName"]
            .as_str()
            .context("a pod without a service account")?;
        let token = world.kubectl(&[
            "create",
            "token",
            account,
            "--namespace",
            &pod.namespace,
            "--bound-object-kind=Pod",
            "--bound-object-name",
            &pod.name,
            "--bound-object-uid",
            &pod.uid,
        ])?;
        Self::with(world, account, token.trim())
    }

    /// With any token.
    fn with(world: &'w World, name: &str, token: &str) -> anyhow::Result<Self> {
        let view = world.kubectl(&["config", "view", "--raw", "--flatten", "--output=json"])?;
        let mut config: Value = serde_json::from_str(&view)?;
        // Its own token, and not the administrator's certificate.
        config["users"][0]["user"] = json!({"token": token});
        let path = world.scratch().join(format!("{name}.kubeconfig"));
        fs::write(&path, config.to_string())?;
        Ok(Self {
            world,
            kubeconfig: path.to_string_lossy().into_owned(),
        })
    }

    fn tries(&self, arguments: &[&str], input: Option<&Value>) -> anyhow::Result<Said> {
        let mut command = self.world.cluster().command("kubectl");
        command
            .args(["--kubeconfig", &self.kubeconfig])
            .args(arguments);
        self.world
            .run(command, input.map(Value::to_string).as_deref())
    }

    /// It may do that.
    fn may(&self, arguments: &[&str]) -> Outcome {
        let said = self.tries(arguments, None)?;
        ensure!(
            said.ok,
            "`kubectl {}` is not allowed: {}",
            arguments.join(" "),
            said.stderr
        );
        Ok(())
    }

    /// It may not do that, says the API server: by its roles, or by the admission policy.
    fn may_not(&self, arguments: &[&str]) -> Outcome {
        forbidden(&arguments.join(" "), &self.tries(arguments, None)?)
    }

    /// It may not create that.
    fn may_not_create(&self, object: &Value) -> Outcome {
        let said = self.tries(&["create", "--filename", "-"], Some(object))?;
        forbidden(&format!("create {object}"), &said)
    }

    /// What nobody but an administrator may do.
    fn is_no_administrator(&self) -> Outcome {
        for arguments in [
            &["get", "secrets", "--all-namespaces"][..],
            &["get", "configmaps", "--all-namespaces"],
            &["get", "pods", "--all-namespaces"],
            &["get", "nodes"],
            &["delete", "pod", "witness"],
            &["exec", "witness", "--", "true"],
            &["delete", "node", CPUNODE],
            &["create", "token", "default"],
            &["create", "serviceaccount", "another"],
            &["get", "clusterroles"],
            &[
                "create",
                "clusterrolebinding",
                "own",
                "--clusterrole=cluster-admin",
                "--user=me",
            ],
            &["get", "daemonsets", "--all-namespaces"],
            &["delete", "validatingadmissionpolicies", "--all"],
            &["get", "--raw", "/api/v1/nodes/mignode/proxy/pods"],
        ] {
            self.may_not(arguments)?;
        }
        self.may_not_create(&PodSpec::counting("another", CPUNODE).manifest())?;
        self.may_not_create(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "another"},
        }))
    }

    /// It may change what is NVIDIA's and migpool's of its own node, and nothing else of it or of another.
    fn labels_its_node_and_nothing_else(&self) -> Outcome {
        for label in [
            "nvidia.com/e2e=1",
            "nvidia.com/e2e-",
            "migpool.dev/e2e=1",
            "migpool.dev/e2e-",
        ] {
            self.may(&["label", "node", MIGNODE, label])?;
            if !label.ends_with('-') {
                self.may_not(&["label", "node", CPUNODE, label])?;
            }
        }
        for arguments in [
            &["label", "node", MIGNODE, "e2e=1"][..],
            &[
                "label",
                "node",
                MIGNODE,
                "node-role.kubernetes.io/control-plane=",
            ],
            &["label", "node", MIGNODE, "evil-nvidia.com/e2e=1"],
            &[
                "label",
                "node",
                MIGNODE,
                "kubernetes.io/hostname=other",
                "--overwrite",
            ],
            &["label", "node", MIGNODE, "kubernetes.io/hostname-"],
            &["annotate", "node", MIGNODE, "e2e=1"],
            &["taint", "node", MIGNODE, "e2e=1:NoSchedule"],
            &["taint", "node", MIGNODE, "migpool.dev/another=1:NoExecute"],
            // As `kubectl cordon` does it, which ends well whatever the server says.
            &[
                "patch",
                "node",
                MIGNODE,
                "--patch",
                r#"{"spec": {"unschedulable": true}}"#,
            ],
        ] {
            self.may_not(arguments)?;
        }
        Ok(())
    }

    /// Tries to set something of a node's status. `kubectl patch` would read the status first, which nobody needs a right
    /// to; a server-side apply does not.
    fn sets_status(&self, node: &str, status: &Value) -> anyhow::Result<Said> {
        let object = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "status": status,
        });
        self.tries(
            &[
                "apply",
                "--server-side",
                "--force-conflicts",
                "--subresource=status",
                "--field-manager=e2e",
                "--validate=false",
                "--filename",
                "-",
            ],
            Some(&object),
        )
    }
}

fn forbidden(what: &str, said: &Said) -> Outcome {
    ensure!(!said.ok, "`kubectl {what}` is allowed: {}", said.stdout);
    let words = said.stderr.to_lowercase();
    // Not found or mistyped would prove nothing.
    ensure!(
        words.contains("forbidden") || words.contains("denied request"),
        "`kubectl {what}` fails for another reason: {}",
        said.stderr
    );
    Ok(())
}

/// An event about a node.
fn event_about(node: &str) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": "e2e-", "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "e2e",
        "reportingInstance": "e2e",
        "action": "Test",
        "reason": "Test",
        "type": "Normal",
        "note": "written by a test",
        "regarding": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
    })
}

fn witness(world: &World) -> Outcome {
    world.apply(&[PodSpec::counting("witness", CPUNODE).manifest()])?;
    world.running("witness", LATER)?;
    Ok(())
}

/// An agent on `mignode`, and another on `cpunode`, whose node it must not touch.
fn agent<'w>(world: &'w World, drain: &str) -> anyhow::Result<Bearer<'w>> {
    charts::install(
        world,
        "migpool",
        "migpool",
        &["gpuInstanceProfile=MIG1g", &format!("drain={drain}")],
    )?;
    checks::allocatable(world, world.node(MIGNODE), "nvidia.com/gpu", 56, LATER)?;
    witness(world)?;
    Bearer::of(world, &world.release_pod("migpool", MIGNODE)?)
}

fn agent_rights(world: &World) -> Outcome {
    let bearer = agent(world, "wait")?;
    bearer.is_no_administrator()?;
    bearer.labels_its_node_and_nothing_else()?;
    bearer.may(&["get", "node", MIGNODE])?;
    for taint in [
        "migpool.dev/partitioning=:NoSchedule",
        "migpool.dev/partitioning:NoSchedule-",
    ] {
        bearer.may(&["taint", "node", MIGNODE, taint])?;
    }
    bearer.may_not(&[
        "taint",
        "node",
        CPUNODE,
        "migpool.dev/partitioning=:NoSchedule",
    ])?;

    let condition = |kind: &str, status: &str| {
        json!({"conditions": [{
            "type": kind, "status": status, "reason": "Test", "message": "set by a test",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]})
    };
    let own = condition(told::GPUS_HEALTHY, "True");
    let said = bearer.sets_status(MIGNODE, &own)?;
    ensure!(said.ok, "it may not set its condition: {}", said.stderr);
    let devices = json!({"capacity": {"nvidia.com/gpu": "99"}});
    for (node, status) in [
        (CPUNODE, &own),
        (MIGNODE, &condition("Ready", "False")),
        (MIGNODE, &devices),
    ] {
        let said = bearer.sets_status(node, status)?;
        forbidden(&format!("apply to {node}: {status}"), &said)?;
    }

    let said = bearer.tries(&["create", "--filename", "-"], Some(&event_about(MIGNODE)))?;
    ensure!(said.ok, "it may not write events: {}", said.stderr);
    bearer.may_not_create(&event_about(CPUNODE))?;
    bearer.may_not(&["get", "events"])?;
    // One that only waits has no right to more.
    bearer.may_not(&["get", "pod", "witness"])?;
    forbidden("evict", &evict(&bearer, "witness")?)?;

    // A token that is bound to no pod is on no node.
    let token = world.kubectl(&["create", "token", "migpool", "--namespace", NAMESPACE])?;
    let stray = Bearer::with(world, "stray", token.trim())?;
    stray.may_not(&["label", "node", MIGNODE, "nvidia.com/e2e=1"])
}

/// Asks for an eviction, as an agent does.
fn evict(bearer: &Bearer<'_>, pod: &str) -> anyhow::Result<Said> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction");
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": pod, "namespace": NAMESPACE},
    });
    bearer.tries(
        &["create", "--raw", &path, "--filename", "-"],
        Some(&eviction),
    )
}

fn evicting_agent_rights(world: &World) -> Outcome {
    let bearer = agent(world, "evict")?;
    bearer.is_no_administrator()?;
    bearer.labels_its_node_and_nothing_else()?;
    bearer.may(&["get", "pod", "witness"])?;
    let said = evict(&bearer, "witness")?;
    ensure!(said.ok, "it may not evict: {}", said.stderr);
    Ok(())
}

fn discovery_rights(world: &World) -> Outcome {
    let node = world.node(MIGNODE);
    node.partition("MIG1g")?;
    charts::install(
        world,
        "discovery",
        "gpu-feature-discovery",
        &["migStrategy=single", &charts::only_on(MIGNODE)],
    )?;
    until("the labels", LATER, || {
        let labels = world.labels(MIGNODE)?;
        ensure!(labels.contains_key("nvidia.com/gpu.count"), "{labels:?}");
        Ok(())
    })?;
    witness(world)?;
    let bearer = Bearer::of(world, &world.release_pod("discovery", MIGNODE)?)?;
    bearer.is_no_administrator()?;
    bearer.labels_its_node_and_nothing_else()?;
    let nothing = json!({"conditions": []});
    forbidden("apply a status", &bearer.sets_status(MIGNODE, &nothing)?)?;
    bearer.may_not_create(&event_about(MIGNODE))?;

    // The plugin needs nothing of the API server, and has no token.
    charts::install(
        world,
        "plugin",
        "nvidia-device-plugin",
        &["migStrategy=single", &charts::only_on(MIGNODE)],
    )?;
    checks::allocatable(world, node, "nvidia.com/gpu", 56, LATER)?;
    let plugin = world.release_pod("plugin", MIGNODE)?;
    let object = world.get(&["pod", &plugin.name])?;
    let volumes = object["spec"]["volumes"].as_array();
    let token = volumes
        .into_iter()
        .flatten()
        .find(|volume| volume["projected"]["sources"].is_array());
    ensure!(token.is_none(), "the plugin has a token: {token:?}");
    Ok(())
}

/// Everything that a chart makes with these values, its hooks too.
fn rendered(world: &World, chart: &str, values: &[&str]) -> anyhow::Result<Vec<Value>> {
    let folder = charts::chart(chart);
    let version = world.kubectl(&["version", "--output=json"])?;
    let version: Value = serde_json::from_str(&version)?;
    let version = version["serverVersion"]["gitVersion"]
        .as_str()
        .context("the server has no version")?;
    let mut arguments = vec!["template", "release", &folder, "--namespace", NAMESPACE];
    arguments.extend(["--kube-version", version]);
    arguments.extend(values.iter().flat_map(|value| ["--set", value]));
    let yaml = world.helm(&arguments)?;
    let mut command = world.cluster().command("kubectl");
    command.args([
        "create",
        "--dry-run=client",
        "--output=json",
        "--filename",
        "-",
    ]);
    let printed = world.done(command, Some(&yaml))?;
    // One JSON object after the other, or a list of them.
    let mut objects = Vec::new();
    for object in serde_json::Deserializer::from_str(&printed).into_iter::<Value>() {
        let mut object = object?;
        match object["items"].take() {
            Value::Array(items) => objects.extend(items),
            _ => objects.push(object),
        }
    }
    Ok(objects)
}

/// The values with which every chart shows all that it can make.
fn all_parts(chart: &str) -> &'static [&'static str] {
    match chart {
        "nvml-sim" => &["allNodes=true"],
        "nvidia-device-plugin" => &["gfd.enabled=true"],
        _ => &[],
    }
}

/// The pods that an object of a chart is or makes: what they are called, and their specification.
fn pod_of(object: &Value) -> Option<&Value> {
    match object["kind"].as_str()? {
        "Pod" => object.pointer("/spec"),
        "DaemonSet" | "Job" | "Deployment" => object.pointer("/spec/template/spec"),
        _ => None,
    }
}

fn is_privileged(container: &Value) -> bool {
    container["securityContext"]["privileged"] == true
}

/// The containers of a pod.
fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["containers", "initContainers"]
        .into_iter()
        .filter_map(|key| pod[key].as_array())
        .flatten()
}

fn restricted(world: &World) -> Outcome {
    world.apply(&[json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": "restricted",
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    })])?;
    until("the namespace's service account", LATER, || {
        world.kubectl(&["get", "serviceaccount", "default", "--namespace=restricted"])
    })?;
    let mut tried = BTreeSet::new();
    for chart in CHARTS {
        for object in rendered(world, chart, all_parts(chart))? {
            let Some(spec) = pod_of(&object) else {
                continue;
            };
            let kind = object["kind"].as_str().unwrap_or_default();
            let name = format!("{chart}: {kind} {}", object["metadata"]["name"]);
            let mut spec = spec.clone();
            spec["serviceAccountName"] = json!("default");
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"generateName": "e2e-", "namespace": "restricted"},
                "spec": spec,
            });
            let mut command = world.cluster().command("kubectl");
            command.args(["create", "--dry-run=server", "--filename", "-"]);
            let said = world.run(command, Some(&pod.to_string()))?;
            let privileged = containers(&spec).any(is_privileged);
            ensure!(
                said.ok != privileged,
                "{name}: privileged {privileged}, and where the level is restricted: {}{}",
                said.stdout,
                said.stderr
            );
            ensure!(
                said.ok || said.stderr.contains("violates PodSecurity \"restricted"),
                "{name} is refused for another reason: {}",
                said.stderr
            );
            tried.insert((chart, kind.to_owned()));
        }
        // What a chart has beside its privileged part needs no privileges: the test's pod, and the job that clears up.
        ensure!(
            tried.contains(&(chart, "Pod".to_owned())),
            "{chart} has no pod for `helm test`"
        );
    }

    // And a pod with a slice runs there.
    let node = world.node(MIGNODE);
    charts::install(
        world,
        "migpool",
        "migpool",
        &["gpuInstanceProfile=MIG1g", &charts::only_on(MIGNODE)],
    )?;
    checks::allocatable(world, node, "nvidia.com/gpu", 56, LATER)?;
    let mut pod = PodSpec::with_slices("restricted", "nvidia.com/gpu", 1)
        .running(pods::CUDA, &["nvidia-smi", "-L"])
        .manifest();
    pod["metadata"]["namespace"] = json!("restricted");
    pod["spec"]["securityContext"] = json!({
        "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
    });
    pod["spec"]["containers"][0]["securityContext"] = json!({
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
    });
    world.apply(&[pod])?;
    until("a pod with a slice to end well", LATER, || {
        let pod = Pod::from_json(&world.get(&["pod", "restricted", "--namespace=restricted"])?)?;
        ensure!(pod.phase == "Succeeded", "{}", pod.line());
        Ok(())
    })?;
    let seen = world.kubectl(&["logs", "restricted", "--namespace=restricted"])?;
    ensure!(seen.matches("(UUID: MIG-").count() == 1, "it saw {seen}");
    Ok(())
}

fn privileged(world: &World) -> Outcome {
    let mut found = BTreeSet::new();
    for chart in CHARTS {
        for object in rendered(world, chart, all_parts(chart))? {
            for container in pod_of(&object).into_iter().flat_map(containers) {
                if is_privileged(container) {
                    let name = container["name"].as_str().unwrap_or_default();
                    found.insert((chart.to_owned(), name.to_owned()));
                }
            }
        }
    }
    let listed = listed(&workspace().join("docs/security.md"))?;
    ensure!(
        found == listed,
        "privileged are {found:?}, and docs/security.md lists {listed:?}"
    );
    Ok(())
}

/// The table of privileged containers in the documentation: each chart with each container.
fn listed(path: &Path) -> anyhow::Result<BTreeSet<(String, String)>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut listed = BTreeSet::new();
    let rows = text
        .lines()
        .skip_while(|line| !line.starts_with("| Part | Chart | Container | Privileged |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    for row in rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, _, charts, container, privileged, ..] = cells[..] else {
            bail!("not a row of the table: {row}");
        };
        if privileged.starts_with("yes") {
            let charts = charts.split('`').filter(|name| CHARTS.contains(name));
            let container = container.trim_matches('`');
            listed.extend(charts.map(|chart| (chart.to_owned(), container.to_owned())));
        }
    }
    Ok(listed)
}

fn idle(world: &World) -> Outcome {
    let before = Traces::of(world, world.node(CPUNODE))?;
    charts::install(
        world,
        "migpool",
        "migpool",
        &["gpuInstanceProfile=MIG1g", &charts::only_on(CPUNODE)],
    )?;
    let pod = until("an agent without GPUs to be ready", LATER, || {
        let pod = world.release_pod("migpool", CPUNODE)?;
        ensure!(pod.runs() && pod.restarts == 0, "{}", pod.line());
        let (ready, said) = told::readyz(world, &pod)?;
        ensure!(
            ready && said.starts_with("idle: "),
            "/readyz says {ready}: {said}"
        );
        Ok(pod)
    })?;
    // It leaves the node as it is, and what runs there.
    let after = Traces::of(world, world.node(CPUNODE))?;
    ensure!(before == after, "it was {before:?}, and is {after:?}");
    checks::new_cpu_work_runs(world, &[CPUNODE])?;
    // The kubelet looks every few seconds, and Kubernetes goes by what it saw.
    until("the working set of an idle agent", LATER, || {
        footprint::working_set_within(world, &pod, footprint::IDLE_GOAL)
    })
}

fn helm_test(world: &World) -> Outcome {
    let only = charts::only_on(MIGNODE);
    let tested = |release: &str, namespace: &str| -> Outcome {
        let said = world.helm(&["test", release, "--namespace", namespace, "--timeout=4m"])?;
        ensure!(
            said.contains("Phase:          Succeeded"),
            "helm test {release} ran no test: {said}"
        );
        Ok(())
    };
    tested("boards-mignode", charts::BOARDS)?;
    let node = world.node(MIGNODE);
    node.partition("MIG1g")?;
    charts::install(
        world,
        "plugin",
        "nvidia-device-plugin",
        &["migStrategy=single", &only],
    )?;
    charts::install(
        world,
        "discovery",
        "gpu-feature-discovery",
        &["migStrategy=single", &only],
    )?;
    tested("plugin", NAMESPACE)?;
    tested("discovery", NAMESPACE)?;
    charts::uninstall_all(world)?;
    charts::install(
        world,
        "migpool",
        "migpool",
        &[
            "gpuInstanceProfile=MIG3g",
            "migStrategy=mixed",
            "test.resource=nvidia.com/mig-3g.20gb",
            &only,
        ],
    )?;
    tested("migpool", NAMESPACE)?;
    // A test that nothing can pass fails.
    charts::install(
        world,
        "migpool",
        "migpool",
        &[
            "gpuInstanceProfile=MIG3g",
            "migStrategy=mixed",
            "test.resource=nvidia.com/mig-7g.40gb",
            &only,
        ],
    )?;
    let said = world.helm(&["test", "migpool", "--timeout=10s"]);
    ensure!(
        said.is_err(),
        "helm test is content without any slice: {said:?}"
    );
    // What has failed stays, to be looked at.
    world.delete_pods(&["migpool-test-slice"])
}

fn no_trace(world: &World) -> Outcome {
    let node = world.node(CPUNODE);
    let only = charts::only_on(CPUNODE);
    let before = Traces::of(world, node)?;
    let cluster = owned_by_releases(world)?;
    charts::install(
        world,
        "boards",
        "nvml-sim",
        &["boards[0].name=A100-SXM4-40GB", "boards[0].count=2", &only],
    )?;
    until("the simulated driver", LATER, || {
        let pod = world.release_pod("boards", CPUNODE)?;
        ensure!(pod.runs(), "{}", pod.line());
        Ok(())
    })?;
    charts::install(
        world,
        "migpool",
        "migpool",
        &["gpuInstanceProfile=MIG1g", &only],
    )?;
    checks::allocatable(world, node, "nvidia.com/gpu", 14, LATER)?;
    charts::uninstall(world, "migpool", NAMESPACE)?;
    // Its slices stay, for the next who asks.
    charts::install(
        world,
        "plugin",
        "nvidia-device-plugin",
        &["migStrategy=single", &only],
    )?;
    charts::install(
        world,
        "discovery",
        "gpu-feature-discovery",
        &["migStrategy=single", &only],
    )?;
    checks::allocatable(world, node, "nvidia.com/gpu", 14, LATER)?;
    for release in ["plugin", "discovery", "boards"] {
        charts::uninstall(world, release, NAMESPACE)?;
    }
    until("the node to be as it was", LATER, || {
        let now = Traces::of(world, node)?;
        ensure!(now == before, "before {before:?}, after {now:?}");
        left_nothing(node)
    })?;
    let left = owned_by_releases(world)?;
    ensure!(
        left == cluster,
        "the cluster still has {:?}",
        left.difference(&cluster).collect::<Vec<_>>()
    );
    checks::new_cpu_work_runs(world, &[CPUNODE])
}

/// Neither the simulated driver nor its mount is left.
fn left_nothing(node: Node<'_>) -> Outcome {
    for folder in [DRIVER_ROOT, SIMULATED_ROOT] {
        let files = node.files(folder)?;
        ensure!(files.is_empty(), "{folder} has {files:?}");
    }
    Ok(())
}

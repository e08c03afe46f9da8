//! Node pools: asking for them, and waiting for what comes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::operators::LEASE;
use crate::wait::{LATER, until};
use crate::world::{CPUNODE, H100NODE, MIGNODE, World};

/// The resources that the custom resources are, in full.
pub(crate) const NODE_POOLS: &str = "nodepools.migpool.dev";
const GPU_NODES: &str = "gpunodes.migpool.dev";

/// The label that says how large a node's machine is.
pub(crate) const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

/// A label by which tests choose nodes.
pub(crate) const CHOSEN: &str = "e2e.migpool.dev/chosen";

/// The labels that AKS puts on the nodes of its node pools with GPUs, and an operator of ours too.
pub(crate) const AKS_LABELS: [&str; 6] = [
    "agentpool",
    "kubernetes.azure.com/agentpool",
    "kubernetes.azure.com/cluster",
    "kubernetes.azure.com/mode",
    "accelerator",
    "kubernetes.azure.com/accelerator",
];

/// How long the operator of a test that has failed may take to give nodes back.
const PARTING: Duration = Duration::from_secs(30);

/// A `NodePool`.
pub(crate) fn manifest(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "migpool.dev/v1alpha1",
        "kind": "NodePool",
        "metadata": {"name": name},
        "spec": spec,
    })
}

/// Asks for a pool.
///
/// # Errors
/// It is refused.
pub(crate) fn ask(world: &World, name: &str, spec: &Value) -> anyhow::Result<()> {
    world.apply(&[manifest(name, spec)])
}

/// Changes a pool's spec.
///
/// # Errors
/// That is refused.
pub(crate) fn change(world: &World, name: &str, spec: &Value) -> anyhow::Result<()> {
    let patch = json!({"spec": spec}).to_string();
    let arguments = ["patch", NODE_POOLS, name, "--type=merge", "--patch", &patch];
    world.kubectl(&arguments)?;
    Ok(())
}

/// A pool is refused when it is asked for, with all these words.
///
/// # Errors
/// It is let in, or refused with other words.
pub(crate) fn is_refused(world: &World, pool: &Value, words: &[&str]) -> anyhow::Result<()> {
    let mut command = world.cluster().command("kubectl");
    command.args(["apply", "--filename", "-"]);
    let said = world.run(command, Some(&pool.to_string()))?;
    ensure!(!said.ok, "it is let in: {pool}");
    ensure!(
        words.iter().all(|word| said.stderr.contains(word)),
        "it is refused with other words than {words:?}: {}",
        said.stderr
    );
    Ok(())
}

/// A pool as it is.
///
/// # Errors
/// It is not there.
pub(crate) fn pool(world: &World, name: &str) -> anyhow::Result<Value> {
    world.get(&[NODE_POOLS, name])
}

/// A pool comes to be as asked, with this many nodes, and says so of its newest generation.
///
/// # Errors
/// It does not.
pub(crate) fn comes_to_be_ready(
    world: &World,
    name: &str,
    nodes: u64,
    limit: Duration,
) -> anyhow::Result<Value> {
    until(
        &format!("pool {name} of {nodes} to be ready"),
        limit,
        || {
            let pool = pool(world, name)?;
            let status = &pool["status"];
            ensure!(
                status["observedGeneration"] == pool["metadata"]["generation"]
                    && status["phase"] == "Succeeded"
                    && has(&pool, ("Ready", "True", "AsAsked"), &[])
                    && status["readyNodes"] == nodes
                    && status["nodes"] == nodes,
                "{}",
                line(&pool)
            );
            Ok(pool)
        },
    )
}

/// A pool comes to have a condition with this status and reason, whose message has all these words.
///
/// # Errors
/// It does not.
pub(crate) fn comes_to_say(
    world: &World,
    name: &str,
    condition: (&str, &str, &str),
    words: &[&str],
) -> anyhow::Result<Value> {
    let what = format!("pool {name} to say {condition:?} with {words:?}");
    until(&what, LATER, || {
        let pool = pool(world, name)?;
        ensure!(
            pool["status"]["observedGeneration"] == pool["metadata"]["generation"]
                && has(&pool, condition, words),
            "{}",
            line(&pool)
        );
        Ok(pool)
    })
}

/// Whether a pool has a condition with this status and reason, whose message has all these words.
pub(crate) fn has(
    pool: &Value,
    (kind, status, reason): (&str, &str, &str),
    words: &[&str],
) -> bool {
    let conditions = pool["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| {
        let message = condition["message"].as_str().unwrap_or_default();
        condition["type"] == kind
            && condition["status"] == status
            && condition["reason"] == reason
            && words.iter().all(|word| message.contains(word))
    })
}

/// How a pool is doing, in a line.
pub(crate) fn line(pool: &Value) -> String {
    let status = &pool["status"];
    format!(
        "pool {}: wanted {}, status {status}",
        pool["metadata"]["name"], pool["spec"]
    )
}

/// Deletes a pool and waits until its nodes were given back.
///
/// # Errors
/// They are not.
pub(crate) fn delete(world: &World, name: &str) -> anyhow::Result<()> {
    delete_within(world, name, LATER)
}

/// The same, of nodes that take so long.
///
/// # Errors
/// They are not given back in that time.
pub(crate) fn delete_within(world: &World, name: &str, limit: Duration) -> anyhow::Result<()> {
    let limit = format!("--timeout={}s", limit.as_secs());
    world.kubectl(&["delete", NODE_POOLS, name, &limit])?;
    Ok(())
}

/// What the operator and the agent have written of a node.
///
/// # Errors
/// It is not there.
pub(crate) fn gpu_node(world: &World, node: &str) -> anyhow::Result<Value> {
    world.get(&[GPU_NODES, node])
}

/// Nothing is wanted of a node.
///
/// # Errors
/// What is.
pub(crate) fn is_free(world: &World, node: &str) -> anyhow::Result<()> {
    nothing_is_wanted(node, &gpu_node(world, node)?["spec"])
}

/// The same, of what was read of it before.
///
/// # Errors
/// What is.
pub(crate) fn nothing_is_wanted(node: &str, spec: &Value) -> anyhow::Result<()> {
    let wanted = spec.as_object().into_iter().flatten();
    let mut wanted = wanted.filter(|(key, value)| *key != "releasing" || **value != false);
    ensure!(wanted.next().is_none(), "of {node} is wanted {spec}");
    Ok(())
}

/// The agent of a node comes to have told what is there: this many GPUs.
///
/// # Errors
/// It does not.
pub(crate) fn comes_to_be_reported(world: &World, node: &str, gpus: usize) -> anyhow::Result<()> {
    until(&format!("the agent of {node} to report"), LATER, || {
        let object = gpu_node(world, node)?;
        let known = object["status"]["gpus"].as_array().map_or(0, Vec::len);
        let phase = &object["status"]["phase"];
        ensure!(known == gpus && phase == "Ready", "{}", object["status"]);
        Ok(())
    })
}

/// What a pool puts on a node: labels by key, and taints as `key=value:effect`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dress {
    /// AKS's labels, and those of a namespace that tests use.
    pub(crate) labels: BTreeMap<String, String>,
    /// Taints that are none of Kubernetes' own and not that of an agent at work.
    pub(crate) taints: Vec<String>,
}

impl Dress {
    /// What there is on a node.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn of(world: &World, node: &str) -> anyhow::Result<Self> {
        let object = world.get(&["node", node])?;
        let labels = object["metadata"]["labels"].as_object();
        let of_pools =
            |key: &str| AKS_LABELS.contains(&key) || key.starts_with("e2e.migpool.dev/pool-");
        let taints = object["spec"]["taints"].as_array();
        let text = |taint: &Value, key: &str| taint[key].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            labels: labels
                .into_iter()
                .flatten()
                .filter(|(key, _)| of_pools(key))
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
            taints: taints
                .into_iter()
                .flatten()
                .map(|taint| {
                    let (key, value) = (text(taint, "key"), text(taint, "value"));
                    format!("{key}={value}:{}", text(taint, "effect"))
                })
                .filter(|taint| {
                    !taint.starts_with("node.kubernetes.io/") && !taint.starts_with("migpool.dev/")
                })
                .collect(),
        })
    }
}

/// A node comes to wear what this pool gives it, or nothing.
///
/// # Errors
/// It does not.
pub(crate) fn comes_to_wear(
    world: &World,
    node: &str,
    pool: Option<&str>,
    taints: &[&str],
) -> anyhow::Result<Dress> {
    until(
        &format!("{node} to wear what {pool:?} gives it"),
        LATER,
        || {
            let dress = Dress::of(world, node)?;
            let name = dress.labels.get("agentpool").map(String::as_str);
            let complete = AKS_LABELS.iter().all(|key| dress.labels.contains_key(*key));
            ensure!(
                name == pool && (pool.is_none() || complete) && dress.taints == taints,
                "{dress:?}"
            );
            ensure!(pool.is_some() || dress.labels.is_empty(), "{dress:?}");
            Ok(dress)
        },
    )
}

/// Whether the cluster knows node pools.
///
/// # Errors
/// `kubectl` fails.
pub(crate) fn are_known(world: &World) -> anyhow::Result<bool> {
    let definitions = world.names_of("customresourcedefinitions")?;
    Ok(definitions
        .iter()
        .any(|name| name.ends_with("/nodepools.migpool.dev")))
}

/// Takes everything about node pools out of the cluster that a test has left, but their definitions. Before the operator
/// goes, which gives nodes back; a pool that it does not give up is made to.
///
/// # Errors
/// Something stays.
pub(crate) fn sweep(world: &World) -> anyhow::Result<()> {
    if !are_known(world)? {
        return Ok(());
    }
    if !world.names_of(NODE_POOLS)?.is_empty() {
        world.kubectl(&["delete", NODE_POOLS, "--all", "--wait=false"])?;
        let gone = until("the node pools to be given up", PARTING, || {
            let left = world.names_of(NODE_POOLS)?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        });
        if gone.is_err() {
            for pool in world.names_of(NODE_POOLS)? {
                let patch = r#"{"metadata": {"finalizers": null}}"#;
                // It may go meanwhile by itself.
                world.try_kubectl(&["patch", &pool, "--type=merge", "--patch", patch])?;
            }
        }
    }
    Ok(())
}

/// The same, after the operator and the agents have gone: what they know of nodes, and what a pool gave nodes.
///
/// # Errors
/// Something stays.
pub(crate) fn sweep_nodes(world: &World) -> anyhow::Result<()> {
    if !are_known(world)? {
        return Ok(());
    }
    // One that an operator without a chart has made is in the chart's way.
    world.kubectl(&["delete", "lease", LEASE, "--ignore-not-found"])?;
    world.kubectl(&["delete", "--raw", "/apis/migpool.dev/v1alpha1/gpunodes"])?;
    for node in [MIGNODE, H100NODE, CPUNODE] {
        let dress = Dress::of(world, node)?;
        let own = [INSTANCE_TYPE, CHOSEN].map(str::to_owned);
        let mut arguments = vec!["label".to_owned(), "node".to_owned(), node.to_owned()];
        arguments.extend(dress.labels.keys().chain(&own).map(|key| format!("{key}-")));
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        world.kubectl(&arguments)?;
        for taint in &dress.taints {
            let key = taint.split('=').next().context("a taint without a key")?;
            world.kubectl(&["taint", "node", node, &format!("{key}-")])?;
        }
    }
    Ok(())
}

/// Takes the definitions too.
///
/// # Errors
/// They stay.
pub(crate) fn forget(world: &World) -> anyhow::Result<()> {
    sweep(world)?;
    sweep_nodes(world)?;
    let arguments = [
        "delete",
        "customresourcedefinition",
        "--ignore-not-found",
        "--timeout=120s",
    ];
    world.kubectl(&[&arguments[..], &[NODE_POOLS, GPU_NODES]].concat())?;
    Ok(())
}

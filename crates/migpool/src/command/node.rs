//! `migpool node`: the nodes of a cluster, and who holds which slice.

mod this_node;

use std::fmt::Write as _;

use clap::{ArgGroup, Args, Subcommand};
use pool::{ConditionStatus, ObservedNode};
use serde_json::Value;

use crate::arguments::Connection;
use crate::client::Client;
use crate::command::node::this_node::Here;
use crate::command::nodepool::on_cluster::{self, KubernetesCluster};
use crate::command::scope::ClusterScope;
use crate::failure::Failure;
use crate::node_map::{self, ThisNode};
use crate::output::{columns, print};

/// Nodes.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "A node may be named by itself or by its pool: `migpool node describe mignode` describes every node of pool mignode."
)]
pub(crate) enum Node {
    /// List the nodes
    List(List),
    /// Describe a node: labels, conditions, capacity and allocatable, its GPUs
    Describe(Named),
    /// Draw each GPU as its slices, and who holds them
    Map(Box<Map>),
}

/// `node map`.
#[derive(Debug, Args)]
#[command(
    after_help = "On a cluster's node: kubectl exec ds/migpool -- migpool node map --this-node"
)]
pub(crate) struct Map {
    #[command(flatten)]
    named: Named,
    /// Draw the node that this runs on: its GPUs as its driver tells, and their holders as its kubelet tells
    #[arg(long, conflicts_with_all = ["name", "resource_group", "cluster_name", "kubernetes_cluster"])]
    this_node: bool,
    #[command(flatten)]
    here: Here,
}

/// `node list`.
#[derive(Debug, Args)]
#[command(group = names_no_group())]
pub(crate) struct List {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    cluster: ClusterScope,
    #[command(flatten)]
    on: KubernetesCluster,
}

/// One node, or those of a pool.
#[derive(Debug, Args)]
#[command(group = names_no_group())]
pub(crate) struct Named {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    cluster: ClusterScope,
    #[command(flatten)]
    on: KubernetesCluster,
    /// A node's name, or a pool's for all its nodes; all nodes when left out
    name: Option<String>,
}

/// A kubeconfig says which cluster is meant, and groups are of this machine.
fn names_no_group() -> ArgGroup {
    ArgGroup::new("another_cluster")
        .args(["kubeconfig", "on_cluster", "in_cluster"])
        .multiple(true)
        .conflicts_with("resource_group")
}

impl Node {
    /// Runs it.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        match self {
            Self::List(list) => {
                let nodes = seen(&list.connection, &list.cluster, &list.on).await?;
                print(list.connection.output, &nodes, |nodes| table(nodes))
            }
            Self::Describe(named) => {
                let nodes = named.nodes().await?;
                print(named.connection.output, &nodes, |nodes| {
                    nodes.iter().map(describe).collect::<Vec<_>>().join("\n\n")
                })
            }
            Self::Map(map) => map.run().await,
        }
    }
}

impl Map {
    async fn run(&self) -> Result<(), Failure> {
        let output = self.named.connection.output;
        if self.this_node {
            return print(output, &self.here.look().await?, ThisNode::draw);
        }
        let nodes = self.named.nodes().await?;
        print(output, &nodes, |nodes| {
            nodes
                .iter()
                .map(node_map::draw)
                .collect::<Vec<_>>()
                .join("\n\n")
        })
    }
}

impl Named {
    async fn nodes(&self) -> Result<Vec<ObservedNode>, Failure> {
        let all = seen(&self.connection, &self.cluster, &self.on).await?;
        let Some(name) = &self.name else {
            return Ok(all);
        };
        let (chosen, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|node| {
            node.spec.name.to_string() == *name || pool(node).is_some_and(|pool| pool == *name)
        });
        if chosen.is_empty() {
            let names: Vec<_> = others
                .iter()
                .map(|node| node.spec.name.to_string())
                .collect();
            let known = if names.is_empty() {
                "there are none".into()
            } else {
                names.join(", ")
            };
            return Err(
                Failure::failed(format!("no node and no pool is called {name}"))
                    .with_help(format!("nodes: {known}")),
            );
        }
        Ok(chosen)
    }
}

/// The nodes of the cluster that is meant, wherever it is.
async fn seen(
    connection: &Connection,
    cluster: &ClusterScope,
    on: &KubernetesCluster,
) -> Result<Vec<ObservedNode>, Failure> {
    match on.client().await? {
        Some(client) => client.nodes().await.map_err(on_cluster::failure),
        None => nodes(&connection.client()?, cluster).await,
    }
}

/// The pool of a node; a Kubernetes cluster has nodes that are in none.
fn pool(node: &ObservedNode) -> Option<String> {
    (!kubernetes::is_free(node)).then(|| node.spec.pool.pool.to_string())
}

/// The nodes of the cluster that is meant, on this machine.
async fn nodes(client: &Client, cluster: &ClusterScope) -> Result<Vec<ObservedNode>, Failure> {
    let path = format!(
        "{}/providers/Migpool.Local/nodes",
        cluster.path(client).await?
    );
    client
        .list(&path)
        .await?
        .iter()
        .map(from_resource)
        .collect()
}

/// What is in an ARM resource's `properties`.
pub(crate) fn from_resource<T: serde::de::DeserializeOwned>(
    resource: &Value,
) -> Result<T, Failure> {
    let properties = resource.get("properties").unwrap_or(&Value::Null);
    T::deserialize(properties).map_err(|error| {
        Failure::failed(format!(
            "the service answered with something unknown: {error}"
        ))
        .with_help("is `migpool up` of the same version as this command?")
    })
}

fn status(node: &ObservedNode) -> String {
    let ready = if node.ready { "Ready" } else { "NotReady" };
    match node.phase {
        pool::NodePhase::Running => ready.to_owned(),
        other => format!("{ready},{other:?}"),
    }
}

fn table(nodes: &[ObservedNode]) -> String {
    columns(
        &["NAME", "STATUS", "POOL", "VM SIZE", "GPUS", "ALLOCATABLE"],
        nodes.iter().map(|node| {
            let devices: Vec<_> = node
                .allocatable
                .iter()
                .filter(|(name, _)| name.contains('/'))
                .map(|(name, count)| format!("{name}: {count}"))
                .collect();
            vec![
                node.spec.name.to_string(),
                status(node),
                pool(node).unwrap_or_else(|| "-".to_owned()),
                node.spec.vm_size.clone(),
                node.gpus.len().to_string(),
                if devices.is_empty() {
                    "-".to_owned()
                } else {
                    devices.join(", ")
                },
            ]
        }),
    )
}

fn describe(node: &ObservedNode) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let mut line = |args: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{args}");
    };
    line(format_args!("Name:         {}", node.spec.name));
    let pool = pool(node).unwrap_or_else(|| "-".to_owned());
    line(format_args!("Pool:         {pool}"));
    line(format_args!("VM size:      {}", node.spec.vm_size));
    line(format_args!("Status:       {}", status(node)));
    if !node.message.is_empty() {
        line(format_args!("Message:      {}", node.message));
    }
    if let Some(driver) = &node.driver_version {
        line(format_args!("Driver:       {driver}"));
    }
    line(format_args!("Created:      {}", node.created));
    line(format_args!("Labels:"));
    for (key, value) in &node.labels {
        line(format_args!("  {key}={value}"));
    }
    if !node.spec.taints.is_empty() {
        line(format_args!("Taints:"));
        for taint in &node.spec.taints {
            line(format_args!("  {taint}"));
        }
    }
    line(format_args!("Conditions:"));
    for condition in &node.conditions {
        let status = match condition.status {
            ConditionStatus::True => "True",
            ConditionStatus::False => "False",
            ConditionStatus::Unknown => "Unknown",
        };
        let message = &condition.message;
        line(format_args!(
            "  {:<12} {status:<8} {:<20} {message}",
            condition.kind, condition.reason
        ));
    }
    for (title, resources) in [
        ("Capacity", &node.capacity),
        ("Allocatable", &node.allocatable),
    ] {
        line(format_args!("{title}:"));
        for (name, count) in resources {
            line(format_args!("  {name}: {count}"));
        }
    }
    for gpu in &node.gpus {
        let held = gpu
            .slices
            .iter()
            .filter(|slice| slice.holder.is_some())
            .count();
        let mig = if gpu.mig_enabled { "MIG" } else { "no MIG" };
        line(format_args!(
            "GPU {}:        {} {} ({mig}, {} slices, {held} held)",
            gpu.index,
            gpu.name,
            gpu.uuid,
            gpu.slices.len()
        ));
    }
    text
}

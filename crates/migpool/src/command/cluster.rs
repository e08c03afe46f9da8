//! `migpool cluster`: clusters, as `az aks`.

use clap::{Args, Subcommand};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::arguments::Connection;
use crate::command::group::{key_value, object};
use crate::command::scope::{self, text};
use crate::failure::Failure;
use crate::output::{columns, print, write_line};

/// Clusters.
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Create a cluster with one system node pool
    Create(Create),
    /// Show a cluster
    Show(Named),
    /// List the clusters
    List(List),
    /// Delete a cluster with its pools, nodes and pods
    Delete(Delete),
    /// Get what kubectl needs to talk to the cluster
    GetCredentials(Named),
}

/// A cluster by its name.
#[derive(Debug, Args)]
pub(crate) struct Named {
    #[command(flatten)]
    connection: Connection,
    /// The cluster's resource group
    #[arg(short = 'g', long)]
    resource_group: String,
    /// The cluster's name
    #[arg(short, long)]
    name: String,
}

/// `cluster create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    cluster: Named,
    /// Nodes of the system pool
    #[arg(short = 'c', long, default_value_t = 3)]
    node_count: u32,
    /// VM size of the system pool's nodes; the service chooses one when it is left out
    #[arg(short = 's', long, value_name = "SIZE")]
    node_vm_size: Option<String>,
    /// Name of the system pool
    #[arg(long, default_value = "nodepool1")]
    nodepool_name: String,
    /// The location; the group's when it is left out
    #[arg(short, long)]
    location: Option<String>,
    /// Tags, `key=value`
    #[arg(long, num_args = 0.., value_parser = key_value)]
    tags: Vec<(String, String)>,
    /// Do not wait until it is done
    #[arg(long)]
    no_wait: bool,
}

/// `cluster list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    connection: Connection,
    /// Only this group's clusters
    #[arg(short = 'g', long)]
    resource_group: Option<String>,
}

/// `cluster delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    cluster: Named,
    /// Do not wait until it is done
    #[arg(long)]
    no_wait: bool,
    /// Do not ask; migpool never asks, az's flag is accepted
    #[arg(short, long)]
    yes: bool,
}

impl Cluster {
    /// Runs it.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run().await,
            Self::Show(named) => {
                let cluster = named.connection.client()?.get(&named.path()).await?;
                print(named.connection.output, &cluster, table_of_one)
            }
            Self::List(list) => {
                let path = scope::clusters(list.resource_group.as_deref());
                let clusters = list.connection.client()?.list(&path).await?;
                print(list.connection.output, &clusters, |clusters| {
                    table(clusters)
                })
            }
            Self::Delete(delete) => {
                let what = format!("deleting cluster {}", delete.cluster.name);
                let client = delete.cluster.connection.client()?;
                client
                    .delete(&delete.cluster.path(), &what, delete.no_wait)
                    .await
            }
            Self::GetCredentials(named) => {
                let client = named.connection.client()?;
                let path = format!("{}/listClusterUserCredential", named.path());
                let answer = client.call(Method::POST, &path, None).await?;
                write_line(&answer.text)
            }
        }
    }
}

impl Named {
    fn path(&self) -> String {
        scope::cluster(&self.resource_group, &self.name)
    }
}

impl Create {
    async fn run(&self) -> Result<(), Failure> {
        let connection = &self.cluster.connection;
        let client = connection.client()?;
        let path = self.cluster.path();
        // As az does: an existing cluster is not overwritten by `create`, and the group gives the location.
        let existing = client.send(Method::GET, &path, None).await?;
        if existing.status == StatusCode::OK {
            return Err(Failure::failed(format!(
                "cluster {} already exists in group {}",
                self.cluster.name, self.cluster.resource_group
            ))
            .with_help(
                "`migpool cluster show` shows it; `migpool nodepool add` adds a pool to it",
            ));
        }
        let group = client
            .get(&scope::group(&self.cluster.resource_group))
            .await?;
        let location = self
            .location
            .as_deref()
            .unwrap_or_else(|| text(&group, "/location"));
        let body = json!({
            "location": location,
            "tags": object(&self.tags),
            "properties": {
                "kubernetesVersion": "",
                "agentPoolProfiles": [{
                    "name": self.nodepool_name,
                    "count": self.node_count,
                    // Empty is ARM's word for: the service's default.
                    "vmSize": self.node_vm_size.as_deref().unwrap_or_default(),
                    "type": "VirtualMachineScaleSets",
                    "mode": "System",
                }],
            },
        });
        let what = format!("creating cluster {}", self.cluster.name);
        match client.put(&path, &body, &what, self.no_wait).await? {
            Some(made) => print(connection.output, &made, table_of_one),
            None => Ok(()),
        }
    }
}

fn table_of_one(cluster: &Value) -> String {
    table(std::slice::from_ref(cluster))
}

fn table(clusters: &[Value]) -> String {
    columns(
        &["NAME", "GROUP", "LOCATION", "POOLS", "STATE"],
        clusters.iter().map(|cluster| {
            let pools: Vec<_> = cluster
                .pointer("/properties/agentPoolProfiles")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|pool| text(pool, "/name"))
                .collect();
            vec![
                text(cluster, "/name").into(),
                group_of(text(cluster, "/id")).into(),
                text(cluster, "/location").into(),
                pools.join(","),
                text(cluster, "/properties/provisioningState").into(),
            ]
        }),
    )
}

/// The resource group in a resource id.
pub(crate) fn group_of(id: &str) -> &str {
    let mut segments = id.split('/');
    while let Some(segment) = segments.next() {
        if segment.eq_ignore_ascii_case("resourceGroups") {
            return segments.next().unwrap_or_default();
        }
    }
    ""
}

//! `migpool nodepool`: node pools, as `az aks nodepool`.

mod change;
pub(crate) mod on_cluster;

use clap::{Args, Subcommand, ValueEnum};
use hyper::{Method, StatusCode};
use kubernetes::PoolClient;
use serde_json::{Map, Value, json};

use crate::arguments::Connection;
use crate::command::group::{key_value, object};
use crate::command::nodepool::change::{Abort, DeleteMachines, Turn, not_on_cluster};
use crate::command::nodepool::on_cluster::KubernetesCluster;
use crate::command::scope::{self, text};
use crate::failure::Failure;
use crate::output::{columns, print};

/// What is shown of a pool.
const COLUMNS: [&str; 8] = [
    "NAME", "VM SIZE", "COUNT", "PROFILE", "STRATEGY", "MODE", "STATE", "MESSAGE",
];

/// Node pools.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "With --kubeconfig, --on-cluster or --in-cluster they are those of a Kubernetes cluster that has migpool's chart."
)]
pub(crate) enum Nodepool {
    /// Add a node pool to a cluster
    Add(Box<Add>),
    /// Show a node pool
    Show(Named),
    /// List a cluster's node pools
    List(List),
    /// Change the number of nodes
    Scale(Scale),
    /// Delete a node pool with its nodes and their pods
    Delete(Delete),
    /// Take away all nodes for a while; the pool keeps its number of nodes and everything else
    Stop(Turn),
    /// Bring back the nodes of a pool that was stopped
    Start(Turn),
    /// Abort what is being done to a pool; what was done until then stays
    OperationAbort(Abort),
    /// Delete certain nodes with their pods; the pool has so many fewer then
    DeleteMachines(DeleteMachines),
}

/// The cluster of a pool.
#[derive(Debug, Args)]
pub(crate) struct InCluster {
    #[command(flatten)]
    connection: Connection,
    /// The cluster's resource group; a Kubernetes cluster has none, and there it does not matter
    #[arg(short = 'g', long, required_unless_present = "kubernetes_cluster")]
    resource_group: Option<String>,
    /// The cluster's name; on a Kubernetes cluster it may be left out
    #[arg(long, required_unless_present = "kubernetes_cluster")]
    cluster_name: Option<String>,
    #[command(flatten)]
    on: KubernetesCluster,
}

/// A pool by its name.
#[derive(Debug, Args)]
pub(crate) struct Named {
    #[command(flatten)]
    cluster: InCluster,
    /// The pool's name: lower-case letters and digits, at most 12, a letter first
    #[arg(short, long, visible_alias = "nodepool-name")]
    name: String,
}

/// What a pool's nodes are for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Mode {
    /// Cluster services; at least one node.
    System,
    /// Workloads.
    User,
}

/// How slices are called.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Strategy {
    /// MIG is left aside: every GPU is `nvidia.com/gpu`.
    None,
    /// Every slice is `nvidia.com/gpu`.
    Single,
    /// A slice is called by its profile, `nvidia.com/mig-1g.5gb`.
    Mixed,
}

impl Strategy {
    /// ARM's spelling of it.
    fn arm_name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Single => "Single",
            Self::Mixed => "Mixed",
        }
    }
}

/// `nodepool add`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    migpool nodepool add --name mignode -g myResourceGroup --cluster-name myAKSCluster \\\n      \
        --node-vm-size Standard_ND96asr_v4 --gpu-instance-profile MIG1g --node-count 1\n  \
    migpool nodepool add --name mixed -g myResourceGroup --cluster-name myAKSCluster --node-count 1 \\\n      \
        --node-vm-size Standard_ND96asr_v4 --mig-strategy mixed --layout '0-3=3g.20gb,2g.10gb,1g.5gb*2;4-7=off'\n\
    `migpool profiles --list` lists the VM sizes with MIG, `migpool profiles -s SIZE` what their GPUs can be cut into.")]
pub(crate) struct Add {
    #[command(flatten)]
    pool: Named,
    /// VM size of the nodes; it decides the GPUs, e.g. `Standard_ND96asr_v4` has 8 A100 40GB
    #[arg(short = 's', long, value_name = "SIZE")]
    node_vm_size: Option<String>,
    /// GPU instance profile: every GPU is partitioned into as many of it as fit; cannot be changed later
    /// [possible values: MIG1g, MIG2g, MIG3g, MIG4g, MIG7g]
    #[arg(long, value_name = "PROFILE")]
    gpu_instance_profile: Option<String>,
    /// Layout of the GPUs where one profile for all is not enough, e.g.
    /// `0-3=3g.20gb,2g.10gb,1g.5gb*2;4-7=off`; instead of a GPU instance profile
    #[arg(long, conflicts_with = "gpu_instance_profile")]
    layout: Option<String>,
    /// How the slices are advertised
    #[arg(long, value_enum)]
    mig_strategy: Option<Strategy>,
    /// Number of nodes
    #[arg(short = 'c', long, default_value_t = 3)]
    node_count: u32,
    /// What the nodes are for
    #[arg(long, value_enum, ignore_case = true, default_value = "user")]
    mode: Mode,
    /// Node labels, `key=value`
    #[arg(long, num_args = 0.., value_parser = key_value)]
    labels: Vec<(String, String)>,
    /// Node taints, `key=value:Effect`, separated by commas
    #[arg(long, value_delimiter = ',')]
    node_taints: Vec<String>,
    /// Tags, `key=value`; not on a Kubernetes cluster
    #[arg(long, num_args = 0.., value_parser = key_value, conflicts_with = "kubernetes_cluster")]
    tags: Vec<(String, String)>,
    /// Do not wait until it is done
    #[arg(long)]
    no_wait: bool,
}

/// `nodepool list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    cluster: InCluster,
}

/// `nodepool scale`.
#[derive(Debug, Args)]
pub(crate) struct Scale {
    #[command(flatten)]
    pool: Named,
    /// Number of nodes
    #[arg(short = 'c', long)]
    node_count: u32,
    /// Do not wait until it is done
    #[arg(long)]
    no_wait: bool,
}

/// `nodepool delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    pool: Named,
    /// Do not wait until it is done
    #[arg(long)]
    no_wait: bool,
    /// Do not ask; migpool never asks, az's flag is accepted
    #[arg(short, long)]
    yes: bool,
}

impl Nodepool {
    /// Runs it.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        match self.cluster().on.client().await? {
            Some(client) => self.run_on_cluster(&client).await,
            None => self.run_on_machine().await,
        }
    }

    fn cluster(&self) -> &InCluster {
        match self {
            Self::Add(add) => &add.pool.cluster,
            Self::Show(named) => &named.cluster,
            Self::List(list) => &list.cluster,
            Self::Scale(scale) => &scale.pool.cluster,
            Self::Delete(delete) => &delete.pool.cluster,
            Self::Stop(turn) | Self::Start(turn) => &turn.pool.cluster,
            Self::OperationAbort(abort) => &abort.pool.cluster,
            Self::DeleteMachines(delete) => &delete.pool.cluster,
        }
    }

    async fn run_on_cluster(&self, client: &PoolClient) -> Result<(), Failure> {
        match self {
            Self::Add(add) => on_cluster::add(client, add).await,
            Self::Show(named) => on_cluster::show(client, named).await,
            Self::List(list) => on_cluster::list(client, list).await,
            Self::Scale(scale) => on_cluster::scale(client, scale).await,
            Self::Delete(delete) => on_cluster::delete(client, delete).await,
            Self::Stop(_) | Self::Start(_) => Err(not_on_cluster(
                "on a Kubernetes cluster set spec.power of the NodePool to Stopped or Running",
            )),
            Self::OperationAbort(_) => Err(not_on_cluster(
                "on a Kubernetes cluster set the spec of the NodePool back to what it was",
            )),
            Self::DeleteMachines(_) => Err(not_on_cluster(
                "on a Kubernetes cluster lower spec.count of the NodePool: nodes in use go last",
            )),
        }
    }

    async fn run_on_machine(&self) -> Result<(), Failure> {
        match self {
            Self::Add(add) => add.run().await,
            Self::Show(named) => {
                let pool = named
                    .cluster
                    .connection
                    .client()?
                    .get(&named.path())
                    .await?;
                print(named.cluster.connection.output, &pool, table_of_one)
            }
            Self::List(list) => {
                let pools = list
                    .cluster
                    .connection
                    .client()?
                    .list(&list.cluster.pools())
                    .await?;
                print(list.cluster.connection.output, &pools, |pools| table(pools))
            }
            Self::Scale(scale) => scale.run().await,
            Self::Stop(turn) => turn.run("Stopped").await,
            Self::Start(turn) => turn.run("Running").await,
            Self::OperationAbort(abort) => abort.run().await,
            Self::DeleteMachines(delete) => delete.run().await,
            Self::Delete(delete) => {
                let what = format!("deleting node pool {}", delete.pool.name);
                let client = delete.pool.cluster.connection.client()?;
                client
                    .delete(&delete.pool.path(), &what, delete.no_wait)
                    .await
            }
        }
    }
}

impl InCluster {
    /// The path of the pools. On this machine both names are there: they are required.
    fn pools(&self) -> String {
        let group = self.resource_group.as_deref().unwrap_or_default();
        let name = self.cluster_name.as_deref().unwrap_or_default();
        format!("{}/agentPools", scope::cluster(group, name))
    }
}

impl Named {
    fn path(&self) -> String {
        format!("{}/{}", self.cluster.pools(), scope::segment(&self.name))
    }
}

impl Add {
    async fn run(&self) -> Result<(), Failure> {
        let connection = &self.pool.cluster.connection;
        let client = connection.client()?;
        let path = self.pool.path();
        let existing = client.send(Method::GET, &path, None).await?;
        if existing.status == StatusCode::OK {
            return Err(exists(&self.pool.name));
        }
        let what = format!("creating node pool {}", self.pool.name);
        match client.put(&path, &self.body(), &what, self.no_wait).await? {
            Some(made) => print(connection.output, &made, table_of_one),
            None => Ok(()),
        }
    }

    fn body(&self) -> Value {
        let mut properties = Map::new();
        properties.insert("count".into(), json!(self.node_count));
        // Empty is ARM's word for: the service's default.
        let vm_size = self.node_vm_size.as_deref().unwrap_or_default();
        properties.insert("vmSize".into(), json!(vm_size));
        properties.insert("type".into(), json!("VirtualMachineScaleSets"));
        let mode = match self.mode {
            Mode::System => "System",
            Mode::User => "User",
        };
        properties.insert("mode".into(), json!(mode));
        if let Some(profile) = &self.gpu_instance_profile {
            properties.insert("gpuInstanceProfile".into(), json!(profile));
        }
        if let Some(layout) = &self.layout {
            properties.insert("layouts".into(), json!(layout));
        }
        if let Some(strategy) = self.mig_strategy {
            let nvidia = json!({"nvidia": {"migStrategy": strategy.arm_name()}});
            properties.insert("gpuProfile".into(), nvidia);
        }
        if !self.labels.is_empty() {
            properties.insert("nodeLabels".into(), object(&self.labels));
        }
        if !self.node_taints.is_empty() {
            properties.insert("nodeTaints".into(), json!(self.node_taints));
        }
        if !self.tags.is_empty() {
            properties.insert("tags".into(), object(&self.tags));
        }
        json!({"properties": properties})
    }
}

impl Scale {
    async fn run(&self) -> Result<(), Failure> {
        let connection = &self.pool.cluster.connection;
        let client = connection.client()?;
        let path = self.pool.path();
        // az's way: the whole pool as it is, put back with another count.
        let mut pool = client.get(&path).await?;
        if let Some(properties) = pool
            .pointer_mut("/properties")
            .and_then(Value::as_object_mut)
        {
            properties.insert("count".into(), json!(self.node_count));
        }
        let what = format!("scaling node pool {}", self.pool.name);
        match client.put(&path, &pool, &what, self.no_wait).await? {
            Some(made) => print(connection.output, &made, table_of_one),
            None => Ok(()),
        }
    }
}

/// There is a pool of this name already.
fn exists(name: &str) -> Failure {
    Failure::failed(format!("node pool {name} already exists")).with_help(
        "`migpool nodepool scale` changes its size; its GPU instance profile cannot be changed: delete it and add it \
         again",
    )
}

fn table_of_one(pool: &Value) -> String {
    table(std::slice::from_ref(pool))
}

fn table(pools: &[Value]) -> String {
    let dash = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text.to_owned()
        }
    };
    columns(
        &COLUMNS,
        pools.iter().map(|pool| {
            let count = pool.pointer("/properties/count").and_then(Value::as_u64);
            let profile = text(pool, "/properties/gpuInstanceProfile");
            let layout = text(pool, "/properties/layouts");
            vec![
                text(pool, "/name").into(),
                text(pool, "/properties/vmSize").into(),
                count.map_or_else(String::new, |count| count.to_string()),
                dash(if profile.is_empty() { layout } else { profile }),
                dash(text(pool, "/properties/gpuProfile/nvidia/migStrategy")),
                text(pool, "/properties/mode").into(),
                text(pool, "/properties/provisioningState").into(),
                text(pool, "/properties/provisioningMessage").into(),
            ]
        }),
    )
}

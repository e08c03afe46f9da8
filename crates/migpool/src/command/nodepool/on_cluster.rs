//! Node pools on a Kubernetes cluster: the same commands, with the API server instead of `migpool up`.

mod resource;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use kubernetes::{NodePool, PoolClient, PoolClientError, progress_of};
use pool::ProvisioningState;

use super::{Add, Delete, InCluster, List, Named, Scale};
use crate::failure::Failure;
use crate::output::print;

/// How long a pool is waited for. Pods in the way may take longer than anybody wants to look at a terminal.
const PATIENCE: Duration = Duration::from_mins(30);

/// Where the help has these flags.
pub(crate) const HEADING: &str = "On a Kubernetes cluster";

/// Which Kubernetes cluster is meant, if not the clusters of this machine.
#[derive(Debug, Clone, Args)]
#[group(id = "kubernetes_cluster", multiple = false)]
pub(crate) struct KubernetesCluster {
    /// Work on the Kubernetes cluster that this kubeconfig names
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    kubeconfig: Option<PathBuf>,
    /// Work on the Kubernetes cluster of the kubeconfig in KUBECONFIG, or of ~/.kube/config
    #[arg(long, help_heading = HEADING)]
    on_cluster: bool,
    /// Work on the Kubernetes cluster that this runs in, as a pod
    #[arg(long, help_heading = HEADING)]
    in_cluster: bool,
}

/// How a Kubernetes cluster is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach {
    /// By a kubeconfig.
    Kubeconfig(PathBuf),
    /// As one of its pods.
    Pod,
}

impl Reach {
    /// The kubeconfig, if there is one.
    pub(crate) fn kubeconfig(&self) -> Option<&Path> {
        match self {
            Self::Kubeconfig(path) => Some(path),
            Self::Pod => None,
        }
    }
}

impl KubernetesCluster {
    /// How the cluster that is meant is reached; `None` when those of this machine are meant.
    pub(crate) fn reach(&self) -> Result<Option<Reach>, Failure> {
        Ok(match &self.kubeconfig {
            Some(path) => Some(Reach::Kubeconfig(path.clone())),
            None if self.on_cluster => Some(Reach::Kubeconfig(usual_kubeconfig()?)),
            None if self.in_cluster => Some(Reach::Pod),
            None => None,
        })
    }

    /// A client of the cluster that is meant; `None` when those of this machine are.
    pub(crate) async fn client(&self) -> Result<Option<PoolClient>, Failure> {
        let Some(reach) = self.reach()? else {
            return Ok(None);
        };
        let client = PoolClient::connect(reach.kubeconfig()).await;
        client.map(Some).map_err(failure)
    }
}

/// The kubeconfig that kubectl would take.
fn usual_kubeconfig() -> Result<PathBuf, Failure> {
    if let Some(named) = std::env::var_os("KUBECONFIG").filter(|named| !named.is_empty()) {
        let mut files = std::env::split_paths(&named).filter(|path| !path.as_os_str().is_empty());
        return match (files.next(), files.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(Failure::usage("KUBECONFIG names several files")
                .with_help("name the one that is meant with --kubeconfig")),
        };
    }
    match std::env::home_dir() {
        Some(home) if !home.as_os_str().is_empty() => Ok(home.join(".kube/config")),
        _ => Err(
            Failure::usage("KUBECONFIG is not set, and there is no home folder")
                .with_help("name the kubeconfig with --kubeconfig"),
        ),
    }
}

/// What the cluster refused or did not do.
pub(crate) fn failure(error: PoolClientError) -> Failure {
    match &error {
        PoolClientError::NoDefinitions => {
            Failure::of(error).with_help("helm install migpool charts/migpool")
        }
        PoolClientError::Exists(name) => super::exists(name),
        PoolClientError::Unsettled { .. } => Failure::of(error).with_help(
            "nothing was taken back: it goes on by itself, and `migpool nodepool show` says where it is",
        ),
        _ => Failure::of(error),
    }
}

/// `nodepool add`.
pub(super) async fn add(client: &PoolClient, add: &Add) -> Result<(), Failure> {
    let made = client.add(&resource::wanted(add)?).await.map_err(failure)?;
    let what = format!("creating node pool {}", add.pool.name);
    settle(client, &add.pool, made, &what, add.no_wait).await
}

/// `nodepool show`.
pub(super) async fn show(client: &PoolClient, named: &Named) -> Result<(), Failure> {
    let pool = find(client, named).await?;
    let output = named.cluster.connection.output;
    print(output, &resource::shown(pool), resource::table_of_one)
}

/// `nodepool list`.
pub(super) async fn list(client: &PoolClient, list: &List) -> Result<(), Failure> {
    let pools = client.list().await.map_err(failure)?;
    let pools: Vec<NodePool> = pools
        .into_iter()
        .filter(|pool| is_meant(&list.cluster, pool))
        .map(resource::shown)
        .collect();
    let output = list.cluster.connection.output;
    print(output, &pools, |pools| resource::table(pools))
}

/// `nodepool scale`.
pub(super) async fn scale(client: &PoolClient, scale: &Scale) -> Result<(), Failure> {
    find(client, &scale.pool).await?;
    let count = resource::count(scale.node_count)?;
    let name = &scale.pool.name;
    let scaled = client.scale(name, count).await.map_err(failure)?;
    let what = format!("scaling node pool {name}");
    settle(client, &scale.pool, scaled, &what, scale.no_wait).await
}

/// `nodepool delete`.
pub(super) async fn delete(client: &PoolClient, delete: &Delete) -> Result<(), Failure> {
    let pool = find(client, &delete.pool).await?;
    let name = &delete.pool.name;
    client.delete(name).await.map_err(failure)?;
    if delete.no_wait {
        return Ok(());
    }
    let mut progress = Progress::new(format!("deleting node pool {name}"));
    let gone = client.wait_until_gone(&pool, PATIENCE, |pool| progress.tell(pool));
    let gone = gone.await;
    progress.bar.finish_and_clear();
    gone.map_err(failure)
}

/// The pool that is meant. One of the name in another cluster than was named is none.
async fn find(client: &PoolClient, named: &Named) -> Result<NodePool, Failure> {
    let pool = client.get(&named.name).await.map_err(failure)?;
    if is_meant(&named.cluster, &pool) {
        return Ok(pool);
    }
    let is_in = resource::cluster_name(&pool);
    let asked = named.cluster.cluster_name.as_deref().unwrap_or_default();
    Err(Failure::failed(format!(
        "there is no node pool {} in cluster {asked}",
        named.name
    ))
    .with_help(format!(
        "there is one in cluster {is_in}: --cluster-name {is_in}, or leave it out"
    )))
}

fn is_meant(cluster: &InCluster, pool: &NodePool) -> bool {
    let asked = cluster.cluster_name.as_deref();
    asked.is_none_or(|asked| asked.eq_ignore_ascii_case(resource::cluster_name(pool)))
}

/// Waits until a pool is as was asked, and prints it.
async fn settle(
    client: &PoolClient,
    named: &Named,
    asked: NodePool,
    what: &str,
    no_wait: bool,
) -> Result<(), Failure> {
    if no_wait {
        return Ok(());
    }
    let mut progress = Progress::new(what.to_owned());
    progress.tell(&asked);
    let settled = client.wait_until_settled(&named.name, PATIENCE, |pool| progress.tell(pool));
    let settled = settled.await;
    progress.bar.finish_and_clear();
    let pool = settled.map_err(failure)?;
    let state = kubernetes::state_of(&pool);
    if state != ProvisioningState::Succeeded {
        let end = state.to_string().to_lowercase();
        return Err(Failure::failed(format!(
            "{what}: {end}: {}",
            progress_of(&pool)
        )));
    }
    let output = named.cluster.connection.output;
    print(output, &resource::shown(pool), resource::table_of_one)
}

/// What is going on, on a terminal in place, elsewhere a line for each change.
struct Progress {
    what: String,
    bar: ProgressBar,
    said: String,
}

impl Progress {
    fn new(what: String) -> Self {
        let bar = ProgressBar::new_spinner().with_message(what.clone());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self {
            what,
            bar,
            said: String::new(),
        }
    }

    fn tell(&mut self, pool: &NodePool) {
        let said = format!("{}: {}", self.what, progress_of(pool));
        if said == self.said {
            return;
        }
        if self.bar.is_hidden() && !kubernetes::state_of(pool).is_terminal() {
            anstream::eprintln!("{said}");
        }
        self.bar.set_message(said.clone());
        self.said = said;
    }
}

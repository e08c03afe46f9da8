//! What a person's command does with node pools: it speaks with the API server alone, and the operator does the rest.

mod nodes;
mod refusal;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gpu_node::GpuNode;
use http::header::{HeaderValue, USER_AGENT};
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Api, Client, ResourceExt};
use pool::{ObservedNode, ProvisioningState};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::client::{ClientError, Program, causes, config};
use crate::convert;
use crate::node_pool::NodePool;
use crate::view::Pair;

pub use nodes::is_free;

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// How long the server may be silent within an answer.
const ANSWER: Duration = Duration::from_mins(1);

/// How often a pool that is waited for is looked at.
const PAUSE: Duration = Duration::from_millis(500);

/// How many looks in a row may fail: a server that is restarted is away for a moment.
const FAILURES: u32 = 120;

/// Why a pool or the nodes could not be asked for, changed or awaited.
#[derive(Debug, thiserror::Error)]
pub enum PoolClientError {
    /// There is no telling where the API server is.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The API server does not answer, or what it answers is not understood.
    #[error("the API server cannot be asked: {0}")]
    Unreachable(String),
    /// The cluster knows no node pools.
    #[error(
        "the cluster knows no NodePool of migpool.dev/v1alpha1: install migpool's chart with operator.enabled=true"
    )]
    NoDefinitions,
    /// There is no pool of this name.
    #[error("there is no node pool {0}")]
    NotFound(String),
    /// There is one already.
    #[error("node pool {0} already exists")]
    Exists(String),
    /// The API server refused, with this sentence.
    #[error("{0}")]
    Refused(String),
    /// It takes longer than was to be waited.
    #[error("node pool {name} is still {state} after {}s: {message}", .patience.as_secs())]
    Unsettled {
        /// The pool.
        name: String,
        /// Where it is on its way.
        state: ProvisioningState,
        /// What is going on.
        message: String,
        /// How long it was waited for.
        patience: Duration,
    },
}

/// A client of a cluster's node pools and the nodes in them.
#[derive(Clone)]
pub struct PoolClient {
    client: Client,
}

impl std::fmt::Debug for PoolClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolClient").finish_non_exhaustive()
    }
}

impl PoolClient {
    /// A client by what a kubeconfig says, or without one by what the cluster tells its pods. Nothing is sent yet.
    ///
    /// # Errors
    /// If the file, or the pod's service account, can't be read or used.
    pub async fn connect(kubeconfig: Option<&Path>) -> Result<Self, PoolClientError> {
        let mut config = config(kubeconfig).await?;
        if let Some(proxy) = &config.proxy_url {
            // A password may be in it.
            let host = proxy.host().unwrap_or_default();
            return Err(ClientError::Config(format!(
                "the kubeconfig's proxy-url, or HTTPS_PROXY, asks for the proxy {host}, and proxies are not supported"
            ))
            .into());
        }
        let program = (
            USER_AGENT,
            HeaderValue::from_static(Program::Command.agent()),
        );
        config.headers.push(program);
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(ANSWER);
        let client = Client::try_from(config);
        let client = client.map_err(|error| ClientError::Config(causes(&error)))?;
        Ok(Self { client })
    }

    /// The same over a client that is there.
    pub(crate) fn over(client: Client) -> Self {
        Self { client }
    }

    /// Asks for a new pool, and gives it as the API server took it.
    ///
    /// # Errors
    /// If there is one of this name, or it is refused.
    pub async fn add(&self, pool: &NodePool) -> Result<NodePool, PoolClientError> {
        let made = self.pools().create(&PostParams::default(), pool).await;
        made.map_err(|error| failed(&pool.name_any(), error))
    }

    /// A pool.
    ///
    /// # Errors
    /// If there is none of this name, or it is not to be seen.
    pub async fn get(&self, name: &str) -> Result<NodePool, PoolClientError> {
        let found = self.pools().get(name).await;
        found.map_err(|error| failed(name, error))
    }

    /// All pools, by name.
    ///
    /// # Errors
    /// If they are not to be seen.
    pub async fn list(&self) -> Result<Vec<NodePool>, PoolClientError> {
        self.all().await
    }

    /// Asks for another number of nodes, and gives the pool as the API server took it.
    ///
    /// # Errors
    /// If there is no such pool, or it is refused.
    pub async fn scale(&self, name: &str, count: i32) -> Result<NodePool, PoolClientError> {
        let patch = Patch::Merge(json!({"spec": {"count": count}}));
        let parameters = PatchParams::default();
        let scaled = self.pools().patch(name, &parameters, &patch).await;
        scaled.map_err(|error| failed(name, error))
    }

    /// Asks for a pool's end; it is gone when its nodes were given back.
    ///
    /// # Errors
    /// If there is no such pool, or it is refused.
    pub async fn delete(&self, name: &str) -> Result<(), PoolClientError> {
        let deleted = self.pools().delete(name, &DeleteParams::default()).await;
        deleted.map(drop).map_err(|error| failed(name, error))
    }

    /// Waits until a pool is as was asked last, or can't become so, and gives it then; `seen` is told of it at every look.
    ///
    /// # Errors
    /// If that takes longer than `patience`, the pool goes, or the API server stays away.
    pub async fn wait_until_settled(
        &self,
        name: &str,
        patience: Duration,
        mut seen: impl FnMut(&NodePool),
    ) -> Result<NodePool, PoolClientError> {
        self.wait(name, patience, |pool| {
            let pool = pool.ok_or_else(|| PoolClientError::NotFound(name.to_owned()))?;
            seen(&pool);
            Ok(Some(pool).filter(|pool| state_of(pool).is_terminal()))
        })
        .await
    }

    /// Waits until a pool that is being deleted is gone; `seen` is told of it at every look.
    ///
    /// # Errors
    /// If that takes longer than `patience`, or the API server stays away.
    pub async fn wait_until_gone(
        &self,
        pool: &NodePool,
        patience: Duration,
        mut seen: impl FnMut(&NodePool),
    ) -> Result<(), PoolClientError> {
        self.wait(&pool.name_any(), patience, |found| {
            // Another one of the name may be there by now.
            let found = found.filter(|found| found.uid() == pool.uid());
            found.iter().for_each(&mut seen);
            Ok(found.is_none().then_some(()))
        })
        .await
    }

    /// The nodes that an agent reports from, with all of each, by name. Those for which [`is_free`] holds are in no pool.
    ///
    /// # Errors
    /// If they are not to be seen.
    pub async fn nodes(&self) -> Result<Vec<ObservedNode>, PoolClientError> {
        let pools: Vec<NodePool> = self.all().await?;
        let gpu_nodes: Vec<GpuNode> = self.all().await?;
        let nodes: Vec<Node> = self.all().await?;
        let pools: BTreeMap<String, NodePool> =
            pools.into_iter().map(|it| (it.name_any(), it)).collect();
        let mut nodes: BTreeMap<String, Arc<Node>> = nodes
            .into_iter()
            .map(|it| (it.name_any(), Arc::new(it)))
            .collect();
        let pairs = gpu_nodes.into_iter().map(|gpu_node| Pair {
            node: nodes.remove(&gpu_node.name_any()),
            gpu_node: Arc::new(gpu_node),
        });
        Ok(pairs.filter_map(|it| nodes::seen(&it, &pools)).collect())
    }

    fn pools(&self) -> Api<NodePool> {
        Api::all(self.client.clone())
    }

    async fn all<K>(&self) -> Result<Vec<K>, PoolClientError>
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let api = Api::<K>::all(self.client.clone());
        let listed = api.list(&ListParams::default()).await;
        let mut all = listed.map_err(|error| failed("", error))?.items;
        all.sort_by_key(ResourceExt::name_any);
        Ok(all)
    }

    /// Looks at a pool until `judge` has an answer.
    async fn wait<T>(
        &self,
        name: &str,
        patience: Duration,
        mut judge: impl FnMut(Option<NodePool>) -> Result<Option<T>, PoolClientError>,
    ) -> Result<T, PoolClientError> {
        let deadline = Instant::now() + patience;
        let mut failures = 0;
        loop {
            let mut last = None;
            match self.get(name).await {
                Ok(pool) => {
                    last = Some(pool.clone());
                    failures = 0;
                    if let Some(answer) = judge(Some(pool))? {
                        return Ok(answer);
                    }
                }
                Err(PoolClientError::NotFound(_)) => {
                    if let Some(answer) = judge(None)? {
                        return Ok(answer);
                    }
                }
                Err(PoolClientError::Unreachable(_)) if failures < FAILURES => failures += 1,
                Err(error) => return Err(error),
            }
            if let Some(pool) = last.filter(|_| Instant::now() >= deadline) {
                return Err(PoolClientError::Unsettled {
                    name: name.to_owned(),
                    state: state_of(&pool),
                    message: progress_of(&pool),
                    patience,
                });
            }
            sleep(PAUSE).await;
        }
    }
}

/// Where a pool is on its way: a change that the operator has not looked at yet starts it anew.
#[must_use]
pub fn state_of(pool: &NodePool) -> ProvisioningState {
    match convert::record(pool) {
        Ok(record) => record.provisioning_state,
        Err(_) if is_looked_at(pool) => ProvisioningState::Failed,
        Err(_) => ProvisioningState::Creating,
    }
}

/// What is going on with a pool, in a sentence.
#[must_use]
pub fn progress_of(pool: &NodePool) -> String {
    match &pool.status {
        Some(status) if is_looked_at(pool) && !status.message.is_empty() => status.message.clone(),
        _ if is_looked_at(pool) => "nothing is said of it".to_owned(),
        _ => "the operator has not looked at it yet".to_owned(),
    }
}

fn is_looked_at(pool: &NodePool) -> bool {
    let looked_at = pool.status.as_ref();
    looked_at.is_some_and(|status| status.observed_generation == pool.metadata.generation)
}

fn failed(name: &str, error: kube::Error) -> PoolClientError {
    match error {
        kube::Error::Api(status) => refused(name, &status),
        error => PoolClientError::Unreachable(causes(&error)),
    }
}

fn refused(name: &str, status: &Status) -> PoolClientError {
    let about = status.details.as_ref();
    match status.code {
        // Of a resource that it does not know, the server does not say which object is missing.
        404 if about.is_some_and(|details| !details.name.is_empty()) => {
            PoolClientError::NotFound(name.to_owned())
        }
        404 => PoolClientError::NoDefinitions,
        401 => PoolClientError::Refused(
            "the API server does not know who asks (401 Unauthorized): the kubeconfig's credentials may have expired"
                .to_owned(),
        ),
        429 | 500.. => PoolClientError::Unreachable(refusal::sentence(status)),
        _ if status.reason == "AlreadyExists" => PoolClientError::Exists(name.to_owned()),
        _ => PoolClientError::Refused(refusal::sentence(status)),
    }
}

#[cfg(test)]
mod tests;

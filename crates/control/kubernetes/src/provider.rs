//! [`pool::NodeProvider`] over nodes that are there: a pool takes them, changes them and gives them back.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use gpu_node::{GpuNode, GpuNodeSpec, Phase, PoolReference, WantedTaint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::reflector::ObjectRef;
use pool::{
    Action, Candidates, NodeName, NodeProvider, NodeSpec, ObservedNode, PoolKey, ProviderError,
    Supply, VmSize,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::backend::KubernetesBackend;
use crate::convert;
use crate::node_pool::{NodePool, ProviderKind};
use crate::view::{self, Pair};

/// Who puts a pool's labels on nodes, to server-side apply.
const LABELS: &str = "migpool-nodepool";

/// How many nodes are written at the same time.
const AT_ONCE: usize = 16;

impl NodeProvider for KubernetesBackend {
    async fn observe(&self) -> Result<Vec<Arc<ObservedNode>>, ProviderError> {
        let mut nodes = Vec::new();
        for object in self.caches.pools.state() {
            nodes.extend(self.nodes_of(&object));
        }
        Ok(nodes)
    }

    async fn supply(&self, pool: &pool::NodePool) -> Result<Supply, ProviderError> {
        let Some(object) = self.pool(&pool.key) else {
            return Ok(Supply::Found(Candidates::default()));
        };
        match object.spec.provider.kind {
            ProviderKind::Adopt => Ok(Supply::Found(self.candidates(
                pool.spec.count,
                pool,
                &object,
                None,
            ))),
            ProviderKind::ClusterAPI => self.scaled(pool, &object).await,
        }
    }

    async fn apply(&self, action: Action) -> Result<(), ProviderError> {
        match action {
            Action::CreateNode(spec) => self.take(spec).await,
            Action::UpdateNode(spec) => self.update(spec).await,
            Action::DeleteNode(name) => self.start_release(&name).await,
            Action::Resize(pool, count) => self.resize(&pool, count).await,
        }
    }

    async fn apply_all(&self, actions: Vec<Action>) -> Result<(), ProviderError> {
        // Machines are counted down only after those that are to go were named.
        let (last, first): (Vec<_>, Vec<_>) = actions
            .into_iter()
            .partition(|action| matches!(action, Action::Resize(..)));
        for actions in [first, last] {
            let changes: Vec<_> = actions
                .into_iter()
                .map(|action| self.apply(action))
                .collect();
            futures::stream::iter(changes)
                .buffer_unordered(AT_ONCE)
                .try_collect::<Vec<()>>()
                .await?;
        }
        Ok(())
    }

    fn node_changes(&self) -> watch::Receiver<u64> {
        self.caches.changes.clone()
    }
}

impl KubernetesBackend {
    fn pool(&self, key: &PoolKey) -> Option<Arc<NodePool>> {
        self.object(&pool::Key::path(key))
    }

    /// The nodes of a pool.
    pub(crate) fn nodes_of(&self, object: &NodePool) -> Vec<Arc<ObservedNode>> {
        let (Ok(key), Ok(spec)) = (convert::key(object), convert::spec(object)) else {
            return Vec::new();
        };
        let Ok(record) = convert::record(object) else {
            return Vec::new();
        };
        let mut nodes = Vec::new();
        for pair in self.pairs_of(object) {
            let Some(mut node) = view::observed(&pair, &key, &spec) else {
                continue;
            };
            // Labels that are somebody else's are not ours to miss.
            let wanted = pool::reconcile::node_spec(&record, node.spec.name.clone());
            if node.spec.labels == view::own_labels(&wanted.labels, &pair) {
                node.spec.labels = wanted.labels;
            }
            nodes.push(Arc::new(node));
        }
        nodes
    }

    pub(crate) fn pairs_of(&self, object: &NodePool) -> Vec<Pair> {
        let mut pairs = self.pairs();
        pairs.retain(|pair| is_of(pair, object));
        pairs
    }

    /// Which nodes the pool may take; nothing is looked for when it has enough.
    pub(crate) fn candidates(
        &self,
        wanted: u32,
        pool: &pool::NodePool,
        object: &NodePool,
        among: Option<&BTreeSet<String>>,
    ) -> Candidates {
        let mut pairs = self.pairs();
        let count = usize::try_from(wanted).unwrap_or(usize::MAX);
        let has = pairs.iter().filter(|pair| is_of(pair, object)).count();
        if has >= count {
            return Candidates::default();
        }
        let with_agent: BTreeSet<String> =
            pairs.iter().map(|pair| pair.gpu_node.name_any()).collect();
        let is_meant = |name: &String| among.is_none_or(|among| among.contains(name));
        pairs.retain(|pair| !is_of(pair, object) && is_meant(&pair.gpu_node.name_any()));
        let without = self.caches.nodes.state().into_iter().filter(|node| {
            let name = node.name_any();
            !with_agent.contains(&name) && is_meant(&name)
        });
        view::candidates(&pool.spec, pairs.iter(), without)
    }

    async fn take(&self, spec: NodeSpec) -> Result<(), ProviderError> {
        let name = spec.name.to_string();
        let pool = self.pool(&spec.pool).ok_or_else(|| {
            ProviderError::Unavailable(format!("node pool {} is gone", spec.pool.pool))
        })?;
        let Some(pair) = self.pair(&name) else {
            return match VmSize::find(&spec.vm_size) {
                Ok(size) if size.gpus.is_none() => self.introduce(&name, &pool, &spec).await,
                _ => Err(gone(&name)),
            };
        };
        if is_of(&pair, &pool) {
            return Ok(());
        }
        if let Some(other) = &pair.gpu_node.spec.pool {
            return Err(ProviderError::Unavailable(format!(
                "node {name} was taken by node pool {}",
                other.name
            )));
        }
        let status = pair.gpu_node.status.as_ref();
        let original = status.and_then(|status| status.current_layout.clone());
        let wish = GpuNodeSpec {
            pool: Some(PoolReference {
                name: pool.name_any(),
                uid: pool.uid().unwrap_or_default(),
            }),
            original_layout: original,
            ..GpuNodeSpec::default()
        };
        self.wish(&pair, with(wish, &spec, &pair)).await?;
        tracing::info!(pool = %pool.name_any(), node = name, "the pool takes a node");
        self.dress(&name, &spec).await
    }

    /// Takes a node that has no agent to speak with, having no GPU: its `GpuNode` only says in which pool it is.
    async fn introduce(
        &self,
        name: &str,
        pool: &NodePool,
        spec: &NodeSpec,
    ) -> Result<(), ProviderError> {
        let node = self.caches.nodes.get(&ObjectRef::new(name));
        let node = node.ok_or_else(|| gone(name))?;
        let nobody = Pair {
            node: Some(Arc::clone(&node)),
            gpu_node: Arc::new(GpuNode::new(name, GpuNodeSpec::default())),
        };
        let wish = GpuNodeSpec {
            pool: Some(PoolReference {
                name: pool.name_any(),
                uid: pool.uid().unwrap_or_default(),
            }),
            ..GpuNodeSpec::default()
        };
        let mut object = GpuNode::new(name, with(wish, spec, &nobody));
        object.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: name.to_owned(),
            uid: node.uid().unwrap_or_default(),
            ..OwnerReference::default()
        }]);
        let parameters = PostParams {
            field_manager: Some(gpu_node::OPERATOR.to_owned()),
            ..PostParams::default()
        };
        // Labels and taints follow when the watch has told of it.
        self.gpu_nodes()
            .create(&parameters, &object)
            .await
            .map_err(|error| failed(&format!("GpuNode {name}"), &error))?;
        tracing::info!(pool = %pool.name_any(), node = name, "the pool takes a node without GPUs");
        Ok(())
    }

    async fn update(&self, spec: NodeSpec) -> Result<(), ProviderError> {
        let name = spec.name.to_string();
        let pair = self.pair(&name).ok_or_else(|| gone(&name))?;
        let is_ours = self
            .pool(&spec.pool)
            .is_some_and(|pool| is_of(&pair, &pool));
        if !is_ours {
            return Err(ProviderError::Unavailable(format!(
                "node {name} is not in node pool {} any more",
                spec.pool.pool
            )));
        }
        let left: Vec<WantedTaint> = pair.gpu_node.spec.node_taints.clone();
        let wish = with(pair.gpu_node.spec.clone(), &spec, &pair);
        if wish != pair.gpu_node.spec {
            if wish.node_taints != left {
                // Off the node before it is forgotten whose they were.
                self.write_taints(&name, &left, &wish.node_taints).await?;
            }
            self.wish(&pair, wish).await?;
        }
        self.dress(&name, &spec).await
    }

    /// Puts the pool's labels and taints on the node.
    async fn dress(&self, name: &str, spec: &NodeSpec) -> Result<(), ProviderError> {
        let Some(pair) = self.pair(name) else {
            return Ok(());
        };
        let labels = view::own_labels(&spec.labels, &pair);
        self.write_labels(name, json!(labels)).await?;
        let taints = pair.gpu_node.spec.node_taints.clone();
        self.write_taints(name, &[], &taints).await
    }

    async fn start_release(&self, name: &NodeName) -> Result<(), ProviderError> {
        let Some(pair) = self.pair(name.as_str()) else {
            return Ok(());
        };
        let mut wish = pair.gpu_node.spec.clone();
        if wish.pool.is_none() || wish.releasing {
            return Ok(());
        }
        self.mark_machine(name.as_str()).await?;
        wish.releasing = true;
        wish.layout = wish.original_layout.clone();
        self.wish(&pair, wish).await?;
        tracing::info!(node = %name, "the node is to leave its pool");
        Ok(())
    }

    /// Ends what was begun with nodes that leave this pool, as far as their agents have come.
    pub(crate) async fn finish_releases(&self, pairs: &[Pair]) -> Result<(), ProviderError> {
        let mut changes = Vec::new();
        for pair in pairs {
            if pair.gpu_node.spec.releasing && view::is_released(pair) {
                changes.push(self.finish_release(pair.clone()));
            }
        }
        futures::stream::iter(changes)
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await
            .map(drop)
    }

    async fn finish_release(&self, pair: Pair) -> Result<(), ProviderError> {
        let name = pair.gpu_node.name_any();
        if pair.node.is_some() {
            self.write_labels(&name, json!({})).await?;
            self.write_taints(&name, &pair.gpu_node.spec.node_taints, &[])
                .await?;
        }
        let status = pair.gpu_node.status.as_ref();
        if status.is_none_or(|status| status.gpus.is_empty() && status.phase == Phase::Idle) {
            self.take_away(&pair.gpu_node).await?;
        } else {
            self.wish(&pair, GpuNodeSpec::default()).await?;
        }
        tracing::info!(node = name, "the node has left its pool");
        Ok(())
    }

    /// Takes away what [`Self::introduce`] made: agents only make one where there are GPUs.
    async fn take_away(&self, object: &GpuNode) -> Result<(), ProviderError> {
        let name = object.name_any();
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: object.uid(),
                resource_version: object.resource_version(),
            }),
            ..DeleteParams::default()
        };
        match self.gpu_nodes().delete(&name, &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(failed(&format!("GpuNode {name}"), &error)),
        }
    }

    /// Gives back nodes whose pool is gone, which takes somebody who removed its finalizer.
    pub(crate) async fn release_orphans(&self) -> Result<(), ProviderError> {
        // Before everything was read, no pool is there, and every node would be an orphan.
        if self.caches.pools.wait_until_ready().await.is_err() {
            return Ok(());
        }
        let pools: BTreeSet<String> = self
            .caches
            .pools
            .state()
            .iter()
            .filter_map(|pool| pool.uid())
            .collect();
        for pair in self.pairs() {
            let Some(pool) = &pair.gpu_node.spec.pool else {
                continue;
            };
            // The server's own word: what is watched may be late, and slices in use are at stake.
            if pools.contains(&pool.uid) || self.has_pool(pool).await? {
                continue;
            }
            if let Ok(name) = pair.gpu_node.name_any().parse() {
                self.start_release(&name).await?;
            }
            self.finish_releases(std::slice::from_ref(&pair)).await?;
        }
        Ok(())
    }

    /// Whether the API server has this very pool.
    async fn has_pool(&self, pool: &PoolReference) -> Result<bool, ProviderError> {
        let named = ListParams::default().fields(&format!("metadata.name={}", pool.name));
        let found = self
            .pools()
            .list_metadata(&named)
            .await
            .map_err(|error| failed(&format!("NodePool {}", pool.name), &error))?;
        Ok(found
            .items
            .iter()
            .any(|object| object.metadata.uid.as_deref() == Some(&pool.uid)))
    }

    /// Writes what is wanted of a node over the version that was read.
    async fn wish(&self, pair: &Pair, spec: GpuNodeSpec) -> Result<(), ProviderError> {
        let object = &pair.gpu_node;
        let name = object.name_any();
        let body = json!({
            "apiVersion": "migpool.dev/v1alpha1",
            "kind": "GpuNode",
            "metadata": {
                "name": name,
                "uid": object.metadata.uid,
                "resourceVersion": object.resource_version(),
            },
            "spec": spec,
        });
        let parameters = PatchParams::apply(gpu_node::OPERATOR).force();
        let written = self
            .gpu_nodes()
            .patch(&name, &parameters, &Patch::Apply(body))
            .await
            .map_err(|error| failed(&format!("GpuNode {name}"), &error))?;
        self.wrote(written);
        Ok(())
    }

    async fn write_labels(&self, name: &str, labels: Value) -> Result<(), ProviderError> {
        let body = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
        });
        let parameters = PatchParams::apply(LABELS).force();
        let written = self
            .nodes()
            .patch_metadata(name, &parameters, &Patch::Apply(body))
            .await;
        written
            .map(drop)
            .map_err(|error| failed(&format!("node {name}"), &error))
    }

    /// Takes taints off the node and puts others on; what is neither stays.
    async fn write_taints(
        &self,
        name: &str,
        off: &[WantedTaint],
        on: &[WantedTaint],
    ) -> Result<(), ProviderError> {
        let Some(node) = self.caches.nodes.get(&ObjectRef::new(name)) else {
            return Err(gone(name));
        };
        let before = node.spec.as_ref().and_then(|spec| spec.taints.clone());
        let before = before.unwrap_or_default();
        let same = |taint: &k8s_openapi::api::core::v1::Taint, wanted: &WantedTaint| {
            taint.key == wanted.key
                && taint.effect == wanted.effect
                && taint.value.clone().unwrap_or_default() == wanted.value
        };
        let mut after = before.clone();
        after.retain(|taint| !off.iter().any(|off| same(taint, off)));
        for wanted in on {
            if !after.iter().any(|taint| same(taint, wanted)) {
                // One taint of a key and an effect is all that a node can have.
                after.retain(|taint| taint.key != wanted.key || taint.effect != wanted.effect);
                after.push(k8s_openapi::api::core::v1::Taint {
                    key: wanted.key.clone(),
                    value: Some(wanted.value.clone()).filter(|value| !value.is_empty()),
                    effect: wanted.effect.clone(),
                    time_added: None,
                });
            }
        }
        if after == before {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"resourceVersion": node.resource_version()},
            "spec": {"taints": after},
        });
        let written = self
            .nodes()
            .patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        written
            .map(drop)
            .map_err(|error| failed(&format!("node {name}"), &error))
    }
}

/// Whether a node is in this pool, and not in one of that name that was deleted.
fn is_of(pair: &Pair, object: &NodePool) -> bool {
    let pool = pair.gpu_node.spec.pool.as_ref();
    pool.is_some_and(|pool| Some(&pool.uid) == object.metadata.uid.as_ref())
}

/// The wish with what the pool wants of the node.
fn with(wish: GpuNodeSpec, spec: &NodeSpec, pair: &Pair) -> GpuNodeSpec {
    let is_without_gpus = VmSize::find(&spec.vm_size).is_ok_and(|size| size.gpus.is_none());
    let layout = spec.layout.as_ref();
    let layout = layout.map_or_else(|| view::OFF.to_owned(), ToString::to_string);
    GpuNodeSpec {
        layout: Some(layout).filter(|_| !is_without_gpus),
        mig_strategy: Some(spec.mig_strategy.into()),
        drain: Some(convert::drain_of(spec.drain)),
        node_labels: view::own_labels(&spec.labels, pair),
        node_taints: spec
            .taints
            .iter()
            .map(|taint| WantedTaint {
                key: taint.key.clone(),
                value: taint.value.clone(),
                effect: format!("{:?}", taint.effect),
            })
            .collect(),
        ..wish
    }
}

fn gone(name: &str) -> ProviderError {
    ProviderError::Unavailable(format!("node {name} is gone"))
}

/// What a failed request means: what the API server refuses for what it says stays refused; all else may pass.
pub(crate) fn failed(object: &str, error: &kube::Error) -> ProviderError {
    match error {
        kube::Error::Api(status) if status.code == 409 => {
            ProviderError::Unavailable(format!("{object} was changed by somebody else meanwhile"))
        }
        kube::Error::Api(status) if status.code == 422 => ProviderError::Refused(format!(
            "the API server refuses {object}: {}",
            status.message
        )),
        error => ProviderError::Unavailable(format!("{object} can't be written: {error}")),
    }
}

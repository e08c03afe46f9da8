//! What an operator watches of a cluster beside its pools, each object cut down to what is looked at.

use futures::StreamExt;
use gpu_node::GpuNode;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use pool::Kind;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::record_object::{KINDS, RecordKind, RecordObject};
use crate::view;

/// What is watched of the nodes, by leaders and standbys alike, so that a new leader has seen all of it.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) nodes: Store<Node>,
    pub(crate) gpu_nodes: Store<GpuNode>,
    /// Records of ARM clients, where they are looked after.
    pub(crate) records: Vec<(RecordKind, Store<RecordObject>)>,
    pub(crate) changed: watch::Sender<u64>,
}

impl Watched {
    pub(crate) fn start(client: &Client, arm: bool, stop: &CancellationToken) -> Self {
        let changed = watch::Sender::new(0);
        // Deployments are the fronts' alone, until their group goes.
        let is_watched = |kind: &&RecordKind| arm && kind.kind != Kind::Deployment;
        let kinds = KINDS.iter().filter(is_watched);
        let strip = |object: &mut RecordObject| object.metadata.managed_fields = None;
        Self {
            nodes: follow(client, (), view::strip_node, &changed, stop),
            gpu_nodes: follow(client, (), view::strip_gpu_node, &changed, stop),
            records: kinds
                .map(|kind| (*kind, follow(client, *kind, strip, &changed, stop)))
                .collect(),
            changed,
        }
    }

    /// Everything there is was seen once.
    pub(crate) async fn synced(&self) {
        let _ = self.nodes.wait_until_ready().await;
        let _ = self.gpu_nodes.wait_until_ready().await;
        for (_, records) in &self.records {
            let _ = records.wait_until_ready().await;
        }
    }
}

/// Keeps all objects of a kind, each cut down to what is looked at.
fn follow<K>(
    client: &Client,
    kind: K::DynamicType,
    strip: fn(&mut K),
    changed: &watch::Sender<u64>,
    stop: &CancellationToken,
) -> Store<K>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Clone + Eq + std::hash::Hash,
{
    let writer = reflector::store::Writer::new(kind.clone());
    let store = writer.as_reader();
    let api = Api::<K>::all_with(client.clone(), &kind);
    let events = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(strip)
        .reflect(writer)
        .touched_objects();
    let (changed, stop) = (changed.clone(), stop.clone());
    tokio::spawn(async move {
        let mut events = std::pin::pin!(events);
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(_)) => changed.send_modify(|count| *count += 1),
                Some(Err(error)) => {
                    tracing::warn!(%error, "{} can't be watched; trying again", K::plural(&kind));
                }
                None => return,
            }
        }
    });
    store
}

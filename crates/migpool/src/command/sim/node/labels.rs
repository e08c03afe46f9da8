//! The node's labels: that its GPUs are simulated, and which they are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cluster::{Applied, Error, NodeClient, backoff};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::health::Readiness;
use crate::failure::chain;

/// Whose labels they are to the API server.
const MANAGER: &str = "migpool-nvml-sim";
const SIMULATED: &str = "migpool.dev/simulated-driver";
const GPUS: &str = "migpool.dev/simulated-gpus";
/// What NVIDIA's charts choose nodes by.
const PRESENT: &str = "nvidia.com/gpu.present";
/// How often they are set anew: a node that was deleted is back in seconds, without them and with this pod.
const AGAIN: Duration = Duration::from_secs(30);
/// How long their removal may take, of what the kubelet gives a pod to end.
const REMOVAL: Duration = Duration::from_secs(10);

/// The labels of one node.
#[derive(Debug)]
pub(super) struct NodeLabels {
    node: String,
    kubeconfig: Option<PathBuf>,
}

impl NodeLabels {
    pub(super) fn new(node: String, kubeconfig: Option<PathBuf>) -> NodeLabels {
        NodeLabels { node, kubeconfig }
    }

    /// Sets them once the GPUs are there, and whenever these change, until `cancel`.
    pub(super) async fn keep(
        &self,
        readiness: &watch::Sender<Readiness>,
        cancel: &CancellationToken,
    ) {
        let keep = async {
            let mut watched = readiness.subscribe();
            loop {
                let gpus = match watched.wait_for(|now| now.gpus().is_some()).await {
                    Ok(now) => now.gpus().map(super::machine::Gpus::label),
                    Err(_) => return,
                };
                let wanted = labels(&gpus.unwrap_or_default());
                self.persist(&wanted, readiness).await;
                let changed = watched.wait_for(|now| {
                    now.gpus()
                        .is_some_and(|gpus| wanted.get(GPUS) != Some(&gpus.label()))
                });
                let _ = tokio::time::timeout(AGAIN, changed).await;
            }
        };
        tokio::select! {
            () = keep => {}
            () = cancel.cancelled() => {}
        }
    }

    async fn persist(
        &self,
        wanted: &BTreeMap<String, String>,
        readiness: &watch::Sender<Readiness>,
    ) {
        let mut said = None;
        for pause in backoff() {
            let answer = self.apply(wanted).await.map_err(|error| chain(&error));
            if let Err(reason) = &answer
                && said.as_ref() != Some(reason)
            {
                tracing::error!(
                    "cannot label the node {}: {reason}; trying again",
                    self.node
                );
                said = Some(reason.clone());
            }
            let outcome = answer.as_ref().map(drop).map_err(Clone::clone);
            let is_news = readiness.send_if_modified(|now| now.set_labels(outcome));
            if let Ok(applied) = answer {
                if is_news {
                    self.say(wanted, &applied);
                }
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn apply(&self, wanted: &BTreeMap<String, String>) -> Result<Applied, Error> {
        let client = NodeClient::connect(&self.node, self.kubeconfig.as_deref()).await?;
        client.labels(MANAGER).apply(wanted).await
    }

    fn say(&self, wanted: &BTreeMap<String, String>, applied: &Applied) {
        let mut set = wanted.clone();
        for conflict in &applied.conflicts {
            set.remove(&conflict.key);
            tracing::warn!("{conflict}");
        }
        tracing::info!("labelled the node {}: {}", self.node, text(&set));
    }

    /// Takes them back, as far as the API server answers in time.
    pub(super) async fn remove(&self) {
        let removal = tokio::time::timeout(REMOVAL, async {
            let mut pauses = backoff();
            loop {
                match self.apply(&BTreeMap::new()).await {
                    Err(Error::NodeNotFound { .. }) | Ok(_) => return,
                    Err(error) => tracing::error!(
                        "cannot take the labels of the node {} back: {}; trying again",
                        self.node,
                        chain(&error)
                    ),
                }
                tokio::time::sleep(pauses.next().unwrap_or(REMOVAL)).await;
            }
        });
        if removal.await.is_err() {
            tracing::error!(
                "the labels of the node {node} stay; remove them with \
                 `kubectl label node {node} {SIMULATED}- {GPUS}- {PRESENT}-`",
                node = self.node
            );
        }
    }
}

fn labels(gpus: &str) -> BTreeMap<String, String> {
    [(SIMULATED, "true"), (GPUS, gpus), (PRESENT, "true")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn text(labels: &BTreeMap<String, String>) -> String {
    let labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    labels.join(", ")
}

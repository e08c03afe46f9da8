//! The one owner of nodes and pods: a task that takes requests and events one at a time, writes each
//! change to the store before it acts on it, and starts again from the store alone.

mod nodes;
mod placement;
mod pods;
mod shown;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pool::{
    Action, ClusterKey, ExecEnvironment, NodeName, ObservedNode, PodName, ProviderError,
    WorkloadError,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::kubelet::AdmissionError;
use crate::kubelet::ledger::Assignment;
use crate::node::{Node, NodeSettings};
use crate::pod::container::ContainerStatus;
use crate::pod::manifest::Manifest;
use crate::pod::runner::{PodEvent, PodSettings};
use crate::store::{Database, DatabaseError, PodRow};

/// What the engine is asked, and what it is told.
#[derive(Debug)]
pub(crate) enum Message {
    Apply {
        action: Action,
        answer: oneshot::Sender<Result<(), ProviderError>>,
    },
    Observe {
        answer: oneshot::Sender<Vec<Arc<ObservedNode>>>,
    },
    Run {
        cluster: ClusterKey,
        name: PodName,
        manifest: Box<Manifest>,
        answer: PodAnswer,
    },
    List {
        cluster: ClusterKey,
        answer: oneshot::Sender<Vec<pool::Pod>>,
    },
    Get {
        cluster: ClusterKey,
        name: PodName,
        answer: PodAnswer,
    },
    Log {
        cluster: ClusterKey,
        name: PodName,
        container: Option<String>,
        answer: oneshot::Sender<Result<std::path::PathBuf, WorkloadError>>,
    },
    Delete {
        cluster: ClusterKey,
        name: PodName,
        answer: oneshot::Sender<Result<(), WorkloadError>>,
    },
    ExecEnvironment {
        cluster: ClusterKey,
        name: PodName,
        container: Option<String>,
        answer: oneshot::Sender<Result<ExecEnvironment, WorkloadError>>,
    },
    NodeChanged,
    Assigned {
        uid: String,
        node: NodeName,
        outcome: Result<Vec<Assignment>, AdmissionError>,
    },
    Pod {
        uid: String,
        event: PodEvent,
    },
    /// A node's agent has ended and its folder is gone, or why not.
    NodeRemoved {
        name: NodeName,
        outcome: Result<(), String>,
    },
    /// It is tried again.
    RemoveNode {
        name: NodeName,
    },
    /// Look again at what is pending.
    Wake,
}

type PodAnswer = oneshot::Sender<Result<pool::Pod, WorkloadError>>;

/// Where the engine keeps its things.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) nodes: NodeSettings,
    pub(crate) pods: PodSettings,
}

/// A pod of the engine.
struct Pod {
    row: PodRow,
    /// What it holds, on the node of its row.
    assignments: Vec<Assignment>,
    statuses: Vec<Option<ContainerStatus>>,
    /// Why it does not run yet.
    waiting: String,
    /// Cancelled to end it; `None` while no task keeps it.
    stop: Option<CancellationToken>,
    /// It could not be assigned just now; it is tried again at the next wake.
    resting: bool,
}

pub(crate) struct Engine {
    database: Database,
    settings: Settings,
    outbox: mpsc::UnboundedSender<Message>,
    changes: watch::Sender<u64>,
    nodes: BTreeMap<NodeName, Node>,
    pods: BTreeMap<String, Pod>,
    /// The pod whose devices are being chosen, and the node. One at a time, so that each choice sees the last.
    assigning: Option<(String, NodeName)>,
    next_sequence: u64,
    /// Nodes that are being taken away, which may take as long as an agent that does not want to end.
    removals: JoinSet<()>,
}

impl Engine {
    /// Takes over what the store says is there.
    pub(crate) async fn start(
        database: Database,
        settings: Settings,
        outbox: mpsc::UnboundedSender<Message>,
        changes: watch::Sender<u64>,
    ) -> Result<Self, DatabaseError> {
        let mut engine = Self {
            settings,
            outbox,
            changes,
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            assigning: None,
            next_sequence: 1,
            removals: JoinSet::new(),
            database,
        };
        let mut held: BTreeMap<String, Vec<Assignment>> = BTreeMap::new();
        for (node, assignment) in engine.database.assignments().await? {
            held.entry(node).or_default().push(assignment);
        }
        for row in engine.database.nodes().await? {
            let assignments = held
                .get(row.spec.name.as_str())
                .cloned()
                .unwrap_or_default();
            engine.keep_node(row, assignments);
        }
        for row in engine.database.pods().await? {
            engine.next_sequence = engine.next_sequence.max(row.sequence + 1);
            let own = held
                .values()
                .flatten()
                .filter(|a| a.holder.pod_uid == row.uid);
            let pod = Pod {
                assignments: own.cloned().collect(),
                statuses: row.finals.clone(),
                waiting: String::new(),
                stop: None,
                resting: false,
                row,
            };
            engine.adopt(pod);
        }
        Ok(engine)
    }

    /// Works until the token is cancelled; then ends the agents and leaves the pods alone.
    pub(crate) async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Message>,
        cancel: CancellationToken,
    ) {
        loop {
            let message = tokio::select! {
                () = cancel.cancelled() => break,
                message = inbox.recv() => match message {
                    Some(message) => message,
                    None => break,
                },
            };
            self.handle(message).await;
            // All that is there is taken in before the pending pods are looked at again.
            while let Ok(message) = inbox.try_recv() {
                self.handle(message).await;
            }
            self.release_late().await;
            self.finish_nodes().await;
            self.schedule();
            while self.removals.try_join_next().is_some() {}
        }
        futures::future::join_all(self.nodes.values_mut().map(Node::stop)).await;
        while self.removals.join_next().await.is_some() {}
    }

    // An answer that nobody waits for any more is no error.
    async fn handle(&mut self, message: Message) {
        match message {
            Message::Apply { action, answer } => {
                let _ = answer.send(self.apply(action).await);
            }
            Message::Observe { answer } => {
                let _ = answer.send(self.observe());
            }
            Message::Run {
                cluster,
                name,
                manifest,
                answer,
            } => {
                let _ = answer.send(self.run_pod(cluster, name, *manifest).await);
            }
            Message::List { cluster, answer } => {
                let _ = answer.send(self.list(&cluster));
            }
            Message::Get {
                cluster,
                name,
                answer,
            } => {
                let _ = answer.send(self.find(&cluster, &name).map(|pod| self.show(pod)));
            }
            Message::Log {
                cluster,
                name,
                container,
                answer,
            } => {
                let _ = answer.send(self.log(&cluster, &name, container.as_deref()));
            }
            Message::Delete {
                cluster,
                name,
                answer,
            } => {
                let _ = answer.send(self.delete_named(&cluster, &name).await);
            }
            Message::ExecEnvironment {
                cluster,
                name,
                container,
                answer,
            } => {
                let environment = self.exec_environment(&cluster, &name, container.as_deref());
                let _ = answer.send(environment);
            }
            Message::NodeChanged => self.changed(),
            Message::Assigned { uid, node, outcome } => self.assigned(uid, node, outcome).await,
            Message::Pod { uid, event } => self.pod_event(&uid, event).await,
            Message::NodeRemoved { name, outcome } => self.node_removed(name, outcome).await,
            Message::RemoveNode { name } => self.remove_folder(&name, std::future::ready(())),
            Message::Wake => {
                for pod in self.pods.values_mut() {
                    pod.resting = false;
                }
            }
        }
    }

    fn changed(&self) {
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    fn wake_later(&self, after: Duration) {
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let _ = outbox.send(Message::Wake);
        });
    }

    fn keep_node(&mut self, row: crate::store::NodeRow, assignments: Vec<Assignment>) {
        let outbox = self.outbox.clone();
        let changed = move || {
            let _ = outbox.send(Message::NodeChanged);
        };
        let name = row.spec.name.clone();
        let node = Node::start(self.settings.nodes.clone(), row, assignments, changed);
        self.nodes.insert(name, node);
    }
}

/// The database failed: said to whoever asked, and to the log.
fn unavailable(error: &DatabaseError) -> String {
    tracing::error!(%error, "the store failed");
    error.to_string()
}

/// What [`LocalBackend`](crate::backend::LocalBackend) and the engine share.
pub(crate) fn channel() -> (
    mpsc::UnboundedSender<Message>,
    mpsc::UnboundedReceiver<Message>,
    watch::Sender<u64>,
    watch::Receiver<u64>,
) {
    let (outbox, inbox) = mpsc::unbounded_channel();
    let (changes, watched) = watch::channel(0);
    (outbox, inbox, changes, watched)
}

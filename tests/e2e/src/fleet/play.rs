//! Plays the agents of a fleet's nodes: one watch for all of them, and a few requests at a time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt, stream};
use gpu_node::{AGENT, GpuNode, GpuNodeStatus, Phase};
use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::agent::Cut;
use super::{AT_ONCE, Faults, LABEL, Played};
use crate::inside::Stop;

/// How often a request is tried that the API server does not answer, half a second apart.
const TRIES: u32 = 240;

/// One node's agent.
struct Agent {
    cut: RefCell<Cut>,
    /// What was asked last; older wishes are not answered any more.
    asked: RefCell<i64>,
    /// One answer at a time.
    turn: Semaphore,
}

struct Stage {
    nodes: Api<Node>,
    gpu_nodes: Api<GpuNode>,
    agents: RefCell<BTreeMap<String, Rc<Agent>>>,
    requests: Semaphore,
    faults: Faults,
    pace: Duration,
}

/// Plays until it is told to stop.
pub(super) async fn all(
    client: Client,
    faults: Faults,
    pace: Duration,
    stop: Stop,
) -> anyhow::Result<Played> {
    let stage = Stage {
        nodes: Api::all(client.clone()),
        gpu_nodes: Api::all(client),
        agents: RefCell::default(),
        requests: Semaphore::new(AT_ONCE),
        faults,
        pace,
    };
    stage.introduce().await?;
    let mut played = Played::default();
    let mut events = pin!(
        watcher(stage.gpu_nodes.clone(), watcher::Config::default())
            .default_backoff()
            .applied_objects()
    );
    let mut answers = FuturesUnordered::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            _ = &mut stop => return Ok(played),
            event = events.next() => match event {
                Some(Ok(object)) => {
                    if stage.is_news(&object) {
                        answers.push(stage.answer(object));
                    }
                }
                // An API server that is away comes back.
                Some(Err(_)) => {}
                None => anyhow::bail!("the watch has ended"),
            },
            Some(answered) = answers.next(), if !answers.is_empty() => {
                played.answers += usize::from(answered?);
            }
        }
    }
}

impl Stage {
    /// Each node's agent makes its object and tells what there is.
    async fn introduce(&self) -> anyhow::Result<()> {
        let selector = format!("{}={}", LABEL.0, LABEL.1);
        let nodes = self
            .nodes
            .list(&ListParams::default().labels(&selector))
            .await?;
        stream::iter(nodes.items)
            .map(|node| self.introduce_one(node))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    }

    async fn introduce_one(&self, node: Node) -> anyhow::Result<()> {
        let name = node.name_any();
        let object = json!({
            "apiVersion": "migpool.dev/v1alpha1",
            "kind": "GpuNode",
            "metadata": {
                "name": name,
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Node", "name": name, "uid": node.metadata.uid,
                }],
            },
            "spec": {},
        });
        let cut = Cut::whole();
        let made = self.apply(&name, object).await?;
        self.tell(&name, cut.status(&name, made.metadata.generation))
            .await?;
        let agent = Agent {
            cut: RefCell::new(cut),
            asked: RefCell::new(made.metadata.generation.unwrap_or_default()),
            turn: Semaphore::new(1),
        };
        self.agents.borrow_mut().insert(name, Rc::new(agent));
        Ok(())
    }

    /// Whether something is asked of a node of the fleet that its agent has not heard yet.
    fn is_news(&self, object: &GpuNode) -> bool {
        let agents = self.agents.borrow();
        let Some(agent) = agents.get(&object.name_any()) else {
            return false;
        };
        let generation = object.metadata.generation.unwrap_or_default();
        let mut asked = agent.asked.borrow_mut();
        let is_news = generation > *asked;
        *asked = generation.max(*asked);
        is_news
    }

    /// Does what is asked, and says so; `false` where something else was asked meanwhile.
    async fn answer(&self, object: GpuNode) -> anyhow::Result<bool> {
        let name = object.name_any();
        let Some(agent) = self.agents.borrow().get(&name).cloned() else {
            return Ok(false);
        };
        tokio::time::sleep(self.pace).await;
        let _turn = agent.turn.acquire().await?;
        let generation = object.metadata.generation;
        if generation < Some(*agent.asked.borrow()) {
            return Ok(false);
        }
        let before = agent.cut.borrow().clone();
        let refused = self.faults.of(&name, object.spec.layout.as_deref());
        let after = match refused {
            Some(message) => Err(message),
            None => before.after(&object.spec),
        };
        let status = match after {
            Ok(after) => {
                self.advertise(&name, &before, &after).await?;
                let status = after.status(&name, generation);
                agent.cut.replace(after);
                status
            }
            Err(message) => GpuNodeStatus {
                phase: Phase::Refused,
                message,
                layout: None,
                ..before.status(&name, generation)
            },
        };
        self.tell(&name, status).await?;
        Ok(true)
    }

    /// What the node's kubelet would write once it is told of other devices.
    async fn advertise(&self, name: &str, before: &Cut, after: &Cut) -> anyhow::Result<()> {
        let (before, after) = (before.resources(), after.resources());
        if before == after {
            return Ok(());
        }
        let gone = before
            .keys()
            .map(|resource| (resource.clone(), Value::Null));
        let there = after
            .iter()
            .map(|(resource, count)| (resource.clone(), Value::from(count.to_string())));
        let resources: serde_json::Map<String, Value> = gone.chain(there).collect();
        let patch = json!({"status": {"capacity": resources, "allocatable": resources}});
        self.tried(|| {
            let patch = Patch::Merge(&patch);
            let nodes = &self.nodes;
            async move {
                nodes
                    .patch_status(name, &PatchParams::default(), &patch)
                    .await
            }
        })
        .await
        .map(drop)
    }

    async fn tell(&self, name: &str, status: GpuNodeStatus) -> anyhow::Result<()> {
        let body = json!({
            "apiVersion": "migpool.dev/v1alpha1",
            "kind": "GpuNode",
            "metadata": {"name": name},
            "status": status,
        });
        self.tried(|| {
            let body = Patch::Apply(&body);
            let gpu_nodes = &self.gpu_nodes;
            async move {
                let parameters = PatchParams::apply(AGENT).force();
                gpu_nodes.patch_status(name, &parameters, &body).await
            }
        })
        .await
        .map(drop)
    }

    async fn apply(&self, name: &str, body: Value) -> anyhow::Result<GpuNode> {
        let parameters = PatchParams::apply(AGENT).force();
        let body = Patch::Apply(body);
        Ok(self.gpu_nodes.patch(name, &parameters, &body).await?)
    }

    /// A request, again and again while the API server is away. What is gone is gone.
    async fn tried<T, W>(&self, request: impl Fn() -> W) -> anyhow::Result<Option<T>>
    where
        W: Future<Output = kube::Result<T>>,
    {
        let mut tries = 0;
        loop {
            let permit = self.requests.acquire().await?;
            let answer = request().await;
            drop(permit);
            tries += 1;
            match answer {
                Ok(value) => return Ok(Some(value)),
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
                Err(error) if tries >= TRIES => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }
}

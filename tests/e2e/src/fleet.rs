//! A fleet of nodes that are none: KWOK keeps them Ready, and one task plays their agents. **Simulated**: no kubelet, no GPU
//! and no agent of ours is in it, only what the operator sees of such.

mod agent;
mod play;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::{StreamExt, TryStreamExt, stream};
use gpu_node::GpuNode;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::inside::{Task, inside};
use crate::wait::{LATER, until};
use crate::world::World;

/// The VM size of its nodes.
pub(crate) const SIZE: &str = "Standard_ND96asr_v4";

/// The label of its nodes.
pub(crate) const LABEL: (&str, &str) = ("e2e.migpool.dev/fleet", "simulated");

/// How many requests are made at a time.
const AT_ONCE: usize = 16;

/// Leases are renewed after a quarter of an hour.
const GRACE: Duration = Duration::from_hours(2);

/// What some nodes can't do: a node's name to the layout that it refuses, and what it says.
#[derive(Debug, Clone, Default)]
struct Faults(Arc<Mutex<BTreeMap<String, (String, String)>>>);

impl Faults {
    fn of(&self, node: &str, layout: Option<&str>) -> Option<String> {
        let faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (refused, message) = faults.get(node)?;
        (Some(refused.as_str()) == layout).then(|| message.clone())
    }
}

/// What was simulated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Played {
    /// How often an agent has answered the operator.
    pub(crate) answers: usize,
}

/// Nodes that are none, until it is dropped.
pub(crate) struct Fleet<'w> {
    world: &'w World,
    count: usize,
    faults: Faults,
    agents: Option<Task<Played>>,
}

impl<'w> Fleet<'w> {
    /// Makes so many nodes, called `fleet-0000` and so on, each Ready and with the word of its agent. Where agents are
    /// asked for something, they answer after about `pace`.
    ///
    /// # Errors
    /// They do not come.
    pub(crate) fn start(world: &'w World, count: usize, pace: Duration) -> anyhow::Result<Self> {
        let began = Instant::now();
        world.cluster().wait_for_nodes(Some(GRACE))?;
        world.cluster().kwok().start()?;
        let fleet = Self {
            world,
            count,
            faults: Faults::default(),
            agents: None,
        };
        inside(world, move |client| make_nodes(client, count))?;
        until(
            &format!("{count} simulated nodes to be Ready"),
            LATER,
            || {
                let ready = inside(world, count_ready)?;
                ensure!(ready == count, "{ready} are");
                Ok(())
            },
        )?;
        let faults = fleet.faults.clone();
        let agents = Task::start(world, "agents", move |client, stop| {
            play::all(client, faults, pace, stop)
        })?;
        let fleet = Self {
            agents: Some(agents),
            ..fleet
        };
        until(
            &format!("{count} simulated agents to report"),
            LATER,
            || {
                fleet.goes_on()?;
                let reported = inside(world, count_reported)?;
                ensure!(reported == count, "{reported} have");
                Ok(())
            },
        )?;
        world.log(&format!(
            "{count} simulated nodes after {:.1} s",
            began.elapsed().as_secs_f64()
        ));
        Ok(fleet)
    }

    /// The name of its node of this number.
    pub(crate) fn node(number: usize) -> String {
        format!("fleet-{number:04}")
    }

    /// How many nodes it has.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// From now on a node refuses a layout, with these words.
    pub(crate) fn refuse(&self, node: &str, layout: &str, message: &str) {
        let fault = (layout.to_owned(), message.to_owned());
        let mut faults = self.faults.0.lock().unwrap_or_else(PoisonError::into_inner);
        faults.insert(node.to_owned(), fault);
    }

    /// The agents are played.
    ///
    /// # Errors
    /// Why they are not any more.
    pub(crate) fn goes_on(&self) -> anyhow::Result<()> {
        let over = self.agents.as_ref().is_none_or(Task::is_over);
        ensure!(!over, "the simulated agents have ended by themselves");
        Ok(())
    }

    /// Takes the nodes out of the cluster.
    ///
    /// # Errors
    /// They stay, or the agents were not played to the end.
    pub(crate) fn end(mut self) -> anyhow::Result<Played> {
        let played = self.agents.take().map(Task::end).transpose()?;
        sweep(self.world)?;
        Ok(played.unwrap_or_default())
    }
}

/// Takes the simulated nodes out of the cluster that a fleet has left there, and ends what was for them.
///
/// # Errors
/// They stay.
pub(crate) fn sweep(world: &World) -> anyhow::Result<()> {
    world.cluster().kwok().stop()?;
    inside(world, delete_nodes)?;
    Ok(world.cluster().wait_for_nodes(None)?)
}

async fn make_nodes(client: Client, count: usize) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client);
    let create = |number| {
        let nodes = &nodes;
        async move {
            let node = serde_json::from_value(manifest(&Fleet::node(number)))?;
            nodes.create(&PostParams::default(), &node).await?;
            anyhow::Ok(())
        }
    };
    stream::iter((0..count).map(create))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}

/// One by one: for a request that deletes them all the API server has a minute, and thousands take longer.
async fn delete_nodes(client: Client) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client);
    let selector = format!("{}={}", LABEL.0, LABEL.1);
    let there = nodes
        .list_metadata(&ListParams::default().labels(&selector))
        .await?;
    let names = there
        .items
        .into_iter()
        .filter_map(|node| node.metadata.name);
    let delete = |name: String| {
        let nodes = &nodes;
        async move {
            match nodes.delete(&name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                deleted => drop(deleted?),
            }
            anyhow::Ok(())
        }
    };
    stream::iter(names.map(delete))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}

/// No label `kubernetes.io/os`: so no daemon set for all Linux nodes runs there, and no pod of ours but by name.
fn manifest(name: &str) -> serde_json::Value {
    let resources = json!({
        "cpu": "96", "memory": "900Gi", "pods": "110", "nvidia.com/gpu": agent::GPUS.to_string(),
    });
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {
                LABEL.0: LABEL.1,
                "kubernetes.io/hostname": name,
                "node.kubernetes.io/instance-type": SIZE,
            },
        },
        "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
        "status": {"capacity": resources, "allocatable": resources},
    })
}

async fn count_ready(client: Client) -> anyhow::Result<usize> {
    let selector = format!("{}={}", LABEL.0, LABEL.1);
    let nodes = Api::<Node>::all(client)
        .list(&ListParams::default().labels(&selector))
        .await?;
    let is_ready = |node: &&Node| {
        let status = node.status.iter().flat_map(|status| &status.conditions);
        status
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    Ok(nodes.items.iter().filter(is_ready).count())
}

async fn count_reported(client: Client) -> anyhow::Result<usize> {
    let nodes = Api::<GpuNode>::all(client)
        .list(&ListParams::default())
        .await?;
    let has_reported = |node: &&GpuNode| {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let status = node.status.as_ref();
        name.starts_with("fleet-") && status.is_some_and(|status| !status.gpus.is_empty())
    };
    Ok(nodes.items.iter().filter(has_reported).count())
}

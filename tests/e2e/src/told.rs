//! What our components tell of a node: conditions, events and a taint in the cluster, and their own /readyz.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::nodes::Node;
use crate::pods::Pod;
use crate::wait::{LATER, until};
use crate::world::World;

/// The condition that tells whether the node has its layout.
pub(crate) const MIG_LAYOUT_READY: &str = "MigLayoutReady";

/// The condition that tells whether something is wrong with GPUs.
pub(crate) const GPUS_HEALTHY: &str = "GPUsHealthy";

/// The taint of a node that is being partitioned.
const TAINT: &str = "migpool.dev/partitioning";

/// Where our components answer for themselves.
const PORT: u16 = 8090;

/// How long they may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A condition of a node.
#[derive(Debug)]
pub(crate) struct Condition {
    /// `True`, `False` or `Unknown`.
    pub(crate) status: String,
    /// In one word.
    pub(crate) reason: String,
    /// In a sentence.
    pub(crate) message: String,
}

/// An event about a node.
#[derive(Debug)]
pub(crate) struct Event {
    /// `Normal` or `Warning`.
    pub(crate) kind: String,
    /// In one word.
    pub(crate) reason: String,
    /// In a sentence.
    pub(crate) note: String,
}

/// A condition of a node, if it has it.
///
/// # Errors
/// The node is not there.
pub(crate) fn condition(
    world: &World,
    node: Node<'_>,
    kind: &str,
) -> anyhow::Result<Option<Condition>> {
    let object = world.get(&["node", node.name()])?;
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == kind);
    Ok(found.map(|condition| {
        let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
        Condition {
            status: text("status"),
            reason: text("reason"),
            message: text("message"),
        }
    }))
}

/// The node comes to have a condition with this status and reason, whose message has all these words.
///
/// # Errors
/// It does not.
pub(crate) fn comes_to_be(
    world: &World,
    node: Node<'_>,
    kind: &str,
    (status, reason): (&str, &str),
    words: &[&str],
) -> anyhow::Result<Condition> {
    let what = format!(
        "{kind} of {} to be {status} ({reason}) with {words:?}",
        node.name()
    );
    until(&what, LATER, || {
        let condition = condition(world, node, kind)?.context("there is no such condition")?;
        ensure!(
            condition.status == status
                && condition.reason == reason
                && has_all(&condition.message, words),
            "{condition:?}"
        );
        Ok(condition)
    })
}

/// Forgets the events so far.
///
/// # Errors
/// They stay.
pub(crate) fn forget_events(world: &World) -> anyhow::Result<()> {
    // They go at once: whoever waits for it may miss it, and wait for ever.
    world.kubectl(&[
        "delete",
        "events",
        "--all",
        "--namespace=default",
        "--wait=false",
    ])?;
    Ok(())
}

/// The events about a node.
///
/// # Errors
/// They can't be listed.
pub(crate) fn events(world: &World, node: Node<'_>) -> anyhow::Result<Vec<Event>> {
    let list = world.get(&["events.events.k8s.io", "--namespace=default"])?;
    let of_node = |event: &&Value| {
        event["regarding"]["kind"] == "Node" && event["regarding"]["name"] == node.name()
    };
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().context("a list without items")?;
    Ok(items
        .iter()
        .filter(of_node)
        .map(|event| Event {
            kind: text(event, "type"),
            reason: text(event, "reason"),
            note: text(event, "note"),
        })
        .collect())
}

/// There comes to be an event of this kind and reason about the node, whose note has all these words.
///
/// # Errors
/// There is none.
pub(crate) fn is_told(
    world: &World,
    node: Node<'_>,
    (kind, reason): (&str, &str),
    words: &[&str],
) -> anyhow::Result<Event> {
    let what = format!(
        "a {kind} event {reason} about {} with {words:?}",
        node.name()
    );
    until(&what, LATER, || {
        let mut events = events(world, node)?;
        let found = events.iter().position(|event| {
            event.kind == kind && event.reason == reason && has_all(&event.note, words)
        });
        match found {
            Some(found) => Ok(events.swap_remove(found)),
            None => bail!("{events:?}"),
        }
    })
}

/// Whether the node has our taint.
///
/// # Errors
/// The node is not there.
pub(crate) fn is_tainted(world: &World, node: Node<'_>) -> anyhow::Result<bool> {
    let object = world.get(&["node", node.name()])?;
    let taints = object["spec"]["taints"].as_array();
    Ok(taints
        .into_iter()
        .flatten()
        .any(|taint| taint["key"] == TAINT))
}

/// The node comes to have our taint, or to have it no more.
///
/// # Errors
/// It does not.
pub(crate) fn comes_to_be_tainted(
    world: &World,
    node: Node<'_>,
    tainted: bool,
) -> anyhow::Result<()> {
    let what = format!("{} to be tainted: {tainted}", node.name());
    until(&what, LATER, || {
        ensure!(is_tainted(world, node)? == tainted, "it is not so");
        Ok(())
    })
}

/// What a pod of ours answers at /readyz: whether it is ready, and in words what it does or what is wrong.
///
/// # Errors
/// It does not answer.
pub(crate) fn readyz(world: &World, pod: &Pod) -> anyhow::Result<(bool, String)> {
    let text = get(world, pod, "/readyz")?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .with_context(|| format!("no HTTP: {text}"))?;
    let status = head.split(' ').nth(1).context("no HTTP status")?;
    Ok((status == "200", body.trim().to_owned()))
}

/// Asks a pod from its node, as the kubelet does.
fn get(world: &World, pod: &Pod, path: &str) -> anyhow::Result<String> {
    let node = pod.node.as_deref().context("the pod is on no node")?;
    let object = world.get(&["pod", "--namespace", &pod.namespace, &pod.name])?;
    let address = object["status"]["podIP"].as_str();
    let address: IpAddr = address.context("the pod has no address")?.parse()?;
    let network = world.node(node).network()?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    let asked = thread::spawn(move || ask(&network, SocketAddr::new(address, PORT), &request));
    asked
        .join()
        .map_err(|_| anyhow!("the thread that asked has panicked"))?
        .with_context(|| format!("{} does not answer at {path}", pod.name))
}

/// Asks from within a network. The thread stays there.
fn ask(network: &File, address: SocketAddr, request: &str) -> anyhow::Result<String> {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn has_all(text: &str, words: &[&str]) -> bool {
    words.iter().all(|word| text.contains(word))
}

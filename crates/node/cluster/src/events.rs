//! Events on the node: what `kubectl describe node` and `kubectl events` show.

use std::time::Instant;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as Body;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::core::params::Patch;
use kube::core::request;
use serde_json::{Value, json};

use crate::client::{NodeClient, creating, merging};
use crate::error::{Access, Error, Failure, clipped};
use crate::event_series::{Key, Series, Step};

/// The server's limits, in bytes.
const LONGEST_NOTE: usize = 1024;
const LONGEST_WORD: usize = 128;

/// Room for the time behind the node's name in an event's own.
const LONGEST_NODE_IN_NAME: usize = 230;

/// Where events of what has no namespace belong.
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

/// Whether an event is a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Things go as they should.
    Normal,
    /// Somebody may have to do something.
    Warning,
}

/// An event on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whether it is a warning.
    pub kind: EventKind,
    /// Why it is said, in one word of upper and lower case: `GPULost`.
    pub reason: String,
    /// What was done or tried, in such a word: `Partition`.
    pub action: &'static str,
    /// What happened, in a sentence that names the GPU. A long one is cut.
    pub note: String,
}

/// Says events on the node. An event that repeats is counted in the one that is there instead of being said again.
#[derive(Debug)]
pub struct Events {
    client: NodeClient,
    component: &'static str,
    series: Series,
    /// The node's uid, once it is known.
    uid: Option<String>,
}

impl NodeClient {
    /// Events on the node, said by a component: `migpool-agent`. Each of these counts repetitions for itself.
    #[must_use]
    pub fn events(&self, component: &'static str) -> Events {
        Events {
            client: self.clone(),
            component,
            series: Series::default(),
            uid: None,
        }
    }
}

impl Events {
    /// Says an event, or counts it.
    ///
    /// # Errors
    /// When it was not said; said again, it is a new try.
    pub async fn publish(&mut self, event: &Event) -> Result<(), Error> {
        let key = Key {
            warning: event.kind == EventKind::Warning,
            reason: clipped(&event.reason, LONGEST_WORD),
            note: clipped(&event.note, LONGEST_NOTE),
        };
        let mut step = self.series.see(&key, Instant::now());
        if let Step::Count { name, count } = &step {
            if self.count(name, *count).await? {
                self.series.counted(&key, Instant::now());
                return Ok(());
            }
            self.series.forget(&key);
            step = Step::Say;
        }
        if step == Step::Say {
            let name = self.say(&key, event.action).await?;
            self.series.said(key, name, Instant::now());
        }
        Ok(())
    }

    async fn say(&mut self, key: &Key, action: &str) -> Result<String, Error> {
        let uid = match &self.uid {
            Some(uid) => uid.clone(),
            None => match self.client.metadata().await {
                Ok(metadata) => {
                    self.uid = Some(metadata.uid.clone());
                    metadata.uid
                }
                // The kubelet's own events on the node have its name here, and those that show a node's events look for
                // both.
                Err(Error::Forbidden { .. }) => self.client.node().to_owned(),
                Err(error) => return Err(error),
            },
        };
        let body = body(
            self.client.node(),
            &uid,
            self.component,
            key,
            action,
            Timestamp::now(),
        );
        let name = body.metadata.name.clone().unwrap_or_default();
        // Serialising a struct of texts can't fail.
        let text = serde_json::to_vec(&body).unwrap_or_default();
        let request = request::Request::new(EVENTS).create(&creating(self.component), text);
        match self
            .client
            .send::<Value>(Access::CREATE_EVENT, request)
            .await
        {
            Ok(_) => Ok(name),
            Err(failure) => {
                // Perhaps the node is another one of the same name.
                self.uid = None;
                Err(self.error(failure, Access::CREATE_EVENT))
            }
        }
    }

    /// Writes the count; false when the event is gone.
    async fn count(&self, name: &str, count: u32) -> Result<bool, Error> {
        let patch = json!({
            "series": {"count": count, "lastObservedTime": MicroTime(Timestamp::now())},
        });
        let request = request::Request::new(EVENTS).patch(
            name,
            &merging(self.component),
            &Patch::Merge(&patch),
        );
        match self
            .client
            .send::<Value>(Access::PATCH_EVENT, request)
            .await
        {
            Ok(_) => Ok(true),
            Err(Failure::Status(status)) if status.code == 404 => Ok(false),
            Err(failure) => Err(self.error(failure, Access::PATCH_EVENT)),
        }
    }

    fn error(&self, failure: Failure, access: Access) -> Error {
        let object = format!("an event on node {}", self.client.node());
        self.client.error(failure, access, &object)
    }
}

fn body(node: &str, uid: &str, component: &str, key: &Key, action: &str, now: Timestamp) -> Body {
    let prefix = node.get(..LONGEST_NODE_IN_NAME).unwrap_or(node);
    let kind = if key.warning { "Warning" } else { "Normal" };
    Body {
        metadata: ObjectMeta {
            name: Some(format!(
                "{}.{:x}",
                prefix.trim_end_matches(['-', '.']),
                now.as_nanosecond()
            )),
            namespace: Some("default".to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some(kind.to_owned()),
        reason: Some(key.reason.clone()),
        action: Some(clipped(action, LONGEST_WORD)),
        note: Some(key.note.clone()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(format!("migpool.dev/{component}")),
        reporting_instance: Some(clipped(&format!("{component}-{node}"), LONGEST_WORD)),
        ..Body::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stays_within_the_servers_limits() {
        let key = Key {
            warning: true,
            reason: "GPULost".into(),
            note: "n".into(),
        };
        let node = format!("{}.{}", "a".repeat(229), "b".repeat(20));
        let body = body(
            &node,
            "u",
            "migpool-agent",
            &key,
            "Watch",
            Timestamp::UNIX_EPOCH,
        );
        let name = body.metadata.name.unwrap();
        assert!(name.len() <= 253 && !name.contains(".."), "{name}");
        assert!(body.reporting_instance.unwrap().len() <= LONGEST_WORD);
        assert_eq!(body.type_.as_deref(), Some("Warning"));
    }
}

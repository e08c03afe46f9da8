//! The API server's `GpuNode` resource, of which it has one object at most.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use futures::stream;
use serde_json::{Value, json};

use crate::api_server::{Cluster, NODE, refusal};

/// Where it is.
pub(crate) const PATH: &str = "/apis/migpool.dev/v1alpha1/gpunodes";

/// The object, and what became of it.
#[derive(Default)]
pub(crate) struct GpuNodes {
    /// The cluster does not know the resource.
    pub(crate) is_unknown: bool,
    pub(crate) object: Option<Value>,
    /// How often a status was written.
    pub(crate) writes: usize,
    /// Kind and object of each change; its place is its version.
    changes: Vec<(&'static str, Value)>,
}

impl GpuNodes {
    /// The object's status.
    pub(crate) fn status(&self) -> &Value {
        self.object
            .as_ref()
            .map_or(&Value::Null, |object| &object["status"])
    }

    /// The object's generation.
    pub(crate) fn generation(&self) -> Option<i64> {
        self.object.as_ref()?["metadata"]["generation"].as_i64()
    }

    /// Whether the agent has said that it is in this phase by the object's own generation.
    pub(crate) fn says(&self, phase: &str) -> bool {
        self.object.is_some()
            && self.status()["observedGeneration"].as_i64() == self.generation()
            && self.status()["phase"] == phase
    }

    /// Somebody makes the object, as the property of the node of this uid.
    pub(crate) fn make(&mut self, owner: &str, spec: &Value) {
        // No two of any server are the same.
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let object = json!({
            "apiVersion": "migpool.dev/v1alpha1", "kind": "GpuNode",
            "metadata": {
                "name": NODE, "uid": format!("gpu-node-{number}"), "generation": 1,
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": owner}],
            },
            "spec": spec,
        });
        self.change("ADDED", object);
    }

    /// The operator wants this.
    pub(crate) fn want(&mut self, spec: &Value) {
        let mut object = self.object.clone().unwrap();
        object["spec"] = spec.clone();
        object["metadata"]["generation"] = (self.generation().unwrap() + 1).into();
        self.change("MODIFIED", object);
    }

    /// Somebody deletes the object.
    pub(crate) fn delete(&mut self) {
        let object = self.object.clone().unwrap();
        self.change("DELETED", object);
        self.object = None;
    }

    fn change(&mut self, kind: &'static str, mut object: Value) {
        let version = self.changes.len() + 1;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        self.object = Some(object.clone());
        self.changes.push((kind, object));
    }

    pub(crate) fn answer(&mut self, method: &Method, rest: &str, body: &Value) -> (u16, Value) {
        if self.is_unknown {
            return (404, json!("404 page not found"));
        }
        match (method, rest) {
            (&Method::GET, "") => {
                let items: Vec<_> = self.object.iter().collect();
                let version = self.changes.len().to_string();
                (
                    200,
                    json!({"kind": "GpuNodeList", "metadata": {"resourceVersion": version}, "items": items}),
                )
            }
            (&Method::POST, "") if self.object.is_none() => {
                let owner = &body["metadata"]["ownerReferences"][0]["uid"];
                self.make(owner.as_str().unwrap(), &body["spec"]);
                (201, self.object.clone().unwrap())
            }
            (&Method::PATCH, rest) if rest == format!("/{NODE}/status") => {
                let found = self.object.clone();
                match found {
                    Some(mut object) if object["metadata"]["uid"] == body["metadata"]["uid"] => {
                        object["status"] = body["status"].clone();
                        self.writes += 1;
                        self.change("MODIFIED", object.clone());
                        (200, object)
                    }
                    _ => refusal(
                        409,
                        "uid mismatch",
                        &json!({"name": NODE, "kind": "gpunodes"}),
                    ),
                }
            }
            _ => refusal(
                409,
                "already exists",
                &json!({"name": NODE, "kind": "gpunodes"}),
            ),
        }
    }
}

/// The changes after the version that the query names, as they come.
pub(crate) fn watch(cluster: Arc<Mutex<Cluster>>, query: &str) -> Body {
    let version = query
        .split('&')
        .find_map(|part| part.strip_prefix("resourceVersion="))
        .unwrap();
    let seen: usize = version.parse().unwrap();
    let lines = stream::unfold((cluster, seen), |(cluster, seen)| async move {
        loop {
            let next = cluster.lock().unwrap().gpu_nodes.changes.get(seen).cloned();
            if let Some((kind, object)) = next {
                let line = format!("{}\n", json!({"type": kind, "object": object}));
                return Some((Ok::<_, std::convert::Infallible>(line), (cluster, seen + 1)));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    Body::from_stream(lines)
}

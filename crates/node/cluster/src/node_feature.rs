//! The `NodeFeature` object by which Node Feature Discovery is told the node's labels.

use std::collections::BTreeMap;

use http::Request;
use kube::core::params::{DeleteParams, GetParams, Patch};
use kube::core::request;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::client::{Metadata, NodeClient, TRIES, creating, merging};
use crate::error::{Access, Error, Failure, is_missing};

const VERSION: &str = "nfd.k8s-sigs.io/v1alpha1";
const MANAGER: &str = "migpool-feature-discovery";
const RESOURCE: &str = "nodefeatures.nfd.k8s-sigs.io";

/// By which NFD knows what node an object speaks of.
const NODE_LABEL: &str = "nfd.node.kubernetes.io/node-name";

impl NodeClient {
    /// The node's `NodeFeature` object `nvidia-features-for-<node>` in a namespace, the one that NVIDIA's GPU feature
    /// discovery writes.
    #[must_use]
    pub fn node_feature<'a>(&'a self, namespace: &'a str) -> NodeFeature<'a> {
        NodeFeature {
            client: self,
            namespace,
            name: format!("nvidia-features-for-{}", self.node()),
        }
    }
}

/// The node's `NodeFeature` object.
#[derive(Debug)]
pub struct NodeFeature<'a> {
    client: &'a NodeClient,
    namespace: &'a str,
    name: String,
}

/// What is looked at of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Now {
    metadata: MetadataNow,
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MetadataNow {
    #[serde(flatten)]
    identity: Metadata,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    labels: BTreeMap<String, String>,
}

impl NodeFeature<'_> {
    /// Makes the object's labels exactly these; `false` when they are so already.
    ///
    /// # Errors
    /// [`Error::NoNodeFeatureResource`] where NFD is not installed, others where the object can't be read or changed.
    pub async fn apply(&self, labels: &BTreeMap<String, String>) -> Result<bool, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let result = match self.now().await? {
                Some(now) => match changes(&now, self.client.node(), labels) {
                    Some(patch) => self.merge(&patch).await,
                    None => return Ok(false),
                },
                None => self.create(labels).await,
            };
            match result {
                // Somebody else made, changed or deleted it in between.
                Err(Error::Conflict { .. } | Error::Refused { code: 404, .. }) if tries < TRIES => {
                }
                result => return result.map(|()| true),
            }
        }
    }

    /// Deletes the object; `false` when there is none.
    ///
    /// # Errors
    /// When it can't be deleted. A cluster without NFD has none.
    pub async fn remove(&self) -> Result<bool, Error> {
        const ACCESS: Access = Access::new("delete", RESOURCE);
        let request = self.path().delete(&self.name, &DeleteParams::default());
        match self.client.send::<Value>(ACCESS, request).await {
            Ok(_) => Ok(true),
            Err(Failure::Status(status)) if status.code == 404 => Ok(false),
            Err(failure) => Err(self.error(failure, ACCESS)),
        }
    }

    async fn now(&self) -> Result<Option<Now>, Error> {
        const ACCESS: Access = Access::new("get", RESOURCE);
        let request = self.path().get(&self.name, &GetParams::default());
        match self.client.send(ACCESS, request).await {
            Ok(now) => Ok(Some(now)),
            Err(Failure::Status(status)) if is_missing(&status, &self.name) => Ok(None),
            Err(Failure::Status(status)) if status.code == 404 => Err(Error::NoNodeFeatureResource),
            Err(failure) => Err(self.error(failure, ACCESS)),
        }
    }

    async fn create(&self, labels: &BTreeMap<String, String>) -> Result<(), Error> {
        let body = json!({
            "apiVersion": VERSION,
            "kind": "NodeFeature",
            "metadata": {"name": self.name, "labels": {NODE_LABEL: self.client.node()}},
            "spec": {
                "features": {"flags": {}, "attributes": {}, "instances": {}},
                "labels": labels,
            },
        });
        let request = self
            .path()
            .create(&creating(MANAGER), body.to_string().into_bytes());
        self.done(Access::new("create", RESOURCE), request).await
    }

    async fn merge(&self, patch: &Value) -> Result<(), Error> {
        let request = self
            .path()
            .patch(&self.name, &merging(MANAGER), &Patch::Merge(patch));
        self.done(Access::new("patch", RESOURCE), request).await
    }

    async fn done(
        &self,
        access: Access,
        request: Result<Request<Vec<u8>>, request::Error>,
    ) -> Result<(), Error> {
        let sent = self.client.send::<Value>(access, request).await;
        sent.map(|_| ())
            .map_err(|failure| self.error(failure, access))
    }

    fn path(&self) -> request::Request {
        request::Request::new(format!(
            "/apis/{VERSION}/namespaces/{}/nodefeatures",
            self.namespace
        ))
    }

    fn error(&self, failure: Failure, access: Access) -> Error {
        let object = format!("NodeFeature {}/{}", self.namespace, self.name);
        self.client.error(failure, access, &object)
    }
}

/// The merge patch to the labels that are wanted; none when nothing is to be done.
fn changes(now: &Now, node: &str, wanted: &BTreeMap<String, String>) -> Option<Value> {
    let is_named = now.metadata.labels.get(NODE_LABEL).map(String::as_str) == Some(node);
    if is_named && now.spec.labels == *wanted {
        return None;
    }
    let gone = now
        .spec
        .labels
        .keys()
        .filter(|key| !wanted.contains_key(*key));
    let labels: Map<String, Value> = gone
        .map(|key| (key.clone(), Value::Null))
        .chain(
            wanted
                .iter()
                .map(|(key, value)| (key.clone(), json!(value))),
        )
        .collect();
    Some(json!({
        "metadata": {
            "resourceVersion": now.metadata.identity.resource_version,
            "labels": {NODE_LABEL: node},
        },
        "spec": {"labels": labels},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(labels: &Value) -> Now {
        serde_json::from_value(json!({
            "metadata": {"resourceVersion": "7", "labels": {NODE_LABEL: "mignode"}},
            "spec": {"labels": labels},
        }))
        .unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn labels_that_hold_no_more_are_taken_out() {
        let now = now(&json!({"a": "1", "old": "x"}));
        let patch = changes(&now, "mignode", &labels(&[("a", "2"), ("b", "3")])).unwrap();
        assert_eq!(
            patch["spec"]["labels"],
            json!({"a": "2", "b": "3", "old": null})
        );
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
    }

    #[test]
    fn what_is_so_already_needs_no_request() {
        let now = now(&json!({"a": "1"}));
        assert_eq!(changes(&now, "mignode", &labels(&[("a", "1")])), None);
        assert!(changes(&now, "othernode", &labels(&[("a", "1")])).is_some());
    }
}

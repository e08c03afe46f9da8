//! Asking pods to leave, by the API's eviction: it respects disruption budgets, which a deletion doesn't.

use k8s_openapi::api::policy::v1::Eviction as Body;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions};
use kube::core::Status;
use kube::core::params::{GetParams, PostParams};
use kube::core::request;
use serde::Deserialize;
use serde_json::Value;

use crate::client::NodeClient;
use crate::error::{Access, Error, Failure, is_missing, said};

/// What the server calls a disruption budget's refusal.
const BUDGET: &str = "DisruptionBudget";

/// Where the kubelet writes that a pod comes from a file on the node.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, where it is known (the kubelet's `PodResources` doesn't tell): another pod of the name is not evicted.
    pub uid: Option<String>,
}

impl std::fmt::Display for PodRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What became of a request to evict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Eviction {
    /// The pod has been told to end, or was ending already; it goes after its grace period.
    Accepted,
    /// There is no such pod on the node any more. One of the name that runs elsewhere is another one.
    Gone,
    /// Its containers have ended; it is left for its owner to look at, and the kubelet takes its devices back.
    Finished,
    /// A disruption budget does not let it go now. Worth trying again.
    Blocked {
        /// The `PodDisruptionBudget` in the pod's namespace, where the server names it.
        budget: Option<String>,
        /// What the server said.
        message: String,
    },
    /// It would come back at once, so it is not evicted.
    Refused {
        /// Why, and what to do instead.
        reason: String,
    },
}

/// What is looked at of a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pod {
    metadata: ObjectMeta,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: String,
}

impl NodeClient {
    /// Evicts a pod of the node. A pod of a `DaemonSet` tolerates what keeps others away and is back at once, and a static pod is not
    /// the API server's: neither is evicted.
    ///
    /// # Errors
    /// When the server does not answer, or a right is missing.
    pub async fn evict(&self, pod: &PodRef) -> Result<Eviction, Error> {
        let pods = request::Request::new(format!("/api/v1/namespaces/{}/pods", pod.namespace));
        let request = pods.get(&pod.name, &GetParams::default());
        let found: Pod = match self.send(Access::GET_POD, request).await {
            Ok(found) => found,
            Err(Failure::Status(status)) if is_missing(&status, &pod.name) => {
                return Ok(Eviction::Gone);
            }
            Err(failure) => return Err(self.error(failure, Access::GET_POD, &named(pod))),
        };
        if let Some(known) = without_asking(&found, pod, self.node()) {
            return Ok(known);
        }
        let body = Body {
            metadata: ObjectMeta {
                name: Some(pod.name.clone()),
                namespace: Some(pod.namespace.clone()),
                ..ObjectMeta::default()
            },
            delete_options: Some(DeleteOptions {
                preconditions: Some(Preconditions {
                    uid: found.metadata.uid,
                    ..Preconditions::default()
                }),
                ..DeleteOptions::default()
            }),
        };
        // Serialising a struct of texts can't fail.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let request = pods.create_subresource("eviction", &pod.name, &PostParams::default(), body);
        match self.send::<Value>(Access::EVICT_POD, request).await {
            Ok(_) => Ok(Eviction::Accepted),
            Err(Failure::Status(status)) => match of_status(&status, &pod.name) {
                Some(eviction) => Ok(eviction),
                None => Err(self.error(Failure::Status(status), Access::EVICT_POD, &named(pod))),
            },
            Err(failure) => Err(self.error(failure, Access::EVICT_POD, &named(pod))),
        }
    }
}

fn named(pod: &PodRef) -> String {
    format!("pod {pod}")
}

/// What can be told from the pod itself.
fn without_asking(found: &Pod, pod: &PodRef, node: &str) -> Option<Eviction> {
    let metadata = &found.metadata;
    let is_another = pod.uid.is_some() && metadata.uid != pod.uid;
    // A name is used again: a StatefulSet's pod that left by force may run on another node while this one still holds
    // its devices.
    if is_another || found.spec.node_name != node {
        return Some(Eviction::Gone);
    }
    if matches!(found.status.phase.as_str(), "Succeeded" | "Failed") {
        return Some(Eviction::Finished);
    }
    if metadata.deletion_timestamp.is_some() {
        return Some(Eviction::Accepted);
    }
    let annotations = metadata.annotations.as_ref();
    if annotations.is_some_and(|annotations| annotations.contains_key(MIRROR)) {
        return Some(Eviction::Refused {
            reason: format!(
                "pod {pod} is a static pod of this node: only the node's own manifest folder can end it"
            ),
        });
    }
    let mut owners = metadata.owner_references.iter().flatten();
    let daemon = owners.find(|owner| owner.controller == Some(true) && owner.kind == "DaemonSet");
    daemon.map(|daemon| Eviction::Refused {
        reason: format!(
            "pod {pod} would be back at once, being DaemonSet {}'s: keep that off this node first",
            daemon.name
        ),
    })
}

/// What a status to an eviction means; none where it is an error like any other.
fn of_status(status: &Status, pod: &str) -> Option<Eviction> {
    match status.code {
        404 if is_missing(status, pod) => Some(Eviction::Gone),
        // Not every conflict is about whose the name is.
        409 if status.message.contains("UID") => Some(Eviction::Gone),
        429 => {
            let mut causes = status.details.iter().flat_map(|details| &details.causes);
            let cause = causes.find(|cause| cause.reason == BUDGET)?;
            let message = if cause.message.is_empty() {
                said(status)
            } else {
                format!("{} {}", said(status), cause.message)
            };
            Some(Eviction::Blocked {
                budget: budget(&cause.message).map(str::to_owned),
                message,
            })
        }
        // The server's word where several budgets select one pod.
        500 if status.message.contains("PodDisruptionBudget") => Some(Eviction::Blocked {
            budget: None,
            message: said(status),
        }),
        _ => None,
    }
}

/// The name in `The disruption budget NAME needs 1 healthy pods and has 1 currently`.
fn budget(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("disruption budget ")?;
    rest.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod_ref(uid: Option<&str>) -> PodRef {
        PodRef {
            namespace: "ml".into(),
            name: "train-0".into(),
            uid: uid.map(str::to_owned),
        }
    }

    fn look(pod: Value, uid: Option<&str>) -> Option<Eviction> {
        let mut pod: Pod = serde_json::from_value(pod).unwrap();
        pod.spec.node_name = "mignode".into();
        without_asking(&pod, &pod_ref(uid), "mignode")
    }

    fn status(code: u16, message: &str, causes: &Value) -> Status {
        serde_json::from_value(json!({
            "status": "Failure", "code": code, "message": message, "details": {"causes": causes},
        }))
        .unwrap()
    }

    #[test]
    fn the_budget_that_blocks_is_named() {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        let cause = json!([{"reason": "DisruptionBudget",
            "message": "The disruption budget train-pdb needs 1 healthy pods and has 1 currently"}]);
        let blocked = of_status(&status(429, message, &cause), "train-0").unwrap();
        let Eviction::Blocked { budget, message } = blocked else {
            panic!("{blocked:?}");
        };
        assert_eq!(budget.as_deref(), Some("train-pdb"));
        assert!(message.contains("needs 1 healthy pods"), "{message}");
    }

    #[test]
    fn a_busy_server_is_not_taken_for_a_budget() {
        for (code, message) in [(429, "too many requests"), (500, "etcd is away")] {
            let status = status(code, message, &json!([]));
            assert_eq!(of_status(&status, "train-0"), None);
        }
    }

    #[test]
    fn another_pod_of_the_name_is_left_alone() {
        let pod = json!({"metadata": {"uid": "new"}, "status": {"phase": "Running"}});
        assert_eq!(look(pod.clone(), Some("old")), Some(Eviction::Gone));
        assert_eq!(look(pod.clone(), Some("new")), None);
        assert_eq!(look(pod, None), None);
    }

    #[test]
    fn pods_that_would_come_back_at_once_are_refused_with_the_reason() {
        let daemon = json!({"metadata": {"uid": "u", "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "exporter", "uid": "d", "controller": true}]}});
        let refused = look(daemon, None);
        assert!(
            matches!(&refused, Some(Eviction::Refused { reason }) if reason.contains("DaemonSet exporter")),
            "{refused:?}"
        );
        let mirror = json!({"metadata": {"uid": "u", "annotations": {MIRROR: "hash"}}});
        let refused = look(mirror, None);
        assert!(
            matches!(&refused, Some(Eviction::Refused { reason }) if reason.contains("static pod")),
            "{refused:?}"
        );
    }

    #[test]
    fn a_pod_that_ends_or_ended_is_not_asked_again() {
        let ending = json!({"metadata": {"uid": "u", "deletionTimestamp": "2026-11-24T00:00:00Z"},
            "status": {"phase": "Running"}});
        assert_eq!(look(ending, None), Some(Eviction::Accepted));
        let ended = json!({"metadata": {"uid": "u"}, "status": {"phase": "Succeeded"}});
        assert_eq!(look(ended, None), Some(Eviction::Finished));
    }
}

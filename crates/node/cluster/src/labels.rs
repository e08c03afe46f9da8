//! The node's labels, each manager's its own.

use std::collections::BTreeMap;

use kube::core::Status;
use serde_json::{Value, json};

use crate::client::{NodeClient, TRIES};
use crate::error::{Access, Error, Failure};
use crate::label_syntax::{self, InvalidLabel};

/// What the server calls a field that another manager set to something else.
const FIELD_CONFLICT: &str = "FieldManagerConflict";

/// Where a conflict's field begins, before the label's key.
const LABELS_FIELD: &str = ".metadata.labels.";

impl NodeClient {
    /// The labels of one concern, told from others by its field manager: `migpool-feature-discovery`.
    #[must_use]
    pub fn labels(&self, manager: &'static str) -> Labels<'_> {
        Labels {
            client: self,
            manager,
        }
    }
}

/// The labels of one field manager on the node.
#[derive(Debug)]
pub struct Labels<'a> {
    client: &'a NodeClient,
    manager: &'static str,
}

/// What became of labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Labels that somebody else set to something else, and that were left so.
    pub conflicts: Vec<LabelConflict>,
    /// Labels that no server takes.
    pub invalid: Vec<InvalidLabel>,
}

/// A label that somebody else set to something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the label {key}={wanted} is left as it is: {owner} set it to something else; \
     remove it there, or with `kubectl label node NAME {key}-`"
)]
pub struct LabelConflict {
    /// Its key.
    pub key: String,
    /// The value that it should have.
    pub wanted: String,
    /// Who set it, by the name of the field manager; `another field manager` where the server doesn't say.
    pub owner: String,
}

impl Labels<'_> {
    /// Makes this manager's labels exactly these. What it set before and is not among them goes; what others set
    /// stays, also where it is another value for one of these keys.
    ///
    /// # Errors
    /// When the node can't be read or changed.
    pub async fn apply(&self, wanted: &BTreeMap<String, String>) -> Result<Applied, Error> {
        let mut applied = Applied::default();
        let mut labels = valid(wanted, &mut applied.invalid);
        let mut made_anew = 0;
        loop {
            // By its uid, for server-side apply would make a node where there is none.
            let uid = self.client.metadata().await?.uid;
            let failure = match self.set(&uid, &labels).await {
                Ok(()) => return Ok(applied),
                Err(failure) => failure,
            };
            let conflicts = match &failure {
                Failure::Status(status) if status.code == 409 => conflicts(status, &mut labels),
                _ => Vec::new(),
            };
            if conflicts.is_empty() {
                let object = self.client.object();
                let error = self.client.error(failure, Access::PATCH_NODE, &object);
                made_anew += 1;
                if !matches!(error, Error::Conflict { .. }) || made_anew == TRIES {
                    return Err(error);
                }
            }
            applied.conflicts.extend(conflicts);
        }
    }

    /// Removes this manager's labels.
    ///
    /// # Errors
    /// When the node can't be read or changed.
    pub async fn remove_all(&self) -> Result<(), Error> {
        self.apply(&BTreeMap::new()).await.map(|_| ())
    }

    async fn set(&self, uid: &str, labels: &BTreeMap<&str, &str>) -> Result<(), Failure> {
        let mut metadata = json!({"name": self.client.node(), "uid": uid});
        if !labels.is_empty() {
            metadata["labels"] = json!(labels);
        }
        let body: Value = json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata});
        self.client.apply_node(self.manager, &body).await
    }
}

fn valid<'a>(
    wanted: &'a BTreeMap<String, String>,
    invalid: &mut Vec<InvalidLabel>,
) -> BTreeMap<&'a str, &'a str> {
    let mut labels = BTreeMap::new();
    for (key, value) in wanted {
        match label_syntax::fault(key, value) {
            None => {
                labels.insert(key.as_str(), value.as_str());
            }
            Some(reason) => invalid.push(InvalidLabel {
                key: key.clone(),
                value: value.clone(),
                reason,
            }),
        }
    }
    labels
}

/// Takes what others own out of the labels.
fn conflicts(status: &Status, labels: &mut BTreeMap<&str, &str>) -> Vec<LabelConflict> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .filter(|cause| cause.reason == FIELD_CONFLICT)
        .filter_map(|cause| {
            let (key, wanted) = labels.remove_entry(cause.field.strip_prefix(LABELS_FIELD)?)?;
            Some(LabelConflict {
                key: key.to_owned(),
                wanted: wanted.to_owned(),
                owner: owner(&cause.message),
            })
        })
        .collect()
}

/// The manager's name in `conflict with "kubectl-label" using v1`.
fn owner(message: &str) -> String {
    message
        .split_once('"')
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("another field manager", |(name, _)| name)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(causes: &Value) -> Status {
        serde_json::from_value(json!({
            "status": "Failure", "code": 409, "reason": "Conflict", "message": "Apply failed",
            "details": {"causes": causes},
        }))
        .unwrap()
    }

    #[test]
    fn what_another_manager_owns_is_named_and_left_out() {
        let mut labels = BTreeMap::from([
            ("nvidia.com/gpu.count", "56"),
            ("nvidia.com/gpu.product", "A100"),
        ]);
        let found = conflicts(
            &status(&json!([
                {"reason": "FieldManagerConflict", "message": "conflict with \"nfd-master\" using v1",
                 "field": ".metadata.labels.nvidia.com/gpu.product"},
                {"reason": "FieldManagerConflict", "message": "?", "field": ".metadata.labels.not/ours"},
                {"reason": "Other", "field": ".metadata.labels.nvidia.com/gpu.count"},
            ])),
            &mut labels,
        );
        assert_eq!(
            found,
            [LabelConflict {
                key: "nvidia.com/gpu.product".into(),
                wanted: "A100".into(),
                owner: "nfd-master".into()
            }]
        );
        assert_eq!(labels, BTreeMap::from([("nvidia.com/gpu.count", "56")]));
        assert!(
            found[0]
                .to_string()
                .contains("kubectl label node NAME nvidia.com/gpu.product-")
        );
    }

    #[test]
    fn a_conflict_over_anything_else_is_none_over_labels() {
        let mut labels = BTreeMap::from([("a", "b")]);
        assert_eq!(conflicts(&status(&json!([])), &mut labels), []);
        assert_eq!(labels.len(), 1);
        assert_eq!(owner("no name here"), "another field manager");
    }

    #[test]
    fn one_label_that_cant_be_keeps_no_other_from_being_set() {
        let wanted = BTreeMap::from([
            ("nvidia.com/gpu.product".to_owned(), "x".repeat(64)),
            ("nvidia.com/gpu.count".to_owned(), "56".to_owned()),
        ]);
        let mut invalid = Vec::new();
        assert_eq!(
            valid(&wanted, &mut invalid),
            BTreeMap::from([("nvidia.com/gpu.count", "56")])
        );
        assert_eq!(invalid[0].key, "nvidia.com/gpu.product");
    }
}

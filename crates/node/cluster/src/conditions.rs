//! The node's conditions that are ours.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::client::{NodeClient, TRIES};
use crate::error::{Error, clipped};

/// The type of the condition that says whether the node's GPUs are partitioned as they should be.
pub const MIG_LAYOUT_READY: &str = "MigLayoutReady";

/// The type of the condition that says whether work can be given to every GPU and MIG device of the node.
pub const GPUS_HEALTHY: &str = "GPUsHealthy";

const OURS: [&str; 2] = [MIG_LAYOUT_READY, GPUS_HEALTHY];
const MANAGER: &str = "migpool-node-status";

/// The longest message in bytes: every kubelet and controller reads it with the node.
const LONGEST_MESSAGE: usize = 1024;

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It doesn't.
    False,
    /// It can't be told.
    Unknown,
}

impl ConditionStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCondition {
    /// [`MIG_LAYOUT_READY`] or [`GPUS_HEALTHY`].
    pub kind: &'static str,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one word of upper and lower case: `LayoutApplied`.
    pub reason: String,
    /// Why, in a sentence that names the GPU. A long one is cut.
    pub message: String,
}

impl NodeClient {
    /// Makes the node's conditions of ours exactly these; `false` when they are so already. All other conditions stay
    /// as they are.
    ///
    /// # Errors
    /// When the node can't be read or changed.
    pub async fn set_conditions(&self, conditions: &[NodeCondition]) -> Result<bool, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let node = self.node_now().await?;
            let now = json!(Time(Timestamp::now()));
            let Some(conditions) = changed(&node.status.conditions, conditions, &now) else {
                return Ok(false);
            };
            let body = json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": self.node(), "uid": node.metadata.uid},
                "status": {"conditions": conditions},
            });
            match self.apply_node_status(MANAGER, &body).await {
                // The node was made anew in between.
                Err(Error::Conflict { .. }) if tries < TRIES => {}
                result => return result.map(|()| true),
            }
        }
    }

    /// Removes the node's conditions of ours.
    ///
    /// # Errors
    /// When the node can't be read or changed.
    pub async fn remove_conditions(&self) -> Result<bool, Error> {
        self.set_conditions(&[]).await
    }
}

/// Our conditions as they should be, each with the time since when its status is what it is; none when they are so
/// already.
fn changed(current: &[Value], wanted: &[NodeCondition], now: &Value) -> Option<Vec<Value>> {
    let find = |kind: &str| current.iter().find(|old| field(old, "type") == kind);
    let mut is_same = OURS
        .iter()
        .all(|kind| find(kind).is_none() || wanted.iter().any(|condition| condition.kind == *kind));
    let list = wanted
        .iter()
        .map(|condition| {
            let old = find(condition.kind);
            let status = condition.status.as_str();
            let message = clipped(&condition.message, LONGEST_MESSAGE);
            is_same &= old.is_some_and(|old| {
                field(old, "status") == status
                    && field(old, "reason") == condition.reason
                    && field(old, "message") == message
            });
            let since = old
                .filter(|old| field(old, "status") == status)
                .and_then(|old| old.get("lastTransitionTime"))
                .filter(|since| since.is_string())
                .unwrap_or(now);
            json!({
                "type": condition.kind,
                "status": status,
                "reason": condition.reason,
                "message": message,
                "lastTransitionTime": since,
                "lastHeartbeatTime": now,
            })
        })
        .collect();
    (!is_same).then_some(list)
}

fn field<'a>(condition: &'a Value, name: &str) -> &'a str {
    condition
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(status: ConditionStatus, message: &str) -> NodeCondition {
        NodeCondition {
            kind: MIG_LAYOUT_READY,
            status,
            reason: "R".into(),
            message: message.into(),
        }
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let first = changed(&[], &[layout(ConditionStatus::False, "a")], &json!("1")).unwrap();
        assert_eq!(first[0]["lastTransitionTime"], "1");
        let second = changed(&first, &[layout(ConditionStatus::False, "b")], &json!("2")).unwrap();
        assert_eq!(second[0]["lastTransitionTime"], "1");
        assert_eq!(second[0]["lastHeartbeatTime"], "2");
        let third = changed(&second, &[layout(ConditionStatus::True, "b")], &json!("3")).unwrap();
        assert_eq!(third[0]["lastTransitionTime"], "3");
    }

    #[test]
    fn what_is_so_already_needs_no_request() {
        let ready = json!({"type": "Ready", "status": "True"});
        assert_eq!(
            changed(std::slice::from_ref(&ready), &[], &json!("1")),
            None
        );
        let wanted = [layout(ConditionStatus::True, "m")];
        let mut now = changed(&[ready], &wanted, &json!("1")).unwrap();
        assert_eq!(changed(&now, &wanted, &json!("2")), None);
        now.push(json!({"type": "GPUsHealthy", "status": "True"}));
        let without = changed(&now, &wanted, &json!("2")).unwrap();
        assert_eq!(without.len(), 1, "what an earlier agent left is dropped");
    }

    #[test]
    fn a_message_too_long_is_cut_once() {
        let long = "ü".repeat(4000);
        let wanted = [layout(ConditionStatus::False, &long)];
        let list = changed(&[], &wanted, &json!("1")).unwrap();
        assert!(list[0]["message"].as_str().unwrap().len() <= LONGEST_MESSAGE);
        assert_eq!(changed(&list, &wanted, &json!("2")), None);
    }
}

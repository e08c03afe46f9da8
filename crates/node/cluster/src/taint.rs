//! The taint that keeps pods away while the node's GPUs are being partitioned.

use serde_json::{Value, json};

use crate::client::{NodeClient, TRIES};
use crate::error::Error;

/// The key of the taint; its effect is `NoSchedule`.
pub const PARTITIONING_TAINT: &str = "migpool.dev/partitioning";

const EFFECT: &str = "NoSchedule";
const MANAGER: &str = "migpool-taint";

impl NodeClient {
    /// Puts the taint `migpool.dev/partitioning:NoSchedule` on the node, or takes it off; `false` when it was so
    /// already. All other taints stay as they are.
    ///
    /// # Errors
    /// When the node can't be read or changed.
    pub async fn set_taint(&self, on: bool) -> Result<bool, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let node = self.node_now().await?;
            let Some(taints) = changed(&node.spec.taints, on) else {
                return Ok(false);
            };
            // The version makes the server refuse the list when somebody changed the node in between.
            let patch = json!({
                "metadata": {"resourceVersion": node.metadata.resource_version, "uid": node.metadata.uid},
                "spec": {"taints": taints},
            });
            match self.merge_node(MANAGER, &patch).await {
                Err(Error::Conflict { .. }) if tries < TRIES => {}
                result => return result.map(|()| true),
            }
        }
    }
}

/// The list of taints with ours or without it; none when that is so already.
fn changed(taints: &[Value], on: bool) -> Option<Vec<Value>> {
    let is_ours = |taint: &&Value| {
        taint.get("key").and_then(Value::as_str) == Some(PARTITIONING_TAINT)
            && taint.get("effect").and_then(Value::as_str) == Some(EFFECT)
    };
    if on == taints.iter().any(|taint| is_ours(&taint)) {
        return None;
    }
    let mut list: Vec<Value> = taints
        .iter()
        .filter(|taint| !is_ours(taint))
        .cloned()
        .collect();
    if on {
        list.push(json!({"key": PARTITIONING_TAINT, "effect": EFFECT}));
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_taints_stay_with_all_that_they_say() {
        let others = vec![
            json!({"key": "sku", "value": "gpu", "effect": "NoSchedule"}),
            json!({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-11-24T00:00:00Z", "future": 1}),
            json!({"key": PARTITIONING_TAINT, "effect": "PreferNoSchedule"}),
        ];
        let on = changed(&others, true).unwrap();
        assert_eq!(on[..3], others[..]);
        assert_eq!(
            on[3],
            json!({"key": "migpool.dev/partitioning", "effect": "NoSchedule"})
        );
        assert_eq!(changed(&on, false).unwrap(), others);
    }

    #[test]
    fn what_is_so_already_needs_no_request() {
        assert_eq!(changed(&[], false), None);
        // As a kubelet with --register-with-taints puts it on a new node.
        let given = [json!({"key": PARTITIONING_TAINT, "value": "boot", "effect": "NoSchedule"})];
        assert_eq!(changed(&given, true), None);
        assert_eq!(changed(&given, false), Some(Vec::new()));
    }
}

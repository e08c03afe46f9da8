//! What is wanted of a node: the operator's half.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::status::GpuNodeStatus;

/// What is wanted of a node's GPUs. A node that is in no pool has an empty one, and its agent follows its own flags.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[kube(
    group = "migpool.dev",
    version = "v1alpha1",
    kind = "GpuNode",
    plural = "gpunodes",
    shortname = "gn",
    category = "migpool",
    status = "GpuNodeStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Pool","type":"string","jsonPath":".spec.pool.name"}"#,
    printcolumn = r#"{"name":"GPUs","type":"string","jsonPath":".status.summary"}"#,
    printcolumn = r#"{"name":"Layout","type":"string","jsonPath":".status.layout"}"#,
    printcolumn = r#"{"name":"Slices","type":"integer","jsonPath":".status.slices"}"#,
    printcolumn = r#"{"name":"In use","type":"integer","jsonPath":".status.slicesInUse"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct GpuNodeSpec {
    /// The node pool that the node is in; none for a node that is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolReference>,
    /// The layout that its GPUs are to have: `MIG1g`, `3g.20gb,2g.10gb`, `0-3=1g.5gb;4-7=off`. Without one the agent
    /// follows its own flags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// How slices are advertised. Without one the agent follows its own flags.
    #[serde(
        default,
        deserialize_with = "known",
        skip_serializing_if = "Option::is_none"
    )]
    pub mig_strategy: Option<Strategy>,
    /// What is done about pods that hold a slice which has to go. Without one the agent follows its own flags.
    #[serde(
        default,
        deserialize_with = "known",
        skip_serializing_if = "Option::is_none"
    )]
    pub drain: Option<Drain>,
    /// The labels that the pool gives the node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_labels: BTreeMap<String, String>,
    /// The taints that the pool gives the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_taints: Vec<WantedTaint>,
    /// The layout that the GPUs had when the pool took the node; they get it back when the node leaves the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_layout: Option<String>,
    /// The node is leaving its pool: its GPUs get `originalLayout` back first.
    #[serde(default, skip_serializing_if = "is_false")]
    pub releasing: bool,
}

impl GpuNodeSpec {
    /// Reads what an operator of any version wrote, for who is to do it. To read it otherwise passes over a word that this
    /// version does not know, so that one node's never keeps an operator from seeing the others.
    ///
    /// # Errors
    /// There is such a word, or it is no `GpuNodeSpec` at all.
    pub fn in_full(value: Value) -> Result<Self, serde_json::Error> {
        let word = |field: &str| value.get(field).filter(|word| !word.is_null()).cloned();
        let (strategy, drain) = (word("migStrategy"), word("drain"));
        let mut spec: Self = serde_json::from_value(value)?;
        spec.mig_strategy = strategy.map(serde_json::from_value).transpose()?;
        spec.drain = drain.map(serde_json::from_value).transpose()?;
        Ok(spec)
    }
}

/// A word of this version, or none.
fn known<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let word = Option::<Value>::deserialize(deserializer)?;
    Ok(word.and_then(|word| serde_json::from_value(word).ok()))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}

/// A node pool, and which one of that name.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct PoolReference {
    /// The `NodePool`'s name.
    pub name: String,
    /// The `NodePool`'s UID.
    pub uid: String,
}

/// How slices are advertised to the kubelet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// GPUs as a whole.
    None,
    /// Every slice is `nvidia.com/gpu`.
    Single,
    /// Every slice by its profile: `nvidia.com/mig-1g.5gb`.
    Mixed,
}

impl From<Strategy> for mig::MigStrategy {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::None => Self::None,
            Strategy::Single => Self::Single,
            Strategy::Mixed => Self::Mixed,
        }
    }
}

impl From<mig::MigStrategy> for Strategy {
    fn from(strategy: mig::MigStrategy) -> Self {
        match strategy {
            mig::MigStrategy::None => Self::None,
            mig::MigStrategy::Single => Self::Single,
            mig::MigStrategy::Mixed => Self::Mixed,
        }
    }
}

/// What is done about pods that hold a slice which has to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Drain {
    /// The change is refused.
    Never,
    /// They are waited for.
    #[default]
    Wait,
    /// They are evicted, as far as their disruption budgets allow.
    Evict,
}

/// A taint as Kubernetes has it.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct WantedTaint {
    /// The key, such as `sku`.
    pub key: String,
    /// The value, such as `gpu`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_word_of_a_later_version_is_passed_over_by_who_looks_and_refused_by_who_is_to_do_it() {
        let wanted =
            json!({"layout": "MIG1g", "migStrategy": "mixed", "drain": "persuade", "later": 1});
        let seen: GpuNodeSpec = serde_json::from_value(wanted.clone()).unwrap();
        assert_eq!(
            (seen.mig_strategy, seen.drain),
            (Some(Strategy::Mixed), None)
        );
        let refused = GpuNodeSpec::in_full(wanted).unwrap_err().to_string();
        assert!(refused.contains("persuade"), "{refused}");
        let known = json!({"migStrategy": "mixed", "drain": "evict", "later": 1});
        let read = GpuNodeSpec::in_full(known).unwrap();
        assert_eq!(read.drain, Some(Drain::Evict));
    }
}

//! The bodies of requests. Names of fields compare without case, and a field that is null is as good as missing.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{AgentPoolProperties, ManagedClusterProperties};

/// The body that makes a resource group, or changes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PutResourceGroup {
    /// The region: any name of letters and digits. It can't be changed.
    #[schemars(length(min = 1), extend("examples" = ["southcentralus"]))]
    pub location: String,
    /// Tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
}

/// The body that makes a managed cluster, or changes one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PutManagedCluster {
    /// The region: any name of letters and digits. It can't be changed.
    #[schemars(length(min = 1), extend("examples" = ["southcentralus"]))]
    pub location: String,
    /// Tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// What is particular to a cluster, with its pools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<ManagedClusterProperties>,
    /// Other fields (`identity`, `sku`, ...).
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The body that makes an agent pool, or changes one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PutAgentPool {
    /// What is particular to an agent pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<AgentPoolProperties>,
}

/// The body that deploys a template, or looks whether it can be deployed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PutDeployment {
    /// What is to be deployed.
    pub properties: PutDeploymentProperties,
}

/// What is to be deployed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PutDeploymentProperties {
    /// `Incremental`.
    #[schemars(extend("enum" = ["Incremental"]))]
    pub mode: String,
    /// The template.
    pub template: Map<String, Value>,
    /// The values of its parameters: each an object with a `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<BTreeMap<String, ParameterValue>>,
}

/// The value of a template's parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ParameterValue {
    /// The value.
    pub value: Value,
}

/// The body of a PATCH: tags, which take the place of those that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TagsObject {
    /// The tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// The body of `POST .../deleteMachines`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeleteMachines {
    /// The names of the machines that are to go.
    pub machine_names: Vec<String>,
}

/// The body of `PUT .../pods/{p}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunPod {
    /// The manifest of a Pod, in YAML or JSON.
    pub manifest: String,
}

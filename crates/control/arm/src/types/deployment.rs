//! Deployments of templates.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{ErrorDetail, Resource};

/// A deployment.
pub type Deployment = Resource<DeploymentProperties>;
/// An operation of a deployment: one of its resources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentOperation {
    /// Its path.
    pub id: String,
    /// Its name.
    pub operation_id: String,
    /// What became of it.
    pub properties: DeploymentOperationProperties,
}

/// What is particular to a deployment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentProperties {
    /// `Running`, `Succeeded`, `Failed` or `Canceled`.
    pub provisioning_state: String,
    /// What everything that is done for it has in common.
    pub correlation_id: String,
    /// When it last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// How long it took, as ISO 8601 has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// `Incremental`.
    pub mode: String,
    /// The hash of its template.
    pub template_hash: String,
    /// The parameters, with their types.
    pub parameters: Map<String, Value>,
    /// The outputs, with their types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Map<String, Value>>,
    /// The resource providers that it needs.
    pub providers: Vec<DeploymentProvider>,
    /// Which resources come after which.
    pub dependencies: Vec<DeploymentDependency>,
    /// The resources that are as asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output_resources: Vec<ResourceReference>,
    /// The resources that a validation has looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validated_resources: Vec<ResourceReference>,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DetailedError>,
}

/// A resource provider that a deployment needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentProvider {
    /// Its namespace.
    pub namespace: String,
    /// The types that are needed.
    pub resource_types: Vec<DeploymentResourceType>,
}

/// A type of resource that a deployment needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentResourceType {
    /// The type without the namespace.
    pub resource_type: String,
    /// Where; resources within others are where these are.
    pub locations: Vec<Option<String>>,
}

/// What a resource of a deployment comes after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentDependency {
    /// The resource.
    #[serde(flatten)]
    pub resource: TargetResource,
    /// What it comes after.
    pub depends_on: Vec<TargetResource>,
}

/// A resource by its path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceReference {
    /// Its path.
    pub id: String,
}

/// A resource by its path, type and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetResource {
    /// Its path.
    pub id: String,
    /// Its type.
    pub resource_type: String,
    /// Its name: of a pool, its cluster's and its own.
    pub resource_name: String,
}

/// What became of a resource of a deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentOperationProperties {
    /// `Create`.
    pub provisioning_operation: String,
    /// `Running`, `Succeeded` or `Failed`.
    pub provisioning_state: String,
    /// When it last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// How long it took, as ISO 8601 has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// The operation on the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_request_id: Option<String>,
    /// `OK`, `Created` or `BadRequest`.
    pub status_code: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_message: Option<StatusMessage>,
    /// The resource.
    pub target_resource: TargetResource,
}

/// Why a resource of a deployment is not as asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusMessage {
    /// `Failed`.
    pub status: String,
    /// Why.
    pub error: ErrorDetail,
}

/// How a deployment stands, as `Azure-AsyncOperation` leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentStatus {
    /// `Running`, `Succeeded`, `Failed` or `Canceled`.
    pub status: String,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DetailedError>,
}

/// What went wrong, and of which parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DetailedError {
    /// ARM's code.
    pub code: String,
    /// A sentence for a person.
    pub message: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What went wrong of the parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<ErrorDetail>,
}

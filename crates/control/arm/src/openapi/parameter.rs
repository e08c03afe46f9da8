//! The parameters of requests: in the path, in the query, in headers.

use serde_json::{Value, json};

use pool::{ClusterName, DeploymentName, GroupName, NodeName, PodName, PoolName, SubscriptionId};

use super::schemas::{Schemas, schema_of};
use crate::api_version::Provider;

/// A name in a path.
pub(super) fn in_path(name: &str, schemas: &mut Schemas) -> Value {
    let named = match name {
        "subscription" => Some(schema_of::<SubscriptionId>()),
        "group" => Some(schema_of::<GroupName>()),
        "cluster" => Some(schema_of::<ClusterName>()),
        "pool" => Some(schema_of::<PoolName>()),
        "deployment" => Some(schema_of::<DeploymentName>()),
        "pod" => Some(schema_of::<PodName>()),
        "node" => Some(schema_of::<NodeName>()),
        _ => None,
    };
    let schema = match (named, name) {
        (Some(schema), _) => schemas.written(schema),
        (None, "operation") => json!({ "type": "string", "format": "uuid" }),
        (None, _) => json!({ "type": "string", "pattern": "^[A-Za-z0-9._-]+$" }),
    };
    json!({ "name": name, "in": "path", "required": true, "schema": schema })
}

/// The name under which the `api-version` of a provider is kept.
pub(super) fn api_version_name(provider: Provider) -> String {
    format!("apiVersionOf{provider:?}")
}

/// The `api-version` of a provider.
pub(super) fn api_version(provider: Provider) -> Value {
    let versions = provider.versions();
    let newest = versions.last().cloned();
    let known = json!({ "type": "string", "enum": versions });
    let schema = match provider.previews() {
        Some(pattern) => json!({ "anyOf": [known, { "type": "string", "pattern": pattern }] }),
        None => known,
    };
    json!({
        "name": "api-version",
        "in": "query",
        "required": true,
        "description": "The version of the resource's API. Dates compare without case.",
        "schema": schema,
        "example": newest,
    })
}

/// A parameter of the query that may be missing.
pub(super) fn in_query(name: &str, description: &str, schema: &Value) -> Value {
    json!({ "name": name, "in": "query", "description": description, "schema": schema })
}

/// The fields of a type, each a parameter of the query.
pub(super) fn fields_in_query(schema: &Value) -> Vec<Value> {
    let fields = schema["properties"].as_object();
    let parameter = |(name, field): (&String, &Value)| {
        let description = field["description"].as_str().unwrap_or_default();
        in_query(name, description, &json!({ "type": "string" }))
    };
    fields.into_iter().flatten().map(parameter).collect()
}

/// A header that holds a condition.
pub(super) fn condition(name: &str, description: &str) -> Value {
    json!({
        "name": name,
        "in": "header",
        "description": description,
        "schema": { "type": "string" },
    })
}

//! The custom resources of what ARM clients make beside node pools: `ResourceGroup`, `ManagedCluster`, `Operation`,
//! `ArmDeployment`.
//!
//! All have one shape: the record as the model keeps it, to the letter, and beside it what people want to see of it. The whole
//! changes in one write, so there is no status subresource. A further kind is a line of [`KINDS`].

#![allow(
    clippy::doc_markdown,
    reason = "the doc comments of fields are the schema's descriptions, where backticks would be seen"
)]

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::TypeMeta;
use kube::core::schema::StructuralSchemaRewriter;
use kube::{Resource, ResourceExt};
use pool::{Kind, Operation, OperationStatus, RawRecord, Revision, StoreError};
use serde::de::DeserializeOwned;
use serde::de::value::MapDeserializer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

/// A kind of records that is kept as custom resources of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordKind {
    /// The model's word.
    pub kind: Kind,
    /// Kubernetes' word.
    pub name: &'static str,
    /// The word in paths.
    pub plural: &'static str,
    /// What `kubectl` takes for it too.
    pub short: &'static str,
    /// What `kubectl get` shows: a column's name and where it is.
    columns: &'static [(&'static str, &'static str)],
}

/// The kinds.
pub const KINDS: &[RecordKind] = &[GROUPS, CLUSTERS, OPERATIONS, DEPLOYMENTS];

/// Resource groups.
pub const GROUPS: RecordKind = RecordKind {
    kind: Kind::Group,
    name: "ResourceGroup",
    plural: "resourcegroups",
    short: "rg",
    columns: &[
        ("Group", ".spec.key.group"),
        ("Location", ".spec.location"),
        ("State", ".status.state"),
    ],
};

/// Managed clusters.
pub const CLUSTERS: RecordKind = RecordKind {
    kind: Kind::Cluster,
    name: "ManagedCluster",
    plural: "managedclusters",
    short: "mc",
    columns: &[
        ("Group", ".spec.key.group"),
        ("Cluster", ".spec.key.cluster"),
        ("Location", ".spec.location"),
        ("State", ".status.state"),
        ("Message", ".status.message"),
    ],
};

/// Long-running operations.
pub const OPERATIONS: RecordKind = RecordKind {
    kind: Kind::Operation,
    name: "Operation",
    plural: "operations",
    short: "armop",
    columns: &[
        ("Target", ".spec.target"),
        ("Asked", ".spec.asked"),
        ("State", ".status.state"),
        ("Message", ".status.message"),
    ],
};

/// Deployments of templates. Not Kubernetes' own, so they have a name of their own.
pub const DEPLOYMENTS: RecordKind = RecordKind {
    kind: Kind::Deployment,
    name: "ArmDeployment",
    plural: "armdeployments",
    short: "armdep",
    columns: &[
        ("Group", ".spec.key.group"),
        ("Deployment", ".spec.key.deployment"),
        ("State", ".status.state"),
    ],
};

/// The kind of records as a custom resource; `None` for those that are none, or none of this kind.
#[must_use]
pub fn kind_of(kind: Kind) -> Option<RecordKind> {
    KINDS.iter().find(|it| it.kind == kind).copied()
}

/// A record as a custom resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordObject {
    #[serde(flatten, default)]
    types: Option<TypeMeta>,
    /// Its name among other things.
    pub metadata: ObjectMeta,
    /// The record, and what was asked.
    pub spec: RecordSpec,
    /// Where it is on its way.
    #[serde(default)]
    pub status: RecordStatus,
}

/// A record. Only migpool writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordSpec {
    /// The key in lower case: the names that lead to the record, joined by slashes.
    pub path: String,
    /// The names that lead to the record, as they were first spelled.
    #[serde(default)]
    pub key: BTreeMap<String, String>,
    /// The region, as somebody named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// What an operation is about: the resource's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What was asked of it: the state that the resource was sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The record as migpool keeps it, as JSON.
    pub record: String,
}

/// Where a record is on its way. Only migpool writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordStatus {
    /// With ARM's words: Creating, Updating, Deleting, Succeeded, Failed; InProgress of an operation.
    #[serde(default)]
    pub state: String,
    /// What is going on, or why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The operation in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The last operation that came to an end, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_operation: Option<LastOperation>,
    /// Node pools that were asked for together with this, and are not written yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<PendingPool>,
}

/// How an operation came to its end, as its target tells it: the operation is told after its target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LastOperation {
    /// Its id.
    pub id: String,
    /// The state that the target came to: Succeeded, Failed, Canceled.
    pub state: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A node pool that is to be written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PendingPool {
    /// The pool's key in lower case.
    pub path: String,
    /// The generation of the NodePool that it takes the place of; none of one that is to be made. A NodePool that was changed
    /// since is left: what was asked last counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The pool as migpool keeps it, as JSON.
    pub record: String,
}

impl Resource for RecordObject {
    type DynamicType = RecordKind;
    type Scope = kube::core::ClusterResourceScope;

    fn kind(kind: &RecordKind) -> Cow<'_, str> {
        kind.name.into()
    }

    fn group(_: &RecordKind) -> Cow<'_, str> {
        "migpool.dev".into()
    }

    fn version(_: &RecordKind) -> Cow<'_, str> {
        "v1alpha1".into()
    }

    fn plural(kind: &RecordKind) -> Cow<'_, str> {
        kind.plural.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl RecordObject {
    /// A record as an object, made anew or in the place of `old`. `asked` is what an operation is for.
    ///
    /// # Errors
    /// If the record is none of this version.
    pub fn of(
        kind: RecordKind,
        path: &str,
        body: &Value,
        asked: Option<&str>,
        old: Option<&Self>,
    ) -> Result<Self, StoreError> {
        let metadata = match old {
            Some(old) => ObjectMeta {
                managed_fields: None,
                ..old.metadata.clone()
            },
            None => ObjectMeta {
                name: Some(name_of(path)),
                ..ObjectMeta::default()
            },
        };
        let shown = Shown::of(kind.kind, body).map_err(|error| StoreError::Unreadable {
            kind: kind.kind,
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        let asked = asked.map(str::to_owned);
        let before = old.map(|old| &old.status);
        Ok(Self {
            types: Some(TypeMeta {
                api_version: Self::api_version(&kind).into_owned(),
                kind: kind.name.to_owned(),
            }),
            metadata,
            spec: RecordSpec {
                path: path.to_owned(),
                key: shown.key,
                location: shown.location,
                tags: shown.tags,
                target: shown.target,
                asked: asked.or_else(|| old.and_then(|old| old.spec.asked.clone())),
                record: body.to_string(),
            },
            status: RecordStatus {
                last_operation: last_operation(before, &shown.status),
                pending: before.map(|it| it.pending.clone()).unwrap_or_default(),
                ..shown.status
            },
        })
    }

    /// The record.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn raw(&self, kind: Kind) -> Result<RawRecord, StoreError> {
        let body = serde_json::from_str(&self.spec.record);
        Ok(RawRecord {
            kind,
            path: self.spec.path.clone(),
            revision: self.revision(),
            body: body.map_err(|error| StoreError::Unreadable {
                kind,
                path: self.spec.path.clone(),
                reason: error.to_string(),
            })?,
        })
    }

    /// The record's key, whether or not the record can be read; `None` if it is none of this kind.
    pub(crate) fn key<K: DeserializeOwned>(&self) -> Option<K> {
        let names = self.spec.key.iter();
        let names = names.map(|(name, value)| (name.as_str(), value.as_str()));
        K::deserialize(MapDeserializer::<_, serde::de::value::Error>::new(names)).ok()
    }

    /// The version of the object. The API server's own numbers, which Kubernetes lets be compared.
    #[must_use]
    pub fn revision(&self) -> Revision {
        let version = self.resource_version().unwrap_or_default();
        Revision(version.parse().unwrap_or_default())
    }
}

/// The operation that ended with this change, or else the one that ended last.
fn last_operation(before: Option<&RecordStatus>, now: &RecordStatus) -> Option<LastOperation> {
    let before = before?;
    match (&before.operation, &now.operation) {
        (Some(id), None) => Some(LastOperation {
            id: id.clone(),
            state: now.state.clone(),
            message: now.message.clone(),
        }),
        _ => before.last_operation.clone(),
    }
}

/// What people see of a record.
struct Shown {
    key: BTreeMap<String, String>,
    location: Option<String>,
    tags: BTreeMap<String, String>,
    target: Option<String>,
    status: RecordStatus,
}

impl Shown {
    fn of(kind: Kind, body: &Value) -> Result<Self, serde_json::Error> {
        let state = ["provisioning_state", "state"];
        let state = state.into_iter().find(|name| !body[*name].is_null());
        let mut shown = Self {
            key: field(body, "key")?,
            location: field(body, "location")?,
            tags: field(body, "tags")?,
            target: None,
            status: RecordStatus {
                state: field(body, state.unwrap_or_default())?,
                message: field(body, "message")?,
                operation: field(body, "operation")?,
                ..RecordStatus::default()
            },
        };
        if kind == Kind::Operation {
            let operation = Operation::deserialize(body)?;
            shown.target = Some(operation.target.resource_id());
            word(operation.status).clone_into(&mut shown.status.state);
            shown.status.message = operation.error.map(|it| it.message).unwrap_or_default();
        }
        Ok(shown)
    }
}

/// A field, or nothing where it is missing or `null`.
fn field<T: for<'d> Deserialize<'d> + Default>(
    body: &Value,
    name: &str,
) -> Result<T, serde_json::Error> {
    match &body[name] {
        Value::Null => Ok(T::default()),
        value => T::deserialize(value),
    }
}

/// How an operation stands, in a word.
fn word(status: OperationStatus) -> &'static str {
    match status {
        OperationStatus::InProgress => "InProgress",
        OperationStatus::Succeeded => "Succeeded",
        OperationStatus::Failed => "Failed",
        OperationStatus::Canceled => "Canceled",
    }
}

/// How much of a name an object's name has; the rest of 63 signs is for the digest.
const MOST: usize = 50;

/// The name of the object of a record: what a Kubernetes name can have of the record's own, and a digest of its whole key, since
/// ARM's names have signs that Kubernetes' have not. The object has the key, so that a name never stands for another one.
#[must_use]
pub fn name_of(path: &str) -> String {
    let last = path.rsplit('/').next().unwrap_or_default();
    let slug: String = last
        .chars()
        .take(MOST)
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() => c.to_ascii_lowercase(),
            _ => '-',
        })
        .collect();
    let slug = slug.trim_matches('-');
    let slug = if slug.is_empty() { "x" } else { slug };
    format!("{slug}-{}", digest(path, 10))
}

/// The first hexadecimal digits of a digest of a path.
#[must_use]
pub fn digest(path: &str, digits: usize) -> String {
    // Of a name space of its own: a digest of nothing else.
    let space = Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"migpool.dev");
    let mut text = Uuid::new_v5(&space, path.as_bytes()).simple().to_string();
    text.truncate(digits);
    text
}

/// The objects' schema.
#[derive(schemars::JsonSchema)]
#[expect(dead_code, reason = "the schema of what objects have beside metadata")]
struct Shape {
    spec: RecordSpec,
    #[serde(default)]
    status: RecordStatus,
}

/// The `CustomResourceDefinition` of a kind.
///
/// # Errors
/// If the schema is none.
pub fn definition(kind: RecordKind) -> Result<CustomResourceDefinition, serde_json::Error> {
    let generator = schemars::generate::SchemaSettings::openapi3()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .with_transform(schemars::transform::AddNullable::default())
        .with_transform(StructuralSchemaRewriter)
        .into_generator();
    let mut schema = serde_json::to_value(generator.into_root_schema_for::<Shape>())?;
    schema["title"] = kind.name.into();
    schema["description"] = "What migpool keeps for clients of Azure Resource Manager.".into();
    let columns = kind.columns.iter().copied();
    let mut columns: Vec<Value> = columns
        .map(|(name, path)| {
            let rank = i32::from(name == "Message");
            json!({"name": name, "type": "string", "jsonPath": path, "priority": rank})
        })
        .collect();
    columns.push(json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}));
    serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.migpool.dev", kind.plural)},
        "spec": {
            "group": "migpool.dev",
            "names": {
                "categories": ["migpool-arm"],
                "kind": kind.name,
                "plural": kind.plural,
                "shortNames": [kind.short],
                "singular": kind.name.to_ascii_lowercase(),
            },
            "scope": "Cluster",
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": schema},
                "additionalPrinterColumns": columns,
            }],
        },
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_kubernetes_does_not_have_get_one_that_it_has() {
        let name = name_of("0/My.Group_(1)");
        assert!(name.starts_with("my-group--1-"), "{name}");
        assert!(name_of("0/...").starts_with("x-"));
        assert_ne!(name_of("0/a.b"), name_of("0/a_b"));
        assert_eq!(name_of("0/a.b"), name_of("0/a.b"));
    }

    proptest! {
        #[test]
        fn every_name_is_a_dns_label(path in "[a-z0-9]{0,5}/[-a-zA-Z0-9._()]{0,90}") {
            let name = name_of(&path);
            prop_assert!(name.len() <= 63);
            let is_label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            prop_assert!(name.chars().all(is_label), "{}", name);
            prop_assert!(!name.starts_with('-') && !name.ends_with('-'));
        }
    }
}

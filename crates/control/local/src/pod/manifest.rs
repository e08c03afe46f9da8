//! Pod manifests: the fields of `v1` Pod that a plain process can honour. Any other field is refused
//! by its path, because a field that is silently ignored is a promise broken.

mod check;
mod expand;
mod quantity;

use std::collections::BTreeMap;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use crate::pod::container::RestartPolicy;
use check::check;
use expand::expand;

pub use quantity::{NotAQuantity, Quantity};

/// A Pod as a person wrote it; checked by [`parse`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// `v1`.
    pub api_version: String,
    /// `Pod`.
    pub kind: String,
    /// What it is called.
    #[serde(default)]
    pub metadata: Metadata,
    /// What it runs.
    pub spec: PodSpec,
}

/// A pod's name and notes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Labels, kept and given back.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Annotations, kept and given back.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

/// What a pod runs and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSpec {
    /// Its containers.
    pub containers: Vec<Container>,
    /// Whether they are started again.
    #[serde(default)]
    pub restart_policy: RestartPolicy,
    /// The only node it may run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Labels that its node must have.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that it tolerates.
    #[serde(default)]
    pub tolerations: Vec<Toleration>,
    /// Seconds between the request to end and the kill.
    #[serde(default = "default_grace")]
    pub termination_grace_period_seconds: u64,
}

fn default_grace() -> u64 {
    30
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its image: kept, never pulled.
    #[serde(default)]
    pub image: String,
    /// Accepted, since nothing is pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// The program and its first arguments.
    #[serde(default)]
    pub command: Vec<String>,
    /// More arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its environment, over what the node gives.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// The folder it starts in, of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// What it needs.
    #[serde(default)]
    pub resources: Resources,
}

/// When an image would be pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImagePullPolicy {
    /// At every start.
    Always,
    /// Where it is missing.
    IfNotPresent,
    /// Never.
    Never,
}

/// One variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value, in which `$(NAME)` stands for an earlier variable.
    #[serde(default)]
    pub value: String,
}

/// What a container needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// At most.
    #[serde(default)]
    pub limits: BTreeMap<String, Quantity>,
    /// At least.
    #[serde(default)]
    pub requests: BTreeMap<String, Quantity>,
}

/// A taint that a pod tolerates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Toleration {
    /// The taint's key; all keys when it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How the value is compared.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// The taint's value.
    #[serde(default)]
    pub value: String,
    /// The taint's effect; all effects when it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<pool::TaintEffect>,
}

/// How a toleration's value is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TolerationOperator {
    /// It must be equal.
    #[default]
    Equal,
    /// It does not matter.
    Exists,
}

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is not YAML, or not shaped as a Pod; the text has the place.
    #[error("manifest: {0}")]
    Syntax(String),
    /// It holds no document, or more than one.
    #[error("manifest: holds {0} documents where one Pod is expected")]
    Documents(usize),
    /// A field's value cannot be honoured.
    #[error("manifest: {path}: {reason}")]
    Field {
        /// The field's path, such as `spec.containers[0].command`.
        path: String,
        /// What is wrong with it and what is allowed.
        reason: String,
    },
}

/// A document whose errors name the field by its path.
struct WithPath(Manifest);

impl<'de> Deserialize<'de> for WithPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_path_to_error::deserialize(deserializer)
            .map(Self)
            .map_err(|error| {
                let path = error.path().to_string();
                let mut reason = error.into_inner().to_string();
                if reason.contains("unknown field") {
                    reason
                        .push_str("; plain processes on this machine cannot honour it: remove it");
                }
                // A path of "." is the document itself, where only the place says more.
                let text = if path == "." {
                    reason
                } else {
                    format!("{path}: {reason}")
                };
                de::Error::custom(text)
            })
    }
}

/// Reads every Pod of a file and checks it. JSON is YAML, so it is read too.
///
/// # Errors
/// When the text is not YAML (line and column are in the message), or a field cannot be honoured
/// (its path is).
pub fn parse_all(text: &str) -> Result<Vec<Manifest>, ManifestError> {
    let options = serde_saphyr::options! { with_snippet: false };
    let documents: Vec<WithPath> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| ManifestError::Syntax(error.to_string()))?;
    for document in &documents {
        check(&document.0)?;
    }
    Ok(documents.into_iter().map(|document| document.0).collect())
}

/// One Pod of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its name.
    pub name: String,
    /// The Pod alone, as JSON.
    pub text: String,
}

/// Reads and checks every Pod of a file, and gives each back as a manifest of its own.
///
/// # Errors
/// As [`parse_all`], and when there is none.
pub fn documents(text: &str) -> Result<Vec<Document>, ManifestError> {
    let manifests = parse_all(text)?;
    if manifests.is_empty() {
        return Err(ManifestError::Documents(0));
    }
    let document = |manifest: Manifest| {
        let text = serde_json::to_string(&manifest)
            .map_err(|error| ManifestError::Syntax(error.to_string()))?;
        Ok(Document {
            name: manifest.metadata.name,
            text,
        })
    };
    manifests.into_iter().map(document).collect()
}

/// Reads the one Pod of a manifest and checks it.
///
/// # Errors
/// As [`parse_all`], and when there is not exactly one document.
pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
    let mut all = parse_all(text)?;
    match (all.pop(), all.len()) {
        (Some(manifest), 0) => Ok(manifest),
        (None, _) => Err(ManifestError::Documents(0)),
        (Some(_), more) => Err(ManifestError::Documents(more + 1)),
    }
}

impl Container {
    /// The devices it asks for, by resource.
    #[must_use]
    pub fn devices(&self) -> BTreeMap<String, u64> {
        let counts = self.resources.limits.iter();
        counts
            .filter_map(|(name, limit)| Some((name.clone(), limit.whole()?)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// Its command and environment with every `$(NAME)` expanded as Kubernetes does: from `given`
    /// and the variables before it; an unknown name is left as it is written, `$$` is `$`.
    #[must_use]
    pub fn expanded(
        &self,
        given: &BTreeMap<String, String>,
    ) -> (Vec<String>, BTreeMap<String, String>) {
        let mut environment = given.clone();
        for variable in &self.env {
            let value = expand(&variable.value, &environment);
            environment.insert(variable.name.clone(), value);
        }
        let words = self.command.iter().chain(&self.args);
        let command = words.map(|word| expand(word, &environment)).collect();
        (command, environment)
    }
}

impl Manifest {
    /// What the pod needs of a node, in the scheduler's units: `cpu` in thousandths, `memory` in
    /// bytes, devices by number.
    #[must_use]
    pub fn requests(&self) -> BTreeMap<String, u64> {
        let mut total: BTreeMap<String, u64> = BTreeMap::new();
        let mut add = |name: &str, amount: u64| {
            let sum = total.entry(name.to_owned()).or_default();
            *sum = sum.saturating_add(amount);
        };
        for container in &self.spec.containers {
            for (name, count) in container.devices() {
                add(&name, count);
            }
            for (name, request) in &container.resources.requests {
                let millis = request.millis().unwrap_or_default();
                match name.as_str() {
                    "cpu" => add(name, u64::try_from(millis).unwrap_or(u64::MAX)),
                    "memory" => {
                        add(
                            name,
                            u64::try_from(millis.div_ceil(1000)).unwrap_or(u64::MAX),
                        );
                    }
                    _ => {}
                }
            }
        }
        total
    }
}

#[cfg(test)]
mod tests;

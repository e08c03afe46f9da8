//! Pod manifests: the fields of `v1` Pod that a plain process can honour. Any other field is refused
//! by its path, because a field that is silently ignored is a promise broken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use crate::pod::container::RestartPolicy;

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

/// An amount in Kubernetes' notation: `1`, `"500m"`, `"2Gi"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(String);

impl Quantity {
    /// The amount in thousandths of the unit; `None` when it is not a quantity.
    #[must_use]
    pub fn millis(&self) -> Option<u128> {
        let text = self.0.as_str();
        let split = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at_checked(split)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        // In units of 10^-6 of a thousandth, so that nothing of six decimals is lost.
        let fraction = format!("{fraction:0<9}");
        let nanos = format!("{whole}{}", fraction.get(..9)?)
            .parse::<u128>()
            .ok()?;
        let unit: u128 = match suffix {
            "m" => return Some(nanos.div_ceil(1_000_000_000)),
            "" => 1,
            "k" => 1000,
            "M" => 1000_u128.pow(2),
            "G" => 1000_u128.pow(3),
            "T" => 1000_u128.pow(4),
            "P" => 1000_u128.pow(5),
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            "Pi" => 1 << 50,
            _ => return None,
        };
        Some(nanos.checked_mul(unit)?.div_ceil(1_000_000))
    }

    /// The amount when it is a whole number.
    #[must_use]
    pub fn whole(&self) -> Option<u64> {
        let millis = self.millis()?;
        (millis % 1000 == 0)
            .then(|| u64::try_from(millis / 1000).ok())
            .flatten()
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 1, 500m or 2Gi")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Quantity, E> {
                Ok(Quantity(value.to_string()))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Quantity, E> {
                self.visit_str(&value.to_string())
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Quantity, E> {
                self.visit_str(&value.to_string())
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Quantity, E> {
                let quantity = Quantity(value.to_owned());
                match quantity.millis() {
                    Some(_) => Ok(quantity),
                    None => Err(E::custom(format!(
                        "{value:?} is not a quantity: write a number such as 1, 500m or 2Gi"
                    ))),
                }
            }
        }
        deserializer.deserialize_any(Any)
    }
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

fn field(path: impl Into<String>, reason: impl Into<String>) -> ManifestError {
    ManifestError::Field {
        path: path.into(),
        reason: reason.into(),
    }
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

fn check(manifest: &Manifest) -> Result<(), ManifestError> {
    if manifest.api_version != "v1" || manifest.kind != "Pod" {
        let found = format!("{} {}", manifest.api_version, manifest.kind);
        return Err(field(
            "kind",
            format!("is {found}: local nodes run v1 Pod alone"),
        ));
    }
    let name = &manifest.metadata.name;
    if name.is_empty() {
        return Err(field("metadata.name", "is missing"));
    }
    if name.len() > 253 || !name.split('.').all(is_dns_label) {
        let rule = "use at most 253 lower-case letters, digits, '-' and '.'";
        return Err(field(
            "metadata.name",
            format!("{name:?} is not a DNS subdomain: {rule}"),
        ));
    }
    if !is_dns_label(&manifest.metadata.namespace) {
        let namespace = &manifest.metadata.namespace;
        return Err(field(
            "metadata.namespace",
            format!("{namespace:?} is not a DNS label"),
        ));
    }
    if manifest.spec.containers.is_empty() {
        return Err(field(
            "spec.containers",
            "is empty: name at least one container",
        ));
    }
    let mut names = BTreeSet::new();
    for (index, container) in manifest.spec.containers.iter().enumerate() {
        let path = format!("spec.containers[{index}]");
        check_container(&path, container)?;
        if !names.insert(&container.name) {
            let reason = format!("{:?} is the name of two containers", container.name);
            return Err(field(format!("{path}.name"), reason));
        }
    }
    Ok(())
}

fn check_container(path: &str, container: &Container) -> Result<(), ManifestError> {
    if !is_dns_label(&container.name) {
        let reason = format!(
            "{:?} is not a DNS label of at most 63 characters",
            container.name
        );
        return Err(field(format!("{path}.name"), reason));
    }
    if container.command.first().is_none_or(String::is_empty) {
        let reason = "is missing: local nodes do not pull images, so the image's own entrypoint is \
                      unknown; say which program to run, for example [\"sleep\", \"infinity\"]";
        return Err(field(format!("{path}.command"), reason));
    }
    let words = container.command.iter().chain(&container.args);
    if words.into_iter().any(|word| word.contains('\0')) {
        return Err(field(format!("{path}.command"), "holds a NUL character"));
    }
    if let Some(dir) = &container.working_dir
        && !dir.starts_with('/')
    {
        let reason = format!("{dir:?} is relative: use an absolute path of this machine");
        return Err(field(format!("{path}.workingDir"), reason));
    }
    for (index, variable) in container.env.iter().enumerate() {
        let bad = variable.name.is_empty() || variable.name.contains(['=', '\0']);
        if bad || variable.value.contains('\0') {
            let reason = format!("{:?} cannot be a variable", variable.name);
            return Err(field(format!("{path}.env[{index}]"), reason));
        }
    }
    check_resources(&format!("{path}.resources"), &container.resources)
}

fn check_resources(path: &str, resources: &Resources) -> Result<(), ManifestError> {
    for (name, limit) in &resources.limits {
        let path = format!("{path}.limits[{name}]");
        if !is_extended(name) {
            let reason = "a plain process cannot be held to it: remove it, or ask with requests";
            return Err(field(path, reason));
        }
        if limit.whole().is_none() {
            return Err(field(
                path,
                format!("{limit} is not a whole number of devices"),
            ));
        }
        if resources
            .requests
            .get(name)
            .is_some_and(|request| request.whole() != limit.whole())
        {
            return Err(field(
                path,
                "must be equal to requests for an extended resource",
            ));
        }
    }
    for name in resources.requests.keys() {
        let path = format!("{path}.requests[{name}]");
        if is_extended(name) {
            if !resources.limits.contains_key(name) {
                return Err(field(
                    path,
                    "an extended resource must be set in limits too",
                ));
            }
        } else if !matches!(name.as_str(), "cpu" | "memory") {
            let reason = "local nodes know cpu, memory and the resources of device plugins";
            return Err(field(path, reason));
        }
    }
    Ok(())
}

/// A resource of a device plugin: its name has a domain.
fn is_extended(name: &str) -> bool {
    name.contains('/')
}

fn is_dns_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty()
        && text.len() <= 63
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
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

fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .and_then(|named| named.split_once(')'))
            && let Some(value) = variables.get(name)
        {
            expanded.push_str(value);
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    expanded
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
#[path = "manifest_tests.rs"]
mod tests;

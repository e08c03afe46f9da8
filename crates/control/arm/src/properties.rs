//! The properties of an agent pool: from JSON, and to JSON.
//!
//! Every field of AKS is known by name. Those that mean something here are read; the others are kept and given back; those that
//! only the server writes are passed over, so that the whole body of a GET can be PUT back. Names of fields compare without case.

mod gpu_profile;
mod kept;

use schemars::Schema;
use serde_json::{Map, Value, json};

use mig::GpuInstanceProfile;
use pool::validation::{self, NodePoolInput};
use pool::{Invalid, NodePool, NodePoolSpec, PoolMode, PowerState, Stored, Versions, VmSize};

use crate::api_version::ApiVersion;
use crate::body::{texts, wrong_type};
use crate::error::ArmError;
use crate::etag;
use crate::types::{AgentPoolProperties, Power};

/// Completes the schema of a pool's properties: with the fields that are kept, and with what some others can be.
pub(crate) fn describe(schema: &mut Schema) {
    let Some(Value::Object(fields)) = schema.get_mut("properties") else {
        return;
    };
    for (field, kind) in kept::KEPT {
        let described = json!({ "type": kind.json_type(), "description": "Kept and given back." });
        fields.entry(*field).or_insert(described);
    }
    let mut suggest = |field: &str, examples: Value| {
        if let Some(described) = fields.get_mut(field) {
            described["examples"] = examples;
        }
    };
    suggest(
        "vmSize",
        VmSize::all().iter().map(|size| size.name).collect(),
    );
    let profiles = GpuInstanceProfile::ALL.iter();
    suggest(
        "gpuInstanceProfile",
        profiles.map(|profile| profile.as_str()).collect(),
    );
    let modes = [PoolMode::System, PoolMode::User];
    suggest("mode", modes.iter().map(ToString::to_string).collect());
    if let Some(count) = fields.get_mut("count") {
        count["minimum"] = json!(0);
        count["maximum"] = json!(validation::MAX_COUNT);
    }
}

/// What was asked of a pool, and what the person should know about how it was read.
pub(crate) struct Asked {
    pub(crate) input: NodePoolInput,
    pub(crate) warnings: Vec<String>,
}

/// What a pool is in.
#[derive(Clone, Copy)]
pub(crate) struct Within<'a> {
    /// Its cluster's power: a pool runs only if its cluster does.
    pub(crate) cluster: PowerState,
    /// What all nodes run.
    pub(crate) versions: &'a Versions,
}

/// Fields that only the server writes.
const READ_ONLY: &[&str] = &[
    "currentOrchestratorVersion",
    "eTag",
    "nodeImageVersion",
    "provisioningMessage",
    "provisioningState",
    "status",
];

/// It is read here, but what it may be is only known with the backend at hand.
const ORCHESTRATOR_VERSION: &str = "orchestratorVersion";

const IGNORED_PROFILE: &str = "api-version VERSION does not know gpuInstanceProfile, so it was ignored, as Azure does: the node pool is made without MIG, and one that is there already keeps what it has. Use 2021-08-01 or later.";

/// Reads the properties of an agent pool.
///
/// # Errors
/// If a field is unknown to an api-version that refuses unknown fields, is of the wrong type, or asks for what can't be had here.
pub(crate) fn read(
    properties: Map<String, Value>,
    version: &ApiVersion,
) -> Result<Asked, ArmError> {
    let mut input = NodePoolInput::default();
    let mut warnings = Vec::new();
    for (name, value) in properties {
        if value.is_null() {
            continue;
        }
        let is = |field: &str| name.eq_ignore_ascii_case(field);
        if is("count") {
            input.count = Some(integer("count", &value)?);
        } else if is("vmSize") {
            input.vm_size = Some(text("vmSize", value)?);
        } else if is("gpuInstanceProfile") {
            let profile = text("gpuInstanceProfile", value)?;
            if version.knows_gpu_instance_profile() {
                input.gpu_instance_profile = Some(profile);
            } else if !profile.is_empty() {
                warnings.push(IGNORED_PROFILE.replace("VERSION", &version.to_string()));
            }
        } else if is("layouts") {
            input.layouts = Some(text("layouts", value)?);
        } else if is("mode") {
            input.mode = Some(text("mode", value)?);
        } else if is("powerState") {
            input.power = power(value)?;
        } else if is("enableAutoScaling") {
            input.auto_scaling.enabled = Some(flag("enableAutoScaling", &value)?);
        } else if is("minCount") {
            input.auto_scaling.min_count = Some(integer("minCount", &value)?);
        } else if is("maxCount") {
            input.auto_scaling.max_count = Some(integer("maxCount", &value)?);
        } else if is(gpu_profile::FIELD) {
            gpu_profile::read(value, version, &mut input)?;
        } else if is("nodeLabels") {
            input.node_labels = texts("nodeLabels", object("nodeLabels", value)?)?;
        } else if is("nodeTaints") {
            input.node_taints = list("nodeTaints", value)?;
        } else if is("tags") {
            input.tags = texts("tags", object("tags", value)?)?;
        } else if let Some((field, kind)) = kept::KEPT.iter().find(|(field, _)| is(field)) {
            kept::check_kind(field, *kind, &value)?;
            input.extra.insert((*field).to_owned(), value);
        } else if version.refuses_unknown_fields() && !READ_ONLY.iter().any(|field| is(field)) {
            return Err(ArmError::unmarshal(&format!("unknown field {name:?}")));
        }
    }
    kept::refuse_what_cannot_be(&input.extra)?;
    Ok(Asked { input, warnings })
}

/// What a pool is to be: a new one, or a change of one that is there.
///
/// # Errors
/// What is wrong with what was asked, and what is allowed.
pub(crate) fn spec(
    input: &NodePoolInput,
    existing: Option<&NodePoolSpec>,
    versions: &Versions,
) -> Result<NodePoolSpec, Invalid> {
    let mut input = input.clone();
    let version = input.extra.remove(ORCHESTRATOR_VERSION);
    if let Some(asked) = version.as_ref().and_then(Value::as_str)
        && !asked.is_empty()
        && !versions.is_kubernetes(asked)
    {
        return Err(Invalid::parameter(
            "agentPoolProfile.orchestratorVersion",
            format!(
                "Version '{asked}' of Kubernetes can't be had here: every node runs {}, and node pools are not upgraded by themselves. Use that version, or leave it away.",
                versions.kubernetes
            ),
        ));
    }
    let before = existing.map(|spec| &spec.extra);
    gpu_profile::settle(&mut input.extra, before)?;
    input.extra = kept::settle(input.extra, before)?;
    let spec = validation::node_pool(&input, existing)?;
    kept::check_together(&spec)?;
    Ok(spec)
}

/// `{"code": "Running"}`.
fn power(value: Value) -> Result<Option<String>, ArmError> {
    let state = object("powerState", value)?;
    let code = state
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("code"));
    match code {
        Some((_, code)) if !code.is_null() => text("powerState.code", code).map(Some),
        _ => Ok(None),
    }
}

fn text(field: &str, value: Value) -> Result<String, ArmError> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong_type(field, &other, "string")),
    }
}

fn integer(field: &str, value: &Value) -> Result<i64, ArmError> {
    value
        .as_i64()
        .ok_or_else(|| wrong_type(field, value, "int32"))
}

fn flag(field: &str, value: &Value) -> Result<bool, ArmError> {
    value
        .as_bool()
        .ok_or_else(|| wrong_type(field, value, "bool"))
}

fn object(field: &str, value: Value) -> Result<Map<String, Value>, ArmError> {
    match value {
        Value::Object(object) => Ok(object),
        other => Err(wrong_type(field, &other, "object")),
    }
}

pub(crate) fn list(field: &str, value: Value) -> Result<Vec<String>, ArmError> {
    match value {
        Value::Array(items) => items.into_iter().map(|item| text(field, item)).collect(),
        other => Err(wrong_type(field, &other, "array")),
    }
}

/// Writes the properties of an agent pool.
pub(crate) fn write(stored: &Stored<NodePool>, within: Within<'_>) -> AgentPoolProperties {
    let extra = &stored.record.spec.extra;
    let shown = extra.iter().filter(|(name, _)| is_shown(name));
    let extra = shown.map(|(name, value)| (name.clone(), value.clone()));
    AgentPoolProperties {
        extra: extra.collect(),
        ..write_known(stored, within)
    }
}

/// The same of a pool that nobody needs any more: the fields that are kept are not copied.
pub(crate) fn write_last(mut stored: Stored<NodePool>, within: Within<'_>) -> AgentPoolProperties {
    let known = write_known(&stored, within);
    let mut extra = std::mem::take(&mut stored.record.spec.extra);
    extra.retain(|name, _| is_shown(name));
    AgentPoolProperties { extra, ..known }
}

fn write_known(stored: &Stored<NodePool>, within: Within<'_>) -> AgentPoolProperties {
    let pool = &stored.record;
    let spec = &pool.spec;
    let scaling = spec.auto_scaling;
    AgentPoolProperties {
        count: Some(i64::from(spec.count)),
        vm_size: Some(spec.vm_size().to_owned()),
        gpu_instance_profile: spec.gpu_instance_profile.map(|profile| profile.to_string()),
        layouts: spec.layouts.as_ref().map(ToString::to_string),
        gpu_profile: gpu_profile::write(spec),
        mode: Some(spec.mode.to_string()),
        power_state: Some(Power {
            code: Some(spec.power.within(within.cluster).to_string()),
        }),
        enable_auto_scaling: Some(scaling.is_some()),
        min_count: scaling.map(|it| i64::from(it.min_count)),
        max_count: scaling.map(|it| i64::from(it.max_count)),
        node_labels: some(spec.node_labels.clone(), spec.node_labels.is_empty()),
        node_taints: some(
            spec.node_taints.iter().map(ToString::to_string).collect(),
            spec.node_taints.is_empty(),
        ),
        tags: some(spec.tags.clone(), spec.tags.is_empty()),
        orchestrator_version: Some(within.versions.kubernetes.clone()),
        current_orchestrator_version: Some(within.versions.kubernetes.clone()),
        node_image_version: Some(within.versions.node_image.clone()),
        provisioning_state: Some(pool.provisioning_state.to_string()),
        provisioning_message: some(pool.message.clone(), pool.message.is_empty()),
        e_tag: Some(etag::of(stored.revision)),
        extra: Map::new(),
    }
}

/// Whether a field that is kept is written as it is, and not from what it means.
fn is_shown(name: &str) -> bool {
    kept::is_kept(name) && name != ORCHESTRATOR_VERSION
}

fn some<T>(value: T, empty: bool) -> Option<T> {
    (!empty).then_some(value)
}

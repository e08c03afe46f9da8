//! The properties of an agent pool: from JSON, and to JSON.
//!
//! Every field of AKS is known by name. Those that mean something here are read; the others are kept and given back; those that
//! only the server writes are passed over, so that the whole body of a GET can be PUT back. Names of fields compare without case.

use serde_json::{Map, Value, json};

use pool::validation::NodePoolInput;
use pool::{Invalid, NodePool, NodePoolSpec, Stored};

use crate::api_version::ApiVersion;
use crate::body::{texts, wrong_type};
use crate::error::ArmError;
use crate::etag;
use crate::types::{AgentPoolProperties, GpuProfile, NvidiaProfile};

/// What was asked of a pool, and what the person should know about how it was read.
pub(crate) struct Asked {
    pub(crate) input: NodePoolInput,
    pub(crate) warnings: Vec<String>,
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

/// Fields that mean nothing here.
const KEPT: &[&str] = &[
    "artifactStreamingProfile",
    "availabilityZones",
    "capacityReservationGroupID",
    "creationData",
    "enableAutoScaling",
    "enableCustomCATrust",
    "enableEncryptionAtHost",
    "enableFIPS",
    "enableNodePublicIP",
    "enableUltraSSD",
    "gatewayProfile",
    "hostGroupID",
    "kubeletConfig",
    "kubeletDiskType",
    "linuxOSConfig",
    "localDNSProfile",
    "maxCount",
    "maxPods",
    "messageOfTheDay",
    "minCount",
    "networkProfile",
    "nodeCustomizationProfile",
    "nodeInitializationTaints",
    "nodePublicIPPrefixID",
    "nodePublicIPTags",
    "orchestratorVersion",
    "osDiskSizeGB",
    "osDiskType",
    "osSKU",
    "osType",
    "podIPAllocationMode",
    "podSubnetID",
    "powerState",
    "proximityPlacementGroupID",
    "scaleDownMode",
    "scaleSetEvictionPolicy",
    "scaleSetPriority",
    "securityProfile",
    "spotMaxPrice",
    "type",
    "upgradeSettings",
    "upgradeSettingsBlueGreen",
    "upgradeStrategy",
    "virtualMachineNodesStatus",
    "virtualMachinesProfile",
    "vnetSubnetID",
    "windowsProfile",
    "workloadRuntime",
];

const IGNORED_PROFILE: &str = "api-version VERSION does not know gpuInstanceProfile, so it was ignored, as Azure does: the node pool is made without MIG. Use 2021-08-01 or later.";

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
        } else if is("gpuProfile") {
            read_gpu_profile(value, &mut input)?;
        } else if is("nodeLabels") {
            input.node_labels = texts("nodeLabels", object("nodeLabels", value)?)?;
        } else if is("nodeTaints") {
            input.node_taints = list("nodeTaints", value)?;
        } else if is("tags") {
            input.tags = texts("tags", object("tags", value)?)?;
        } else if let Some(field) = KEPT.iter().find(|field| is(field)) {
            input.extra.insert((*field).to_owned(), value);
        } else if version.refuses_unknown_fields() && !READ_ONLY.iter().any(|field| is(field)) {
            return Err(ArmError::unmarshal(&format!("unknown field {name:?}")));
        }
    }
    refuse_what_cannot_be(&input.extra)?;
    fill_in(&mut input.extra);
    Ok(Asked { input, warnings })
}

fn read_gpu_profile(value: Value, input: &mut NodePoolInput) -> Result<(), ArmError> {
    let mut profile = object("gpuProfile", value)?;
    if let Some(nvidia) = profile.remove("nvidia").filter(|nvidia| !nvidia.is_null()) {
        let mut nvidia = object("gpuProfile.nvidia", nvidia)?;
        if let Some(strategy) = nvidia
            .remove("migStrategy")
            .filter(|value| !value.is_null())
        {
            input.mig_strategy = Some(text("gpuProfile.nvidia.migStrategy", strategy)?);
        }
        let profiles = nvidia.get("migProfiles").and_then(Value::as_array);
        if profiles.is_some_and(|profiles| !profiles.is_empty()) {
            return Err(Invalid::parameter(
                "agentPoolProfile.gpuProfile.nvidia.migProfiles",
                "The parameter migProfiles is not known here. Use layouts, for example \"layouts\": \"3g.20gb,2g.10gb,1g.5gb*2\".",
            )
            .into());
        }
        if !nvidia.is_empty() {
            profile.insert("nvidia".to_owned(), Value::Object(nvidia));
        }
    }
    // The strategy alone is not kept twice: a body that is given back must compare equal.
    if !profile.is_empty() {
        input
            .extra
            .insert("gpuProfile".to_owned(), Value::Object(profile));
    }
    Ok(())
}

/// Of what means nothing here, some would promise what is not so.
fn refuse_what_cannot_be(extra: &Map<String, Value>) -> Result<(), Invalid> {
    let says = |value: Option<&Value>, what: &str| {
        value
            .and_then(Value::as_str)
            .is_some_and(|text| text.eq_ignore_ascii_case(what))
    };
    if says(extra.get("osType"), "Windows") {
        return Err(Invalid::parameter(
            "agentPoolProfile.osType",
            "The value 'Windows' of parameter agentPoolProfile.osType is not possible here. Use 'Linux'.",
        ));
    }
    if says(
        extra.get("powerState").and_then(|state| state.get("code")),
        "Stopped",
    ) {
        return Err(Invalid::parameter(
            "agentPoolProfile.powerState",
            "A node pool can't be stopped here. Scale it to 0 nodes instead.",
        ));
    }
    Ok(())
}

/// Puts AKS's defaults where nothing was asked: no field, an empty text, a zero.
fn fill_in(extra: &mut Map<String, Value>) {
    extra.retain(|_, value| value != "");
    for (field, default) in [
        ("enableAutoScaling", json!(false)),
        ("kubeletDiskType", json!("OS")),
        ("maxPods", json!(110)),
        ("osDiskSizeGB", json!(128)),
        ("osDiskType", json!("Managed")),
        ("osSKU", json!("Ubuntu")),
        ("osType", json!("Linux")),
        ("powerState", json!({ "code": "Running" })),
        ("scaleDownMode", json!("Delete")),
        ("type", json!("VirtualMachineScaleSets")),
    ] {
        if extra.get(field).is_none_or(|value| *value == json!(0)) {
            extra.insert(field.to_owned(), default);
        }
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

fn object(field: &str, value: Value) -> Result<Map<String, Value>, ArmError> {
    match value {
        Value::Object(object) => Ok(object),
        other => Err(wrong_type(field, &other, "object")),
    }
}

fn list(field: &str, value: Value) -> Result<Vec<String>, ArmError> {
    match value {
        Value::Array(items) => items.into_iter().map(|item| text(field, item)).collect(),
        other => Err(wrong_type(field, &other, "array")),
    }
}

/// Writes the properties of an agent pool.
pub(crate) fn write(stored: &Stored<NodePool>) -> AgentPoolProperties {
    let pool = &stored.record;
    let spec = &pool.spec;
    let mut extra = spec.extra.clone();
    let kept = extra.remove("gpuProfile");
    AgentPoolProperties {
        count: Some(i64::from(spec.count)),
        vm_size: Some(spec.vm_size().to_owned()),
        gpu_instance_profile: spec.gpu_instance_profile.map(|profile| profile.to_string()),
        layouts: spec.layouts.as_ref().map(ToString::to_string),
        gpu_profile: gpu_profile(spec, kept),
        mode: Some(spec.mode.to_string()),
        node_labels: some(spec.node_labels.clone(), spec.node_labels.is_empty()),
        node_taints: some(
            spec.node_taints.iter().map(ToString::to_string).collect(),
            spec.node_taints.is_empty(),
        ),
        tags: some(spec.tags.clone(), spec.tags.is_empty()),
        provisioning_state: Some(pool.provisioning_state.to_string()),
        provisioning_message: some(pool.message.clone(), pool.message.is_empty()),
        e_tag: Some(etag::of(stored.revision)),
        extra,
    }
}

/// What was kept, with the strategy for pools that have slices to show.
fn gpu_profile(spec: &NodePoolSpec, kept: Option<Value>) -> Option<GpuProfile> {
    let sliced = spec.node_layout().is_some();
    if !sliced && kept.is_none() && spec.mig_strategy == mig::MigStrategy::Single {
        return None;
    }
    let kept = kept.unwrap_or_else(|| json!({}));
    let mut profile: GpuProfile = serde_json::from_value(kept).unwrap_or_default();
    let nvidia = profile.nvidia.get_or_insert_with(NvidiaProfile::default);
    let strategy = match spec.mig_strategy {
        mig::MigStrategy::None => "None",
        mig::MigStrategy::Single => "Single",
        mig::MigStrategy::Mixed => "Mixed",
    };
    nvidia.mig_strategy = Some(strategy.to_owned());
    Some(profile)
}

fn some<T>(value: T, empty: bool) -> Option<T> {
    (!empty).then_some(value)
}

//! `gpuProfile`: the MIG strategy and profiles mean something here, the rest is checked, kept and given back.

use serde_json::{Map, Value, json};

use pool::validation::NodePoolInput;
use pool::{Invalid, NodePoolSpec};

use super::{list, object, text};
use crate::api_version::ApiVersion;
use crate::error::ArmError;
use crate::types::{GpuProfile, NvidiaProfile};

pub(super) const FIELD: &str = "gpuProfile";
const TARGET: &str = "agentPoolProfile.gpuProfile";

/// Reads it into `input`. Of the rest, what was asked is put into the fields that are kept.
pub(super) fn read(
    value: Value,
    version: &ApiVersion,
    input: &mut NodePoolInput,
) -> Result<(), ArmError> {
    let mut kept = Map::new();
    for (name, value) in fields(FIELD, value)? {
        let is = |field: &str| name.eq_ignore_ascii_case(field);
        if is("driver") {
            keep(&mut kept, "driver", value, &["Install", "None"])?;
        } else if is("driverType") {
            let driver_type = text("gpuProfile.driverType", value)?;
            if !driver_type.is_empty() {
                return Err(refused(
                    "driverType",
                    "The parameter driverType is for Windows. Leave it away.",
                ));
            }
        } else if is("nvidia") {
            let nvidia = read_nvidia(value, version, input)?;
            if !nvidia.is_empty() {
                kept.insert("nvidia".to_owned(), Value::Object(nvidia));
            }
        } else if version.refuses_unknown_fields() {
            return Err(ArmError::unmarshal(&format!("unknown field {name:?}")));
        }
    }
    if !kept.is_empty() {
        input.extra.insert(FIELD.to_owned(), Value::Object(kept));
    }
    Ok(())
}

fn read_nvidia(
    value: Value,
    version: &ApiVersion,
    input: &mut NodePoolInput,
) -> Result<Map<String, Value>, ArmError> {
    let mut kept = Map::new();
    for (name, value) in fields("gpuProfile.nvidia", value)? {
        let is = |field: &str| name.eq_ignore_ascii_case(field);
        if is("migStrategy") {
            input.mig_strategy = Some(text("gpuProfile.nvidia.migStrategy", value)?);
        } else if is("migProfiles") {
            input.mig_profiles = list("gpuProfile.nvidia.migProfiles", value)?;
        } else if is("managementMode") {
            keep(
                &mut kept,
                "managementMode",
                value,
                &["Unmanaged", "Managed"],
            )?;
        } else if is("driverMode") {
            // Devices are handed out by the device plugin alone.
            keep(&mut kept, "driverMode", value, &["DevicePlugin"])?;
        } else if version.refuses_unknown_fields() {
            return Err(ArmError::unmarshal(&format!("unknown field {name:?}")));
        }
    }
    Ok(kept)
}

/// The fields of an object that are there.
fn fields(field: &str, value: Value) -> Result<impl Iterator<Item = (String, Value)>, ArmError> {
    let fields = object(field, value)?.into_iter();
    Ok(fields.filter(|(_, value)| !value.is_null()))
}

/// Keeps one of a few words, as AKS spells it.
fn keep(
    kept: &mut Map<String, Value>,
    field: &str,
    value: Value,
    allowed: &[&str],
) -> Result<(), ArmError> {
    let asked = text(&format!("gpuProfile.{field}"), value)?;
    if asked.is_empty() {
        return Ok(());
    }
    let Some(word) = allowed.iter().find(|it| it.eq_ignore_ascii_case(&asked)) else {
        let allowed: Vec<String> = allowed.iter().map(|it| format!("'{it}'")).collect();
        return Err(refused(
            field,
            &format!(
                "The value '{asked}' of parameter {TARGET}.{field} is not possible here. Use {}.",
                allowed.join(" or ")
            ),
        ));
    };
    kept.insert(field.to_owned(), json!(word));
    Ok(())
}

fn refused(field: &str, message: &str) -> ArmError {
    Invalid::parameter(&format!("{TARGET}.{field}"), message).into()
}

/// What is kept of it: what was asked, and for the rest what was kept before.
///
/// # Errors
/// If another driver is asked for.
pub(super) fn settle(
    extra: &mut Map<String, Value>,
    existing: Option<&Map<String, Value>>,
) -> Result<(), Invalid> {
    let Some(before) = existing.map(|kept| kept.get(FIELD).unwrap_or(&Value::Null)) else {
        return Ok(());
    };
    let asked = extra.remove(FIELD).unwrap_or_else(|| json!({}));
    let one = |from: &Value, pointer: &str| from.pointer(pointer).cloned();
    let driver = |from: &Value| one(from, "/driver");
    let install = json!("Install");
    if driver(&asked).is_some_and(|it| it != driver(before).unwrap_or_else(|| install.clone())) {
        return Err(Invalid::immutable(
            "properties.gpuProfile.driver",
            "Add another node pool with the one that is wanted, and delete this one.",
        ));
    }
    let mut kept = Map::new();
    let mut nvidia = Map::new();
    if let Some(value) = driver(&asked).or_else(|| driver(before)) {
        kept.insert("driver".to_owned(), value);
    }
    for field in ["managementMode", "driverMode"] {
        let pointer = format!("/nvidia/{field}");
        if let Some(value) = one(&asked, &pointer).or_else(|| one(before, &pointer)) {
            nvidia.insert(field.to_owned(), value);
        }
    }
    if !nvidia.is_empty() {
        kept.insert("nvidia".to_owned(), Value::Object(nvidia));
    }
    if !kept.is_empty() {
        extra.insert(FIELD.to_owned(), Value::Object(kept));
    }
    Ok(())
}

/// What was kept, with the strategy for pools that have slices to show.
pub(super) fn write(spec: &NodePoolSpec) -> Option<GpuProfile> {
    let kept = spec.extra.get(FIELD).cloned();
    let sliced = spec.is_sliced();
    if !sliced && kept.is_none() && spec.mig_strategy == mig::MigStrategy::Single {
        return None;
    }
    let mut profile: GpuProfile = kept
        .and_then(|kept| serde_json::from_value(kept).ok())
        .unwrap_or_default();
    let nvidia = profile.nvidia.get_or_insert_with(NvidiaProfile::default);
    let strategy = match spec.mig_strategy {
        mig::MigStrategy::None => "None",
        mig::MigStrategy::Single => "Single",
        mig::MigStrategy::Mixed => "Mixed",
    };
    nvidia.mig_strategy = Some(strategy.to_owned());
    let profiles: Vec<String> = spec.mig_profiles.iter().map(ToString::to_string).collect();
    nvidia.mig_profiles = (!profiles.is_empty()).then_some(profiles);
    Some(profile)
}

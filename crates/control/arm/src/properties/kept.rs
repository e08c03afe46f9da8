//! The fields of an agent pool that mean nothing here: they are checked as far as AKS would, kept, and given back.

use serde_json::{Map, Value, json};

use pool::{Invalid, NodePoolSpec, PoolMode};

use crate::body::wrong_type;
use crate::error::ArmError;

/// What a field's value is.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    Flag,
    Whole,
    Number,
    List,
    Object,
}

impl Kind {
    /// The type's name in a JSON Schema.
    pub(super) fn json_type(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Flag => "boolean",
            Self::Whole => "integer",
            Self::Number => "number",
            Self::List => "array",
            Self::Object => "object",
        }
    }
}

/// Fields that mean nothing here, in order. `gpuProfile` is read by itself, and only what is left of it is kept.
pub(super) const KEPT: &[(&str, Kind)] = &[
    ("artifactStreamingProfile", Kind::Object),
    ("availabilityZones", Kind::List),
    ("capacityReservationGroupID", Kind::Text),
    ("creationData", Kind::Object),
    ("enableCustomCATrust", Kind::Flag),
    ("enableEncryptionAtHost", Kind::Flag),
    ("enableFIPS", Kind::Flag),
    ("enableNodePublicIP", Kind::Flag),
    ("enableUltraSSD", Kind::Flag),
    ("gatewayProfile", Kind::Object),
    ("hostGroupID", Kind::Text),
    ("kubeletConfig", Kind::Object),
    ("kubeletDiskType", Kind::Text),
    ("linuxOSConfig", Kind::Object),
    ("localDNSProfile", Kind::Object),
    ("maxPods", Kind::Whole),
    ("messageOfTheDay", Kind::Text),
    ("networkProfile", Kind::Object),
    ("nodeCustomizationProfile", Kind::Object),
    ("nodeInitializationTaints", Kind::List),
    ("nodePublicIPPrefixID", Kind::Text),
    ("nodePublicIPTags", Kind::List),
    ("orchestratorVersion", Kind::Text),
    ("osDiskSizeGB", Kind::Whole),
    ("osDiskType", Kind::Text),
    ("osSKU", Kind::Text),
    ("osType", Kind::Text),
    ("podIPAllocationMode", Kind::Text),
    ("podSubnetID", Kind::Text),
    ("proximityPlacementGroupID", Kind::Text),
    ("scaleDownMode", Kind::Text),
    ("scaleSetEvictionPolicy", Kind::Text),
    ("scaleSetPriority", Kind::Text),
    ("securityProfile", Kind::Object),
    ("spotMaxPrice", Kind::Number),
    ("type", Kind::Text),
    ("upgradeSettings", Kind::Object),
    ("upgradeSettingsBlueGreen", Kind::Object),
    ("upgradeStrategy", Kind::Text),
    ("virtualMachineNodesStatus", Kind::List),
    ("virtualMachinesProfile", Kind::Object),
    ("vnetSubnetID", Kind::Text),
    ("windowsProfile", Kind::Object),
    ("workloadRuntime", Kind::Text),
];

/// Whether a field is one of them, as it is spelled.
pub(super) fn is_kept(name: &str) -> bool {
    KEPT.binary_search_by_key(&name, |(field, _)| field).is_ok()
}

/// Those that AKS does not let anybody change.
const IMMUTABLE: &[&str] = &[
    "availabilityZones",
    "enableEncryptionAtHost",
    "enableUltraSSD",
    "kubeletDiskType",
    "maxPods",
    "osDiskSizeGB",
    "osDiskType",
    "osType",
    "podSubnetID",
    "proximityPlacementGroupID",
    "scaleSetEvictionPolicy",
    "scaleSetPriority",
    "type",
    "vnetSubnetID",
];

const AGAIN: &str = "Add another node pool with the one that is wanted, and delete this one.";

/// AKS's defaults. Clients send an empty text or a zero to ask for them.
fn defaults() -> [(&'static str, Value); 8] {
    [
        ("kubeletDiskType", json!("OS")),
        ("maxPods", json!(110)),
        ("osDiskSizeGB", json!(128)),
        ("osDiskType", json!("Managed")),
        ("osSKU", json!("Ubuntu")),
        ("osType", json!("Linux")),
        ("scaleDownMode", json!("Delete")),
        ("type", json!("VirtualMachineScaleSets")),
    ]
}

/// Checks that a value is of its field's type.
pub(super) fn check_kind(field: &str, kind: Kind, value: &Value) -> Result<(), ArmError> {
    let (is, wanted) = match kind {
        Kind::Text => (value.is_string(), "string"),
        Kind::Flag => (value.is_boolean(), "bool"),
        Kind::Whole => (value.is_i64(), "int32"),
        Kind::Number => (value.is_number(), "float64"),
        Kind::List => (value.is_array(), "array"),
        Kind::Object => (value.is_object(), "object"),
    };
    if is {
        Ok(())
    } else {
        Err(wrong_type(field, value, wanted))
    }
}

/// Of what means nothing here, some would promise what is not so.
pub(super) fn refuse_what_cannot_be(asked: &Map<String, Value>) -> Result<(), Invalid> {
    let text = |field: &str| asked.get(field).and_then(Value::as_str).unwrap_or_default();
    let only = |field: &str, allowed: &[&str]| {
        let value = text(field);
        if value.is_empty() || allowed.iter().any(|it| it.eq_ignore_ascii_case(value)) {
            return Ok(());
        }
        let allowed: Vec<String> = allowed.iter().map(|it| format!("'{it}'")).collect();
        Err(Invalid::parameter(
            &format!("agentPoolProfile.{field}"),
            format!(
                "The value '{value}' of parameter agentPoolProfile.{field} is not possible here. Use {}.",
                allowed.join(" or ")
            ),
        ))
    };
    only("osType", &["Linux"])?;
    only("type", &["VirtualMachineScaleSets"])?;
    only("workloadRuntime", &["OCIContainer"])?;
    only("scaleSetPriority", &["Regular", "Spot"])?;
    only("scaleSetEvictionPolicy", &["Delete", "Deallocate"])?;
    only("scaleDownMode", &["Delete", "Deallocate"])?;
    if text("osSKU").to_ascii_lowercase().starts_with("windows") {
        only("osSKU", &["Ubuntu", "AzureLinux"])?;
    }
    let is_there = |field: &str| {
        asked
            .get(field)
            .is_some_and(|value| !is_nothing(field, value))
    };
    for (field, instead) in [
        (
            "creationData",
            "There are no snapshots of node pools here. Leave it away.",
        ),
        (
            "virtualMachinesProfile",
            "It is for node pools of type VirtualMachines, which there are none of here. Use vmSize and count.",
        ),
        (
            "gatewayProfile",
            "It is for node pools of mode Gateway, which there are none of here. Leave it away.",
        ),
        (
            "windowsProfile",
            "It is for Windows, which there is none of here. Leave it away.",
        ),
    ] {
        if is_there(field) {
            return Err(Invalid::parameter(
                &format!("agentPoolProfile.{field}"),
                format!("The parameter agentPoolProfile.{field} is not possible here. {instead}"),
            ));
        }
    }
    Ok(())
}

/// What is to be kept of what was asked: with AKS's defaults for a new pool, and with what can't be changed as it was.
///
/// # Errors
/// If something is asked for that can't be changed or is out of bounds.
pub(super) fn settle(
    mut asked: Map<String, Value>,
    existing: Option<&Map<String, Value>>,
) -> Result<Map<String, Value>, Invalid> {
    asked.retain(|_, value| value != "");
    for (field, default) in defaults() {
        if asked.get(field).is_none_or(|value| *value == json!(0)) {
            let before = existing.and_then(|kept| kept.get(field));
            asked.insert(field.to_owned(), before.cloned().unwrap_or(default));
        }
    }
    within(&asked, "maxPods", 10, 250)?;
    within(&asked, "osDiskSizeGB", 30, 2048)?;
    let Some(existing) = existing else {
        return Ok(asked);
    };
    // A pool that was made elsewhere has none of these kept, and so the defaults.
    let defaults: Map<String, Value> = defaults()
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect();
    for field in IMMUTABLE {
        let before = existing.get(*field).or_else(|| defaults.get(*field));
        match (asked.get(*field), before) {
            (None, Some(before)) => {
                asked.insert((*field).to_owned(), before.clone());
            }
            (Some(now), before) if !is_same(field, now, before) => {
                return Err(Invalid::immutable(&format!("properties.{field}"), AGAIN));
            }
            (Some(_), Some(before)) => {
                // As it was spelled.
                asked.insert((*field).to_owned(), before.clone());
            }
            (_, None) => {}
        }
    }
    Ok(asked)
}

fn within(asked: &Map<String, Value>, field: &str, least: i64, most: i64) -> Result<(), Invalid> {
    match asked.get(field).and_then(Value::as_i64) {
        Some(value) if !(least..=most).contains(&value) => Err(Invalid::parameter(
            &format!("agentPoolProfile.{field}"),
            format!(
                "agentPoolProfile.{field} was {value}. It must be greater or equal to {least} and less than or equal to {most}."
            ),
        )),
        _ => Ok(()),
    }
}

/// A value that says the same as if it were not there.
fn is_nothing(field: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => {
            text.is_empty() || field == "scaleSetPriority" && text.eq_ignore_ascii_case("Regular")
        }
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn is_same(field: &str, now: &Value, before: Option<&Value>) -> bool {
    let before = before.unwrap_or(&Value::Null);
    match (now, before) {
        (Value::String(now), Value::String(before)) => now.eq_ignore_ascii_case(before),
        _ => now == before || is_nothing(field, now) && is_nothing(field, before),
    }
}

/// What goes together with the pool's mode, and with what else is kept.
pub(super) fn check_together(spec: &NodePoolSpec) -> Result<(), Invalid> {
    let says = |field: &str, what: &str| {
        let value = spec.extra.get(field).and_then(Value::as_str);
        value.is_some_and(|text| text.eq_ignore_ascii_case(what))
    };
    let spot = says("scaleSetPriority", "Spot");
    if spot && spec.mode == PoolMode::System {
        return Err(Invalid::parameter(
            "agentPoolProfile.scaleSetPriority",
            "A node pool of mode 'System' can't be of priority 'Spot'. Use mode 'User'.",
        ));
    }
    if !spot && spec.extra.contains_key("scaleSetEvictionPolicy") {
        return Err(Invalid::parameter(
            "agentPoolProfile.scaleSetEvictionPolicy",
            "The parameter scaleSetEvictionPolicy is for a node pool of scaleSetPriority 'Spot'. Leave it away.",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_that_is_kept_is_found() {
        assert!(KEPT.iter().all(|(field, _)| is_kept(field)));
        assert!(!is_kept("gpuProfile"));
        assert!(!is_kept("OSType"), "as it is spelled");
    }

    #[test]
    fn a_pool_that_was_made_elsewhere_has_the_defaults() {
        let elsewhere = Map::new();
        let settled = settle(Map::new(), Some(&elsewhere)).unwrap();
        assert_eq!(settled.get("kubeletDiskType"), Some(&json!("OS")));
        let other = Map::from_iter([("osDiskType".to_owned(), json!("Ephemeral"))]);
        let refused = settle(other, Some(&elsewhere)).unwrap_err();
        assert_eq!(refused.code, "PropertyChangeNotAllowed");
    }

    /// The part of docs/azure.md below a heading.
    fn documented(heading: &str) -> &'static str {
        const TEXT: &str = include_str!("../../../../../docs/azure.md");
        let (_, below) = TEXT.split_once(&format!("\n## {heading}\n")).unwrap();
        below.split("\n## ").next().unwrap()
    }

    /// What stands in back quotes.
    fn quoted(text: &str) -> Vec<&str> {
        text.split('`').skip(1).step_by(2).collect()
    }

    #[test]
    fn the_documentation_names_every_field_that_is_kept_and_no_other() {
        let (pools, clusters) = documented("What is kept without effect")
            .split_once("\n- **Clusters**")
            .unwrap();
        let (_, pools) = pools.split_once("**Node pools**:").unwrap();
        let said = quoted(pools);
        let refused = quoted(documented("What is refused"));
        for (field, _) in KEPT {
            assert!(
                said.contains(field) || refused.contains(field),
                "docs/azure.md does not name {field}"
            );
        }
        let mut in_order = said.clone();
        in_order.sort_by_key(|field| field.to_lowercase());
        assert_eq!(said, in_order);
        for field in said {
            let is_known = is_kept(field) || field.starts_with("gpuProfile.");
            assert!(is_known, "docs/azure.md names {field}, which is not kept");
        }
        assert!(!quoted(clusters).contains(&"kubernetesVersion"));
    }
}

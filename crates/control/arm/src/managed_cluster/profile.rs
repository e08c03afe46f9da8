//! The properties of a cluster: what is kept of those that somebody sent, and what AKS says beside them.

use schemars::Schema;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use pool::{Cluster, ClusterKey, Invalid, Versions};

use crate::api_version::ApiVersion;
use crate::body::Body;
use crate::error::ArmError;

/// Fields of `properties` that only the server writes.
const READ_ONLY: &[&str] = &[
    "agentPoolProfiles",
    "azurePortalFQDN",
    "currentKubernetesVersion",
    "fqdn",
    "maxAgentPools",
    "powerState",
    "privateFQDN",
    "provisioningMessage",
    "provisioningState",
    "resourceUID",
];

/// Fields of `properties` that are kept and given back.
const KEPT: &[&str] = &[
    "aadProfile",
    "addonProfiles",
    "aiToolchainOperatorProfile",
    "apiServerAccessProfile",
    "autoScalerProfile",
    "autoUpgradeProfile",
    "azureMonitorProfile",
    "bootstrapProfile",
    "controlPlaneScalingProfile",
    "creationData",
    "disableLocalAccounts",
    "diskEncryptionSetID",
    "dnsPrefix",
    "enableFIPS",
    "enableNamespaceResources",
    "enablePodSecurityPolicy",
    "enableRBAC",
    "fqdnSubdomain",
    "guardrailsProfile",
    "healthMonitorProfile",
    "hostedSystemProfile",
    "httpProxyConfig",
    "identityProfile",
    "ingressProfile",
    KUBERNETES_VERSION,
    "linuxProfile",
    "metricsProfile",
    "networkProfile",
    "nodeProvisioningProfile",
    "nodeResourceGroup",
    "nodeResourceGroupProfile",
    "oidcIssuerProfile",
    "podIdentityProfile",
    "privateLinkResources",
    "publicNetworkAccess",
    "safeguardsProfile",
    "schedulerProfile",
    "securityProfile",
    "serviceMeshProfile",
    "servicePrincipalProfile",
    "status",
    "storageProfile",
    "supportPlan",
    "upgradeSettings",
    "windowsProfile",
    "workloadAutoScalerProfile",
];

/// Fields beside `properties` that are kept and given back.
const KEPT_BESIDE: &[&str] = &[
    "extendedLocation",
    "identity",
    "kind",
    "plan",
    "sku",
    "zones",
];

/// Secrets: the field, and what in it is not kept. Nothing here needs them, and nobody is to read them again.
const SECRETS: &[(&str, &str)] = &[
    ("servicePrincipalProfile", "secret"),
    ("windowsProfile", "adminPassword"),
    ("aadProfile", "serverAppSecret"),
];

/// Fields that can't be changed once they are there.
const IMMUTABLE: &[&str] = &["dnsPrefix", "nodeResourceGroup"];

const KUBERNETES_VERSION: &str = "kubernetesVersion";

/// How many pools a cluster may have, AKS's figure.
const MAX_AGENT_POOLS: u32 = 100;

/// Completes the schema of a cluster's properties with the fields that are kept.
pub(crate) fn describe(schema: &mut Schema) {
    if let Some(Value::Object(fields)) = schema.get_mut("properties") {
        for field in KEPT {
            let described = json!({ "description": "Kept and given back." });
            fields.entry(*field).or_insert(described);
        }
    }
}

/// What is kept of the properties that somebody sent.
///
/// # Errors
/// If a field is unknown to an api-version that refuses unknown fields.
pub(super) fn keep(mut sent: Body, version: &ApiVersion) -> Result<Map<String, Value>, ArmError> {
    for field in READ_ONLY {
        sent.take(field);
    }
    let mut kept = known(sent, KEPT, version)?;
    for (field, secret) in SECRETS {
        if let Some(Value::Object(profile)) = kept.remove(*field) {
            let mut profile = Body(profile);
            profile.take(secret);
            kept.insert((*field).to_owned(), profile.0.into());
        }
    }
    Ok(kept)
}

/// What is kept of what was sent beside the properties.
///
/// # Errors
/// As [`keep`].
pub(super) fn keep_beside(
    mut sent: Body,
    version: &ApiVersion,
) -> Result<Map<String, Value>, ArmError> {
    for field in ["id", "name", "type", "eTag", "systemData"] {
        sent.take(field);
    }
    known(sent, KEPT_BESIDE, version)
}

/// Those of the fields that are known, under AKS's names for them, and without those that are empty.
fn known(
    mut sent: Body,
    names: &[&str],
    version: &ApiVersion,
) -> Result<Map<String, Value>, ArmError> {
    let mut kept = Map::new();
    for name in names {
        if let Some(value) = sent.take(name).filter(|value| *value != "") {
            kept.insert((*name).to_owned(), value);
        }
    }
    match sent.0.iter().find(|(_, value)| !value.is_null()) {
        Some((name, _)) if version.refuses_unknown_fields() => {
            Err(ArmError::unmarshal(&format!("unknown field {name:?}")))
        }
        _ => Ok(kept),
    }
}

/// Brings what is kept into the form in which it is stored: with AKS's defaults, and with what can't change as it is.
///
/// # Errors
/// If it asks for a version of Kubernetes that there is not, or for a change of what can't change.
pub(super) fn settle(
    mut properties: Map<String, Value>,
    key: &ClusterKey,
    location: &str,
    existing: Option<&Cluster>,
    versions: &Versions,
) -> Result<Map<String, Value>, Invalid> {
    if let Some(asked) = properties.remove(KUBERNETES_VERSION) {
        let asked = asked.as_str().unwrap_or_default();
        if !versions.is_kubernetes(asked) {
            return Err(Invalid::parameter(
                KUBERNETES_VERSION,
                format!(
                    "Version '{asked}' of Kubernetes can't be had here: every node runs {}, and clusters are not upgraded by themselves. Use that version, or leave it away.",
                    versions.kubernetes
                ),
            ));
        }
    }
    for field in IMMUTABLE {
        let Some(before) = existing.and_then(|cluster| cluster.properties.get(*field)) else {
            continue;
        };
        match properties.get(*field) {
            None => {
                properties.insert((*field).to_owned(), before.clone());
            }
            Some(asked) if asked != before => {
                return Err(Invalid::immutable(
                    &format!("properties.{field}"),
                    &format!("It is {before}. Leave it as it is, or make another cluster."),
                ));
            }
            Some(_) => {}
        }
    }
    let (group, name) = (&key.group.group, &key.cluster);
    let nobody = Uuid::nil();
    for (field, default) in [
        ("dnsPrefix", json!(format!("{name}-dns"))),
        ("enableRBAC", json!(true)),
        (
            // Without it az updates no cluster. Nodes have no identity here.
            "identityProfile",
            json!({ "kubeletidentity": { "clientId": nobody, "objectId": nobody } }),
        ),
        ("networkProfile", json!({ "networkPlugin": "none" })),
        (
            "nodeResourceGroup",
            json!(format!("MC_{group}_{name}_{location}")),
        ),
        ("servicePrincipalProfile", json!({ "clientId": "msi" })),
        ("supportPlan", json!("KubernetesOfficial")),
    ] {
        properties.entry(field).or_insert(default);
    }
    Ok(properties)
}

/// The tier of a cluster for which none was asked.
pub(super) fn settle_envelope(mut envelope: Map<String, Value>) -> Map<String, Value> {
    envelope
        .entry("sku")
        .or_insert_with(|| json!({ "name": "Base", "tier": "Free" }));
    envelope
}

/// What is shown of a cluster beside its pools.
pub(super) fn show(cluster: &Cluster, versions: &Versions) -> Map<String, Value> {
    let mut shown = cluster.properties.clone();
    for (field, value) in [
        (KUBERNETES_VERSION, json!(versions.kubernetes)),
        ("currentKubernetesVersion", json!(versions.kubernetes)),
        ("maxAgentPools", json!(MAX_AGENT_POOLS)),
        ("powerState", json!({ "code": cluster.power })),
    ] {
        shown.insert(field.to_owned(), value);
    }
    shown
}

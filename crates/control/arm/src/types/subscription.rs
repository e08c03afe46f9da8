//! Subscriptions, tenants, locations, resource providers, and what is listed across them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// Its path.
    pub id: String,
    /// How somebody comes to see it: `RoleBased`.
    pub authorization_source: String,
    /// Tenants that manage it; none.
    pub managed_by_tenants: Vec<Value>,
    /// Its id.
    pub subscription_id: String,
    /// The tenant that it belongs to.
    pub tenant_id: String,
    /// Its name.
    pub display_name: String,
    /// `Enabled`.
    pub state: String,
    /// Offers and limits; none.
    pub subscription_policies: Map<String, Value>,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    /// Its path.
    pub id: String,
    /// Its id.
    pub tenant_id: String,
    /// Its name.
    pub display_name: String,
    /// `Home`.
    pub tenant_category: String,
    /// Its domains; none.
    pub domains: Vec<String>,
}

/// A region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// Its path.
    pub id: String,
    /// Its name in ARM's normal form: `southcentralus`.
    pub name: String,
    /// `Region`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name: `South Central US`.
    pub display_name: String,
    /// Its name with its part of the world: `(US) South Central US`.
    pub regional_display_name: String,
    /// Where it is.
    pub metadata: LocationMetadata,
}

/// Where a region is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocationMetadata {
    /// `Physical`.
    pub region_type: String,
    /// `Recommended` or `Other`.
    pub region_category: String,
    /// Its part of the world: `US`.
    pub geography_group: String,
    /// Regions that stand in for it; not kept here.
    pub paired_region: Vec<Value>,
}

/// A resource provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceProvider {
    /// Its path.
    pub id: String,
    /// Its namespace: `Microsoft.ContainerService`.
    pub namespace: String,
    /// `RegistrationFree`.
    pub registration_policy: String,
    /// `Registered`.
    pub registration_state: String,
    /// Its types.
    pub resource_types: Vec<ProviderResourceType>,
}

/// A type of a resource provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderResourceType {
    /// The type without the namespace: `managedClusters/agentPools`.
    pub resource_type: String,
    /// Regions where there are some.
    pub locations: Vec<String>,
    /// Its api-versions, from the newest on.
    pub api_versions: Vec<String>,
    /// What can be done with it beyond the usual.
    pub capabilities: String,
}

/// A preview feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Feature {
    /// Its path.
    pub id: String,
    /// Its namespace and name.
    pub name: String,
    /// `Microsoft.Features/providers/features`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it can be used.
    pub properties: FeatureProperties,
}

/// What is particular to a preview feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeatureProperties {
    /// `Registered`.
    pub state: String,
}

/// A VM size as `Microsoft.Compute` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceSku {
    /// `virtualMachines`.
    pub resource_type: String,
    /// The size's name.
    pub name: String,
    /// The first word of its name.
    pub tier: String,
    /// The rest of its name.
    pub size: String,
    /// Regions that have it.
    pub locations: Vec<String>,
    /// The same, with their zones; none are kept.
    pub location_info: Vec<SkuLocation>,
    /// What it has, such as `vCPUs`, `MemoryGB` and `GPUs`.
    pub capabilities: Vec<SkuCapability>,
    /// Why it can't be had; it can.
    pub restrictions: Vec<Value>,
}

/// A region that has a VM size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkuLocation {
    /// The region.
    pub location: String,
    /// Its zones.
    pub zones: Vec<String>,
}

/// Something that a VM size has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkuCapability {
    /// What.
    pub name: String,
    /// How much.
    pub value: String,
}

/// A resource of any type, as it is listed across types.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GenericResource {
    /// Its path.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its region.
    pub location: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Where it is on its way; if it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning_state: Option<String>,
    /// When it was made; if it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<jiff::Timestamp>,
    /// Other fields (`identity`, `sku`, ...).
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

//! What is about managed clusters beside the clusters themselves.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AvailableVersion, Resource};

/// The kubeconfigs of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialResults {
    /// The kubeconfigs: one for each way in.
    pub kubeconfigs: Vec<CredentialResult>,
}

/// A kubeconfig.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialResult {
    /// Whom it is for: `clusterUser`, `clusterAdmin` or `clusterMonitoringUser`.
    pub name: String,
    /// The YAML in Base64.
    pub value: String,
}

/// To what a cluster can be upgraded.
pub type ClusterUpgradeProfile = Resource<ClusterUpgradeProperties>;

/// What is particular to the upgrades of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterUpgradeProperties {
    /// Of its control plane.
    pub control_plane_profile: PoolUpgrades,
    /// Of its pools.
    pub agent_pool_profiles: Vec<PoolUpgrades>,
}

/// To what a control plane or a pool can be upgraded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolUpgrades {
    /// The version of Kubernetes that it runs.
    pub kubernetes_version: String,
    /// The pool's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `Linux`.
    pub os_type: String,
    /// Versions that it can be upgraded to.
    pub upgrades: Vec<AvailableVersion>,
}

/// The versions of Kubernetes that a cluster can have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KubernetesVersions {
    /// The versions.
    pub values: Vec<KubernetesVersion>,
}

/// A minor version of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesVersion {
    /// `major.minor`.
    pub version: String,
    /// Whether a cluster gets it when none is asked for.
    pub is_default: bool,
    /// Whether it is a preview.
    pub is_preview: bool,
    /// How long it is supported.
    pub capabilities: KubernetesCapabilities,
    /// Its patch versions.
    pub patch_versions: BTreeMap<String, KubernetesPatch>,
}

/// How long a version is supported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesCapabilities {
    /// `KubernetesOfficial`.
    pub support_plan: Vec<String>,
}

/// A patch version of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KubernetesPatch {
    /// Versions that it can be upgraded to.
    pub upgrades: Vec<String>,
}

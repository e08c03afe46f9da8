//! Versions of Kubernetes: the one that there is, and that there is nothing to upgrade to.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde_json::Map;

use pool::{ClusterKey, NodeProvider, SubscriptionId};

use super::find;
use crate::agent_pool;
use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::path::At;
use crate::types::{
    ClusterUpgradeProfile, ClusterUpgradeProperties, KubernetesCapabilities, KubernetesPatch,
    KubernetesVersion, KubernetesVersions, PoolUpgrades,
};

pub(crate) async fn upgrade_profile<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<ClusterKey>,
) -> Result<Json<ClusterUpgradeProfile>, ArmError> {
    find(&*app.backend, &key).await?;
    let pools = agent_pool::of_cluster(&*app.backend, &key).await?;
    let version = app.backend.versions().kubernetes;
    let upgrades = |name: Option<String>| PoolUpgrades {
        kubernetes_version: version.clone(),
        name,
        os_type: "Linux".to_owned(),
        upgrades: Vec::new(),
    };
    let names = pools
        .records
        .iter()
        .map(|stored| stored.record.key.pool.to_string());
    Ok(Json(ClusterUpgradeProfile {
        id: format!("{key}/upgradeprofiles/default"),
        name: "default".to_owned(),
        kind: "Microsoft.ContainerService/managedClusters/upgradeprofiles".to_owned(),
        location: None,
        tags: None,
        e_tag: None,
        properties: ClusterUpgradeProperties {
            control_plane_profile: upgrades(None),
            agent_pool_profiles: names.map(|name| upgrades(Some(name))).collect(),
        },
        extra: Map::new(),
    }))
}

/// The same in every region.
pub(crate) async fn list<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(_): At<SubscriptionId>,
) -> Json<KubernetesVersions> {
    let patch = app.backend.versions().kubernetes;
    let minor = patch.rsplit_once('.').map_or(&*patch, |(minor, _)| minor);
    Json(KubernetesVersions {
        values: vec![KubernetesVersion {
            version: minor.to_owned(),
            is_default: true,
            is_preview: false,
            capabilities: KubernetesCapabilities {
                support_plan: vec!["KubernetesOfficial".to_owned()],
            },
            patch_versions: BTreeMap::from([(
                patch.clone(),
                KubernetesPatch {
                    upgrades: Vec::new(),
                },
            )]),
        }],
    })
}

//! Resource providers and their preview features: what there is of them, and that nothing has to be registered.

use axum::Json;

use pool::SubscriptionId;

use crate::api_version::{ApiVersion, Provider};
use crate::error::ArmError;
use crate::path::{At, FeatureName, Namespace};
use crate::region;
use crate::types::{
    Feature, FeatureProperties, ProviderResourceType, ResourceList, ResourceProvider,
};

/// A provider that is served here.
struct Served {
    namespace: &'static str,
    versions: Provider,
    types: &'static [&'static str],
    /// Whether its resources have tags and a location.
    tracked: &'static [&'static str],
}

const SERVED: &[Served] = &[
    Served {
        namespace: CONTAINER_SERVICE,
        versions: Provider::ContainerService,
        types: &[
            "managedClusters",
            "managedClusters/agentPools",
            "locations",
            "locations/operations",
            "locations/operationresults",
            "locations/kubernetesVersions",
        ],
        tracked: &["managedClusters"],
    },
    Served {
        namespace: "Microsoft.Resources",
        versions: Provider::Resources,
        types: &[
            "subscriptions",
            "subscriptions/resourceGroups",
            "subscriptions/locations",
            "subscriptions/operationresults",
            "resources",
            "providers",
            "deployments",
            "deployments/operations",
        ],
        tracked: &["subscriptions/resourceGroups"],
    },
    Served {
        namespace: "Microsoft.Compute",
        versions: Provider::Compute,
        types: &["skus"],
        tracked: &[],
    },
    Served {
        namespace: "Microsoft.Features",
        versions: Provider::Features,
        types: &["features", "providers"],
        tracked: &[],
    },
];

/// The provider of clusters.
const CONTAINER_SERVICE: &str = "Microsoft.ContainerService";

fn resource(subscription: &SubscriptionId, served: &Served) -> ResourceProvider {
    let mut versions: Vec<String> = served
        .versions
        .versions()
        .into_iter()
        .map(std::borrow::Cow::into_owned)
        .collect();
    versions.reverse();
    let locations: Vec<String> = region::ALL
        .iter()
        .map(|region| region.display_name.to_owned())
        .collect();
    let resource_type = |name: &&str| ProviderResourceType {
        resource_type: (*name).to_owned(),
        locations: locations.clone(),
        api_versions: versions.clone(),
        capabilities: if served.tracked.contains(name) {
            "SupportsTags, SupportsLocation".to_owned()
        } else {
            "None".to_owned()
        },
    };
    ResourceProvider {
        id: format!(
            "/subscriptions/{subscription}/providers/{}",
            served.namespace
        ),
        namespace: served.namespace.to_owned(),
        registration_policy: "RegistrationFree".to_owned(),
        registration_state: "Registered".to_owned(),
        resource_types: served.types.iter().map(resource_type).collect(),
    }
}

fn find(namespace: &str) -> Result<&'static Served, ArmError> {
    let found = SERVED
        .iter()
        .find(|served| served.namespace.eq_ignore_ascii_case(namespace));
    found.ok_or_else(|| {
        let there_are: Vec<&str> = SERVED.iter().map(|served| served.namespace).collect();
        ArmError::namespace_not_found(namespace, &there_are.join("', '"))
    })
}

pub(crate) async fn list(
    _: ApiVersion,
    At(subscription): At<SubscriptionId>,
) -> Json<ResourceList<ResourceProvider>> {
    let providers = SERVED.iter().map(|served| resource(&subscription, served));
    Json(ResourceList::of(providers.collect()))
}

/// Also the answer to a registration: there is nothing that would have to be done.
pub(crate) async fn show(
    _: ApiVersion,
    At((subscription, Namespace(namespace))): At<(SubscriptionId, Namespace)>,
) -> Result<Json<ResourceProvider>, ArmError> {
    Ok(Json(resource(&subscription, find(&namespace)?)))
}

pub(crate) async fn unregister(
    _: ApiVersion,
    At((_, Namespace(namespace))): At<(SubscriptionId, Namespace)>,
) -> Result<(), ArmError> {
    let served = find(&namespace)?;
    Err(ArmError::not_supported(&format!(
        "The resource provider '{}' can't be unregistered: it is a part of migpool, and is there without registration.",
        served.namespace
    )))
}

fn feature(subscription: &SubscriptionId, namespace: &str, name: &str) -> Feature {
    Feature {
        id: format!(
            "/subscriptions/{subscription}/providers/Microsoft.Features/providers/{namespace}/features/{name}"
        ),
        name: format!("{namespace}/{name}"),
        kind: "Microsoft.Features/providers/features".to_owned(),
        properties: FeatureProperties {
            state: "Registered".to_owned(),
        },
    }
}

/// Features of previews that mean something here.
const FEATURES: &[&str] = &["ManagedGPUExperiencePreview"];

/// Each is there without registration.
pub(crate) async fn features(
    _: ApiVersion,
    At(subscription): At<SubscriptionId>,
) -> Json<ResourceList<Feature>> {
    let features = FEATURES
        .iter()
        .map(|name| feature(&subscription, CONTAINER_SERVICE, name));
    Json(ResourceList::of(features.collect()))
}

/// Those of one provider.
pub(crate) async fn features_of(
    version: ApiVersion,
    At((subscription, Namespace(namespace))): At<(SubscriptionId, Namespace)>,
) -> Result<Json<ResourceList<Feature>>, ArmError> {
    if find(&namespace)?.namespace == CONTAINER_SERVICE {
        return Ok(features(version, At(subscription)).await);
    }
    Ok(Json(ResourceList::of(Vec::new())))
}

/// Also the answer to a registration.
pub(crate) async fn show_feature(
    _: ApiVersion,
    At((subscription, Namespace(namespace), FeatureName(name))): At<(
        SubscriptionId,
        Namespace,
        FeatureName,
    )>,
) -> Result<Json<Feature>, ArmError> {
    let served = find(&namespace)?;
    let known = FEATURES
        .iter()
        .find(|known| served.namespace == CONTAINER_SERVICE && known.eq_ignore_ascii_case(&name));
    match known {
        Some(name) => Ok(Json(feature(&subscription, served.namespace, name))),
        None => Err(ArmError::feature_not_found(served.namespace, &name)),
    }
}

//! Routes of subscriptions and of what is about them as a whole.

use axum::http::StatusCode;

use super::Routes;
use crate::backend::Backend;
use crate::openapi::Op;
use crate::types::{
    Feature, GenericResource, Location, ResourceList, ResourceProvider, ResourceSku, Subscription,
    Tenant,
};
use crate::{compute, provider, resource_list, subscription};

const SUBSCRIPTION: &str = "/subscriptions/{subscription}";

/// What is about subscriptions, tenants, regions and resource providers.
pub(super) fn routes<B: Backend>() -> Routes<B> {
    Routes::new()
        .get(
            "/tenants",
            Op::new("Tenants_List", "Lists the tenants: one.")
                .answers::<ResourceList<Tenant>>(StatusCode::OK),
            subscription::tenants::<B>,
        )
        .get(
            "/subscriptions",
            Op::new("Subscriptions_List", "Lists the subscriptions: one.").answers::<ResourceList<
                Subscription,
            >>(
                StatusCode::OK
            ),
            subscription::list::<B>,
        )
        .get(
            SUBSCRIPTION,
            Op::new("Subscriptions_Get", "Gets a subscription.")
                .answers::<Subscription>(StatusCode::OK),
            subscription::show::<B>,
        )
        .get(
            &format!("{SUBSCRIPTION}/locations"),
            Op::new("Subscriptions_ListLocations", "Lists regions.")
                .answers::<ResourceList<Location>>(StatusCode::OK),
            subscription::locations,
        )
        .get(
            &format!("{SUBSCRIPTION}/resources"),
            Op::new(
                "Resources_List",
                "Lists the resources of a subscription: its clusters.",
            )
            .has_top()
            .answers::<ResourceList<GenericResource>>(StatusCode::OK),
            resource_list::of_subscription::<B>,
        )
        .get(
            &format!("{SUBSCRIPTION}/providers/Microsoft.Compute/skus"),
            Op::new(
                "ResourceSkus_List",
                "Lists the VM sizes that nodes can have.",
            )
            .answers::<ResourceList<ResourceSku>>(StatusCode::OK),
            compute::skus,
        )
        .and(providers())
        .and(features())
}

fn providers<B: Backend>() -> Routes<B> {
    let providers = format!("{SUBSCRIPTION}/providers");
    let one = format!("{providers}/{{namespace}}");
    Routes::new()
        .get(
            &providers,
            Op::new("Providers_List", "Lists the resource providers.")
                .answers::<ResourceList<ResourceProvider>>(StatusCode::OK),
            provider::list,
        )
        .get(
            &one,
            Op::new("Providers_Get", "Gets a resource provider.")
                .answers::<ResourceProvider>(StatusCode::OK),
            provider::show,
        )
        .post(
            &format!("{one}/register"),
            Op::new(
                "Providers_Register",
                "Registers a resource provider; all are.",
            )
            .answers::<ResourceProvider>(StatusCode::OK),
            provider::show,
        )
        .post(
            &format!("{one}/unregister"),
            Op::new(
                "Providers_Unregister",
                "Unregisters a resource provider, which is refused.",
            ),
            provider::unregister,
        )
}

fn features<B: Backend>() -> Routes<B> {
    let provider = format!("{SUBSCRIPTION}/providers/Microsoft.Features");
    let features = format!("{provider}/providers/{{namespace}}/features");
    let one = format!("{features}/{{feature}}");
    Routes::new()
        .get(
            &format!("{provider}/features"),
            Op::new("Features_ListAll", "Lists the preview features.")
                .answers::<ResourceList<Feature>>(StatusCode::OK),
            crate::provider::features,
        )
        .get(
            &features,
            Op::new(
                "Features_List",
                "Lists the preview features of a resource provider.",
            )
            .answers::<ResourceList<Feature>>(StatusCode::OK),
            crate::provider::features_of,
        )
        .get(
            &one,
            Op::new("Features_Get", "Gets a preview feature.").answers::<Feature>(StatusCode::OK),
            crate::provider::show_feature,
        )
        .post(
            &format!("{one}/register"),
            Op::new("Features_Register", "Registers a preview feature; all are.")
                .answers::<Feature>(StatusCode::OK),
            crate::provider::show_feature,
        )
}

//! Routes of subscriptions and of what is about them as a whole.

use axum::Router;
use axum::routing::{get, post};

use crate::backend::{App, Backend};
use crate::{compute, provider, resource_list, subscription};

/// What is about subscriptions, tenants, regions and resource providers.
pub(super) fn routes<B: Backend>() -> Router<App<B>> {
    const SUBSCRIPTION: &str = "/subscriptions/{subscription}";
    let providers = format!("{SUBSCRIPTION}/providers");
    let features = format!("{providers}/microsoft.features/providers/{{namespace}}/features");
    Router::new()
        .route("/tenants", get(subscription::tenants::<B>))
        .route("/subscriptions", get(subscription::list::<B>))
        .route(SUBSCRIPTION, get(subscription::show::<B>))
        .route(
            &format!("{SUBSCRIPTION}/locations"),
            get(subscription::locations),
        )
        .route(
            &format!("{SUBSCRIPTION}/resources"),
            get(resource_list::of_subscription::<B>),
        )
        .route(&providers, get(provider::list))
        .route(&format!("{providers}/{{namespace}}"), get(provider::show))
        .route(
            &format!("{providers}/{{namespace}}/register"),
            post(provider::show),
        )
        .route(
            &format!("{providers}/{{namespace}}/unregister"),
            post(provider::unregister),
        )
        .route(
            &format!("{providers}/microsoft.features/features"),
            get(provider::features),
        )
        .route(&features, get(provider::features_of))
        .route(
            &format!("{features}/{{feature}}"),
            get(provider::show_feature),
        )
        .route(
            &format!("{features}/{{feature}}/register"),
            post(provider::show_feature),
        )
        .route(
            &format!("{providers}/microsoft.compute/skus"),
            get(compute::skus),
        )
}

//! Routes of deployments.

use axum::Router;
use axum::routing::{get, post};

use crate::backend::{App, Backend};
use crate::deployment;

/// What is about the deployments of a group.
pub(super) fn routes<B: Backend>(group: &str) -> Router<App<B>> {
    let deployments = format!("{group}/providers/microsoft.resources/deployments");
    let one = format!("{deployments}/{{deployment}}");
    let of = |what: &str| format!("{one}/{what}");
    Router::new()
        .route(&deployments, get(deployment::list::<B>))
        .route(
            &one,
            get(deployment::show::<B>)
                .head(deployment::exists::<B>)
                .put(deployment::put::<B>)
                .delete(deployment::delete::<B>),
        )
        .route(&of("validate"), post(deployment::validate::<B>))
        .route(&of("whatif"), post(deployment::what_if::<B>))
        .route(&of("cancel"), post(deployment::cancel::<B>))
        .route(
            &of("exporttemplate"),
            post(deployment::export_template::<B>),
        )
        .route(
            &of("operationstatuses/{operation}"),
            get(deployment::status::<B>),
        )
        .route(&of("operations"), get(deployment::operations::<B>))
        // As Azure's clients ask for them.
        .route(
            &format!("{group}/deployments/{{deployment}}/operations"),
            get(deployment::operations::<B>),
        )
}

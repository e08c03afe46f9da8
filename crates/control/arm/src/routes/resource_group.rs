//! Routes of resource groups and of what is in one whatever its type, and of long-running operations.

use axum::http::StatusCode;

use super::Routes;
use crate::backend::Backend;
use crate::openapi::Header::{Location, RetryAfter};
use crate::openapi::Op;
use crate::types::{
    GenericResource, OperationResult, PutResourceGroup, ResourceGroup, ResourceList, TagsObject,
};
use crate::{operation, resource_group, resource_list};

/// What is about the groups of this path.
pub(super) fn routes<B: Backend>(groups: &str) -> Routes<B> {
    let group = format!("{groups}/{{group}}");
    Routes::new()
        .get(
            groups,
            Op::new("ResourceGroups_List", "Lists the resource groups.")
                .has_top()
                .answers::<ResourceList<ResourceGroup>>(StatusCode::OK),
            resource_group::list::<B>,
        )
        .get(
            &group,
            Op::new("ResourceGroups_Get", "Gets a resource group.")
                .answers::<ResourceGroup>(StatusCode::OK),
            resource_group::show::<B>,
        )
        .head(
            &group,
            Op::new(
                "ResourceGroups_CheckExistence",
                "Says whether a resource group is there.",
            )
            .ends(StatusCode::NO_CONTENT),
            resource_group::exists::<B>,
        )
        .put(
            &group,
            Op::new(
                "ResourceGroups_CreateOrUpdate",
                "Makes a resource group, or changes its tags.",
            )
            .takes::<PutResourceGroup>()
            .answers::<ResourceGroup>(StatusCode::OK)
            .answers::<ResourceGroup>(StatusCode::CREATED),
            resource_group::put::<B>,
        )
        .patch(
            &group,
            Op::new("ResourceGroups_Update", "Tags a resource group.")
                .takes::<TagsObject>()
                .answers::<ResourceGroup>(StatusCode::OK),
            resource_group::patch::<B>,
        )
        .delete(
            &group,
            Op::new(
                "ResourceGroups_Delete",
                "Deletes a resource group and all that is in it.",
            )
            .ends(StatusCode::ACCEPTED)
            .with(&[Location, RetryAfter]),
            resource_group::delete::<B>,
        )
        .get(
            &format!("{group}/resources"),
            Op::new(
                "Resources_ListByResourceGroup",
                "Lists the resources of a resource group: its clusters.",
            )
            .has_top()
            .answers::<ResourceList<GenericResource>>(StatusCode::OK),
            resource_list::of_group::<B>,
        )
        .post(
            &format!("{group}/exportTemplate"),
            Op::new(
                "ResourceGroups_ExportTemplate",
                "Writes a resource group as a template, which is refused.",
            ),
            resource_group::export_template::<B>,
        )
}

/// What is about the long-running operations of a subscription, at the provider of this path and at ARM itself.
pub(super) fn operations<B: Backend>(provider: &str) -> Routes<B> {
    let locations = format!("{provider}/locations/{{location}}");
    Routes::new()
        .get(
            &format!("{locations}/operations/{{operation}}"),
            Op::new(
                "Operations_Get",
                "Says how a long-running operation stands.",
            )
            .answers::<OperationResult>(StatusCode::OK)
            .with(&[RetryAfter]),
            operation::status::<B>,
        )
        .get(
            &format!("{locations}/operationresults/{{operation}}"),
            Op::new(
                "Operations_GetResult",
                "Gets what came of a long-running operation.",
            )
            .ends(StatusCode::ACCEPTED)
            .with(&[Location, RetryAfter])
            .ends(StatusCode::NO_CONTENT)
            .fails(StatusCode::CONFLICT),
            operation::result::<B>,
        )
        .get(
            "/subscriptions/{subscription}/operationresults/{operation}",
            Op::new(
                "ResourceGroups_GetResult",
                "Gets what came of a long-running operation on a resource group.",
            )
            .ends(StatusCode::ACCEPTED)
            .with(&[Location, RetryAfter])
            .ends(StatusCode::OK)
            .fails(StatusCode::CONFLICT),
            operation::group_result::<B>,
        )
}

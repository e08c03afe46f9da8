//! Routes of deployments.

use axum::http::StatusCode;

use super::Routes;
use crate::backend::Backend;
use crate::deployment;
use crate::openapi::Header::{AzureAsyncOperation, RetryAfter};
use crate::openapi::Op;
use crate::types::{
    Deployment, DeploymentOperation, DeploymentStatus, PutDeployment, ResourceList,
};

/// What is about the deployments of a group.
pub(super) fn routes<B: Backend>(group: &str) -> Routes<B> {
    let deployments = format!("{group}/providers/Microsoft.Resources/deployments");
    let one = format!("{deployments}/{{deployment}}");
    let of = |what: &str| format!("{one}/{what}");
    Routes::new()
        .get(
            &deployments,
            Op::new(
                "Deployments_ListByResourceGroup",
                "Lists the deployments of a resource group.",
            )
            .has_top()
            .answers::<ResourceList<Deployment>>(StatusCode::OK),
            deployment::list::<B>,
        )
        .get(
            &one,
            Op::new("Deployments_Get", "Gets a deployment.").answers::<Deployment>(StatusCode::OK),
            deployment::show::<B>,
        )
        .head(
            &one,
            Op::new(
                "Deployments_CheckExistence",
                "Says whether a deployment is there.",
            )
            .ends(StatusCode::NO_CONTENT),
            deployment::exists::<B>,
        )
        .put(
            &one,
            Op::new("Deployments_CreateOrUpdate", "Deploys a template.")
                .takes::<PutDeployment>()
                .answers::<Deployment>(StatusCode::OK)
                .answers::<Deployment>(StatusCode::CREATED)
                .with(&[AzureAsyncOperation, RetryAfter]),
            deployment::put::<B>,
        )
        .delete(
            &one,
            Op::new(
                "Deployments_Delete",
                "Deletes the record of a deployment; what was deployed stays.",
            )
            .ends(StatusCode::NO_CONTENT),
            deployment::delete::<B>,
        )
        .post(
            &of("cancel"),
            Op::new(
                "Deployments_Cancel",
                "Cancels a deployment: what has begun goes on, nothing more begins.",
            )
            .ends(StatusCode::NO_CONTENT),
            deployment::cancel::<B>,
        )
        .and(without_deploying(&of))
        .and(progress(group, &of))
}

/// What is asked about a template.
fn without_deploying<B: Backend>(of: &impl Fn(&str) -> String) -> Routes<B> {
    Routes::new()
        .post(
            &of("validate"),
            Op::new(
                "Deployments_Validate",
                "Says whether a template can be deployed.",
            )
            .takes::<PutDeployment>()
            .answers::<Deployment>(StatusCode::OK),
            deployment::validate::<B>,
        )
        .post(
            &of("whatIf"),
            Op::new(
                "Deployments_WhatIf",
                "Tells what a deployment would change: it fails, for that can't be told.",
            )
            .answers::<DeploymentStatus>(StatusCode::OK),
            deployment::what_if::<B>,
        )
        .post(
            &of("exportTemplate"),
            Op::new(
                "Deployments_ExportTemplate",
                "Gives the template of a deployment, which is refused.",
            ),
            deployment::export_template::<B>,
        )
}

/// How deployments stand, and what became of their resources.
fn progress<B: Backend>(group: &str, of: &impl Fn(&str) -> String) -> Routes<B> {
    Routes::new()
        .get(
            &of("operationStatuses/{operation}"),
            Op::new("Deployments_GetStatus", "Says how a deployment stands.")
                .answers::<DeploymentStatus>(StatusCode::OK)
                .with(&[RetryAfter]),
            deployment::status::<B>,
        )
        .get(
            &of("operations"),
            Op::new(
                "DeploymentOperations_List",
                "Lists what became of the resources of a deployment.",
            )
            .answers::<ResourceList<DeploymentOperation>>(StatusCode::OK),
            deployment::operations::<B>,
        )
        // As Azure's clients ask for them.
        .get(
            &format!("{group}/deployments/{{deployment}}/operations"),
            Op::new(
                "DeploymentOperations_ListByDeployment",
                "Lists what became of the resources of a deployment.",
            )
            .answers::<ResourceList<DeploymentOperation>>(StatusCode::OK),
            deployment::operations::<B>,
        )
}

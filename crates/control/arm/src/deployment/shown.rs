//! Deployments as they are shown.

use jiff::Timestamp;
use serde_json::Map;

use pool::{
    Deployment, DeploymentState, DeploymentStep, OperationError, OperationTarget, StepState,
};

use super::named;
use crate::types::{
    self, DeploymentDependency, DeploymentOperation, DeploymentOperationProperties,
    DeploymentProperties, DeploymentProvider, DeploymentResourceType, DetailedError, ErrorDetail,
    ResourceReference, StatusMessage, TargetResource,
};

const TYPE: &str = "Microsoft.Resources/deployments";

/// A deployment.
pub(super) fn resource(deployment: &Deployment) -> types::Deployment {
    let succeeded = |step: &&DeploymentStep| step.state == StepState::Succeeded;
    let mut shown = body(deployment);
    let properties = &mut shown.properties;
    properties.output_resources = references(deployment.steps.iter().filter(succeeded));
    if deployment.state == DeploymentState::Succeeded {
        properties.outputs = Some(deployment.outputs.clone());
    }
    shown
}

/// A deployment that could be carried out.
pub(super) fn validated(deployment: &Deployment) -> types::Deployment {
    let mut shown = body(deployment);
    let properties = &mut shown.properties;
    DeploymentState::Succeeded
        .to_string()
        .clone_into(&mut properties.provisioning_state);
    properties.duration = None;
    properties.validated_resources = references(deployment.steps.iter());
    shown
}

fn body(deployment: &Deployment) -> types::Deployment {
    let until = deployment.end.unwrap_or_else(Timestamp::now);
    types::Deployment {
        id: deployment.key.to_string(),
        name: deployment.key.deployment.to_string(),
        kind: TYPE.to_owned(),
        location: None,
        tags: None,
        e_tag: None,
        properties: DeploymentProperties {
            provisioning_state: deployment.state.to_string(),
            correlation_id: deployment.correlation.to_string(),
            timestamp: Some(deployment.end.unwrap_or(deployment.start)),
            duration: Some(duration(deployment.start, until)),
            mode: "Incremental".to_owned(),
            template_hash: deployment.template_hash.clone(),
            parameters: deployment.parameters.clone(),
            outputs: None,
            providers: providers(deployment),
            dependencies: dependencies(deployment),
            output_resources: Vec::new(),
            validated_resources: Vec::new(),
            error: error(deployment),
        },
        extra: Map::new(),
    }
}

fn references<'a>(steps: impl Iterator<Item = &'a DeploymentStep>) -> Vec<ResourceReference> {
    let reference = |step: &DeploymentStep| ResourceReference {
        id: step.target.resource_id(),
    };
    steps.map(reference).collect()
}

fn target(target: &OperationTarget) -> TargetResource {
    let (kind, name) = named(target);
    TargetResource {
        id: target.resource_id(),
        resource_type: kind.to_owned(),
        resource_name: name,
    }
}

fn providers(deployment: &Deployment) -> Vec<DeploymentProvider> {
    let mut types: Vec<DeploymentResourceType> = Vec::new();
    for step in &deployment.steps {
        let (kind, _) = named(&step.target);
        let (_, name) = kind.split_once('/').unwrap_or(("", kind));
        let location = step.body.get("location").and_then(|it| it.as_str());
        if !types.iter().any(|it| it.resource_type == name) {
            types.push(DeploymentResourceType {
                resource_type: name.to_owned(),
                locations: vec![location.map(str::to_owned)],
            });
        }
    }
    if types.is_empty() {
        return Vec::new();
    }
    vec![DeploymentProvider {
        namespace: "Microsoft.ContainerService".to_owned(),
        resource_types: types,
    }]
}

fn dependencies(deployment: &Deployment) -> Vec<DeploymentDependency> {
    let steps = &deployment.steps;
    let on = |step: &DeploymentStep| {
        let after = step.after.iter().filter_map(|place| steps.get(*place));
        after.map(|step| target(&step.target)).collect()
    };
    let depending = steps.iter().filter(|step| !step.after.is_empty());
    depending
        .map(|step| DeploymentDependency {
            resource: target(&step.target),
            depends_on: on(step),
        })
        .collect()
}

/// Why a deployment did not succeed, with why its resources did not.
pub(super) fn error(deployment: &Deployment) -> Option<DetailedError> {
    let error = deployment.error.as_ref()?;
    let failed = |step: &DeploymentStep| {
        let error = step.error.as_ref()?;
        Some(detail(error, &step.target))
    };
    Some(DetailedError {
        code: error.code.clone(),
        message: error.message.clone(),
        target: Some(deployment.key.to_string()),
        details: deployment.steps.iter().filter_map(failed).collect(),
    })
}

fn detail(error: &OperationError, target: &OperationTarget) -> ErrorDetail {
    ErrorDetail {
        code: error.code.clone(),
        message: error.message.clone(),
        target: Some(target.resource_id()),
    }
}

/// The resources of a deployment that have begun, as its operations.
pub(super) fn operations(deployment: &Deployment) -> Vec<DeploymentOperation> {
    let begun = deployment
        .steps
        .iter()
        .filter(|step| step.state != StepState::Waiting);
    begun.map(|step| operation(deployment, step)).collect()
}

fn operation(deployment: &Deployment, step: &DeploymentStep) -> DeploymentOperation {
    let start = step.start.unwrap_or(deployment.start);
    let until = step.end.unwrap_or_else(Timestamp::now);
    let status_code = match (&step.error, step.created) {
        (Some(_), _) => "BadRequest",
        (None, true) => "Created",
        (None, false) => "OK",
    };
    DeploymentOperation {
        id: format!("{}/operations/{}", deployment.key, step.id),
        operation_id: step.id.to_string(),
        properties: DeploymentOperationProperties {
            provisioning_operation: "Create".to_owned(),
            provisioning_state: format!("{:?}", step.state),
            timestamp: Some(step.end.unwrap_or(start)),
            duration: Some(duration(start, until)),
            service_request_id: step.operation.map(|id| id.to_string()),
            status_code: status_code.to_owned(),
            status_message: step.error.as_ref().map(|error| StatusMessage {
                status: "Failed".to_owned(),
                error: detail(error, &step.target),
            }),
            target_resource: target(&step.target),
        },
    }
}

/// ISO 8601: `PT1M2.5S`.
fn duration(from: Timestamp, until: Timestamp) -> String {
    until.duration_since(from).to_string()
}

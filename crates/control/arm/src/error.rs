//! What goes wrong, in ARM's two shapes.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use pool::{
    ClusterKey, CredentialsError, Deployment, DeploymentKey, GroupKey, Invalid, OperationError,
    PoolKey, ProviderError, StoreError, SubscriptionId, WorkloadError,
};

use crate::request_id::Explanation;
use crate::types::ErrorDetail;

/// An error as Azure Resource Manager answers it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ArmError {
    status: StatusCode,
    code: String,
    message: String,
    target: Option<String>,
    /// What it comes from.
    inner: Option<Box<ErrorDetail>>,
    shape: Shape,
}

/// The code of what others changed again and again while it was tried.
const CHANGED_MEANWHILE: &str = "ConflictingConcurrentWriteNotAllowed";

/// When to ask again for what does not work for now.
const AGAIN_SECONDS: u16 = 5;

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// ARM's gateway: `{"error": {"code", "message"}}`.
    Gateway,
    /// AKS itself: the same fields without the envelope, and a `subcode`.
    Provider { subcode: String },
}

/// An error as it is written, in one of ARM's two shapes.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Error")]
pub(crate) enum WrittenError {
    /// ARM's gateway.
    Gateway {
        /// What went wrong.
        error: GatewayError,
    },
    /// The resource provider.
    Provider {
        /// ARM's code.
        code: String,
        /// A sentence for a person.
        message: String,
        /// The property that it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        target: Option<String>,
        /// Always null.
        details: (),
        /// A finer code; empty for most.
        subcode: String,
    },
}

/// An error of ARM's gateway.
#[derive(Serialize, JsonSchema)]
pub(crate) struct GatewayError {
    /// ARM's code.
    code: String,
    /// A sentence for a person.
    message: String,
    /// The property that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// What it comes from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<ErrorDetail>,
}

impl ArmError {
    /// An error of ARM's gateway: the request did not come to a provider, or has to do with none.
    #[must_use]
    pub fn gateway(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        Self {
            status,
            code,
            message,
            target: None,
            inner: None,
            shape: Shape::Gateway,
        }
    }

    fn provider(status: StatusCode, code: &str, subcode: &str, message: impl Into<String>) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        let shape = Shape::Provider {
            subcode: subcode.to_owned(),
        };
        Self {
            status,
            code,
            message,
            target: None,
            inner: None,
            shape,
        }
    }

    /// The sentence for a person.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether it is the server's fault, and what was asked may be asked again.
    pub(crate) fn is_of_the_server(&self) -> bool {
        self.status.is_server_error() || self.code == CHANGED_MEANWHILE
    }

    /// Whether a record that can't be read is in the way: asking again does not help, and nothing else suffers from it.
    pub(crate) fn is_of_one_record(&self) -> bool {
        self.status == StatusCode::INTERNAL_SERVER_ERROR
    }

    /// The error as the end of an operation.
    pub(crate) fn into_operation_error(self) -> OperationError {
        OperationError {
            code: self.code,
            message: self.message,
        }
    }

    pub(crate) fn invalid_deployment(message: &str) -> Self {
        Self::gateway(StatusCode::BAD_REQUEST, "InvalidDeployment", message)
    }

    pub(crate) fn invalid_template(reason: &str) -> Self {
        Self::gateway(
            StatusCode::BAD_REQUEST,
            "InvalidTemplate",
            format!("Deployment template validation failed: '{reason}.'."),
        )
    }

    /// A template one of whose resources would be refused.
    pub(crate) fn invalid_template_deployment(
        key: &DeploymentKey,
        resource: &str,
        inner: &Self,
    ) -> Self {
        let message = format!(
            "The template deployment '{}' is not valid according to the validation procedure: its resource '{resource}' would be refused. See inner errors for details.",
            key.deployment
        );
        let mut error = Self::gateway(
            StatusCode::BAD_REQUEST,
            "InvalidTemplateDeployment",
            message,
        );
        error.inner = Some(Box::new(ErrorDetail {
            code: inner.code.clone(),
            message: inner.message.clone(),
            target: inner.target.clone().or_else(|| Some(resource.to_owned())),
        }));
        error
    }

    pub(crate) fn deployment_not_found(key: &DeploymentKey) -> Self {
        Self::gateway(
            StatusCode::NOT_FOUND,
            "DeploymentNotFound",
            format!("Deployment '{}' could not be found.", key.deployment),
        )
    }

    pub(crate) fn deployment_active(running: &Deployment) -> Self {
        Self::gateway(
            StatusCode::CONFLICT,
            "DeploymentActive",
            format!(
                "The deployment with resource id '{}' is active: it is running since {}. Wait until it has ended, or cancel it.",
                running.key, running.start
            ),
        )
    }

    pub(crate) fn deployment_ended(ended: &Deployment) -> Self {
        Self::gateway(
            StatusCode::CONFLICT,
            "DeploymentCannotBeCancelled",
            format!(
                "Deployment '{}' can't be cancelled because it has ended: its provisioning state is '{}'.",
                ended.key.deployment, ended.state
            ),
        )
    }

    pub(crate) fn missing_api_version() -> Self {
        Self::gateway(
            StatusCode::BAD_REQUEST,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
    }

    pub(crate) fn no_registered_provider(kind: &str, version: &str, known: &str) -> Self {
        // Every location is as good as any other here.
        Self::gateway(
            StatusCode::BAD_REQUEST,
            "NoRegisteredProviderFound",
            format!(
                "No registered resource provider found for location 'global' and API version '{version}' for type '{kind}'. The supported api-versions are '{known}'. The supported locations are 'global'."
            ),
        )
    }

    pub(crate) fn invalid_api_version(version: &str, known: &str) -> Self {
        Self::gateway(
            StatusCode::BAD_REQUEST,
            "InvalidApiVersionParameter",
            format!(
                "The api-version '{version}' is invalid. The supported versions are '{known}'."
            ),
        )
    }

    pub(crate) fn bad_path(reason: &str) -> Self {
        Self::gateway(
            StatusCode::BAD_REQUEST,
            "InvalidRequestUri",
            format!("The request's URL can't be read: {reason}."),
        )
    }

    pub(crate) fn no_such_path(path: &str) -> Self {
        Self::gateway(
            StatusCode::NOT_FOUND,
            "InvalidResourceType",
            format!(
                "There is no resource at '{path}'. Known are resource groups, Microsoft.ContainerService/managedClusters with their agentPools, and Migpool.Local/nodes and pods."
            ),
        )
    }

    pub(crate) fn no_such_method(method: &str, path: &str) -> Self {
        Self::gateway(
            StatusCode::METHOD_NOT_ALLOWED,
            "HttpMethodNotAllowed",
            format!("The resource at '{path}' has no method {method}."),
        )
    }

    pub(crate) fn invalid_content(reason: &str) -> Self {
        Self::gateway(
            StatusCode::BAD_REQUEST,
            "InvalidRequestContent",
            format!("The request content was invalid and could not be deserialized: '{reason}'."),
        )
    }

    pub(crate) fn content_too_large(reason: &str) -> Self {
        Self::gateway(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestContentTooLarge",
            format!("The request content is too large; at most 4 MiB are read: {reason}."),
        )
    }

    pub(crate) fn unmarshal(reason: &str) -> Self {
        Self::provider(
            StatusCode::BAD_REQUEST,
            "UnmarshalError",
            "",
            format!("UnmarshalEntity encountered error: json: {reason}"),
        )
    }

    pub(crate) fn location_required() -> Self {
        Self::gateway(
            StatusCode::BAD_REQUEST,
            "LocationRequired",
            "The location property is required for this definition.",
        )
    }

    pub(crate) fn subscription_not_found(id: &SubscriptionId) -> Self {
        Self::gateway(
            StatusCode::NOT_FOUND,
            "SubscriptionNotFound",
            format!("The subscription '{id}' could not be found."),
        )
    }

    pub(crate) fn namespace_not_found(namespace: &str, there_are: &str) -> Self {
        Self::gateway(
            StatusCode::NOT_FOUND,
            "InvalidResourceNamespace",
            format!("The resource namespace '{namespace}' is invalid. There are '{there_are}'."),
        )
    }

    pub(crate) fn feature_not_found(namespace: &str, feature: &str) -> Self {
        Self::gateway(
            StatusCode::NOT_FOUND,
            "FeatureNotFound",
            format!(
                "The feature '{feature}' could not be found in the resource namespace '{namespace}'. What is served here needs no registration."
            ),
        )
    }

    pub(crate) fn invalid_filter(filter: &str, reason: &str) -> Self {
        Self::gateway(
            StatusCode::BAD_REQUEST,
            "InvalidFilterInQueryString",
            format!("The $filter '{filter}' can't be read: {reason}."),
        )
    }

    pub(crate) fn group_not_found(key: &GroupKey) -> Self {
        Self::gateway(
            StatusCode::NOT_FOUND,
            "ResourceGroupNotFound",
            format!("Resource group '{}' could not be found.", key.group),
        )
    }

    pub(crate) fn group_elsewhere(key: &GroupKey, asked: &str, is: &str) -> Self {
        Self::gateway(
            StatusCode::CONFLICT,
            "InvalidResourceGroupLocation",
            format!(
                "Invalid resource group location '{asked}'. The Resource group '{}' already exists in location '{is}'.",
                key.group
            ),
        )
    }

    pub(crate) fn group_being_deleted(key: &GroupKey) -> Self {
        Self::gateway(
            StatusCode::CONFLICT,
            "ResourceGroupBeingDeleted",
            format!(
                "The resource group '{}' is in deprovisioning state and cannot perform this operation.",
                key.group
            ),
        )
    }

    pub(crate) fn cluster_elsewhere(key: &ClusterKey, asked: &str, is: &str) -> Self {
        Self::gateway(
            StatusCode::CONFLICT,
            "InvalidResourceLocation",
            format!(
                "The resource '{}' already exists in location '{is}' in resource group '{}'. A resource with the same name cannot be created in location '{asked}'. Please select a new resource name.",
                key.cluster, key.group.group
            ),
        )
    }

    pub(crate) fn cluster_not_found(key: &ClusterKey) -> Self {
        Self::gateway(
            StatusCode::NOT_FOUND,
            "ResourceNotFound",
            format!(
                "The Resource 'Microsoft.ContainerService/managedClusters/{}' under resource group '{}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
                key.cluster, key.group.group
            ),
        )
    }

    pub(crate) fn parent_not_found(key: &ClusterKey) -> Self {
        Self::gateway(
            StatusCode::NOT_FOUND,
            "ParentResourceNotFound",
            format!(
                "Can not perform requested operation on nested resource. Parent resource '{}' not found.",
                key.cluster
            ),
        )
    }

    pub(crate) fn pool_not_found(key: &PoolKey) -> Self {
        Self::provider(
            StatusCode::NOT_FOUND,
            "NotFound",
            "GetAgentPool_NotFound",
            format!(
                "Could not find the agentpool '{}' in managed cluster '{}'.",
                key.pool, key.cluster.cluster
            ),
        )
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::gateway(
            StatusCode::NOT_FOUND,
            "ResourceNotFound",
            format!("{what} was not found."),
        )
    }

    pub(crate) fn being_deleted(what: &str) -> Self {
        Self::provider(
            StatusCode::CONFLICT,
            "OperationNotAllowed",
            "",
            format!("Operation is not allowed: {what} is being deleted. Wait until it is gone."),
        )
    }

    pub(crate) fn precondition_failed(reason: &str) -> Self {
        Self::provider(
            StatusCode::PRECONDITION_FAILED,
            "PreconditionFailed",
            "",
            reason,
        )
    }

    pub(crate) fn no_kubernetes(key: &ClusterKey) -> Self {
        Self::provider(
            StatusCode::BAD_REQUEST,
            "KubernetesNotAvailable",
            "",
            format!(
                "The cluster '{}' has no Kubernetes API server: its nodes are processes on this machine, so there is no kubeconfig to hand out. Use 'migpool node list', 'migpool node describe' and 'migpool pod run' here; to have kubectl, install the migpool chart with arm.enabled=true on a Kubernetes cluster and ask there.",
                key.cluster
            ),
        )
    }

    /// A command of `migpool pod` that no role allows from elsewhere.
    pub(crate) fn only_on_the_machine(command: &str) -> Self {
        Self::provider(
            StatusCode::FORBIDDEN,
            "OperationNotAllowed",
            "",
            format!(
                "A pod here is a program that runs as the machine's own user, so no role allows this through this endpoint. Use 'migpool pod {command}' on the machine itself, as the user that runs 'migpool up'."
            ),
        )
    }

    pub(crate) fn cluster_stopped(key: &ClusterKey) -> Self {
        Self::not_allowed(&format!(
            "Operation is not allowed: the cluster '{}' is stopped. Start it first.",
            key.cluster
        ))
    }

    /// Something that can't be done to a resource as it is now.
    pub(crate) fn not_allowed(message: &str) -> Self {
        Self::provider(StatusCode::CONFLICT, "OperationNotAllowed", "", message)
    }

    /// Something of AKS that there is none of here.
    pub(crate) fn not_supported(message: &str) -> Self {
        Self::provider(StatusCode::BAD_REQUEST, "NotSupported", "", message)
    }

    /// Something behind the front does not work for now; the answer says when to ask again.
    fn unavailable(message: String) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::gateway(status, "ServiceUnavailable", message)
    }

    /// An operation that did not end well.
    pub(crate) fn operation(code: &str, message: &str) -> Self {
        Self::provider(StatusCode::CONFLICT, code, "", message)
    }
}

impl From<Invalid> for ArmError {
    fn from(invalid: Invalid) -> Self {
        let mut error = Self::provider(StatusCode::BAD_REQUEST, invalid.code, "", invalid.message);
        error.target = invalid.target;
        error
    }
}

impl From<StoreError> for ArmError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict { .. } => Self::gateway(
                StatusCode::CONFLICT,
                CHANGED_MEANWHILE,
                "The resource was changed by other requests again and again in the meantime. Try again.",
            ),
            StoreError::Refused(message) => {
                Self::gateway(StatusCode::BAD_REQUEST, "BadRequest", message)
            }
            StoreError::Unavailable(message) => {
                Self::unavailable(format!("The store of migpool failed: {message}."))
            }
            error @ StoreError::Unreadable { .. } => {
                let message = format!("The store of migpool failed: {error}.");
                Self::gateway(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "InternalServerError",
                    message,
                )
            }
        }
    }
}

impl From<CredentialsError> for ArmError {
    fn from(error: CredentialsError) -> Self {
        match error {
            CredentialsError::Refused(message) => Self::provider(
                StatusCode::BAD_REQUEST,
                "CredentialsNotAvailable",
                "",
                message,
            ),
            CredentialsError::Unavailable(message) => {
                Self::unavailable(format!("No kubeconfig could be made: {message}."))
            }
        }
    }
}

impl From<ProviderError> for ArmError {
    fn from(error: ProviderError) -> Self {
        Self::unavailable(format!("The nodes can't be seen: {error}."))
    }
}

impl From<WorkloadError> for ArmError {
    fn from(error: WorkloadError) -> Self {
        match error {
            WorkloadError::Invalid(invalid) => invalid.into(),
            WorkloadError::NotFound(_) => {
                Self::gateway(StatusCode::NOT_FOUND, "ResourceNotFound", error.to_string())
            }
            WorkloadError::Conflict(message) => {
                Self::gateway(StatusCode::CONFLICT, "Conflict", message)
            }
            WorkloadError::Failed(message) => Self::gateway(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalServerError",
                message,
            ),
        }
    }
}

impl IntoResponse for ArmError {
    fn into_response(self) -> Response {
        let explanation = self
            .status
            .is_server_error()
            .then(|| Explanation(self.to_string()));
        let (code, message, target) = (self.code, self.message, self.target);
        let header = code.parse().ok();
        let body = match self.shape {
            Shape::Gateway => WrittenError::Gateway {
                error: GatewayError {
                    code,
                    message,
                    target,
                    details: self.inner.into_iter().map(|inner| *inner).collect(),
                },
            },
            Shape::Provider { subcode } => WrittenError::Provider {
                code,
                message,
                target,
                details: (),
                subcode,
            },
        };
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let seconds = HeaderValue::from(AGAIN_SECONDS);
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        if let Some(explanation) = explanation {
            response.extensions_mut().insert(explanation);
        }
        if let Some(code) = header {
            response.headers_mut().insert("x-ms-error-code", code);
        }
        response
    }
}

#[cfg(test)]
mod tests;

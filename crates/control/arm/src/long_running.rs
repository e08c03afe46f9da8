//! The headers of an answer that starts, or follows, a long-running operation.

use axum::extract::FromRequestParts;
use axum::http::header::{HOST, LOCATION, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Uri};
use uuid::Uuid;

use pool::SubscriptionId;

use crate::backend::App;
use crate::error::ArmError;

const AZURE_ASYNC_OPERATION: &str = "azure-asyncoperation";
/// What AKS puts into its polling URLs.
const CONTAINER_SERVICE_VERSION: &str = "2017-08-31";
const RESOURCES_VERSION: &str = "2021-04-01";
/// Seconds until the client may ask again; without it Azure's clients wait 30.
const RETRY_AFTER_SECONDS: u16 = 1;

/// Where this server is for the client that asks: the beginning of absolute URLs.
pub(crate) struct Origin(String);

impl<B: Send + Sync> FromRequestParts<App<B>> for Origin {
    type Rejection = ArmError;

    async fn from_request_parts(parts: &mut Parts, app: &App<B>) -> Result<Self, ArmError> {
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| {
            parts
                .uri
                .authority()
                .map(axum::http::uri::Authority::as_str)
        });
        let origin = format!("{}://{}", app.scheme.as_str(), host.unwrap_or("localhost"));
        // A header can say anything; in a URL it must be a host.
        match origin.parse::<Uri>() {
            Ok(uri) if uri.authority().is_some() && uri.path() == "/" && uri.query().is_none() => {
                Ok(Self(origin))
            }
            _ => Err(ArmError::bad_path("the Host header is not a host")),
        }
    }
}

impl Origin {
    /// The absolute URL of a path and query.
    pub(crate) fn url(&self, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.0)
    }

    /// `Azure-AsyncOperation` of an operation of AKS.
    pub(crate) fn operation(
        &self,
        headers: &mut HeaderMap,
        subscription: &SubscriptionId,
        location: &str,
        id: Uuid,
    ) {
        let url = self.container_service(subscription, location, "operations", id);
        insert(headers, AZURE_ASYNC_OPERATION, &url);
        retry_after(headers);
    }

    /// `Location` of the result of an operation of AKS.
    pub(crate) fn result(
        &self,
        headers: &mut HeaderMap,
        subscription: &SubscriptionId,
        location: &str,
        id: Uuid,
    ) {
        let url = self.container_service(subscription, location, "operationresults", id);
        insert(headers, LOCATION.as_str(), &url);
        retry_after(headers);
    }

    /// `Location` of the result of an operation on a resource group.
    pub(crate) fn group_result(
        &self,
        headers: &mut HeaderMap,
        subscription: &SubscriptionId,
        id: Uuid,
    ) {
        let origin = &self.0;
        let url = format!(
            "{origin}/subscriptions/{subscription}/operationresults/{id}?api-version={RESOURCES_VERSION}"
        );
        insert(headers, LOCATION.as_str(), &url);
        retry_after(headers);
    }

    /// `Azure-AsyncOperation` of an operation on a resource of ARM itself, at this path.
    pub(crate) fn resource_operation(&self, headers: &mut HeaderMap, path: &str) {
        let url = self.url(&format!("{path}?api-version={RESOURCES_VERSION}"));
        insert(headers, AZURE_ASYNC_OPERATION, &url);
        retry_after(headers);
    }

    fn container_service(
        &self,
        subscription: &SubscriptionId,
        location: &str,
        what: &str,
        id: Uuid,
    ) -> String {
        let origin = &self.0;
        format!(
            "{origin}/subscriptions/{subscription}/providers/Microsoft.ContainerService/locations/{location}/{what}/{id}?api-version={CONTAINER_SERVICE_VERSION}"
        )
    }
}

/// Says when to ask again.
pub(crate) fn retry_after(headers: &mut HeaderMap) {
    headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // The origin was checked, a location is checked before it is stored, and the rest is ids.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

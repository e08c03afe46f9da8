//! api-versions: which there are, and what each knows.

mod provider;

use std::fmt;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::Deserialize;

use crate::error::ArmError;

pub(crate) use provider::Provider;

/// The api-version of a request: one that is known for the resource's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiVersion(String);

/// The first version that knows `gpuInstanceProfile`.
const KNOWS_GPU_INSTANCE_PROFILE: &str = "2021-08-01";
/// The first version that refuses fields it does not know.
const REFUSES_UNKNOWN_FIELDS: &str = "2024-01-01";

impl ApiVersion {
    /// Whether this version knows `gpuInstanceProfile`; those that don't ignore it.
    #[must_use]
    pub fn knows_gpu_instance_profile(&self) -> bool {
        self.day() >= KNOWS_GPU_INSTANCE_PROFILE
    }

    /// Whether this version refuses fields that it does not know; those that don't ignore them.
    #[must_use]
    pub fn refuses_unknown_fields(&self) -> bool {
        self.day() >= REFUSES_UNKNOWN_FIELDS
    }

    /// The date alone. Dates in this form sort as text.
    fn day(&self) -> &str {
        self.0.get(..10).unwrap_or(&self.0)
    }

    /// A version of `Microsoft.ContainerService`, wherever it was written.
    pub(crate) fn of_container_service(text: &str) -> Result<Self, ArmError> {
        Self::parse(text, Provider::ContainerService)
    }

    fn parse(text: &str, provider: Provider) -> Result<Self, ArmError> {
        let lower = text.to_ascii_lowercase();
        if provider.knows(&lower) {
            return Ok(Self(lower));
        }
        let known = provider.versions().join(", ");
        Err(match provider {
            Provider::ContainerService => {
                ArmError::no_registered_provider("managedClusters", text, &known)
            }
            Provider::Compute => ArmError::no_registered_provider("skus", text, &known),
            Provider::Features => ArmError::no_registered_provider("features", text, &known),
            Provider::Resources | Provider::Subscriptions => {
                ArmError::invalid_api_version(text, &known)
            }
        })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Deserialize)]
struct Versions {
    #[serde(rename = "api-version")]
    version: Option<String>,
}

/// The version of a query that has nothing else, and nothing to decode: that of nearly every request.
fn alone(query: &str) -> Option<&str> {
    let version = query.strip_prefix("api-version=")?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (!version.is_empty() && version.bytes().all(is_plain)).then_some(version)
}

impl<S: Send + Sync> FromRequestParts<S> for ApiVersion {
    type Rejection = ArmError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ArmError> {
        let provider = Provider::of(parts.uri.path());
        if let Some(version) = alone(parts.uri.query().unwrap_or_default()) {
            return Self::parse(version, provider);
        }
        let Query(versions) = Query::<Versions>::from_request_parts(parts, state)
            .await
            .map_err(|error| ArmError::bad_path(&error.to_string()))?;
        let version = versions
            .version
            .filter(|version| !version.is_empty())
            .ok_or_else(ArmError::missing_api_version)?;
        Self::parse(&version, provider)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<ApiVersion> {
        ApiVersion::parse(text, Provider::ContainerService).ok()
    }

    #[test]
    fn versions_that_clients_send_are_known() {
        for version in [
            "2017-08-31",
            "2021-08-01",
            "2024-01-01",
            "2026-06-01",
            "2026-08-01",
            "2026-07-02-preview",
            "2021-11-01-preview",
            "2024-10-02-PREVIEW",
        ] {
            assert!(of(version).is_some(), "{version}");
        }
    }

    #[test]
    fn a_version_alone_is_what_the_query_says() {
        assert_eq!(alone("api-version=2026-06-01"), Some("2026-06-01"));
        for query in [
            "",
            "api-version=",
            "api-version=2026%2D06-01",
            "api-version=2026-06-01&api-version=2026-06-01",
            "api-version=2026-06-01&x=y",
            "x=y&api-version=2026-06-01",
            "API-version=2026-06-01",
        ] {
            assert_eq!(alone(query), None, "{query}");
        }
    }

    #[test]
    fn others_are_not() {
        for version in [
            "2021-08-02",
            "2024-01-15",
            "2026-13-01",
            "1999-01-01",
            "2030-01-01",
            "latest",
            "2024-1-1",
            "2024-01-01-preview",
            "2024-01-01-beta",
            "+024-01-01",
            "",
        ] {
            assert!(of(version).is_none(), "{version}");
        }
    }

    #[test]
    fn the_profile_and_strictness_came_with_the_versions_of_the_facts() {
        let knows = |text| of(text).unwrap().knows_gpu_instance_profile();
        assert!(!knows("2021-07-01"));
        assert!(knows("2021-08-01"));
        let refuses = |text| of(text).unwrap().refuses_unknown_fields();
        assert!(!refuses("2023-11-01"));
        assert!(!refuses("2023-11-02-preview"));
        assert!(refuses("2024-01-01"));
        assert!(refuses("2024-01-02-preview"));
    }

    #[test]
    fn an_unknown_version_is_told_the_known_ones() {
        let error = ApiVersion::parse("2021-08-02", Provider::ContainerService).unwrap_err();
        assert!(
            error.message().contains("2021-08-01, 2021-09-01"),
            "{}",
            error.message()
        );
    }
}

//! api-versions: which there are, and what each knows.

use std::fmt;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::Deserialize;

use crate::error::ArmError;

/// The api-version of a request: one that is known for the resource's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiVersion(String);

/// Versions of `Microsoft.ContainerService` up to the time when unknown fields began to be refused, from Azure's own answers.
const CONTAINER_SERVICE: &[&str] = &[
    "2017-08-31",
    "2018-03-31",
    "2019-02-01",
    "2019-04-01",
    "2019-06-01",
    "2019-08-01",
    "2019-10-01",
    "2019-11-01",
    "2020-01-01",
    "2020-02-01",
    "2020-03-01",
    "2020-04-01",
    "2020-06-01",
    "2020-07-01",
    "2020-09-01",
    "2020-11-01",
    "2020-12-01",
    "2021-02-01",
    "2021-03-01",
    "2021-05-01",
    "2021-07-01",
    "2021-08-01",
    "2021-09-01",
    "2021-10-01",
    "2022-01-01",
    "2022-02-01",
    "2022-03-01",
    "2022-04-01",
    "2022-06-01",
    "2022-07-01",
    "2022-08-01",
    "2022-09-01",
    "2022-11-01",
    "2023-01-01",
    "2023-02-01",
    "2023-03-01",
    "2023-04-01",
    "2023-05-01",
    "2023-06-01",
    "2023-07-01",
    "2023-08-01",
    "2023-09-01",
    "2023-10-01",
    "2023-11-01",
];

/// From here on AKS makes a version a month at most: `-01`, and `-02-preview` beside it. Which months have one is not
/// kept here: a client only sends versions that there are.
const MONTHLY_FROM: (u16, u8) = (2024, 1);
/// The last month that a known client sends.
const MONTHLY_TO: (u16, u8) = (2026, 8);
/// Previews are known from here on.
const PREVIEWS_FROM: (u16, u8) = (2021, 11);

/// Versions of resource groups, from Azure's documentation.
const RESOURCE_GROUPS: &[&str] = &[
    "2015-01-01",
    "2015-11-01",
    "2016-02-01",
    "2016-06-01",
    "2016-07-01",
    "2016-09-01",
    "2017-05-10",
    "2018-01-01",
    "2018-02-01",
    "2018-05-01",
    "2018-08-01",
    "2019-03-01",
    "2019-05-01",
    "2019-05-10",
    "2019-07-01",
    "2019-08-01",
    "2019-10-01",
    "2020-06-01",
    "2020-08-01",
    "2020-10-01",
    "2021-01-01",
    "2021-04-01",
    "2022-09-01",
    "2022-12-01",
    "2023-07-01",
    "2024-03-01",
    "2024-07-01",
    "2024-11-01",
    "2025-03-01",
    "2025-04-01",
];

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

    fn parse(text: &str, of: Type) -> Result<Self, ArmError> {
        let lower = text.to_ascii_lowercase();
        let known = match of {
            Type::ContainerService => {
                CONTAINER_SERVICE.contains(&lower.as_str()) || is_monthly(&lower)
            }
            Type::ResourceGroup => RESOURCE_GROUPS.contains(&lower.as_str()),
        };
        if known {
            return Ok(Self(lower));
        }
        Err(match of {
            Type::ContainerService => ArmError::no_registered_provider(text, &container_service()),
            Type::ResourceGroup => ArmError::invalid_api_version(text, &RESOURCE_GROUPS.join(", ")),
        })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether this is the version, or the preview, of a month.
fn is_monthly(text: &str) -> bool {
    let Some((date, preview)) = text.strip_suffix("-preview").map_or_else(
        || Some((text, false)),
        |date| (!date.ends_with("-01") || date < "2022").then_some((date, true)),
    ) else {
        return false;
    };
    let mut parts = date.splitn(3, '-');
    let (Some(year), Some(month), Some(day)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    if !(digits(year, 4) && digits(month, 2) && digits(day, 2)) {
        return false;
    }
    let (Ok(year), Ok(month), Ok(day)) =
        (year.parse::<u16>(), month.parse::<u8>(), day.parse::<u8>())
    else {
        return false;
    };
    let from = if preview { PREVIEWS_FROM } else { MONTHLY_FROM };
    let days = if preview { 1..=4 } else { 1..=1 };
    (1..=12).contains(&month) && days.contains(&day) && (from..=MONTHLY_TO).contains(&(year, month))
}

/// The supported versions, for a person.
fn container_service() -> String {
    let mut versions: Vec<String> = CONTAINER_SERVICE.iter().map(|v| (*v).to_owned()).collect();
    let (first, last) = (MONTHLY_FROM, MONTHLY_TO);
    for year in first.0..=last.0 {
        for month in 1..=12 {
            if (first..=last).contains(&(year, month)) {
                versions.push(format!("{year}-{month:02}-01"));
            }
        }
    }
    versions.join(", ")
}

/// Kinds of resources that have versions of their own.
#[derive(Clone, Copy)]
enum Type {
    ContainerService,
    ResourceGroup,
}

#[derive(Deserialize)]
struct Versions {
    #[serde(rename = "api-version")]
    version: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for ApiVersion {
    type Rejection = ArmError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ArmError> {
        let Query(versions) = Query::<Versions>::from_request_parts(parts, state)
            .await
            .map_err(|error| ArmError::bad_path(&error.to_string()))?;
        let version = versions
            .version
            .filter(|version| !version.is_empty())
            .ok_or_else(ArmError::missing_api_version)?;
        // `/subscriptions/{s}/resourcegroups[/{g}]` and `/subscriptions/{s}/operationresults/{id}`.
        let provider = parts
            .uri
            .path()
            .split('/')
            .any(|segment| segment == "providers");
        let of = if provider {
            Type::ContainerService
        } else {
            Type::ResourceGroup
        };
        Self::parse(&version, of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<ApiVersion> {
        ApiVersion::parse(text, Type::ContainerService).ok()
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
        let error = ApiVersion::parse("2021-08-02", Type::ContainerService).unwrap_err();
        assert!(
            error.message().contains("2021-08-01, 2021-09-01"),
            "{}",
            error.message()
        );
    }
}

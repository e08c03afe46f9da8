//! The api-versions of each resource provider.

use std::borrow::Cow;

/// Whose versions a request's is to be one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    /// `Microsoft.ContainerService`: clusters, their pools, and migpool's own types within them.
    ContainerService,
    /// ARM itself: resource groups, deployments, resources, providers.
    Resources,
    /// ARM itself: subscriptions, tenants, locations.
    Subscriptions,
    /// `Microsoft.Features`.
    Features,
    /// `Microsoft.Compute`.
    Compute,
}

impl Provider {
    /// Whose versions the request of a path has; its words are in lower case.
    pub(crate) fn of(path: &str) -> Self {
        let mut segments = path.split('/').skip(1);
        let start: [Option<&str>; 6] = std::array::from_fn(|_| segments.next());
        match start {
            [Some("subscriptions" | "tenants"), None, ..]
            | [Some("subscriptions"), _, None, ..]
            | [Some("subscriptions"), _, Some("locations"), None, ..] => {
                return Self::Subscriptions;
            }
            // The provider as a resource of ARM.
            [Some("subscriptions"), _, Some("providers"), _, None, ..]
            | [
                Some("subscriptions"),
                _,
                Some("providers"),
                _,
                Some("register" | "unregister"),
                None,
            ] => return Self::Resources,
            _ => {}
        }
        let mut provider = Self::Resources;
        let mut before = "";
        for segment in path.split('/') {
            if before == "providers" {
                match segment {
                    "microsoft.features" => return Self::Features,
                    "microsoft.containerservice" => provider = Self::ContainerService,
                    "microsoft.compute" if provider == Self::Resources => provider = Self::Compute,
                    _ => {}
                }
            }
            before = segment;
        }
        provider
    }

    /// A pattern for the previews that it has beside its [`versions`](Self::versions), if it has any.
    pub(crate) fn previews(self) -> Option<&'static str> {
        (self == Self::ContainerService).then_some(PREVIEWS)
    }

    /// Whether it has this version, which is in lower case.
    pub(super) fn knows(self, version: &str) -> bool {
        let has = |known: &[&str]| known.contains(&version);
        match self {
            Self::ContainerService => has(CONTAINER_SERVICE) || is_monthly(version),
            Self::Resources => has(RESOURCES),
            Self::Subscriptions => has(SUBSCRIPTIONS),
            Self::Features => has(FEATURES),
            Self::Compute => has(COMPUTE),
        }
    }

    /// The versions that it has, from the oldest on.
    pub(crate) fn versions(self) -> Vec<Cow<'static, str>> {
        let known = match self {
            Self::ContainerService => CONTAINER_SERVICE,
            Self::Resources => RESOURCES,
            Self::Subscriptions => SUBSCRIPTIONS,
            Self::Features => FEATURES,
            Self::Compute => COMPUTE,
        };
        let mut versions: Vec<_> = known.iter().map(|it| Cow::Borrowed(*it)).collect();
        if self == Self::ContainerService {
            versions.extend(monthly().map(Cow::Owned));
        }
        versions
    }
}

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
/// The same as a pattern.
const PREVIEWS: &str =
    "^(2021-1[12]-0[1-4]|202[2-5]-(0[1-9]|1[0-2])-0[2-4]|2026-0[1-8]-0[2-4])-preview$";

/// Versions of resource groups, of deployments and of what else is ARM's own, from Azure's documentation.
const RESOURCES: &[&str] = &[
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

/// Versions of subscriptions, from Azure's documentation.
const SUBSCRIPTIONS: &[&str] = &[
    "2014-04-01",
    "2015-11-01",
    "2016-06-01",
    "2018-06-01",
    "2019-06-01",
    "2019-11-01",
    "2020-01-01",
    "2021-01-01",
    "2021-04-01",
    "2022-09-01",
    "2022-12-01",
];

/// Versions of `Microsoft.Features`, from Azure's documentation.
const FEATURES: &[&str] = &["2014-08-01-preview", "2015-12-01", "2021-07-01"];

/// Versions of the SKUs of `Microsoft.Compute`, from Azure's documentation.
const COMPUTE: &[&str] = &["2017-03-30", "2017-09-01", "2019-04-01", "2021-07-01"];

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

/// The version of each month.
fn monthly() -> impl Iterator<Item = String> {
    let (first, last) = (MONTHLY_FROM, MONTHLY_TO);
    (first.0..=last.0)
        .flat_map(|year| (1..=12).map(move |month| (year, month)))
        .filter(move |month| (first..=last).contains(month))
        .map(|(year, month)| format!("{year}-{month:02}-01"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_whose_versions_count() {
        for (path, provider) in [
            ("/subscriptions", Provider::Subscriptions),
            ("/subscriptions/s/locations", Provider::Subscriptions),
            ("/subscriptions/s/resourcegroups/g", Provider::Resources),
            (
                "/subscriptions/s/resourcegroups/g/resources",
                Provider::Resources,
            ),
            ("/subscriptions/s/operationresults/1", Provider::Resources),
            (
                "/subscriptions/s/providers/microsoft.containerservice",
                Provider::Resources,
            ),
            (
                "/subscriptions/s/providers/microsoft.containerservice/register",
                Provider::Resources,
            ),
            (
                "/subscriptions/s/resourcegroups/g/providers/microsoft.resources/deployments/d",
                Provider::Resources,
            ),
            (
                "/subscriptions/s/resourcegroups/g/deployments/d/operations",
                Provider::Resources,
            ),
            (
                "/subscriptions/s/providers/microsoft.containerservice/managedclusters",
                Provider::ContainerService,
            ),
            (
                "/subscriptions/s/providers/microsoft.features/providers/microsoft.containerservice/features",
                Provider::Features,
            ),
            (
                "/subscriptions/s/providers/microsoft.compute/skus",
                Provider::Compute,
            ),
        ] {
            assert_eq!(Provider::of(path), provider, "{path}");
        }
    }
}

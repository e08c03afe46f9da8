//! What Kubernetes calls GPUs and their slices.

use std::fmt;
use std::str::FromStr;

use crate::profile::MigProfile;
use crate::text::serde_as_text;

const GPU: &str = "nvidia.com/gpu";
const MIG_PREFIX: &str = "nvidia.com/mig-";

/// An extended resource: `nvidia.com/gpu`, or `nvidia.com/mig-1g.10gb` under strategy `mixed`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName(String);

impl ResourceName {
    /// `nvidia.com/gpu`: whole GPUs, and every slice under strategy `single`.
    #[must_use]
    pub fn gpu() -> Self {
        Self(GPU.to_owned())
    }

    pub(crate) fn of_device(profile: MigProfile) -> Self {
        Self(format!(
            "{MIG_PREFIX}{}",
            profile.to_string().replace('+', ".")
        ))
    }

    /// The profile of a slice's resource; `None` for `nvidia.com/gpu`.
    #[must_use]
    pub fn profile(&self) -> Option<MigProfile> {
        let name = self.0.strip_prefix(MIG_PREFIX)?;
        // Of the dots only the one after the gigabytes can stand for a plus sign.
        name.replacen("gb.", "gb+", 1).parse().ok()
    }

    /// The name in full, with its domain.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its domain: `gpu`, `mig-1g.10gb`.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0
            .split_once('/')
            .map_or(self.as_str(), |(_, short)| short)
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for ResourceName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// How MIG devices are shown to Kubernetes; NVIDIA's device plugin defines the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum MigStrategy {
    /// MIG is ignored: whole GPUs only.
    #[default]
    None,
    /// Every MIG device of the node has one profile and is one `nvidia.com/gpu`.
    Single,
    /// Each profile is a resource of its own, beside `nvidia.com/gpu` for GPUs without MIG.
    Mixed,
}

impl MigStrategy {
    /// The strategy's name in flags, labels and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Single => "single",
            Self::Mixed => "mixed",
        }
    }

    /// The resource that a MIG device of `profile` is advertised as; `None` under strategy none.
    #[must_use]
    pub fn resource_name(self, profile: MigProfile) -> Option<ResourceName> {
        match self {
            Self::None => None,
            Self::Single => Some(ResourceName::gpu()),
            Self::Mixed => Some(profile.resource_name()),
        }
    }
}

impl fmt::Display for MigStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for MigStrategy {
    type Err = ParseMigStrategyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::None, Self::Single, Self::Mixed]
            .into_iter()
            .find(|s| s.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| ParseMigStrategyError {
                text: text.to_owned(),
            })
    }
}

/// A text that is not a MIG strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a MIG strategy; it is none, single or mixed")]
pub struct ParseMigStrategyError {
    /// The text as it was given.
    pub text: String,
}

serde_as_text!(MigStrategy);

impl FromStr for ResourceName {
    type Err = ParseResourceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = Self(text.to_owned());
        // A profile has one spelling, so a name that does not come back is not one of ours.
        let known = text == GPU || name.profile().is_some_and(|p| p.resource_name() == name);
        if known {
            Ok(name)
        } else {
            Err(ParseResourceNameError { text: name.0 })
        }
    }
}

/// A text that is not the name of a resource that migpool advertises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a GPU resource; those are nvidia.com/gpu and names like nvidia.com/mig-1g.5gb"
)]
pub struct ParseResourceNameError {
    /// The text as it was given.
    pub text: String,
}

serde_as_text!(ResourceName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plus_signs_become_dots_in_resource_names() {
        let name = |text: &str| {
            text.parse::<MigProfile>()
                .unwrap()
                .resource_name()
                .to_string()
        };
        assert_eq!(name("1g.5gb"), "nvidia.com/mig-1g.5gb");
        assert_eq!(name("1g.10gb+me"), "nvidia.com/mig-1g.10gb.me");
        assert_eq!(name("1g.24gb+me.all"), "nvidia.com/mig-1g.24gb.me.all");
        assert_eq!(name("1g.24gb-me"), "nvidia.com/mig-1g.24gb-me");
        assert_eq!(name("1c.3g.20gb"), "nvidia.com/mig-1c.3g.20gb");
    }

    #[test]
    fn other_resources_are_refused() {
        for text in [
            "nvidia.com/mig-",
            "nvidia.com/mig-3c.3g.20gb",
            "nvidia.com/mig-1g.5gb+me",
            "nvidia.com/gpu.shared",
            "amd.com/gpu",
            "gpu",
        ] {
            assert!(text.parse::<ResourceName>().is_err(), "{text}");
        }
        assert_eq!("nvidia.com/gpu".parse(), Ok(ResourceName::gpu()));
    }

    #[test]
    fn single_shows_every_slice_as_a_gpu_and_mixed_by_its_profile() {
        let profile: MigProfile = "1g.5gb".parse().unwrap();
        assert_eq!(MigStrategy::None.resource_name(profile), None);
        assert_eq!(
            MigStrategy::Single.resource_name(profile),
            Some(ResourceName::gpu())
        );
        assert_eq!(
            MigStrategy::Mixed
                .resource_name(profile)
                .map(|r| r.short().to_owned())
                .as_deref(),
            Some("mig-1g.5gb")
        );
    }

    #[test]
    fn strategies_round_trip_and_nothing_else_parses() {
        for s in [MigStrategy::None, MigStrategy::Single, MigStrategy::Mixed] {
            assert_eq!(s.to_string().parse(), Ok(s));
        }
        assert_eq!("Mixed".parse(), Ok(MigStrategy::Mixed));
        assert!("both".parse::<MigStrategy>().is_err());
    }
}

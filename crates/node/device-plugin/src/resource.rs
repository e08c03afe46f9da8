//! The names under which devices are advertised, and how an administrator changes them.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// The domain that a resource gets when a renaming rule names none.
const DOMAIN: &str = "nvidia.com";

/// An extended resource's full name, `nvidia.com/gpu`; NVIDIA's own, or what a [`Renaming`] made of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Resource(String);

impl Resource {
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

impl From<mig::ResourceName> for Resource {
    fn from(name: mig::ResourceName) -> Self {
        Self(name.to_string())
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A text that cannot be an extended resource's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a resource name: it is letters, digits, `-`, `_` and `.`, starts and ends with a letter or \
     digit, has at most 63 characters, and may follow a domain and `/`"
)]
pub struct ParseResourceError {
    /// The text as it was given.
    pub text: String,
}

impl FromStr for Resource {
    type Err = ParseResourceError;

    /// Takes `domain/name`, or a bare `name`, which gets NVIDIA's domain.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (domain, name) = text.split_once('/').unwrap_or((DOMAIN, text));
        let ends = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.ends_with(|c: char| c.is_ascii_alphanumeric())
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_domain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        let valid = ends(name)
            && name.len() <= 63
            && name.chars().all(is_name)
            && ends(domain)
            && domain.len() <= 253
            && domain.chars().all(is_domain);
        if valid {
            Ok(Self(format!("{domain}/{name}")))
        } else {
            Err(ParseResourceError {
                text: text.to_owned(),
            })
        }
    }
}

/// A rule of an administrator: what matches the pattern is advertised under another name.
///
/// The pattern is matched against a GPU's product name, or against a MIG device's profile; `*` stands for any
/// run of characters. The first rule that matches counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renaming {
    /// What to match, for example `*A100*` or `1g.*`.
    pub pattern: String,
    /// The name to advertise.
    pub name: Resource,
}

impl Renaming {
    /// The name that the first matching rule gives to `subject`.
    #[must_use]
    pub fn find<'a>(rules: &'a [Self], subject: &str) -> Option<&'a Resource> {
        rules
            .iter()
            .find(|rule| matches(&rule.pattern, subject))
            .map(|rule| &rule.name)
    }
}

/// Whether `text` is `pattern`, where `*` is any run of characters.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, mut pattern)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut rest) = text.strip_prefix(head) else {
        return false;
    };
    // The earliest place of every middle part is as good as any; the last part must be the end.
    while let Some((part, next)) = pattern.split_once('*') {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = rest.get(at + part.len()..).unwrap_or_default();
        pattern = next;
    }
    rest.ends_with(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_gets_nvidias_domain() {
        assert_eq!(
            "gpu-small".parse::<Resource>().unwrap().as_str(),
            "nvidia.com/gpu-small"
        );
        let own = "example.org/slice".parse::<Resource>().unwrap();
        assert_eq!((own.as_str(), own.short()), ("example.org/slice", "slice"));
    }

    #[test]
    fn a_name_that_kubernetes_would_refuse_is_refused() {
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "-a",
            "a b",
            "a/b/c",
            "Up.per/gpu",
            &"x".repeat(64),
        ] {
            assert!(text.parse::<Resource>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_star_matches_any_run_of_characters() {
        assert!(matches("*", ""));
        assert!(matches("1g.5gb", "1g.5gb"));
        assert!(matches("1g.*", "1g.10gb+me"));
        assert!(matches("*A100*40GB", "NVIDIA A100-SXM4-40GB"));
        assert!(!matches("1g.*", "11g.5gb"));
        assert!(!matches("*A100*80GB", "NVIDIA A100-SXM4-40GB"));
        assert!(!matches("ab*bc", "abc"), "a character is not matched twice");
    }

    #[test]
    fn the_first_matching_rule_counts() {
        let rule = |pattern: &str, name: &str| Renaming {
            pattern: pattern.to_owned(),
            name: name.parse().unwrap(),
        };
        let rules = [rule("1g.*", "small"), rule("*", "other")];
        assert_eq!(Renaming::find(&rules, "1g.5gb").unwrap().short(), "small");
        assert_eq!(Renaming::find(&rules, "2g.10gb").unwrap().short(), "other");
        assert_eq!(Renaming::find(&rules[..1], "2g.10gb"), None);
    }
}

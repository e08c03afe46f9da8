//! Names of subscriptions, resource groups, clusters, node pools and pods.
//!
//! Azure Resource Manager keeps the spelling of a name and compares without case; so do these types. Each is valid by
//! construction: parsing is the only way in.

#[cfg(feature = "schemars")]
mod schema;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// Defines a name that keeps its spelling and compares without ASCII case.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as it was first spelled.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name in lower case: equal for all spellings of one name.
            #[must_use]
            pub fn folded(&self) -> String {
                self.0.to_ascii_lowercase()
            }
        }

        impl FromStr for $type {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                $check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                $check(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.0.eq_ignore_ascii_case(&other.0)
            }
        }

        impl Eq for $type {}

        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $type {
            fn cmp(&self, other: &Self) -> Ordering {
                let folded = |text: &'_ str| text.bytes().map(|byte| byte.to_ascii_lowercase()).collect::<Vec<_>>();
                folded(&self.0).cmp(&folded(&other.0))
            }
        }

        impl Hash for $type {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.folded().hash(state);
            }
        }
    };
}

name! {
    /// A subscription: any UUID is a scope of its own.
    SubscriptionId, check_subscription
}
name! {
    /// The name of a resource group: 1 to 90 letters, digits, `_`, `-`, `.`, `(`, `)`, not ending in a full stop.
    GroupName, check_group
}
name! {
    /// The name of a managed cluster: 1 to 63 letters, digits, `_` and `-`, the first and last a letter or digit.
    ClusterName, check_cluster
}
name! {
    /// The name of a node pool: `^[a-z][a-z0-9]{0,11}$`, AKS's rule.
    PoolName, check_pool
}
name! {
    /// The name of a deployment: 1 to 64 letters, digits, `_`, `-`, `.`, `(` and `)`.
    DeploymentName, check_deployment
}
name! {
    /// The name of a pod: a DNS subdomain, as Kubernetes has it.
    PodName, check_pod
}

impl SubscriptionId {
    /// The subscription of a machine that has no other: all zeros.
    #[must_use]
    pub fn local() -> Self {
        Self(uuid::Uuid::nil().to_string())
    }
}

impl From<uuid::Uuid> for SubscriptionId {
    fn from(id: uuid::Uuid) -> Self {
        Self(id.to_string())
    }
}

fn check_subscription(text: &str) -> Result<(), Invalid> {
    // Only the hyphenated form: the other forms of one UUID would be scopes of their own.
    if text.len() == 36 && uuid::Uuid::try_parse(text).is_ok() {
        return Ok(());
    }
    Err(Invalid::new(
        "InvalidSubscriptionId",
        None,
        format!(
            "The provided subscription identifier '{text}' is malformed or invalid. Use a UUID such as '00000000-0000-0000-0000-000000000000'."
        ),
    ))
}

fn check_group(text: &str) -> Result<(), Invalid> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '(' | ')');
    if !text.is_empty() && text.len() <= 90 && text.chars().all(allowed) && !text.ends_with('.') {
        return Ok(());
    }
    Err(Invalid::new(
        "InvalidResourceGroup",
        None,
        format!(
            "The provided resource group name '{text}' is invalid. Use 1 to 90 letters, digits, '_', '-', '.', '(' and ')', not ending in '.'."
        ),
    ))
}

fn check_cluster(text: &str) -> Result<(), Invalid> {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if text.len() <= 63
        && ends(text.chars().next())
        && ends(text.chars().next_back())
        && text.chars().all(allowed)
    {
        return Ok(());
    }
    Err(Invalid::new(
        "InvalidParameter",
        Some("resourceName"),
        format!(
            "The managed cluster name '{text}' is invalid. Use 1 to 63 letters, digits, '_' and '-', the first and the last a letter or a digit. Please see https://aka.ms/aks-naming-rules for more details."
        ),
    ))
}

fn check_pool(text: &str) -> Result<(), Invalid> {
    let mut chars = text.chars();
    if text.len() <= 12
        && chars.next().is_some_and(|c| c.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    {
        return Ok(());
    }
    Err(Invalid::new(
        "InvalidParameter",
        Some("agentPoolProfile.name"),
        format!(
            "The value of parameter agentPoolProfile.name is invalid. Please see https://aka.ms/aks-naming-rules for more details. '{text}' must be 1 to 12 lower-case letters and digits, the first a letter."
        ),
    ))
}

fn check_deployment(text: &str) -> Result<(), Invalid> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '(' | ')');
    if !text.is_empty() && text.len() <= 64 && text.chars().all(allowed) {
        return Ok(());
    }
    Err(Invalid::new(
        "InvalidDeploymentName",
        None,
        format!(
            "The provided deployment name '{text}' is invalid. Use 1 to 64 letters, digits, '_', '-', '.', '(' and ')'."
        ),
    ))
}

fn check_pod(text: &str) -> Result<(), Invalid> {
    let label = |part: &str| {
        let edge =
            |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        edge(part.chars().next())
            && edge(part.chars().next_back())
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        return Ok(());
    }
    Err(Invalid::new(
        "InvalidParameter",
        Some("metadata.name"),
        format!(
            "The pod name '{text}' is invalid. Use at most 253 lower-case letters, digits, '-' and '.', the first and the last a letter or a digit."
        ),
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("mignode", true)]
    #[case("a", true)]
    #[case("a23456789012", true)]
    #[case("a234567890123", false)]
    #[case("1abc", false)]
    #[case("MigNode", false)]
    #[case("mig-node", false)]
    #[case("", false)]
    #[case("é", false)]
    fn pool_names_follow_the_rule_of_aks(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(text.parse::<PoolName>().is_ok(), valid);
    }

    #[rstest]
    #[case("myResourceGroup", true)]
    #[case("a.b_(c)-d", true)]
    #[case("ends.", false)]
    #[case("a/b", false)]
    #[case("", false)]
    fn group_names_follow_the_rule_of_arm(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(text.parse::<GroupName>().is_ok(), valid);
    }

    #[rstest]
    #[case("myAKSCluster", true)]
    #[case("-a", false)]
    #[case("a-", false)]
    #[case("a b", false)]
    fn cluster_names_follow_the_rule_of_aks(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(text.parse::<ClusterName>().is_ok(), valid);
    }

    #[test]
    fn names_keep_their_spelling_and_compare_without_case() {
        let a: GroupName = "MyGroup".parse().unwrap();
        let b: GroupName = "mygroup".parse().unwrap();
        assert_eq!(a, b);
        assert_eq!(a.cmp(&b), Ordering::Equal);
        assert_eq!(a.as_str(), "MyGroup");
        assert_eq!(a.folded(), b.folded());
    }

    #[rstest]
    #[case("00000000-0000-0000-0000-000000000000", true)]
    #[case("8ECADFC9-D1A3-4EA4-B844-0D9F87E4D7C8", true)]
    #[case("8ecadfc9d1a34ea4b8440d9f87e4d7c8", false)]
    #[case("my-subscription", false)]
    fn a_subscription_is_a_uuid(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(text.parse::<SubscriptionId>().is_ok(), valid);
    }

    #[test]
    fn a_stored_name_that_breaks_the_rule_is_refused_when_read() {
        assert!(serde_json::from_str::<PoolName>("\"Bad-Name\"").is_err());
    }
}

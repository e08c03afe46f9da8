//! The versions of what nodes run.

use serde::{Deserialize, Serialize};

/// The version of Kubernetes whose interfaces nodes without a Kubernetes speak: that of the kubelet's gRPC and of manifests.
const SIMULATED_KUBERNETES: &str = "1.33.0";

/// The versions of what nodes run. All nodes of a provider run the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Kubernetes, as `major.minor.patch`.
    pub kubernetes: String,
    /// What nodes are started from, as one word.
    pub node_image: String,
}

impl Versions {
    /// Those of nodes that are processes of migpool: no Kubernetes runs there.
    #[must_use]
    pub fn simulated() -> Self {
        Self {
            kubernetes: SIMULATED_KUBERNETES.to_owned(),
            node_image: concat!("migpool-simulated-", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// Whether `asked` means this version of Kubernetes: the version itself, or its `major.minor` as AKS takes it too.
    #[must_use]
    pub fn is_kubernetes(&self, asked: &str) -> bool {
        let asked = asked.strip_prefix('v').unwrap_or(asked);
        asked == self.kubernetes
            || self
                .kubernetes
                .rsplit_once('.')
                .is_some_and(|(minor, _)| asked == minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_meant_by_itself_and_by_its_minor() {
        let versions = Versions {
            kubernetes: "1.33.4".to_owned(),
            node_image: String::new(),
        };
        for (asked, is) in [
            ("1.33.4", true),
            ("v1.33.4", true),
            ("1.33", true),
            ("1.33.3", false),
            ("1.3", false),
            ("1", false),
            ("", false),
        ] {
            assert_eq!(versions.is_kubernetes(asked), is, "{asked}");
        }
    }
}

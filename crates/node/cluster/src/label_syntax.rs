//! What Kubernetes takes as a label. One label that it doesn't take would make it refuse all of them.

/// A label that no API server takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the label {key:?}={value:?} is left out: {reason}")]
pub struct InvalidLabel {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

const LONGEST: usize = 63;
const LONGEST_PREFIX: usize = 253;

/// What is wrong with a label.
pub(crate) fn fault(key: &str, value: &str) -> Option<&'static str> {
    let (prefix, name) = match key.rsplit_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_some_and(|prefix| !is_dns_subdomain(prefix)) {
        return Some("what is before the / of its key is not a DNS name");
    }
    if name.is_empty() || !is_word(name) {
        return Some(
            "its key is not 1 to 63 letters, digits, -, _ and ., with a letter or digit at either end",
        );
    }
    (!is_word(value)).then_some(
        "its value is not at most 63 letters, digits, -, _ and ., with a letter or digit at either end",
    )
}

/// Empty, or what a label's value or the name of its key may be.
fn is_word(text: &str) -> bool {
    let is_end = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= LONGEST
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && is_end(text.chars().next())
        && is_end(text.chars().last())
}

/// What names objects such as nodes: lower-case letters, digits, `-` and `.`.
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    text.len() <= LONGEST_PREFIX && text.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_takes_is_taken() {
        for (key, value) in [
            ("nvidia.com/gpu.product", "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb"),
            ("nvidia.com/mig-1g.5gb.me.count", "1"),
            ("agentpool", ""),
            ("a/b", &"x".repeat(63)),
        ] {
            assert_eq!(fault(key, value), None, "{key}={value}");
        }
    }

    #[test]
    fn what_kubernetes_refuses_is_found() {
        let long = "x".repeat(64);
        for (key, value) in [
            ("nvidia.com/gpu.product", long.as_str()),
            ("nvidia.com/gpu.product", "A 100"),
            ("nvidia.com/gpu.product", "-A100"),
            ("nvidia.com/gpu.product", "A100."),
            ("nvidia.com/", "v"),
            ("", "v"),
            ("/name", "v"),
            ("NVIDIA.com/gpu", "v"),
            ("a/b/c", "v"),
            (long.as_str(), "v"),
            ("nvidia..com/gpu", "v"),
        ] {
            assert!(fault(key, value).is_some(), "{key}={value}");
        }
    }

    #[test]
    fn a_path_is_not_the_name_of_a_node() {
        for name in [
            "",
            "a/b",
            "../pods",
            "Node",
            "a b",
            "-a",
            "a.",
            &"a".repeat(254),
        ] {
            assert!(!is_dns_subdomain(name), "{name}");
        }
        assert!(is_dns_subdomain(
            "ip-10-0-0-1.eu-central-1.compute.internal"
        ));
    }
}

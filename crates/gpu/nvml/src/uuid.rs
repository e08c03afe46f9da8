//! The names that survive everything: UUIDs of GPUs and of MIG devices.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A text that is not a UUID of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not {kind}: it does not start with \"{prefix}\"")]
pub struct InvalidUuid {
    /// What was given.
    pub text: String,
    /// What was wanted, "a GPU's UUID" or "a MIG device's UUID".
    pub kind: &'static str,
    /// How such a UUID starts.
    pub prefix: &'static str,
}

macro_rules! uuid {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The UUID as the driver writes it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidUuid;

            fn from_str(text: &str) -> Result<Self, InvalidUuid> {
                if text.len() > $prefix.len() && text.starts_with($prefix) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidUuid { text: text.to_owned(), kind: $kind, prefix: $prefix })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidUuid;

            fn try_from(text: String) -> Result<Self, InvalidUuid> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(uuid: $name) -> Self {
                uuid.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

uuid! {
    /// A GPU's UUID, "GPU-48aeb943-9458-4282-da24-e5f49e0db44b". Cheap to clone.
    GpuUuid, "GPU-", "a GPU's UUID"
}

uuid! {
    /// A MIG device's UUID, "MIG-fb42055e-9e53-5764-9278-438605a3014c" (since driver 470). Cheap to clone.
    MigUuid, "MIG-", "a MIG device's UUID"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_of_the_other_kind_is_refused_with_a_reason() {
        let error = "MIG-fb42055e".parse::<GpuUuid>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"MIG-fb42055e\" is not a GPU's UUID: it does not start with \"GPU-\""
        );
        assert!(
            "GPU-".parse::<GpuUuid>().is_err(),
            "a prefix alone names nothing"
        );
        assert_eq!("MIG-1".parse::<MigUuid>().unwrap().to_string(), "MIG-1");
    }
}

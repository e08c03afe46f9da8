//! The names of nodes, in the form that AKS gives them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::key::{Key, PoolKey};

/// The name of a node: `aks-<pool>-<8 digits>-vmss<6 base-36 digits>`.
///
/// The eight digits are a stable hash of the cluster, the last six the node's ordinal in its pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// A text that is not a node's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "node name {0:?} is not 1 to 253 lower-case letters, digits, '-' and '.', the first and the last a letter or a digit"
)]
pub struct NotANodeName(String);

const ORDINAL_DIGITS: usize = 6;
const BASE: u32 = 36;

impl NodeName {
    /// The name of the node with this ordinal in this pool.
    #[must_use]
    pub fn of(pool: &PoolKey, ordinal: u32) -> Self {
        let mut digits = [b'0'; ORDINAL_DIGITS];
        let mut rest = ordinal;
        for digit in digits.iter_mut().rev() {
            // A digit below 36 always has a character, and that is ASCII.
            *digit = char::from_digit(rest % BASE, BASE).map_or(b'0', |c| c as u8);
            rest /= BASE;
        }
        let ordinal = String::from_utf8_lossy(&digits).into_owned();
        Self(format!(
            "aks-{}-{:08}-vmss{ordinal}",
            pool.pool.folded(),
            cluster_hash(pool)
        ))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The node's ordinal in its pool: `None` for a node that was named by somebody else.
    #[must_use]
    pub fn ordinal(&self) -> Option<u32> {
        let (_, digits) = self.0.rsplit_once("-vmss")?;
        if digits.len() != ORDINAL_DIGITS {
            return None;
        }
        u32::from_str_radix(digits, BASE).ok()
    }
}

/// FNV-1a of the cluster's path, as eight decimal digits.
fn cluster_hash(pool: &PoolKey) -> u64 {
    let hash = pool
        .cluster
        .path()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    hash % 100_000_000
}

impl FromStr for NodeName {
    type Err = NotANodeName;

    fn from_str(text: &str) -> Result<Self, NotANodeName> {
        let edge =
            |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if text.len() <= 253
            && edge(text.chars().next())
            && edge(text.chars().next_back())
            && text.chars().all(allowed)
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotANodeName(text.to_owned()))
        }
    }
}

impl TryFrom<String> for NodeName {
    type Error = NotANodeName;

    fn try_from(text: String) -> Result<Self, NotANodeName> {
        text.parse()
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

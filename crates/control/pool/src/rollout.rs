//! How a pool's nodes are brought from one layout to another: a few at a time, and back when a node can't.

use std::fmt;
use std::str::FromStr;

use mig::NodeLayout;
use serde::{Deserialize, Serialize};

use crate::Invalid;
use crate::node_name::NodeName;
use crate::power::PowerState;

/// How many nodes at most are taken out of work at a time: a number, or a share of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MaxUnavailable {
    /// So many; at least 1.
    Count(u32),
    /// So many of a hundred, 1 to 100. It is rounded down, but one node may always go.
    Percent(u8),
}

impl Default for MaxUnavailable {
    /// One at a time.
    fn default() -> Self {
        Self::Count(1)
    }
}

impl MaxUnavailable {
    /// How many nodes that is of so many.
    #[must_use]
    pub fn of(self, nodes: usize) -> usize {
        match self {
            Self::Count(count) => usize::try_from(count).unwrap_or(usize::MAX),
            Self::Percent(percent) => (nodes * usize::from(percent) / 100).max(1),
        }
    }
}

impl fmt::Display for MaxUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for MaxUnavailable {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || {
            Invalid::parameter(
                "agentPoolProfile.maxUnavailable",
                format!(
                    "The value '{text}' of maxUnavailable is invalid. Use a number of nodes, at least 1, or a share such as '10%', from '1%' to '100%'."
                ),
            )
        };
        match text.strip_suffix('%') {
            Some(percent) => percent
                .parse()
                .ok()
                .filter(|percent| (1..=100).contains(percent))
                .map(Self::Percent),
            None => text
                .parse()
                .ok()
                .filter(|count| *count > 0)
                .map(Self::Count),
        }
        .ok_or_else(invalid)
    }
}

impl TryFrom<String> for MaxUnavailable {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<MaxUnavailable> for String {
    fn from(value: MaxUnavailable) -> Self {
        value.to_string()
    }
}

/// What is done about pods that hold a slice which has to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Drain {
    /// The change is refused.
    Never,
    /// They are waited for.
    #[default]
    Wait,
    /// They are evicted, as far as their disruption budgets allow.
    Evict,
}

/// How far a change of a pool's layout has come. It is kept with the pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// The layout that all nodes had last; what they go back to.
    #[serde(default)]
    pub settled: Option<Settled>,
    /// The layout that a node could not take, so that all went back.
    #[serde(default)]
    pub refused: Option<Refused>,
}

/// A layout that every node of a pool has had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The layout; `None` without MIG.
    pub layout: Option<NodeLayout>,
}

/// A layout that a node could not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The layout; `None` without MIG.
    pub layout: Option<NodeLayout>,
    /// The node.
    pub node: NodeName,
    /// What it said.
    pub reason: String,
}

/// How many MIG devices a node or a pool has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Slices {
    /// In all.
    pub total: u64,
    /// Those that can be given to work.
    pub ready: u64,
    /// Those that some pod holds.
    pub in_use: u64,
}

impl std::ops::AddAssign for Slices {
    fn add_assign(&mut self, other: Self) {
        self.total += other.total;
        self.ready += other.ready;
        self.in_use += other.in_use;
    }
}

/// What there is of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolSummary {
    /// Nodes that are in the pool, those that are leaving it too.
    pub nodes: u32,
    /// Those that are as asked.
    pub ready: u32,
    /// Those that were told the layout that is wanted now.
    pub updated: u32,
    /// Their slices.
    pub slices: Slices,
    /// Whether they were to be there, the cluster's power taken into account.
    #[serde(default)]
    pub power: PowerState,
    /// What is going on or wrong, in one word: a condition's reason.
    #[serde(default)]
    pub reason: Reason,
}

/// Why a pool is as it is, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// Nobody looked yet.
    #[default]
    Unknown,
    /// Every node is as asked.
    AsAsked,
    /// Nodes are being made or taken into the pool.
    AddingNodes,
    /// There are too few nodes that could be taken.
    TooFewNodes,
    /// Nodes are being brought to another layout.
    RollingOut,
    /// Nodes are being brought back to the layout that they had, since one could not take the new one.
    RollingBack,
    /// All nodes have the layout that they had before, since one could not take the new one.
    RolledBack,
    /// Nodes are leaving the pool.
    RemovingNodes,
    /// It is stopped and has no node.
    Stopped,
    /// Somebody canceled what was going on; nothing is done until something is asked for again.
    Canceled,
    /// Nodes are not (or no longer) as asked, and may become so by themselves.
    NodesNotReady,
    /// A node can't become as asked by itself.
    NodeFailed,
    /// Nodes can't be found or made: what finds or makes them does not do it, or may not.
    ProviderFailed,
    /// What is wanted cannot be.
    InvalidSpec,
    /// The pool is being deleted.
    Deleting,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1", 10, 1)]
    #[case("3", 10, 3)]
    #[case("10%", 1000, 100)]
    #[case("10%", 19, 1)]
    #[case("10%", 3, 1)]
    #[case("100%", 7, 7)]
    fn a_share_is_rounded_down_and_one_node_may_always_go(
        #[case] text: &str,
        #[case] nodes: usize,
        #[case] expected: usize,
    ) {
        let value: MaxUnavailable = text.parse().unwrap();
        assert_eq!(value.of(nodes), expected);
        assert_eq!(value.to_string(), text);
    }

    #[rstest]
    #[case("0")]
    #[case("0%")]
    #[case("101%")]
    #[case("-1")]
    #[case("")]
    #[case("many")]
    fn what_would_never_let_a_node_go_is_refused(#[case] text: &str) {
        let error = text.parse::<MaxUnavailable>().unwrap_err();
        assert!(error.message.contains("maxUnavailable"), "{error}");
    }
}

//! Whether a pool or a cluster is to run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// Whether a pool or a cluster is to run, with ARM's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PowerState {
    /// It has the nodes that it counts.
    #[default]
    Running,
    /// It has no node, and keeps everything else, its count too.
    Stopped,
}

impl PowerState {
    /// What becomes of it within something that has `outer`: it runs only if both do.
    #[must_use]
    pub fn within(self, outer: Self) -> Self {
        match (self, outer) {
            (Self::Running, Self::Running) => Self::Running,
            _ => Self::Stopped,
        }
    }
}

impl fmt::Display for PowerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for PowerState {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.eq_ignore_ascii_case("Running") {
            Ok(Self::Running)
        } else if text.eq_ignore_ascii_case("Stopped") {
            Ok(Self::Stopped)
        } else {
            Err(Invalid::parameter(
                "agentPoolProfile.powerState.code",
                format!(
                    "The value '{text}' of parameter agentPoolProfile.powerState.code is invalid. Use 'Running' or 'Stopped'."
                ),
            ))
        }
    }
}

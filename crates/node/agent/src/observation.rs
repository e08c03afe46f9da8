//! What the owner thread knows and publishes, besides the inventory and the health.

use partition::Report;
use serde::{Deserialize, Serialize};

/// How it stands with the driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "reason")]
pub enum Driver {
    /// It was not looked for yet.
    #[default]
    Unknown,
    /// There is none on this node.
    Missing(String),
    /// There is one, and it does not work.
    Failed(String),
    /// It answers.
    Loaded,
}

/// How it stands with the wanted layout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// The layout that is wanted.
    pub layout: String,
    /// True when the last attempt brought every GPU to it, and none has lost it since by failing.
    pub done: bool,
    /// How often it was tried since the agent started.
    pub attempts: u32,
    /// Why it is not done, or how the GPUs differ from the layout by now.
    pub message: Option<String>,
    /// The last attempt that came to driver calls or to a result, call by call.
    pub report: Option<Report>,
}

/// All of that.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Observation {
    pub(crate) driver: Driver,
    /// `None` when no layout is wanted.
    pub(crate) partition: Option<PartitionStatus>,
    /// An inventory was published, so that advertising can begin.
    pub(crate) seen: bool,
}

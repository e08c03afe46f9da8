//! What the owner thread knows and publishes, besides the inventory and the health.

use std::collections::BTreeSet;
use std::fmt;

use partition::{Holder, InUse, Report};
use serde::{Deserialize, Serialize};

use crate::Drain;
use crate::holders::{Holders, Pod};

/// How it stands with the driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "reason")]
pub enum Driver {
    /// It was not looked for yet.
    #[default]
    Unknown,
    /// There is none on this node, and nothing says that there should be one.
    Missing(String),
    /// There is one and it does not work, or there should be one.
    Failed(String),
    /// It answers.
    Loaded,
}

/// How it stands with the wanted layout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// The layout that is wanted; empty when the GPUs are left as they are.
    pub layout: String,
    /// Why what is wanted now is not known: the layout file cannot be read or understood. `layout` is what was wanted
    /// before then.
    pub complaint: Option<String>,
    /// The `GpuNode` that said so, or said nothing of it; none where there is none, or none was seen yet.
    #[serde(default)]
    pub asked: Option<Asked>,
    /// Where it is on the way there.
    pub step: PartitionStep,
    /// True when the last attempt brought every GPU to it, and none has lost it since by failing.
    pub done: bool,
    /// How often it was tried since the agent started.
    pub attempts: u32,
    /// Why it is not done, or how the GPUs differ from the layout by now.
    pub message: Option<String>,
    /// What is done about those who use what has to go.
    pub drain: Drain,
    /// How often somebody had to be waited for or evicted since the agent started.
    pub drains: u32,
    /// Those who use what has to go.
    pub blockers: Vec<Blocker>,
    /// The last attempt that came to driver calls or to a result, call by call.
    pub report: Option<Report>,
}

/// What a `GpuNode` said at some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The object's UID.
    pub uid: String,
    /// The generation of its spec.
    pub generation: i64,
}

/// Where a layout is on its way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionStep {
    /// It was not tried yet.
    #[default]
    Pending,
    /// No layout is wanted, or none is known to be.
    LeftAlone,
    /// Slices that have to go are held back for a moment, so that nobody new gets them.
    HoldingBack,
    /// Those who use what has to go are waited for.
    Draining,
    /// The GPUs are being changed.
    Changing,
    /// It cannot be, or must not be now; everything is as it was.
    Refused,
    /// The driver did not do it; it is tried again.
    Failed,
    /// The GPUs have it.
    Done,
}

/// Somebody who uses what has to go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Blocker {
    /// NVML's index of the GPU.
    pub gpu: u32,
    /// What of it: `1g.5gb at 2 (GPU instance 9)`, or the GPU as a whole.
    pub what: String,
    /// Who, in words: `pod default/train`.
    pub who: String,
    /// The pod, if it is one.
    pub pod: Option<Pod>,
}

impl Blocker {
    /// Everybody who is in the way.
    pub(crate) fn all(in_use: &[InUse], holders: &Holders) -> Vec<Self> {
        let of = |held: &InUse, holder: &Holder| Self {
            gpu: held.index,
            what: held.what.clone(),
            who: holder.who.clone(),
            pod: holders.pod(holder).cloned(),
        };
        let all = in_use.iter().flat_map(|held| {
            let holders = held.holders.iter();
            holders.map(move |holder| of(held, holder))
        });
        // In an order of their own, whatever order the kubelet told them in.
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} uses {} of GPU {}", self.who, self.what, self.gpu)
    }
}

/// How many blockers are named in a sentence.
const NAMED: usize = 4;

/// Blockers in words: the first few, and how many more.
pub(crate) fn in_words(blockers: &[Blocker]) -> String {
    let mut names: Vec<_> = blockers
        .iter()
        .take(NAMED)
        .map(ToString::to_string)
        .collect();
    let others = blockers.len().saturating_sub(NAMED);
    if others > 0 {
        names.push(format!("{others} more"));
    }
    names.join(", ")
}

/// All of that.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Observation {
    pub(crate) driver: Driver,
    /// `None` when this agent does not partition.
    pub(crate) partition: Option<PartitionStatus>,
    /// An inventory was published, so that advertising can begin.
    pub(crate) seen: bool,
}

//! The layouts of a node's GPUs: one for all, or `0-3=3g.20gb,2g.10gb,1g.5gb*2;4-7=off`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::board::Board;
use crate::layout::{Layout, LayoutError};
use crate::layout_spec::{LayoutSpec, ParseLayoutError};
use crate::text::serde_as_text;

/// No node has GPUs with higher indices; NVML's capability minors end at 32 GPUs.
const MAX_INDEX: u32 = 1023;

/// Which GPUs of a node an entry is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GpuSelector {
    /// Every GPU of the node that has MIG.
    All,
    /// The GPUs with these NVML indices.
    Indices(BTreeSet<u32>),
}

impl GpuSelector {
    /// Whether the GPU with this index is meant.
    #[must_use]
    pub fn matches(&self, index: u32) -> bool {
        match self {
            Self::All => true,
            Self::Indices(indices) => indices.contains(&index),
        }
    }
}

impl fmt::Display for GpuSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Indices(indices) = self else {
            return f.write_str("all");
        };
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for index in indices {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(*index) => *last = *index,
                _ => ranges.push((*index, *index)),
            }
        }
        for (position, (first, last)) in ranges.iter().enumerate() {
            let comma = if position > 0 { "," } else { "" };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

/// The layouts of a node's GPUs. GPUs that no entry names are left alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeLayout(Vec<(GpuSelector, LayoutSpec)>);

impl NodeLayout {
    /// The same layout for every GPU that has MIG.
    #[must_use]
    pub fn uniform(layout: LayoutSpec) -> Self {
        Self(vec![(GpuSelector::All, layout)])
    }

    /// A layout from its entries.
    ///
    /// # Errors
    /// When two entries name the same GPU, or there is none.
    pub fn new(
        entries: impl IntoIterator<Item = (GpuSelector, LayoutSpec)>,
    ) -> Result<Self, ParseNodeLayoutError> {
        let entries: Vec<_> = entries.into_iter().collect();
        if entries.is_empty() {
            return Err(ParseLayoutError::Empty.into());
        }
        let mut seen = BTreeSet::new();
        let overlap = |gpu: String| Err(ParseNodeLayoutError::Overlap { gpu });
        for (selector, _) in &entries {
            match selector {
                GpuSelector::All if entries.len() > 1 => return overlap("all GPUs".to_owned()),
                GpuSelector::All => {}
                GpuSelector::Indices(indices) => {
                    for index in indices {
                        if !seen.insert(*index) {
                            return overlap(format!("GPU {index}"));
                        }
                    }
                }
            }
        }
        Ok(Self(entries))
    }

    /// Groups the layouts of single GPUs, in the order of the first GPU of each group; `None` when there
    /// is no GPU.
    #[must_use]
    pub fn of_gpus(gpus: impl IntoIterator<Item = (u32, LayoutSpec)>) -> Option<Self> {
        let gpus: BTreeMap<u32, LayoutSpec> = gpus.into_iter().collect();
        let mut groups: Vec<(BTreeSet<u32>, LayoutSpec)> = Vec::new();
        for (index, layout) in gpus {
            match groups.iter_mut().find(|(_, other)| *other == layout) {
                Some((indices, _)) => {
                    indices.insert(index);
                }
                None => groups.push((BTreeSet::from([index]), layout)),
            }
        }
        let entries = groups
            .into_iter()
            .map(|(i, layout)| (GpuSelector::Indices(i), layout));
        Self::new(entries).ok()
    }

    /// The entries, as they were written.
    #[must_use]
    pub fn entries(&self) -> &[(GpuSelector, LayoutSpec)] {
        &self.0
    }

    /// What is wanted on the GPU with this NVML index; `None` when it is to be left alone.
    #[must_use]
    pub fn for_gpu(&self, index: u32) -> Option<&LayoutSpec> {
        self.0
            .iter()
            .find(|(selector, _)| selector.matches(index))
            .map(|(_, layout)| layout)
    }

    /// Resolves the layout of each GPU that has MIG, given as index and board. In the result `None` is
    /// MIG mode off, and a GPU to be left alone is missing.
    ///
    /// # Errors
    /// When an entry names a GPU that is not among `gpus`, or a layout cannot be on its GPU's board.
    pub fn resolve<'a>(
        &self,
        gpus: impl IntoIterator<Item = (u32, &'a Board)>,
    ) -> Result<BTreeMap<u32, Option<Layout>>, NodeLayoutError> {
        let gpus: BTreeMap<u32, &Board> = gpus.into_iter().collect();
        for (selector, _) in &self.0 {
            let GpuSelector::Indices(indices) = selector else {
                continue;
            };
            if let Some(index) = indices.iter().find(|index| !gpus.contains_key(index)) {
                let present = if gpus.is_empty() {
                    "none".to_owned()
                } else {
                    GpuSelector::Indices(gpus.keys().copied().collect()).to_string()
                };
                return Err(NodeLayoutError::NoSuchGpu {
                    gpu: *index,
                    present,
                });
            }
        }
        let mut layouts = BTreeMap::new();
        for (index, board) in gpus {
            let Some(spec) = self.for_gpu(index) else {
                continue;
            };
            let layout = spec.resolve(board);
            let layout = layout.map_err(|reason| NodeLayoutError::Layout { gpu: index, reason })?;
            layouts.insert(index, layout);
        }
        Ok(layouts)
    }
}

impl From<LayoutSpec> for NodeLayout {
    fn from(layout: LayoutSpec) -> Self {
        Self::uniform(layout)
    }
}

impl fmt::Display for NodeLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (selector, layout)) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(";")?;
            }
            match selector {
                GpuSelector::All => write!(f, "{layout}")?,
                GpuSelector::Indices(_) => write!(f, "{selector}={layout}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for NodeLayout {
    type Err = ParseNodeLayoutError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let entry = |part: &str| -> Result<_, ParseNodeLayoutError> {
            match part.split_once('=') {
                None => Ok((GpuSelector::All, part.parse()?)),
                Some((gpus, layout)) => Ok((selector(gpus.trim())?, layout.parse()?)),
            }
        };
        Self::new(text.split(';').map(entry).collect::<Result<Vec<_>, _>>()?)
    }
}

fn selector(text: &str) -> Result<GpuSelector, ParseNodeLayoutError> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(GpuSelector::All);
    }
    let wrong = || ParseNodeLayoutError::Selector {
        text: text.to_owned(),
    };
    let index = |text: &str| {
        text.trim()
            .parse::<u32>()
            .ok()
            .filter(|index| *index <= MAX_INDEX)
            .ok_or_else(wrong)
    };
    let mut indices = BTreeSet::new();
    for item in text.split(',') {
        let (first, last) = match item.split_once('-') {
            None => (index(item)?, index(item)?),
            Some((first, last)) => (index(first)?, index(last)?),
        };
        if first > last {
            return Err(wrong());
        }
        indices.extend(first..=last);
    }
    Ok(GpuSelector::Indices(indices))
}

serde_as_text!(NodeLayout);

/// A text that is not the layout of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseNodeLayoutError {
    /// The layout of one entry is wrong.
    #[error(transparent)]
    Layout(#[from] ParseLayoutError),
    /// What stands before `=` is not a choice of GPUs.
    #[error("`{text}` does not name GPUs; write their indices, as 0-3 or 0,2, or all")]
    Selector {
        /// The text as it was given.
        text: String,
    },
    /// Two entries name the same GPU.
    #[error("{gpu} is given more than one layout; name each GPU once")]
    Overlap {
        /// The GPU, or all of them.
        gpu: String,
    },
}

/// Why a node's layout cannot be on its GPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeLayoutError {
    /// An entry names a GPU that is not there or has no MIG.
    #[error(
        "the layout names GPU {gpu}, which this node does not have as a MIG-capable GPU; it has {present}"
    )]
    NoSuchGpu {
        /// The index that was named.
        gpu: u32,
        /// The indices that there are, or `none`.
        present: String,
    },
    /// A GPU's layout cannot be on its board.
    #[error("GPU {gpu}: {reason}")]
    Layout {
        /// The GPU's index.
        gpu: u32,
        /// Why.
        reason: LayoutError,
    },
}

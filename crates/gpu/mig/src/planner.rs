//! From the GPU instances that exist to those that are wanted, keeping as many as can be kept.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::fit::{self, Search};
use crate::layout::{Layout, LayoutError};
use crate::placement::PlacedInstance;

/// NVML allows 15 GPU instances on a GPU; the search below looks at each set of them.
const MAX_EXISTING: usize = 16;

/// A GPU instance that is on the GPU now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Existing {
    /// What it is and where it lies.
    pub instance: PlacedInstance,
    /// Whether something uses it, so that destroying it would harm.
    pub in_use: bool,
}

/// How to get from the existing GPU instances to a layout: destroy first, then create in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlacementPlan {
    /// Indices of the existing instances that stay, ascending.
    pub keep: Vec<usize>,
    /// Indices of the existing instances that go, ascending.
    pub destroy: Vec<usize>,
    /// The instances to create, each at its placement, largest first. Their places are free once
    /// `destroy` is done and do not overlap, so every create succeeds.
    pub create: Vec<PlacedInstance>,
}

impl PlacementPlan {
    /// Whether the layout is already there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.destroy.is_empty() && self.create.is_empty()
    }
}

/// Why no plan can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The layout cannot be on the board, whatever is there now.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// More instances than a GPU can have.
    #[error(
        "{count} GPU instances are reported on one GPU, more than the {MAX_EXISTING} that are possible"
    )]
    TooManyInstances {
        /// How many were given.
        count: usize,
    },
}

/// Plans the change from `existing` to `wanted` on one GPU.
///
/// Of all ways to reach `wanted` it keeps the most instances that are in use, and among those the most
/// instances altogether: sets of existing instances are tried from the best to the worst, and the first
/// beside which a complete search finds room for the rest is taken. Whether an instance in use may be
/// destroyed is for the caller to decide.
///
/// # Errors
/// [`PlanError::Layout`] when `wanted` does not fit on the board even when it is empty; then no plan
/// exists, since an empty GPU can always be reached.
pub fn plan(
    board: &Board,
    existing: &[Existing],
    wanted: &Layout,
) -> Result<PlacementPlan, PlanError> {
    if existing.len() > MAX_EXISTING {
        return Err(PlanError::TooManyInstances {
            count: existing.len(),
        });
    }
    // Limits other than place depend on the final multiset alone, which is `wanted` in every plan.
    let on_empty = fit::check(board, wanted)?;
    let entries = fit::entries(board, &wanted.profiles())?;
    let search = Search::new(board, &entries);
    let candidates = candidates(existing, &search);
    let (keep, mut create) = best_first(&candidates, &search.wanted)
        .into_iter()
        .find_map(|set| {
            let mut missing = search.wanted.clone();
            let mut occupied = 0;
            for candidate in members(&candidates, set) {
                occupied |= candidate.mask;
                if let Some(count) = missing.get_mut(candidate.slot) {
                    *count -= 1;
                }
            }
            let create = search.arrange(occupied, &missing)?;
            Some((members(&candidates, set).map(|c| c.index).collect(), create))
        })
        .unwrap_or_else(|| (Vec::new(), on_empty));
    create.sort_by_key(|i| (Reverse(i.placement.size()), i.placement.start()));
    let destroy = (0..existing.len())
        .filter(|index| !keep.contains(index))
        .collect();
    Ok(PlacementPlan {
        keep,
        destroy,
        create,
    })
}

/// An existing instance of a wanted profile.
struct Candidate {
    /// Its index in `existing`.
    index: usize,
    /// The slot of its profile in the search.
    slot: usize,
    mask: u32,
    in_use: bool,
}

fn candidates(existing: &[Existing], search: &Search) -> Vec<Candidate> {
    let candidate = |(index, existing): (usize, &Existing)| {
        let instance = existing.instance;
        let (slot, mask) = (search.slot(instance.profile)?, instance.placement.mask()?);
        Some(Candidate {
            index,
            slot,
            mask,
            in_use: existing.in_use,
        })
    };
    existing.iter().enumerate().filter_map(candidate).collect()
}

/// The members of a set of candidates, given as bits.
fn members(candidates: &[Candidate], set: u32) -> impl Iterator<Item = &Candidate> {
    candidates
        .iter()
        .enumerate()
        .filter(move |(bit, _)| set >> bit & 1 == 1)
        .map(|(_, c)| c)
}

/// The nonempty sets of candidates that `wanted` has use for, best first: most in use, then most, then
/// the one with the earliest instances.
fn best_first(candidates: &[Candidate], wanted: &[u32]) -> Vec<u32> {
    let of = |choose: &dyn Fn(&Candidate) -> bool| {
        let chosen = candidates.iter().enumerate().filter(|(_, c)| choose(c));
        chosen.fold(0_u32, |set, (bit, _)| set | 1 << bit)
    };
    let in_use = of(&|c| c.in_use);
    let of_slot: Vec<(u32, u32)> = wanted
        .iter()
        .enumerate()
        .map(|(slot, n)| (of(&|c| c.slot == slot), *n))
        .collect();
    let wanted_at_most = |set: u32| {
        of_slot
            .iter()
            .all(|(slot, count)| (set & slot).count_ones() <= *count)
    };
    let apart = |set: u32| {
        let sum: u32 = members(candidates, set).map(|c| c.mask.count_ones()).sum();
        let union = members(candidates, set).fold(0, |units, c| units | c.mask);
        union.count_ones() == sum
    };
    // What a driver reports does not overlap; were it otherwise, no overlapping pair would be kept.
    let overlapping = !apart((1 << candidates.len()) - 1);
    let mut sets: Vec<u32> = (1..1_u32 << candidates.len())
        .filter(|set| wanted_at_most(*set) && (!overlapping || apart(*set)))
        .collect();
    sets.sort_unstable_by_key(|set| {
        (
            Reverse((set & in_use).count_ones()),
            Reverse(set.count_ones()),
            *set,
        )
    });
    sets
}

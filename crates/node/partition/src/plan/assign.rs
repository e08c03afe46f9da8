//! Which kept or created GPU instance becomes which wanted one, in the fewest calls.
//!
//! The planner of [`mig`] settles how many instances of each profile can stay and where the new
//! ones go. What is left to choose: among instances of one profile, which ones stay, and which
//! division into compute instances each of them gets.

use std::collections::BTreeMap;

use mig::{PlacedInstance, PlacementPlan, Profile};

use super::compute::{Change, Present, change};

/// A GPU instance that is there.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// Profile and placement.
    pub(super) placed: PlacedInstance,
    /// Its compute slices.
    pub(super) slices: u8,
    /// In use, or not ours: it must stay if it can.
    pub(super) pinned: bool,
    /// Its compute instances.
    pub(super) present: Vec<Present>,
}

/// The outcome.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    /// Positions of those that stay, with the change of their compute instances.
    pub(super) kept: Vec<(usize, Change)>,
    /// Positions of those that go.
    pub(super) destroyed: Vec<usize>,
    /// The new ones in an order that always succeeds, with their compute instances, largest first.
    pub(super) created: Vec<(PlacedInstance, Vec<u8>)>,
}

/// Pinned ones lost, then driver calls.
type Cost = (usize, usize);

/// Assigns what is wanted to what the planner keeps and creates.
pub(super) fn assign(
    candidates: &[Candidate],
    wanted: &[(Profile, Vec<u8>)],
    plan: &PlacementPlan,
) -> Assignment {
    let mut divisions: BTreeMap<Profile, Vec<Vec<u8>>> = BTreeMap::new();
    for (profile, compute) in wanted {
        divisions.entry(*profile).or_default().push(compute.clone());
    }
    let keep = improve(candidates, &divisions, plan);

    let mut assignment = Assignment {
        destroyed: (0..candidates.len())
            .filter(|position| !keep.contains(position))
            .collect(),
        ..Assignment::default()
    };
    for (profile, wanted) in &mut divisions {
        let (_, chosen) = cheapest(candidates, &of_profile(candidates, &keep, *profile), wanted);
        let mut used = Vec::new();
        for (position, division, change) in chosen {
            used.push(division);
            assignment.kept.push((position, change));
        }
        let mut position = 0;
        wanted.retain(|_| {
            position += 1;
            !used.contains(&(position - 1))
        });
    }
    assignment
        .kept
        .sort_unstable_by_key(|(position, _)| *position);
    for placed in &plan.create {
        let mut compute = divisions
            .get_mut(&placed.profile)
            .and_then(Vec::pop)
            .unwrap_or_default();
        compute.sort_unstable_by(|a, b| b.cmp(a));
        assignment.created.push((*placed, compute));
    }
    assignment
}

/// The planner's choice of what stays, with instances exchanged for others of the same profile
/// where that saves calls and the new ones still have their room.
fn improve(
    candidates: &[Candidate],
    divisions: &BTreeMap<Profile, Vec<Vec<u8>>>,
    plan: &PlacementPlan,
) -> Vec<usize> {
    let mut keep = plan.keep.clone();
    let mut best = total(candidates, divisions, &keep);
    let mut improved = true;
    while improved {
        improved = false;
        for (slot, out) in keep.clone().into_iter().enumerate() {
            for (other, candidate) in candidates.iter().enumerate() {
                let same = candidates
                    .get(out)
                    .is_some_and(|kept| kept.placed.profile == candidate.placed.profile);
                if keep.contains(&other)
                    || !same
                    || !is_free(candidate, candidates, &keep, out, plan)
                {
                    continue;
                }
                let mut exchanged = keep.clone();
                if let Some(position) = exchanged.get_mut(slot) {
                    *position = other;
                }
                let cost = total(candidates, divisions, &exchanged);
                if cost < best {
                    (keep, best, improved) = (exchanged, cost, true);
                }
            }
        }
    }
    keep
}

/// Whether an instance may stay in place of `out`: it overlaps with nothing else that will be there.
fn is_free(
    candidate: &Candidate,
    candidates: &[Candidate],
    keep: &[usize],
    out: usize,
    plan: &PlacementPlan,
) -> bool {
    let placement = candidate.placed.placement;
    let stays = keep.iter().filter(|position| **position != out);
    stays
        .filter_map(|position| candidates.get(*position))
        .map(|kept| kept.placed.placement)
        .chain(plan.create.iter().map(|created| created.placement))
        .all(|there| !there.overlaps(placement))
}

/// The cost of keeping exactly these.
fn total(
    candidates: &[Candidate],
    divisions: &BTreeMap<Profile, Vec<Vec<u8>>>,
    keep: &[usize],
) -> Cost {
    let destroyed = candidates
        .iter()
        .enumerate()
        .filter(|(position, _)| !keep.contains(position))
        .map(|(_, candidate)| (usize::from(candidate.pinned), candidate.present.len() + 1));
    let made = divisions.iter().map(|(profile, wanted)| {
        cheapest(candidates, &of_profile(candidates, keep, *profile), wanted).0
    });
    destroyed.chain(made).fold((0, 0), add)
}

fn add(a: Cost, b: Cost) -> Cost {
    (a.0 + b.0, a.1 + b.1)
}

fn of_profile(candidates: &[Candidate], keep: &[usize], profile: Profile) -> Vec<usize> {
    keep.iter()
        .copied()
        .filter(|position| {
            candidates
                .get(*position)
                .is_some_and(|c| c.placed.profile == profile)
        })
        .collect()
}

/// A kept instance's position, the division that it gets, and what that changes.
type Choice = (usize, usize, Change);

/// The cheapest way to give each kept instance of a profile one of the wanted divisions, with the
/// creation of the rest. Dynamic programming over the sets of divisions given out; there are at
/// most seven.
fn cheapest(candidates: &[Candidate], kept: &[usize], wanted: &[Vec<u8>]) -> (Cost, Vec<Choice>) {
    let mut states: BTreeMap<u32, (Cost, Vec<Choice>)> = BTreeMap::from([(0, ((0, 0), vec![]))]);
    for position in kept {
        let Some(candidate) = candidates.get(*position) else {
            continue;
        };
        let changes: Vec<Change> = wanted
            .iter()
            .map(|division| change(candidate.slices, &candidate.present, division))
            .collect();
        let mut next: BTreeMap<u32, (Cost, Vec<Choice>)> = BTreeMap::new();
        for (given, (cost, choices)) in &states {
            for (division, change) in changes.iter().enumerate() {
                let bit = 1_u32 << division.min(31);
                if given & bit != 0 {
                    continue;
                }
                let cost = add(*cost, change.cost());
                if next
                    .get(&(given | bit))
                    .is_none_or(|(known, _)| cost < *known)
                {
                    let mut choices = choices.clone();
                    choices.push((*position, division, change.clone()));
                    next.insert(given | bit, (cost, choices));
                }
            }
        }
        states = next;
    }
    states
        .into_iter()
        .map(|(given, (cost, choices))| {
            let created = wanted
                .iter()
                .enumerate()
                .filter(|(division, _)| given & (1 << (*division).min(31)) == 0)
                .map(|(_, compute)| (0, compute.len() + 1));
            (created.fold(cost, add), choices)
        })
        .min_by_key(|(cost, _)| *cost)
        .unwrap_or_default()
}

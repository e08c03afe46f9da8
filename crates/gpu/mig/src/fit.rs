//! Whether a multiset of GPU instances fits a board, and where its members can lie.

use std::collections::BTreeMap;

use crate::board::{Board, BoardProfile};
use crate::layout::{Layout, LayoutError, Misfit};
use crate::nearest;
use crate::placement::{PlacedInstance, Placement};
use crate::profile::Profile;

/// How many instances of each profile are wanted.
pub(crate) type Counts = BTreeMap<Profile, u32>;

/// Places `layout` on an empty GPU, or says why that cannot be done.
pub(crate) fn check(board: &Board, layout: &Layout) -> Result<Vec<PlacedInstance>, LayoutError> {
    let counts = layout.profiles();
    let entries = entries(board, &counts)?;
    layout.check_compute_instances()?;
    arrange(board, &entries).map_err(|reason| LayoutError::DoesNotFit {
        layout: layout.clone(),
        board: board.name.clone(),
        reason,
        nearest: nearest::nearest(board, layout),
    })
}

/// The board's entries for the wanted profiles, with how many of each.
pub(crate) fn entries<'a>(
    board: &'a Board,
    counts: &Counts,
) -> Result<Vec<(&'a BoardProfile, u32)>, LayoutError> {
    counts
        .iter()
        .map(|(profile, count)| {
            let entry = board.profile(*profile);
            Ok((
                entry.ok_or_else(|| LayoutError::unknown_profile(profile, board))?,
                *count,
            ))
        })
        .collect()
}

/// Places the wanted instances on an empty GPU, or says what prevents it.
pub(crate) fn arrange(
    board: &Board,
    wanted: &[(&BoardProfile, u32)],
) -> Result<Vec<PlacedInstance>, Misfit> {
    if let Some(misfit) = limit(board, wanted) {
        return Err(misfit);
    }
    let search = Search::new(board, wanted);
    search
        .arrange(0, &search.wanted)
        .ok_or(Misfit::NoArrangement)
}

/// A kind of media engine, and how many of it an instance has.
type Engine = (&'static str, fn(&BoardProfile) -> Option<u16>);

/// The first limit that the wanted instances exceed wherever they lie.
///
/// Media engines are counted only where the board's data has them for every profile; that is what makes
/// `+me` and `+me.all` exclude others that need the same engines.
pub(crate) fn limit(board: &Board, wanted: &[(&BoardProfile, u32)]) -> Option<Misfit> {
    let sum = |of: fn(&BoardProfile) -> u32| -> u64 {
        wanted
            .iter()
            .map(|(entry, count)| u64::from(of(entry)) * u64::from(*count))
            .sum()
    };
    for (entry, count) in wanted {
        let max = u32::from(entry.max_instances);
        if *count > max {
            return Some(Misfit::TooMany {
                profile: entry.profile,
                wanted: *count,
                max,
            });
        }
    }
    let units = sum(|entry| entry.size.into());
    if units > board.memory_units.into() {
        return Some(Misfit::MemoryUnits {
            wanted: units,
            available: board.memory_units,
        });
    }
    let slices = sum(|entry| entry.slices.into());
    if slices > board.compute_slices.into() {
        return Some(Misfit::ComputeSlices {
            wanted: slices,
            available: board.compute_slices,
        });
    }
    let engines: [Engine; 4] = [
        ("video decoders", |entry| entry.decoders),
        ("video encoders", |entry| entry.encoders),
        ("JPEG engines", |entry| entry.jpeg),
        ("optical flow engines", |entry| entry.ofa),
    ];
    for (engine, of) in engines {
        let all: Option<Vec<u16>> = board.profiles.iter().map(of).collect();
        let Some(available) = all.and_then(|engines| engines.into_iter().max()) else {
            continue;
        };
        let wanted: u64 = wanted
            .iter()
            .map(|(entry, count)| u64::from(of(entry).unwrap_or(0)) * u64::from(*count))
            .sum();
        if wanted > available.into() {
            return Some(Misfit::Engines {
                engine,
                wanted,
                available,
            });
        }
    }
    None
}

/// Whether these instances, which do not overlap, also stay within every other limit of the board.
pub(crate) fn within_limits(board: &Board, instances: &[PlacedInstance]) -> bool {
    let mut counts = Counts::new();
    for instance in instances {
        *counts.entry(instance.profile).or_default() += 1;
    }
    entries(board, &counts).is_ok_and(|entries| limit(board, &entries).is_none())
}

/// The most instances of `profile` on an otherwise empty GPU.
pub(crate) fn max_fit(board: &Board, profile: Profile) -> u8 {
    let Some(entry) = board.profile(profile) else {
        return 0;
    };
    let most = entry.max_instances.min(board.memory_units);
    (1..=most)
        .rev()
        .find(|count| arrange(board, &[(entry, u32::from(*count))]).is_ok())
        .unwrap_or(0)
}

/// A complete search for places, by bit masks of memory units.
///
/// Profiles are tried largest first, and among equals the one with fewer starts; a profile's own starts
/// in the order of how few other placements they rule out, so that what is left stays useful.
pub(crate) struct Search {
    slots: Vec<Slot>,
    /// How many of each slot's profile are wanted, in the order of `slots`.
    pub(crate) wanted: Vec<u32>,
}

struct Slot {
    profile: Profile,
    size: u8,
    places: Vec<(Placement, u32)>,
}

impl Search {
    pub(crate) fn new(board: &Board, wanted: &[(&BoardProfile, u32)]) -> Self {
        let masks: Vec<u32> = board
            .profiles
            .iter()
            .flat_map(masks)
            .map(|(_, mask)| mask)
            .collect();
        let mut slots: Vec<(Slot, u32)> = wanted
            .iter()
            .map(|(entry, count)| {
                let mut places: Vec<_> = masks_within(entry, board).collect();
                places.sort_by_key(|(placement, mask)| {
                    (
                        masks.iter().filter(|other| *other & mask != 0).count(),
                        placement.start(),
                    )
                });
                (
                    Slot {
                        profile: entry.profile,
                        size: entry.size,
                        places,
                    },
                    *count,
                )
            })
            .collect();
        slots.sort_by_key(|(slot, _)| {
            (
                std::cmp::Reverse(slot.size),
                slot.places.len(),
                std::cmp::Reverse(slot.profile),
            )
        });
        let (slots, wanted) = slots.into_iter().unzip();
        Self { slots, wanted }
    }

    /// The position of `profile` in `wanted`.
    pub(crate) fn slot(&self, profile: Profile) -> Option<usize> {
        self.slots.iter().position(|slot| slot.profile == profile)
    }

    /// Places `counts` instances (in the order of `wanted`) beside the `occupied` units, or `None` when
    /// there is no way to.
    pub(crate) fn arrange(&self, occupied: u32, counts: &[u32]) -> Option<Vec<PlacedInstance>> {
        let mut chosen = Vec::with_capacity(8);
        let slots: Vec<(&Slot, u32)> = self
            .slots
            .iter()
            .zip(counts)
            .filter(|(_, n)| **n > 0)
            .map(|(s, n)| (s, *n))
            .collect();
        place(&slots, occupied, &mut chosen).then_some(chosen)
    }
}

/// Places all of the slots' instances, slot by slot.
fn place(slots: &[(&Slot, u32)], occupied: u32, chosen: &mut Vec<PlacedInstance>) -> bool {
    let Some(((slot, count), rest)) = slots.split_first() else {
        return true;
    };
    place_slot(slot, *count, &slot.places, rest, occupied, chosen)
}

/// Places `count` instances of one slot on `places`, then the rest. Instances of one profile are alike,
/// so each next one only looks at places after the last.
fn place_slot(
    slot: &Slot,
    count: u32,
    places: &[(Placement, u32)],
    rest: &[(&Slot, u32)],
    occupied: u32,
    chosen: &mut Vec<PlacedInstance>,
) -> bool {
    if count == 0 {
        return place(rest, occupied, chosen);
    }
    let mut places = places;
    while let Some(((placement, mask), later)) = places.split_first() {
        places = later;
        if occupied & mask != 0 {
            continue;
        }
        chosen.push(PlacedInstance {
            profile: slot.profile,
            placement: *placement,
        });
        if place_slot(slot, count - 1, later, rest, occupied | mask, chosen) {
            return true;
        }
        chosen.pop();
    }
    false
}

fn masks(entry: &BoardProfile) -> impl Iterator<Item = (Placement, u32)> + '_ {
    entry.starts.iter().filter_map(|start| {
        let placement = Placement::from_driver(*start, entry.size);
        placement.mask().map(|mask| (placement, mask))
    })
}

/// The profile's places that lie within the board.
fn masks_within<'a>(
    entry: &'a BoardProfile,
    board: &Board,
) -> impl Iterator<Item = (Placement, u32)> + use<'a> {
    let units = u16::from(board.memory_units);
    masks(entry).filter(move |(placement, _)| placement.end() <= units)
}

//! The layout nearest to one that does not fit.

use std::cmp::Reverse;

use crate::board::Board;
use crate::fit::{self, Counts};
use crate::layout::{GpuInstanceSpec, Layout};
use crate::profile::{Attribute, Profile};

/// The nearest layout to `wanted` that fits on `board`.
///
/// First as many of the wanted instances as can be together, and among such choices the one with the most
/// compute slices and memory. Then, for each instance left out, largest first, the largest smaller
/// profile that there is still room for: no more slices and no more memory units, and the same attribute,
/// none, or `-me`. So two `4g.20gb` become `4g.20gb,3g.20gb`, and eight `1g.5gb` become seven.
pub(crate) fn nearest(board: &Board, wanted: &Layout) -> Layout {
    let asked: Vec<(Profile, u32)> = wanted.profiles().into_iter().rev().collect();
    let mut best = Best::default();
    choose(board, &asked, &mut Counts::new(), &mut best);
    let mut counts = best.counts;
    for (profile, count) in &asked {
        let dropped = count.saturating_sub(counts.get(profile).copied().unwrap_or(0));
        // No board holds more instances than it has memory units.
        for _ in 0..dropped.min(board.memory_units.into()) {
            let Some(substitute) = substitute(board, *profile, &counts) else {
                break;
            };
            *counts.entry(substitute).or_default() += 1;
        }
    }
    let specs = counts.into_iter().flat_map(|(profile, count)| {
        let asked = wanted
            .instances()
            .iter()
            .filter(move |i| i.profile == profile)
            .cloned();
        let whole = std::iter::repeat(GpuInstanceSpec::whole(profile));
        asked
            .chain(whole)
            .take(usize::try_from(count).unwrap_or(usize::MAX))
    });
    Layout::new(specs)
}

#[derive(Default)]
struct Best {
    counts: Counts,
    score: (u32, u64, u64),
}

/// Tries every number of each asked profile that fits, and keeps the best.
fn choose(board: &Board, asked: &[(Profile, u32)], counts: &mut Counts, best: &mut Best) {
    if !fits(board, counts) {
        return;
    }
    let score = score(board, counts);
    if score > best.score {
        *best = Best {
            counts: counts.clone(),
            score,
        };
    }
    let Some(((profile, count), rest)) = asked.split_first() else {
        return;
    };
    let most = (*count).min(board.max_fit(*profile).into());
    for number in (0..=most).rev() {
        if number > 0 {
            counts.insert(*profile, number);
        } else {
            counts.remove(profile);
        }
        choose(board, rest, counts, best);
    }
}

/// More instances first, then more compute slices, then more memory.
fn score(board: &Board, counts: &Counts) -> (u32, u64, u64) {
    let sum = |of: &dyn Fn(Profile) -> u64| {
        counts
            .iter()
            .map(|(profile, count)| of(*profile) * u64::from(*count))
            .sum()
    };
    (
        counts.values().sum(),
        sum(&|profile| profile.slices().into()),
        sum(&|profile| board.profile(profile).map_or(0, |entry| entry.size.into())),
    )
}

/// The largest profile smaller than `profile` of which one more fits.
fn substitute(board: &Board, profile: Profile, counts: &Counts) -> Option<Profile> {
    let asked = board.profile(profile)?;
    // The attributes that can stand in, the most alike first.
    let attributes = [profile.attribute(), Attribute::None, Attribute::NoMe];
    let rank = |other: Profile| attributes.iter().position(|a| *a == other.attribute());
    let mut smaller: Vec<Profile> = board
        .profiles
        .iter()
        .filter(|entry| entry.slices <= asked.slices && entry.size <= asked.size)
        .map(|entry| entry.profile)
        .filter(|other| *other != profile && rank(*other).is_some())
        .collect();
    smaller.sort_by_key(|other| (Reverse((other.slices(), other.memory_gb())), rank(*other)));
    smaller.into_iter().find(|other| {
        let mut with = counts.clone();
        *with.entry(*other).or_default() += 1;
        fits(board, &with)
    })
}

fn fits(board: &Board, counts: &Counts) -> bool {
    fit::entries(board, counts).is_ok_and(|entries| fit::arrange(board, &entries).is_ok())
}

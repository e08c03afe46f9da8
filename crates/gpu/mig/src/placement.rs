//! Where GPU instances lie in a GPU's memory units, and every way of filling a GPU with them.

use serde::{Deserialize, Serialize};

use crate::board::{Board, BoardProfile};
use crate::fit;
use crate::profile::Profile;

/// A run of memory units that a GPU instance takes, or a run of compute slices of a compute instance.
///
/// Ordered by start, then size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Placement {
    start: u8,
    size: u8,
}

impl Placement {
    /// The placement of an instance of `profile` at `start`.
    ///
    /// # Errors
    /// [`IllegalPlacement`] when instances of this profile cannot start there.
    pub fn new(profile: &BoardProfile, start: u8) -> Result<Self, IllegalPlacement> {
        if profile.starts.contains(&start) {
            Ok(Self {
                start,
                size: profile.size,
            })
        } else {
            let starts: Vec<_> = profile.starts.iter().map(u8::to_string).collect();
            Err(IllegalPlacement {
                profile: profile.profile,
                start,
                starts: starts.join(", "),
            })
        }
    }

    /// The placement that a driver reports for an instance, taken as it is.
    #[must_use]
    pub const fn from_driver(start: u8, size: u8) -> Self {
        Self { start, size }
    }

    /// The first unit.
    #[must_use]
    pub const fn start(self) -> u8 {
        self.start
    }

    /// How many units.
    #[must_use]
    pub const fn size(self) -> u8 {
        self.size
    }

    /// The unit after the last.
    #[must_use]
    pub fn end(self) -> u16 {
        u16::from(self.start) + u16::from(self.size)
    }

    /// Whether the two share a unit.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        u16::from(self.start) < other.end() && u16::from(other.start) < self.end()
    }

    /// The units as bits; `None` beyond unit 31, where no board reaches.
    pub(crate) fn mask(self) -> Option<u32> {
        if self.end() > 32 || self.size == 0 {
            return None;
        }
        Some((u32::MAX >> (32 - u32::from(self.size))) << self.start)
    }
}

impl std::fmt::Display for Placement {
    /// `start:size`, as `nvidia-smi mig -lgi` prints it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}:{}", self.start, self.size))
    }
}

/// A start at which a profile's instances cannot lie.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {profile} GPU instance cannot start at memory unit {start}; it can start at {starts}")]
pub struct IllegalPlacement {
    /// The profile.
    pub profile: Profile,
    /// The start that was asked for.
    pub start: u8,
    /// The starts that there are, separated by commas.
    pub starts: String,
}

/// A GPU instance at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PlacedInstance {
    /// Its profile.
    pub profile: Profile,
    /// Its memory units.
    pub placement: Placement,
}

/// Every nonempty set of GPU instances of the given profiles that can lie on the board together, each
/// set ordered by placement.
///
/// An A100 40GB has 297 of them with `1g.5gb`, `2g.10gb`, `3g.20gb`, `4g.20gb` and `7g.40gb`, and 722
/// with `1g.10gb` too.
#[must_use]
pub fn configurations(board: &Board, profiles: &[Profile]) -> Vec<Vec<PlacedInstance>> {
    let places = places(board, profiles);
    let mut found = Vec::new();
    let mut chosen = Vec::new();
    extend(board, &places, 0, 0, &mut chosen, &mut found);
    found
}

/// Whether no further instance of the given profiles can be added to `configuration`.
#[must_use]
pub fn is_maximal(board: &Board, profiles: &[Profile], configuration: &[PlacedInstance]) -> bool {
    !places(board, profiles).iter().any(|(place, _)| {
        let free = configuration
            .iter()
            .all(|i| !i.placement.overlaps(place.placement));
        let mut extended = configuration.to_vec();
        extended.push(*place);
        free && fit::within_limits(board, &extended)
    })
}

/// Every placement of every given profile, ordered by start.
fn places(board: &Board, profiles: &[Profile]) -> Vec<(PlacedInstance, u32)> {
    let mut places: Vec<_> = board
        .profiles
        .iter()
        .filter(|entry| profiles.contains(&entry.profile))
        .flat_map(|entry| {
            entry.starts.iter().filter_map(|start| {
                let placement = Placement {
                    start: *start,
                    size: entry.size,
                };
                let instance = PlacedInstance {
                    profile: entry.profile,
                    placement,
                };
                placement.mask().map(|mask| (instance, mask))
            })
        })
        .collect();
    places.sort_by_key(|(place, _)| (place.placement, place.profile));
    places
}

fn extend(
    board: &Board,
    places: &[(PlacedInstance, u32)],
    from: usize,
    occupied: u32,
    chosen: &mut Vec<PlacedInstance>,
    found: &mut Vec<Vec<PlacedInstance>>,
) {
    for (index, (place, mask)) in places.iter().enumerate().skip(from) {
        if occupied & mask != 0 {
            continue;
        }
        chosen.push(*place);
        if fit::within_limits(board, chosen) {
            found.push(chosen.clone());
            extend(board, places, index + 1, occupied | mask, chosen, found);
        }
        chosen.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::board;

    #[test]
    fn a_placement_must_start_where_the_profile_can() {
        let board = board("A100-40GB").unwrap();
        let entry = board.profile_by_id(9).unwrap();
        assert_eq!(Placement::new(entry, 4).unwrap().to_string(), "4:4");
        let error = Placement::new(entry, 2).unwrap_err().to_string();
        assert_eq!(
            error,
            "a 3g.20gb GPU instance cannot start at memory unit 2; it can start at 0, 4"
        );
    }

    #[test]
    fn placements_overlap_when_they_share_a_unit() {
        let placement = Placement::from_driver;
        assert!(placement(0, 4).overlaps(placement(3, 1)));
        assert!(!placement(0, 4).overlaps(placement(4, 4)));
        assert!(placement(6, 2).overlaps(placement(0, 8)));
        assert!(!placement(2, 0).overlaps(placement(2, 0)));
    }

    #[test]
    fn masks_agree_with_overlaps_and_end_with_the_board() {
        assert_eq!(Placement::from_driver(9, 3).mask(), Some(0b1110_0000_0000));
        assert_eq!(Placement::from_driver(0, 32).mask(), Some(u32::MAX));
        assert_eq!(Placement::from_driver(1, 32).mask(), None);
        assert_eq!(Placement::from_driver(255, 255).mask(), None);
    }
}

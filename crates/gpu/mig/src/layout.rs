//! A layout: the GPU instances wanted on one GPU, resolved against a board.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::compute::compute_instance_profiles;
use crate::layout_spec::LayoutSpec;
use crate::profile::{MigProfile, MigProfileError, Profile};

/// One GPU instance of a layout.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GpuInstanceSpec {
    /// Its profile.
    pub profile: Profile,
    /// Compute slices of each of its compute instances, largest first; empty means one compute instance
    /// as large as the GPU instance.
    pub compute: Vec<u8>,
}

impl GpuInstanceSpec {
    /// A GPU instance with one compute instance of the same size.
    #[must_use]
    pub const fn whole(profile: Profile) -> Self {
        Self {
            profile,
            compute: Vec::new(),
        }
    }

    /// Compute slices of each compute instance, largest first, with the default spelled out.
    #[must_use]
    pub fn compute_instances(&self) -> Vec<u8> {
        if self.compute.is_empty() {
            vec![self.profile.slices()]
        } else {
            self.compute.clone()
        }
    }

    /// The MIG devices of this GPU instance, one for each compute instance.
    ///
    /// # Errors
    /// When a compute instance has a size that this GPU instance cannot hold.
    pub fn devices(&self) -> Result<Vec<MigProfile>, MigProfileError> {
        let sizes = self.compute_instances();
        sizes
            .into_iter()
            .map(|slices| MigProfile::new(slices, self.profile))
            .collect()
    }
}

/// The GPU instances wanted on one GPU: a multiset, kept largest first.
///
/// It says nothing of where they lie; [`Board::pack`] and [`crate::plan`] do. An empty layout is MIG mode
/// without instances; MIG mode off is not a layout (see [`LayoutSpec::Off`]).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(from = "Vec<GpuInstanceSpec>")]
pub struct Layout(Vec<GpuInstanceSpec>);

impl Layout {
    /// A layout of these GPU instances, in any order.
    #[must_use]
    pub fn new(instances: impl IntoIterator<Item = GpuInstanceSpec>) -> Self {
        let mut instances: Vec<_> = instances.into_iter().collect();
        for instance in &mut instances {
            instance.compute.sort_unstable_by(|a, b| b.cmp(a));
            if instance.compute == [instance.profile.slices()] {
                instance.compute.clear();
            }
        }
        instances.sort_unstable_by(|a, b| b.cmp(a));
        Self(instances)
    }

    /// A layout of whole GPU instances.
    #[must_use]
    pub fn of_profiles(profiles: impl IntoIterator<Item = Profile>) -> Self {
        Self::new(profiles.into_iter().map(GpuInstanceSpec::whole))
    }

    /// The GPU instances, largest first.
    #[must_use]
    pub fn instances(&self) -> &[GpuInstanceSpec] {
        &self.0
    }

    /// Whether no GPU instance is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many GPU instances of each profile.
    #[must_use]
    pub fn profiles(&self) -> BTreeMap<Profile, u32> {
        let mut counts = BTreeMap::new();
        for instance in &self.0 {
            *counts.entry(instance.profile).or_default() += 1;
        }
        counts
    }

    /// How many MIG devices of each name; compute instances of sizes that cannot be are left out.
    #[must_use]
    pub fn devices(&self) -> BTreeMap<MigProfile, u32> {
        let mut counts = BTreeMap::new();
        for device in self
            .0
            .iter()
            .flat_map(|instance| instance.devices().unwrap_or_default())
        {
            *counts.entry(device).or_default() += 1;
        }
        counts
    }

    /// This layout as people write it: every profile with its count.
    #[must_use]
    pub fn to_spec(&self) -> LayoutSpec {
        LayoutSpec::exact(
            self.devices()
                .into_iter()
                .map(|(p, n)| (p, u8::try_from(n).unwrap_or(u8::MAX))),
        )
    }

    /// Whether each GPU instance can hold its compute instances.
    pub(crate) fn check_compute_instances(&self) -> Result<(), LayoutError> {
        for instance in &self.0 {
            let sum: u32 = instance
                .compute
                .iter()
                .map(|slices| u32::from(*slices))
                .sum();
            let known = compute_instance_profiles(instance.profile.slices());
            let sizes_exist = instance
                .compute
                .iter()
                .all(|size| known.iter().any(|c| c.slices == *size));
            if sum > instance.profile.slices().into() || !sizes_exist {
                return Err(LayoutError::ComputeInstances {
                    profile: instance.profile,
                    compute: instance.compute.clone(),
                });
            }
        }
        Ok(())
    }
}

impl From<Vec<GpuInstanceSpec>> for Layout {
    fn from(instances: Vec<GpuInstanceSpec>) -> Self {
        Self::new(instances)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_spec(), f)
    }
}

/// Why a layout cannot be on a board.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The board has no such profile.
    #[error("{board} has no profile {profile}; it has {available}")]
    UnknownProfile {
        /// The profile as it was asked for.
        profile: String,
        /// The board's name.
        board: String,
        /// The names of the board's profiles, separated by commas.
        available: String,
    },
    /// The GPU instances do not fit together.
    #[error("{layout} does not fit on {board}: {reason}; the nearest that fits is {nearest}")]
    DoesNotFit {
        /// What was asked for.
        layout: Layout,
        /// The board's name.
        board: String,
        /// What prevents it.
        reason: Misfit,
        /// As many as possible of the asked instances, and smaller ones for the others where there is
        /// room.
        nearest: Layout,
    },
    /// A GPU instance cannot hold the compute instances asked for.
    #[error("a {profile} GPU instance cannot hold compute instances of {compute:?} slices")]
    ComputeInstances {
        /// The GPU instance's profile.
        profile: Profile,
        /// The slices of each compute instance.
        compute: Vec<u8>,
    },
}

impl LayoutError {
    pub(crate) fn unknown_profile(profile: impl fmt::Display, board: &Board) -> Self {
        Self::UnknownProfile {
            profile: profile.to_string(),
            board: board.name.clone(),
            available: board.profile_names(),
        }
    }
}

/// What prevents a multiset of GPU instances from being on one GPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The board allows fewer instances of this profile.
    #[error("at most {max} of {profile} can exist, not {wanted}")]
    TooMany {
        /// The profile.
        profile: Profile,
        /// How many were asked for.
        wanted: u32,
        /// How many there can be.
        max: u32,
    },
    /// More memory units than the board has.
    #[error("it takes {wanted} memory units of {available}")]
    MemoryUnits {
        /// Units that the instances take together.
        wanted: u64,
        /// Units of the board.
        available: u8,
    },
    /// More compute slices than the board has.
    #[error("it takes {wanted} compute slices of {available}")]
    ComputeSlices {
        /// Slices that the instances take together.
        wanted: u64,
        /// Slices of the board.
        available: u8,
    },
    /// More media engines of one kind than the board has.
    #[error("it takes {wanted} {engine} of {available}")]
    Engines {
        /// The kind, in the plural.
        engine: &'static str,
        /// Engines that the instances take together.
        wanted: u64,
        /// Engines of the board.
        available: u16,
    },
    /// Enough of everything, yet wherever they are put two of them overlap.
    #[error("wherever these are placed, two of them overlap")]
    NoArrangement,
}

//! How people write the layout of one GPU: `MIG1g`, `1g.5gb`, `3g.20gb,2g.10gb,1g.5gb*2`, `off`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::aks::GpuInstanceProfile;
use crate::board::Board;
use crate::compute::{compute_instance_profiles, pack_compute_instances};
use crate::fit;
use crate::layout::{GpuInstanceSpec, Layout, LayoutError};
use crate::profile::{MigProfile, MigProfileError, Profile};
use crate::text::serde_as_text;

const OFF: &str = "off";
const EMPTY: &str = "empty";

/// What is wanted on one GPU, as it was written; [`LayoutSpec::resolve`] turns it into a [`Layout`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayoutSpec {
    /// `off`: MIG mode disabled.
    Off,
    /// `MIG1g`: as many as fit of the board's profile that AKS means by the name.
    Fill(GpuInstanceProfile),
    /// `1g.5gb`: as many as fit of this profile; `1c.3g.20gb`: each GPU instance filled with such
    /// compute instances.
    FillWith(MigProfile),
    /// `3g.20gb,2g.10gb,1g.5gb*2`: this many MIG devices of each profile, largest first; `empty` for
    /// MIG mode without any. Build it with [`LayoutSpec::exact`].
    Exact(Vec<(MigProfile, u8)>),
}

impl LayoutSpec {
    /// This many MIG devices of each profile; a profile named twice counts twice.
    #[must_use]
    pub fn exact(devices: impl IntoIterator<Item = (MigProfile, u8)>) -> Self {
        let mut counts = BTreeMap::<MigProfile, u8>::new();
        for (profile, count) in devices {
            let sum = counts.entry(profile).or_default();
            *sum = sum.saturating_add(count);
        }
        Self::Exact(
            counts
                .into_iter()
                .rev()
                .filter(|(_, count)| *count > 0)
                .collect(),
        )
    }

    /// The layout that this means on `board`; `None` for MIG mode off.
    ///
    /// Compute instances smaller than their GPU instance are packed into as few GPU instances as
    /// possible.
    ///
    /// # Errors
    /// [`LayoutError::UnknownProfile`], which lists the board's profiles, and
    /// [`LayoutError::DoesNotFit`], which says why and what the nearest is that fits.
    pub fn resolve(&self, board: &Board) -> Result<Option<Layout>, LayoutError> {
        let layout = match self {
            Self::Off => return Ok(None),
            Self::Fill(name) => fill(board, GpuInstanceSpec::whole(name.resolve(board)?))?,
            Self::FillWith(device) => fill(board, filled_with(*device))?,
            Self::Exact(devices) => exact(devices),
        };
        fit::check(board, &layout)?;
        Ok(Some(layout))
    }
}

fn fill(board: &Board, instance: GpuInstanceSpec) -> Result<Layout, LayoutError> {
    if board.profile(instance.profile).is_none() {
        return Err(LayoutError::unknown_profile(instance.profile, board));
    }
    // A profile of which not even one fits is reported by the check that follows.
    let count = board.max_fit(instance.profile).max(1);
    Ok(Layout::new(vec![instance; count.into()]))
}

fn filled_with(device: MigProfile) -> GpuInstanceSpec {
    let profile = device.gpu_instance();
    if device.is_whole() {
        return GpuInstanceSpec::whole(profile);
    }
    let table = compute_instance_profiles(profile.slices()).iter();
    let most = table
        .filter(|c| c.slices == device.compute_slices())
        .map(|c| c.max_instances)
        .max();
    GpuInstanceSpec {
        profile,
        compute: vec![device.compute_slices(); most.unwrap_or(1).into()],
    }
}

fn exact(devices: &[(MigProfile, u8)]) -> Layout {
    let mut instances = Vec::new();
    let mut parts = BTreeMap::<Profile, Vec<u8>>::new();
    for (device, count) in devices {
        let profile = device.gpu_instance();
        if device.is_whole() {
            instances.extend(vec![GpuInstanceSpec::whole(profile); (*count).into()]);
        } else {
            let sizes = vec![device.compute_slices(); (*count).into()];
            parts.entry(profile).or_default().extend(sizes);
        }
    }
    for (profile, sizes) in parts {
        let packed = pack_compute_instances(profile.slices(), &sizes);
        instances.extend(
            packed
                .into_iter()
                .map(|compute| GpuInstanceSpec { profile, compute }),
        );
    }
    Layout::new(instances)
}

impl fmt::Display for LayoutSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.pad(OFF),
            Self::Fill(name) => fmt::Display::fmt(name, f),
            Self::FillWith(device) => fmt::Display::fmt(device, f),
            Self::Exact(devices) => f.pad(&match devices.as_slice() {
                [] => EMPTY.to_owned(),
                // Without its count a single profile would mean as many as fit.
                [(device, count)] => format!("{device}*{count}"),
                several => several
                    .iter()
                    .copied()
                    .map(device_text)
                    .collect::<Vec<_>>()
                    .join(","),
            }),
        }
    }
}

fn device_text((device, count): (MigProfile, u8)) -> String {
    if count == 1 {
        device.to_string()
    } else {
        format!("{device}*{count}")
    }
}

impl FromStr for LayoutSpec {
    type Err = ParseLayoutError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ParseLayoutError::Empty);
        }
        if text.eq_ignore_ascii_case(OFF) {
            return Ok(Self::Off);
        }
        if text.eq_ignore_ascii_case(EMPTY) {
            return Ok(Self::Exact(Vec::new()));
        }
        if let Ok(name) = text.parse() {
            return Ok(Self::Fill(name));
        }
        if !text.contains([',', '*']) {
            return Ok(Self::FillWith(profile(text)?));
        }
        let mut counts = BTreeMap::<MigProfile, u8>::new();
        for item in text.split(',').map(str::trim) {
            let (device, count) = item_of(item)?;
            let sum = counts.entry(device).or_default();
            *sum = sum
                .checked_add(count)
                .ok_or_else(|| ParseLayoutError::Count {
                    item: item.to_owned(),
                })?;
        }
        Ok(Self::exact(counts))
    }
}

fn item_of(item: &str) -> Result<(MigProfile, u8), ParseLayoutError> {
    let Some((device, count)) = item.split_once('*') else {
        return Ok((profile(item)?, 1));
    };
    let count = count.trim().parse().ok().filter(|count| *count > 0);
    let count = count.ok_or_else(|| ParseLayoutError::Count {
        item: item.to_owned(),
    })?;
    Ok((profile(device.trim_end())?, count))
}

fn profile(text: &str) -> Result<MigProfile, ParseLayoutError> {
    let alone = text.parse::<GpuInstanceProfile>().is_ok()
        || text.eq_ignore_ascii_case(OFF)
        || text.eq_ignore_ascii_case(EMPTY);
    if alone {
        return Err(ParseLayoutError::NotAlone {
            word: text.to_owned(),
        });
    }
    Ok(text.parse()?)
}

serde_as_text!(LayoutSpec);

/// A text that is not the layout of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseLayoutError {
    /// Nothing was written.
    #[error(
        "a layout cannot be blank; write MIG1g, 1g.5gb or 3g.20gb,2g.10gb,1g.5gb*2, or off for no MIG"
    )]
    Empty,
    /// A part is not a profile.
    #[error(transparent)]
    Profile(#[from] MigProfileError),
    /// A count is not a number from 1 to 255.
    #[error("`{item}` has no valid count; write profile*count with a count from 1 to 255")]
    Count {
        /// The part of the layout.
        item: String,
    },
    /// A word that describes the whole GPU stands in a list.
    #[error("`{word}` describes the whole GPU and cannot be counted or stand in a list")]
    NotAlone {
        /// The word.
        word: String,
    },
}

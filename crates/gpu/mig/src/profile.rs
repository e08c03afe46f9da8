//! Profile names: `3g.20gb`, `1g.5gb+me`, and `1c.3g.20gb` for part of a GPU instance.

use std::fmt;
use std::str::FromStr;

use crate::compute::compute_instance_profiles;
use crate::resource::ResourceName;
use crate::text::serde_as_text;

/// What a GPU instance profile has beyond, or lacks of, its plain sibling's engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Attribute {
    /// No suffix: the plain profile.
    #[default]
    None,
    /// `+me`: with media engines (video decoders, JPEG, optical flow).
    Me,
    /// `-me`: without any media engine.
    NoMe,
    /// `+gfx`: with graphics.
    Gfx,
    /// `+me.all`: with every media engine of the GPU.
    MeAll,
}

impl Attribute {
    const ALL: [Self; 5] = [Self::None, Self::Me, Self::NoMe, Self::Gfx, Self::MeAll];

    /// The suffix as it is written in a profile name, empty for the plain profile.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Me => "+me",
            Self::NoMe => "-me",
            Self::Gfx => "+gfx",
            Self::MeAll => "+me.all",
        }
    }

    /// The attribute that `NVML_GPU_INSTANCE_PROFILE_*` number `nvml_enum` stands for (`nvml.h` 13.3).
    ///
    /// The second revision of the one-slice profile (9) is the one with double memory: it has no suffix,
    /// its name differs by its size. Numbers that a newer header adds count as plain.
    #[must_use]
    pub const fn from_nvml_enum(nvml_enum: u32) -> Self {
        match nvml_enum {
            7 | 8 => Self::Me,
            10 | 11 | 12 | 17 => Self::Gfx,
            13 | 14 => Self::NoMe,
            15 | 16 => Self::MeAll,
            _ => Self::None,
        }
    }
}

/// A GPU instance profile by its name, `3g.20gb` or `1g.5gb+me`.
///
/// Ordered by compute slices, then memory, then attribute.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Profile {
    slices: u8,
    memory_gb: u16,
    attribute: Attribute,
}

impl Profile {
    /// The profile of `slices` compute slices and `memory_gb` gigabytes (as in the name).
    #[must_use]
    pub const fn new(slices: u8, memory_gb: u16, attribute: Attribute) -> Self {
        Self {
            slices,
            memory_gb,
            attribute,
        }
    }

    /// Names a profile by what a driver reports of it: its compute slices, its memory and the whole
    /// GPU's memory in MiB, and its attribute.
    ///
    /// The gigabytes of the name are `round(ceil(8 * memory / total) / 8 * ceil(total in GiB))`, half
    /// away from zero: how `NVIDIA/go-nvlib` names MIG devices, and the names the drivers print.
    #[must_use]
    pub fn from_memory(
        slices: u8,
        memory_mib: u64,
        total_memory_mib: u64,
        attribute: Attribute,
    ) -> Self {
        let eighths = memory_mib
            .saturating_mul(8)
            .div_ceil(total_memory_mib.max(1));
        let total_gib = total_memory_mib.div_ceil(1024);
        // Half away from zero, in whole numbers: add half the divisor and cut.
        let memory_gb = eighths.saturating_mul(total_gib).saturating_add(4) / 8;
        Self::new(
            slices,
            u16::try_from(memory_gb).unwrap_or(u16::MAX),
            attribute,
        )
    }

    /// Compute slices of the GPU instance: the `3` of `3g.20gb`.
    #[must_use]
    pub const fn slices(self) -> u8 {
        self.slices
    }

    /// Memory as the name rounds it, in gigabytes: the `20` of `3g.20gb`.
    #[must_use]
    pub const fn memory_gb(self) -> u16 {
        self.memory_gb
    }

    /// What the name's suffix says.
    #[must_use]
    pub const fn attribute(self) -> Attribute {
        self.attribute
    }

    /// The Kubernetes resource of this profile's whole GPU instances, `nvidia.com/mig-3g.20gb`.
    #[must_use]
    pub fn resource_name(self) -> ResourceName {
        MigProfile::whole(self).resource_name()
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!(
            "{}g.{}gb{}",
            self.slices,
            self.memory_gb,
            self.attribute.suffix()
        ))
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Profile {
    type Err = ParseProfileError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_profile(text).ok_or_else(|| ParseProfileError {
            text: text.to_owned(),
        })
    }
}

serde_as_text!(Profile);

/// A text that is not the name of a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a MIG profile; profiles are written like 1g.5gb, 1g.5gb+me or 1c.3g.20gb")]
pub struct ParseProfileError {
    /// The text as it was given.
    pub text: String,
}

fn parse_profile(text: &str) -> Option<Profile> {
    let (slices, rest) = text.split_once("g.")?;
    let (memory, suffix) = rest.split_once("gb")?;
    let attribute = Attribute::ALL.into_iter().find(|a| a.suffix() == suffix)?;
    Some(Profile::new(number(slices)?, number(memory)?, attribute))
}

/// A positive decimal without sign or leading zero, so that every profile has one spelling.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if canonical { text.parse().ok() } else { None }
}

/// What one MIG device is called: `3g.20gb` when its compute instance fills its GPU instance,
/// `1c.3g.20gb` when it is smaller.
///
/// Ordered by GPU instance profile, then by compute slices.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MigProfile {
    gpu_instance: Profile,
    compute_slices: u8,
}

impl MigProfile {
    /// The MIG device that fills a GPU instance of `profile`.
    #[must_use]
    pub const fn whole(profile: Profile) -> Self {
        Self {
            gpu_instance: profile,
            compute_slices: profile.slices(),
        }
    }

    /// The MIG device with `compute_slices` of a GPU instance of `profile`; as many as the GPU instance
    /// has is the whole.
    ///
    /// # Errors
    /// When a GPU instance of that many slices has no compute instance of that size.
    pub fn new(compute_slices: u8, profile: Profile) -> Result<Self, MigProfileError> {
        let known = compute_instance_profiles(profile.slices());
        if compute_slices == profile.slices() || known.iter().any(|c| c.slices == compute_slices) {
            Ok(Self {
                gpu_instance: profile,
                compute_slices,
            })
        } else {
            let allowed = known
                .iter()
                .map(|c| format!("{}c", c.slices))
                .collect::<Vec<_>>();
            Err(MigProfileError::ComputeSlices {
                compute_slices,
                profile,
                allowed: allowed.join(", "),
            })
        }
    }

    /// The profile of the GPU instance that the device is in.
    #[must_use]
    pub const fn gpu_instance(self) -> Profile {
        self.gpu_instance
    }

    /// Compute slices of the device's compute instance.
    #[must_use]
    pub const fn compute_slices(self) -> u8 {
        self.compute_slices
    }

    /// Whether the compute instance is as large as its GPU instance.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        self.compute_slices == self.gpu_instance.slices()
    }

    /// The Kubernetes resource that strategy `mixed` advertises such devices as: `nvidia.com/mig-` and
    /// the name, with `.` for each `+`, which Kubernetes does not allow in a name.
    #[must_use]
    pub fn resource_name(self) -> ResourceName {
        ResourceName::of_device(self)
    }
}

impl From<Profile> for MigProfile {
    fn from(profile: Profile) -> Self {
        Self::whole(profile)
    }
}

impl fmt::Display for MigProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_whole() {
            fmt::Display::fmt(&self.gpu_instance, f)
        } else {
            f.pad(&format!("{}c.{}", self.compute_slices, self.gpu_instance))
        }
    }
}

impl fmt::Debug for MigProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MigProfile {
    type Err = MigProfileError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once("c.") {
            None => Ok(Self::whole(text.parse()?)),
            Some((compute, profile)) => {
                let profile: Profile = profile.parse()?;
                let compute = number(compute).ok_or_else(|| ParseProfileError {
                    text: text.to_owned(),
                })?;
                Self::new(compute, profile)
            }
        }
    }
}

serde_as_text!(MigProfile);

/// Why a text or a pair of sizes is not a MIG device's profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MigProfileError {
    /// The text does not have a profile's form.
    #[error(transparent)]
    Parse(#[from] ParseProfileError),
    /// GPU instances of this many slices have no compute instances of that size.
    #[error(
        "a {profile} GPU instance has no compute instance of {compute_slices} slices; it has {allowed}"
    )]
    ComputeSlices {
        /// The size that was asked for.
        compute_slices: u8,
        /// The GPU instance's profile.
        profile: Profile,
        /// The sizes that there are, as `1c, 2c, 4c`.
        allowed: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_memory_rounded_half_away_from_zero() {
        let name = |slices, mib, total| {
            Profile::from_memory(slices, mib, total, Attribute::None).to_string()
        };
        assert_eq!(name(1, 4864, 40960), "1g.5gb");
        // 4/8 of 141 is 70.5: rounding half to even would give 70.
        assert_eq!(name(3, 71424, 143_771), "3g.71gb");
        assert_eq!(name(1, 16384, 143_771), "1g.18gb");
        assert_eq!(name(7, 143_360, 143_771), "7g.141gb");
    }

    #[test]
    fn attributes_come_from_nvml_numbers() {
        let all = (0..18).map(Attribute::from_nvml_enum).collect::<Vec<_>>();
        assert_eq!(all[9], Attribute::None);
        assert_eq!((all[7], all[8]), (Attribute::Me, Attribute::Me));
        assert_eq!((all[10], all[17]), (Attribute::Gfx, Attribute::Gfx));
        assert_eq!((all[13], all[14]), (Attribute::NoMe, Attribute::NoMe));
        assert_eq!((all[15], all[16]), (Attribute::MeAll, Attribute::MeAll));
    }

    #[test]
    fn a_compute_instance_as_large_as_its_gpu_instance_has_the_short_name() {
        let device: MigProfile = "3c.3g.20gb".parse().unwrap();
        assert!(device.is_whole());
        assert_eq!(device.to_string(), "3g.20gb");
        let device: MigProfile = "1c.2g.48gb+me.all".parse().unwrap();
        assert_eq!((device.compute_slices(), device.is_whole()), (1, false));
        assert_eq!(device.to_string(), "1c.2g.48gb+me.all");
    }

    #[test]
    fn texts_that_are_no_profile_are_refused_with_examples() {
        for text in [
            "",
            "1g",
            "1g.5",
            "g.5gb",
            "01g.5gb",
            "1g.05gb",
            "+1g.5gb",
            "1g.5gb+",
            "1g.5gb+x",
            "1g.5gb ",
            "0g.5gb",
            "1g.0gb",
            "256g.5gb",
            "1g.5GB",
            "1c.",
            "c.1g.5gb",
            "0c.1g.5gb",
        ] {
            let error = text.parse::<MigProfile>().expect_err(text).to_string();
            assert!(error.contains("1g.5gb"), "{text}: {error}");
        }
    }

    #[test]
    fn a_4g_has_no_3c_and_the_message_says_what_it_has() {
        let error = "3c.4g.20gb".parse::<MigProfile>().unwrap_err().to_string();
        assert!(error.contains("1c, 2c, 4c"), "{error}");
    }

    #[test]
    fn profiles_order_by_slices_then_memory_then_attribute() {
        let mut names = ["7g.40gb", "1g.10gb", "1g.5gb+me", "2g.10gb", "1g.5gb"]
            .map(|t| t.parse::<Profile>().unwrap());
        names.sort();
        assert_eq!(
            names.map(|p| p.to_string()),
            ["1g.5gb", "1g.5gb+me", "1g.10gb", "2g.10gb", "7g.40gb"]
        );
    }
}

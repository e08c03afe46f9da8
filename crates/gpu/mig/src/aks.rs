//! AKS's names for a GPU instance profile: `MIG1g` to `MIG7g`.

use std::fmt;
use std::str::FromStr;

use crate::board::Board;
use crate::layout::LayoutError;
use crate::profile::{Attribute, Profile};
use crate::text::serde_as_text;

/// The profile of an AKS node pool: a number of compute slices, whose memory the VM size's GPU decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GpuInstanceProfile {
    /// One compute slice.
    Mig1g,
    /// Two compute slices.
    Mig2g,
    /// Three compute slices.
    Mig3g,
    /// Four compute slices.
    Mig4g,
    /// Seven compute slices.
    Mig7g,
}

impl GpuInstanceProfile {
    /// All five, smallest first.
    pub const ALL: [Self; 5] = [
        Self::Mig1g,
        Self::Mig2g,
        Self::Mig3g,
        Self::Mig4g,
        Self::Mig7g,
    ];

    /// The name as AKS writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mig1g => "MIG1g",
            Self::Mig2g => "MIG2g",
            Self::Mig3g => "MIG3g",
            Self::Mig4g => "MIG4g",
            Self::Mig7g => "MIG7g",
        }
    }

    /// Compute slices of one instance.
    #[must_use]
    pub const fn slices(self) -> u8 {
        match self {
            Self::Mig1g => 1,
            Self::Mig2g => 2,
            Self::Mig3g => 3,
            Self::Mig4g => 4,
            Self::Mig7g => 7,
        }
    }

    /// The profile that this name means on `board`: the plain one of that many slices with the least
    /// memory, so `MIG1g` is `1g.10gb` on an A100 80GB and never the `1g` with double memory.
    ///
    /// # Errors
    /// [`LayoutError::UnknownProfile`] when the board has no profile of that many slices.
    pub fn resolve(self, board: &Board) -> Result<Profile, LayoutError> {
        board
            .profiles
            .iter()
            .map(|p| p.profile)
            .filter(|p| p.slices() == self.slices() && p.attribute() == Attribute::None)
            .min()
            .ok_or_else(|| LayoutError::unknown_profile(self, board))
    }
}

impl fmt::Display for GpuInstanceProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for GpuInstanceProfile {
    type Err = ParseGpuInstanceProfileError;

    /// Case does not matter, as in ARM.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|p| p.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| ParseGpuInstanceProfileError {
                text: text.to_owned(),
            })
    }
}

serde_as_text!(GpuInstanceProfile);

/// A text that is not one of AKS's five names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a GPU instance profile; it is MIG1g, MIG2g, MIG3g, MIG4g or MIG7g")]
pub struct ParseGpuInstanceProfileError {
    /// The text as it was given.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_written_as_aks_does() {
        for profile in GpuInstanceProfile::ALL {
            assert_eq!(profile.to_string().parse(), Ok(profile));
            assert_eq!(profile.as_str().to_lowercase().parse(), Ok(profile));
        }
    }

    #[test]
    fn other_names_are_refused_with_the_five() {
        for text in ["MIG5g", "1g", "MIG", ""] {
            let error = text
                .parse::<GpuInstanceProfile>()
                .expect_err(text)
                .to_string();
            assert!(
                error.contains("MIG1g, MIG2g, MIG3g, MIG4g or MIG7g"),
                "{error}"
            );
        }
    }
}

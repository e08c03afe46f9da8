//! A MIG-capable GPU model: its profiles and where each may be placed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fit;
use crate::layout::{Layout, LayoutError};
use crate::placement::PlacedInstance;
use crate::profile::{MigProfile, Profile};

/// A GPU's architecture, as far as it has MIG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// A100, A30: changing the MIG mode needs a GPU reset, and the mode survives a reboot.
    Ampere,
    /// H100, H200, GH200, H20: the mode changes at once and is lost with the driver's unload.
    Hopper,
    /// B200, GB200, B300, GB300, RTX PRO 6000: the mode behaves as Hopper's.
    Blackwell,
    /// An architecture that this version of migpool does not know.
    Other,
}

impl Architecture {
    /// The architecture that a CUDA compute capability belongs to.
    #[must_use]
    pub const fn from_compute_capability(capability: (u8, u8)) -> Self {
        match capability.0 {
            8 => Self::Ampere,
            9 => Self::Hopper,
            10..=12 => Self::Blackwell,
            _ => Self::Other,
        }
    }
}

/// How well a board's facts are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Read off the hardware itself.
    Measured,
    /// Complete, from public copies of NVIDIA's own tools' output.
    High,
    /// Complete, where sources disagree on details.
    MediumHigh,
    /// Some rows were never seen; what is missing is null.
    Partial,
    /// Only names, ids and instance counts are known.
    NamesAndIds,
    /// Only names and instance counts are known; ids are assumed.
    NamesOnly,
}

/// A MIG-capable GPU model with its GPU instance profiles.
///
/// Either from migpool's own data ([`crate::boards`]) or built from what a live driver reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Board {
    /// The data's name, `A100-40GB`; for a board read off a driver, whatever names it best.
    pub name: String,
    /// What NVML calls it, `NVIDIA A100-SXM4-40GB`.
    pub product_name: String,
    /// Other names that people use for it, and the product names of its variants.
    pub aliases: Vec<String>,
    /// The GPU's architecture.
    pub architecture: Architecture,
    /// CUDA compute capability, major and minor.
    pub compute_capability: (u8, u8),
    /// Memory units that placements count in: 8 on most boards, 4 on an A30, 12 on an RTX PRO 6000.
    pub memory_units: u8,
    /// Compute slices of the whole GPU: 7 on most boards, 4 on an A30 or RTX PRO 6000.
    pub compute_slices: u8,
    /// Total memory in MiB, as NVML reports it.
    pub memory_mib: u64,
    /// Multiprocessors that MIG can hand out; `None` when unknown.
    pub total_sm: Option<u16>,
    /// Whether switching MIG mode on or off needs a GPU reset (Ampere).
    pub mode_change_needs_reset: bool,
    /// PCI device ids, the upper half of NVML's `pciDeviceId` (`0x20B0`); the vendor is NVIDIA, `0x10DE`.
    pub pci_device_ids: Vec<u32>,
    /// How well these facts are known.
    pub confidence: Confidence,
    /// Where they come from.
    pub sources: Vec<String>,
    /// Names of the facts that no source states and that are assumed.
    pub assumed: Vec<String>,
    /// The profiles, in the order in which NVIDIA's tools list them.
    pub profiles: Vec<BoardProfile>,
}

/// One GPU instance profile of a board. `None` is a fact that is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardProfile {
    /// Its name.
    pub profile: Profile,
    /// NVML's GPU instance profile id, the number `nvidia-smi mig -cgi` takes (19 for `1g.5gb`).
    pub id: u32,
    /// `NVML_GPU_INSTANCE_PROFILE_*`, which profile information is asked by.
    pub nvml_enum: u32,
    /// Compute slices.
    pub slices: u8,
    /// Memory units at which an instance may start.
    pub starts: Vec<u8>,
    /// Memory units that an instance takes.
    pub size: u8,
    /// Most instances of this profile on one GPU.
    pub max_instances: u8,
    /// Memory of an instance in MiB.
    pub memory_mib: Option<u64>,
    /// Multiprocessors.
    pub sm: Option<u16>,
    /// Copy engines.
    pub copy: Option<u16>,
    /// Video decoders.
    pub decoders: Option<u16>,
    /// Video encoders.
    pub encoders: Option<u16>,
    /// JPEG engines.
    pub jpeg: Option<u16>,
    /// Optical flow engines.
    pub ofa: Option<u16>,
}

impl Board {
    /// This board's entry for `profile`.
    #[must_use]
    pub fn profile(&self, profile: Profile) -> Option<&BoardProfile> {
        self.profiles.iter().find(|p| p.profile == profile)
    }

    /// This board's profile with NVML's GPU instance profile id `id`.
    #[must_use]
    pub fn profile_by_id(&self, id: u32) -> Option<&BoardProfile> {
        self.profiles.iter().find(|p| p.id == id)
    }

    /// The most GPU instances of `profile` that fit on an otherwise empty GPU; 0 when the board has no
    /// such profile.
    #[must_use]
    pub fn max_fit(&self, profile: Profile) -> u8 {
        fit::max_fit(self, profile)
    }

    /// Places every GPU instance of `layout` on an empty GPU, largest first.
    ///
    /// # Errors
    /// When the layout names a profile that the board lacks, or does not fit.
    pub fn pack(&self, layout: &Layout) -> Result<Vec<PlacedInstance>, LayoutError> {
        fit::check(self, layout)
    }

    /// How many MIG devices of each profile a GPU in this layout has.
    #[must_use]
    pub fn expected_devices(&self, layout: &Layout) -> BTreeMap<MigProfile, u32> {
        layout.devices()
    }

    /// The names of the board's profiles for a message: `1g.5gb, 1g.5gb+me, 1g.10gb, ...`.
    #[must_use]
    pub fn profile_names(&self) -> String {
        let names: Vec<_> = self
            .profiles
            .iter()
            .map(|p| p.profile.to_string())
            .collect();
        names.join(", ")
    }
}

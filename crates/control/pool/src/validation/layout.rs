//! What the GPUs are to look like: by one profile, by a list of profiles, or by layouts.

use mig::{GpuInstanceProfile, LayoutSpec, MigStrategy, NodeLayout};

use super::{AGAIN, NodePoolInput, asked};
use crate::Invalid;
use crate::resource::NodePoolSpec;
use crate::vm_size::VmSize;

const PROFILES: &str = "agentPoolProfile.gpuProfile.nvidia.migProfiles";
const LAYOUTS: &str = "agentPoolProfile.layouts";

/// What the GPUs of a pool are to look like.
pub(super) struct Wanted {
    pub(super) gpu_instance_profile: Option<GpuInstanceProfile>,
    pub(super) layouts: Option<NodeLayout>,
    /// What `layouts` was made of.
    pub(super) mig_profiles: Vec<GpuInstanceProfile>,
}

pub(super) fn wanted(
    input: &NodePoolInput,
    existing: Option<&NodePoolSpec>,
    size: Option<&VmSize>,
    strategy: MigStrategy,
) -> Result<Wanted, Invalid> {
    let profile = asked(input.gpu_instance_profile.as_ref())
        .map(gpu_instance_profile)
        .transpose()?;
    let layouts = asked(input.layouts.as_ref()).map(layouts).transpose()?;
    let profiles: Vec<_> = input
        .mig_profiles
        .iter()
        .map(|text| gpu_instance_profile(text))
        .collect::<Result<_, _>>()?;
    if let Some(spec) = existing {
        return change(spec, profile, layouts, profiles, size, strategy);
    }
    exclude(profile.is_some(), layouts.is_some(), !profiles.is_empty())?;
    let wanted = Wanted {
        layouts: match profiles.as_slice() {
            [] => layouts,
            profiles => Some(of_profiles(profiles, size, strategy)?),
        },
        gpu_instance_profile: profile,
        mig_profiles: profiles,
    };
    if let Some(size) = size {
        check(&wanted, size)?;
    }
    Ok(wanted)
}

/// What becomes of a pool that is there. What it has may be given back with something new.
fn change(
    spec: &NodePoolSpec,
    profile: Option<GpuInstanceProfile>,
    layouts: Option<NodeLayout>,
    profiles: Vec<GpuInstanceProfile>,
    size: Option<&VmSize>,
    strategy: MigStrategy,
) -> Result<Wanted, Invalid> {
    if profile.is_some() && profile != spec.gpu_instance_profile {
        return Err(Invalid::immutable("properties.gpuInstanceProfile", AGAIN));
    }
    let layouts = layouts.filter(|layouts| spec.layouts.as_ref() != Some(layouts));
    let profiles = Some(profiles).filter(|it| !it.is_empty() && *it != spec.mig_profiles);
    if spec.gpu_instance_profile.is_some() {
        if layouts.is_some() {
            return Err(Invalid::immutable("properties.layouts", AGAIN));
        }
        if profiles.is_some() {
            return Err(Invalid::immutable(
                "properties.gpuProfile.nvidia.migProfiles",
                AGAIN,
            ));
        }
    }
    exclude(false, layouts.is_some(), profiles.is_some())?;
    let (layouts, mig_profiles) = match (layouts, profiles) {
        (Some(layouts), _) => (Some(layouts), Vec::new()),
        (None, Some(profiles)) => (Some(of_profiles(&profiles, size, strategy)?), profiles),
        (None, None) => (spec.layouts.clone(), spec.mig_profiles.clone()),
    };
    Ok(Wanted {
        gpu_instance_profile: spec.gpu_instance_profile,
        layouts,
        mig_profiles,
    })
}

fn exclude(profile: bool, layouts: bool, profiles: bool) -> Result<(), Invalid> {
    let refused = |target, one: &str, other: &str| {
        let message =
            format!("The parameters {one} and {other} exclude each other. Leave one of them away.");
        Err(Invalid::parameter(target, message))
    };
    if profile && layouts {
        return refused(LAYOUTS, "gpuInstanceProfile", "layouts");
    }
    if profile && profiles {
        return refused(PROFILES, "gpuInstanceProfile", "migProfiles");
    }
    if layouts && profiles {
        return refused(PROFILES, "layouts", "migProfiles");
    }
    Ok(())
}

/// The layout that a list of profiles means: with strategy single every GPU is filled with the one profile, with mixed every
/// GPU has one MIG device of each.
fn of_profiles(
    profiles: &[GpuInstanceProfile],
    size: Option<&VmSize>,
    strategy: MigStrategy,
) -> Result<NodeLayout, Invalid> {
    let invalid = |message: String| Invalid::parameter(PROFILES, message);
    let spec = match (strategy, profiles) {
        (MigStrategy::None, _) => {
            return Err(invalid(
                "The parameter migProfiles needs migStrategy 'Single' or 'Mixed'.".to_owned(),
            ));
        }
        (MigStrategy::Single, [profile]) => LayoutSpec::Fill(*profile),
        (MigStrategy::Single, _) => {
            return Err(invalid(format!(
                "With migStrategy 'Single' migProfiles has exactly one profile, and here are {}. Use 'Mixed' for several.",
                profiles.len()
            )));
        }
        (MigStrategy::Mixed, _) => {
            let Some(size) = size else {
                return Err(invalid(
                    "What a profile of migProfiles means depends on the GPU, which is not known for a node pool with nodeSelector. Use layouts, for example \"3g.20gb,2g.10gb,1g.5gb*2\".".to_owned(),
                ));
            };
            let (board, _) = size.mig_board()?;
            let mut devices = Vec::new();
            for profile in profiles {
                let device = profile.resolve(board).map_err(|error| {
                    invalid(format!(
                        "The GPU instance profile '{profile}' is not possible on VM size '{}': {error}.",
                        size.name
                    ))
                })?;
                devices.push((device.into(), 1));
            }
            LayoutSpec::exact(devices)
        }
    };
    Ok(NodeLayout::uniform(spec))
}

/// Whether the VM size has GPUs that can look so.
fn check(wanted: &Wanted, size: &VmSize) -> Result<(), Invalid> {
    if let Some(profile) = wanted.gpu_instance_profile {
        let (board, _) = size.mig_board()?;
        profile.resolve(board).map_err(|error| {
            Invalid::parameter(
                "agentPoolProfile.gpuInstanceProfile",
                format!("The GPU instance profile '{profile}' is not possible on VM size '{}': {error}.", size.name),
            )
        })?;
    }
    if wanted.layouts.is_some() {
        let target = if wanted.mig_profiles.is_empty() {
            LAYOUTS
        } else {
            PROFILES
        };
        size.mig_board().map_err(|error| Invalid {
            target: Some(target.to_owned()),
            ..error
        })?;
    }
    Ok(())
}

fn gpu_instance_profile(text: &str) -> Result<GpuInstanceProfile, Invalid> {
    text.parse().map_err(|_| {
        let allowed = GpuInstanceProfile::ALL
            .map(|profile| profile.to_string())
            .join(", ");
        Invalid::parameter(
            "agentPoolProfile.gpuInstanceProfile",
            format!("The GPU instance profile '{text}' is not known. Use one of {allowed}."),
        )
    })
}

fn layouts(text: &str) -> Result<NodeLayout, Invalid> {
    text.parse::<NodeLayout>().map_err(|error| {
        Invalid::parameter(
            LAYOUTS,
            format!("The layout '{text}' can't be read: {error}."),
        )
    })
}

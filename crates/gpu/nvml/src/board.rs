//! A board as its live driver describes it, so that boards of which migpool has no data work too.

use mig::{Architecture, Attribute, Board, BoardProfile, Confidence, Placement, Profile};

use crate::calls::{Answer, Calls, Device, Failure, ProfileInfo};
use crate::{ReturnCode, snapshot::Identity};

/// One GPU instance profile, with what a [`BoardProfile`] has no room for.
#[derive(Debug, Clone)]
pub(crate) struct ProfileEntry {
    pub(crate) profile: Profile,
    pub(crate) nvml_enum: u32,
    pub(crate) instances: u32,
    pub(crate) placements: Vec<Placement>,
    pub(crate) info: ProfileInfo,
}

/// More profile numbers than any header has; the driver says itself where its own end.
const PROFILE_NUMBERS: u32 = 64;

/// Every GPU instance profile of a MIG-capable GPU, in the order in which NVIDIA's tools list them.
pub(crate) fn profiles(
    calls: &Calls,
    device: Device,
    memory_mib: u64,
) -> Answer<Vec<ProfileEntry>> {
    let mut entries: Vec<ProfileEntry> = Vec::new();
    for nvml_enum in 0..PROFILE_NUMBERS {
        let info = match calls.gpu_instance_profile_info(device, nvml_enum) {
            Ok(info) => info,
            Err(failure) if failure.is(ReturnCode::ERROR_INVALID_ARGUMENT) => break,
            Err(failure @ Failure::Missing(_)) => return Err(failure),
            Err(failure) if failure.is_unavailable() => continue,
            Err(failure) => return Err(failure),
        };
        if entries.iter().any(|entry| entry.info.id == info.id) {
            continue;
        }
        let placements: Vec<Placement> = calls
            .possible_placements(device, info.id)?
            .into_iter()
            .map(|(start, size)| placement(start, size))
            .collect();
        let profile = profile_name(&info, nvml_enum, memory_mib);
        entries.push(ProfileEntry {
            profile,
            nvml_enum,
            instances: info.instances,
            placements,
            info,
        });
    }
    entries.sort_by_key(|entry| {
        let rank = match entry.profile.attribute() {
            Attribute::None => 0,
            Attribute::Me => 1,
            Attribute::Gfx => 2,
            Attribute::MeAll => 3,
            Attribute::NoMe => 4,
        };
        (entry.profile.slices(), entry.profile.memory_gb(), rank)
    });
    Ok(entries)
}

/// The driver's own name where it gives one, else by the naming rule.
fn profile_name(info: &ProfileInfo, nvml_enum: u32, memory_mib: u64) -> Profile {
    let given = info.name.strip_prefix("MIG ").unwrap_or(&info.name);
    given.parse().unwrap_or_else(|_| {
        let slices = narrow(info.slices);
        Profile::from_memory(
            slices,
            info.memory_mib,
            memory_mib,
            Attribute::from_nvml_enum(nvml_enum),
        )
    })
}

/// The board of a GPU: what it is called from migpool's data where they know it, what it can do from the driver.
pub(crate) fn board(identity: &Identity, entries: &[ProfileEntry]) -> Board {
    let known = mig::board(&identity.name).ok();
    let profiles = entries
        .iter()
        .map(|entry| BoardProfile {
            // The driver's count is wrong on an A30, so data go first.
            max_instances: known
                .and_then(|board| board.profile_by_id(entry.info.id))
                .map_or_else(|| narrow(entry.instances), |profile| profile.max_instances),
            ..board_profile(entry)
        })
        .collect();
    let architecture = Architecture::from_compute_capability(identity.compute_capability);
    Board {
        name: known.map_or_else(|| identity.name.clone(), |board| board.name.clone()),
        product_name: identity.name.clone(),
        aliases: known.map(|board| board.aliases.clone()).unwrap_or_default(),
        architecture,
        compute_capability: identity.compute_capability,
        memory_units: entries
            .iter()
            .flat_map(|entry| &entry.placements)
            .map(|placement| u8::try_from(placement.end()).unwrap_or(u8::MAX))
            .max()
            .unwrap_or(0),
        compute_slices: entries
            .iter()
            .map(|entry| entry.profile.slices())
            .max()
            .unwrap_or(0),
        memory_mib: identity.memory_mib,
        total_sm: entries
            .iter()
            .map(|entry| count(entry.info.multiprocessors))
            .max(),
        mode_change_needs_reset: known.map_or(architecture == Architecture::Ampere, |board| {
            board.mode_change_needs_reset
        }),
        pci_device_ids: vec![identity.pci_device_id >> 16],
        confidence: Confidence::Measured,
        sources: vec![format!("the driver of GPU {}", identity.pci_bus_id)],
        assumed: Vec::new(),
        profiles,
    }
}

fn board_profile(entry: &ProfileEntry) -> BoardProfile {
    let info = &entry.info;
    BoardProfile {
        profile: entry.profile,
        id: info.id,
        nvml_enum: entry.nvml_enum,
        slices: narrow(info.slices),
        starts: entry
            .placements
            .iter()
            .map(|placement| placement.start())
            .collect(),
        size: entry
            .placements
            .first()
            .map_or(0, |placement| placement.size()),
        max_instances: narrow(entry.instances),
        memory_mib: Some(info.memory_mib),
        sm: Some(count(info.multiprocessors)),
        copy: Some(count(info.copy_engines)),
        decoders: Some(count(info.decoders)),
        encoders: Some(count(info.encoders)),
        jpeg: Some(count(info.jpeg)),
        ofa: Some(count(info.ofa)),
    }
}

/// A placement from the driver's wider numbers.
pub(crate) fn placement(start: u32, size: u32) -> Placement {
    Placement::from_driver(narrow(start), narrow(size))
}

/// Slices and units are small numbers; a driver that says otherwise is not believed further than this.
pub(crate) fn narrow(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn count(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str) -> ProfileInfo {
        ProfileInfo {
            slices: 3,
            memory_mib: 71424,
            name: name.to_owned(),
            ..ProfileInfo::default()
        }
    }

    #[test]
    fn the_drivers_own_name_goes_before_the_rule() {
        assert_eq!(
            profile_name(&info("MIG 3g.70gb"), 2, 143_771).to_string(),
            "3g.70gb"
        );
        assert_eq!(
            profile_name(&info("3g.70gb"), 2, 143_771).to_string(),
            "3g.70gb"
        );
    }

    #[test]
    fn without_a_name_the_rule_names_it_as_the_driver_prints_it() {
        assert_eq!(profile_name(&info(""), 2, 143_771).to_string(), "3g.71gb");
        assert_eq!(
            profile_name(&info("gibberish"), 17, 143_771).to_string(),
            "3g.71gb+gfx"
        );
    }
}

//! From `mig`'s boards to the simulated driver's: gaps in the data are filled and marked, and sensors get plausible
//! figures.

use mig::{Architecture, Attribute, Board, BoardProfile, Confidence};

use crate::state::{Readings, SimArchitecture, SimBoard, SimProfile};

const NVIDIA: u32 = 0x10DE;
/// `NVML_GPU_INSTANCE_PROFILE_CAPS_GFX`.
const CAPS_GRAPHICS: u32 = 2;

/// The board as the simulated driver knows it.
#[must_use]
pub fn simulated(board: &Board) -> SimBoard {
    let profiles: Vec<_> = board
        .profiles
        .iter()
        .map(|profile| sim_profile(board, profile))
        .collect();
    let assumed = profiles.iter().any(|profile| profile.assumed);
    let readings = readings(&board.name);
    let measured = board.confidence == Confidence::Measured;
    SimBoard {
        name: board.name.clone(),
        product_name: board.product_name.clone(),
        architecture: match board.architecture {
            Architecture::Ampere => SimArchitecture::Ampere,
            Architecture::Hopper => SimArchitecture::Hopper,
            Architecture::Blackwell | Architecture::Other => SimArchitecture::Blackwell,
        },
        compute_capability: (
            board.compute_capability.0.into(),
            board.compute_capability.1.into(),
        ),
        pci_device_id: (board.pci_device_ids.first().copied().unwrap_or_default() << 16) | NVIDIA,
        // Read off a real H200; no other board's is known.
        pci_subsystem_id: if measured {
            0x18BF << 16 | NVIDIA
        } else {
            NVIDIA
        },
        memory_mib: board.memory_mib,
        // A real H200 reserves 615 of its 143771 MiB; the others are given the same share.
        reserved_mib: board.memory_mib * 615 / 143_771,
        memory_units: board.memory_units,
        compute_slices: board.compute_slices,
        mode_change_needs_reset: board.mode_change_needs_reset,
        profiles,
        readings,
        assumed,
    }
}

fn sim_profile(board: &Board, profile: &BoardProfile) -> SimProfile {
    let mut assumed = profile.memory_mib.is_none();
    let mut known = |value: fn(&BoardProfile) -> Option<u16>, otherwise: u32| {
        value(profile).map_or_else(
            || {
                assumed = true;
                scaled(board, profile, value).unwrap_or(otherwise)
            },
            u32::from,
        )
    };
    let slices = u32::from(profile.slices);
    let multiprocessors = known(
        |p| p.sm,
        board.total_sm.map_or(16, u32::from) * slices / u32::from(board.compute_slices.max(1)),
    );
    let copy_engines = known(|p| p.copy, slices);
    let decoders = known(|p| p.decoders, slices);
    let encoders = known(|p| p.encoders, 0);
    let jpeg_engines = known(|p| p.jpeg, slices);
    let ofa_engines = known(|p| p.ofa, 0);
    SimProfile {
        id: profile.id,
        nvml_enum: profile.nvml_enum,
        name: profile.profile.to_string(),
        slices: profile.slices,
        size: profile.size,
        starts: profile.starts.clone(),
        max_instances: profile.max_instances,
        memory_mib: profile
            .memory_mib
            .unwrap_or_else(|| assumed_memory(board, profile)),
        multiprocessors,
        copy_engines,
        decoders,
        encoders,
        jpeg_engines,
        ofa_engines,
        capabilities: match profile.profile.attribute() {
            Attribute::Gfx => CAPS_GRAPHICS,
            _ => 0,
        },
        assumed,
    }
}

/// What a profile has by its number of slices, judged by the largest profile up to it for which the number is known.
fn scaled(
    board: &Board,
    profile: &BoardProfile,
    value: fn(&BoardProfile) -> Option<u16>,
) -> Option<u32> {
    let reference = board
        .profiles
        .iter()
        .filter(|other| other.slices <= profile.slices && value(other).is_some())
        .max_by_key(|other| {
            (
                other.slices,
                other.profile.attribute() == profile.profile.attribute(),
            )
        })?;
    let per_slice = u32::from(value(reference)?);
    Some(per_slice * u32::from(profile.slices) / u32::from(reference.slices.max(1)))
}

/// The profile's share of the board, less 3 % as on the boards that are known, in steps of 32 MiB.
fn assumed_memory(board: &Board, profile: &BoardProfile) -> u64 {
    let share = board.memory_mib * u64::from(profile.size) / u64::from(board.memory_units.max(1));
    share * 97 / 100 / 32 * 32
}

/// One row of the table below: what differs between the boards.
struct Figures {
    idle_watts: u32,
    limit_watts: u32,
    min_watts: u32,
    max_sm_mhz: u32,
    memory_mhz: u32,
    bar1_gib: u64,
    pcie_generation: u32,
    memory_bus_bits: u32,
    cores: u32,
    nvlinks: u32,
}

#[rustfmt::skip]
fn figures(name: &str) -> Figures {
    let row = |idle_watts, limit_watts, min_watts, max_sm_mhz, memory_mhz, bar1_gib, pcie_generation, memory_bus_bits, cores, nvlinks| {
        Figures { idle_watts, limit_watts, min_watts, max_sm_mhz, memory_mhz, bar1_gib, pcie_generation, memory_bus_bits, cores, nvlinks }
    };
    match name {
        "A100-40GB"      => row( 52,  400, 100, 1410,  1215,  64, 4, 5120,  6912, 12),
        "A100-80GB"      => row( 60,  400, 100, 1410,  1593, 128, 4, 5120,  6912, 12),
        "A30"            => row( 30,  165, 100, 1440,  1215,  32, 4, 3072,  3584,  4),
        "H100-PCIe-80GB" => row( 50,  350, 200, 1755,  1593, 128, 5, 5120, 14592, 12),
        "H100-NVL-94GB"  => row( 60,  400, 200, 1785,  2619, 128, 5, 6016, 16896, 12),
        "GH200-96GB"     => row(100,  900, 100, 1980,  2619, 128, 5, 6144, 16896, 18),
        "GH200-144GB"    => row(100,  900, 100, 1980,  3201, 256, 5, 6144, 16896, 18),
        "H200-141GB"     => row(108,  700, 200, 1980,  3201, 256, 5, 6016, 16896, 18),
        "H20-96GB"       => row( 70,  500, 200, 1980,  2619, 128, 5, 6144,  9984, 18),
        "B200"           => row(140, 1000, 200, 1965,  3996, 256, 5, 8192, 18944, 18),
        "GB200"          => row(150, 1200, 200, 2062,  3996, 256, 5, 8192, 19456, 18),
        "B300"           => row(150, 1100, 200, 2032,  3996, 512, 5, 8192, 18944, 18),
        "GB300"          => row(160, 1400, 200, 2062,  3996, 512, 5, 8192, 19456, 18),
        "RTX-PRO-6000-Blackwell-96GB" => row(20, 600, 150, 2617, 14001, 128, 5, 512, 24064, 0),
        _                => row( 70,  700, 200, 1980,  2619, 128, 5, 5120, 16896, 18),
    }
}

fn readings(name: &str) -> Readings {
    let figures = figures(name);
    let measured = name == "H200-141GB";
    Readings {
        idle_power_mw: figures.idle_watts * 1000,
        power_limit_mw: figures.limit_watts * 1000,
        power_min_mw: figures.min_watts * 1000,
        power_max_mw: figures.limit_watts * 1000,
        idle_temperature_c: if measured { 38 } else { 32 },
        slowdown_temperature_c: 89,
        shutdown_temperature_c: 95,
        max_operating_temperature_c: 87,
        idle_memory_temperature_c: if measured { 37 } else { 31 },
        idle_sm_mhz: if measured { 345 } else { 210 },
        max_sm_mhz: figures.max_sm_mhz,
        memory_mhz: figures.memory_mhz,
        idle_video_mhz: if measured { 765 } else { 585 },
        max_video_mhz: if measured { 1545 } else { 1290 },
        bar1_mib: figures.bar1_gib * 1024,
        pcie_generation: figures.pcie_generation,
        pcie_width: 16,
        memory_bus_bits: figures.memory_bus_bits,
        cores: figures.cores,
        nvlinks: figures.nvlinks,
        vbios_version: if measured {
            "96.00.A5.00.1A"
        } else {
            "00.00.00.00.00"
        }
        .to_owned(),
        part_number: if measured {
            "692-2G520-0282-000"
        } else {
            "SIMULATED"
        }
        .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_named_by_the_rule_from_the_memory_that_it_reports() {
        for board in mig::boards() {
            let simulated = simulated(board);
            let total = simulated.memory_mib;
            for profile in &simulated.profiles {
                let eighths = (8 * profile.memory_mib).div_ceil(total);
                // Eighths of the whole GiB, rounded half up.
                let gb = (eighths * total.div_ceil(1024) + 4) / 8;
                let expected = format!("{}g.{gb}gb", profile.slices);
                let plain = profile.name.split(['+', '-']).next().unwrap();
                assert_eq!(plain, expected, "{} {}", board.name, profile.name);
            }
        }
    }

    #[test]
    fn gaps_in_the_data_are_filled_in_proportion_and_marked() {
        let partial = simulated(mig::board("B200").unwrap());
        let of = |name: &str| partial.profiles.iter().find(|p| p.name == name).unwrap();
        assert!(!of("1g.23gb").assumed);
        assert!(of("7g.180gb").assumed && partial.assumed);
        assert_eq!(
            of("7g.180gb").multiprocessors,
            of("2g.45gb").multiprocessors * 7 / 2
        );
        for board in mig::boards() {
            for profile in simulated(board).profiles {
                assert!(
                    profile.multiprocessors > 0 && profile.copy_engines > 0,
                    "{}",
                    board.name
                );
            }
        }
    }

    #[test]
    fn the_h200_is_as_it_was_measured() {
        let board = simulated(mig::board("H200-141GB").unwrap());
        assert_eq!(board.product_name, "NVIDIA H200");
        assert_eq!(board.memory_mib, 143_771);
        assert_eq!(board.memory_mib - board.reserved_mib, 143_156);
        assert_eq!(board.pci_device_id, 0x2335_10DE);
        assert_eq!(board.readings.power_limit_mw, 700_000);
        assert_eq!(board.readings.bar1_mib, 262_144);
        assert!(!board.assumed);
        let memory: Vec<_> = board.profiles.iter().map(|p| p.memory_mib).collect();
        assert_eq!(memory, [16384, 16384, 33280, 33280, 71424, 71424, 143_360]);
    }
}

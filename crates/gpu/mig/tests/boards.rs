//! Every board's data holds together.

use std::collections::BTreeSet;

use mig::{Attribute, GpuInstanceProfile, Placement, Profile, board, boards};
use migpool_mig as mig;

#[test]
fn all_fifteen_boards_are_there() {
    let names: Vec<_> = boards().iter().map(|b| b.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "A100-40GB",
            "A100-80GB",
            "A30",
            "H100-SXM-80GB",
            "H100-PCIe-80GB",
            "H100-NVL-94GB",
            "GH200-96GB",
            "GH200-144GB",
            "H200-141GB",
            "B200",
            "GB200",
            "B300",
            "GB300",
            "H20-96GB",
            "RTX-PRO-6000-Blackwell-96GB",
        ]
    );
}

#[test]
fn profile_names_follow_from_their_memory() {
    let mut checked = 0;
    for board in boards() {
        for entry in &board.profiles {
            let Some(memory) = entry.memory_mib else {
                continue;
            };
            let attribute = Attribute::from_nvml_enum(entry.nvml_enum);
            let name = Profile::from_memory(entry.slices, memory, board.memory_mib, attribute);
            assert_eq!(name, entry.profile, "{}", board.name);
            checked += 1;
        }
    }
    assert!(
        checked > 70,
        "most boards' memory is known, {checked} were checked"
    );
}

#[test]
fn unknown_facts_stay_unknown() {
    let b300 = board("B300").unwrap();
    assert!(
        b300.profiles
            .iter()
            .all(|p| p.memory_mib.is_none() && p.sm.is_none())
    );
    let h20 = board("H20-96GB").unwrap();
    let whole = h20.profile_by_id(0).unwrap();
    assert_eq!((whole.sm, whole.memory_mib), (Some(78), None));
}

#[test]
fn placements_lie_within_the_board_and_names_and_ids_are_unique() {
    for board in boards() {
        let ids: BTreeSet<_> = board.profiles.iter().map(|p| p.id).collect();
        let enums: BTreeSet<_> = board.profiles.iter().map(|p| p.nvml_enum).collect();
        let names: BTreeSet<_> = board.profiles.iter().map(|p| p.profile).collect();
        let count = board.profiles.len();
        assert_eq!(
            (ids.len(), enums.len(), names.len()),
            (count, count, count),
            "{}",
            board.name
        );
        for entry in &board.profiles {
            assert_eq!(entry.slices, entry.profile.slices());
            assert!(entry.slices <= board.compute_slices);
            assert_eq!(
                entry.profile.attribute(),
                Attribute::from_nvml_enum(entry.nvml_enum)
            );
            for start in &entry.starts {
                let placement = Placement::new(entry, *start).unwrap();
                assert!(
                    placement.end() <= board.memory_units.into(),
                    "{}",
                    board.name
                );
            }
        }
    }
}

#[test]
fn as_many_instances_of_a_profile_fit_as_the_data_says() {
    for board in boards() {
        for entry in &board.profiles {
            let fit = board.max_fit(entry.profile);
            assert_eq!(fit, entry.max_instances, "{} {}", board.name, entry.profile);
        }
        assert_eq!(board.max_fit(Profile::new(5, 5, Attribute::None)), 0);
    }
}

#[test]
fn aks_names_mean_the_plain_profile_with_the_least_memory() {
    let names = |name: &str| -> Vec<String> {
        let board = board(name).unwrap();
        let profile = |p: GpuInstanceProfile| p.resolve(board).unwrap().to_string();
        GpuInstanceProfile::ALL.into_iter().map(profile).collect()
    };
    assert_eq!(
        names("A100-40GB"),
        ["1g.5gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"]
    );
    assert_eq!(
        names("A100-80GB"),
        ["1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"]
    );
    assert_eq!(
        names("H200"),
        ["1g.18gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb"]
    );
}

#[test]
fn a_board_without_such_a_profile_lists_what_it_has() {
    let error = GpuInstanceProfile::Mig3g
        .resolve(board("A30").unwrap())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "A30 has no profile MIG3g; it has 1g.6gb, 1g.6gb+me, 2g.12gb, 2g.12gb+me, 4g.24gb"
    );
}

#[test]
fn boards_survive_serialization() {
    for board in boards() {
        let text = serde_saphyr::to_string(board).unwrap();
        assert_eq!(&serde_saphyr::from_str::<mig::Board>(&text).unwrap(), board);
    }
}

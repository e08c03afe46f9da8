//! What people write, and what it means on a board.

use mig::{GpuSelector, Layout, LayoutError, LayoutSpec, MigProfile, NodeLayout, board};
use migpool_mig as mig;
use proptest::prelude::*;
use rstest::rstest;

fn resolve(board_name: &str, text: &str) -> Result<Option<Layout>, LayoutError> {
    let spec: LayoutSpec = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    spec.resolve(board(board_name).unwrap_or_else(|e| panic!("{e}")))
}

#[rstest]
#[case("A100-40GB", "MIG1g", "1g.5gb*7")]
#[case("A100-40GB", "MIG2g", "2g.10gb*3")]
#[case("A100-40GB", "MIG3g", "3g.20gb*2")]
#[case("A100-40GB", "MIG4g", "4g.20gb*1")]
#[case("A100-40GB", "mig7G", "7g.40gb*1")]
#[case("A100-80GB", "MIG1g", "1g.10gb*7")]
#[case("A100 80GB PCIe", "MIG2g", "2g.20gb*3")]
#[case("A30", "MIG1g", "1g.6gb*4")]
#[case("A100-40GB", "1g.5gb", "1g.5gb*7")]
#[case("A100-40GB", "1g.10gb", "1g.10gb*4")]
#[case("A100-40GB", "1g.5gb+me", "1g.5gb+me*1")]
#[case("A100-40GB", "1g.5gb*2", "1g.5gb*2")]
#[case("A100-40GB", "1g.5gb*2, 3g.20gb ,2g.10gb", "3g.20gb,2g.10gb,1g.5gb*2")]
#[case("A100-40GB", "3g.20gb,4g.20gb", "4g.20gb,3g.20gb")]
#[case("A100-40GB", "1g.5gb,1g.5gb", "1g.5gb*2")]
#[case("A100-40GB", "1c.3g.20gb", "1c.3g.20gb*6")]
#[case("A100-40GB", "1c.3g.20gb*3", "1c.3g.20gb*3")]
#[case("A100-40GB", "2c.7g.40gb", "2c.7g.40gb*3")]
#[case("RTX-PRO-6000", "1g.24gb", "1g.24gb*4")]
#[case("RTX-PRO-6000", "2g.48gb,1g.24gb*2", "2g.48gb,1g.24gb*2")]
#[case(
    "RTX-PRO-6000",
    "1g.24gb+me.all,1g.24gb-me*3",
    "1g.24gb+me.all,1g.24gb-me*3"
)]
#[case("A100-40GB", "empty", "empty")]
fn a_layout_means_these_devices(#[case] board: &str, #[case] text: &str, #[case] devices: &str) {
    let layout = resolve(board, text).unwrap().unwrap();
    assert_eq!(layout.to_string(), devices);
    assert_eq!(
        resolve(board, devices).unwrap().unwrap(),
        layout,
        "its text means it again"
    );
}

#[test]
fn off_is_mig_mode_off_and_not_an_empty_layout() {
    assert_eq!(resolve("A100-40GB", "OFF"), Ok(None));
    assert_eq!(resolve("A100-40GB", "empty"), Ok(Some(Layout::default())));
}

#[test]
fn compute_instances_share_as_few_gpu_instances_as_possible() {
    let layout = resolve("A100-40GB", "1c.3g.20gb*4,2c.3g.20gb,4g.20gb").unwrap_err();
    assert!(
        matches!(layout, LayoutError::DoesNotFit { .. }),
        "two 3g and a 4g: {layout}"
    );
    let layout = resolve("A100-40GB", "1c.3g.20gb*4,2c.3g.20gb")
        .unwrap()
        .unwrap();
    let compute: Vec<_> = layout
        .instances()
        .iter()
        .map(|i| i.compute.clone())
        .collect();
    assert_eq!(compute, [vec![2, 1], vec![1, 1, 1]]);
    let board = board("A100-40GB").unwrap();
    let devices: Vec<_> = board
        .expected_devices(&layout)
        .into_iter()
        .map(|(p, n)| (p.to_string(), n))
        .collect();
    assert_eq!(
        devices,
        [("1c.3g.20gb".to_owned(), 4), ("2c.3g.20gb".to_owned(), 1)]
    );
}

#[test]
fn an_unknown_profile_lists_the_boards_own() {
    let error = resolve("A100-40GB", "1g.6gb").unwrap_err().to_string();
    assert_eq!(
        error,
        "A100-40GB has no profile 1g.6gb; it has 1g.5gb, 1g.5gb+me, 1g.10gb, 2g.10gb, 3g.20gb, \
         4g.20gb, 7g.40gb"
    );
}

#[rstest]
#[case(
    "A100-40GB",
    "1g.5gb*8",
    "at most 7 of 1g.5gb can exist, not 8",
    "1g.5gb*7"
)]
#[case(
    "A100-40GB",
    "3g.20gb*3",
    "at most 2 of 3g.20gb can exist, not 3",
    "3g.20gb*2"
)]
#[case(
    "A100-40GB",
    "4g.20gb*2",
    "at most 1 of 4g.20gb can exist, not 2",
    "4g.20gb,3g.20gb"
)]
#[case(
    "A100-40GB",
    "7g.40gb,1g.5gb",
    "it takes 9 memory units of 8",
    "7g.40gb*1"
)]
#[case(
    "A100-40GB",
    "2g.10gb*4",
    "at most 3 of 2g.10gb can exist, not 4",
    "2g.10gb*3,1g.10gb"
)]
#[case(
    "A100-40GB",
    "7g.40gb,1g.5gb*3",
    "it takes 11 memory units of 8",
    "4g.20gb,1g.5gb*3"
)]
#[case(
    "A100-40GB",
    "3g.20gb,2g.10gb,1g.5gb*3",
    "it takes 9 memory units of 8",
    "3g.20gb,2g.10gb,1g.5gb*2"
)]
#[case(
    "A100-40GB",
    "1g.5gb+me*2",
    "at most 1 of 1g.5gb+me can exist, not 2",
    "1g.5gb+me,1g.5gb"
)]
#[case(
    "A100-40GB",
    "3g.20gb*2,1g.5gb",
    "it takes 9 memory units of 8",
    "3g.20gb*2"
)]
#[case("A30", "2g.12gb*2,1g.6gb", "it takes 5 memory units of 4", "2g.12gb*2")]
#[case(
    "RTX-PRO-6000",
    "1g.24gb+me.all,1g.24gb",
    "it takes 5 video decoders of 4",
    "1g.24gb+me.all,1g.24gb-me"
)]
fn a_layout_that_does_not_fit_says_why_and_the_nearest_that_does(
    #[case] board: &str,
    #[case] text: &str,
    #[case] why: &str,
    #[case] near: &str,
) {
    let error = resolve(board, text).unwrap_err();
    let LayoutError::DoesNotFit {
        reason, nearest, ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(reason.to_string(), why);
    assert_eq!(nearest.to_string(), near);
    assert!(
        error
            .to_string()
            .contains(&format!("the nearest that fits is {near}")),
        "{error}"
    );
    assert!(resolve(board, near).is_ok());
}

#[rstest]
#[case("", "cannot be blank")]
#[case(" , ", "is not a MIG profile")]
#[case("1g.5gb*0", "from 1 to 255")]
#[case("1g.5gb*256", "from 1 to 255")]
#[case("1g.5gb*200,1g.5gb*200", "from 1 to 255")]
#[case("1g.5gb*-1", "from 1 to 255")]
#[case("1g.5gb*", "from 1 to 255")]
#[case("MIG1g*3", "describes the whole GPU")]
#[case("off,1g.5gb", "describes the whole GPU")]
#[case("1g.5gb,", "is not a MIG profile")]
#[case("banana", "is not a MIG profile")]
#[case("3c.4g.20gb", "it has 1c, 2c, 4c")]
fn a_text_that_is_no_layout_says_what_is_allowed(#[case] text: &str, #[case] says: &str) {
    let error = text.parse::<LayoutSpec>().expect_err(text).to_string();
    assert!(error.contains(says), "{text}: {error}");
}

#[test]
fn gpus_of_one_node_can_differ() {
    let layout: NodeLayout = "0-3=3g.20gb,2g.10gb,1g.5gb*2;4,6-7=off".parse().unwrap();
    let text = |gpu| layout.for_gpu(gpu).map(ToString::to_string);
    assert_eq!(text(2).as_deref(), Some("3g.20gb,2g.10gb,1g.5gb*2"));
    assert_eq!(text(6).as_deref(), Some("off"));
    assert_eq!(text(5), None, "a GPU that is not named is left alone");
    assert_eq!(layout.to_string(), "0-3=3g.20gb,2g.10gb,1g.5gb*2;4,6-7=off");

    let a100 = board("A100-40GB").unwrap();
    let layouts = layout.resolve((0..8).map(|gpu| (gpu, a100))).unwrap();
    assert_eq!(layouts.len(), 7);
    assert_eq!(layouts.get(&7), Some(&None));
    assert!(layouts.get(&0).is_some_and(Option::is_some));
}

#[test]
fn one_layout_for_all_fits_each_gpus_own_board() {
    let layout: NodeLayout = "MIG1g".parse().unwrap();
    let boards = [(0, board("A100-40GB").unwrap()), (3, board("A30").unwrap())];
    let layouts = layout.resolve(boards).unwrap();
    let text = |gpu: u32| layouts[&gpu].as_ref().unwrap().to_string();
    assert_eq!(
        (text(0), text(3)),
        ("1g.5gb*7".to_owned(), "1g.6gb*4".to_owned())
    );
}

#[rstest]
#[case("0-1=MIG1g;1=off", "GPU 1 is given more than one layout")]
#[case("MIG1g;1=off", "all GPUs is given more than one layout")]
#[case("x=MIG1g", "`x` does not name GPUs")]
#[case("3-1=MIG1g", "`3-1` does not name GPUs")]
#[case("0-4294967295=off", "does not name GPUs")]
#[case("=off", "does not name GPUs")]
#[case("0=", "cannot be blank")]
#[case("MIG1g;", "cannot be blank")]
fn a_text_that_is_no_node_layout_says_why(#[case] text: &str, #[case] says: &str) {
    let error = text.parse::<NodeLayout>().expect_err(text).to_string();
    assert!(error.contains(says), "{text}: {error}");
}

#[test]
fn a_node_layout_names_the_gpu_that_it_fails_on() {
    let a30 = board("A30").unwrap();
    let resolve = |text: &str| {
        text.parse::<NodeLayout>()
            .unwrap()
            .resolve([(0, a30), (1, a30)])
            .unwrap_err()
            .to_string()
    };
    assert!(resolve("1=1g.5gb").starts_with("GPU 1: A30 has no profile 1g.5gb"));
    assert!(resolve("2=off").contains("names GPU 2") && resolve("2=off").ends_with("it has 0-1"));
}

#[test]
fn the_layouts_of_single_gpus_are_grouped() {
    let spec = |text: &str| text.parse::<LayoutSpec>().unwrap();
    let gpus = [
        (0, spec("MIG1g")),
        (1, spec("off")),
        (2, spec("MIG1g")),
        (3, spec("MIG1g")),
    ];
    assert_eq!(
        NodeLayout::of_gpus(gpus).unwrap().to_string(),
        "0,2-3=MIG1g;1=off"
    );
    assert_eq!(NodeLayout::of_gpus([]), None);
}

fn device() -> impl Strategy<Value = MigProfile> {
    let all: Vec<MigProfile> = mig::boards()
        .iter()
        .flat_map(|b| &b.profiles)
        .flat_map(|entry| {
            mig::compute_instance_profiles(entry.slices)
                .iter()
                .filter_map(|c| MigProfile::new(c.slices, entry.profile).ok())
        })
        .collect();
    proptest::sample::select(all)
}

fn spec() -> impl Strategy<Value = LayoutSpec> {
    prop_oneof![
        Just(LayoutSpec::Off),
        proptest::sample::select(&mig::GpuInstanceProfile::ALL[..]).prop_map(LayoutSpec::Fill),
        device().prop_map(LayoutSpec::FillWith),
        proptest::collection::vec((device(), 0..9_u8), 0..5).prop_map(LayoutSpec::exact),
    ]
}

proptest! {
    #[test]
    fn devices_and_resource_names_round_trip(device in device()) {
        prop_assert_eq!(device.to_string().parse::<MigProfile>().unwrap(), device);
        let name = device.resource_name();
        prop_assert!(name.as_str().starts_with("nvidia.com/mig-") && !name.as_str().contains('+'));
        prop_assert_eq!(name.profile(), Some(device));
        prop_assert_eq!(name.as_str().parse(), Ok(name));
    }

    #[test]
    fn layouts_round_trip(spec in spec()) {
        prop_assert_eq!(spec.to_string().parse::<LayoutSpec>().unwrap(), spec);
    }

    #[test]
    fn node_layouts_round_trip(
        gpus in proptest::collection::btree_map(0..32_u32, spec(), 1..8),
        everywhere in spec(),
    ) {
        let layout = NodeLayout::of_gpus(gpus).unwrap();
        prop_assert_eq!(layout.to_string().parse::<NodeLayout>().unwrap(), layout);
        let layout = NodeLayout::uniform(everywhere);
        prop_assert_eq!(&layout.entries()[0].0, &GpuSelector::All);
        prop_assert_eq!(layout.to_string().parse::<NodeLayout>().unwrap(), layout);
    }

    #[test]
    fn any_text_is_read_without_harm(text in "[0-9cgb.+*,;=offMIGme -]{0,24}") {
        if let Ok(layout) = text.parse::<NodeLayout>() {
            prop_assert_eq!(layout.to_string().parse::<NodeLayout>().unwrap(), layout);
        }
    }

    #[test]
    fn whatever_does_not_fit_has_a_nearest_that_does(
        board in proptest::sample::select(mig::boards()),
        picks in proptest::collection::vec((any::<proptest::sample::Index>(), 1..4_u8), 1..4),
    ) {
        let devices = picks.iter().map(|(pick, count)| {
            (MigProfile::whole(pick.get(&board.profiles).profile), *count)
        });
        let spec = LayoutSpec::exact(devices);
        match spec.resolve(&board) {
            Ok(layout) => {
                let placed = board.pack(&layout.unwrap()).unwrap();
                for (index, one) in placed.iter().enumerate() {
                    let later = &placed[index + 1..];
                    prop_assert!(later.iter().all(|o| !o.placement.overlaps(one.placement)));
                }
            }
            Err(LayoutError::DoesNotFit { nearest, layout, .. }) => {
                prop_assert!(!nearest.is_empty());
                prop_assert!(nearest.instances().len() <= layout.instances().len());
                prop_assert!(board.pack(&nearest).is_ok());
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

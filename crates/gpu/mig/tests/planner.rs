//! The planner against exhaustive search, over the placed states of real boards.

use std::collections::{BTreeMap, BTreeSet};

use mig::{
    Board, Existing, Layout, PlacedInstance, Placement, Profile, board, boards, placement, plan,
};
use migpool_mig as mig;
use proptest::prelude::*;

type State = Vec<PlacedInstance>;
type Multiset = Vec<Profile>;

/// Every way to place instances of these profiles without overlap, the empty one first: plain recursion
/// over all placements, written apart from what it checks.
fn states(board: &Board, names: &[&str]) -> Vec<State> {
    let mut places = Vec::new();
    for entry in board
        .profiles
        .iter()
        .filter(|e| names.contains(&e.profile.to_string().as_str()))
    {
        for start in &entry.starts {
            let placement = Placement::from_driver(*start, entry.size);
            places.push(PlacedInstance {
                profile: entry.profile,
                placement,
            });
        }
    }
    let mut all = vec![State::new()];
    for place in places {
        let free = |s: &&State| s.iter().all(|i| !i.placement.overlaps(place.placement));
        let with: Vec<State> = all
            .iter()
            .filter(free)
            .map(|s| [s.as_slice(), &[place]].concat())
            .collect();
        all.extend(with);
    }
    all
}

fn multiset(state: &State) -> Multiset {
    let mut profiles: Multiset = state.iter().map(|i| i.profile).collect();
    profiles.sort();
    profiles
}

fn by_multiset(states: &[State]) -> BTreeMap<Multiset, Vec<&State>> {
    let mut groups = BTreeMap::<Multiset, Vec<&State>>::new();
    for state in states {
        groups.entry(multiset(state)).or_default().push(state);
    }
    groups
}

fn maximal(states: &[State]) -> Vec<&State> {
    let sets: Vec<BTreeSet<_>> = states.iter().map(|s| s.iter().collect()).collect();
    let has_superset =
        |set: &BTreeSet<_>| sets.iter().any(|o| o.len() > set.len() && set.is_subset(o));
    states
        .iter()
        .zip(&sets)
        .filter(|(_, set)| !has_superset(set))
        .map(|(s, _)| s)
        .collect()
}

const PLAIN: [&str; 5] = ["1g.5gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"];
const WITH_DOUBLE: [&str; 6] = [
    "1g.5gb", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb",
];

fn a100() -> &'static Board {
    board("A100-40GB").unwrap_or_else(|e| panic!("{e}"))
}

/// Existing instances, of which those whose bit is set are in use.
fn existing(state: &State, in_use: u32) -> Vec<Existing> {
    let one = |(bit, instance): (usize, &PlacedInstance)| Existing {
        instance: *instance,
        in_use: in_use >> bit & 1 == 1,
    };
    state.iter().enumerate().map(one).collect()
}

/// Plans, carries the plan out step by step, and gives how many instances it kept: in use, and in all.
fn carry_out(board: &Board, from: &[Existing], wanted: &Multiset) -> (usize, usize) {
    let layout = Layout::of_profiles(wanted.iter().copied());
    let plan = plan(board, from, &layout).unwrap_or_else(|e| panic!("{e}"));
    let touched: BTreeSet<_> = plan.keep.iter().chain(&plan.destroy).copied().collect();
    assert_eq!(
        touched.len(),
        plan.keep.len() + plan.destroy.len(),
        "each index once"
    );
    assert_eq!(
        touched,
        (0..from.len()).collect(),
        "each instance is kept or destroyed"
    );
    let mut gpu: State = plan
        .keep
        .iter()
        .map(|index| from[*index].instance)
        .collect();
    for create in &plan.create {
        let entry = board
            .profile(create.profile)
            .unwrap_or_else(|| panic!("{create:?}"));
        let legal = Placement::new(entry, create.placement.start());
        assert_eq!(legal.ok(), Some(create.placement));
        assert!(
            gpu.iter().all(|i| !i.placement.overlaps(create.placement)),
            "{gpu:?} {create:?}"
        );
        gpu.push(*create);
    }
    assert_eq!(&multiset(&gpu), wanted);
    (
        plan.keep.iter().filter(|i| from[**i].in_use).count(),
        plan.keep.len(),
    )
}

/// The most that any placed state of the wanted multiset has in common with what is there.
fn most_kept(from: &[Existing], targets: &[&State]) -> (usize, usize) {
    let kept = |target: &&State| {
        let kept: Vec<_> = from
            .iter()
            .filter(|e| target.contains(&e.instance))
            .collect();
        (kept.iter().filter(|e| e.in_use).count(), kept.len())
    };
    targets.iter().map(kept).max().unwrap_or_default()
}

#[test]
fn an_a100_has_nvidias_19_configurations() {
    let states = states(a100(), &PLAIN);
    assert_eq!(states.len() - 1, 297);
    assert_eq!(by_multiset(&states).len() - 1, 37);
    let maximal = maximal(&states);
    assert_eq!(maximal.len(), 19);
    let both = |s: &&&State| {
        ["4g.20gb", "3g.20gb"]
            .iter()
            .all(|p| s.iter().any(|i| i.profile.to_string() == *p))
    };
    assert_eq!(maximal.len() - maximal.iter().filter(both).count(), 18);
    let kinds: BTreeSet<_> = maximal.iter().map(|s| multiset(s)).collect();
    assert_eq!(kinds.len(), 14);
}

#[test]
fn with_the_double_memory_profile_an_a100_has_722_states_of_77_multisets() {
    let states = states(a100(), &WITH_DOUBLE);
    assert_eq!(states.len() - 1, 722);
    assert_eq!(by_multiset(&states).len() - 1, 77);
    assert_eq!(maximal(&states).len(), 78);
}

#[test]
fn the_library_enumerates_the_same_states() {
    for names in [&PLAIN[..], &WITH_DOUBLE[..]] {
        let profiles: Vec<Profile> = names.iter().map(|n| n.parse().unwrap()).collect();
        let sorted = |mut state: State| {
            state.sort();
            state
        };
        let ours: BTreeSet<State> = placement::configurations(a100(), &profiles)
            .into_iter()
            .map(sorted)
            .collect();
        let all = states(a100(), names);
        let expected: BTreeSet<State> = all
            .iter()
            .filter(|s| !s.is_empty())
            .cloned()
            .map(sorted)
            .collect();
        assert_eq!(ours, expected);
        let ours: BTreeSet<_> = ours
            .into_iter()
            .filter(|state| placement::is_maximal(a100(), &profiles, state))
            .collect();
        assert_eq!(
            ours,
            maximal(&all).into_iter().cloned().map(sorted).collect()
        );
    }
}

/// From each of the 722 states and the empty GPU to every multiset, which covers every pair of states.
#[test]
fn every_multiset_is_reached_from_any_state_with_the_least_change() {
    let states = states(a100(), &WITH_DOUBLE);
    let groups = by_multiset(&states);
    for (number, state) in states.iter().enumerate() {
        // Different instances are in use from state to state.
        let in_use = u32::try_from(number).unwrap().wrapping_mul(0x9E37_79B1) >> 16;
        let from = existing(state, in_use);
        for (wanted, targets) in &groups {
            let kept = carry_out(a100(), &from, wanted);
            assert_eq!(kept, most_kept(&from, targets), "{from:?} -> {wanted:?}");
        }
    }
}

#[test]
fn an_instance_in_use_outweighs_any_number_that_are_not() {
    let at = |name: &str, start| {
        let entry = a100().profile(name.parse().unwrap()).unwrap();
        let placement = Placement::new(entry, start).unwrap();
        PlacedInstance {
            profile: entry.profile,
            placement,
        }
    };
    // The 3g can only lie over the 1g at 0, or over the two others.
    let state = vec![at("1g.5gb", 0), at("2g.10gb", 4), at("1g.5gb", 6)];
    let wanted = ["3g.20gb", "2g.10gb", "1g.5gb"].map(|name| name.parse().unwrap());
    let layout = Layout::of_profiles(wanted);
    let idle = plan(a100(), &existing(&state, 0b000), &layout).unwrap();
    assert_eq!(idle.keep, [1, 2]);
    assert_eq!(idle.create, [at("3g.20gb", 0)]);
    let busy = plan(a100(), &existing(&state, 0b001), &layout).unwrap();
    assert_eq!((busy.keep, busy.destroy), (vec![0], vec![1, 2]));
    assert_eq!(busy.create, [at("3g.20gb", 4), at("2g.10gb", 2)]);
}

#[test]
fn the_order_that_fails_without_placements_is_no_trouble_with_them() {
    let wanted: Vec<Profile> = ["1g.5gb", "1g.5gb", "2g.10gb", "3g.20gb"]
        .iter()
        .map(|n| n.parse().unwrap())
        .collect();
    let plan = plan(a100(), &[], &Layout::of_profiles(wanted)).unwrap();
    assert_eq!(plan.create.len(), 4);
    assert_eq!(plan.create[0].profile.to_string(), "3g.20gb");
}

#[test]
fn what_is_there_already_needs_nothing() {
    for state in states(a100(), &WITH_DOUBLE) {
        let from = existing(&state, 0);
        let plan = plan(a100(), &from, &Layout::of_profiles(multiset(&state))).unwrap();
        assert!(plan.is_empty(), "{state:?}: {plan:?}");
    }
}

#[test]
fn a_plan_that_cannot_be_says_why_and_what_can() {
    let layout = Layout::of_profiles(["3g.20gb".parse().unwrap(); 3]);
    let error = plan(a100(), &[], &layout).unwrap_err().to_string();
    assert_eq!(
        error,
        "3g.20gb*3 does not fit on A100-40GB: at most 2 of 3g.20gb can exist, not 3; the nearest \
         that fits is 3g.20gb*2"
    );
}

#[test]
fn instances_that_overlap_or_are_strange_are_never_kept_together() {
    let strange = |start, size| Existing {
        instance: PlacedInstance {
            profile: "1g.5gb".parse().unwrap(),
            placement: Placement::from_driver(start, size),
        },
        in_use: false,
    };
    let layout = Layout::of_profiles(["1g.5gb".parse().unwrap(); 2]);
    let twice = plan(
        a100(),
        &[strange(3, 1), strange(3, 1), strange(200, 100)],
        &layout,
    )
    .unwrap();
    assert_eq!(
        (twice.keep, twice.destroy, twice.create.len()),
        (vec![0], vec![1, 2], 1)
    );
    let many = plan(a100(), &[strange(0, 1); 17], &layout)
        .unwrap_err()
        .to_string();
    assert!(many.contains("17 GPU instances"), "{many}");
}

/// A board, the state it is in, which instances are in use, and what is wanted on it: a state itself.
fn transition() -> impl Strategy<Value = (&'static Board, Vec<Existing>, Multiset)> {
    let board = proptest::sample::select(boards().iter().collect::<Vec<_>>());
    let fill = || proptest::collection::vec(any::<proptest::sample::Index>(), 0..24);
    (board, fill(), fill(), any::<u32>()).prop_map(|(board, from, to, in_use)| {
        let from = existing(&fill_up(board, &from), in_use);
        (board, from, multiset(&fill_up(board, &to)))
    })
}

/// Adds the picked placements one by one, as far as the board takes them.
fn fill_up(board: &Board, picks: &[proptest::sample::Index]) -> State {
    let places: Vec<PlacedInstance> = board
        .profiles
        .iter()
        .flat_map(|e| e.starts.iter().map(move |start| (e, *start)))
        .filter_map(|(e, start)| {
            let placement = Placement::new(e, start).ok()?;
            Some(PlacedInstance {
                profile: e.profile,
                placement,
            })
        })
        .collect();
    let mut state = State::new();
    for pick in picks {
        let place = *pick.get(&places);
        let free = state
            .iter()
            .all(|i: &PlacedInstance| !i.placement.overlaps(place.placement));
        let with = state.iter().map(|i| i.profile).chain([place.profile]);
        if free && board.pack(&Layout::of_profiles(with)).is_ok() {
            state.push(place);
        }
    }
    state
}

/// The most that can stay: each subset of what is there, and whether the rest of the wanted profiles can
/// be laid beside it by trying every placement of each in turn.
fn most_kept_on(board: &Board, from: &[Existing], wanted: &Multiset) -> (usize, usize) {
    fn laid(board: &Board, gpu: &mut State, rest: &[Profile]) -> bool {
        let Some((profile, rest)) = rest.split_first() else {
            return true;
        };
        let Some(entry) = board.profile(*profile) else {
            return false;
        };
        entry.starts.iter().any(|start| {
            let placement = Placement::from_driver(*start, entry.size);
            if gpu.iter().any(|i| i.placement.overlaps(placement)) {
                return false;
            }
            gpu.push(PlacedInstance {
                profile: *profile,
                placement,
            });
            let found = laid(board, gpu, rest);
            gpu.pop();
            found
        })
    }
    let mut best = (0, 0);
    for set in 0..1_u32 << from.len() {
        let kept: Vec<&Existing> = from
            .iter()
            .enumerate()
            .filter(|(i, _)| set >> i & 1 == 1)
            .map(|(_, e)| e)
            .collect();
        let mut rest = wanted.clone();
        let all_wanted = kept.iter().all(|e| {
            let position = rest.iter().position(|p| *p == e.instance.profile);
            position.map(|position| rest.remove(position)).is_some()
        });
        let mut gpu: State = kept.iter().map(|e| e.instance).collect();
        if all_wanted && laid(board, &mut gpu, &rest) {
            best = best.max((kept.iter().filter(|e| e.in_use).count(), kept.len()));
        }
    }
    best
}

proptest! {
    #[test]
    fn on_every_board_no_more_could_be_kept((board, from, wanted) in transition()) {
        let kept = carry_out(board, &from, &wanted);
        prop_assert_eq!(kept, most_kept_on(board, &from, &wanted), "{:?} -> {:?}", from, wanted);
    }
}

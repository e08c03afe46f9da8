//! From any placed state to any layout, over the simulated driver.

use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use mig::placement::configurations;
use mig::{Layout, NodeLayout, PlacedInstance, Profile};
use nvml::{Gpu, GpuInstance};
use partition::{Error, Options, Outcome, Ownership, Refusal, assert};
use proptest::prelude::*;

use crate::by_hand::board;
use crate::node::{Node, REPLACE};

/// One node for all cases; each starts it over.
static NODE: LazyLock<Mutex<Node>> = LazyLock::new(|| {
    let node = Node::new(&[("A100-40GB", 1)]);
    node.reach("empty");
    Mutex::new(node)
});

/// Every placed state of an A100 with the six plain profiles, and the empty one.
static STATES: LazyLock<Vec<Vec<PlacedInstance>>> = LazyLock::new(|| {
    let profiles: Vec<Profile> = [
        "1g.5gb", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb",
    ]
    .map(|name| name.parse().unwrap())
    .into();
    let mut states = configurations(board(), &profiles);
    states.push(vec![]);
    states
});

/// Which of the GPU instances that are there at first have a compute instance, and which are ours.
#[derive(Debug, Clone)]
struct Case {
    from: usize,
    finished: u8,
    ours: u8,
    to: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    let state = 0..STATES.len();
    (state.clone(), any::<u8>(), any::<u8>(), state).prop_map(|(from, finished, ours, to)| Case {
        from,
        finished,
        ours,
        to,
    })
}

/// Brings the node to the case's first state as others and we ourselves would have left it.
fn set_up(node: &Node, case: &Case) -> Gpu {
    node.start_over();
    let nvml = node.nvml();
    let gpu = nvml.inventory().unwrap().gpus.remove(0);
    std::fs::create_dir_all(node.state_dir()).unwrap();
    let mut ours = Ownership::load(&node.state_dir()).unwrap();
    for (bit, placed) in STATES[case.from].iter().enumerate() {
        let known = board().profile(placed.profile).unwrap();
        let id = nvml
            .create_gpu_instance(&gpu.uuid, known.id, placed.placement)
            .unwrap();
        if case.finished & (1 << bit) != 0 {
            let profiles = nvml.compute_instance_profiles(&gpu.uuid, id).unwrap();
            let whole = profiles.last().unwrap().id;
            nvml.create_compute_instance(&gpu.uuid, id, whole).unwrap();
        }
        if case.ours & (1 << bit) != 0 {
            ours.claim(&gpu.uuid, known.id, placed.placement.start());
        }
    }
    ours.save(&node.state_dir()).unwrap();
    nvml.inventory().unwrap().gpus.remove(0)
}

fn wanted(case: &Case) -> NodeLayout {
    let profiles = STATES[case.to].iter().map(|placed| placed.profile);
    NodeLayout::uniform(Layout::of_profiles(profiles).to_spec())
}

/// What stays the same about an instance that isn't touched, but for its being finished.
fn identity(instance: &GpuInstance) -> (u32, u32, u8) {
    (instance.id, instance.profile_id, instance.placement.start())
}

/// What isn't ours.
fn foreign(gpu: &Gpu, case: &Case) -> BTreeSet<(u32, u32, u8)> {
    let placed = STATES[case.from].iter().enumerate();
    let starts: BTreeSet<u8> = placed
        .filter(|(bit, _)| case.ours & (1 << bit) == 0)
        .map(|(_, placed)| placed.placement.start())
        .collect();
    gpu.instances
        .iter()
        .filter(|instance| starts.contains(&instance.placement.start()))
        .map(identity)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_layout_is_reached_once_and_what_is_not_ours_is_untouched(case in cases()) {
        let node = NODE.lock().unwrap_or_else(PoisonError::into_inner);
        let before = set_up(&node, &case);
        let others = foreign(&before, &case);
        let wanted = wanted(&case);
        match node.partitioner().apply(&wanted, Options::default(), &[]) {
            Ok(report) => {
                prop_assert_eq!(report.outcome, Outcome::Done, "{}", report);
                let after = node.gpu(0);
                let there: BTreeSet<_> = after.instances.iter().map(identity).collect();
                prop_assert!(others.is_subset(&there), "{others:?} in {there:?}");
            }
            Err(Error::Refused(refused)) => {
                let foreign_alone = refused.refusals.iter().all(|r| matches!(r, Refusal::Foreign { .. }));
                prop_assert!(foreign_alone, "{}", refused);
                prop_assert_eq!(&node.gpu(0), &before, "a refusal changes nothing");
                let report = node.partitioner().apply(&wanted, REPLACE, &[]).unwrap();
                prop_assert_eq!(report.outcome, Outcome::Done, "{}", report);
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
        prop_assert_eq!(assert(&node.inventory(), &wanted), []);
        let again = node.partitioner().apply(&wanted, Options::default(), &[]).unwrap();
        prop_assert_eq!(again.outcome, Outcome::Done);
        prop_assert_eq!(again.calls, []);
    }

    #[test]
    fn what_is_refused_could_not_have_been_reached_with_what_is_not_ours(case in cases()) {
        let node = NODE.lock().unwrap_or_else(PoisonError::into_inner);
        let before = set_up(&node, &case);
        let others = foreign(&before, &case);
        let wanted = wanted(&case);
        let refused = node.partitioner().plan(&wanted, Options::default(), &[]).is_err();
        // Whether some placed state of the wanted profiles contains everything that isn't ours.
        let mut profiles: Vec<_> = STATES[case.to].iter().map(|placed| placed.profile).collect();
        profiles.sort_unstable();
        let reachable = STATES.iter().any(|state| {
            let mut same: Vec<_> = state.iter().map(|placed| placed.profile).collect();
            same.sort_unstable();
            same == profiles
                && before.instances.iter().filter(|i| others.contains(&identity(i))).all(|i| {
                    state.iter().any(|placed| (placed.profile, placed.placement) == (i.profile, i.placement))
                })
        });
        prop_assert_eq!(refused, !reachable);
    }
}

//! What a change would take, and who is in its way.

use mig::NodeLayout;
use nvml::{GpuUuid, Inventory};
use partition::{Held, Holder, InUse, Options, Ownership, Plan, PlanError, Refusal, survey};

use crate::by_hand::{a100, inventory, whole};

const REPLACE: Options = Options {
    replace_all: true,
    wait: false,
};

fn surveyed(
    inventory: &Inventory,
    wanted: &str,
    holders: &[Holder],
    options: Options,
) -> Result<(Plan, Vec<InUse>), PlanError> {
    let layout: NodeLayout = wanted.parse().unwrap();
    survey(inventory, &layout, &Ownership::default(), holders, options)
}

fn pod(name: &str, gpu_instance: u32) -> Holder {
    let gpu: GpuUuid = "GPU-0".parse().unwrap();
    Holder {
        held: Held::Instance {
            gpu,
            gpu_instance,
            compute_instance: None,
        },
        who: name.to_owned(),
    }
}

/// A GPU with seven `1g.5gb`, whose GPU instances have the ids 1 to 7.
fn sevenths() -> Inventory {
    let instances = (0..7).map(|at| whole(u32::from(at) + 1, "1g.5gb", at));
    inventory(vec![a100(0, instances.collect())])
}

#[test]
fn who_is_in_the_way_is_told_and_refuses_nothing() {
    let holders = [pod("a", 2), pod("b", 5)];
    let (plan, in_use) = surveyed(&sevenths(), "3g.20gb", &holders, REPLACE).unwrap();
    let [gpu] = plan.gpus.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!(gpu.destroyed_compute_instances().count(), 7);
    assert!(!gpu.changes_mode());
    let who: Vec<_> = in_use.iter().flat_map(|it| &it.holders).collect();
    assert_eq!(who, [&holders[0], &holders[1]]);
    assert_eq!(in_use[0].what, "1g.5gb at 1 (GPU instance 2)");
}

#[test]
fn who_can_stay_is_not_in_the_way() {
    let holders = [pod("a", 7)];
    let (plan, in_use) = surveyed(&sevenths(), "3g.20gb,1g.5gb*3", &holders, REPLACE).unwrap();
    assert_eq!(in_use, []);
    let gone = plan.gpus[0].destroyed_compute_instances();
    assert_ne!(gone.map(|(gpu_instance, _)| gpu_instance).max(), Some(7));
}

#[test]
fn what_is_not_ours_is_refused_though_its_user_could_be_sent_away() {
    let refused = surveyed(&sevenths(), "3g.20gb", &[pod("a", 2)], Options::default());
    let refusals = refused.unwrap_err().refusals;
    assert!(
        refusals
            .iter()
            .all(|refusal| matches!(refusal, Refusal::Foreign { .. })),
        "{refusals:?}"
    );
    assert_eq!(refusals.len(), 7);
}

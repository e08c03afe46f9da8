//! The pure plan.

use mig::NodeLayout;
use nvml::{Gpu, Inventory};
use partition::{Held, Holder, Options, Ownership, Plan, PlanError, Refusal, plan};

use crate::by_hand::{a100, board, failed, in_mode, instance, inventory, whole};

const REPLACE: Options = Options {
    replace_all: true,
    wait: false,
};

fn layout(text: &str) -> NodeLayout {
    text.parse().unwrap()
}

/// A record by which everything that is there is ours.
fn all_ours(inventory: &Inventory) -> Ownership {
    let mut ownership = Ownership::default();
    for gpu in &inventory.gpus {
        for instance in &gpu.instances {
            ownership.claim(&gpu.uuid, instance.profile_id, instance.placement.start());
        }
    }
    ownership
}

fn plan_ours(gpu: Gpu, wanted: &str) -> Result<Plan, PlanError> {
    plan_held(gpu, wanted, &[])
}

fn plan_held(gpu: Gpu, wanted: &str, holders: &[Holder]) -> Result<Plan, PlanError> {
    let inventory = inventory(vec![gpu]);
    let ours = all_ours(&inventory);
    plan(
        &inventory,
        &layout(wanted),
        &ours,
        holders,
        Options::default(),
    )
}

/// The plan's steps, GPU by GPU.
fn steps(plan: &Plan) -> Vec<String> {
    let actions = plan.gpus.iter().flat_map(|gpu| &gpu.actions);
    actions.map(ToString::to_string).collect()
}

fn held(gpu_instance: u32, compute_instance: Option<u32>) -> Holder {
    let gpu = "GPU-0".parse().unwrap();
    Holder {
        held: Held::Instance {
            gpu,
            gpu_instance,
            compute_instance,
        },
        who: "pod default/train".to_owned(),
    }
}

#[test]
fn mig_mode_comes_first_and_every_gpu_instance_is_followed_by_its_compute_instance() {
    let plan = plan_ours(in_mode(a100(0, vec![]), false, false), "3g.20gb*2").unwrap();
    assert_eq!(
        steps(&plan),
        [
            "enable MIG mode",
            "create GPU instance 3g.20gb at 0",
            "create compute instance 3g.20gb in it",
            "create GPU instance 3g.20gb at 4",
            "create compute instance 3g.20gb in it",
        ]
    );
}

#[test]
fn what_is_as_wanted_needs_nothing() {
    let gpu = a100(0, vec![whole(1, "3g.20gb", 0), whole(2, "3g.20gb", 4)]);
    let plan = plan_ours(gpu, "3g.20gb*2").unwrap();
    assert!(plan.is_empty(), "{plan:?}");
    assert_eq!(plan.gpus[0].kept, 2);
}

#[test]
fn destroys_come_before_creates_and_what_fits_stays() {
    let gpu = a100(0, vec![whole(1, "3g.20gb", 0), whole(2, "3g.20gb", 4)]);
    let plan = plan_ours(gpu, "3g.20gb,2g.10gb*2").unwrap();
    let steps = steps(&plan);
    assert_eq!(steps.len(), 6, "{steps:?}");
    assert!(
        steps[0].starts_with("destroy compute instance 0"),
        "{steps:?}"
    );
    assert!(steps[1].starts_with("destroy GPU instance"), "{steps:?}");
    assert_eq!(plan.gpus[0].kept, 1);
}

#[test]
fn a_change_of_mode_that_is_pending_is_asked_for_again_or_taken_back() {
    let pending = |current, pending| in_mode(a100(0, vec![]), current, pending);
    assert_eq!(
        steps(&plan_ours(pending(false, true), "empty").unwrap()),
        ["enable MIG mode"]
    );
    assert_eq!(
        steps(&plan_ours(pending(true, false), "empty").unwrap()),
        ["enable MIG mode"]
    );
    assert_eq!(
        steps(&plan_ours(pending(false, true), "off").unwrap()),
        ["disable MIG mode"]
    );
    assert_eq!(
        steps(&plan_ours(pending(false, false), "off").unwrap()),
        [""; 0]
    );
}

#[test]
fn turning_mig_off_empties_the_gpu_first() {
    let plan = plan_ours(a100(0, vec![whole(9, "2g.10gb", 4)]), "off").unwrap();
    assert_eq!(
        steps(&plan),
        [
            "destroy compute instance 0 of GPU instance 9",
            "destroy GPU instance 9 (2g.10gb at 4)",
            "disable MIG mode",
        ]
    );
}

#[test]
fn a_gpu_instance_without_compute_instances_is_finished_where_it_fits_and_removed_where_not() {
    let unfinished = || a100(0, vec![instance(1, "3g.20gb", 4, &[])]);
    let finished = plan_ours(unfinished(), "3g.20gb*1").unwrap();
    assert_eq!(
        steps(&finished),
        ["create compute instance 3g.20gb in GPU instance 1"]
    );
    let removed = plan_ours(unfinished(), "empty").unwrap();
    assert_eq!(steps(&removed), ["destroy GPU instance 1 (3g.20gb at 4)"]);
}

#[test]
fn compute_instances_change_without_their_gpu_instance() {
    let gpu = a100(
        0,
        vec![instance(1, "3g.20gb", 0, &[(1, 0), (1, 1), (1, 2)])],
    );
    let plan = plan_ours(gpu, "1c.3g.20gb,2c.3g.20gb").unwrap();
    let steps = steps(&plan);
    assert_eq!(steps.len(), 3, "two of the three go, one comes: {steps:?}");
    assert_eq!(
        steps[2],
        "create compute instance 2c.3g.20gb in GPU instance 1"
    );
}

#[test]
fn of_equal_gpu_instances_the_one_divided_as_wanted_stays() {
    let divided = instance(1, "3g.20gb", 0, &[(1, 0), (1, 1), (1, 2)]);
    for (first, second) in [
        (divided.clone(), whole(2, "3g.20gb", 4)),
        (whole(2, "3g.20gb", 4), divided.clone()),
    ] {
        let plan = plan_ours(a100(0, vec![first, second]), "3g.20gb*1").unwrap();
        assert_eq!(
            steps(&plan).len(),
            4,
            "the divided one goes: {:?}",
            steps(&plan)
        );
    }
}

#[test]
fn what_is_not_ours_stays_where_it_fits() {
    let inventory = inventory(vec![a100(
        0,
        vec![whole(1, "3g.20gb", 0), whole(2, "3g.20gb", 4)],
    )]);
    let mut ours = Ownership::default();
    ours.claim(&inventory.gpus[0].uuid, 9, 0);
    let plan = plan(
        &inventory,
        &layout("3g.20gb*1"),
        &ours,
        &[],
        Options::default(),
    )
    .unwrap();
    assert_eq!(
        steps(&plan)[1],
        "destroy GPU instance 1 (3g.20gb at 0)",
        "ours goes"
    );
}

#[test]
fn what_is_not_ours_and_in_the_way_is_refused_by_name_unless_replaced() {
    let inventory = inventory(vec![a100(0, vec![whole(2, "3g.20gb", 4)])]);
    let nothing_ours = Ownership::default();
    let error = plan(
        &inventory,
        &layout("7g.40gb"),
        &nothing_ours,
        &[],
        Options::default(),
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("3g.20gb at 4 (GPU instance 2)"), "{error}");
    assert!(error.contains("--replace-all"), "{error}");
    let plan = plan(&inventory, &layout("7g.40gb"), &nothing_ours, &[], REPLACE).unwrap();
    assert_eq!(plan.calls(), 4);
}

#[test]
fn compute_instances_that_are_not_ours_are_not_touched_either() {
    let inventory = inventory(vec![a100(0, vec![whole(1, "3g.20gb", 0)])]);
    let wanted = layout("1c.3g.20gb*3");
    let refused = plan(
        &inventory,
        &wanted,
        &Ownership::default(),
        &[],
        Options::default(),
    );
    assert!(matches!(
        refused.unwrap_err().refusals[..],
        [Refusal::Foreign { .. }]
    ));
}

#[test]
fn what_is_in_use_is_refused_with_its_user_even_when_replacing() {
    let inventory = inventory(vec![a100(0, vec![whole(2, "3g.20gb", 4)])]);
    let error = plan(
        &inventory,
        &layout("7g.40gb"),
        &all_ours(&inventory),
        &[held(2, None)],
        REPLACE,
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("in use by pod default/train"), "{error}");
    assert!(error.contains("3g.20gb at 4"), "{error}");
}

#[test]
fn what_is_in_use_stays_rather_than_what_is_idle() {
    for busy in [1, 2] {
        let gpu = a100(0, vec![whole(1, "3g.20gb", 0), whole(2, "3g.20gb", 4)]);
        let plan = plan_held(gpu, "3g.20gb*1", &[held(busy, None)]).unwrap();
        let idle = 3 - busy;
        assert!(steps(&plan)[1].starts_with(&format!("destroy GPU instance {idle} ")));
    }
}

#[test]
fn a_compute_instance_in_use_is_not_divided_again() {
    let divided = || {
        a100(
            0,
            vec![instance(1, "3g.20gb", 0, &[(1, 0), (1, 1), (1, 2)])],
        )
    };
    let refused = plan_held(divided(), "3g.20gb*1", &[held(1, Some(2))]).unwrap_err();
    assert!(
        matches!(&refused.refusals[..], [Refusal::InUse { who, .. }] if who == &["pod default/train"])
    );
    let plan = plan_held(divided(), "1c.3g.20gb*1", &[held(1, Some(2))]).unwrap();
    let gone = [
        "destroy compute instance 0 of GPU instance 1",
        "destroy compute instance 1 of GPU instance 1",
    ];
    assert_eq!(steps(&plan), gone);
}

#[test]
fn a_gpu_held_as_a_whole_keeps_its_mode() {
    let gpu = in_mode(a100(0, vec![]), false, false);
    let refused = plan_held(gpu, "MIG1g", &[Holder::of_device("GPU-0::3", "pod a/b")]);
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains("the GPU as a whole") && error.contains("pod a/b"),
        "{error}"
    );
}

#[test]
fn gpus_that_the_layout_does_not_name_are_left_alone() {
    let inventory = inventory(
        (0..3)
            .map(|index| a100(index, vec![whole(1, "3g.20gb", 0)]))
            .collect(),
    );
    let ours = all_ours(&inventory);
    let plan = plan(
        &inventory,
        &layout("1=empty"),
        &ours,
        &[],
        Options::default(),
    )
    .unwrap();
    assert_eq!(
        plan.gpus.iter().map(|gpu| gpu.index).collect::<Vec<_>>(),
        [1]
    );
}

#[test]
fn every_reason_on_every_gpu_is_told_at_once() {
    let without_mig = Gpu {
        mig: None,
        ..a100(1, vec![])
    };
    let hidden = Gpu {
        instances_complete: false,
        ..a100(2, vec![])
    };
    let inventory = inventory(vec![a100(0, vec![]), without_mig, hidden]);
    let wanted = layout("0=3g.20gb*3;1=1g.5gb;2=1g.5gb;7=off");
    let error = plan(
        &inventory,
        &wanted,
        &Ownership::default(),
        &[],
        Options::default(),
    )
    .unwrap_err();
    let told = |wanted: fn(&Refusal) -> bool| error.refusals.iter().filter(|r| wanted(r)).count();
    assert_eq!(error.refusals.len(), 4, "{error}");
    assert_eq!(told(|r| matches!(r, Refusal::Layout { .. })), 1);
    assert_eq!(told(|r| matches!(r, Refusal::NotMigCapable { .. })), 1);
    assert_eq!(told(|r| matches!(r, Refusal::Hidden { .. })), 1);
    assert_eq!(
        told(|r| matches!(r, Refusal::UnknownGpu { index: 7, .. })),
        1
    );
    assert!(error.to_string().contains("it has 0-2"), "{error}");
}

#[test]
fn a_gpu_that_cannot_be_read_is_left_out_and_the_others_are_planned() {
    let mut inventory = inventory(vec![a100(0, vec![])]);
    inventory.failed.push(failed(1));
    let plan = plan(
        &inventory,
        &layout("7g.40gb"),
        &Ownership::default(),
        &[],
        Options::default(),
    );
    let plan = plan.unwrap();
    assert_eq!(plan.gpus.len(), 1);
    assert_eq!(plan.skipped[0].index, 1);
    assert!(plan.skipped[0].reason.contains("GPU is lost"));
}

#[test]
fn a_node_without_a_gpu_that_the_layout_could_be_for_is_refused() {
    let plan_of = |gpus| {
        plan(
            &inventory(gpus),
            &layout("MIG1g"),
            &Ownership::default(),
            &[],
            Options::default(),
        )
    };
    let refused = plan_of(vec![]).unwrap_err();
    assert!(matches!(refused.refusals[..], [Refusal::NoGpu]));
    let without_mig = || Gpu {
        mig: None,
        ..a100(1, vec![])
    };
    let refused = plan_of(vec![without_mig()]).unwrap_err();
    assert!(matches!(refused.refusals[..], [Refusal::NoGpu]));
    let plan = plan_of(vec![a100(0, vec![]), without_mig()]).unwrap();
    assert_eq!(plan.gpus.len(), 1, "all means all that have MIG");
}

#[test]
fn placements_are_legal_for_the_board_and_never_overlap_what_stays() {
    let gpu = a100(0, vec![whole(1, "1g.5gb", 6), whole(2, "2g.10gb", 2)]);
    let plan = plan_ours(gpu, "3g.20gb,2g.10gb,1g.5gb*2").unwrap();
    let mut taken = vec![];
    for action in &plan.gpus[0].actions {
        if let partition::Action::CreateGpuInstance {
            profile, placement, ..
        } = action
        {
            let known = board().profile(*profile).unwrap();
            assert!(
                known.starts.contains(&placement.start()),
                "{profile} at {placement}"
            );
            taken.push(*placement);
        }
    }
    for (position, one) in taken.iter().enumerate() {
        assert!(
            taken[..position].iter().all(|other| !other.overlaps(*one)),
            "{taken:?}"
        );
    }
}

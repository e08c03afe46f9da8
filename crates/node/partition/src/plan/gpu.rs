//! One GPU's part of a plan.

use mig::{Existing, Layout, LayoutSpec, MigProfile, PlacedInstance, Profile};
use nvml::{Gpu, GpuInstance};

use super::assign::{Assignment, Candidate, assign};
use super::compute::{Change, Present, profile_id};
use super::{Action, GpuPlan, Options, Target};
use crate::holder::Holder;
use crate::ownership::Ownership;
use crate::refusal::{Refusal, gpu_name};

/// A GPU instance that is there, with what forbids its end.
struct There<'a> {
    instance: &'a GpuInstance,
    /// Somebody uses it or anything in it.
    used: bool,
    /// Not ours, and not to be replaced.
    foreign: bool,
}

/// What stands in the way of a GPU's plan: an instance, or the GPU as a whole, that would have to go.
pub(super) struct Obstacle {
    /// What would have to go, in words.
    pub(super) what: String,
    /// Those who use it.
    pub(super) holders: Vec<Holder>,
    /// It is not ours, and not to be replaced.
    pub(super) foreign: bool,
}

/// Plans one GPU, and says what is in the way.
pub(super) fn plan(
    gpu: &Gpu,
    spec: &LayoutSpec,
    ownership: &Ownership,
    holders: &[Holder],
    options: Options,
) -> Result<(GpuPlan, Vec<Obstacle>), Vec<Refusal>> {
    let name = gpu_name(gpu);
    let mut plan = GpuPlan {
        index: gpu.index,
        uuid: gpu.uuid.clone(),
        name: gpu.name.clone(),
        kept: 0,
        actions: Vec::new(),
    };
    let Some(mode) = gpu.mig else {
        return match spec {
            LayoutSpec::Off => Ok((plan, Vec::new())),
            _ => Err(vec![Refusal::NotMigCapable { gpu: name }]),
        };
    };
    if mode.current && !gpu.instances_complete {
        return Err(vec![Refusal::Hidden { gpu: name }]);
    }
    let wanted = spec.resolve(&gpu.board).map_err(|reason| {
        vec![Refusal::Layout {
            gpu: name.clone(),
            reason,
        }]
    })?;
    let instances: Vec<There<'_>> = gpu
        .instances
        .iter()
        .map(|instance| There {
            instance,
            used: holders
                .iter()
                .any(|holder| holder.holds_gpu_instance(gpu, instance)),
            foreign: !options.replace_all && !ownership.owns(&gpu.uuid, instance),
        })
        .collect();

    if wanted.is_some() && !(mode.current && mode.pending) {
        plan.actions.push(Action::EnableMig);
    }
    match &wanted {
        Some(layout) => plan_layout(gpu, layout, &instances, holders, &mut plan)?,
        None => plan_empty(&instances, &mut plan),
    }
    if wanted.is_none() && (mode.current || mode.pending) {
        plan.actions.push(Action::DisableMig);
    }
    let obstacles = obstacles(gpu, &instances, holders, &plan);
    Ok((plan, obstacles))
}

/// Everything goes.
fn plan_empty(instances: &[There<'_>], plan: &mut GpuPlan) {
    for instance in instances {
        destroy(instance.instance, &mut plan.actions);
    }
}

/// From what is there to a layout.
fn plan_layout(
    gpu: &Gpu,
    layout: &Layout,
    instances: &[There<'_>],
    holders: &[Holder],
    plan: &mut GpuPlan,
) -> Result<(), Vec<Refusal>> {
    let existing: Vec<Existing> = instances
        .iter()
        .map(|instance| Existing {
            instance: placed(instance.instance),
            // What is not ours counts like what is in use: if it can stay, it does.
            in_use: instance.used || instance.foreign,
        })
        .collect();
    let placements = mig::plan(&gpu.board, &existing, layout).map_err(|reason| {
        vec![Refusal::Unreachable {
            gpu: gpu_name(gpu),
            reason: reason.to_string(),
        }]
    })?;
    let wanted: Vec<(Profile, Vec<u8>)> = layout
        .instances()
        .iter()
        .map(|spec| (spec.profile, spec.compute_instances()))
        .collect();
    let candidates: Vec<Candidate> = instances
        .iter()
        .map(|instance| Candidate {
            placed: placed(instance.instance),
            slices: instance.instance.profile.slices(),
            pinned: instance.used || instance.foreign,
            present: instance
                .instance
                .compute_instances
                .iter()
                .map(|compute| Present {
                    slices: compute.slices,
                    start: compute.placement.start(),
                    pinned: instance.foreign
                        || holders.iter().any(|holder| {
                            holder.holds_compute_instance(gpu, instance.instance, compute)
                        }),
                })
                .collect(),
        })
        .collect();
    let Assignment {
        kept,
        destroyed,
        created,
    } = assign(&candidates, &wanted, &placements);

    plan.kept = kept.len();
    for instance in destroyed
        .iter()
        .filter_map(|position| instances.get(*position))
    {
        destroy(instance.instance, &mut plan.actions);
    }
    for (position, change) in &kept {
        if let Some(instance) = instances.get(*position) {
            change_compute(instance.instance, change, &mut plan.actions);
        }
    }
    for (placed, compute) in &created {
        let Some(profile) = gpu.board.profile(placed.profile) else {
            continue;
        };
        plan.actions.push(Action::CreateGpuInstance {
            profile: placed.profile,
            profile_id: profile.id,
            placement: placed.placement,
        });
        for size in compute {
            plan.actions
                .extend(create_compute(placed.profile, Target::Created, *size));
        }
    }
    Ok(())
}

/// A GPU instance's end, its compute instances first.
fn destroy(instance: &GpuInstance, actions: &mut Vec<Action>) {
    actions.extend(instance.compute_instances.iter().map(|compute| {
        Action::DestroyComputeInstance {
            gpu_instance: instance.id,
            compute_instance: compute.id,
        }
    }));
    actions.push(Action::DestroyGpuInstance {
        gpu_instance: instance.id,
        profile: instance.profile,
        placement: instance.placement,
    });
}

/// A kept GPU instance's compute instances.
fn change_compute(instance: &GpuInstance, change: &Change, actions: &mut Vec<Action>) {
    let gone = change
        .destroy
        .iter()
        .filter_map(|position| instance.compute_instances.get(*position));
    actions.extend(gone.map(|compute| Action::DestroyComputeInstance {
        gpu_instance: instance.id,
        compute_instance: compute.id,
    }));
    for size in &change.create {
        actions.extend(create_compute(
            instance.profile,
            Target::Existing(instance.id),
            *size,
        ));
    }
}

/// The creation of one compute instance. The layout was checked, so its size exists.
fn create_compute(profile: Profile, target: Target, size: u8) -> Option<Action> {
    Some(Action::CreateComputeInstance {
        target,
        profile: MigProfile::new(size, profile).ok()?,
        profile_id: profile_id(profile.slices(), size)?,
    })
}

/// Why the plan must not be carried out now.
fn obstacles(
    gpu: &Gpu,
    instances: &[There<'_>],
    holders: &[Holder],
    plan: &GpuPlan,
) -> Vec<Obstacle> {
    let those = |holds: &dyn Fn(&Holder) -> bool| -> Vec<Holder> {
        holders
            .iter()
            .filter(|holder| holds(holder))
            .cloned()
            .collect()
    };
    let mut obstacles = Vec::new();
    let of_gpu = those(&|holder| holder.holds_gpu(gpu));
    if plan.changes_mode() && !of_gpu.is_empty() {
        obstacles.push(Obstacle {
            what: "the GPU as a whole".to_owned(),
            holders: of_gpu,
            foreign: false,
        });
    }
    for There {
        instance, foreign, ..
    } in instances
    {
        let gone = plan.actions.iter().any(|action| {
            matches!(action, Action::DestroyGpuInstance { gpu_instance, .. } if *gpu_instance == instance.id)
        });
        let lost: Vec<_> = instance
            .compute_instances
            .iter()
            .filter(|compute| {
                plan.actions.contains(&Action::DestroyComputeInstance {
                    gpu_instance: instance.id,
                    compute_instance: compute.id,
                })
            })
            .collect();
        if !gone && lost.is_empty() {
            continue;
        }
        let holders = those(&|holder| {
            if gone {
                return holder.holds_gpu_instance(gpu, instance);
            }
            lost.iter()
                .any(|compute| holder.holds_compute_instance(gpu, instance, compute))
        });
        if *foreign || !holders.is_empty() {
            obstacles.push(Obstacle {
                what: describe(instance),
                holders,
                foreign: *foreign,
            });
        }
    }
    obstacles
}

/// An instance for a message: `3g.20gb at 4 (GPU instance 2)`.
fn describe(instance: &GpuInstance) -> String {
    let (profile, start, id) = (instance.profile, instance.placement.start(), instance.id);
    format!("{profile} at {start} (GPU instance {id})")
}

fn placed(instance: &GpuInstance) -> PlacedInstance {
    PlacedInstance {
        profile: instance.profile,
        placement: instance.placement,
    }
}

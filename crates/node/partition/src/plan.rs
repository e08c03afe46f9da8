//! The pure core: from what is observed and what is wanted to a list of driver calls.

mod assign;
mod compute;
mod gpu;

use std::collections::BTreeSet;
use std::fmt;

use mig::{GpuSelector, LayoutSpec, MigProfile, NodeLayout, Placement, Profile};
use nvml::{Gpu, GpuUuid, Inventory};
use serde::Serialize;

use crate::holder::Holder;
use crate::ownership::Ownership;
use crate::refusal::{PlanError, Refusal, gpu_name};

/// How to apply a layout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Also destroy instances that migpool did not create, where they are in the way. What is in
    /// use is refused all the same.
    pub replace_all: bool,
    /// When this node is being partitioned already: wait for that to end instead of being refused.
    pub wait: bool,
}

/// The driver calls that bring a node to a layout.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Plan {
    /// The GPUs that the layout speaks of and that can be read, also those with nothing to do.
    pub gpus: Vec<GpuPlan>,
    /// The GPUs that the layout speaks of and that can't be read.
    pub skipped: Vec<SkippedGpu>,
}

/// One GPU's part of a [`Plan`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GpuPlan {
    /// NVML's index.
    pub index: u32,
    /// The GPU's UUID.
    pub uuid: GpuUuid,
    /// NVML's product name.
    pub name: String,
    /// How many GPU instances stay as they are or only change their compute instances.
    pub kept: usize,
    /// What to do, in this order.
    pub actions: Vec<Action>,
}

/// A GPU that can't be read, and so is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkippedGpu {
    /// NVML's index.
    pub index: u32,
    /// The GPU's UUID, if it could be read.
    pub uuid: Option<String>,
    /// Why it is left out.
    pub reason: String,
}

/// One driver call on one GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "call")]
pub enum Action {
    /// Turn MIG mode on.
    EnableMig,
    /// Destroy a compute instance.
    DestroyComputeInstance {
        /// Id of the GPU instance.
        gpu_instance: u32,
        /// Id of the compute instance.
        compute_instance: u32,
    },
    /// Destroy a GPU instance, which has no compute instances any more by then.
    DestroyGpuInstance {
        /// Id of the GPU instance.
        gpu_instance: u32,
        /// Its profile.
        profile: Profile,
        /// Where it lies.
        placement: Placement,
    },
    /// Create a GPU instance at an explicit placement.
    CreateGpuInstance {
        /// Its profile.
        profile: Profile,
        /// The profile's id.
        profile_id: u32,
        /// Where.
        placement: Placement,
    },
    /// Create a compute instance.
    CreateComputeInstance {
        /// In which GPU instance.
        target: Target,
        /// What the MIG device will be called.
        profile: MigProfile,
        /// The compute instance profile's id.
        profile_id: u32,
    },
    /// Turn MIG mode off.
    DisableMig,
}

/// The GPU instance that a compute instance is created in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// One that is there, by its id.
    Existing(u32),
    /// The one that was created last on this GPU.
    Created,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls() == 0
    }

    /// How many driver calls the plan makes.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.gpus.iter().map(|gpu| gpu.actions.len()).sum()
    }

    /// The plan as a table for people.
    #[must_use]
    pub fn to_table(&self) -> String {
        let steps = self.gpus.iter().flat_map(|gpu| {
            gpu.actions
                .iter()
                .map(|action| [gpu.index.to_string(), gpu.name.clone(), action.to_string()])
        });
        let skipped = self.skipped.iter().map(|gpu| {
            [
                gpu.index.to_string(),
                String::new(),
                format!("left out: {}", gpu.reason),
            ]
        });
        crate::report::table(["GPU", "NAME", "STEP"], steps.chain(skipped))
    }
}

impl GpuPlan {
    /// Whether MIG mode is changed.
    #[must_use]
    pub fn changes_mode(&self) -> bool {
        let mut actions = self.actions.iter();
        actions.any(|action| matches!(action, Action::EnableMig | Action::DisableMig))
    }

    /// The compute instances that are destroyed, each with the id of its GPU instance before its own.
    pub fn destroyed_compute_instances(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.actions.iter().filter_map(|action| match action {
            Action::DestroyComputeInstance {
                gpu_instance,
                compute_instance,
            } => Some((*gpu_instance, *compute_instance)),
            _ => None,
        })
    }

    /// Whether anything on this GPU is destroyed.
    #[must_use]
    pub fn destroys(&self) -> bool {
        self.actions.iter().any(|action| {
            matches!(
                action,
                Action::DestroyComputeInstance { .. } | Action::DestroyGpuInstance { .. }
            )
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnableMig => f.write_str("enable MIG mode"),
            Self::DisableMig => f.write_str("disable MIG mode"),
            Self::DestroyComputeInstance {
                gpu_instance,
                compute_instance,
            } => {
                write!(
                    f,
                    "destroy compute instance {compute_instance} of GPU instance {gpu_instance}"
                )
            }
            Self::DestroyGpuInstance {
                gpu_instance,
                profile,
                placement,
            } => {
                let start = placement.start();
                write!(
                    f,
                    "destroy GPU instance {gpu_instance} ({profile} at {start})"
                )
            }
            Self::CreateGpuInstance {
                profile, placement, ..
            } => {
                write!(f, "create GPU instance {profile} at {}", placement.start())
            }
            Self::CreateComputeInstance {
                target: Target::Existing(id),
                profile,
                ..
            } => {
                write!(f, "create compute instance {profile} in GPU instance {id}")
            }
            Self::CreateComputeInstance {
                target: Target::Created,
                profile,
                ..
            } => {
                write!(f, "create compute instance {profile} in it")
            }
        }
    }
}

/// Plans how to bring a node to a layout: on each GPU MIG mode first, destroys before creates,
/// explicit placements, each GPU instance followed by its compute instances.
///
/// Instances that fit are kept, those in use and those that are not ours first. GPUs that the
/// layout doesn't name are left alone. A GPU that can't be read is left out
/// ([`Plan::skipped`]).
///
/// # Errors
/// [`PlanError`] with every reason on every GPU, when any GPU's part is impossible or would destroy
/// what is in use or, without [`Options::replace_all`], what is not ours.
pub fn plan(
    inventory: &Inventory,
    layout: &NodeLayout,
    ownership: &Ownership,
    holders: &[Holder],
    options: Options,
) -> Result<Plan, PlanError> {
    let Draft {
        plan,
        obstacles,
        mut refusals,
    } = draft(inventory, layout, ownership, holders, options);
    refusals.extend(obstacles.into_iter().map(|(gpu, obstacle)| {
        let gpu = gpu_name(gpu);
        if obstacle.holders.is_empty() {
            let what = obstacle.what;
            Refusal::Foreign { gpu, what }
        } else {
            Refusal::InUse {
                gpu,
                who: names(&obstacle.holders),
                what: obstacle.what,
            }
        }
    }));
    if refusals.is_empty() {
        Ok(plan)
    } else {
        Err(PlanError { refusals })
    }
}

/// As [`plan()`], but for what is in use, which is no refusal: it is told who would have to go before the plan can be
/// carried out. What is used is kept where it can be, as ever.
///
/// # Errors
/// [`PlanError`] when the layout is impossible or, without [`Options::replace_all`], would destroy what is not ours.
pub fn survey(
    inventory: &Inventory,
    layout: &NodeLayout,
    ownership: &Ownership,
    holders: &[Holder],
    options: Options,
) -> Result<(Plan, Vec<InUse>), PlanError> {
    let Draft {
        plan,
        obstacles,
        mut refusals,
    } = draft(inventory, layout, ownership, holders, options);
    let mut in_use = Vec::new();
    for (gpu, obstacle) in obstacles {
        if obstacle.foreign {
            refusals.push(Refusal::Foreign {
                gpu: gpu_name(gpu),
                what: obstacle.what,
            });
        } else {
            in_use.push(InUse {
                index: gpu.index,
                uuid: gpu.uuid.clone(),
                what: obstacle.what,
                holders: obstacle.holders,
            });
        }
    }
    if refusals.is_empty() {
        Ok((plan, in_use))
    } else {
        Err(PlanError { refusals })
    }
}

/// Something in use that a plan would destroy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// NVML's index of the GPU.
    pub index: u32,
    /// The GPU's UUID.
    pub uuid: GpuUuid,
    /// What: `3g.20gb at 4 (GPU instance 2)`, or the GPU as a whole.
    pub what: String,
    /// Those who use it.
    pub holders: Vec<Holder>,
}

/// A plan before it is judged.
struct Draft<'a> {
    plan: Plan,
    obstacles: Vec<(&'a Gpu, gpu::Obstacle)>,
    refusals: Vec<Refusal>,
}

fn draft<'a>(
    inventory: &'a Inventory,
    layout: &NodeLayout,
    ownership: &Ownership,
    holders: &[Holder],
    options: Options,
) -> Draft<'a> {
    let mut draft = Draft {
        plan: Plan::default(),
        obstacles: Vec::new(),
        refusals: unknown_gpus(inventory, layout),
    };
    for gpu in &inventory.gpus {
        let Some(spec) = layout_for(layout, gpu) else {
            continue;
        };
        match gpu::plan(gpu, spec, ownership, holders, options) {
            Ok((gpu_plan, obstacles)) => {
                draft.plan.gpus.push(gpu_plan);
                draft
                    .obstacles
                    .extend(obstacles.into_iter().map(|it| (gpu, it)));
            }
            Err(reasons) => draft.refusals.extend(reasons),
        }
    }
    for failed in &inventory.failed {
        if layout.for_gpu(failed.index).is_some() {
            draft.plan.skipped.push(SkippedGpu {
                index: failed.index,
                uuid: failed.uuid.as_ref().map(ToString::to_string),
                reason: failed.reason.clone(),
            });
        }
    }
    draft
}

/// The distinct names of holders.
fn names(holders: &[Holder]) -> Vec<String> {
    let mut names: Vec<String> = holders.iter().map(|holder| holder.who.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// What a layout says of a GPU. `all` speaks of the GPUs that have MIG; one that hasn't must be named.
pub(crate) fn layout_for<'a>(layout: &'a NodeLayout, gpu: &Gpu) -> Option<&'a LayoutSpec> {
    let (selector, spec) = layout
        .entries()
        .iter()
        .find(|(selector, _)| selector.matches(gpu.index))?;
    (gpu.mig.is_some() || *selector != GpuSelector::All).then_some(spec)
}

/// What the layout names and the node doesn't have.
pub(crate) fn unknown_gpus(inventory: &Inventory, layout: &NodeLayout) -> Vec<Refusal> {
    let failed = inventory.failed.iter().map(|failed| failed.index);
    let present: BTreeSet<u32> = inventory
        .gpus
        .iter()
        .map(|gpu| gpu.index)
        .chain(failed.clone())
        .collect();
    let able = inventory
        .gpus
        .iter()
        .filter(|gpu| gpu.mig.is_some())
        .count()
        + failed.count();
    let mut refusals = Vec::new();
    for (selector, spec) in layout.entries() {
        match selector {
            GpuSelector::All if able == 0 && *spec != LayoutSpec::Off => {
                refusals.push(Refusal::NoGpu);
            }
            GpuSelector::All => {}
            GpuSelector::Indices(indices) => refusals.extend(indices.difference(&present).map(
                |index| Refusal::UnknownGpu {
                    index: *index,
                    present: present.clone(),
                },
            )),
        }
    }
    refusals
}

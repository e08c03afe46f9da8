//! `nvidia-smi mig`: the instances of MIG-enabled GPUs.

mod compute_instances;
mod gpu_instances;
mod listing;

use nvml::{ComputeInstance, Error, Gpu, GpuInstance, Nvml};

use crate::arguments::{MigCommand, Scope};
use crate::exit::{NOT_FOUND, code_of, of_code};
use crate::reply::Reply;
use crate::selection::Selection;

/// Does a `mig` command.
pub(crate) fn answer(
    nvml: &Nvml,
    selection: &Selection<'_>,
    command: &MigCommand,
    scope: &Scope,
) -> Reply {
    match command {
        MigCommand::Help => return crate::help::mig(),
        MigCommand::ListGpuInstanceProfiles => {
            return listing::gpu_instance_profiles(nvml, selection);
        }
        MigCommand::ListGpuInstancePlacements => {
            return listing::gpu_instance_placements(selection);
        }
        _ => {}
    }
    let target = Target {
        gpus: selection
            .gpus
            .iter()
            .copied()
            .filter(|gpu| gpu.mig_enabled())
            .collect(),
        scope,
    };
    if target.gpus.is_empty() {
        // Listing nothing is no failure; changing nothing is.
        let lists = matches!(
            command,
            MigCommand::ListGpuInstances
                | MigCommand::ListComputeInstances
                | MigCommand::ListComputeInstanceProfiles
                | MigCommand::ListComputeInstancePlacements
        );
        return Reply::new(
            if lists { 0 } else { NOT_FOUND },
            "No MIG-enabled devices found.",
        );
    }
    match command {
        MigCommand::ListGpuInstances => listing::gpu_instances(&target),
        MigCommand::ListComputeInstances => listing::compute_instances(&target),
        MigCommand::ListComputeInstanceProfiles => {
            listing::compute_instance_profiles(nvml, &target)
        }
        MigCommand::ListComputeInstancePlacements => {
            listing::compute_instance_placements(nvml, &target)
        }
        MigCommand::CreateGpuInstances {
            profiles,
            with_compute_instances,
        } => gpu_instances::create(nvml, &target, profiles, *with_compute_instances),
        MigCommand::DestroyGpuInstances => gpu_instances::destroy(nvml, &target),
        MigCommand::CreateComputeInstances { profiles } => {
            compute_instances::create(nvml, &target, profiles.as_deref())
        }
        MigCommand::DestroyComputeInstances => compute_instances::destroy(nvml, &target),
        MigCommand::Help
        | MigCommand::ListGpuInstanceProfiles
        | MigCommand::ListGpuInstancePlacements => crate::help::mig(),
    }
}

/// The MIG-enabled GPUs that a command is about, and what it is restricted to on them.
struct Target<'a> {
    gpus: Vec<&'a Gpu>,
    scope: &'a Scope,
}

impl<'a> Target<'a> {
    /// The GPU instances, GPU by GPU, in the order in which nvidia-smi lists them: by profile, then by id.
    fn gpu_instances(&self) -> Vec<(&'a Gpu, &'a GpuInstance)> {
        let mut found = Vec::new();
        for gpu in &self.gpus {
            let mut instances: Vec<_> = gpu
                .instances
                .iter()
                .filter(|instance| within(self.scope.gpu_instances.as_deref(), instance.id))
                .collect();
            instances.sort_by_key(|instance| {
                let rank = gpu
                    .board
                    .profiles
                    .iter()
                    .position(|profile| profile.id == instance.profile_id);
                (rank, instance.id)
            });
            found.extend(instances.into_iter().map(|instance| (*gpu, instance)));
        }
        found
    }

    /// The compute instances, in the order of their GPU instances.
    fn compute_instances(&self) -> Vec<(&'a Gpu, &'a GpuInstance, &'a ComputeInstance)> {
        self.gpu_instances()
            .into_iter()
            .flat_map(|(gpu, instance)| {
                instance
                    .compute_instances
                    .iter()
                    .filter(|compute| within(self.scope.compute_instances.as_deref(), compute.id))
                    .map(move |compute| (gpu, instance, compute))
            })
            .collect()
    }
}

fn within(wanted: Option<&[u32]>, id: u32) -> bool {
    wanted.is_none_or(|wanted| wanted.contains(&id))
}

fn no_gpu_instances() -> Reply {
    Reply::new(NOT_FOUND, "No GPU instances found: Not Found")
}

fn no_compute_instances() -> Reply {
    Reply::new(NOT_FOUND, "No compute instances found: Not Found")
}

impl Reply {
    /// Ends a command with what NVML answered: what could not be done to one, and to all.
    fn fail(&mut self, one: impl std::fmt::Display, all: &str, error: &Error) {
        let code = code_of(error);
        self.line(format_args!("{one}: {}", code.text()));
        self.line(format_args!("{all}: {}", code.text()));
        self.code = of_code(code);
        self.detail = Some(error.to_string());
    }
}

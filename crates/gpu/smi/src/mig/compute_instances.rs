//! `nvidia-smi mig -cci` and `-dci`.

use mig::{MigProfile, Profile};
use nvml::{ComputeInstanceProfile, Gpu, Nvml, ReturnCode};

use super::{Target, no_compute_instances, no_gpu_instances};
use crate::exit::of_code;
use crate::reply::Reply;

const CREATE: &str = "Failed to create compute instances";
const DESTROY: &str = "Failed to destroy compute instances";

/// Creates the wanted compute instances, or the default one, in every GPU instance in scope.
pub(super) fn create(nvml: &Nvml, target: &Target<'_>, profiles: Option<&str>) -> Reply {
    let instances = target.gpu_instances();
    if instances.is_empty() {
        return no_gpu_instances();
    }
    let mut reply = Reply::default();
    for (gpu, instance) in instances {
        let went_on = match profiles {
            None => create_default(&mut reply, nvml, gpu, instance.id, instance.profile),
            Some(profiles) => profiles.split(',').map(str::trim).all(|wanted| {
                create_one(
                    &mut reply,
                    nvml,
                    gpu,
                    instance.id,
                    instance.profile,
                    &|profile| {
                        wanted.parse() == Ok(profile.id)
                            || MigProfile::new(profile.slices, instance.profile).is_ok_and(|name| {
                                name.to_string() == wanted.strip_prefix("MIG ").unwrap_or(wanted)
                            })
                    },
                    wanted,
                )
            }),
        };
        if !went_on {
            break;
        }
    }
    reply
}

/// Creates the compute instance that is as large as its GPU instance. Answers whether to go on.
pub(super) fn create_default(
    reply: &mut Reply,
    nvml: &Nvml,
    gpu: &Gpu,
    gpu_instance: u32,
    parent: Profile,
) -> bool {
    let whole = |profile: &ComputeInstanceProfile| profile.slices == parent.slices();
    create_one(
        reply,
        nvml,
        gpu,
        gpu_instance,
        parent,
        &whole,
        &parent.to_string(),
    )
}

fn create_one(
    reply: &mut Reply,
    nvml: &Nvml,
    gpu: &Gpu,
    gpu_instance: u32,
    parent: Profile,
    is_wanted: &dyn Fn(&ComputeInstanceProfile) -> bool,
    written: &str,
) -> bool {
    let place = format!("GPU {:>2} GPU instance ID {gpu_instance:>2}", gpu.index);
    let created = nvml
        .compute_instance_profiles(&gpu.uuid, gpu_instance)
        .and_then(|profiles| {
            let Some(profile) = profiles.into_iter().find(|profile| is_wanted(profile)) else {
                return Ok(None);
            };
            nvml.create_compute_instance(&gpu.uuid, gpu_instance, profile.id)
                .map(|id| Some((id, profile)))
        });
    match created {
        Ok(Some((id, profile))) => {
            let name = MigProfile::new(profile.slices, parent)
                .map_or_else(|_| parent.to_string(), |name| name.to_string());
            reply.line(format_args!(
                "Successfully created compute instance ID {id:>2} on {place} using profile MIG {name} (ID {:>2})",
                profile.id
            ));
            true
        }
        Ok(None) => {
            reply.line(format_args!(
                "Unable to create a compute instance on {place} using profile {written}: Not Supported"
            ));
            reply.line(format_args!("{CREATE}: Not Supported"));
            reply.code = of_code(ReturnCode::ERROR_NOT_SUPPORTED);
            false
        }
        Err(error) => {
            reply.fail(
                format_args!(
                    "Unable to create a compute instance on {place} using profile {written}"
                ),
                CREATE,
                &error,
            );
            false
        }
    }
}

/// Destroys every compute instance in scope, and stops at the first that can't be.
pub(super) fn destroy(nvml: &Nvml, target: &Target<'_>) -> Reply {
    if target.gpu_instances().is_empty() {
        return no_gpu_instances();
    }
    let mut instances = target.compute_instances();
    if instances.is_empty() {
        return no_compute_instances();
    }
    instances.sort_by_key(|(gpu, instance, compute)| (gpu.index, instance.id, compute.id));
    let mut reply = Reply::default();
    for (gpu, instance, compute) in instances {
        let what = format!(
            "compute instance ID {:>2} from GPU {:>2} GPU instance ID {:>2}",
            compute.id, gpu.index, instance.id
        );
        match nvml.destroy_compute_instance(&gpu.uuid, instance.id, compute.id) {
            Ok(()) => reply.line(format_args!("Successfully destroyed {what}")),
            Err(error) => {
                reply.fail(format_args!("Unable to destroy {what}"), DESTROY, &error);
                break;
            }
        }
    }
    reply
}

//! `nvidia-smi mig -cgi` and `-dgi`.

use mig::{BoardProfile, Placement, Profile};
use nvml::{Error, Gpu, Nvml};

use super::{Target, compute_instances, no_gpu_instances};
use crate::exit::INVALID_ARGUMENT;
use crate::reply::Reply;

const CREATE: &str = "Failed to create GPU instances";
const DESTROY: &str = "Failed to destroy GPU instances";

/// One of `-cgi`'s tuples: a profile by name or id, and where its instance is to lie.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    written: String,
    profile: ProfileRef,
    start: Option<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum ProfileRef {
    Id(u32),
    Name(Profile),
}

impl Wanted {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (name, start) = match text.split_once(':') {
            Some((name, start)) => (name.trim(), Some(start.trim().parse().ok()?)),
            None => (text, None),
        };
        let bare = name.strip_prefix("MIG ").unwrap_or(name);
        let profile = match bare.parse() {
            Ok(id) => ProfileRef::Id(id),
            Err(_) => ProfileRef::Name(bare.parse().ok()?),
        };
        Some(Self {
            written: bare.to_owned(),
            profile,
            start,
        })
    }

    fn on<'a>(&self, gpu: &'a Gpu) -> Option<&'a BoardProfile> {
        match self.profile {
            ProfileRef::Id(id) => gpu.board.profile_by_id(id),
            ProfileRef::Name(profile) => gpu.board.profile(profile),
        }
    }
}

/// Creates every wanted instance on every GPU, in order; what was created before a failure stays.
pub(super) fn create(
    nvml: &Nvml,
    target: &Target<'_>,
    profiles: &str,
    with_compute: bool,
) -> Reply {
    let mut wanted = Vec::new();
    for text in profiles.split(',') {
        match Wanted::parse(text) {
            Some(one) => wanted.push(one),
            None => {
                return Reply::new(
                    INVALID_ARGUMENT,
                    &format!(
                        "Invalid GPU instance profile \"{}\": a name or id, with an optional :start.",
                        text.trim()
                    ),
                );
            }
        }
    }
    let mut reply = Reply::default();
    for gpu in &target.gpus {
        for one in &wanted {
            if !create_one(&mut reply, nvml, gpu, one, with_compute) {
                return reply;
            }
        }
    }
    reply
}

/// Answers whether to go on.
fn create_one(
    reply: &mut Reply,
    nvml: &Nvml,
    gpu: &Gpu,
    wanted: &Wanted,
    with_compute: bool,
) -> bool {
    let index = gpu.index;
    let Some(profile) = wanted.on(gpu) else {
        let written = &wanted.written;
        reply.line(format_args!(
            "Unable to create a GPU instance on GPU {index:>2} using profile {written}: Not Supported"
        ));
        reply.line(format_args!("{CREATE}: Not Supported"));
        reply.code = crate::exit::of_code(nvml::ReturnCode::ERROR_NOT_SUPPORTED);
        reply.detail = Some(format!(
            "GPU {index} has the profiles {}",
            gpu.board.profile_names()
        ));
        return false;
    };
    let created = match wanted.start {
        // Whether it may lie there is for the driver to say.
        Some(start) => nvml.create_gpu_instance(
            &gpu.uuid,
            profile.id,
            Placement::from_driver(start, profile.size),
        ),
        None => nvml.create_gpu_instance_anywhere(&gpu.uuid, profile.id),
    };
    match created {
        Ok(id) => {
            reply.line(format_args!(
                "Successfully created GPU instance ID {id:>2} on GPU {index:>2} using profile MIG {} (ID {:>2})",
                profile.profile, profile.id
            ));
            !with_compute
                || compute_instances::create_default(reply, nvml, gpu, id, profile.profile)
        }
        Err(error) => {
            let one = format!(
                "Unable to create a GPU instance on GPU {index:>2} using profile {}",
                profile.id
            );
            reply.fail(one, CREATE, &error);
            false
        }
    }
}

/// Destroys every GPU instance in scope, and stops at the first that can't be.
pub(super) fn destroy(nvml: &Nvml, target: &Target<'_>) -> Reply {
    let mut instances = target.gpu_instances();
    if instances.is_empty() {
        return no_gpu_instances();
    }
    instances.sort_by_key(|(gpu, instance)| (gpu.index, instance.id));
    let mut reply = Reply::default();
    for (gpu, instance) in instances {
        let what = format!(
            "GPU instance ID {:>2} from GPU {:>2}",
            instance.id, gpu.index
        );
        let destroyed: Result<(), Error> = nvml.destroy_gpu_instance(&gpu.uuid, instance.id);
        match destroyed {
            Ok(()) => reply.line(format_args!("Successfully destroyed {what}")),
            Err(error) => {
                reply.fail(format_args!("Unable to destroy {what}"), DESTROY, &error);
                break;
            }
        }
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_is_a_name_or_an_id_with_an_optional_start() {
        let id = Wanted::parse("19:4").unwrap();
        assert_eq!((id.profile, id.start), (ProfileRef::Id(19), Some(4)));
        let name = Wanted::parse(" MIG 1g.5gb+me").unwrap();
        assert_eq!(
            (name.profile, name.start),
            (ProfileRef::Name("1g.5gb+me".parse().unwrap()), None)
        );
        for wrong in ["", "1g", "19:", "19:x", ":4", "1g.5gb:300"] {
            assert_eq!(Wanted::parse(wrong), None, "{wrong}");
        }
    }
}

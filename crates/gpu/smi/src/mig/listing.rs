//! The lists of `nvidia-smi mig`: profiles, placements, instances.

use mig::{MigProfile, Placement};
use nvml::{Error, Nvml};

use super::{Target, no_compute_instances, no_gpu_instances};
use crate::exit::{code_of, of_code};
use crate::reply::Reply;
use crate::selection::Selection;

const NO_MIG: &str = "No MIG-supported devices found.";

/// `-lgip`.
pub(super) fn gpu_instance_profiles(nvml: &Nvml, selection: &Selection<'_>) -> Reply {
    let rule = rule(79, '-', '+');
    let mut reply = Reply::default();
    reply.line(&rule);
    reply.line("| GPU instance profiles:                                                        |");
    reply.line("| GPU   Name               ID    Instances   Memory     P2P    SM    DEC   ENC  |");
    reply.line("|                                Free/Total   GiB              CE    JPEG  OFA  |");
    reply.line(self::rule(79, '=', '|'));
    let mut none = true;
    for gpu in selection.gpus.iter().filter(|gpu| gpu.mig.is_some()) {
        let profiles = match nvml.gpu_instance_profiles(&gpu.uuid) {
            Ok(profiles) => profiles,
            Err(error) => return failed("GPU instance profiles", &error),
        };
        for profile in profiles {
            none = false;
            reply.line(format_args!(
                "|{:>4}  MIG {:<15}{:>3}{:>6}/{:<9}{:<11}{:<7}{:<7}{:<6}{:<4}|",
                gpu.index,
                profile.profile.to_string(),
                profile.id,
                profile.free,
                profile.total,
                gibibytes(profile.memory_mib),
                if profile.p2p { "Yes" } else { "No" },
                profile.multiprocessors,
                profile.decoders,
                profile.encoders,
            ));
            let (copy, jpeg, ofa) = (profile.copy_engines, profile.jpeg, profile.ofa);
            reply.line(format_args!("|{copy:>64}     {jpeg:<6}{ofa:<4}|"));
            reply.line(&rule);
        }
    }
    if none { Reply::new(0, NO_MIG) } else { reply }
}

/// `-lgipp`.
pub(super) fn gpu_instance_placements(selection: &Selection<'_>) -> Reply {
    let mut reply = Reply::default();
    for gpu in &selection.gpus {
        for profile in &gpu.board.profiles {
            let starts: Vec<_> = profile.starts.iter().map(u8::to_string).collect();
            reply.line(format_args!(
                "GPU {:>2} Profile ID {:>2} {}",
                gpu.index,
                profile.id,
                braces(&starts, profile.size)
            ));
        }
    }
    if reply.text.is_empty() {
        Reply::new(0, NO_MIG)
    } else {
        reply
    }
}

/// `-lgi`.
pub(super) fn gpu_instances(target: &Target<'_>) -> Reply {
    let instances = target.gpu_instances();
    if instances.is_empty() {
        return no_gpu_instances();
    }
    let rule = rule(57, '-', '+');
    let mut reply = Reply::default();
    reply.line(&rule);
    reply.line("| GPU instances:                                          |");
    reply.line("| GPU   Name               Profile  Instance   Placement  |");
    reply.line("|                            ID       ID       Start:Size |");
    reply.line(self::rule(57, '=', '|'));
    for (gpu, instance) in instances {
        reply.line(format_args!(
            "|{:>4}  MIG {:<15}{:>5}{:>9}{:>11}:{:<6}|",
            gpu.index,
            instance.profile.to_string(),
            instance.profile_id,
            instance.id,
            instance.placement.start(),
            instance.placement.size(),
        ));
        reply.line(&rule);
    }
    reply
}

/// `-lci`.
pub(super) fn compute_instances(target: &Target<'_>) -> Reply {
    if target.gpu_instances().is_empty() {
        return no_gpu_instances();
    }
    let instances = target.compute_instances();
    if instances.is_empty() {
        return no_compute_instances();
    }
    let rule = rule(68, '-', '+');
    let mut reply = Reply::default();
    reply.line(&rule);
    reply.line("| Compute instances:                                                 |");
    reply.line("| GPU     GPU       Name             Profile   Instance   Placement  |");
    reply.line("|       Instance                       ID        ID       Start:Size |");
    reply.line("|         ID                                                         |");
    reply.line(self::rule(68, '=', '|'));
    for (gpu, instance, compute) in instances {
        let name = MigProfile::new(compute.slices, instance.profile).map_or_else(
            |_| instance.profile.to_string(),
            |profile| profile.to_string(),
        );
        reply.line(format_args!(
            "|{:>4}{:>7}       MIG {name:<16}{:>2}{:>10}{:>11}:{:<6}|",
            gpu.index,
            instance.id,
            compute.profile_id,
            compute.id,
            compute.placement.start(),
            compute.placement.size(),
        ));
        reply.line(&rule);
    }
    reply
}

/// `-lcip`; a star marks the profile as large as its GPU instance, the default.
pub(super) fn compute_instance_profiles(nvml: &Nvml, target: &Target<'_>) -> Reply {
    let instances = target.gpu_instances();
    if instances.is_empty() {
        return no_gpu_instances();
    }
    let rule = rule(86, '-', '+');
    let mut reply = Reply::default();
    reply.line(&rule);
    reply.line(
        "| Compute instance profiles:                                                           |",
    );
    reply.line(
        "| GPU     GPU       Name             Profile  Instances   Exclusive       Shared       |",
    );
    reply.line(
        "|       Instance                       ID     Free/Total     SM       DEC   ENC   OFA  |",
    );
    reply.line(
        "|         ID                                                          CE    JPEG       |",
    );
    reply.line(self::rule(86, '=', '|'));
    for (gpu, instance) in instances {
        let profiles = match nvml.compute_instance_profiles(&gpu.uuid, instance.id) {
            Ok(profiles) => profiles,
            Err(error) => return failed("compute instance profiles", &error),
        };
        for profile in profiles {
            let Ok(name) = MigProfile::new(profile.slices, instance.profile) else {
                continue;
            };
            reply.line(format_args!(
                "|{:>4}{:>7}       MIG {:<16}{:>2}{}{:>6}/{}           {:<10}{:<6}{:<6}{:<4}|",
                gpu.index,
                instance.id,
                name.to_string(),
                profile.id,
                if name.is_whole() { '*' } else { ' ' },
                profile.free,
                profile.total,
                profile.multiprocessors,
                profile.decoders,
                profile.encoders,
                profile.ofa,
            ));
            let (copy, jpeg) = (profile.copy_engines, profile.jpeg);
            reply.line(format_args!("|{copy:>71}     {jpeg:<10}|"));
            reply.line(&rule);
        }
    }
    reply
}

/// `-lcipp`.
pub(super) fn compute_instance_placements(nvml: &Nvml, target: &Target<'_>) -> Reply {
    let instances = target.gpu_instances();
    if instances.is_empty() {
        return no_gpu_instances();
    }
    let mut reply = Reply::default();
    for (gpu, instance) in instances {
        let listed = nvml
            .compute_instance_profiles(&gpu.uuid, instance.id)
            .and_then(|profiles| {
                profiles
                    .into_iter()
                    .map(|profile| {
                        let places =
                            nvml.compute_instance_placements(&gpu.uuid, instance.id, profile.id)?;
                        Ok((profile.id, places))
                    })
                    .collect::<Result<Vec<_>, Error>>()
            });
        match listed {
            Ok(listed) => {
                for (id, places) in listed {
                    let starts: Vec<_> = places
                        .iter()
                        .map(|place| place.start().to_string())
                        .collect();
                    let size = places.first().map_or(0, |place: &Placement| place.size());
                    reply.line(format_args!(
                        "GPU {:>2} GI {:>2} Profile ID {id:>2} {}",
                        gpu.index,
                        instance.id,
                        braces(&starts, size)
                    ));
                }
            }
            Err(error) => return failed("compute instance possible placements", &error),
        }
    }
    reply
}

fn failed(what: &str, error: &Error) -> Reply {
    let code = code_of(error);
    let text = format!("Failed to display {what}: {}", code.text());
    Reply {
        detail: Some(error.to_string()),
        ..Reply::new(of_code(code), &text)
    }
}

/// `Placements: {0,4}:4`, and `Placement : {0}:8` for a single one.
fn braces(starts: &[String], size: u8) -> String {
    let word = if starts.len() == 1 {
        "Placement :"
    } else {
        "Placements:"
    };
    format!("{word} {{{}}}:{size}", starts.join(","))
}

/// GiB with two digits, cut: 19968 MiB is 19.50.
fn gibibytes(mebibytes: u64) -> String {
    format!("{}.{:02}", mebibytes / 1024, mebibytes % 1024 * 100 / 1024)
}

fn rule(width: usize, line: char, end: char) -> String {
    let middle: String = std::iter::repeat_n(line, width).collect();
    format!("{end}{middle}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_cut_to_two_digits_as_the_driver_prints_it() {
        // 9856 MiB is 9.625 GiB, which nvidia-smi prints as 9.62.
        assert_eq!(gibibytes(9856), "9.62");
        assert_eq!(gibibytes(16384), "16.00");
        assert_eq!(gibibytes(143_360), "140.00");
        assert_eq!(gibibytes(1044), "1.01");
    }

    #[test]
    fn one_placement_is_said_in_the_singular() {
        assert_eq!(braces(&["0".to_owned()], 8), "Placement : {0}:8");
        assert_eq!(
            braces(&["0".to_owned(), "4".to_owned()], 4),
            "Placements: {0,4}:4"
        );
    }
}

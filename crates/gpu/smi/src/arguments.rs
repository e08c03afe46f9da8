//! The command line. nvidia-smi has options of several letters behind a single dash (`-lgip`, `-mig`), which clap reads
//! as bundles of short ones; so a table of names and whether each takes a value is all there is.

use std::ffi::OsString;

use crate::exit::{INVALID_ARGUMENT, OTHER};
use crate::reply::Reply;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Version,
    List,
    Summary {
        ids: Option<String>,
    },
    Query {
        ids: Option<String>,
        fields: String,
        format: Format,
    },
    Mode {
        ids: Option<String>,
        enable: bool,
    },
    Mig {
        scope: Scope,
        command: MigCommand,
    },
}

/// How a query is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) header: bool,
    pub(crate) units: bool,
}

/// What `nvidia-smi mig` is restricted to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) ids: Option<String>,
    pub(crate) gpu_instances: Option<Vec<u32>>,
    pub(crate) compute_instances: Option<Vec<u32>>,
}

/// What `nvidia-smi mig` does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MigCommand {
    Help,
    ListGpuInstanceProfiles,
    ListGpuInstancePlacements,
    ListGpuInstances,
    ListComputeInstanceProfiles,
    ListComputeInstancePlacements,
    ListComputeInstances,
    CreateGpuInstances {
        profiles: String,
        with_compute_instances: bool,
    },
    CreateComputeInstances {
        profiles: Option<String>,
    },
    DestroyGpuInstances,
    DestroyComputeInstances,
}

impl Command {
    /// The GPUs that it is restricted to.
    pub(crate) fn ids(&self) -> Option<&str> {
        match self {
            Self::Summary { ids } | Self::Query { ids, .. } | Self::Mode { ids, .. } => {
                ids.as_deref()
            }
            Self::Mig { scope, .. } => scope.ids.as_deref(),
            Self::Help | Self::Version | Self::List => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    None,
    Optional,
    Required,
}

type Table = &'static [(&'static str, &'static str, Value)];

const MAIN: Table = &[
    ("-i", "--id", Value::Required),
    ("", "--query-gpu", Value::Required),
    ("", "--format", Value::Required),
    ("-mig", "--multi-instance-gpu", Value::Required),
];

const MIG: Table = &[
    ("-h", "--help", Value::None),
    ("-i", "--id", Value::Required),
    ("-gi", "--gpu-instance-id", Value::Required),
    ("-ci", "--compute-instance-id", Value::Required),
    ("-lgip", "--list-gpu-instance-profiles", Value::None),
    (
        "-lgipp",
        "--list-gpu-instance-possible-placements",
        Value::None,
    ),
    ("-C", "--default-compute-instance", Value::None),
    ("-cgi", "--create-gpu-instance", Value::Required),
    ("-dgi", "--destroy-gpu-instance", Value::None),
    ("-lgi", "--list-gpu-instances", Value::None),
    ("-lcip", "--list-compute-instance-profiles", Value::None),
    (
        "-lcipp",
        "--list-compute-instance-possible-placements",
        Value::None,
    ),
    ("-cci", "--create-compute-instance", Value::Optional),
    ("-dci", "--destroy-compute-instance", Value::None),
    ("-lci", "--list-compute-instances", Value::None),
];

/// An option by its long name, and its value.
struct Given {
    name: &'static str,
    value: Option<String>,
}

enum Misuse {
    Unknown(String),
    NoValue(String),
}

/// Reads the command line.
pub(crate) fn parse(args: &[OsString]) -> Result<Command, Reply> {
    let args: Vec<String> = args
        .iter()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    match args.split_first() {
        Some((first, rest)) if first == "mig" => parse_mig(rest),
        _ => parse_main(&args),
    }
}

/// The commands that stand alone, by their names, and each before the ones below it.
const ALONE: [(&[&str], Command); 3] = [
    (&["-h", "--help"], Command::Help),
    (&["--version"], Command::Version),
    (&["-L", "--list-gpus"], Command::List),
];

fn parse_main(args: &[String]) -> Result<Command, Reply> {
    for (names, command) in ALONE {
        if let Some(answer) = parse_alone(args, names, command) {
            return answer;
        }
    }
    let options = options(MAIN, args).map_err(|misuse| match misuse {
        Misuse::Unknown(name) => unrecognized(&name),
        Misuse::NoValue(name) => Reply::new(
            OTHER,
            &format!(
                "ERROR: Option {name} is missing its value. Please run 'nvidia-smi -h' for help.\n"
            ),
        ),
    })?;
    let value = |name: &str| {
        options
            .iter()
            .rev()
            .find(|option| option.name == name)?
            .value
            .clone()
    };
    let ids = value("--id");
    if let Some(fields) = value("--query-gpu") {
        let format = format(value("--format").as_deref().unwrap_or("csv"))?;
        return Ok(Command::Query {
            ids,
            fields,
            format,
        });
    }
    if value("--format").is_some() {
        let written = args.iter().find(|arg| arg.starts_with("--format"));
        return Err(unrecognized(written.map_or("--format", String::as_str)));
    }
    if let Some(mode) = value("--multi-instance-gpu") {
        let enable = match mode.to_ascii_uppercase().as_str() {
            "0" | "DISABLED" => false,
            "1" | "ENABLED" => true,
            _ => {
                return Err(Reply::new(
                    INVALID_ARGUMENT,
                    &format!("Invalid MIG mode \"{mode}\": 0/DISABLED or 1/ENABLED."),
                ));
            }
        };
        return Ok(Command::Mode { ids, enable });
    }
    Ok(Command::Summary { ids })
}

fn unrecognized(option: &str) -> Reply {
    Reply::new(
        OTHER,
        &format!("ERROR: Option {option} is not recognized. Please run 'nvidia-smi -h'.\n"),
    )
}

/// A command that allows nothing beside it, where it is given; the first thing beside it is what is wrong.
fn parse_alone(
    args: &[String],
    names: &[&str],
    command: Command,
) -> Option<Result<Command, Reply>> {
    let is_command = |arg: &str| names.contains(&arg.split('=').next().unwrap_or(arg));
    let times = args.iter().filter(|arg| is_command(arg)).count();
    if times == 0 {
        return None;
    }
    let beside = args.iter().find_map(|arg| match arg.split_once('=') {
        Some((_, value)) if is_command(arg) => Some(value),
        _ if is_command(arg) => None,
        _ => Some(arg.as_str()),
    });
    let error = match beside {
        Some(arg) => {
            format!(
                "ERROR: Option {arg} is not valid for this command. Please run 'nvidia-smi -h' for help.\n"
            )
        }
        None if times > 1 => {
            "ERROR: Only one command can be run at a time. Please run 'nvidia-smi -h' for help.\n"
                .to_owned()
        }
        None => return Some(Ok(command)),
    };
    Some(Err(Reply::new(INVALID_ARGUMENT, &error)))
}

fn format(text: &str) -> Result<Format, Reply> {
    let mut format = Format {
        header: true,
        units: true,
    };
    for word in text.split(',') {
        match word.trim() {
            "csv" | "" => {}
            "noheader" => format.header = false,
            "nounits" => format.units = false,
            _ => {
                return Err(Reply::new(
                    INVALID_ARGUMENT,
                    "Format modifier is not recognized.",
                ));
            }
        }
    }
    Ok(format)
}

fn parse_mig(args: &[String]) -> Result<Command, Reply> {
    let options = options(MIG, args).map_err(|misuse| match misuse {
        Misuse::Unknown(name) => Reply::new(
            INVALID_ARGUMENT,
            &format!("Option \"{name}\" is not recognized."),
        ),
        Misuse::NoValue(name) => Reply::new(
            INVALID_ARGUMENT,
            &format!("Option \"{name}\" is missing its value."),
        ),
    })?;
    let mut scope = Scope::default();
    let mut with_compute_instances = false;
    let mut command = None;
    for Given { name, value } in options {
        let next = match name {
            "--help" => {
                return Ok(Command::Mig {
                    scope,
                    command: MigCommand::Help,
                });
            }
            "--id" => {
                scope.ids = value;
                continue;
            }
            "--gpu-instance-id" => {
                scope.gpu_instances = Some(numbers(name, value)?);
                continue;
            }
            "--compute-instance-id" => {
                scope.compute_instances = Some(numbers(name, value)?);
                continue;
            }
            "--default-compute-instance" => {
                with_compute_instances = true;
                continue;
            }
            "--list-gpu-instance-profiles" => MigCommand::ListGpuInstanceProfiles,
            "--list-gpu-instance-possible-placements" => MigCommand::ListGpuInstancePlacements,
            "--list-gpu-instances" => MigCommand::ListGpuInstances,
            "--list-compute-instance-profiles" => MigCommand::ListComputeInstanceProfiles,
            "--list-compute-instance-possible-placements" => {
                MigCommand::ListComputeInstancePlacements
            }
            "--list-compute-instances" => MigCommand::ListComputeInstances,
            "--create-gpu-instance" => MigCommand::CreateGpuInstances {
                profiles: value.unwrap_or_default(),
                with_compute_instances: false,
            },
            "--create-compute-instance" => MigCommand::CreateComputeInstances { profiles: value },
            "--destroy-gpu-instance" => MigCommand::DestroyGpuInstances,
            "--destroy-compute-instance" => MigCommand::DestroyComputeInstances,
            // The table above has no other.
            other => {
                return Err(Reply::new(
                    INVALID_ARGUMENT,
                    &format!("Option \"{other}\" is not recognized."),
                ));
            }
        };
        if command.replace(next).is_some() {
            return Err(Reply::new(
                INVALID_ARGUMENT,
                &format!("Option \"{name}\" can't be combined with another command."),
            ));
        }
    }
    if let Some(MigCommand::CreateGpuInstances {
        with_compute_instances: with,
        ..
    }) = &mut command
    {
        *with = with_compute_instances;
    }
    // Without a command it explains itself, as the real one.
    Ok(Command::Mig {
        scope,
        command: command.unwrap_or(MigCommand::Help),
    })
}

fn numbers(name: &str, value: Option<String>) -> Result<Vec<u32>, Reply> {
    let text = value.unwrap_or_default();
    text.split(',')
        .map(|number| number.trim().parse())
        .collect::<Result<_, _>>()
        .map_err(|_| {
            Reply::new(
                INVALID_ARGUMENT,
                &format!("Option \"{name}\" takes numbers, not \"{text}\"."),
            )
        })
}

fn options(table: Table, args: &[String]) -> Result<Vec<Given>, Misuse> {
    let mut given = Vec::new();
    let mut args = args.iter().peekable();
    while let Some(arg) = args.next() {
        let (written, attached) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        let entry = table
            .iter()
            .find(|(short, long, _)| written == *long || (!short.is_empty() && written == *short));
        let Some((_, name, takes)) = entry else {
            return Err(Misuse::Unknown(arg.clone()));
        };
        let value = match takes {
            Value::None if attached.is_some() => return Err(Misuse::Unknown(arg.clone())),
            Value::None => None,
            Value::Optional | Value::Required => {
                attached.or_else(|| args.next_if(|next| !next.starts_with('-')).cloned())
            }
        };
        if *takes == Value::Required && value.is_none() {
            return Err(Misuse::NoValue(written.to_owned()));
        }
        given.push(Given { name, value });
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, (u8, String)> {
        let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse(&args).map_err(|reply| (reply.code, reply.text))
    }

    #[test]
    fn long_and_short_names_and_both_ways_of_giving_a_value_are_the_same() {
        let expected = parsed("mig -i 0 -cgi 19,14 -C").unwrap();
        assert_eq!(
            parsed("mig --id=0 --create-gpu-instance=19,14 --default-compute-instance").unwrap(),
            expected
        );
        assert_eq!(parsed("mig -C -cgi 19,14 -i 0").unwrap(), expected);
    }

    #[test]
    fn a_compute_instance_is_created_with_or_without_a_profile() {
        let without = MigCommand::CreateComputeInstances { profiles: None };
        let scope = Scope {
            gpu_instances: Some(vec![1]),
            ..Scope::default()
        };
        assert_eq!(
            parsed("mig -cci -gi 1").unwrap(),
            Command::Mig {
                scope,
                command: without
            }
        );
        let with = MigCommand::CreateComputeInstances {
            profiles: Some("0,0".to_owned()),
        };
        assert_eq!(
            parsed("mig -cci 0,0").unwrap(),
            Command::Mig {
                scope: Scope::default(),
                command: with
            }
        );
    }

    #[test]
    fn what_is_not_recognized_is_said_as_nvidia_smi_says_it() {
        let bogus = "ERROR: Option --bogus is not recognized. Please run 'nvidia-smi -h'.\n\n";
        assert_eq!(parsed("--bogus").unwrap_err(), (255, bogus.to_owned()));
        assert_eq!(
            parsed("mig --bogus").unwrap_err(),
            (2, "Option \"--bogus\" is not recognized.\n".to_owned())
        );
        let format = "Format modifier is not recognized.\n";
        assert_eq!(
            parsed("--query-gpu=index --format=xml").unwrap_err(),
            (2, format.to_owned())
        );
    }

    #[test]
    fn a_command_that_stands_alone_names_what_stands_beside_it() {
        for (line, beside) in [
            ("-L -i 0", "-i"),
            ("-i 0 -L", "-i"),
            ("-i= -L", "-i="),
            ("-L --format=csv", "--format=csv"),
            ("--version -L", "-L"),
            ("-h -L", "-L"),
            ("--list-gpus=1", "1"),
        ] {
            let text = format!(
                "ERROR: Option {beside} is not valid for this command. Please run 'nvidia-smi -h' for help.\n\n"
            );
            assert_eq!(parsed(line).unwrap_err(), (2, text), "{line}");
        }
        assert!(
            parsed("-L -L")
                .unwrap_err()
                .1
                .starts_with("ERROR: Only one command can be run at a time.")
        );
        assert_eq!(parsed("--list-gpus").unwrap(), Command::List);
    }

    #[test]
    fn a_missing_value_is_said_as_nvidia_smi_says_it() {
        let text =
            "ERROR: Option -i is missing its value. Please run 'nvidia-smi -h' for help.\n\n";
        assert_eq!(parsed("-i").unwrap_err(), (255, text.to_owned()));
        assert_eq!(
            parsed("mig -i").unwrap_err(),
            (2, "Option \"-i\" is missing its value.\n".to_owned())
        );
    }

    #[test]
    fn two_commands_at_once_are_refused_rather_than_one_of_them_done() {
        assert_eq!(parsed("mig -lgi -dgi").unwrap_err().0, 2);
    }
}

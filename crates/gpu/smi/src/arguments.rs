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
    List {
        ids: Option<String>,
    },
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
            Self::List { ids }
            | Self::Summary { ids }
            | Self::Query { ids, .. }
            | Self::Mode { ids, .. } => ids.as_deref(),
            Self::Mig { scope, .. } => scope.ids.as_deref(),
            Self::Help | Self::Version => None,
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
    ("-h", "--help", Value::None),
    ("", "--version", Value::None),
    ("-L", "--list-gpus", Value::None),
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

fn parse_main(args: &[String]) -> Result<Command, Reply> {
    let options = options(MAIN, args).map_err(|misuse| match misuse {
        Misuse::Unknown(name) => Reply::new(
            OTHER,
            &format!("ERROR: Option {name} is not recognized. Please run 'nvidia-smi -h'.\n"),
        ),
        Misuse::NoValue(name) => Reply::new(
            INVALID_ARGUMENT,
            &format!("ERROR: Option {name} requires a value. Please run 'nvidia-smi -h'.\n"),
        ),
    })?;
    let given = |name: &str| options.iter().position(|option| option.name == name);
    let value = |name: &str| {
        options
            .iter()
            .rev()
            .find(|option| option.name == name)?
            .value
            .clone()
    };
    if given("--help").is_some() {
        return Ok(Command::Help);
    }
    if given("--version").is_some() {
        return Ok(Command::Version);
    }
    let ids = value("--id");
    if let Some(list) = given("--list-gpus") {
        // The real one takes the GPU before the list, and refuses it after.
        if given("--id").is_some_and(|id| id > list) {
            return Err(Reply::new(
                INVALID_ARGUMENT,
                "ERROR: Option -i is not valid for this command. Please run 'nvidia-smi -h' for help.\n",
            ));
        }
        return Ok(Command::List { ids });
    }
    if let Some(fields) = value("--query-gpu") {
        let format = format(value("--format").as_deref().unwrap_or("csv"))?;
        return Ok(Command::Query {
            ids,
            fields,
            format,
        });
    }
    if given("--format").is_some() {
        return Err(Reply::new(
            INVALID_ARGUMENT,
            "ERROR: Option --format is not valid for this command. Please run 'nvidia-smi -h' for help.\n",
        ));
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

fn format(text: &str) -> Result<Format, Reply> {
    let mut format = Format {
        header: true,
        units: true,
    };
    for word in text.split(',') {
        match word.trim() {
            "csv" => {}
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
            &format!("Option \"{name}\" requires a value."),
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
    match &mut command {
        Some(MigCommand::CreateGpuInstances {
            with_compute_instances: with,
            ..
        }) => *with = with_compute_instances,
        _ if with_compute_instances => {
            return Err(Reply::new(
                INVALID_ARGUMENT,
                "Option \"--default-compute-instance\" is only valid with --create-gpu-instance.",
            ));
        }
        _ => {}
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
        if *takes == Value::Required && value.as_ref().is_none_or(String::is_empty) {
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
    fn the_list_takes_a_gpu_before_it_and_not_after() {
        assert_eq!(
            parsed("-i 0 -L").unwrap(),
            Command::List {
                ids: Some("0".to_owned())
            }
        );
        assert_eq!(parsed("-L -i 0").unwrap_err().0, 2);
    }

    #[test]
    fn two_commands_at_once_are_refused() {
        assert_eq!(parsed("mig -lgi -dgi").unwrap_err().0, 2);
        assert_eq!(parsed("mig -lgi -C").unwrap_err().0, 2);
    }
}

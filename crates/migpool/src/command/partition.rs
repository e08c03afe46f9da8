//! `migpool partition`: this machine's GPUs, brought to a layout.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mig::NodeLayout;
use nvml::Nvml;
use partition::{Options, Partitioner, Report};
use serde_json::json;

use crate::arguments::DriverRoot;
use crate::driver_root::seen_from_here;
use crate::failure::{Failure, chain};
use crate::output::{Format, print};

/// A node's GPUs and their layout.
#[derive(Debug, Subcommand)]
#[command(after_help = "A layout is one of\n  \
    off                             MIG off\n  \
    MIG1g                           as many of AKS's profile as fit\n  \
    1g.5gb                          as many of this profile as fit\n  \
    3g.20gb,2g.10gb,1g.5gb*2        exactly these\n  \
    0-3=3g.20gb*2;4-7=off           one layout for some GPUs, another for others; GPUs not named are left as they are")]
pub(crate) enum Partition {
    /// Show what `apply` would do, call by call; changes nothing
    Plan(Change),
    /// Bring the GPUs to the layout in as few driver calls as can be
    Apply(Change),
    /// Exit 1, with the differences, unless the GPUs are as the layout says
    Assert(Check),
    /// Print the layout that the GPUs have; `apply` of it changes nothing
    Export(Export),
    /// Print what earlier applies did
    Log(Log),
}

/// Where the record of what is ours, the lock and the journal are kept.
#[derive(Debug, Args)]
pub(crate) struct PartitionState {
    /// Folder for the lock, the record of what migpool created, and the journal
    #[arg(
        long = "partition-state-dir",
        value_name = "DIR",
        env = "MIGPOOL_PARTITION_STATE_DIR",
        default_value = "/var/lib/migpool/partition"
    )]
    dir: PathBuf,
}

/// What `plan` and `apply` take.
#[derive(Debug, Args)]
pub(crate) struct Change {
    #[command(flatten)]
    driver: DriverRoot,
    #[command(flatten)]
    state: PartitionState,
    /// The layout that is wanted
    layout: NodeLayout,
    /// Also remove GPU instances that migpool did not create
    #[arg(long)]
    replace_all: bool,
    /// Wait for another partition of this node to end, instead of failing at once
    #[arg(long)]
    wait: bool,
    /// The format of what is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// `partition assert`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    driver: DriverRoot,
    /// The layout that is wanted
    layout: NodeLayout,
    /// The format of what is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// `partition export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    driver: DriverRoot,
    /// The format of what is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// `partition log`.
#[derive(Debug, Args)]
pub(crate) struct Log {
    #[command(flatten)]
    state: PartitionState,
    /// The format of what is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

impl Partition {
    /// Runs it.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Plan(change) => change.plan(),
            Self::Apply(change) => change.apply(),
            Self::Assert(check) => check.run(),
            Self::Export(export) => {
                let inventory = load(&export.driver)?.inventory().map_err(Failure::of)?;
                let layout = partition::export(&inventory).map_err(Failure::of)?;
                print(export.output, &json!({"layout": layout}), |_| {
                    layout.to_string()
                })
            }
            Self::Log(log) => {
                let reports = partition::Journal::of(&log.state.dir)
                    .reports()
                    .map_err(Failure::of)?;
                print(log.output, &reports, |reports| {
                    let texts: Vec<_> = reports.iter().map(in_words).collect();
                    if texts.is_empty() {
                        "nothing was applied here".into()
                    } else {
                        texts.join("\n\n")
                    }
                })
            }
        }
    }
}

impl Change {
    fn partitioner(&self) -> Result<Partitioner, Failure> {
        Ok(Partitioner::new(load(&self.driver)?, &self.state.dir))
    }

    fn options(&self) -> Options {
        Options {
            replace_all: self.replace_all,
            wait: self.wait,
        }
    }

    fn plan(&self) -> Result<(), Failure> {
        let plan = self
            .partitioner()?
            .plan(&self.layout, self.options(), &[])
            .map_err(refused)?;
        print(self.output, &plan, |plan| {
            if plan.is_empty() {
                "nothing to do: the GPUs are as the layout says".to_owned()
            } else {
                format!("{}\n{} driver calls", plan.to_table(), plan.calls())
            }
        })
    }

    fn apply(&self) -> Result<(), Failure> {
        let report = self
            .partitioner()?
            .apply(&self.layout, self.options(), &[])
            .map_err(refused)?;
        print(self.output, &report, in_words)?;
        if report.is_done() {
            Ok(())
        } else {
            Err(Failure::Silent(1))
        }
    }
}

impl Check {
    fn run(&self) -> Result<(), Failure> {
        let inventory = load(&self.driver)?.inventory().map_err(Failure::of)?;
        let differences = partition::assert(&inventory, &self.layout);
        print(self.output, &differences, |differences| {
            if differences.is_empty() {
                format!("the GPUs are as the layout says: {}", self.layout)
            } else {
                differences
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("\n")
            }
        })?;
        if differences.is_empty() {
            Ok(())
        } else {
            Err(Failure::Silent(1))
        }
    }
}

fn load(driver: &DriverRoot) -> Result<Nvml, Failure> {
    Nvml::load(&seen_from_here(&driver.driver_root)).map_err(Failure::of)
}

/// A layout that cannot be is a misuse; everything else failed.
fn refused(error: partition::Error) -> Failure {
    match error {
        partition::Error::Refused(_) => Failure::usage(chain(&error)),
        other => Failure::of(other),
    }
}

fn in_words(report: &Report) -> String {
    if report.calls.is_empty() {
        report.to_string()
    } else {
        format!("{}\n{report}", report.to_table())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_without_calls_says_that_nothing_had_to_change() {
        let report: Report = serde_json::from_value(json!({
            "started": "2026-11-24T00:00:00Z", "duration_us": 5, "layout": "MIG1g",
            "outcome": "done", "calls": [], "problems": [],
        }))
        .unwrap();
        assert_eq!(in_words(&report), "done: nothing had to change, 0.0 ms");
    }
}

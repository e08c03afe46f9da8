//! The shell: lock, snapshot, plan, write-ahead record, calls, snapshot, report.

mod execute;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mig::NodeLayout;
use nvml::{Inventory, Nvml};

use crate::difference::{self, Difference};
use crate::holder::Holder;
use crate::journal::Journal;
use crate::lock::{LockError, NodeLock};
use crate::ownership::Ownership;
use crate::plan::{InUse, Options, Plan, SkippedGpu, plan, survey};
use crate::refusal::PlanError;
use crate::report::{Outcome, Problem, ProblemKind, Report};
use crate::state::StateError;

/// Why an apply or a plan came to nothing. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state folder can't be made.
    #[error("cannot create the state folder {path}: {source}", path = path.display())]
    StateDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The node's lock is held by another, or can't be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The record of what is ours can't be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The GPUs can't be read.
    #[error("cannot read the GPUs: {0}")]
    Snapshot(#[source] nvml::Error),
    /// The layout is refused.
    #[error(transparent)]
    Refused(#[from] PlanError),
}

/// Brings this node's GPUs to a layout.
#[derive(Debug, Clone)]
pub struct Partitioner {
    nvml: Nvml,
    state_dir: PathBuf,
}

impl Partitioner {
    /// Over a driver, with a folder for the lock, the record of what is ours and the journal. The
    /// folder is made where it is missing, and must outlive the process.
    #[must_use]
    pub fn new(nvml: Nvml, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            nvml,
            state_dir: state_dir.into(),
        }
    }

    /// The journal of this node.
    #[must_use]
    pub fn journal(&self) -> Journal {
        Journal::of(&self.state_dir)
    }

    /// What [`Partitioner::apply`] would do now. Changes nothing, and takes no lock.
    ///
    /// # Errors
    /// As [`Partitioner::apply`].
    pub fn plan(
        &self,
        layout: &NodeLayout,
        options: Options,
        holders: &[Holder],
    ) -> Result<Plan, Error> {
        let inventory = self.nvml.inventory().map_err(Error::Snapshot)?;
        let mut ownership = Ownership::load(&self.state_dir)?;
        ownership.retain_present(&inventory);
        self.plan_with_processes(&inventory, layout, &ownership, options, holders)
    }

    /// What [`Partitioner::apply`] would do if nobody used anything, and who is in its way: pods and other `holders`,
    /// and NVML's own processes. Changes nothing, and takes no lock.
    ///
    /// # Errors
    /// As [`Partitioner::apply`], but for what is in use.
    pub fn survey(
        &self,
        layout: &NodeLayout,
        options: Options,
        holders: &[Holder],
    ) -> Result<(Plan, Vec<InUse>), Error> {
        let inventory = self.nvml.inventory().map_err(Error::Snapshot)?;
        let mut ownership = Ownership::load(&self.state_dir)?;
        ownership.retain_present(&inventory);
        Ok(self.with_processes(holders, |all| {
            survey(&inventory, layout, &ownership, all, options)
        })?)
    }

    /// Brings the GPUs to a layout. The whole request is checked for all GPUs before anything
    /// changes; after that a GPU that fails doesn't stop the others. What happened on each GPU is
    /// in the report, whose [outcome](Report::outcome) is `Done` only when every GPU that the
    /// layout names is as asked.
    ///
    /// `holders` are those who use slices and whom NVML doesn't know, such as pods that hold a
    /// slice without computing at the moment. NVML's own processes are asked for where something
    /// is to be destroyed.
    ///
    /// Reads one snapshot before and, if anything was changed, one after.
    ///
    /// # Errors
    /// When nothing was changed: the lock, the state folder, the snapshot, or a refused layout.
    pub fn apply(
        &self,
        layout: &NodeLayout,
        options: Options,
        holders: &[Holder],
    ) -> Result<Report, Error> {
        let clock = Instant::now();
        let started = jiff::Timestamp::now();
        std::fs::create_dir_all(&self.state_dir).map_err(|source| Error::StateDir {
            path: self.state_dir.clone(),
            source,
        })?;
        let _lock = NodeLock::acquire(&self.state_dir, options.wait)?;

        let before = self.nvml.inventory().map_err(Error::Snapshot)?;
        let mut ownership = Ownership::load(&self.state_dir)?;
        let stale = ownership.retain_present(&before);
        let plan = self.plan_with_processes(&before, layout, &ownership, options, holders)?;
        let claimed = ownership.claim_plan(&plan);
        if stale || claimed {
            ownership.save(&self.state_dir)?;
        }

        let (calls, mut problems) = execute::execute(&self.nvml, &plan);
        problems.extend(plan.skipped.iter().map(unreadable));
        let after = if calls.is_empty() {
            Ok(before)
        } else {
            self.nvml.inventory()
        };
        let inventory = match after {
            Ok(inventory) => {
                verify(&inventory, layout, &mut problems);
                if ownership.retain_present(&inventory) {
                    warn_unsaved(
                        ownership.save(&self.state_dir),
                        "the record of what is ours",
                    );
                }
                Some(inventory)
            }
            Err(error) => {
                problems.extend(plan.gpus.iter().map(|gpu| Problem {
                    gpu: gpu.index,
                    uuid: Some(gpu.uuid.to_string()),
                    kind: ProblemKind::Unreadable,
                    message: format!(
                        "GPU {}: cannot be read after the change: {error}",
                        gpu.index
                    ),
                }));
                None
            }
        };
        problems.sort_by_key(|problem| problem.gpu);
        let report = Report {
            started,
            duration_us: microseconds(clock.elapsed()),
            layout: layout.to_string(),
            outcome: outcome(&problems),
            calls,
            problems,
            inventory,
        };
        if !(report.calls.is_empty() && report.problems.is_empty()) {
            warn_unsaved(self.journal().append(&report), "the journal");
        }
        Ok(report)
    }

    /// Plans, and refuses what is in use.
    fn plan_with_processes(
        &self,
        inventory: &Inventory,
        layout: &NodeLayout,
        ownership: &Ownership,
        options: Options,
        holders: &[Holder],
    ) -> Result<Plan, Error> {
        let planned = self.with_processes(holders, |all| {
            plan(inventory, layout, ownership, all, options).map(|plan| (plan, ()))
        })?;
        Ok(planned.0)
    }

    /// Plans, and where that would destroy anything asks NVML who uses those GPUs and plans again.
    fn with_processes<T>(
        &self,
        holders: &[Holder],
        plan: impl Fn(&[Holder]) -> Result<(Plan, T), PlanError>,
    ) -> Result<(Plan, T), PlanError> {
        let (mut first, mut rest) = plan(holders)?;
        let mut all = holders.to_vec();
        let mut unknown = Vec::new();
        for gpu in first.gpus.iter().filter(|gpu| gpu.destroys()) {
            match self.nvml.processes(&gpu.uuid) {
                Ok(processes) => all.extend(
                    processes
                        .iter()
                        .map(|process| Holder::of_process(&gpu.uuid, process)),
                ),
                // A driver that can't list processes guards its instances itself: IN_USE.
                Err(error) if error.is(nvml::ReturnCode::ERROR_NOT_SUPPORTED) => {}
                Err(error) => unknown.push(SkippedGpu {
                    index: gpu.index,
                    uuid: Some(gpu.uuid.to_string()),
                    reason: format!(
                        "it is not known who uses it, so nothing is destroyed: {error}"
                    ),
                }),
            }
        }
        if all.len() > holders.len() {
            (first, rest) = plan(&all)?;
        }
        first
            .gpus
            .retain(|gpu| unknown.iter().all(|skipped| skipped.index != gpu.index));
        first.skipped.extend(unknown);
        Ok((first, rest))
    }
}

/// The problem of a GPU that is left out.
fn unreadable(skipped: &SkippedGpu) -> Problem {
    Problem {
        gpu: skipped.index,
        uuid: skipped.uuid.clone(),
        kind: ProblemKind::Unreadable,
        message: format!("GPU {}: left out: {}", skipped.index, skipped.reason),
    }
}

/// Adds what differs on GPUs that have no problem yet.
fn verify(inventory: &Inventory, layout: &NodeLayout, problems: &mut Vec<Problem>) {
    let known: Vec<u32> = problems.iter().map(|problem| problem.gpu).collect();
    for found in difference::assert(inventory, layout) {
        let Some(gpu) = found.gpu().filter(|gpu| !known.contains(gpu)) else {
            continue;
        };
        let kind = match found {
            Difference::Unreadable { .. } => ProblemKind::Unreadable,
            _ => ProblemKind::Differs,
        };
        let uuid = inventory.gpu_at(gpu).map(|gpu| gpu.uuid.to_string());
        problems.push(Problem {
            gpu,
            uuid,
            kind,
            message: found.to_string(),
        });
    }
}

fn outcome(problems: &[Problem]) -> Outcome {
    problems
        .iter()
        .map(|problem| match problem.kind {
            ProblemKind::RebootNeeded => Outcome::RebootNeeded,
            _ => Outcome::Incomplete,
        })
        .max()
        .unwrap_or(Outcome::Done)
}

/// What is on the GPUs is done by now; a record that can't be written is no reason to call it undone.
fn warn_unsaved(result: Result<(), StateError>, what: &str) {
    if let Err(error) = result {
        tracing::warn!(%error, "cannot keep {what}");
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

//! Brings the GPUs to the wanted layout, again and again until it works.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use device_plugin::Location;
use mig::{LayoutSpec, NodeLayout};
use nvml::{Gpu, Inventory, Nvml};
use partition::{Difference, InUse, Options, Partitioner, Plan, Refusal, Report};
use tokio::sync::watch;

use crate::drain::{self, SETTLE, Situation, Step};
use crate::holders::{Holders, holders};
use crate::observation::{Blocker, PartitionStep, in_words};
use crate::presence::Presence;
use crate::schedule::Backoff;
use crate::wanted::Wanted;
use crate::{PartitionConfig, PartitionStatus};

/// The first wait after a failed attempt, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// How often the kubelet is asked whether those who are in the way have left.
const POLL: Duration = Duration::from_secs(1);

/// How often the GPUs are looked at as well meanwhile, for those who use them and are no pods.
const SURVEY: Duration = Duration::from_secs(10);

/// How many reasons against a layout are told.
const NAMED_REFUSALS: usize = 3;

/// The way to the wanted layout. Once it is reached it is not enforced: who changes it later by hand may do so, and the
/// status says that it differs. Only a GPU that did not answer for a while, and comes back without what it had, gets
/// its layout again.
pub(crate) struct Partitioning {
    config: PartitionConfig,
    source: watch::Receiver<Wanted>,
    wanted: Wanted,
    status: PartitionStatus,
    due: Option<Instant>,
    waits: Backoff,
    /// What nobody new is to get, and since when all of it is held back.
    held: BTreeSet<Location>,
    held_since: Instant,
    /// Who held what when somebody was found in the way, and when that was.
    in_the_way: Option<(Holders, Instant)>,
    /// The GPUs have had some layout that was wanted, or were left alone, since the agent started: what is on them was
    /// advertised.
    settled_once: bool,
    /// Which GPUs have been away, and came back without what they had.
    presence: Presence,
    /// The GPUs that the next attempt is for; `None` for all.
    scope: Option<BTreeSet<u32>>,
}

/// What was decided.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Make the change now.
    Change,
    /// Say that the layout is there, and record it.
    Confirm,
    /// Not now; it is decided again when it is due.
    Later,
}

impl Partitioning {
    pub(crate) fn new(config: PartitionConfig, source: watch::Receiver<Wanted>) -> Self {
        let mut partitioning = Self {
            status: PartitionStatus {
                drain: config.drain,
                ..PartitionStatus::default()
            },
            config,
            source,
            wanted: Wanted::default(),
            due: None,
            waits: Backoff::new(RETRY.0, RETRY.1),
            held: BTreeSet::new(),
            held_since: Instant::now(),
            in_the_way: None,
            settled_once: false,
            presence: Presence::default(),
            scope: None,
        };
        let wanted = partitioning.source.borrow_and_update().clone();
        partitioning.want(wanted);
        partitioning
    }

    /// Takes in what is wanted by now; `true` when the status has changed.
    pub(crate) fn follow(&mut self) -> bool {
        // One whose sender is gone never changes.
        if !self.source.has_changed().unwrap_or(false) {
            return false;
        }
        let wanted = self.source.borrow_and_update().clone();
        if wanted == self.wanted {
            return false;
        }
        self.want(wanted);
        true
    }

    fn want(&mut self, wanted: Wanted) {
        self.status.complaint.clone_from(&wanted.complaint);
        self.status.asked.clone_from(&wanted.asked);
        let is_new = wanted.layout != self.wanted.layout;
        if is_new {
            self.in_the_way = None;
        }
        match &wanted.layout {
            Some(layout) if is_new => {
                self.status.layout = layout.to_string();
                self.status.step = PartitionStep::Pending;
                self.status.done = false;
                self.status.message = None;
                self.status.report = None;
                self.status.blockers.clear();
                self.due = Some(Instant::now());
                self.waits.reset();
                self.scope = None;
            }
            Some(_) => {}
            None => {
                self.status.layout = String::new();
                self.status.step = PartitionStep::LeftAlone;
                self.status.done = false;
                self.status.message = None;
                self.status.report = None;
                self.status.blockers.clear();
                self.due = None;
                self.scope = None;
                self.held.clear();
                self.settled_once |= wanted.complaint.is_none();
            }
        }
        self.wanted = wanted;
    }

    /// When the next decision is due; `None` when the layout is reached.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn status(&self) -> PartitionStatus {
        self.status.clone()
    }

    /// What nobody new is to get.
    pub(crate) fn held(&self) -> &BTreeSet<Location> {
        &self.held
    }

    /// Whether a GPU is not to be advertised yet: whole, though the layout wants it in slices, or may do so once it is
    /// known. A pod that got it would hold it against the layout.
    pub(crate) fn withholds(&self, gpu: &Gpu) -> bool {
        let is_used = || self.status.blockers.iter().any(|it| it.gpu == gpu.index);
        // One that a pod has from before is shown as held back instead, for the pod's sake.
        if self.settled_once || gpu.mig.is_none_or(|mode| mode.current) || is_used() {
            return false;
        }
        match &self.wanted.layout {
            Some(layout) => layout
                .for_gpu(gpu.index)
                .is_some_and(|layout| *layout != LayoutSpec::Off),
            None => self.wanted.complaint.is_some(),
        }
    }

    /// The driver was not there for a moment, or for longer.
    pub(crate) fn interrupted(&mut self) {
        self.presence.interrupted();
    }

    /// Decides what to do next. `advertised` is whether slices may have been given away since the agent started.
    pub(crate) fn decide(&mut self, nvml: &Nvml, advertised: bool) -> Decision {
        let Some(layout) = self.layout() else {
            self.due = None;
            return Decision::Later;
        };
        let listed = self.config.pod_resources.as_deref().map(holders);
        let now = Instant::now();
        if let (Some((before, since)), Some(Ok(still))) = (&self.in_the_way, &listed)
            && before == still
            && now.saturating_duration_since(*since) < SURVEY
        {
            self.due = Some(now + POLL);
            return Decision::Later;
        }
        self.in_the_way = None;
        let (plan, in_use, holders) = match self.survey(nvml, &layout, listed) {
            Ok(survey) => survey,
            Err(refusal) => return self.refuse(refusal),
        };
        let step = drain::next(&Situation {
            plan: &plan,
            in_use: &in_use,
            drain: self.config.drain,
            held: &self.held,
            held_for: now.saturating_duration_since(self.held_since),
            advertised,
        });
        let blockers = Blocker::all(&in_use, &holders);
        match step {
            Step::Apply => {
                self.status.blockers.clear();
                if plan.is_empty() {
                    return Decision::Confirm;
                }
                self.status.step = PartitionStep::Changing;
                self.status.message = None;
                // Nothing that is being changed is given away, from the first time that it is advertised.
                self.hold(drain::taken(&plan), now);
                Decision::Change
            }
            Step::HoldBack(hold) => {
                self.hold(hold, now);
                self.status.step = PartitionStep::HoldingBack;
                self.status.message = None;
                self.status.blockers.clear();
                self.due = Some(self.held_since + SETTLE);
                Decision::Later
            }
            Step::Drain { hold, .. } => {
                if self.status.step != PartitionStep::Draining {
                    self.status.drains = self.status.drains.saturating_add(1);
                }
                self.hold(hold, now);
                self.status.step = PartitionStep::Draining;
                self.status.message = Some(format!(
                    "the layout {} waits until what has to go is free: {}",
                    self.status.layout,
                    in_words(&blockers)
                ));
                self.status.blockers = blockers;
                self.in_the_way = Some((holders, now));
                self.due = Some(now + POLL);
                Decision::Later
            }
            Step::Refuse => {
                let reason = format!(
                    "the layout {} is refused, since nobody is to be drained (--drain=never): {}",
                    self.status.layout,
                    in_words(&blockers)
                );
                self.status.blockers = blockers;
                self.in_the_way = Some((holders, now));
                self.refuse(Obstacle::Refused(reason));
                self.due = Some(now + POLL);
                Decision::Later
            }
        }
    }

    /// What there is to do, and who is in the way.
    fn survey(
        &self,
        nvml: &Nvml,
        layout: &NodeLayout,
        listed: Option<Result<Holders, String>>,
    ) -> Result<(Plan, Vec<InUse>, Holders), Obstacle> {
        let (holders, silent) = match listed {
            None => (Holders::default(), None),
            Some(Ok(holders)) => (holders, None),
            Some(Err(reason)) => (Holders::default(), Some(reason)),
        };
        let (plan, in_use) = self
            .partitioner(nvml)
            .survey(layout, self.options(), &holders.to_partition())
            .map_err(|error| match error {
                partition::Error::Refused(error) => {
                    Obstacle::Refused(refusal(&self.status.layout, &error.refusals))
                }
                error => Obstacle::Failed(error.to_string()),
            })?;
        match silent {
            // A socket may be left over from before a reboot. Who holds what matters only if something is taken.
            Some(reason) if !drain::taken(&plan).is_empty() => Err(Obstacle::Failed(reason)),
            _ => Ok((plan, in_use, holders)),
        }
    }

    fn partitioner(&self, nvml: &Nvml) -> Partitioner {
        Partitioner::new(nvml.clone(), &self.config.state_dir)
    }

    fn options(&self) -> Options {
        Options {
            replace_all: self.config.replace_all,
            ..Options::default()
        }
    }

    /// Holds this back and nothing else.
    fn hold(&mut self, hold: BTreeSet<Location>, now: Instant) {
        if !hold.is_subset(&self.held) {
            self.held_since = now;
        }
        self.held = hold;
    }

    fn refuse(&mut self, obstacle: Obstacle) -> Decision {
        self.status.attempts = self.status.attempts.saturating_add(1);
        let (step, reason) = match obstacle {
            // Everything stays as it is, and is given out as before.
            Obstacle::Refused(reason) => {
                self.held.clear();
                (PartitionStep::Refused, reason)
            }
            Obstacle::Failed(reason) => (PartitionStep::Failed, reason),
        };
        self.failed(step, reason);
        Decision::Later
    }

    fn failed(&mut self, step: PartitionStep, reason: String) {
        self.status.step = step;
        self.status.done = false;
        self.status.message = Some(reason);
        self.due = Some(Instant::now() + self.waits.next());
    }

    /// Makes the change that was decided, or finds that there is nothing to change.
    pub(crate) fn apply(&mut self, nvml: &Nvml) {
        let Some(layout) = self.layout() else {
            return;
        };
        self.status.attempts = self.status.attempts.saturating_add(1);
        // Who holds what was asked a moment ago, and may be otherwise by now where nothing was held back.
        let asked = match self.config.pod_resources.as_deref().map(holders) {
            Some(Err(reason)) if !self.held.is_empty() => {
                return self.failed(PartitionStep::Failed, reason);
            }
            Some(Ok(holders)) => holders.to_partition(),
            Some(Err(_)) | None => Vec::new(),
        };
        let applied = self
            .partitioner(nvml)
            .apply(&layout, self.options(), &asked);
        match applied {
            Ok(report) if report.is_done() => {
                tracing::info!(
                    layout = self.status.layout,
                    calls = report.calls.len(),
                    "the GPUs have the wanted layout"
                );
                self.status.step = PartitionStep::Done;
                self.status.done = true;
                self.status.message = None;
                self.status.report = Some(report);
                self.due = None;
                self.scope = None;
                self.held.clear();
                self.settled_once = true;
                self.waits.reset();
            }
            Ok(report) => {
                let reason = problems(&report);
                self.status.report = Some(report);
                self.failed(PartitionStep::Failed, reason);
            }
            Err(error) => self.failed(PartitionStep::Failed, error.to_string()),
        }
    }

    /// The layout, as far as the next attempt goes.
    fn layout(&self) -> Option<NodeLayout> {
        let all = self.wanted.layout.as_ref()?;
        let scoped = self.scope.as_ref().and_then(|scope| {
            let gpus = scope.iter();
            NodeLayout::of_gpus(gpus.filter_map(|gpu| Some((*gpu, all.for_gpu(*gpu)?.clone()))))
        });
        Some(scoped.unwrap_or_else(|| all.clone()))
    }

    /// The status, with what differs from the layout by now. What differs on a GPU that has lost its instances while it
    /// was away is due to be made again.
    pub(crate) fn compare(&mut self, inventory: &Inventory) -> PartitionStatus {
        let returned = self.presence.returned(inventory);
        let Some(layout) = &self.wanted.layout else {
            return self.status();
        };
        if self.status.done {
            let differences: Vec<_> = partition::assert(inventory, layout)
                .into_iter()
                // A GPU that can't be read is told of anyway.
                .filter(|difference| !matches!(difference, Difference::Unreadable { .. }))
                .collect();
            let lost: BTreeSet<u32> = differences
                .iter()
                .filter_map(Difference::gpu)
                .filter(|gpu| returned.contains(gpu))
                .collect();
            if lost.is_empty() {
                let text: Vec<_> = differences.iter().map(ToString::to_string).collect();
                self.status.message = (!text.is_empty()).then(|| text.join("; "));
            } else {
                tracing::warn!(gpus = ?lost, "GPUs came back without their layout");
                self.status.step = PartitionStep::Pending;
                self.status.done = false;
                self.status.message = None;
                self.due = Some(Instant::now());
                self.scope = Some(lost);
            }
        } else if let Some(scope) = &mut self.scope {
            scope.extend(returned);
        }
        self.status()
    }
}

/// Why there is nothing to be done for now.
enum Obstacle {
    /// It cannot be, or must not be now.
    Refused(String),
    /// It could not be found out.
    Failed(String),
}

/// Why a layout is refused: all GPUs are often alike, and have the same reason.
fn refusal(layout: &str, refusals: &[Refusal]) -> String {
    let mut reasons: Vec<_> = refusals
        .iter()
        .take(NAMED_REFUSALS)
        .map(ToString::to_string)
        .collect();
    let others = refusals.len().saturating_sub(NAMED_REFUSALS);
    if others > 0 {
        reasons.push(format!("and {others} more"));
    }
    format!(
        "the layout {layout} cannot be applied, and nothing was changed: {}",
        reasons.join("; ")
    )
}

fn problems(report: &Report) -> String {
    let problems = report.problems.iter().map(|p| p.message.as_str());
    problems.collect::<Vec<_>>().join("; ")
}

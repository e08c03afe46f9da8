//! Brings the GPUs to the wanted layout, again and again until it works.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mig::{LayoutSpec, NodeLayout, Placement, Profile};
use nvml::{Gpu, GpuUuid, Inventory, Nvml};
use partition::{Action, Difference, Options, Partitioner, Report};

use crate::holders::holders;
use crate::schedule::Backoff;
use crate::{PartitionConfig, PartitionStatus};

/// The first wait after a failed attempt, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// The attempts. Once the layout is reached it is not enforced: who changes it later by hand may do so, and the
/// status says that it differs. Only a GPU that did not answer for a while, and comes back without what it had, gets
/// its layout again.
pub(crate) struct Partitioning {
    config: PartitionConfig,
    status: PartitionStatus,
    due: Option<Instant>,
    waits: Backoff,
    /// What is on the GPUs, or was when they last answered.
    known: BTreeMap<GpuUuid, Partitions>,
    /// Those of them that have not answered since.
    away: BTreeSet<GpuUuid>,
    /// The GPUs that the next attempt is for; `None` for all.
    scope: Option<BTreeSet<u32>>,
}

/// What a GPU is partitioned into: MIG mode, and the GPU instances with their compute instances' slices.
#[derive(Debug, PartialEq)]
struct Partitions {
    mig: bool,
    instances: Vec<(Profile, Placement, Vec<u8>)>,
}

impl Partitions {
    fn of(gpu: &Gpu) -> Self {
        let instances = gpu.instances.iter().map(|instance| {
            let compute = &instance.compute_instances;
            let slices = compute.iter().map(|compute| compute.slices).collect();
            (instance.profile, instance.placement, slices)
        });
        Self {
            mig: gpu.mig_enabled(),
            instances: instances.collect(),
        }
    }
}

impl Partitioning {
    pub(crate) fn new(config: PartitionConfig) -> Self {
        Self {
            status: PartitionStatus {
                layout: config.layout.to_string(),
                ..PartitionStatus::default()
            },
            config,
            due: Some(Instant::now()),
            waits: Backoff::new(RETRY.0, RETRY.1),
            known: BTreeMap::new(),
            away: BTreeSet::new(),
            scope: None,
        }
    }

    /// When the next attempt is; `None` when the layout is reached.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn status(&self) -> PartitionStatus {
        self.status.clone()
    }

    /// Whether a GPU is not to be advertised yet: whole, though the layout wants it in slices. A pod that got it would
    /// hold it against the layout.
    pub(crate) fn withholds(&self, gpu: &Gpu) -> bool {
        let wanted = self.config.layout.for_gpu(gpu.index);
        !self.status.done
            && gpu.mig.is_some_and(|mode| !mode.current)
            && wanted.is_some_and(|layout| *layout != LayoutSpec::Off)
    }

    /// The driver was not there for a moment, or for longer.
    pub(crate) fn interrupted(&mut self) {
        self.away.extend(self.known.keys().cloned());
    }

    pub(crate) fn attempt(&mut self, nvml: &Nvml) {
        self.status.attempts = self.status.attempts.saturating_add(1);
        let message = match self.apply(nvml) {
            Ok(report) => {
                let message = (!report.is_done()).then(|| {
                    report
                        .problems
                        .iter()
                        .map(|p| p.message.as_str())
                        .collect::<Vec<_>>()
                        .join("; ")
                });
                self.status.report = Some(report);
                message
            }
            Err(reason) => Some(reason),
        };
        self.status.done = message.is_none();
        match &message {
            None => {
                tracing::info!(
                    layout = self.status.layout,
                    "the GPUs have the wanted layout"
                );
                self.due = None;
                self.scope = None;
                self.waits.reset();
            }
            Some(reason) => {
                if self.status.message != message {
                    tracing::error!(
                        layout = self.status.layout,
                        reason,
                        "partitioning failed, trying again"
                    );
                }
                self.due = Some(Instant::now() + self.waits.next());
            }
        }
        self.status.message = message;
    }

    fn apply(&self, nvml: &Nvml) -> Result<Report, String> {
        let partitioner = Partitioner::new(nvml.clone(), &self.config.state_dir);
        let layout = self.layout();
        let options = Options {
            replace_all: self.config.replace_all,
            ..Options::default()
        };
        let holders = match self.config.pod_resources.as_deref().map(holders) {
            None => Vec::new(),
            Some(Ok(holders)) => holders,
            // A socket may be left over from before a reboot. Who holds what matters only if something is taken.
            Some(Err(reason)) => {
                let plan = partitioner
                    .plan(&layout, options, &[])
                    .map_err(|error| error.to_string())?;
                let mut actions = plan.gpus.iter().flat_map(|gpu| &gpu.actions);
                if actions.any(takes) {
                    return Err(reason);
                }
                Vec::new()
            }
        };
        partitioner
            .apply(&layout, options, &holders)
            .map_err(|error| error.to_string())
    }

    /// The layout, as far as the next attempt goes.
    fn layout(&self) -> NodeLayout {
        let all = &self.config.layout;
        let scoped = self.scope.as_ref().and_then(|scope| {
            let gpus = scope.iter();
            NodeLayout::of_gpus(gpus.filter_map(|gpu| Some((*gpu, all.for_gpu(*gpu)?.clone()))))
        });
        scoped.unwrap_or_else(|| all.clone())
    }

    /// The status, with what differs from the layout by now. What differs on a GPU that has lost its instances while it
    /// was away is due to be made again.
    pub(crate) fn compare(&mut self, inventory: &Inventory) -> PartitionStatus {
        let returned = self.returned(inventory);
        if self.status.done {
            let differences: Vec<_> = partition::assert(inventory, &self.config.layout)
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

    /// The GPUs that were away and are back with other partitions than before.
    fn returned(&mut self, inventory: &Inventory) -> BTreeSet<u32> {
        let gone = self.known.keys().filter(|gpu| inventory.gpu(gpu).is_none());
        self.away.extend(gone.cloned());
        let mut returned = BTreeSet::new();
        for gpu in &inventory.gpus {
            let now = Partitions::of(gpu);
            let was_away = self.away.remove(&gpu.uuid);
            if was_away && self.known.get(&gpu.uuid) != Some(&now) {
                returned.insert(gpu.index);
            }
            self.known.insert(gpu.uuid.clone(), now);
        }
        returned
    }
}

/// Whether an action takes something from who holds it.
fn takes(action: &Action) -> bool {
    !matches!(
        action,
        Action::CreateGpuInstance { .. } | Action::CreateComputeInstance { .. }
    )
}

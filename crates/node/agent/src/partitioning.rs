//! Brings the GPUs to the wanted layout, again and again until it works.

use std::time::{Duration, Instant};

use nvml::{Inventory, Nvml};
use partition::{Options, Partitioner, Report};

use crate::holders::holders;
use crate::{PartitionConfig, PartitionStatus};

/// The first wait after a failed attempt, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// The attempts of one session with the driver. Once the layout is reached it is not enforced: who changes it later
/// by hand may do so, and the status says that it differs.
pub(crate) struct Partitioning {
    partitioner: Partitioner,
    config: PartitionConfig,
    status: PartitionStatus,
    due: Option<Instant>,
    wait: Duration,
}

impl Partitioning {
    pub(crate) fn new(nvml: Nvml, config: PartitionConfig) -> Self {
        Self {
            partitioner: Partitioner::new(nvml, &config.state_dir),
            status: PartitionStatus {
                layout: config.layout.to_string(),
                ..PartitionStatus::default()
            },
            config,
            due: Some(Instant::now()),
            wait: RETRY.0,
        }
    }

    /// When the next attempt is; `None` when the layout is reached.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    pub(crate) fn status(&self) -> PartitionStatus {
        self.status.clone()
    }

    pub(crate) fn attempt(&mut self) {
        self.status.attempts = self.status.attempts.saturating_add(1);
        let message = match self.apply() {
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
                self.wait = RETRY.0;
            }
            Some(reason) => {
                if self.status.message != message {
                    tracing::error!(
                        layout = self.status.layout,
                        reason,
                        "partitioning failed, trying again"
                    );
                }
                self.due = Some(Instant::now() + self.wait);
                self.wait = (self.wait * 2).min(RETRY.1);
            }
        }
        self.status.message = message;
    }

    fn apply(&self) -> Result<Report, String> {
        let holders = match &self.config.pod_resources {
            Some(socket) => holders(socket)?,
            None => Vec::new(),
        };
        let options = Options {
            replace_all: self.config.replace_all,
            ..Options::default()
        };
        self.partitioner
            .apply(&self.config.layout, options, &holders)
            .map_err(|error| error.to_string())
    }

    /// The status, with what differs from the layout by now.
    pub(crate) fn compare(&mut self, inventory: &Inventory) -> PartitionStatus {
        if self.status.done {
            let differences = partition::assert(inventory, &self.config.layout);
            let text = differences
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ");
            self.status.message = (!differences.is_empty()).then_some(text);
        }
        self.status()
    }
}

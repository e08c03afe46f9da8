//! One place's fault, from its report until it is over and forgotten.

use std::collections::BTreeSet;
use std::time::Instant;

use mig::Profile;
use nvml::{Gpu, Inventory};

use crate::{Fault, Location, Recovery};

/// What is remembered of one place.
#[derive(Debug, Clone)]
pub(super) struct Case {
    /// `None` after it was found to be gone; the case is kept for a while, to know a relapse.
    pub(super) fault: Option<Fault>,
    relapses: u32,
    /// When to look again; for a case without a fault, when to forget it.
    pub(super) due: Instant,
    /// Until when a fault that needs a reset stays, as long as no reset is seen.
    held: Option<Instant>,
    /// The GPU's instances at the first look after the fault.
    instances: Option<Instances>,
}

/// GPU instances by id and profile: ids are used again.
type Instances = BTreeSet<(u32, Profile)>;

impl Case {
    /// One for a fault that was reported just now, after what was `known` of the place.
    pub(super) fn open(
        known: Option<Self>,
        fault: Fault,
        recovery: Recovery,
        now: Instant,
    ) -> Self {
        let relapses = match &known {
            None => 0,
            Some(case) if case.fault.is_some() => case.relapses,
            Some(case) => case.relapses.saturating_add(1),
        };
        // Lesser faults come in the wake of one that needs a reset, and do not put an end to it.
        let graver = known
            .filter(|case| case.held.is_some() && !fault.needs_reset())
            .and_then(|case| case.fault);
        let fault = graver.unwrap_or(fault);
        Self {
            fault: Some(fault),
            relapses,
            due: now + recovery.wait(relapses),
            held: fault.needs_reset().then(|| now + recovery.longest),
            instances: None,
        }
    }

    /// Whether none of the instances that the GPU had is left.
    fn is_rebuilt(&mut self, gpu: &Gpu) -> bool {
        if !gpu.instances_complete {
            return false;
        }
        let now: Instances = gpu
            .instances
            .iter()
            .map(|instance| (instance.id, instance.profile))
            .collect();
        let before = self.instances.get_or_insert_with(|| now.clone());
        !before.is_empty() && before.is_disjoint(&now)
    }

    /// False when the case can be forgotten.
    pub(super) fn look(
        &mut self,
        at: &Location,
        inventory: &Inventory,
        recovery: Recovery,
        now: Instant,
    ) -> bool {
        if self.fault.is_none() {
            return now < self.due;
        }
        match inventory.gpu(&at.gpu) {
            None => {
                self.held = None;
                if now >= self.due {
                    self.relapses = self.relapses.saturating_add(1);
                    self.due = now + recovery.wait(self.relapses);
                } else {
                    self.due = self.due.min(now + recovery.wait(self.relapses));
                }
            }
            Some(gpu) => {
                if self.held.is_some() && self.is_rebuilt(gpu) {
                    self.held = None;
                    self.due = self.due.min(now + recovery.wait(self.relapses));
                }
                if now < self.due {
                    return true;
                }
                if let Some(held) = self.held.filter(|held| now < *held) {
                    self.due = held;
                } else {
                    self.fault = None;
                    self.held = None;
                    self.due = now + recovery.longest;
                }
            }
        }
        true
    }
}

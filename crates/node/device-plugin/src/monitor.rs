//! From driver events to health, and back to health when the fault is gone.

mod case;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nvml::{Event, Inventory};

use self::case::Case;
use crate::{Fault, Health, HealthChecks, Location};

/// When a faulty device is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// How long after a first fault.
    pub first: Duration,
    /// The longest wait: it doubles each time that a device does not answer or fails again. It is also how long a
    /// fault that needs a reset stays when no reset is seen.
    pub longest: Duration,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(30),
            longest: Duration::from_mins(30),
        }
    }
}

impl Recovery {
    fn wait(&self, relapses: u32) -> Duration {
        self.first
            .saturating_mul(1_u32.checked_shl(relapses).unwrap_or(u32::MAX))
            .min(self.longest)
    }
}

/// Keeps track of the faults of a node's devices.
///
/// A fault is keyed by GPU, GPU instance and compute instance. It is over when its instance is gone, or when a
/// later look at the GPU finds that it answers and nothing new was reported meanwhile. A device that fails again
/// after that waits twice as long the next time.
///
/// For a fault after which NVIDIA has the GPU reset ([`Fault::needs_reset`]) silence is not enough. It stays until
/// the GPU was away and came back, or until all the instances that it had were replaced, which a driver that still
/// needs the reset does not manage. A reset may go unseen, so it also ends after [`Recovery::longest`].
///
/// Pure: time and snapshots are given to it.
#[derive(Debug, Clone)]
pub struct Monitor {
    checks: HealthChecks,
    recovery: Recovery,
    cases: BTreeMap<Location, Case>,
}

impl Monitor {
    /// One that knows of no fault.
    #[must_use]
    pub fn new(checks: HealthChecks, recovery: Recovery) -> Self {
        Self {
            checks,
            recovery,
            cases: BTreeMap::new(),
        }
    }

    /// Takes in what the driver reported.
    pub fn observe(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Xid {
                gpu,
                xid,
                gpu_instance,
                compute_instance,
            } if self.checks.counts(*xid) => {
                let at = Location {
                    gpu: gpu.clone(),
                    gpu_instance: *gpu_instance,
                    compute_instance: *compute_instance,
                };
                self.fail(at, Fault::Xid(*xid), now);
            }
            Event::EccDouble {
                gpu,
                gpu_instance,
                compute_instance,
            } if self.checks.counts_memory_errors() => {
                let at = Location {
                    gpu: gpu.clone(),
                    gpu_instance: *gpu_instance,
                    compute_instance: *compute_instance,
                };
                self.fail(at, Fault::UncorrectableMemoryError, now);
            }
            // A corrected error has harmed nobody; the others are no faults.
            _ => {}
        }
    }

    fn fail(&mut self, at: Location, fault: Fault, now: Instant) {
        let case = Case::open(self.cases.remove(&at), fault, self.recovery, now);
        self.cases.insert(at, case);
    }

    /// When a new snapshot is next wanted for [`Monitor::look`]; `None` while there is no fault.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.cases
            .values()
            .filter(|case| case.fault.is_some())
            .map(|case| case.due)
            .min()
    }

    /// Takes in a snapshot: instances that are gone take their faults with them, and faults whose wait is over
    /// are over if the GPU answers and no reset is missing.
    pub fn look(&mut self, inventory: &Inventory, now: Instant) {
        let recovery = self.recovery;
        self.cases
            .retain(|at, case| !is_gone(at, inventory) && case.look(at, inventory, recovery, now));
    }

    /// The faults that are not over.
    #[must_use]
    pub fn health(&self) -> Health {
        self.cases
            .iter()
            .filter_map(|(at, case)| Some((at.clone(), case.fault?)))
            .collect()
    }
}

/// Whether the instance at `at` was destroyed; a GPU that does not answer keeps its own.
fn is_gone(at: &Location, inventory: &Inventory) -> bool {
    let Some(gpu) = inventory.gpu(&at.gpu) else {
        return false;
    };
    let Some(id) = at.gpu_instance.filter(|_| gpu.instances_complete) else {
        return false;
    };
    let Some(instance) = gpu.instance(id) else {
        return true;
    };
    let has = |id| {
        instance
            .compute_instances
            .iter()
            .any(|compute| compute.id == id)
    };
    at.compute_instance.is_some_and(|id| !has(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{a100, inventory};
    use nvml::GpuUuid;

    const FIRST: Duration = Duration::from_secs(10);

    struct Node {
        monitor: Monitor,
        inventory: Inventory,
        start: Instant,
    }

    impl Node {
        fn new() -> Self {
            let recovery = Recovery {
                first: FIRST,
                longest: FIRST * 6,
            };
            Self {
                monitor: Monitor::new(HealthChecks::default(), recovery),
                inventory: inventory(vec![a100(0, 7), a100(1, 7)]),
                start: Instant::now(),
            }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn xid(&mut self, seconds: u64, xid: u64) {
            let now = self.at(seconds);
            let (gpu_instance, compute_instance) = (Some(7), Some(0));
            let event = Event::Xid {
                gpu: gpu(),
                xid,
                gpu_instance,
                compute_instance,
            };
            self.monitor.observe(&event, now);
        }

        fn look(&mut self, seconds: u64) {
            let now = self.at(seconds);
            self.monitor.look(&self.inventory, now);
        }

        fn faults(&self) -> usize {
            self.monitor.health().faults().count()
        }
    }

    fn gpu() -> GpuUuid {
        "GPU-0".parse().unwrap()
    }

    #[test]
    fn an_xid_marks_its_slice_and_is_over_when_nothing_new_happens() {
        let mut node = Node::new();
        node.xid(0, 94);
        let health = node.monitor.health();
        assert_eq!(
            health.fault(&Location::slice(gpu(), 7, 0)),
            Some(Fault::Xid(94))
        );
        assert_eq!(health.fault(&Location::slice(gpu(), 8, 0)), None);
        assert_eq!(node.monitor.due(), Some(node.at(10)));
        node.look(9);
        assert_eq!(node.faults(), 1);
        node.look(10);
        assert_eq!(node.faults(), 0);
        assert_eq!(node.monitor.due(), None);
    }

    #[test]
    fn an_application_error_marks_nothing() {
        let mut node = Node::new();
        node.xid(0, 13);
        assert_eq!(node.faults(), 0);
    }

    #[test]
    fn a_new_xid_starts_the_wait_again() {
        let mut node = Node::new();
        node.xid(0, 94);
        node.xid(8, 94);
        node.look(10);
        assert_eq!(node.faults(), 1);
        node.look(18);
        assert_eq!(node.faults(), 0);
    }

    #[test]
    fn a_relapse_waits_longer_up_to_a_limit() {
        let mut node = Node::new();
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..5 {
            node.xid(now, 94);
            let due = node.monitor.due().unwrap();
            waits.push((due - node.at(now)).as_secs());
            now = (due - node.start).as_secs();
            node.look(now);
            assert_eq!(node.faults(), 0);
        }
        assert_eq!(waits, [10, 20, 40, 60, 60]);
    }

    #[test]
    fn an_old_fault_is_forgotten() {
        let mut node = Node::new();
        node.xid(0, 94);
        node.look(10);
        node.look(70);
        node.xid(80, 94);
        assert_eq!(node.monitor.due(), Some(node.at(90)));
    }

    #[test]
    fn a_gpu_that_does_not_answer_stays_faulty_and_is_asked_less_and_less() {
        let mut node = Node::new();
        node.xid(0, 79);
        let answering = std::mem::replace(&mut node.inventory, inventory(vec![a100(1, 7)]));
        node.look(10);
        assert_eq!((node.faults(), node.monitor.due()), (1, Some(node.at(30))));
        node.look(30);
        assert_eq!((node.faults(), node.monitor.due()), (1, Some(node.at(70))));
        node.inventory = answering;
        node.look(70);
        assert_eq!(node.faults(), 0);
    }

    #[test]
    fn a_fault_that_needs_a_reset_does_not_end_by_silence_before_the_longest_wait() {
        let mut node = Node::new();
        node.xid(0, 48);
        for seconds in [10, 30, 59] {
            node.look(seconds);
            assert_eq!(node.faults(), 1, "after {seconds} s");
        }
        assert_eq!(node.monitor.due(), Some(node.at(60)));
        node.look(60);
        assert_eq!(node.faults(), 0);
    }

    #[test]
    fn a_fault_that_needs_a_reset_is_over_when_the_gpu_was_away_and_came_back() {
        let mut node = Node::new();
        node.xid(0, 95);
        node.look(10);
        let answering = std::mem::replace(&mut node.inventory, inventory(vec![a100(1, 7)]));
        node.look(20);
        assert_eq!((node.faults(), node.monitor.due()), (1, Some(node.at(30))));
        node.inventory = answering;
        node.look(29);
        assert_eq!(node.faults(), 1);
        node.look(30);
        assert_eq!(node.faults(), 0);
    }

    #[test]
    fn a_fault_of_a_gpu_that_needs_a_reset_is_over_when_all_its_instances_were_replaced() {
        let mut node = Node::new();
        let event = Event::Xid {
            gpu: gpu(),
            xid: 119,
            gpu_instance: None,
            compute_instance: None,
        };
        node.monitor.observe(&event, node.start);
        node.look(10);
        node.inventory.gpus[0].instances.truncate(1);
        node.look(20);
        assert_eq!(node.faults(), 1);
        node.inventory.gpus[0].instances.clear();
        node.look(21);
        assert_eq!((node.faults(), node.monitor.due()), (1, Some(node.at(31))));
        node.look(31);
        assert_eq!(node.faults(), 0);
    }

    #[test]
    fn a_lesser_fault_does_not_shorten_one_that_needs_a_reset() {
        let mut node = Node::new();
        node.xid(0, 48);
        node.xid(1, 94);
        node.look(11);
        let slice = Location::slice(gpu(), 7, 0);
        assert_eq!(node.monitor.health().fault(&slice), Some(Fault::Xid(48)));
        node.look(61);
        assert_eq!(node.faults(), 0);
    }

    #[test]
    fn a_destroyed_instance_takes_its_fault_with_it() {
        let mut node = Node::new();
        node.xid(0, 48);
        node.inventory.gpus[0].instances.remove(0);
        node.look(1);
        assert_eq!(node.faults(), 0);
    }

    #[test]
    fn an_uncorrectable_memory_error_is_a_fault_and_a_corrected_one_is_not() {
        let mut node = Node::new();
        let (gpu_instance, compute_instance) = (None, None);
        let single = Event::EccSingle {
            gpu: gpu(),
            gpu_instance,
            compute_instance,
        };
        node.monitor.observe(&single, node.start);
        assert_eq!(node.faults(), 0);
        let double = Event::EccDouble {
            gpu: gpu(),
            gpu_instance,
            compute_instance,
        };
        node.monitor.observe(&double, node.start);
        let health = node.monitor.health();
        let slice = Location::slice(gpu(), 8, 0);
        assert_eq!(health.fault(&slice), Some(Fault::UncorrectableMemoryError));
    }
}

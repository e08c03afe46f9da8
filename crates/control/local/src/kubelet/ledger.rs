//! The book of one node's devices: what the plugins advertise, and which container holds what.
//!
//! Pure. A device id is given to one container at a time, under whatever resource name it is
//! advertised: a slice that was `nvidia.com/gpu` yesterday and is `nvidia.com/mig-1g.5gb` today is
//! still the same slice.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A container that holds devices.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// The pod's unique id.
    pub pod_uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container's name.
    pub container: String,
}

/// Devices of one resource in the hands of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// Who holds them.
    pub holder: Holder,
    /// The resource they were asked for as, such as `nvidia.com/gpu`.
    pub resource: String,
    /// Their ids.
    pub devices: Vec<String>,
}

/// A device as its plugin advertises it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id, unique on the node.
    pub id: String,
    /// Whether it can be given.
    pub healthy: bool,
    /// The NUMA nodes that it is near.
    pub numa_nodes: Vec<i64>,
}

/// Why devices were not given; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Another container holds the device.
    #[error("device {device} is held by container {} of pod {}/{}", holder.container, holder.namespace, holder.pod)]
    Held {
        /// The device.
        device: String,
        /// Who holds it.
        holder: Holder,
    },
    /// The device is not advertised as this resource, or is unhealthy.
    #[error("device {device} is not a healthy device of resource {resource}")]
    Unavailable {
        /// The device.
        device: String,
        /// The resource.
        resource: String,
    },
    /// The same device was named twice.
    #[error("device {device} was asked for twice")]
    Twice {
        /// The device.
        device: String,
    },
}

/// The devices of a node and who holds them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceLedger {
    advertised: BTreeMap<String, BTreeMap<String, Device>>,
    held: BTreeMap<String, (Holder, String)>,
}

impl DeviceLedger {
    /// A book that knows who holds what, before any plugin has said what there is.
    ///
    /// # Errors
    /// [`LedgerError::Held`] when the same device is in two assignments.
    pub fn restore(assignments: &[Assignment]) -> Result<Self, LedgerError> {
        let mut ledger = Self::default();
        for assignment in assignments {
            ledger.check_free(&assignment.devices)?;
            ledger.enter(assignment);
        }
        Ok(ledger)
    }

    /// The plugin of `resource` has sent its whole list; the last one is forgotten. What is held
    /// stays held, also when it is not in the list any more.
    pub fn advertise(&mut self, resource: &str, devices: Vec<Device>) {
        let devices = devices
            .into_iter()
            .map(|device| (device.id.clone(), device))
            .collect();
        self.advertised.insert(resource.to_owned(), devices);
    }

    /// The plugin of `resource` is gone: its devices count, but none can be given.
    pub fn stream_ended(&mut self, resource: &str) {
        for device in self.advertised.get_mut(resource).into_iter().flatten() {
            device.1.healthy = false;
        }
    }

    /// The plugin of `resource` has not come back: the resource stays, at 0.
    pub fn grace_over(&mut self, resource: &str) {
        if let Some(devices) = self.advertised.get_mut(resource) {
            devices.clear();
        }
    }

    /// How many devices each resource has.
    #[must_use]
    pub fn capacity(&self) -> BTreeMap<String, u64> {
        self.count(|_| true)
    }

    /// How many healthy devices each resource has, held ones too.
    #[must_use]
    pub fn allocatable(&self) -> BTreeMap<String, u64> {
        self.count(|device| device.healthy)
    }

    /// How many devices of each resource could be given now.
    #[must_use]
    pub fn free(&self) -> BTreeMap<String, u64> {
        self.count(|device| self.can_be_given(device))
    }

    /// The devices of a resource that could be given now, in order of id.
    #[must_use]
    pub fn candidates(&self, resource: &str) -> Vec<String> {
        let devices = self
            .advertised
            .get(resource)
            .into_iter()
            .flat_map(BTreeMap::values);
        devices
            .filter(|device| self.can_be_given(device))
            .map(|device| device.id.clone())
            .collect()
    }

    /// Every device of every resource.
    pub fn devices(&self) -> impl Iterator<Item = (&str, &Device)> {
        self.advertised.iter().flat_map(|(resource, devices)| {
            devices
                .values()
                .map(move |device| (resource.as_str(), device))
        })
    }

    /// Who holds a device.
    #[must_use]
    pub fn holder(&self, device: &str) -> Option<&Holder> {
        self.held.get(device).map(|(holder, _)| holder)
    }

    /// Enters assignments, all or none.
    ///
    /// # Errors
    /// When a device is held, not advertised as its resource, unhealthy, or named twice.
    pub fn hold(&mut self, assignments: &[Assignment]) -> Result<(), LedgerError> {
        let mut seen = BTreeSet::new();
        for assignment in assignments {
            self.check_free(&assignment.devices)?;
            let advertised = self.advertised.get(&assignment.resource);
            for device in &assignment.devices {
                if !seen.insert(device) {
                    return Err(LedgerError::Twice {
                        device: device.clone(),
                    });
                }
                let known = advertised.and_then(|devices| devices.get(device));
                if !known.is_some_and(|device| device.healthy) {
                    return Err(LedgerError::Unavailable {
                        device: device.clone(),
                        resource: assignment.resource.clone(),
                    });
                }
            }
        }
        for assignment in assignments {
            self.enter(assignment);
        }
        Ok(())
    }

    /// Takes back whatever a pod holds.
    pub fn release(&mut self, pod_uid: &str) {
        self.held.retain(|_, (holder, _)| holder.pod_uid != pod_uid);
    }

    /// All that is held, by holder and resource.
    #[must_use]
    pub fn assignments(&self) -> Vec<Assignment> {
        let mut by_holder: BTreeMap<(&Holder, &str), Vec<String>> = BTreeMap::new();
        for (device, (holder, resource)) in &self.held {
            by_holder
                .entry((holder, resource))
                .or_default()
                .push(device.clone());
        }
        by_holder
            .into_iter()
            .map(|((holder, resource), devices)| Assignment {
                holder: holder.clone(),
                resource: resource.to_owned(),
                devices,
            })
            .collect()
    }

    fn can_be_given(&self, device: &Device) -> bool {
        device.healthy && !self.held.contains_key(&device.id)
    }

    fn count(&self, counts: impl Fn(&Device) -> bool) -> BTreeMap<String, u64> {
        let count = |devices: &BTreeMap<String, Device>| {
            devices.values().filter(|device| counts(device)).count() as u64
        };
        self.advertised
            .iter()
            .map(|(name, devices)| (name.clone(), count(devices)))
            .collect()
    }

    fn check_free(&self, devices: &[String]) -> Result<(), LedgerError> {
        for device in devices {
            if let Some(holder) = self.holder(device) {
                return Err(LedgerError::Held {
                    device: device.clone(),
                    holder: holder.clone(),
                });
            }
        }
        Ok(())
    }

    fn enter(&mut self, assignment: &Assignment) {
        for device in &assignment.devices {
            let entry = (assignment.holder.clone(), assignment.resource.clone());
            self.held.insert(device.clone(), entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holder(pod: usize) -> Holder {
        Holder {
            pod_uid: format!("uid-{pod}"),
            namespace: "default".to_owned(),
            pod: format!("pod-{pod}"),
            container: "main".to_owned(),
        }
    }

    fn devices(ids: impl IntoIterator<Item = usize>, healthy: bool) -> Vec<Device> {
        ids.into_iter()
            .map(|id| Device {
                id: format!("MIG-{id}"),
                healthy,
                numa_nodes: vec![],
            })
            .collect()
    }

    fn assignment(pod: usize, resource: &str, ids: &[usize]) -> Assignment {
        Assignment {
            holder: holder(pod),
            resource: resource.to_owned(),
            devices: ids.iter().map(|id| format!("MIG-{id}")).collect(),
        }
    }

    #[test]
    fn a_slice_renamed_by_another_strategy_is_still_held() {
        let mut ledger = DeviceLedger::default();
        ledger.advertise("nvidia.com/gpu", devices(0..1, true));
        ledger
            .hold(&[assignment(1, "nvidia.com/gpu", &[0])])
            .expect("free");
        ledger.advertise("nvidia.com/gpu", vec![]);
        ledger.advertise("nvidia.com/mig-1g.5gb", devices(0..1, true));
        assert!(ledger.candidates("nvidia.com/mig-1g.5gb").is_empty());
        let again = ledger.hold(&[assignment(2, "nvidia.com/mig-1g.5gb", &[0])]);
        assert!(matches!(again, Err(LedgerError::Held { .. })), "{again:?}");
    }

    #[test]
    fn a_lost_plugin_keeps_capacity_and_gives_nothing_until_its_grace_is_over() {
        let mut ledger = DeviceLedger::default();
        ledger.advertise("nvidia.com/gpu", devices(0..8, true));
        ledger.stream_ended("nvidia.com/gpu");
        assert_eq!(ledger.capacity()["nvidia.com/gpu"], 8);
        assert_eq!(ledger.allocatable()["nvidia.com/gpu"], 0);
        assert!(
            ledger
                .hold(&[assignment(1, "nvidia.com/gpu", &[0])])
                .is_err()
        );
        ledger.grace_over("nvidia.com/gpu");
        assert_eq!(ledger.capacity()["nvidia.com/gpu"], 0);
    }

    #[test]
    fn a_refused_assignment_leaves_nothing_behind() {
        let mut ledger = DeviceLedger::default();
        ledger.advertise("nvidia.com/gpu", devices(0..2, true));
        let before = ledger.clone();
        let good = assignment(1, "nvidia.com/gpu", &[0]);
        assert!(
            ledger
                .hold(&[good.clone(), assignment(1, "nvidia.com/gpu", &[7])])
                .is_err()
        );
        assert!(ledger.hold(&[good.clone(), good]).is_err());
        assert_eq!(ledger, before);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Advertise {
            resource: usize,
            ids: BTreeSet<usize>,
            healthy: bool,
        },
        StreamEnded(usize),
        GraceOver(usize),
        Hold {
            pod: usize,
            resource: usize,
            ids: Vec<usize>,
        },
        Release(usize),
        /// The process was killed: all that is left is what had been written down.
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        let resource = 0..2_usize;
        prop_oneof![
            (
                resource.clone(),
                prop::collection::btree_set(0..8_usize, 0..8),
                any::<bool>()
            )
                .prop_map(|(resource, ids, healthy)| Step::Advertise {
                    resource,
                    ids,
                    healthy
                }),
            resource.clone().prop_map(Step::StreamEnded),
            resource.clone().prop_map(Step::GraceOver),
            (
                0..5_usize,
                resource,
                prop::collection::vec(0..8_usize, 1..4)
            )
                .prop_map(|(pod, resource, ids)| Step::Hold { pod, resource, ids }),
            (0..5_usize).prop_map(Step::Release),
            Just(Step::Restart),
        ]
    }

    proptest! {
        #[test]
        fn a_device_is_never_in_two_hands_and_never_leaves_a_hand_but_by_release(
            steps in prop::collection::vec(step(), 1..60),
        ) {
            const RESOURCES: [&str; 2] = ["nvidia.com/gpu", "nvidia.com/mig-1g.5gb"];
            let mut ledger = DeviceLedger::default();
            let mut model: BTreeMap<String, usize> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Advertise { resource, ids, healthy } => {
                        ledger.advertise(RESOURCES[resource], devices(ids, healthy));
                    }
                    Step::StreamEnded(resource) => ledger.stream_ended(RESOURCES[resource]),
                    Step::GraceOver(resource) => ledger.grace_over(RESOURCES[resource]),
                    Step::Hold { pod, resource, ids } => {
                        let wanted = assignment(pod, RESOURCES[resource], &ids);
                        if ledger.hold(std::slice::from_ref(&wanted)).is_ok() {
                            for device in wanted.devices {
                                let other = model.insert(device, pod);
                                prop_assert_eq!(other, None, "given twice");
                            }
                        }
                    }
                    Step::Release(pod) => {
                        ledger.release(&format!("uid-{pod}"));
                        model.retain(|_, holder| *holder != pod);
                    }
                    Step::Restart => {
                        ledger = DeviceLedger::restore(&ledger.assignments()).expect("consistent");
                    }
                }
                let held: BTreeMap<String, usize> = ledger
                    .assignments()
                    .into_iter()
                    .flat_map(|a| a.devices.into_iter().map(move |d| (d, a.holder.clone())))
                    .map(|(d, h)| (d, h.pod_uid["uid-".len()..].parse().expect("number")))
                    .collect();
                prop_assert_eq!(&held, &model);
                for resource in RESOURCES {
                    for candidate in ledger.candidates(resource) {
                        prop_assert!(!model.contains_key(&candidate));
                    }
                }
            }
        }
    }
}

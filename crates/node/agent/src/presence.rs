//! Which GPUs went away, and came back without what was on them.

use std::collections::{BTreeMap, BTreeSet};

use mig::{Placement, Profile};
use nvml::{Gpu, GpuUuid, Inventory};

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

/// What is remembered of the GPUs from look to look.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    /// What is on the GPUs, or was when they last answered.
    known: BTreeMap<GpuUuid, Partitions>,
    /// Those of them that have not answered since.
    away: BTreeSet<GpuUuid>,
}

impl Presence {
    /// None of them was there for a moment, or for longer.
    pub(crate) fn interrupted(&mut self) {
        self.away.extend(self.known.keys().cloned());
    }

    /// The GPUs that were away and are back with other partitions than before.
    pub(crate) fn returned(&mut self, inventory: &Inventory) -> BTreeSet<u32> {
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

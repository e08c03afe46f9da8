//! Inventories made of others.

use std::path::PathBuf;
use std::sync::Arc;

use nvml::{CudaVersion, FailedGpu, Gpu, Inventory};

/// A node without GPUs, which is what there is until there is more.
pub(crate) fn nothing() -> Inventory {
    Inventory {
        driver_root: PathBuf::new(),
        driver_version: String::new(),
        nvml_version: String::new(),
        cuda_version: CudaVersion::default(),
        gpus: Vec::new(),
        failed: Vec::new(),
    }
}

/// The same GPUs, none of which answers.
pub(crate) fn unanswering(inventory: &Inventory, reason: &str) -> Inventory {
    let mut failed = inventory.failed.clone();
    failed.extend(inventory.gpus.iter().map(|gpu| FailedGpu {
        index: gpu.index,
        uuid: Some(gpu.uuid.clone()),
        reason: reason.to_owned(),
    }));
    failed.sort_by_key(|gpu| gpu.index);
    Inventory {
        gpus: Vec::new(),
        failed,
        ..inventory.clone()
    }
}

/// Names the GPUs that fail by what was at their index before: a driver that was loaded anew can't tell.
pub(crate) fn with_known_uuids(inventory: &mut Inventory, before: &Inventory) {
    for at in 0..inventory.failed.len() {
        let Some(failed) = inventory.failed.get(at).filter(|gpu| gpu.uuid.is_none()) else {
            continue;
        };
        let answered = before.gpu_at(failed.index).map(|gpu| &gpu.uuid);
        let known = answered.or_else(|| {
            let mut failed_before = before.failed.iter();
            let same = failed_before.find(|gpu| gpu.index == failed.index)?;
            same.uuid.as_ref()
        });
        let is_elsewhere = |uuid| {
            inventory.gpu(uuid).is_some()
                || inventory
                    .failed
                    .iter()
                    .any(|gpu| gpu.uuid.as_ref() == Some(uuid))
        };
        let uuid = known.filter(|uuid| !is_elsewhere(uuid)).cloned();
        if let Some(failed) = inventory.failed.get_mut(at) {
            failed.uuid = uuid;
        }
    }
}

/// The inventory without some GPUs.
pub(crate) fn without(
    inventory: &Arc<Inventory>,
    left_out: impl Fn(&Gpu) -> bool,
) -> Arc<Inventory> {
    if !inventory.gpus.iter().any(&left_out) {
        return Arc::clone(inventory);
    }
    let mut inventory = Inventory::clone(inventory);
    inventory.gpus.retain(|gpu| !left_out(gpu));
    Arc::new(inventory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(index: u32, uuid: Option<&str>) -> FailedGpu {
        FailedGpu {
            index,
            uuid: uuid.map(|uuid| uuid.parse().unwrap()),
            reason: "lost".to_owned(),
        }
    }

    fn of(failed: Vec<FailedGpu>) -> Inventory {
        Inventory {
            failed,
            ..nothing()
        }
    }

    #[test]
    fn a_failed_gpu_keeps_the_name_that_it_had_unless_it_is_elsewhere() {
        let before = of(vec![failed(0, Some("GPU-a")), failed(1, Some("GPU-b"))]);
        let mut after = of(vec![failed(0, None), failed(1, None)]);
        with_known_uuids(&mut after, &before);
        assert_eq!(after, before);

        let mut moved = of(vec![failed(0, Some("GPU-b")), failed(1, None)]);
        with_known_uuids(&mut moved, &before);
        assert_eq!(moved.failed[1].uuid, None);
    }
}

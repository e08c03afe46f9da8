//! GPUs, and who holds what of them.

use gpu_node::{GpuStatus, Holder, SliceStatus};
use mig::LayoutSpec;
use nvml::{FailedGpu, Gpu, Inventory, MigDeviceEntry};
use partition::ExportError;

use super::clipped;
use crate::holders::Holders;
use crate::inventories::nothing;
use crate::{FaultStatus, Status};

/// A GPU that answers.
pub(super) fn of_gpu(status: &Status, gpu: &Gpu, holders: &Holders) -> GpuStatus {
    let uuid = gpu.uuid.to_string();
    let faults: Vec<&FaultStatus> = status.faults.iter().filter(|it| it.gpu == uuid).collect();
    let is_whole = |fault: &&&FaultStatus| fault.gpu_instance.is_none();
    let said: Vec<_> = faults.iter().map(|fault| in_words(fault)).collect();
    let can_mig = gpu.mig.is_some();
    let of_board = |number: u8| if can_mig { number } else { 0 };
    let mut slices: Vec<_> = gpu
        .mig_devices()
        .map(|entry| of_slice(&entry, &faults, holders))
        .collect();
    slices.sort_by_key(|slice| (slice.start, slice.compute_instance));
    let layout = layout_of(gpu).filter(|_| can_mig);
    GpuStatus {
        index: gpu.index,
        holder: holder(holders, &uuid),
        uuid,
        product: gpu.name.clone(),
        board: if can_mig {
            gpu.board.name.clone()
        } else {
            String::new()
        },
        memory_mib: gpu.memory_mib,
        memory_units: of_board(gpu.board.memory_units),
        compute_slices: of_board(gpu.board.compute_slices),
        mig_capable: can_mig,
        mig_enabled: gpu.mig_enabled(),
        healthy: !faults.iter().any(|fault| is_whole(&fault)),
        fault: clipped(&said.join("; ")),
        layout: layout.map(|layout| layout.to_string()).unwrap_or_default(),
        slices,
    }
}

fn of_slice(entry: &MigDeviceEntry<'_>, faults: &[&FaultStatus], holders: &Holders) -> SliceStatus {
    let uuid = entry.device.uuid.to_string();
    let (gpu_instance, compute_instance) = (entry.gpu_instance.id, entry.compute_instance.id);
    let is_faulty = faults.iter().any(|fault| {
        fault.gpu_instance.is_none_or(|at| at == gpu_instance)
            && fault
                .compute_instance
                .is_none_or(|at| at == compute_instance)
    });
    SliceStatus {
        holder: holder(holders, &uuid),
        uuid,
        profile: entry.device.profile.to_string(),
        gpu_instance,
        compute_instance,
        start: entry.gpu_instance.placement.start(),
        size: entry.gpu_instance.placement.size(),
        memory_mib: entry.device.memory_mib,
        healthy: !is_faulty,
    }
}

/// One that does not.
pub(super) fn of_failed(gpu: &FailedGpu) -> GpuStatus {
    GpuStatus {
        index: gpu.index,
        uuid: gpu
            .uuid
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        healthy: false,
        fault: clipped(&gpu.reason),
        ..GpuStatus::default()
    }
}

fn in_words(fault: &FaultStatus) -> String {
    let part = match (fault.gpu_instance, fault.compute_instance) {
        (Some(gi), Some(ci)) => format!("GPU instance {gi} compute instance {ci}: "),
        (Some(gi), None) => format!("GPU instance {gi}: "),
        _ => String::new(),
    };
    match fault.meaning {
        Some(meaning) => format!("{part}{} ({meaning})", fault.fault),
        None => format!("{part}{}", fault.fault),
    }
}

fn holder(holders: &Holders, uuid: &str) -> Option<Holder> {
    let (pod, container) = holders.of_device(uuid)?;
    Some(Holder {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        container: container.to_owned(),
    })
}

/// The layout of one GPU as it is; where that cannot be said, the one with the same MIG devices.
pub(super) fn layout_of(gpu: &Gpu) -> Option<LayoutSpec> {
    let alone = Inventory {
        gpus: vec![gpu.clone()],
        ..nothing()
    };
    match partition::export(&alone) {
        Ok(layout) => layout.for_gpu(gpu.index).cloned(),
        Err(ExportError::NotExpressible { nearest, .. }) => Some(nearest),
        Err(ExportError::NoGpu) => None,
    }
}

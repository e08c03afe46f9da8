//! Inventories made by hand.

use std::sync::Arc;

use mig::{Board, Placement, Profile};
use nvml::{ComputeInstance, CudaVersion, FailedGpu, Gpu, GpuInstance, Inventory, MigMode};

pub(crate) fn board() -> &'static Board {
    mig::board("A100-40GB").unwrap()
}

pub(crate) fn inventory(gpus: Vec<Gpu>) -> Inventory {
    Inventory {
        driver_root: "/".into(),
        driver_version: "580.159.04".to_owned(),
        nvml_version: "13.580.159.04".to_owned(),
        cuda_version: CudaVersion {
            major: 13,
            minor: 0,
        },
        gpus,
        failed: vec![],
    }
}

pub(crate) fn failed(index: u32) -> FailedGpu {
    FailedGpu {
        index,
        uuid: None,
        reason: "GPU is lost (NVML_ERROR_GPU_IS_LOST, 15)".to_owned(),
    }
}

/// An A100 40GB in MIG mode.
pub(crate) fn a100(index: u32, instances: Vec<GpuInstance>) -> Gpu {
    let board = board();
    Gpu {
        index,
        uuid: format!("GPU-{index}").parse().unwrap(),
        name: board.product_name.clone(),
        serial: None,
        pci_bus_id: format!("00000000:{index:02X}:00.0"),
        pci_device_id: 0x20B0_10DE,
        pci_class: Some(0x0302),
        minor: index,
        memory_mib: board.memory_mib,
        compute_capability: board.compute_capability,
        mig: Some(MigMode {
            current: true,
            pending: true,
        }),
        board: Arc::new(board.clone()),
        instances_complete: true,
        instances,
    }
}

/// The same with another MIG mode.
pub(crate) fn in_mode(gpu: Gpu, current: bool, pending: bool) -> Gpu {
    Gpu {
        mig: Some(MigMode { current, pending }),
        ..gpu
    }
}

/// A GPU instance with compute instances given as slices and start.
pub(crate) fn instance(id: u32, profile: &str, start: u8, compute: &[(u8, u8)]) -> GpuInstance {
    let profile: Profile = profile.parse().unwrap();
    let known = board().profile(profile).unwrap();
    GpuInstance {
        id,
        profile,
        profile_id: known.id,
        placement: Placement::new(known, start).unwrap(),
        capability_minor: None,
        compute_instances: (0..)
            .zip(compute)
            .map(|(id, (slices, start))| ComputeInstance {
                id,
                profile_id: u32::from(*slices) - 1,
                slices: *slices,
                placement: Placement::from_driver(*start, *slices),
                capability_minor: None,
                device: None,
            })
            .collect(),
    }
}

/// A GPU instance with one compute instance of its size.
pub(crate) fn whole(id: u32, profile: &str, start: u8) -> GpuInstance {
    let slices = profile.parse::<Profile>().unwrap().slices();
    instance(id, profile, start, &[(slices, 0)])
}

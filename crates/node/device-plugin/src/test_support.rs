//! Inventories for tests, built by hand: no driver needed.

#[path = "../tests/it/elf.rs"]
pub(crate) mod elf;

use std::sync::Arc;

use mig::{MigProfile, Placement, board};
use nvml::{ComputeInstance, CudaVersion, Gpu, GpuInstance, Inventory, MigDevice, MigMode};

/// An A100 with so many slices of 1g.5gb; none is an A100 whose MIG mode is off.
pub(crate) fn a100(index: u32, slices: u32) -> Gpu {
    let mut gpu = gpu(index, &vec!["1g.5gb"; slices as usize]);
    gpu.mig = Some(MigMode {
        current: slices > 0,
        pending: slices > 0,
    });
    gpu
}

/// An A100 in MIG mode with a slice of each of these profiles.
pub(crate) fn gpu(index: u32, profiles: &[&str]) -> Gpu {
    let board = board("A100-40GB").unwrap();
    Gpu {
        index,
        uuid: format!("GPU-{index}").parse().unwrap(),
        name: board.product_name.clone(),
        serial: None,
        pci_bus_id: format!("00000000:0{index}:00.0"),
        pci_device_id: 0x20B0_10DE,
        pci_class: Some(0x0302),
        minor: index,
        memory_mib: 40960,
        compute_capability: (8, 0),
        mig: Some(MigMode {
            current: true,
            pending: true,
        }),
        board: Arc::new(board.clone()),
        instances_complete: true,
        instances: profiles
            .iter()
            .zip(0..)
            .map(|(profile, n)| instance(index, n, profile.parse().unwrap()))
            .collect(),
    }
}

fn instance(gpu: u32, n: u32, profile: MigProfile) -> GpuInstance {
    let gpu_instance = profile.gpu_instance();
    let id = n + 7;
    let placement = Placement::from_driver(u8::try_from(n).unwrap(), 1);
    GpuInstance {
        id,
        profile: gpu_instance,
        profile_id: 19,
        placement,
        capability_minor: Some(gpu * 135 + id * 9 + 3),
        compute_instances: vec![ComputeInstance {
            id: 0,
            profile_id: 0,
            slices: profile.compute_slices(),
            placement,
            capability_minor: Some(gpu * 135 + id * 9 + 4),
            device: Some(MigDevice {
                index: n,
                uuid: format!("MIG-{gpu}-{n}").parse().unwrap(),
                profile,
                memory_mib: 4864,
                multiprocessors: 14,
                copy_engines: 1,
                decoders: 0,
                encoders: 0,
                jpeg: 0,
                ofa: 0,
                gpu_instance_slices: 1,
                compute_instance_slices: 1,
            }),
        }],
    }
}

/// A node with these GPUs.
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
        failed: Vec::new(),
    }
}

/// The fleet of a node with these GPUs.
pub(crate) fn fleet(gpus: Vec<Gpu>) -> crate::Fleet {
    let mut fleet = crate::Fleet::default();
    fleet.update(&inventory(gpus), |_| None);
    fleet
}

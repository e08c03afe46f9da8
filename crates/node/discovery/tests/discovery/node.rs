//! A node with a simulated driver, cut up as a layout says.

use discovery::{GpuMode, Labels, Options, labels};
use mig::{MigStrategy, NodeLayout};
use nvml::{Gpu, Inventory, Nvml};
use nvml_sim::DriverRoot;

pub(crate) fn options(strategy: MigStrategy) -> Options {
    Options {
        mig_strategy: strategy,
        machine_type: "Virtual Machine".to_owned(),
        timestamp: Some(1_790_000_000),
        mode: GpuMode::Compute,
    }
}

/// The inventory of a node with these boards in this layout.
pub(crate) fn node(boards: &[(&str, u32)], layout: &str) -> Inventory {
    let dir = tempfile::tempdir().unwrap();
    let boards: Vec<_> = boards
        .iter()
        .map(|(name, count)| (mig::board(name).unwrap(), *count))
        .collect();
    let root = DriverRoot::create(dir.path().join("root"), &boards).unwrap();
    let nvml = Nvml::load(root.path()).unwrap();
    let layout: NodeLayout = layout.parse().unwrap();
    for gpu in nvml.inventory().unwrap().gpus {
        if let Some(spec) = layout.for_gpu(gpu.index) {
            carve(&nvml, &gpu, spec);
        }
    }
    nvml.inventory().unwrap()
}

fn carve(nvml: &Nvml, gpu: &Gpu, spec: &mig::LayoutSpec) {
    let Some(layout) = spec.resolve(&gpu.board).unwrap() else {
        return;
    };
    nvml.set_mig_mode(&gpu.uuid, true).unwrap();
    let mut instances = layout.instances().to_vec();
    for placed in gpu.board.pack(&layout).unwrap() {
        let profile = gpu.board.profile(placed.profile).unwrap().id;
        let id = nvml
            .create_gpu_instance(&gpu.uuid, profile, placed.placement)
            .unwrap();
        let position = instances
            .iter()
            .position(|wanted| wanted.profile == placed.profile);
        for slices in instances.remove(position.unwrap()).compute_instances() {
            let known = nvml.compute_instance_profiles(&gpu.uuid, id).unwrap();
            let compute = known
                .iter()
                .find(|profile| profile.slices == slices)
                .unwrap()
                .id;
            nvml.create_compute_instance(&gpu.uuid, id, compute)
                .unwrap();
        }
    }
}

/// The labels of such a node.
pub(crate) fn node_labels(boards: &[(&str, u32)], layout: &str, strategy: MigStrategy) -> Labels {
    labels(&node(boards, layout), &options(strategy))
}

//! What an agent would say of a node with eight A100 40GB, without any agent or GPU. Pure.

use std::collections::BTreeMap;

use gpu_node::{GpuNodeSpec, GpuNodeStatus, GpuStatus, Phase, SliceStatus};
use mig::{Board, Layout, LayoutSpec, MigStrategy, NodeLayout};

/// How many GPUs a simulated node has.
pub(crate) const GPUS: u32 = 8;

/// The board of its GPUs.
const BOARD: &str = "A100-40GB";

/// A resource of whole GPUs, and of all slices with strategy `single`.
const GPU: &str = "nvidia.com/gpu";

/// What the node's GPUs are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// What was asked for; none for GPUs that were left alone.
    asked: Option<String>,
    strategy: MigStrategy,
    /// The layout of each GPU; none without MIG.
    gpus: BTreeMap<u32, Option<Layout>>,
}

impl Cut {
    /// GPUs that nobody has cut.
    pub(crate) fn whole() -> Self {
        Self {
            asked: None,
            strategy: MigStrategy::Single,
            gpus: (0..GPUS).map(|index| (index, None)).collect(),
        }
    }

    /// What comes of the GPUs when this is asked of the node.
    ///
    /// # Errors
    /// What the agent would say.
    pub(crate) fn after(&self, spec: &GpuNodeSpec) -> Result<Self, String> {
        let board = mig::board(BOARD).map_err(|error| error.to_string())?;
        let strategy = spec
            .mig_strategy
            .map_or(MigStrategy::Single, MigStrategy::from);
        let Some(text) = &spec.layout else {
            // The flags of a simulated agent leave the GPUs alone.
            return Ok(Self {
                asked: None,
                strategy,
                gpus: self.gpus.clone(),
            });
        };
        let layout: NodeLayout = text.parse().map_err(|error| format!("{error}"))?;
        let resolved = layout
            .resolve((0..GPUS).map(|index| (index, board)))
            .map_err(|error| error.to_string())?;
        let mut gpus = self.gpus.clone();
        gpus.extend(resolved);
        Ok(Self {
            asked: Some(text.clone()),
            strategy,
            gpus,
        })
    }

    /// How many devices of each resource the kubelet would be told of.
    pub(crate) fn resources(&self) -> BTreeMap<String, u64> {
        let mut resources = BTreeMap::new();
        for layout in self.gpus.values() {
            let Some(layout) = layout
                .as_ref()
                .filter(|_| self.strategy != MigStrategy::None)
            else {
                *resources.entry(GPU.to_owned()).or_default() += 1;
                continue;
            };
            for (device, count) in layout.devices() {
                if let Some(name) = self.strategy.resource_name(device) {
                    *resources.entry(name.to_string()).or_default() += u64::from(count);
                }
            }
        }
        resources
    }

    /// The agent's whole status, with each slice at its place.
    pub(crate) fn status(&self, node: &str, generation: Option<i64>) -> GpuNodeStatus {
        let Ok(board) = mig::board(BOARD) else {
            return GpuNodeStatus::default();
        };
        let gpus: Vec<_> = self
            .gpus
            .iter()
            .map(|(index, layout)| gpu(node, *index, layout.as_ref(), board))
            .collect();
        let slices: usize = gpus.iter().map(|gpu| gpu.slices.len()).sum();
        let current = self
            .gpus
            .iter()
            .map(|(index, layout)| (*index, spec_of(layout.as_ref())));
        GpuNodeStatus {
            observed_generation: generation,
            phase: Phase::Ready,
            message: "simulated".to_owned(),
            layout: self.asked.clone(),
            current_layout: NodeLayout::of_gpus(current).map(|layout| layout.to_string()),
            driver_version: Some("simulated".to_owned()),
            summary: format!("{GPUS} x {BOARD}"),
            slices: u32::try_from(slices).unwrap_or(u32::MAX),
            resources: self.resources(),
            gpus,
            agent_version: "simulated".to_owned(),
            ..GpuNodeStatus::default()
        }
    }
}

fn spec_of(layout: Option<&Layout>) -> LayoutSpec {
    layout.map_or(LayoutSpec::Off, Layout::to_spec)
}

fn gpu(node: &str, index: u32, layout: Option<&Layout>, board: &Board) -> GpuStatus {
    let placed = layout.and_then(|layout| board.pack(layout).ok());
    let slices = placed.into_iter().flatten().enumerate();
    GpuStatus {
        index,
        uuid: format!("GPU-{node}-{index}"),
        product: board.product_name.clone(),
        board: board.name.clone(),
        memory_mib: board.memory_mib,
        memory_units: board.memory_units,
        compute_slices: board.compute_slices,
        mig_capable: true,
        mig_enabled: layout.is_some(),
        healthy: true,
        layout: spec_of(layout).to_string(),
        slices: slices
            .map(|(number, instance)| SliceStatus {
                uuid: format!("MIG-{node}-{index}-{number}"),
                profile: instance.profile.to_string(),
                gpu_instance: u32::try_from(number).unwrap_or(u32::MAX),
                compute_instance: 0,
                start: instance.placement.start(),
                size: instance.placement.size(),
                memory_mib: board
                    .profile(instance.profile)
                    .and_then(|profile| profile.memory_mib)
                    .unwrap_or_default(),
                healthy: true,
                holder: None,
            })
            .collect(),
        ..GpuStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(layout: &str, strategy: gpu_node::Strategy) -> GpuNodeSpec {
        GpuNodeSpec {
            layout: Some(layout.to_owned()),
            mig_strategy: Some(strategy),
            ..GpuNodeSpec::default()
        }
    }

    #[test]
    fn resources_are_those_of_the_layout_and_strategy() {
        let whole = Cut::whole();
        let of = |layout: &str, strategy| whole.after(&asked(layout, strategy)).unwrap();
        let resources = |cut: Cut| cut.resources().into_iter().collect::<Vec<_>>();
        assert_eq!(resources(whole.clone()), [(GPU.to_owned(), 8)]);
        let single = of("MIG1g", gpu_node::Strategy::Single);
        assert_eq!(resources(single), [(GPU.to_owned(), 56)]);
        let none = of("MIG1g", gpu_node::Strategy::None);
        assert_eq!(resources(none), [(GPU.to_owned(), 8)]);
        let mixed = of(
            "0-3=3g.20gb,2g.10gb,1g.5gb*2;4-7=off",
            gpu_node::Strategy::Mixed,
        );
        let wanted = [
            (GPU, 4),
            ("nvidia.com/mig-1g.5gb", 8),
            ("nvidia.com/mig-2g.10gb", 4),
            ("nvidia.com/mig-3g.20gb", 4),
        ];
        assert_eq!(
            resources(mixed),
            wanted.map(|(name, count)| (name.to_owned(), count))
        );
    }

    #[test]
    fn the_status_tells_every_slice() {
        let cut = Cut::whole()
            .after(&asked("MIG1g", gpu_node::Strategy::Single))
            .unwrap();
        let status = cut.status("n", Some(3));
        assert_eq!((status.slices, status.observed_generation), (56, Some(3)));
        assert_eq!(status.layout.as_deref(), Some("MIG1g"));
        assert_eq!(status.current_layout.as_deref(), Some("0-7=1g.5gb*7"));
        assert!(status.gpus.iter().all(|gpu| gpu.slices.len() == 7));
    }

    #[test]
    fn what_the_board_cannot_do_is_refused_and_what_is_there_stays() {
        let ones = Cut::whole()
            .after(&asked("MIG1g", gpu_node::Strategy::Single))
            .unwrap();
        assert!(
            ones.after(&asked("1g.10gb*7", gpu_node::Strategy::Single))
                .is_err()
        );
        let free = ones.after(&GpuNodeSpec::default()).unwrap();
        assert_eq!(free.resources(), ones.resources());
        assert_eq!(free.status("n", None).layout, None);
    }
}

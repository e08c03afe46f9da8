//! What a node advertises to Kubernetes once its layout is in place.

use std::collections::{BTreeMap, BTreeSet};

use mig::{Board, Layout, MigProfile, MigStrategy, NodeLayout, ResourceName};

use crate::Invalid;
use crate::node::{NodeSpec, ObservedNode};
use crate::vm_size::{GpuModel, VmSize};

/// Resources whose names begin so are the ones that a node's layout decides.
pub const GPU_RESOURCE_PREFIX: &str = "nvidia.com/";

/// The GPU resources that a node advertises once its layout is in place, by name.
///
/// Eight A100 40GB with `MIG1g` are 56 `nvidia.com/gpu` under strategy single, 56 `nvidia.com/mig-1g.5gb` under mixed, and 8
/// `nvidia.com/gpu` under none, which does not look at MIG.
///
/// # Errors
/// If the size is unknown, the layout does not fit its board, or strategy single can't express it.
pub fn expected_allocatable(spec: &NodeSpec) -> Result<BTreeMap<String, u64>, Invalid> {
    advertised(
        VmSize::find(&spec.vm_size)?,
        spec.layout.as_ref(),
        spec.mig_strategy,
    )
}

/// The same, of a size, a layout and a strategy.
///
/// # Errors
/// As [`expected_allocatable`].
pub fn advertised(
    size: &VmSize,
    layout: Option<&NodeLayout>,
    strategy: MigStrategy,
) -> Result<BTreeMap<String, u64>, Invalid> {
    let what = format!("VM size '{}'", size.name);
    if layout.is_some() {
        // It says what is the matter with a size that has no MIG.
        size.mig_board()?;
    }
    let board = match size.gpus.map(|gpus| gpus.model) {
        Some(GpuModel::Mig(_)) => Some(size.mig_board()?.0),
        _ => None,
    };
    let gpus: Vec<_> = (0..size.gpu_count()).map(|index| (index, board)).collect();
    of_gpus(&what, &gpus, layout, strategy)
}

/// The GPU resources that a node advertises once its layout is in place, by the boards that somebody saw there, or where
/// nobody looked yet by its VM size.
///
/// # Errors
/// If the layout does not fit the boards, or strategy single can't express it.
pub fn expected_of(node: &ObservedNode) -> Result<BTreeMap<String, u64>, Invalid> {
    if node.boards.is_empty() {
        // Of nodes that were chosen by their labels nothing is known before somebody has looked.
        if node.spec.vm_size.is_empty() {
            return Ok(BTreeMap::new());
        }
        return expected_allocatable(&node.spec);
    }
    of_boards(
        &node.boards,
        node.spec.layout.as_ref(),
        node.spec.mig_strategy,
    )
}

/// The same, of the boards of a node's GPUs by NVML's index; an empty name is a GPU without MIG.
///
/// # Errors
/// As [`expected_of`].
pub fn of_boards(
    boards: &BTreeMap<u32, String>,
    layout: Option<&NodeLayout>,
    strategy: MigStrategy,
) -> Result<BTreeMap<String, u64>, Invalid> {
    let mut gpus = Vec::with_capacity(boards.len());
    for (index, name) in boards {
        let board = match name.as_str() {
            "" => None,
            name => Some(mig::board(name).map_err(|error| {
                Invalid::parameter("agentPoolProfile.layouts", error.to_string())
            })?),
        };
        gpus.push((*index, board));
    }
    of_gpus(&in_words(boards), &gpus, layout, strategy)
}

/// Boards in a few words: `8 x A100-40GB`.
#[must_use]
pub fn in_words(boards: &BTreeMap<u32, String>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in boards.values() {
        *counts.entry(name).or_default() += 1;
    }
    let words: Vec<_> = counts
        .into_iter()
        .map(|(name, count)| {
            let name = if name.is_empty() {
                "GPU without MIG"
            } else {
                name
            };
            format!("{count} x {name}")
        })
        .collect();
    words.join(", ")
}

fn of_gpus(
    what: &str,
    gpus: &[(u32, Option<&Board>)],
    layout: Option<&NodeLayout>,
    strategy: MigStrategy,
) -> Result<BTreeMap<String, u64>, Invalid> {
    let whole = gpus.len() as u64;
    let Some(layout) = layout else {
        return Ok(whole_gpus(whole));
    };
    let per_gpu = devices(what, gpus, layout)?;
    match strategy {
        MigStrategy::None => Ok(whole_gpus(whole)),
        MigStrategy::Single => single(whole, &per_gpu),
        MigStrategy::Mixed => {
            let mut resources = BTreeMap::new();
            for gpu in per_gpu {
                match gpu {
                    None => *resources.entry(gpu_resource()).or_default() += 1,
                    Some(devices) => {
                        for (device, count) in devices {
                            let name = device.resource_name().to_string();
                            *resources.entry(name).or_default() += u64::from(count);
                        }
                    }
                }
            }
            Ok(resources)
        }
    }
}

/// Strategy single: every GPU is cut into the same profile, or none is.
fn single(
    whole: u64,
    per_gpu: &[Option<BTreeMap<MigProfile, u32>>],
) -> Result<BTreeMap<String, u64>, Invalid> {
    if per_gpu.iter().all(Option::is_none) {
        return Ok(whole_gpus(whole));
    }
    let kinds: BTreeSet<String> = per_gpu
        .iter()
        .flat_map(|gpu| match gpu {
            None => vec!["a whole GPU".to_owned()],
            Some(devices) => devices.keys().map(ToString::to_string).collect(),
        })
        .collect();
    if kinds.len() > 1 {
        let kinds = kinds.into_iter().collect::<Vec<_>>().join(", ");
        return Err(Invalid::parameter(
            "agentPoolProfile.layouts",
            format!(
                "MIG strategy Single shows every slice as nvidia.com/gpu, so all slices of a node must be alike; these are not: {kinds}. Use strategy Mixed, or one profile for all GPUs."
            ),
        ));
    }
    let devices = per_gpu
        .iter()
        .flatten()
        .flat_map(BTreeMap::values)
        .copied()
        .map(u64::from);
    Ok(whole_gpus(devices.sum()))
}

/// The MIG devices of each GPU, with how many there are of each: `None` for a GPU with MIG off.
fn devices(
    what: &str,
    gpus: &[(u32, Option<&Board>)],
    layout: &NodeLayout,
) -> Result<Vec<Option<BTreeMap<MigProfile, u32>>>, Invalid> {
    let with_mig = gpus
        .iter()
        .filter_map(|(index, board)| Some((*index, (*board)?)));
    let resolved = layout.resolve(with_mig).map_err(|error| {
        Invalid::parameter(
            "agentPoolProfile.layouts",
            format!("The layout '{layout}' is not possible on {what}: {error}."),
        )
    })?;
    // A GPU that the layout does not name is left as a new node has it: MIG off.
    let of_gpu = |(index, _): &(u32, Option<&Board>)| {
        resolved
            .get(index)
            .and_then(Option::as_ref)
            .map(Layout::devices)
    };
    Ok(gpus.iter().map(of_gpu).collect())
}

fn whole_gpus(count: u64) -> BTreeMap<String, u64> {
    if count == 0 {
        BTreeMap::new()
    } else {
        BTreeMap::from([(gpu_resource(), count)])
    }
}

fn gpu_resource() -> String {
    ResourceName::gpu().to_string()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn of(
        size: &str,
        layout: Option<&str>,
        strategy: MigStrategy,
    ) -> Result<Vec<(String, u64)>, Invalid> {
        let layout = layout.map(|text| text.parse::<NodeLayout>().unwrap());
        let size = VmSize::find(size).unwrap();
        Ok(advertised(size, layout.as_ref(), strategy)?
            .into_iter()
            .collect())
    }

    #[rstest]
    #[case("MIG1g", 56, "mig-1g.5gb")]
    #[case("MIG2g", 24, "mig-2g.10gb")]
    #[case("MIG3g", 16, "mig-3g.20gb")]
    #[case("MIG4g", 8, "mig-4g.20gb")]
    #[case("MIG7g", 8, "mig-7g.40gb")]
    fn the_articles_pool_has_the_articles_slices(
        #[case] profile: &str,
        #[case] count: u64,
        #[case] mixed: &str,
    ) {
        let size = "Standard_ND96asr_v4";
        assert_eq!(
            of(size, Some(profile), MigStrategy::Single).unwrap(),
            [("nvidia.com/gpu".to_owned(), count)]
        );
        assert_eq!(
            of(size, Some(profile), MigStrategy::Mixed).unwrap(),
            [(format!("nvidia.com/{mixed}"), count)]
        );
        assert_eq!(
            of(size, Some(profile), MigStrategy::None).unwrap(),
            [("nvidia.com/gpu".to_owned(), 8)]
        );
    }

    #[rstest]
    #[case("Standard_NC24ads_A100_v4", 3)]
    #[case("Standard_NC48ads_A100_v4", 6)]
    fn mig2g_on_an_a100_80gb_gives_what_azure_gives(#[case] size: &str, #[case] count: u64) {
        assert_eq!(
            of(size, Some("MIG2g"), MigStrategy::Single).unwrap(),
            [("nvidia.com/gpu".to_owned(), count)]
        );
        assert_eq!(
            of(size, Some("MIG2g"), MigStrategy::Mixed).unwrap(),
            [("nvidia.com/mig-2g.20gb".to_owned(), count)]
        );
    }

    #[rstest]
    #[case("Standard_ND96asr_v4", 8)]
    #[case("Standard_NC4as_T4_v3", 1)]
    fn without_a_layout_a_node_has_whole_gpus(#[case] size: &str, #[case] count: u64) {
        for strategy in [MigStrategy::None, MigStrategy::Single, MigStrategy::Mixed] {
            assert_eq!(
                of(size, None, strategy).unwrap(),
                [("nvidia.com/gpu".to_owned(), count)]
            );
        }
    }

    #[test]
    fn a_node_without_gpu_advertises_none() {
        assert!(
            of("Standard_DS2_v2", None, MigStrategy::Single)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn mixed_counts_each_gpu_by_its_own_layout() {
        let layout = "0-3=3g.20gb,2g.10gb,1g.5gb*2;4=off";
        assert_eq!(
            of("Standard_ND96asr_v4", Some(layout), MigStrategy::Mixed).unwrap(),
            [
                ("nvidia.com/gpu".to_owned(), 4),
                ("nvidia.com/mig-1g.5gb".to_owned(), 8),
                ("nvidia.com/mig-2g.10gb".to_owned(), 4),
                ("nvidia.com/mig-3g.20gb".to_owned(), 4),
            ]
        );
    }

    #[rstest]
    #[case("3g.20gb,2g.10gb")]
    #[case("0-3=MIG1g;4-7=off")]
    fn single_refuses_slices_that_are_not_alike(#[case] layout: &str) {
        let error = of("Standard_ND96asr_v4", Some(layout), MigStrategy::Single).unwrap_err();
        assert!(error.message.contains("Mixed"), "{error}");
    }
}

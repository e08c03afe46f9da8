//! Which of the free devices a container had better get.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::Table;

/// Chooses `size` of the `available` ids, those of `must_include` among them.
///
/// GPUs that are in use already are filled up before a new one is opened, the fullest first, and as few new
/// ones are opened as can be: what stays free stays free in one piece, so that it can still be given to someone
/// who needs a whole GPU, or be partitioned anew. A GPU is in use when a healthy device of it is not available.
/// Fewer than `size` ids come back only when there are not that many.
#[must_use]
pub fn preferred(
    table: &Table,
    available: &[String],
    must_include: &[String],
    size: usize,
) -> Vec<String> {
    let offered: HashSet<&str> = available
        .iter()
        .chain(must_include)
        .map(String::as_str)
        .collect();
    let mut chosen: Vec<&str> = Vec::with_capacity(size);
    let mut taken: HashSet<&str> = HashSet::new();
    for id in must_include {
        if chosen.len() < size && taken.insert(id) {
            chosen.push(id);
        }
    }

    let mut in_use: BTreeSet<u32> = BTreeSet::new();
    let mut held: BTreeSet<u32> = BTreeSet::new();
    let mut free: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for device in table.devices() {
        let id = device.id.as_str();
        if taken.contains(id) {
            held.insert(device.gpu_index);
        } else if offered.contains(id) {
            free.entry(device.gpu_index).or_default().push(id);
        } else if device.is_healthy() {
            in_use.insert(device.gpu_index);
        }
    }

    let mut open: Vec<(u32, Vec<&str>)> = Vec::new();
    let mut closed: Vec<(u32, Vec<&str>)> = Vec::new();
    for (gpu, ids) in free {
        let list = if in_use.contains(&gpu) || held.contains(&gpu) {
            &mut open
        } else {
            &mut closed
        };
        list.push((gpu, ids));
    }
    // The container's own GPUs first, then the fullest; the index settles what is left.
    open.sort_by_key(|(gpu, ids)| (!held.contains(gpu), ids.len(), *gpu));
    for (_, ids) in open {
        let wanted = size.saturating_sub(chosen.len());
        chosen.extend(ids.into_iter().take(wanted));
    }
    while chosen.len() < size {
        let wanted = size - chosen.len();
        let Some(at) = next_to_open(&closed, wanted) else {
            break;
        };
        let (_, ids) = closed.swap_remove(at);
        chosen.extend(ids.into_iter().take(wanted));
    }
    // What the kubelet offers and this table does not know (any more) comes last: Allocate will refuse it.
    let unknown = available
        .iter()
        .map(String::as_str)
        .filter(|id| table.get(id).is_none());
    for id in unknown {
        if chosen.len() < size && !chosen.contains(&id) {
            chosen.push(id);
        }
    }
    chosen.into_iter().map(str::to_owned).collect()
}

/// The smallest GPU that has all that is wanted, or else the one that has most.
fn next_to_open(closed: &[(u32, Vec<&str>)], wanted: usize) -> Option<usize> {
    let places = || closed.iter().enumerate();
    let enough = places()
        .filter(|(_, (_, ids))| ids.len() >= wanted)
        .min_by_key(|(_, (gpu, ids))| (ids.len(), *gpu));
    let largest = || places().min_by_key(|(_, (gpu, ids))| (std::cmp::Reverse(ids.len()), *gpu));
    enough.or_else(largest).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{a100, fleet};
    use crate::{Config, Health, resources};
    use mig::MigStrategy;
    use proptest::prelude::*;

    /// GPUs with so many slices each.
    fn table(slices: &[u32]) -> Table {
        let gpus = slices
            .iter()
            .zip(0..)
            .map(|(&slices, gpu)| a100(gpu, slices))
            .collect();
        let config = Config {
            mig_strategy: MigStrategy::Mixed,
            ..Config::default()
        };
        let advertised = resources(&fleet(gpus), &Health::default(), &config).unwrap();
        let slices = advertised
            .resources
            .into_iter()
            .find(|(name, _)| name.short() != "gpu");
        let (resource, devices) = slices.unwrap();
        Table::new(resource, devices)
    }

    fn ids(table: &Table, keep: impl Fn(usize) -> bool) -> Vec<String> {
        let devices = table.devices().iter().enumerate();
        devices
            .filter(|(at, _)| keep(*at))
            .map(|(_, device)| device.id.clone())
            .collect()
    }

    #[test]
    fn a_gpu_in_use_is_filled_up_before_a_new_one_is_opened() {
        let table = table(&[7, 7]);
        // One slice of GPU 1 is taken.
        let available = ids(&table, |at| at != 7);
        let chosen = preferred(&table, &available, &[], 3);
        assert!(
            chosen.iter().all(|id| id.starts_with("MIG-1-")),
            "{chosen:?}"
        );
    }

    #[test]
    fn the_fullest_gpu_is_filled_up_first() {
        let table = table(&[7, 7, 7]);
        let available = ids(&table, |at| at > 1 && !(14..=18).contains(&at));
        let chosen = preferred(&table, &available, &[], 2);
        assert!(
            chosen.iter().all(|id| id.starts_with("MIG-2-")),
            "{chosen:?}"
        );
    }

    #[test]
    fn a_new_gpu_that_just_suffices_is_opened_rather_than_a_large_one() {
        let table = table(&[7, 2, 4]);
        let available = ids(&table, |_| true);
        assert!(
            preferred(&table, &available, &[], 2)
                .iter()
                .all(|id| id.starts_with("MIG-1-"))
        );
        assert!(
            preferred(&table, &available, &[], 4)
                .iter()
                .all(|id| id.starts_with("MIG-2-"))
        );
    }

    #[test]
    fn a_device_that_the_table_does_not_know_is_the_last_choice() {
        let table = table(&[2]);
        let mut available = vec!["MIG-9-9".to_owned()];
        available.extend(ids(&table, |_| true));
        assert!(!preferred(&table, &available, &[], 2).contains(&"MIG-9-9".to_owned()));
        assert!(preferred(&table, &available, &[], 3).contains(&"MIG-9-9".to_owned()));
    }

    /// Some GPUs; for each device whether it is available, and whether it must be included; and a size.
    fn case() -> impl Strategy<Value = (Vec<u32>, Vec<(bool, bool)>, usize)> {
        prop::collection::vec(1_u32..5, 1..4).prop_flat_map(|slices| {
            let total = slices.iter().sum::<u32>() as usize;
            let flags = prop::collection::vec((any::<bool>(), prop::bool::weighted(0.2)), total);
            (Just(slices), flags, 0..=total)
        })
    }

    fn gpus(table: &Table, ids: &[String]) -> BTreeSet<u32> {
        ids.iter()
            .filter_map(|id| table.get(id))
            .map(|device| device.gpu_index)
            .collect()
    }

    /// The fewest GPUs, none of them in `open`, that any allowed choice opens.
    fn brute_force(
        table: &Table,
        available: &[String],
        must: &[String],
        size: usize,
        open: &BTreeSet<u32>,
    ) -> usize {
        (0_u32..1 << available.len())
            .filter(|mask| mask.count_ones() as usize == size)
            .map(|mask| {
                let at = |at: &usize| mask >> at & 1 == 1;
                (0..available.len())
                    .filter(at)
                    .map(|at| available[at].clone())
                    .collect::<Vec<_>>()
            })
            .filter(|choice| must.iter().all(|id| choice.contains(id)))
            .map(|choice| gpus(table, &choice).difference(open).count())
            .min()
            .unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_choice_is_allowed_complete_and_opens_as_few_gpus_as_any(
            (slices, flags, size) in case()
        ) {
            let table = table(&slices);
            let available = ids(&table, |at| flags[at].0);
            let must = ids(&table, |at| flags[at].0 && flags[at].1);
            prop_assume!(must.len() <= size && size <= available.len());

            let chosen = preferred(&table, &available, &must, size);

            let distinct: HashSet<_> = chosen.iter().collect();
            prop_assert_eq!(distinct.len(), size);
            prop_assert_eq!(chosen.len(), size);
            prop_assert!(chosen.iter().all(|id| available.contains(id)));
            prop_assert!(must.iter().all(|id| chosen.contains(id)));
            let in_use = gpus(&table, &ids(&table, |at| !flags[at].0));
            let opened = gpus(&table, &chosen).difference(&in_use).count();
            prop_assert_eq!(opened, brute_force(&table, &available, &must, size, &in_use));
        }
    }
}

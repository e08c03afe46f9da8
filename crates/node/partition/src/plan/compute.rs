//! The compute instances of one GPU instance: which stay, which go, which are made.

use mig::compute_instance_profiles;

/// A compute instance that is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Present {
    /// Its compute slices.
    pub(super) slices: u8,
    /// Its first compute slice.
    pub(super) start: u8,
    /// In use, or not ours: it must stay if it can.
    pub(super) pinned: bool,
}

/// How to bring a GPU instance to the wanted compute instances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Positions of those that go.
    pub(super) destroy: Vec<usize>,
    /// Compute slices of those that are made, largest first: so the driver, which places them by
    /// itself, doesn't spoil the room of a large one with a small one.
    pub(super) create: Vec<u8>,
    /// How many of those that go are pinned.
    pub(super) pinned: usize,
}

impl Change {
    /// What is compared: pinned ones lost, then calls.
    pub(super) fn cost(&self) -> (usize, usize) {
        (self.pinned, self.destroy.len() + self.create.len())
    }
}

/// The cheapest change of a GPU instance with `slices` compute slices. Tries every set of instances
/// to keep; there are at most seven.
pub(super) fn change(slices: u8, present: &[Present], wanted: &[u8]) -> Change {
    let everything = 1_u32 << present.len().min(16);
    (0..everything)
        .filter_map(|keep| try_keep(slices, present, wanted, keep))
        .min_by_key(Change::cost)
        .unwrap_or_default()
}

/// The change that keeps exactly the instances whose bit is set, if they are wanted and leave room.
fn try_keep(slices: u8, present: &[Present], wanted: &[u8], keep: u32) -> Option<Change> {
    let mut create = wanted.to_vec();
    create.sort_unstable_by(|a, b| b.cmp(a));
    let mut change = Change::default();
    let mut taken = 0_u32;
    for (position, instance) in present.iter().enumerate() {
        if keep & (1 << position) == 0 {
            change.destroy.push(position);
            change.pinned += usize::from(instance.pinned);
        } else {
            let wanted = create.iter().position(|size| *size == instance.slices)?;
            create.remove(wanted);
            taken |= run(instance.start, instance.slices);
        }
    }
    fits(slices, taken, &create).then(|| {
        change.create = create;
        change
    })
}

/// Whether the sizes, largest first, fit into what is left. A size starts at a multiple of itself
/// rounded up to a power of two, as GPU instances do; the driver doesn't say more.
fn fits(slices: u8, taken: u32, sizes: &[u8]) -> bool {
    let Some((size, rest)) = sizes.split_first() else {
        return true;
    };
    (0..=slices.saturating_sub(*size))
        .step_by(usize::from(size.next_power_of_two().max(1)))
        .any(|start| {
            let here = run(start, *size);
            start + size <= slices && taken & here == 0 && fits(slices, taken | here, rest)
        })
}

fn run(start: u8, size: u8) -> u32 {
    ((1_u32 << size.min(16)) - 1) << start.min(15)
}

/// The id of the compute instance profile of so many slices in a GPU instance of so many.
pub(super) fn profile_id(gpu_instance_slices: u8, slices: u8) -> Option<u32> {
    compute_instance_profiles(gpu_instance_slices)
        .iter()
        .find(|profile| profile.slices == slices)
        .map(|profile| profile.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(sizes: &[(u8, u8)]) -> Vec<Present> {
        sizes
            .iter()
            .map(|&(slices, start)| Present {
                slices,
                start,
                pinned: false,
            })
            .collect()
    }

    #[test]
    fn what_is_wanted_already_needs_no_call() {
        let change = change(3, &present(&[(1, 0), (2, 1)]), &[1, 2]);
        assert_eq!(change, Change::default());
    }

    #[test]
    fn an_empty_gpu_instance_is_finished_largest_first() {
        assert_eq!(change(7, &[], &[1, 3, 2]).create, [3, 2, 1]);
    }

    #[test]
    fn one_that_leaves_no_room_for_the_rest_goes_though_it_is_wanted() {
        // A 4g holds two 2c at 0 and 2. With 1c at 1 and at 2 there is no room for the 2c.
        let change = change(4, &present(&[(1, 1), (1, 2)]), &[2, 1, 1]);
        assert_eq!((change.destroy.len(), change.create), (1, vec![2, 1]));
    }

    #[test]
    fn a_pinned_one_stays_even_where_that_costs_more_calls() {
        let mut there = present(&[(1, 0), (1, 1), (1, 2)]);
        if let Some(first) = there.first_mut() {
            first.pinned = true;
        }
        let kept = change(3, &there, &[1]);
        assert_eq!(kept.destroy, [1, 2]);
        assert_eq!(kept.pinned, 0);
        assert_eq!(change(3, &there, &[3]).pinned, 1);
    }

    #[test]
    fn every_division_that_a_gpu_instance_allows_fits() {
        for slices in [1, 2, 3, 4, 7] {
            for profile in compute_instance_profiles(slices) {
                let sizes = vec![profile.slices; usize::from(profile.max_instances)];
                assert!(fits(slices, 0, &sizes), "{sizes:?} in {slices}");
            }
        }
    }
}

//! Compute instances: how the compute slices of one GPU instance can be divided.

/// A compute instance profile, as every GPU instance of a given number of slices has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComputeInstanceProfile {
    /// Compute slices: the `1` of `1c.3g.20gb`.
    pub slices: u8,
    /// NVML's profile id, which for compute instances equals `NVML_COMPUTE_INSTANCE_PROFILE_*`.
    pub id: u32,
    /// How many fit in one GPU instance.
    pub max_instances: u8,
}

const fn ci(slices: u8, id: u32, max_instances: u8) -> ComputeInstanceProfile {
    ComputeInstanceProfile {
        slices,
        id,
        max_instances,
    }
}

/// The compute instance profiles of a GPU instance with `gpu_instance_slices` compute slices, smallest
/// first; none for a number of slices that no known board has.
///
/// From `nvidia-smi mig -lcip` in NVIDIA's MIG user guide and go-nvml's DGX A100 mock. A `4g` has no `3c`.
#[must_use]
pub const fn compute_instance_profiles(
    gpu_instance_slices: u8,
) -> &'static [ComputeInstanceProfile] {
    match gpu_instance_slices {
        1 => const { &[ci(1, 0, 1)] },
        2 => const { &[ci(1, 0, 2), ci(2, 1, 1)] },
        3 => const { &[ci(1, 0, 3), ci(2, 1, 1), ci(3, 2, 1)] },
        4 => const { &[ci(1, 0, 4), ci(2, 1, 2), ci(4, 3, 1)] },
        7 => {
            const {
                &[
                    ci(1, 0, 7),
                    ci(2, 1, 3),
                    ci(3, 2, 2),
                    ci(4, 3, 1),
                    ci(7, 4, 1),
                ]
            }
        }
        _ => &[],
    }
}

/// Packs compute instances of the sizes in `wanted` into as few GPU instances of `capacity` slices as
/// first fit by decreasing size needs; each inner list is one GPU instance, largest first.
///
/// First fit decreasing is the least possible for the sizes that exist: with capacities up to 4 there
/// are only sizes 1 and 2 to combine, and of the 7-slice profile one GPU holds a single instance.
pub(crate) fn pack_compute_instances(capacity: u8, wanted: &[u8]) -> Vec<Vec<u8>> {
    let mut sizes = wanted.to_vec();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let mut instances: Vec<Vec<u8>> = Vec::new();
    for size in sizes {
        let used = |list: &Vec<u8>| list.iter().map(|s| u32::from(*s)).sum::<u32>();
        match instances
            .iter_mut()
            .find(|i| used(i) + u32::from(size) <= u32::from(capacity))
        {
            Some(instance) => instance.push(size),
            None => instances.push(vec![size]),
        }
    }
    instances
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compute_instance_never_outgrows_its_gpu_instance() {
        for slices in [1, 2, 3, 4, 7] {
            let profiles = compute_instance_profiles(slices);
            assert!(
                profiles
                    .iter()
                    .all(|c| c.slices * c.max_instances <= slices)
            );
            assert_eq!(profiles.last().map(|c| c.slices), Some(slices));
        }
    }

    #[test]
    fn small_compute_instances_share_a_gpu_instance() {
        assert_eq!(pack_compute_instances(3, &[1, 1, 1]), [[1, 1, 1]]);
        assert_eq!(pack_compute_instances(3, &[1, 2, 1, 2]), [[2, 1], [2, 1]]);
        assert_eq!(pack_compute_instances(7, &[3, 2, 2]), [[3, 2, 2]]);
        assert_eq!(pack_compute_instances(2, &[1, 1, 1]), [vec![1, 1], vec![1]]);
    }
}

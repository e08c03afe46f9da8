//! VM sizes: what a node of a size has.
//!
//! Sizes and figures are Azure's. Names compare without case.

use mig::Board;

use crate::Invalid;

/// The size of a pool for which no size was asked: the one that `az aks create` long used.
pub const DEFAULT: &str = "Standard_DS2_v2";

/// A VM size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmSize {
    /// Azure's name for it.
    pub name: &'static str,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in GiB.
    pub memory_gib: u32,
    /// Its GPUs; `None` for a size without.
    pub gpus: Option<VmGpu>,
}

/// The GPUs of a VM size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmGpu {
    /// How many.
    pub count: u32,
    /// Which.
    pub model: GpuModel,
}

/// A model of GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuModel {
    /// A board with MIG, by its name in [`mig::boards`].
    Mig(&'static str),
    /// A board without MIG, by its product name.
    WithoutMig(&'static str),
}

const fn cpu(name: &'static str, vcpus: u32, memory_gib: u32) -> VmSize {
    VmSize {
        name,
        vcpus,
        memory_gib,
        gpus: None,
    }
}

const fn gpu(
    name: &'static str,
    vcpus: u32,
    memory_gib: u32,
    count: u32,
    board: &'static str,
) -> VmSize {
    VmSize {
        name,
        vcpus,
        memory_gib,
        gpus: Some(VmGpu {
            count,
            model: GpuModel::Mig(board),
        }),
    }
}

const fn plain(
    name: &'static str,
    vcpus: u32,
    memory_gib: u32,
    count: u32,
    product: &'static str,
) -> VmSize {
    let model = GpuModel::WithoutMig(product);
    VmSize {
        name,
        vcpus,
        memory_gib,
        gpus: Some(VmGpu { count, model }),
    }
}

/// All sizes that migpool knows.
///
/// Which board carries which size is from Azure's pages of the size families. The A100 with 80 GB of the NC family is the `PCIe`
/// board; its profiles are those of the SXM board.
const SIZES: &[VmSize] = &[
    gpu("Standard_ND96asr_v4", 96, 900, 8, "A100-40GB"),
    gpu("Standard_ND96amsr_A100_v4", 96, 1900, 8, "A100-80GB"),
    gpu("Standard_NC24ads_A100_v4", 24, 220, 1, "A100-80GB"),
    gpu("Standard_NC48ads_A100_v4", 48, 440, 2, "A100-80GB"),
    gpu("Standard_NC96ads_A100_v4", 96, 880, 4, "A100-80GB"),
    gpu("Standard_ND96isr_H100_v5", 96, 1900, 8, "H100-SXM-80GB"),
    gpu("Standard_NC40ads_H100_v5", 40, 320, 1, "H100-NVL-94GB"),
    gpu("Standard_NC80adis_H100_v5", 80, 640, 2, "H100-NVL-94GB"),
    gpu("Standard_NCC40ads_H100_v5", 40, 320, 1, "H100-NVL-94GB"),
    gpu("Standard_ND96isr_H200_v5", 96, 1850, 8, "H200-141GB"),
    plain("Standard_NC4as_T4_v3", 4, 28, 1, "Tesla T4"),
    plain("Standard_NC8as_T4_v3", 8, 56, 1, "Tesla T4"),
    plain("Standard_NC16as_T4_v3", 16, 110, 1, "Tesla T4"),
    plain("Standard_NC64as_T4_v3", 64, 440, 4, "Tesla T4"),
    plain("Standard_NC6s_v3", 6, 112, 1, "Tesla V100-PCIE-16GB"),
    plain("Standard_NC12s_v3", 12, 224, 2, "Tesla V100-PCIE-16GB"),
    plain("Standard_NC24s_v3", 24, 448, 4, "Tesla V100-PCIE-16GB"),
    plain("Standard_ND40rs_v2", 40, 672, 8, "Tesla V100-SXM2-32GB"),
    plain("Standard_NV36ads_A10_v5", 36, 440, 1, "NVIDIA A10-24Q"),
    plain("Standard_NV72ads_A10_v5", 72, 880, 2, "NVIDIA A10-24Q"),
    cpu("Standard_B2s", 2, 4),
    cpu("Standard_B2ms", 2, 8),
    cpu("Standard_B4ms", 4, 16),
    cpu("Standard_DS2_v2", 2, 7),
    cpu("Standard_DS3_v2", 4, 14),
    cpu("Standard_D2s_v3", 2, 8),
    cpu("Standard_D4s_v3", 4, 16),
    cpu("Standard_D8s_v3", 8, 32),
    cpu("Standard_D2s_v5", 2, 8),
    cpu("Standard_D4s_v5", 4, 16),
    cpu("Standard_D8s_v5", 8, 32),
    cpu("Standard_D16s_v5", 16, 64),
    cpu("Standard_D2ds_v5", 2, 8),
    cpu("Standard_D4ds_v5", 4, 16),
    cpu("Standard_D8ds_v5", 8, 32),
    cpu("Standard_D16ds_v5", 16, 64),
    cpu("Standard_E4s_v5", 4, 32),
    cpu("Standard_E8s_v5", 8, 64),
    cpu("Standard_F4s_v2", 4, 8),
    cpu("Standard_F8s_v2", 8, 16),
];

/// Sizes that a person is told of when nothing they wrote is near.
const NEAREST: usize = 3;

impl VmSize {
    /// All sizes that migpool knows.
    #[must_use]
    pub fn all() -> &'static [Self] {
        SIZES
    }

    /// The size of this name.
    ///
    /// # Errors
    /// If migpool does not know it; the message has the nearest that it does.
    pub fn find(name: &str) -> Result<&'static Self, Invalid> {
        SIZES.iter().find(|size| size.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let near = nearest(name).join("', '");
            Invalid::parameter(
                "agentPoolProfile.vmSize",
                format!("The VM size '{name}' is not known. Did you mean '{near}'? Sizes with MIG: {}.", mig_sizes()),
            )
        })
    }

    /// The board of its GPUs, and how many there are.
    ///
    /// # Errors
    /// If it has no GPU, or GPUs without MIG; the message has the sizes with MIG.
    pub fn mig_board(&self) -> Result<(&'static Board, u32), Invalid> {
        let refuse = |what: String| {
            Invalid::parameter(
                "agentPoolProfile.gpuInstanceProfile",
                format!(
                    "The VM size '{}' has {what}, so it can't have a GPU instance profile. Leave the profile away, or use one of {}.",
                    self.name,
                    mig_sizes()
                ),
            )
        };
        match self.gpus {
            None => Err(refuse("no GPU".to_owned())),
            Some(VmGpu {
                model: GpuModel::WithoutMig(product),
                ..
            }) => Err(refuse(format!("GPUs without MIG ({product})"))),
            Some(VmGpu {
                count,
                model: GpuModel::Mig(name),
            }) => match mig::board(name) {
                Ok(board) => Ok((board, count)),
                Err(error) => Err(refuse(format!(
                    "GPUs that migpool has no data of ({error})"
                ))),
            },
        }
    }

    /// How many GPUs it has.
    #[must_use]
    pub fn gpu_count(&self) -> u32 {
        self.gpus.map_or(0, |gpus| gpus.count)
    }
}

fn mig_sizes() -> String {
    let names: Vec<&str> = SIZES
        .iter()
        .filter(|size| {
            matches!(
                size.gpus,
                Some(VmGpu {
                    model: GpuModel::Mig(_),
                    ..
                })
            )
        })
        .map(|size| size.name)
        .collect();
    names.join(", ")
}

fn nearest(name: &str) -> Vec<&'static str> {
    let wanted = name.to_ascii_lowercase();
    let mut sizes: Vec<_> = SIZES
        .iter()
        .map(|size| {
            (
                edit_distance(&wanted, &size.name.to_ascii_lowercase()),
                size.name,
            )
        })
        .collect();
    sizes.sort_unstable();
    sizes
        .into_iter()
        .take(NEAREST)
        .map(|(_, name)| name)
        .collect()
}

/// Levenshtein's distance, in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for ((b, diagonal_and_above), left) in b.iter().zip(row.windows(2)).zip(0..) {
            let (diagonal, above) = match diagonal_and_above {
                [diagonal, above] => (*diagonal, *above),
                _ => continue,
            };
            let left = next.get(left).copied().unwrap_or(usize::MAX - 1);
            next.push(
                (diagonal + usize::from(a != *b))
                    .min(above + 1)
                    .min(left + 1),
            );
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn every_board_of_the_table_is_a_board_with_data() {
        for size in VmSize::all() {
            if let Some(VmGpu {
                model: GpuModel::Mig(_),
                ..
            }) = size.gpus
            {
                assert!(size.mig_board().is_ok(), "{}", size.name);
            }
        }
    }

    #[test]
    fn names_compare_without_case_and_keep_azures_spelling() {
        assert_eq!(
            VmSize::find("standard_nd96ASR_v4").unwrap().name,
            "Standard_ND96asr_v4"
        );
    }

    #[rstest]
    #[case("Standard_ND96asr_v5", "Standard_ND96asr_v4")]
    #[case("Standard_NC24ads_A100", "Standard_NC24ads_A100_v4")]
    #[case("Standard_D2_v2", "Standard_DS2_v2")]
    fn an_unknown_size_names_the_nearest(#[case] asked: &str, #[case] near: &str) {
        let error = VmSize::find(asked).unwrap_err();
        assert!(error.message.contains(&format!("'{near}'")), "{error}");
        assert!(error.message.contains(asked));
    }

    #[rstest]
    #[case("Standard_NC4as_T4_v3", "GPUs without MIG (Tesla T4)")]
    #[case("Standard_DS2_v2", "no GPU")]
    fn a_size_without_mig_says_so_and_what_to_use(#[case] size: &str, #[case] why: &str) {
        let error = VmSize::find(size).unwrap().mig_board().unwrap_err();
        assert!(error.message.contains(why), "{error}");
        assert!(error.message.contains("Standard_ND96asr_v4"), "{error}");
    }

    #[test]
    fn the_default_is_in_the_table() {
        assert!(VmSize::find(DEFAULT).is_ok());
    }

    #[test]
    fn edit_distance_counts_insertions_deletions_and_substitutions() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", ""), 3);
    }
}

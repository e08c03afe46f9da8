//! The boards that migpool ships as data, one YAML file each under `boards/`.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::board::{Architecture, Board, BoardProfile, Confidence};
use crate::profile::Profile;

/// The data files, in the order in which boards are listed.
const FILES: [(&str, &str); 15] = [
    ("a100-40gb.yaml", include_str!("../boards/a100-40gb.yaml")),
    ("a100-80gb.yaml", include_str!("../boards/a100-80gb.yaml")),
    ("a30.yaml", include_str!("../boards/a30.yaml")),
    (
        "h100-sxm-80gb.yaml",
        include_str!("../boards/h100-sxm-80gb.yaml"),
    ),
    (
        "h100-pcie-80gb.yaml",
        include_str!("../boards/h100-pcie-80gb.yaml"),
    ),
    (
        "h100-nvl-94gb.yaml",
        include_str!("../boards/h100-nvl-94gb.yaml"),
    ),
    ("gh200-96gb.yaml", include_str!("../boards/gh200-96gb.yaml")),
    (
        "gh200-144gb.yaml",
        include_str!("../boards/gh200-144gb.yaml"),
    ),
    ("h200-141gb.yaml", include_str!("../boards/h200-141gb.yaml")),
    ("b200.yaml", include_str!("../boards/b200.yaml")),
    ("gb200.yaml", include_str!("../boards/gb200.yaml")),
    ("b300.yaml", include_str!("../boards/b300.yaml")),
    ("gb300.yaml", include_str!("../boards/gb300.yaml")),
    ("h20-96gb.yaml", include_str!("../boards/h20-96gb.yaml")),
    (
        "rtx-pro-6000-blackwell-96gb.yaml",
        include_str!("../boards/rtx-pro-6000-blackwell-96gb.yaml"),
    ),
];

struct Catalogue {
    boards: Vec<Board>,
    /// Boards that differ from one of `boards` only in product name and PCI id, such as `PCIe` cards.
    variants: Vec<Board>,
}

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    let mut catalogue = Catalogue {
        boards: Vec::new(),
        variants: Vec::new(),
    };
    for (_, text) in FILES {
        // The files are part of the program and a test parses each, so none is lost here.
        if let Ok((board, variants)) = parse(text) {
            catalogue.boards.push(board);
            catalogue.variants.extend(variants);
        }
    }
    catalogue
});

/// The boards of migpool's own data: Ampere first, as NVIDIA released them.
#[must_use]
pub fn boards() -> &'static [Board] {
    &CATALOGUE.boards
}

/// Finds a board by its data name (`A100-40GB`), its product name with or without `NVIDIA`
/// (`NVIDIA A100-SXM4-40GB`) or an alias; case does not matter.
///
/// A name of a variant, such as the `PCIe` card `A100-PCIE-40GB`, gives that variant: the same board with
/// the variant's product name and PCI ids.
///
/// # Errors
/// [`UnknownBoard`], which lists the names that there are.
pub fn board(name: &str) -> Result<&'static Board, UnknownBoard> {
    let wanted = without_vendor(name.trim());
    let same = |other: &str| without_vendor(other).eq_ignore_ascii_case(wanted);
    let Catalogue { boards, variants } = &*CATALOGUE;
    // Variants first: their names are among the aliases of the board they vary.
    variants
        .iter()
        .find(|b| same(&b.product_name) || b.aliases.iter().any(|a| same(a)))
        .or_else(|| {
            boards.iter().find(|b| {
                same(&b.name) || same(&b.product_name) || b.aliases.iter().any(|a| same(a))
            })
        })
        .ok_or_else(|| UnknownBoard {
            name: name.to_owned(),
            known: boards
                .iter()
                .map(|b| b.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        })
}

fn without_vendor(name: &str) -> &str {
    match name.get(..7) {
        Some(vendor) if vendor.eq_ignore_ascii_case("NVIDIA ") => name.get(7..).unwrap_or(name),
        _ => name,
    }
}

/// A board that migpool has no data for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no board is called `{name}`; the boards are {known}")]
pub struct UnknownBoard {
    /// The name that was asked for.
    pub name: String,
    /// The names of all boards, separated by commas.
    pub known: String,
}

/// A data file's contents.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BoardFile {
    name: String,
    product_name: String,
    aliases: Vec<String>,
    #[serde(default)]
    variants: Vec<VariantFile>,
    architecture: Architecture,
    compute_capability: (u8, u8),
    memory_units: u8,
    compute_slices: u8,
    memory_mib: u64,
    total_sm: Option<u16>,
    mode_change_needs_reset: bool,
    pci_device_ids: Vec<u32>,
    confidence: Confidence,
    sources: Vec<String>,
    assumed: Vec<String>,
    profiles: Vec<ProfileFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VariantFile {
    product_name: String,
    aliases: Vec<String>,
    pci_device_ids: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    name: Profile,
    id: u32,
    nvml_enum: u32,
    slices: u8,
    starts: Vec<u8>,
    size: u8,
    max_instances: u8,
    memory_mib: Option<u64>,
    sm: Option<u16>,
    copy: Option<u16>,
    decoders: Option<u16>,
    encoders: Option<u16>,
    jpeg: Option<u16>,
    ofa: Option<u16>,
}

impl From<ProfileFile> for BoardProfile {
    fn from(file: ProfileFile) -> Self {
        Self {
            profile: file.name,
            id: file.id,
            nvml_enum: file.nvml_enum,
            slices: file.slices,
            starts: file.starts,
            size: file.size,
            max_instances: file.max_instances,
            memory_mib: file.memory_mib,
            sm: file.sm,
            copy: file.copy,
            decoders: file.decoders,
            encoders: file.encoders,
            jpeg: file.jpeg,
            ofa: file.ofa,
        }
    }
}

/// Reads one data file: the board, and its variants.
fn parse(text: &str) -> Result<(Board, Vec<Board>), serde_saphyr::Error> {
    let file: BoardFile = serde_saphyr::from_str(text)?;
    let mut board = Board {
        name: file.name,
        product_name: file.product_name,
        aliases: file.aliases,
        architecture: file.architecture,
        compute_capability: file.compute_capability,
        memory_units: file.memory_units,
        compute_slices: file.compute_slices,
        memory_mib: file.memory_mib,
        total_sm: file.total_sm,
        mode_change_needs_reset: file.mode_change_needs_reset,
        pci_device_ids: file.pci_device_ids,
        confidence: file.confidence,
        sources: file.sources,
        assumed: file.assumed,
        profiles: file.profiles.into_iter().map(BoardProfile::from).collect(),
    };
    let variants: Vec<Board> = file
        .variants
        .into_iter()
        .map(|variant| Board {
            product_name: variant.product_name,
            aliases: variant.aliases,
            pci_device_ids: variant.pci_device_ids,
            ..board.clone()
        })
        .collect();
    for variant in &variants {
        board.aliases.push(variant.product_name.clone());
        board.aliases.extend(variant.aliases.iter().cloned());
        board.pci_device_ids.extend(&variant.pci_device_ids);
    }
    Ok((board, variants))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_data_file_is_a_board_with_sources() {
        for (file, text) in FILES {
            let (board, _) = parse(text).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert_eq!(file, format!("{}.yaml", board.name.to_lowercase()));
            assert!(
                !board.sources.is_empty(),
                "{file} says where its facts come from"
            );
            assert!(!board.pci_device_ids.is_empty(), "{file}");
        }
        assert_eq!(boards().len(), FILES.len());
    }

    #[test]
    fn no_name_means_two_boards() {
        let Catalogue { boards, variants } = &*CATALOGUE;
        let mut taken = std::collections::BTreeMap::new();
        for board in boards {
            for name in [&board.name, &board.product_name]
                .into_iter()
                .chain(&board.aliases)
            {
                let other = taken.insert(without_vendor(name).to_lowercase(), &board.name);
                assert!(other.is_none_or(|other| *other == board.name), "{name}");
            }
        }
        for variant in variants {
            let base = boards.iter().find(|b| b.name == variant.name);
            assert!(base.is_some_and(|b| b.aliases.contains(&variant.product_name)));
        }
    }

    #[test]
    fn boards_are_found_by_every_name_in_any_case() {
        for (name, product) in [
            ("A100-40GB", "NVIDIA A100-SXM4-40GB"),
            ("a100-sxm4-40gb", "NVIDIA A100-SXM4-40GB"),
            ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB"),
            ("NVIDIA A100-PCIE-40GB", "NVIDIA A100-PCIE-40GB"),
            ("A100-PCIE-40GB", "NVIDIA A100-PCIE-40GB"),
            ("NVIDIA A100 80GB PCIe", "NVIDIA A100 80GB PCIe"),
            ("A100-80GB", "NVIDIA A100-SXM4-80GB"),
            ("H200-141GB", "NVIDIA H200"),
            ("nvidia h200", "NVIDIA H200"),
            ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"),
            ("H100 NVL", "NVIDIA H100 NVL"),
            ("A30", "NVIDIA A30"),
        ] {
            let found = board(name).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(found.product_name, product, "{name}");
        }
    }

    #[test]
    fn a_pcie_card_is_its_board_with_its_own_pci_id() {
        let card = board("A100-PCIE-40GB").unwrap();
        let base = board("A100-40GB").unwrap();
        assert_eq!((&card.name, &card.profiles), (&base.name, &base.profiles));
        assert_eq!(card.pci_device_ids.first(), Some(&0x20F1));
        assert_eq!(base.pci_device_ids.first(), Some(&0x20B0));
        assert!(base.pci_device_ids.contains(&0x20F1));
    }

    #[test]
    fn an_unknown_board_lists_those_that_there_are() {
        let error = board("T4").unwrap_err().to_string();
        assert!(
            error.contains("`T4`") && error.contains("A100-40GB, A100-80GB, A30"),
            "{error}"
        );
    }
}

//! `migpool profiles`: what a board can be cut into.

use std::fmt::Write as _;

use clap::Args;
use mig::{Board, Confidence};
use pool::VmSize;

use crate::arguments::DriverRoot;
use crate::driver_root::seen_from_here;
use crate::failure::{Failure, chain};
use crate::output::{Format, columns, print};

/// The MIG profiles of a board or VM size; of this machine's GPUs when neither is named.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  migpool profiles --board H200-141GB\n  migpool profiles --node-vm-size Standard_ND96asr_v4\n  migpool profiles --list"
)]
pub(crate) struct Profiles {
    /// A board: migpool's name, an alias, or NVML's product name
    #[arg(long, value_name = "BOARD", conflicts_with = "node_vm_size")]
    board: Option<String>,
    /// A VM size
    #[arg(short = 's', long, value_name = "SIZE")]
    node_vm_size: Option<String>,
    /// List the boards and VM sizes that migpool knows
    #[arg(long, conflicts_with_all = ["board", "node_vm_size"])]
    list: bool,
    #[command(flatten)]
    driver: DriverRoot,
    /// The format of what is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

impl Profiles {
    /// Prints them.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        if self.list {
            return print(self.output, &mig::boards(), |boards| {
                table_of_boards(boards)
            });
        }
        let boards = if let Some(name) = &self.board {
            vec![
                mig::board(name)
                    .map_err(|error| Failure::usage(chain(&error)))?
                    .clone(),
            ]
        } else if let Some(size) = &self.node_vm_size {
            let size = VmSize::find(size).map_err(|error| Failure::usage(chain(&error)))?;
            let (board, _) = size
                .mig_board()
                .map_err(|error| Failure::usage(chain(&error)))?;
            vec![board.clone()]
        } else {
            self.boards_of_this_machine()?
        };
        print(self.output, &boards, |boards| {
            boards.iter().map(table).collect::<Vec<_>>().join("\n\n")
        })
    }

    fn boards_of_this_machine(&self) -> Result<Vec<Board>, Failure> {
        let nvml =
            nvml::Nvml::load(&seen_from_here(&self.driver.driver_root)).map_err(|error| {
                Failure::from_error(&error)
                    .with_help("name a board with --board, or list the known ones with --list")
            })?;
        let inventory = nvml.inventory().map_err(Failure::of)?;
        let mut boards: Vec<Board> = Vec::new();
        for gpu in inventory.gpus {
            if gpu.mig.is_some() && !boards.iter().any(|board| board.name == gpu.board.name) {
                boards.push(gpu.board.as_ref().clone());
            }
        }
        if boards.is_empty() {
            return Err(Failure::failed("no GPU of this machine is capable of MIG")
                .with_help("name a board with --board, or list the known ones with --list"));
        }
        Ok(boards)
    }
}

fn table(board: &Board) -> String {
    let number = |value: Option<u16>| value.map_or_else(|| "?".to_owned(), |v| v.to_string());
    let mut text = format!(
        "{} ({}), {} MiB, {} compute slices, {} memory units\n",
        board.name, board.product_name, board.memory_mib, board.compute_slices, board.memory_units
    );
    let rows = board.profiles.iter().map(|row| {
        let starts: Vec<_> = row.starts.iter().map(ToString::to_string).collect();
        vec![
            row.profile.to_string(),
            row.id.to_string(),
            aks_name(board, row.profile),
            row.max_instances.to_string(),
            row.memory_mib
                .map_or_else(|| "?".to_owned(), |mib| mib.to_string()),
            number(row.sm),
            number(row.copy),
            number(row.decoders),
            number(row.encoders),
            number(row.jpeg),
            number(row.ofa),
            format!("{{{}}}:{}", starts.join(","), row.size),
            row.profile.resource_name().to_string(),
        ]
    });
    text.push_str(&columns(
        &[
            "PROFILE",
            "ID",
            "AKS",
            "MAX",
            "MEMORY MIB",
            "SM",
            "CE",
            "DEC",
            "ENC",
            "JPEG",
            "OFA",
            "PLACEMENTS",
            "RESOURCE (mixed)",
        ],
        rows,
    ));
    if !matches!(board.confidence, Confidence::High | Confidence::Measured) {
        let _ = write!(
            text,
            "\nConfidence in these figures: {}. `?` is not published.",
            serde_json::to_value(board.confidence)
                .ok()
                .and_then(|v| v.as_str().map(str::to_owned))
                .unwrap_or_default()
        );
    }
    text
}

/// The AKS name that stands for a profile of this board, or `-`.
fn aks_name(board: &Board, profile: mig::Profile) -> String {
    mig::GpuInstanceProfile::ALL
        .into_iter()
        .find(|aks| aks.resolve(board).is_ok_and(|resolved| resolved == profile))
        .map_or_else(|| "-".to_owned(), |aks| aks.to_string())
}

fn table_of_boards(boards: &[Board]) -> String {
    let mut text = columns(
        &["BOARD", "PRODUCT", "MEMORY MIB", "PROFILES"],
        boards.iter().map(|board| {
            vec![
                board.name.clone(),
                board.product_name.clone(),
                board.memory_mib.to_string(),
                board.profile_names(),
            ]
        }),
    );
    text.push_str("\n\n");
    text.push_str(&columns(
        &["VM SIZE", "GPUS", "BOARD"],
        VmSize::all().iter().filter_map(|size| {
            let (board, count) = size.mig_board().ok()?;
            Some(vec![
                size.name.to_owned(),
                count.to_string(),
                board.name.clone(),
            ])
        }),
    ));
    text
}

//! Which machine a root is: its boards and what is special about it.

use std::fmt;
use std::path::Path;

use mig::Board;

use super::Options;
use crate::device_file::DeviceFiles;
use crate::state::State;

/// What a root was made as. Two that are equal need not be made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The GPUs' boards by minor number, by their names in `mig`.
    pub boards: Vec<String>,
    /// [`Options::pass_through`].
    pub pass_through: bool,
    /// [`Options::device_nodes`].
    pub device_nodes: bool,
}

impl Machine {
    /// What these boards and options make.
    #[must_use]
    pub fn of(boards: &[(&Board, u32)], options: &Options) -> Machine {
        let names = boards
            .iter()
            .flat_map(|(board, count)| (0..*count).map(|_| board.name.clone()));
        Machine {
            boards: names.collect(),
            pass_through: options.pass_through,
            device_nodes: options.device_nodes,
        }
    }

    pub(super) fn read(root: &Path, state: &State) -> Machine {
        let name = |board: u32| {
            state
                .boards
                .get(board as usize)
                .map(|board| board.name.clone())
        };
        Machine {
            boards: state
                .gpus
                .iter()
                .map(|gpu| name(gpu.board).unwrap_or_default())
                .collect(),
            pass_through: state.gpus.iter().any(|gpu| gpu.pass_through),
            device_nodes: DeviceFiles::of(root) == DeviceFiles::Nodes,
        }
    }
}

impl fmt::Display for Machine {
    /// Writes `4 x A100-40GB, 2 x H200-141GB`, and what is special.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, group) in self.boards.chunk_by(|a, b| a == b).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            let name = group.first().map_or("?", String::as_str);
            write!(f, "{separator}{} x {name}", group.len())?;
        }
        if self.pass_through {
            f.write_str(", passed through to a guest")?;
        }
        if self.device_nodes {
            f.write_str(", with device nodes")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixed_machine_is_told_board_by_board() {
        let a100 = mig::board("A100-40GB").unwrap();
        let h200 = mig::board("H200-141GB").unwrap();
        let options = Options {
            device_nodes: true,
            ..Options::default()
        };
        let machine = Machine::of(&[(a100, 4), (h200, 2)], &options);
        assert_eq!(
            machine.to_string(),
            "4 x A100-40GB, 2 x H200-141GB, with device nodes"
        );
    }
}

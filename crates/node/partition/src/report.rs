//! What an apply did, call by call.

use std::fmt;

use jiff::Timestamp;
use nvml::Inventory;
use serde::{Deserialize, Serialize};

/// The report of one apply. It serialises to the JSON that `-o json` prints and the journal keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// When it began.
    pub started: Timestamp,
    /// How long it took, in microseconds, snapshots included.
    pub duration_us: u64,
    /// The layout that was asked for, as it is written.
    pub layout: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Every driver call that changes something, in order.
    pub calls: Vec<CallRecord>,
    /// What is not as asked, GPU by GPU. Empty when done.
    pub problems: Vec<Problem>,
    /// The last snapshot: what is there now. Not part of the JSON. None when it couldn't be read.
    #[serde(skip)]
    pub inventory: Option<Inventory>,
}

/// How an apply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every GPU that the layout names is as the layout says.
    Done,
    /// Nothing failed, but on some GPU only a reboot of the machine can finish the change of MIG
    /// mode. The other GPUs are done. Apply again after the reboot.
    RebootNeeded,
    /// Some GPU is not as the layout says; the problems say why. Apply again when that is mended.
    Incomplete,
}

/// One driver call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRecord {
    /// NVML's name of it.
    pub call: String,
    /// Index of the GPU.
    pub gpu: u32,
    /// The GPU's UUID.
    pub uuid: String,
    /// The arguments, for a person.
    pub arguments: String,
    /// `ok`, with the new instance's id where there is one, or what the driver said.
    pub result: String,
    /// Whether it succeeded.
    pub ok: bool,
    /// How long it took, in microseconds.
    pub duration_us: u64,
}

/// Something that is not as asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Index of the GPU.
    pub gpu: u32,
    /// The GPU's UUID, where it is known.
    pub uuid: Option<String>,
    /// What kind of problem.
    pub kind: ProblemKind,
    /// What is wrong, and what to do next.
    pub message: String,
}

/// What kind of [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// The GPU can't be read; it was left out.
    Unreadable,
    /// A driver call failed.
    Call,
    /// MIG mode changes with the next reboot only.
    RebootNeeded,
    /// MIG mode can't change while the GPU is in use.
    InUse,
    /// All calls succeeded, and still the GPU is not as asked: somebody else changes it too.
    Differs,
}

impl Report {
    /// Whether every GPU is as the layout says.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.outcome == Outcome::Done
    }

    /// Every call as a table for people; lines are as long as what they say.
    #[must_use]
    pub fn to_table(&self) -> String {
        let rows = self.calls.iter().map(|call| {
            [
                call.gpu.to_string(),
                call.call.clone(),
                call.arguments.clone(),
                call.result.clone(),
                milliseconds(call.duration_us),
            ]
        });
        table(["GPU", "CALL", "ARGUMENTS", "RESULT", "TIME"], rows)
    }
}

/// One line on how it ended, then one for each problem.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = match self.calls.len() {
            0 => "nothing had to change".to_owned(),
            1 => "1 driver call".to_owned(),
            calls => format!("{calls} driver calls"),
        };
        let time = milliseconds(self.duration_us);
        write!(f, "{}: {calls}, {time}", self.outcome)?;
        for problem in &self.problems {
            write!(f, "\n{}", problem.message)?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::RebootNeeded => "reboot needed",
            Self::Incomplete => "incomplete",
        })
    }
}

fn milliseconds(microseconds: u64) -> String {
    format!("{}.{} ms", microseconds / 1000, microseconds % 1000 / 100)
}

/// A table without lines: a header and columns two blanks apart, lines ending without blanks.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

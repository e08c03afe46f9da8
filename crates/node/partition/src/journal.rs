//! The last reports of a node.

use std::path::{Path, PathBuf};

use crate::report::Report;
use crate::state::{self, StateError};

/// The last reports, in a file of the state folder. An apply that found nothing to do and nothing
/// wrong leaves no trace, so that a restarting agent doesn't push the interesting ones out.
#[derive(Debug, Clone)]
pub struct Journal {
    path: PathBuf,
}

impl Journal {
    /// How many reports are kept.
    pub const KEPT: usize = 16;

    /// The journal of a state folder.
    #[must_use]
    pub fn of(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join("partition-journal.json"),
        }
    }

    /// The reports that are kept, oldest first, without their inventories.
    ///
    /// # Errors
    /// When the file can't be read or isn't a journal.
    pub fn reports(&self) -> Result<Vec<Report>, StateError> {
        Ok(state::read(&self.path)?.unwrap_or_default())
    }

    /// Adds a report, and drops the oldest when there are too many. A journal that can't be read is
    /// begun anew: the GPUs are what they are, and a record of the past must not stop their work.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn append(&self, report: &Report) -> Result<(), StateError> {
        let mut reports = match self.reports() {
            Ok(reports) => reports,
            Err(error) => {
                tracing::warn!(%error, "begins a new journal");
                Vec::new()
            }
        };
        reports.push(report.clone());
        let surplus = reports.len().saturating_sub(Self::KEPT);
        reports.drain(..surplus);
        state::write(&self.path, &reports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Outcome;

    fn report(layout: &str) -> Report {
        Report {
            started: jiff::Timestamp::UNIX_EPOCH,
            duration_us: 1500,
            layout: layout.to_owned(),
            outcome: Outcome::Done,
            calls: vec![],
            problems: vec![],
            inventory: None,
        }
    }

    #[test]
    fn only_the_last_reports_are_kept_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::of(dir.path());
        assert_eq!(journal.reports().unwrap(), []);
        for number in 0..Journal::KEPT + 3 {
            journal.append(&report(&number.to_string())).unwrap();
        }
        let layouts: Vec<String> = journal
            .reports()
            .unwrap()
            .into_iter()
            .map(|report| report.layout)
            .collect();
        let last: Vec<String> = (3..Journal::KEPT + 3).map(|n| n.to_string()).collect();
        assert_eq!(layouts, last);
    }

    #[test]
    fn a_damaged_journal_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::of(dir.path());
        std::fs::write(dir.path().join("partition-journal.json"), "{").unwrap();
        journal.append(&report("MIG1g")).unwrap();
        assert_eq!(journal.reports().unwrap(), [report("MIG1g")]);
    }

    #[test]
    fn a_journal_of_a_newer_version_is_said_to_be_that() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("partition-journal.json");
        std::fs::write(path, r#"{"version": 9, "content": []}"#).unwrap();
        let error = Journal::of(dir.path()).reports().unwrap_err();
        assert!(error.to_string().contains("version 9"), "{error}");
    }
}

//! Which XIDs make a device unhealthy.

use std::collections::BTreeSet;
use std::str::FromStr;

/// XIDs that an application causes by itself; they say nothing about the GPU. NVIDIA's plugin ignores the same.
const APPLICATION_XIDS: [u64; 6] = [13, 31, 43, 45, 68, 109];

/// XIDs after which a GPU is not to be trusted until it was reset: those whose immediate action in NVIDIA's Xid
/// catalog (<https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html>) is `RESET_GPU` for a GPU that
/// has MIG, and
/// - 48 (double bit ECC error), whose workflow ends in a reset, with or without a drain before it;
/// - 74 (`NVLink`), which by its description a reset or a reboot clears;
/// - 79 (fallen off the bus) and 151 (key rotation), whose action is a restart of the machine, which includes one.
///
/// 94, a memory error contained in one application, is not among them: there only the application is restarted. Nor
/// is 154, which says that the recovery action changed but not to which. 144 to 150 depend on details that NVML's
/// events do not carry.
const RESET_XIDS: [u64; 18] = [
    46, 48, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 143, 151, 155, 156, 158,
];

/// Whether NVIDIA has the GPU reset after this XID.
pub(crate) fn needs_reset(xid: u64) -> bool {
    RESET_XIDS.contains(&xid)
}

/// The administrator's say in which XIDs count, beside the application errors that never do by themselves.
///
/// In the environment these are `DP_DISABLE_HEALTHCHECKS` and `DP_ENABLE_HEALTHCHECKS`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HealthChecks {
    /// XIDs that do not count.
    pub disabled: Xids,
    /// XIDs that do, whatever [`HealthChecks::disabled`] and the defaults say.
    pub enabled: Xids,
}

impl HealthChecks {
    /// Whether this XID makes a device unhealthy.
    #[must_use]
    pub fn counts(&self, xid: u64) -> bool {
        self.enabled.contains(xid)
            || !(self.disabled.contains(xid) || APPLICATION_XIDS.contains(&xid))
    }

    /// Whether errors that are not XIDs, such as an uncorrectable memory error, count: unless all are disabled.
    #[must_use]
    pub fn counts_memory_errors(&self) -> bool {
        self.disabled != Xids::All
    }
}

/// A set of XIDs, as a person writes it: `all` (or `xids`), or numbers with commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Xids {
    /// Every XID.
    All,
    /// These.
    These(BTreeSet<u64>),
}

impl Xids {
    fn contains(&self, xid: u64) -> bool {
        match self {
            Self::All => true,
            Self::These(set) => set.contains(&xid),
        }
    }
}

impl Default for Xids {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

/// A text that is not a set of XIDs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an XID: give numbers with commas between them, or `all`")]
pub struct ParseXidsError {
    /// The part that is wrong.
    pub text: String,
}

impl FromStr for Xids {
    type Err = ParseXidsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = || {
            text.split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
        };
        if parts().any(|part| {
            ["all", "xids"]
                .iter()
                .any(|all| part.eq_ignore_ascii_case(all))
        }) {
            return Ok(Self::All);
        }
        parts()
            .map(|part| {
                part.parse().map_err(|_| ParseXidsError {
                    text: part.to_owned(),
                })
            })
            .collect::<Result<_, _>>()
            .map(Self::These)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(disabled: &str, enabled: &str) -> HealthChecks {
        HealthChecks {
            disabled: disabled.parse().unwrap(),
            enabled: enabled.parse().unwrap(),
        }
    }

    #[test]
    fn application_errors_do_not_count_and_others_do() {
        for xid in APPLICATION_XIDS {
            assert!(!HealthChecks::default().counts(xid), "{xid}");
        }
        assert!(HealthChecks::default().counts(79));
    }

    #[test]
    fn disabled_xids_are_ignored_too() {
        let checks = checks("48, 79", "");
        assert!(!checks.counts(48) && !checks.counts(79) && !checks.counts(13));
        assert!(checks.counts(74));
    }

    #[test]
    fn all_and_xids_disable_everything_and_enabled_ones_still_count() {
        for all in ["all", "xids", "ALL", "13,xids"] {
            let checks = checks(all, "79");
            assert!(checks.counts(79) && !checks.counts(48), "{all}");
            assert!(!checks.counts_memory_errors());
        }
    }

    #[test]
    fn an_enabled_application_error_counts() {
        assert!(checks("", "13").counts(13));
        assert!(checks("", "all").counts(31));
    }

    #[test]
    fn what_is_not_a_number_is_named() {
        let error = "48,gpu".parse::<Xids>().unwrap_err();
        assert!(error.to_string().contains("`gpu`"), "{error}");
    }
}

//! In which order the changes of a commit are made. Pure.

use pool::{Change, Expected, Kind, StoreError};

/// The changes of a commit, by what they are for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Operations that begin.
    pub(super) begun: Vec<usize>,
    /// The change that decides: once it is made, all is.
    pub(super) decisive: Option<usize>,
    /// Node pools that are written with it.
    pub(super) rest: Vec<usize>,
    /// Operations that end, or are forgotten.
    pub(super) ended: Vec<usize>,
}

impl Plan {
    /// Sorts changes.
    ///
    /// # Errors
    /// If there is no order in which they could be made safely: several records change, and none can say what is to come.
    pub(super) fn of(changes: &[Change]) -> Result<Self, StoreError> {
        let mut plan = Self::default();
        for (index, change) in changes.iter().enumerate() {
            let kind = change.subject().0;
            match change {
                Change::Check { .. } => {}
                Change::Put {
                    expected: Expected::Absent,
                    ..
                } if kind == Kind::Operation => plan.begun.push(index),
                _ if kind == Kind::Operation => plan.ended.push(index),
                _ => plan.rest.push(index),
            }
        }
        // What holds others goes before them.
        let of = |index: &usize| changes.get(*index).map(|change| change.subject().0);
        let holder = plan
            .rest
            .iter()
            .position(|index| of(index) != Some(Kind::NodePool));
        if !plan.rest.is_empty() {
            plan.decisive = Some(plan.rest.remove(holder.unwrap_or(0)));
        }
        for index in &plan.rest {
            let Some(change) = changes.get(*index) else {
                continue;
            };
            let is_pool = matches!(change, Change::Put { .. })
                && change.subject().0 == Kind::NodePool
                && holder.is_some();
            if !is_pool {
                let (kind, path) = change.subject();
                return Err(StoreError::Unavailable(format!(
                    "a cluster can't change {kind} {path} and another record in one step"
                )));
            }
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use pool::Revision;
    use serde_json::Value;

    use super::*;

    fn put(kind: Kind, expected: Expected) -> Change {
        Change::Put {
            kind,
            path: format!("{kind}"),
            expected,
            body: Value::Null,
        }
    }

    const READ: Expected = Expected::Revision(Revision(1));

    #[test]
    fn what_holds_others_decides_and_operations_begin_before_and_end_after() {
        let changes = [
            put(Kind::NodePool, READ),
            put(Kind::Operation, READ),
            put(Kind::Cluster, READ),
            put(Kind::Operation, Expected::Absent),
            put(Kind::NodePool, Expected::Absent),
        ];
        let plan = Plan::of(&changes).unwrap();
        assert_eq!(plan.begun, [3]);
        assert_eq!(plan.decisive, Some(2));
        assert_eq!(plan.rest, [0, 4]);
        assert_eq!(plan.ended, [1]);
    }

    #[test]
    fn two_pools_in_one_step_are_refused_and_nothing_is_planned_for_checks() {
        let two = [
            put(Kind::NodePool, READ),
            put(Kind::NodePool, Expected::Absent),
        ];
        let error = Plan::of(&two).unwrap_err();
        assert!(error.to_string().contains("in one step"), "{error}");
        let check = Change::Check {
            kind: Kind::Group,
            path: "g".to_owned(),
            expected: READ,
        };
        assert_eq!(Plan::of(&[check]).unwrap(), Plan::default());
    }
}

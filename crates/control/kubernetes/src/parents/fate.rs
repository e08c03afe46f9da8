//! What becomes of an operation that nobody has told its end. Pure.

use jiff::Timestamp;
use pool::{Operation, OperationError};
use uuid::Uuid;

use crate::record_object::LastOperation;

/// What an operation's target says of operations.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Target {
    /// The one in progress.
    pub(crate) operation: Option<Uuid>,
    /// The one that ended last.
    pub(crate) last: Option<LastOperation>,
}

/// An operation's end, if it has one: `asked` is the state to which its target was sent, `target` what there is of it, and
/// `is_old` that whoever began it has had the time to let its target name it.
pub(crate) fn of(
    operation: &Operation,
    asked: Option<&str>,
    target: Option<&Target>,
    is_old: bool,
    now: Timestamp,
) -> Option<Operation> {
    let id = operation.key.id;
    let operation = operation.clone();
    let Some(target) = target else {
        return if asked == Some("Deleting") {
            Some(operation.ended(None, now))
        } else if is_old {
            let reason = "The resource is not there: it was deleted meanwhile, or the request did not come to make it. Ask again if it is wanted.";
            Some(operation.canceled(reason.to_owned(), now))
        } else {
            None
        };
    };
    if target.operation == Some(id) {
        return None;
    }
    if let Some(last) = target.last.as_ref().filter(|it| it.id == id.to_string()) {
        let message = last.message.clone();
        return Some(match last.state.as_str() {
            "Succeeded" => operation.ended(None, now),
            "Canceled" => operation.canceled(message, now),
            state => {
                let error = OperationError {
                    code: format!("Reconcile{state}"),
                    message,
                };
                operation.ended(Some(error), now)
            }
        });
    }
    if !is_old {
        return None;
    }
    Some(if let Some(by) = target.operation {
        operation.preempted(by, now)
    } else {
        let reason = "The request did not come to change the resource, or something else was asked after it. Ask again if it is wanted.";
        operation.canceled(reason.to_owned(), now)
    })
}

#[cfg(test)]
mod tests {
    use pool::{GroupKey, OperationStatus, OperationTarget, SubscriptionId};

    use super::*;

    fn operation() -> Operation {
        let target = OperationTarget::Group(GroupKey {
            subscription: SubscriptionId::local(),
            group: "g".parse().unwrap(),
        });
        Operation::begin(target, Uuid::from_u128(1), Timestamp::UNIX_EPOCH)
    }

    fn fate(asked: &str, target: Option<&Target>, is_old: bool) -> Option<OperationStatus> {
        let end = of(&operation(), Some(asked), target, is_old, Timestamp::MAX)?;
        assert_eq!(end.end, Some(Timestamp::MAX));
        Some(end.status)
    }

    fn last(state: &str) -> Target {
        Target {
            operation: None,
            last: Some(LastOperation {
                id: Uuid::from_u128(1).to_string(),
                state: state.to_owned(),
                message: "why".to_owned(),
            }),
        }
    }

    #[test]
    fn what_its_target_names_goes_on() {
        let target = Target {
            operation: Some(Uuid::from_u128(1)),
            last: None,
        };
        assert_eq!(fate("Creating", Some(&target), true), None);
    }

    #[test]
    fn what_its_target_says_of_its_end_is_its_end() {
        for (state, status) in [
            ("Succeeded", OperationStatus::Succeeded),
            ("Failed", OperationStatus::Failed),
            ("Canceled", OperationStatus::Canceled),
        ] {
            assert_eq!(fate("Updating", Some(&last(state)), false), Some(status));
        }
    }

    #[test]
    fn a_deletion_has_succeeded_when_its_target_is_gone_and_nothing_else_has() {
        assert_eq!(
            fate("Deleting", None, false),
            Some(OperationStatus::Succeeded)
        );
        // Its target is about to be made.
        assert_eq!(fate("Creating", None, false), None);
        assert_eq!(
            fate("Creating", None, true),
            Some(OperationStatus::Canceled)
        );
    }

    #[test]
    fn what_nobody_names_is_canceled_after_a_while_with_what_took_its_place() {
        let other = Target {
            operation: Some(Uuid::from_u128(2)),
            last: None,
        };
        assert_eq!(fate("Scaling", Some(&other), false), None);
        let end = of(&operation(), None, Some(&other), true, Timestamp::MAX).unwrap();
        assert_eq!(end.error.unwrap().code, "OperationPreempted");
        assert_eq!(
            fate("Scaling", Some(&Target::default()), true),
            Some(OperationStatus::Canceled)
        );
    }
}

//! What of a pool's way is worth an event. Pure.

use kube::runtime::events::{Event, EventType};
use pool::Reason;

use crate::node_pool::NodePoolStatus;

/// How long an event's note may be: the API server takes 1 KiB.
const NOTE: usize = 1000;

/// What was told of a pool so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Story {
    /// The reason that was told last; none at first, when it may have been told by another operator.
    reason: Option<String>,
}

impl Story {
    /// The event that a status is worth, if it is one.
    pub(crate) fn next(&mut self, status: Option<&NodePoolStatus>) -> Option<Event> {
        let status = status?;
        let before = self.reason.replace(status.reason.clone());
        if before.as_ref() == Some(&status.reason) || status.reason == Reason::Unknown.to_string() {
            return None;
        }
        // What holds from the start is news only where it is the pool's first.
        if before.is_none() && status.reason == Reason::AsAsked.to_string() {
            return None;
        }
        let type_ = match serde_json::from_value(status.reason.clone().into()) {
            Ok(
                Reason::TooFewNodes
                | Reason::RollingBack
                | Reason::RolledBack
                | Reason::NodeFailed
                | Reason::ProviderFailed
                | Reason::InvalidSpec,
            ) => EventType::Warning,
            _ => EventType::Normal,
        };
        let mut note = match status.message.as_str() {
            "" => format!("all {} nodes are as asked", status.nodes),
            said => said.to_owned(),
        };
        if note.len() > NOTE {
            let end = note.floor_char_boundary(NOTE - 3);
            note.truncate(end);
            note.push_str("...");
        }
        Some(Event {
            type_,
            reason: status.reason.clone(),
            note: Some(note),
            action: "Reconcile".to_owned(),
            secondary: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(reason: Reason, message: &str) -> NodePoolStatus {
        NodePoolStatus {
            reason: reason.to_string(),
            message: message.to_owned(),
            ..NodePoolStatus::default()
        }
    }

    #[test]
    fn each_turn_is_told_once() {
        let mut story = Story::default();
        let few = status(Reason::TooFewNodes, "1 more node is needed");
        let told = story.next(Some(&few)).unwrap();
        assert_eq!(told.note.as_deref(), Some("1 more node is needed"));
        assert!(matches!(told.type_, EventType::Warning));
        assert!(story.next(Some(&few)).is_none());
        let done = story.next(Some(&status(Reason::AsAsked, ""))).unwrap();
        assert!(matches!(done.type_, EventType::Normal));
    }

    #[test]
    fn an_operator_that_starts_does_not_tell_that_all_is_well() {
        let mut story = Story::default();
        assert!(story.next(Some(&status(Reason::AsAsked, ""))).is_none());
    }

    #[test]
    fn a_note_is_never_longer_than_the_api_server_takes() {
        let long = "ä".repeat(2000);
        let told = Story::default().next(Some(&status(Reason::NodeFailed, &long)));
        assert!(told.unwrap().note.unwrap().len() <= 1024);
    }
}

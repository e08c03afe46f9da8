//! Lists that go across the scopes of roles.

use std::borrow::Cow;

use crate::scope::{RoleScope, is_id};

/// A list of what roles can be on, or of what is in it. All others are of one resource, and whoever may see that may see them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum List<'a> {
    /// Of subscriptions.
    Subscriptions,
    /// Of what is in a subscription, or in one of its resource groups.
    In {
        subscription: &'a str,
        group: Option<&'a str>,
    },
}

impl<'a> List<'a> {
    /// The list at a path, if there is one.
    pub(crate) fn of(path: &'a [Cow<'a, str>]) -> Option<Self> {
        let folded: Vec<String> = path.iter().map(|part| part.to_ascii_lowercase()).collect();
        let folded: Vec<&str> = folded.iter().map(String::as_str).collect();
        let group = match folded.as_slice() {
            ["subscriptions"] => return Some(Self::Subscriptions),
            ["subscriptions", _, "resourcegroups" | "resources"]
            | [
                "subscriptions",
                _,
                "providers",
                "microsoft.containerservice",
                "managedclusters" | "snapshots",
            ] => None,
            ["subscriptions", _, "resourcegroups", _, "resources"]
            | [
                "subscriptions",
                _,
                "resourcegroups",
                _,
                "providers",
                "microsoft.containerservice",
                "managedclusters",
            ] => Some(path.get(3)?.as_ref()),
            _ => return None,
        };
        let subscription = path.get(1)?.as_ref();
        Some(Self::In {
            subscription,
            group,
        })
    }

    /// Whether what a scope covers may be on it.
    pub(crate) fn has(&self, scope: &RoleScope) -> bool {
        match self {
            Self::Subscriptions => true,
            Self::In {
                subscription,
                group,
            } => {
                let is_there = |group: &&str| {
                    let of = scope.resource_group();
                    of.is_none_or(|of| of.eq_ignore_ascii_case(group))
                };
                is_id(subscription, scope.subscription_id()) && group.as_ref().is_none_or(is_there)
            }
        }
    }
}

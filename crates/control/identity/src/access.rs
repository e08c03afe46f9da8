//! Whether a principal may do something: by its roles on the scopes that cover the path.
//!
//! A few reads belong to everybody who has a role anywhere in the subscription, as in Azure: the list of subscriptions and tenants,
//! the subscription itself, its locations and providers, and the long-running operations, whose ids nobody can guess.
//!
//! Lists that go across scopes are for everybody who has a role on something that may be listed: as far as these roles
//! [reach](Reach), and no further.

mod list;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::PrincipalId;
use crate::principal::Principal;
use crate::role::{Action, Role};
use crate::scope::{RoleScope, is_id, segments};
use list::List;

/// A role on a scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// Where it holds.
    pub scope: RoleScope,
}

/// A role of a principal on a scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Whose it is.
    pub principal: PrincipalId,
    /// The role.
    pub role: Role,
    /// Where it holds.
    pub scope: RoleScope,
}

/// How far somebody who is let through may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All that is at the path.
    Whole,
    /// It is a list, of which only what these scopes cover may be shown, and nothing else may be told of.
    Parts(Vec<RoleScope>),
}

/// Decides by the roles that a principal has.
pub(crate) fn decide<'a>(
    grants: &(impl Iterator<Item = (Role, &'a RoleScope)> + Clone),
    principal: &Principal,
    action: Action,
    path: &str,
) -> Result<Reach, Denied> {
    let denied = || Denied::new(principal, action, path);
    let segments = segments(path).ok_or_else(denied)?;
    let covered = grants
        .clone()
        .any(|(role, scope)| role.allows(action) && scope.covers_segments(&segments));
    let common = || {
        let everybodys = Everybodys::of(&segments);
        let mut scopes = grants.clone().map(|(_, scope)| scope);
        everybodys.is_some_and(|everybodys| scopes.any(|scope| everybodys.is_seen_from(scope)))
    };
    if covered || (action == Action::Read && common()) {
        return Ok(Reach::Whole);
    }
    let list = List::of(&segments).filter(|_| action == Action::Read);
    let list = list.ok_or_else(denied)?;
    let listed = grants.clone().filter(|(role, _)| role.allows(action));
    let listed = listed.map(|(_, scope)| scope);
    let parts: Vec<_> = listed.filter(|scope| list.has(scope)).cloned().collect();
    if parts.is_empty() {
        return Err(denied());
    }
    Ok(Reach::Parts(parts))
}

/// What everybody with any role may read.
enum Everybodys<'a> {
    OfTheTenant,
    OfASubscription(&'a str),
}

impl<'a> Everybodys<'a> {
    fn of(path: &'a [Cow<'a, str>]) -> Option<Self> {
        let folded: Vec<String> = path.iter().map(|part| part.to_ascii_lowercase()).collect();
        let folded: Vec<&str> = folded.iter().map(String::as_str).collect();
        match folded.as_slice() {
            ["tenants" | "providers"] | ["providers", _] | ["providers", _, "operations"] => {
                Some(Self::OfTheTenant)
            }
            ["subscriptions", _]
            | ["subscriptions", _, "locations" | "providers"]
            | ["subscriptions", _, "providers" | "operationresults", _]
            | ["subscriptions", _, "providers", _, "locations", ..] => {
                Some(Self::OfASubscription(path.get(1)?))
            }
            _ => None,
        }
    }

    fn is_seen_from(&self, scope: &RoleScope) -> bool {
        match self {
            Self::OfTheTenant => true,
            Self::OfASubscription(id) => is_id(id, scope.subscription_id()),
        }
    }
}

/// A principal has no role that allows what it asks for: ARM's `AuthorizationFailed`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "The client '{name}' with object id '{id}' does not have authorization to perform action '{operation}' over scope '{scope}' or \
     the scope is invalid. If access was recently granted, please refresh your credentials."
)]
pub struct Denied {
    name: String,
    id: Uuid,
    operation: String,
    scope: String,
}

impl Denied {
    /// ARM's code for it; its status is 403.
    pub const CODE: &'static str = "AuthorizationFailed";

    fn new(principal: &Principal, action: Action, path: &str) -> Self {
        Self {
            name: principal.name.clone(),
            id: principal.id.0,
            operation: operation(action, path),
            scope: path.trim_end_matches('/').chars().take(1024).collect(),
        }
    }

    /// ARM's code for it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        Self::CODE
    }
}

/// The name that ARM has for an action on the resource at a path, such as `Microsoft.ContainerService/managedClusters/write`.
fn operation(action: Action, path: &str) -> String {
    let all: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let is_action = matches!(
        action,
        Action::Act | Action::Credentials | Action::AdminCredentials
    );
    let (resource, verb) = match (all.split_last(), action) {
        (Some((last, resource)), _) if is_action => (resource, format!("{last}/action")),
        (_, Action::Read) => (all.as_slice(), "read".to_owned()),
        (_, Action::Delete) => (all.as_slice(), "delete".to_owned()),
        (_, _) => (all.as_slice(), "write".to_owned()),
    };
    let provider = resource
        .iter()
        .rposition(|part| part.eq_ignore_ascii_case("providers"));
    let (namespace, types) = match provider.and_then(|at| resource.get(at + 1..)) {
        Some([namespace, types @ ..]) => (*namespace, types),
        _ => ("Microsoft.Resources", resource),
    };
    let mut parts = vec![namespace];
    parts.extend(types.iter().step_by(2));
    format!("{}/{verb}", parts.join("/"))
}

#[cfg(test)]
mod tests;

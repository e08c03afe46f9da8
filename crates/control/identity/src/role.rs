//! Roles, and what each allows.
//!
//! | | reader | contributor | owner |
//! |---|---|---|---|
//! | read | yes | yes | yes |
//! | write, delete, act | | yes | yes |
//! | a cluster's user credentials | | yes | yes |
//! | a cluster's admin credentials | | | yes |
//!
//! Credentials are more than reading: who has them acts as somebody else, and at another server.

use std::fmt;
use std::str::FromStr;

use http::Method;
use serde::{Deserialize, Serialize};

/// What a principal is on a scope. A later one may do all that an earlier one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees everything, changes nothing.
    Reader,
    /// Changes everything, and gets a cluster's user credentials.
    Contributor,
    /// May do everything.
    Owner,
}

impl Role {
    /// All roles, from the least to the most.
    pub const ALL: [Self; 3] = [Self::Reader, Self::Contributor, Self::Owner];

    /// Whether it allows an action.
    #[must_use]
    pub fn allows(self, action: Action) -> bool {
        self >= match action {
            Action::Read => Self::Reader,
            Action::Write | Action::Delete | Action::Act | Action::Credentials => Self::Contributor,
            Action::AdminCredentials => Self::Owner,
        }
    }

    /// Its name, in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Contributor => "contributor",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// Text that names no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no role {0:?}: the roles are reader, contributor and owner")]
pub struct UnknownRole(String);

/// What a request is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// GET and HEAD.
    Read,
    /// PUT and PATCH.
    Write,
    /// DELETE.
    Delete,
    /// POST `listClusterUserCredential` and its like.
    Credentials,
    /// POST `listClusterAdminCredential`.
    AdminCredentials,
    /// Every other POST, and every method that is not known.
    Act,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::Write,
        Self::Delete,
        Self::Credentials,
        Self::AdminCredentials,
        Self::Act,
    ];

    /// The action of a request. `path` is without the query.
    #[must_use]
    pub fn of(method: &Method, path: &str) -> Self {
        match method.as_str() {
            "GET" | "HEAD" | "OPTIONS" => Self::Read,
            "PUT" | "PATCH" => Self::Write,
            "DELETE" => Self::Delete,
            "POST" => Self::of_post(path),
            _ => Self::Act,
        }
    }

    fn of_post(path: &str) -> Self {
        // A router may decode what is encoded; whoever hides a letter must not be given less to pass.
        let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
        let mut segments = path.trim_end_matches('/').rsplit('/');
        let mut next = || segments.next().unwrap_or_default().to_ascii_lowercase();
        let mut asked = next();
        // Behind /accessProfiles/NAME the word is the same for all, and the name is what tells them apart.
        if asked == "listcredential" {
            asked += &next();
        }
        if !asked.contains("credential") {
            Self::Act
        } else if asked.contains("admin") {
            Self::AdminCredentials
        } else {
            Self::Credentials
        }
    }
}

#[cfg(test)]
mod tests;

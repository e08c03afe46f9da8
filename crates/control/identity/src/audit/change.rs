//! Changes of who may do what, in the same log as requests: who made which, for whom, and what came of it.
//!
//! There is no field for a secret or a key, so none can get into it.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::Outcome;
use super::writer::{self, Lines};
use crate::id::PrincipalId;
use crate::role::Role;
use crate::scope::RoleScope;

/// What was changed: the words of the command that does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Changed {
    /// A service principal was made, with a role.
    #[serde(rename = "principal create")]
    PrincipalCreate,
    /// A principal was deleted, with its roles.
    #[serde(rename = "principal delete")]
    PrincipalDelete,
    /// A service principal was given another secret.
    #[serde(rename = "principal reset-secret")]
    PrincipalResetSecret,
    /// A principal was given a role.
    #[serde(rename = "role assign")]
    RoleAssign,
    /// A role was taken from a principal.
    #[serde(rename = "role remove")]
    RoleRemove,
    /// The authority was replaced.
    #[serde(rename = "rotate ca")]
    RotateCa,
    /// The server's certificate was replaced.
    #[serde(rename = "rotate certificate")]
    RotateCertificate,
    /// The key of tokens was replaced.
    #[serde(rename = "rotate signing-key")]
    RotateSigningKey,
    /// The managed identity's secret was replaced.
    #[serde(rename = "rotate identity-header")]
    RotateIdentityHeader,
    /// An issuer is trusted.
    #[serde(rename = "trust")]
    Trust,
    /// No other issuer is trusted any more.
    #[serde(rename = "untrust")]
    Untrust,
}

/// Who made a change: a user of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Administrator {
    /// The user's number.
    pub uid: u32,
    /// The user's name, where the machine knows one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The number of the user who logged in, where the machine keeps it and it is another: who uses sudo has this one still.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
}

/// A change, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeEntry {
    /// When it was made.
    pub time: Timestamp,
    /// Who made it.
    pub administrator: Administrator,
    /// What was changed.
    pub change: Changed,
    /// The principal's id, if it is about one that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal_id: Option<PrincipalId>,
    /// The principal's name, if it is about one and its name is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The role, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Where the role holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<RoleScope>,
    /// The issuer's host, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
}

impl ChangeEntry {
    /// A change of nothing that has a name.
    #[must_use]
    pub fn new(administrator: Administrator, change: Changed) -> Self {
        Self {
            time: Timestamp::now(),
            administrator,
            change,
            principal_id: None,
            principal: None,
            role: None,
            scope: None,
            issuer: None,
            outcome: Outcome::Failed,
        }
    }
}

/// The audit log, for a process beside the front: its lines go between the front's.
#[derive(Debug)]
pub struct ChangeLog(Lines);

impl ChangeLog {
    /// Opens it (0600; behind what is there already). It is the front that puts it aside when it is large.
    ///
    /// # Errors
    /// When the file can't be opened for writing.
    pub fn open(path: &Path) -> io::Result<Self> {
        writer::open(path).and_then(Lines::behind).map(Self)
    }

    /// Writes a change down; when this returns it is on the disk.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn record(&mut self, entry: &ChangeEntry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.0.write(&line)?;
        self.0.sync()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::{Value, json};

    use super::*;

    fn somebody() -> Administrator {
        Administrator {
            uid: 1000,
            user: Some("ada".to_owned()),
            login_uid: None,
        }
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).expect("a log");
        let line = |line| serde_json::from_str(line).expect("JSON");
        text.lines().map(line).collect()
    }

    #[test]
    fn a_change_is_a_line_behind_what_is_there_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("audit.log");
        let mut log = ChangeLog::open(&path).expect("opens");
        let mut entry = ChangeEntry::new(somebody(), Changed::RoleAssign);
        entry.principal = Some("ci\n{\"outcome\": \"allowed\"}".to_owned());
        entry.role = Some(Role::Reader);
        let scope = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/g";
        entry.scope = Some(scope.parse().expect("a scope"));
        entry.outcome = Outcome::Allowed;
        log.record(&entry).expect("written");
        // Another process, with the same file.
        let mut other = ChangeLog::open(&path).expect("opens");
        let rotated = ChangeEntry::new(somebody(), Changed::RotateCa);
        other.record(&rotated).expect("written");
        log.record(&entry).expect("written");

        let lines = lines(&path);
        assert_eq!(lines.len(), 3);
        let time = lines[0]["time"].clone();
        assert_eq!(
            lines[0],
            json!({
                "time": time,
                "administrator": {"uid": 1000, "user": "ada"},
                "change": "role assign",
                "principal": "ci\n{\"outcome\": \"allowed\"}",
                "role": "reader",
                "scope": scope,
                "outcome": "allowed",
            })
        );
        assert_eq!(lines[1]["change"], "rotate ca");
        assert_eq!(lines[1]["outcome"], "failed");
        assert_eq!(lines[0], lines[2]);
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

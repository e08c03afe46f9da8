//! What the commands of `migpool azure` change is written down where the front writes what is asked of it.

use std::path::{Path, PathBuf};

use identity::{Administrator, ChangeEntry, ChangeLog, Changed, IdentityError, Outcome};

use crate::command::azure::keeper::{FrontOptions, failure};
use crate::failure::Failure;

/// What `/proc/self/loginuid` has where nobody has logged in.
const NOBODY: u32 = u32::MAX;

/// The front's audit log, for changes that are about to be made.
#[derive(Debug)]
pub(crate) struct Changes {
    /// None for a front in a cluster: its log is its standard output, and the API server's own log has who changed its Secret.
    log: Option<(PathBuf, ChangeLog)>,
}

impl Changes {
    /// Opens the log before anything is changed, so that nothing is where there can be no log.
    pub(crate) fn of(front: &FrontOptions) -> Result<Self, Failure> {
        if front.is_in_a_cluster()? {
            return Ok(Self { log: None });
        }
        Self::at(front.folder()?.audit_log())
    }

    fn at(path: PathBuf) -> Result<Self, Failure> {
        let log = ChangeLog::open(&path).map_err(|error| {
            Failure::failed(format!(
                "nothing was changed, since it can't be written down in {}: {error}",
                path.display()
            ))
        })?;
        Ok(Self {
            log: Some((path, log)),
        })
    }

    /// Writes down what came of a change; `describe` adds what it was about.
    pub(crate) fn record<T>(
        &mut self,
        change: Changed,
        made: Result<T, IdentityError>,
        describe: impl FnOnce(&mut ChangeEntry, Option<&T>),
    ) -> Result<T, Failure> {
        if let Some((path, log)) = &mut self.log {
            let mut entry = ChangeEntry::new(administrator(), change);
            describe(&mut entry, made.as_ref().ok());
            if made.is_ok() {
                entry.outcome = Outcome::Allowed;
            }
            // What was made may be a secret that is shown this once.
            if let Err(error) = log.record(&entry) {
                let path = path.display();
                anstream::eprintln!("warning: this is not written down in {path}: {error}");
            }
        }
        made.map_err(failure)
    }
}

/// The user of this process.
fn administrator() -> Administrator {
    let uid = rustix::process::getuid().as_raw();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let login = std::fs::read_to_string(Path::new("/proc/self/loginuid")).unwrap_or_default();
    Administrator {
        uid,
        user: name_of(uid, &users),
        login_uid: who_logged_in(&login).filter(|login| *login != uid),
    }
}

/// A user's name, by the lines of `/etc/passwd`: NAME:PASSWORD:NUMBER and so on.
fn name_of(uid: u32, users: &str) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let number = fields.nth(1)?.parse::<u32>().ok()?;
        (number == uid).then(|| name.to_owned())
    })
}

fn who_logged_in(text: &str) -> Option<u32> {
    let uid = text.trim().parse().ok()?;
    (uid != NOBODY).then_some(uid)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_user_is_named_by_number() {
        let users = "root:x:0:0::/root:/bin/sh\n\nbroken\n:x:7\nada:x:1000:1000::/:/bin/sh\nada2:x:1000:1::/:/bin/sh\n";
        assert_eq!(name_of(0, users).as_deref(), Some("root"));
        assert_eq!(name_of(1000, users).as_deref(), Some("ada"));
        assert_eq!(name_of(7, users), None);
        assert_eq!(name_of(10, users), None);
        assert_eq!(who_logged_in("1000"), Some(1000));
        assert_eq!(who_logged_in("4294967295\n"), None);
        assert_eq!(who_logged_in(""), None);
    }

    #[test]
    fn what_failed_is_written_down_too_and_without_a_log_nothing_begins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut changes = Changes::at(path.clone()).unwrap();
        let made: Result<(), _> = Err(IdentityError::NameTaken("ci".to_owned()));
        let told = changes.record(Changed::PrincipalCreate, made, |entry, made| {
            assert!(made.is_none());
            entry.principal = Some("ci".to_owned());
        });
        assert!(told.unwrap_err().to_string().contains("ci"));
        let made = changes.record(Changed::RotateCa, Ok(7), |_, made| {
            assert_eq!(made, Some(&7));
        });
        assert_eq!(made.unwrap(), 7);

        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0]["outcome"], "failed");
        assert_eq!(lines[0]["change"], "principal create");
        assert_eq!(lines[0]["principal"], "ci");
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(lines[0]["administrator"]["uid"], uid);
        assert_eq!(lines[1]["outcome"], "allowed");
        assert_eq!(lines.len(), 2);

        let nowhere = Changes::at(dir.path().join("none/audit.log")).unwrap_err();
        let told = nowhere.to_string();
        assert!(told.contains("nothing was changed"), "{told}");
    }
}

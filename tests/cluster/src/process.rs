//! Finding the cluster's processes from outside its namespaces.
//!
//! Each carries in its environment which cluster it belongs to and as what it was started. So no record can be wrong
//! about what is running, and what a killed test run left can still be found.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// The variable that marks a process: the cluster's state folder.
pub(crate) const CLUSTER: &str = "MIGPOOL_CLUSTER_STATE";
/// The variable that says which of the cluster's services it is, or is a child of.
pub(crate) const SERVICE: &str = "MIGPOOL_CLUSTER_SERVICE";

/// All processes that the cluster of this state folder started.
pub(crate) fn of_cluster(state: &Path) -> Vec<Pid> {
    let mark = format!("{CLUSTER}={}", state.display());
    all().filter(|&pid| carries(pid, &mark)).collect()
}

/// The process that was started as `service`, and that has the number `inner` in its own pid namespace.
pub(crate) fn of_service(state: &Path, service: &str, inner: u32) -> Option<Pid> {
    let cluster = format!("{CLUSTER}={}", state.display());
    let service = format!("{SERVICE}={service}");
    all().find(|&pid| {
        inner_pid(pid) == Some(inner) && carries(pid, &cluster) && carries(pid, &service)
    })
}

/// Sends a signal; that the process is gone already is as good.
pub(crate) fn signal(pid: Pid, signal: Signal) {
    // The only other failure, that it may not be sent, cannot happen to root.
    let _ = kill_process(pid, signal);
}

/// Whether it still runs. One that has ended and waits for its parent to notice does not.
pub(crate) fn runs(pid: Pid) -> bool {
    let status = fs::read_to_string(proc(pid).join("status")).unwrap_or_default();
    field(&status, "State").is_some_and(|state| !state.starts_with(['Z', 'X']))
}

fn all() -> impl Iterator<Item = Pid> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
}

fn carries(pid: Pid, mark: &str) -> bool {
    let environment = fs::read(proc(pid).join("environ")).unwrap_or_default();
    environment
        .split(|&byte| byte == 0)
        .any(|variable| variable == mark.as_bytes())
}

/// The process's number in the innermost pid namespace that it is in.
fn inner_pid(pid: Pid) -> Option<u32> {
    let status = fs::read_to_string(proc(pid).join("status")).ok()?;
    field(&status, "NSpid")?
        .split_whitespace()
        .last()?
        .parse()
        .ok()
}

fn field<'status>(status: &'status str, name: &str) -> Option<&'status str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

fn proc(pid: Pid) -> std::path::PathBuf {
    Path::new("/proc").join(pid.to_string())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_process_is_found_by_its_marks_until_it_ends() {
        let state = tempfile::tempdir().unwrap();
        let mut child = Command::new("sleep")
            .arg("1000")
            .env(CLUSTER, state.path())
            .env(SERVICE, "sleeper")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        // Its environment is there once it has become the program.
        let found = || of_service(state.path(), "sleeper", child.id()).ok_or("none");
        crate::wait::until("the marks", Duration::from_mins(1), found).unwrap();
        assert_eq!(of_cluster(state.path()), [pid]);
        assert_eq!(of_service(state.path(), "sleeper", child.id() + 1), None);
        assert_eq!(of_service(state.path(), "other", child.id()), None);
        assert!(runs(pid));
        signal(pid, Signal::KILL);
        child.wait().unwrap();
        assert!(!runs(pid));
        assert!(of_cluster(state.path()).is_empty());
    }

    #[test]
    fn the_innermost_number_is_taken() {
        let status = "Name:\tsh\nState:\tS (sleeping)\nNSpid:\t4711\t23\t1\n";
        assert_eq!(field(status, "NSpid"), Some("4711\t23\t1"));
        assert_eq!(field(status, "State"), Some("S (sleeping)"));
    }
}

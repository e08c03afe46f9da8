//! Processes of this machine: which one is meant, whether it lives, and how to end it.
//!
//! A pid alone names nothing, because pids are used again. A [`ProcessId`] is a pid with its start
//! time and the boot that both belong to, and a [`ProcessHandle`] is a pidfd taken out and then
//! checked against it, so a signal can never reach a stranger.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One process of one boot of this machine, and no other for all time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessId {
    /// Its pid.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_time: u64,
    /// The boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
}

impl ProcessId {
    /// This process.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn current() -> io::Result<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self::of(pid)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// The live process with this pid; `None` when there is none, or only its zombie.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn of(pid: i32) -> io::Result<Option<Self>> {
        let Some(stat) = Stat::of(pid)? else {
            return Ok(None);
        };
        Ok(stat.is_alive().then_some(Self {
            pid,
            start_time: stat.start_time,
            boot_id: boot_id()?,
        }))
    }

    /// A handle on this very process; `None` when it is gone.
    ///
    /// # Errors
    /// When the kernel refuses a pidfd for another reason than that the process is gone. Needs a
    /// tokio runtime.
    pub fn open(&self) -> io::Result<Option<ProcessHandle>> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(None);
        };
        let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        // The pidfd pins the pid: what `/proc` says now is about the process the pidfd holds.
        if Self::of(self.pid)?.as_ref() != Some(self) {
            return Ok(None);
        }
        // Deprecated for descriptors that could be closed while they are registered; this one is owned.
        #[allow(deprecated)]
        let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
        Ok(Some(ProcessHandle { pidfd }))
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.pid, self.start_time, self.boot_id)
    }
}

impl FromStr for ProcessId {
    type Err = NotAProcess;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split_whitespace();
        let parsed = (|| {
            Some(Self {
                pid: words.next()?.parse().ok()?,
                start_time: words.next()?.parse().ok()?,
                boot_id: words.next()?.to_owned(),
            })
        })();
        parsed.ok_or_else(|| NotAProcess(text.to_owned()))
    }
}

/// The text does not name a process.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} does not name a process: expected its pid, start time and boot")]
pub struct NotAProcess(String);

/// A pidfd: it names one process until it is dropped.
#[derive(Debug)]
pub struct ProcessHandle {
    pidfd: AsyncFd<OwnedFd>,
}

impl ProcessHandle {
    /// Waits until the process has ended.
    ///
    /// # Errors
    /// When the pidfd cannot be polled.
    pub async fn ended(&self) -> io::Result<()> {
        self.pidfd.readable().await.map(|_ready| ())
    }

    /// Sends a signal; a process that is gone is no error.
    ///
    /// # Errors
    /// When the kernel refuses for another reason, such as another user's process.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(self.pidfd.get_ref(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// What `/proc/PID/stat` says, as far as it is needed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The process.
    pub pid: i32,
    /// Its state: `R`, `S`, `Z`...
    pub state: char,
    /// Its parent.
    pub parent: i32,
    /// Start time in clock ticks since boot.
    pub start_time: u64,
}

impl Stat {
    /// Reads one process; `None` when there is none with this pid.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn of(pid: i32) -> io::Result<Option<Self>> {
        match fs::read(format!("/proc/{pid}/stat")) {
            Ok(bytes) => Ok(Self::parse(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // The process ended between open and read.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        // The program's name is in parentheses and may itself hold spaces and parentheses.
        let pid = text.split(' ').next()?.parse().ok()?;
        let rest = text.get(text.rfind(')')? + 1..)?;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        // Fields 5 to 21 lie between the parent (4) and the start time (22).
        let start_time = fields.nth(17)?.parse().ok()?;
        Some(Self {
            pid,
            state,
            parent,
            start_time,
        })
    }

    fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Every process that descends from `ancestor`, nearest first, zombies left out.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn descendants(ancestor: i32) -> io::Result<Vec<i32>> {
    Ok(descendants_in(ancestor, &table()?))
}

fn table() -> io::Result<Vec<Stat>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
            all.extend(Stat::of(pid)?);
        }
    }
    Ok(all)
}

fn descendants_in(ancestor: i32, table: &[Stat]) -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<&Stat>> = BTreeMap::new();
    for stat in table {
        children.entry(stat.parent).or_default().push(stat);
    }
    let mut found = Vec::new();
    let mut open = vec![ancestor];
    while let Some(parent) = open.pop() {
        for stat in children.remove(&parent).unwrap_or_default() {
            if stat.is_alive() {
                found.push(stat.pid);
            }
            open.push(stat.pid);
        }
    }
    found
}

/// The live processes of this user whose environment holds `NAME=VALUE` as they were started.
/// What is left of a pod whose shim was killed is found by this.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn with_environment(name: &str, value: &str) -> io::Result<Vec<ProcessId>> {
    let wanted = format!("{name}={value}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let file_name = entry?.file_name();
        let Some(pid) = file_name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Some(process) = ProcessId::of(pid)? else {
            continue;
        };
        // Other users' processes cannot be read, and are none of ours.
        let Ok(environment) = environment(pid) else {
            continue;
        };
        if environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == wanted.as_bytes())
        {
            found.push(process);
        }
    }
    Ok(found)
}

/// The environment of a process. In the midst of an exec it reads as empty, so an empty one is looked at again; threads of
/// the kernel, which have none, have no program either.
fn environment(pid: i32) -> io::Result<Vec<u8>> {
    const LOOKS: u32 = 5;
    let mut looks = 1;
    loop {
        let environment = fs::read(format!("/proc/{pid}/environ"))?;
        let settled = !environment.is_empty() || looks == LOOKS;
        if settled || fs::read_link(format!("/proc/{pid}/exe")).is_err() {
            return Ok(environment);
        }
        looks += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_program_name_with_parentheses_and_spaces_does_not_confuse_the_fields() {
        let line = "42 (a ) b) (c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 10";
        let stat = Stat::parse(line).expect("parses");
        assert_eq!(
            stat,
            Stat {
                pid: 42,
                state: 'S',
                parent: 7,
                start_time: 987_654
            }
        );
    }

    #[test]
    fn a_process_is_itself_after_a_round_trip_through_text() {
        let process = ProcessId::current().expect("this process");
        assert_eq!(
            process.to_string().parse::<ProcessId>().expect("parses"),
            process
        );
        assert!("12 oops".parse::<ProcessId>().is_err());
    }

    #[test]
    fn descendants_skip_zombies_but_not_their_children() {
        let stat = |pid, parent, state| Stat {
            pid,
            state,
            parent,
            start_time: 1,
        };
        let table = [
            stat(10, 1, 'S'),
            stat(11, 10, 'Z'),
            stat(12, 11, 'S'),
            stat(13, 10, 'R'),
            stat(99, 1, 'S'),
        ];
        let mut found = descendants_in(10, &table);
        found.sort_unstable();
        assert_eq!(found, [12, 13]);
    }

    #[tokio::test]
    async fn another_process_with_the_same_pid_is_not_taken_for_it() {
        let mut process = ProcessId::current().expect("this process");
        assert!(process.open().expect("open").is_some());
        process.start_time += 1;
        assert!(process.open().expect("open").is_none());
    }

    #[tokio::test]
    async fn an_ended_process_is_seen_to_end_and_is_found_by_its_environment_until_then() {
        let mark = format!("{}", std::process::id());
        let mut child = Command::new("sleep")
            .arg("60")
            .env("MIGPOOL_PROCESS_TEST", &mark)
            .stdin(Stdio::null())
            .spawn()
            .expect("spawn");
        let pid = i32::try_from(child.id()).expect("pid");
        let found = with_environment("MIGPOOL_PROCESS_TEST", &mark).expect("scan");
        assert_eq!(found.iter().map(|p| p.pid).collect::<Vec<_>>(), [pid]);
        let handle = found[0].open().expect("open").expect("alive");
        handle.signal(Signal::KILL).expect("signal");
        handle.ended().await.expect("ended");
        assert!(found[0].open().expect("open").is_none());
        child.wait().expect("reaped");
    }
}

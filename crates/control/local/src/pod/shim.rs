//! The process between `up` and one container: it starts the container's command, holds its output,
//! restarts it by the pod's policy, ends it, and says what happened in a file that `up` reads.
//!
//! It lives in its own session, so nothing that happens to `up` or its terminal touches a pod. As
//! child subreaper it inherits every process that the container leaves behind, so that when it ends,
//! the container's processes are gone. A second stage of the same program becomes the container's
//! command: it ties its life to the shim's (parent death signal), so that a shim killed with
//! `kill -9` takes the command with it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use crate::pod::container::{
    Claim, ContainerFolder, ContainerSpec, ContainerState, ContainerStatus, RestartPolicy,
    Terminated,
};
use crate::process;

/// The arguments of `migpool pod-shim`; the command is for `up` alone and hidden from people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimArgs {
    /// The container's folder, which holds `container.json`. The first positional argument.
    pub folder: PathBuf,
    /// The shim's generation, `--generation N`: only one shim can ever claim one.
    pub generation: u64,
    /// `--exec`: the second stage, which becomes the container's own process.
    pub exec: bool,
}

impl ShimArgs {
    /// The arguments that a command line must turn back into this value, `pod-shim` first.
    #[must_use]
    pub fn command_line(&self) -> Vec<std::ffi::OsString> {
        let mut words = vec!["pod-shim".into(), self.folder.clone().into_os_string()];
        words.push("--generation".into());
        words.push(self.generation.to_string().into());
        if self.exec {
            words.push("--exec".into());
        }
        words
    }
}

/// The variable that every process of a container is given, to be found by when all else is lost.
pub const CONTAINER_MARK: &str = "MIGPOOL_CONTAINER";

/// The exit status of a container whose command could not be started, as the kubelet reports it.
const START_ERROR: i32 = 128;

/// How long to wait before a status that could not be written is written again.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// Runs the shim to its end. Builds its own runtime; call it on the main thread of a program that
/// has started no runtime of its own (the container's death signal is tied to that thread).
#[must_use]
pub fn run(args: &ShimArgs) -> ExitCode {
    let folder = ContainerFolder::new(args.folder.clone());
    if args.exec {
        return become_container(&folder, args.generation);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    match runtime.block_on(shim(&folder, args.generation)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("container in {}: {error}", args.folder.display())),
    }
}

fn fail(message: &str) -> ExitCode {
    // The container's log, which may be on a full disk: nothing to panic about.
    let _ = writeln!(io::stderr(), "migpool pod-shim: {message}");
    ExitCode::FAILURE
}

async fn shim(folder: &ContainerFolder, generation: u64) -> io::Result<()> {
    // Already a leader only when a person runs it by hand; the container still gets its own session.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let Some(spec) = folder.read_spec()? else {
        // The pod was deleted before this process got to run.
        return Ok(());
    };
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        child: signal(SignalKind::child())?,
        // Listened to so that neither ends the shim.
        _interrupt: signal(SignalKind::interrupt())?,
        _hangup: signal(SignalKind::hangup())?,
    };
    if folder.claim(generation)? == Claim::Taken {
        return Ok(());
    }
    let mut status = folder_status(&spec, generation);
    loop {
        let run = run_once(folder, &spec, &mut status, &mut signals).await?;
        status.last = Some(run.ended.clone());
        let again = !run.asked_to_end && spec.restart_policy.restarts(run.ended.exit_code);
        if !again {
            status.state = ContainerState::Terminated(run.ended);
            status.finished = true;
            write_at_last(&status, &spec.status_file, &mut signals).await;
            return Ok(());
        }
        let delay = back_off(status.restart_count, run.lasted);
        if !delay.is_zero() {
            status.state = ContainerState::Waiting {
                reason: "CrashLoopBackOff".to_owned(),
                message: format!(
                    "back-off {} s restarting failed container {}",
                    delay.as_secs(),
                    spec.name
                ),
            };
            // The container is started again whether or not this can be told.
            let _ = status.write(&spec.status_file);
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = signals.terminate.recv() => {
                    status.state = ContainerState::Terminated(run.ended);
                    status.finished = true;
                    write_at_last(&status, &spec.status_file, &mut signals).await;
                    return Ok(());
                }
            }
        }
        status.restart_count = status.restart_count.saturating_add(1);
    }
}

/// Writes how it ended. While that fails, because the disk is full, it is tried again: a shim that
/// ended without a word would be taken for a killed one. When the pod is to end nobody asks any more.
async fn write_at_last(status: &ContainerStatus, file: &Path, signals: &mut Signals) {
    while status.write(file).is_err() {
        tokio::select! {
            () = tokio::time::sleep(WRITE_AGAIN) => {}
            _ = signals.terminate.recv() => return,
        }
    }
}

struct Signals {
    terminate: SignalStream,
    child: SignalStream,
    _interrupt: SignalStream,
    _hangup: SignalStream,
}

/// Goes on counting where an earlier shim of the same container stopped.
fn folder_status(spec: &ContainerSpec, generation: u64) -> ContainerStatus {
    let earlier = ContainerStatus::read(&spec.status_file).ok().flatten();
    let mut status = ContainerStatus::new(generation);
    if let Some(earlier) = earlier {
        status.restart_count = earlier.restart_count.saturating_add(1);
        status.last = earlier.last;
    }
    status
}

/// How long to wait before the next start: at once the first time, then 10 s, doubled up to 5
/// minutes, and from the beginning again after a run of 10 minutes (the kubelet's numbers).
fn back_off(restarts: u32, lasted: Duration) -> Duration {
    const FIRST: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_mins(5);
    if restarts == 0 || lasted >= 2 * LONGEST {
        return Duration::ZERO;
    }
    FIRST
        .saturating_mul(1_u32.checked_shl(restarts - 1).unwrap_or(u32::MAX))
        .min(LONGEST)
}

struct Run {
    ended: Terminated,
    lasted: Duration,
    asked_to_end: bool,
}

async fn run_once(
    folder: &ContainerFolder,
    spec: &ContainerSpec,
    status: &mut ContainerStatus,
    signals: &mut Signals,
) -> io::Result<Run> {
    folder.forget_start_error()?;
    let started_at = Timestamp::now();
    let clock = Instant::now();
    let pid = match spawn(folder, spec, status.generation) {
        Ok(pid) => pid,
        Err(error) => {
            let ended = Terminated {
                exit_code: START_ERROR,
                signal: None,
                reason: "StartError".to_owned(),
                message: format!("cannot start container {}: {error}", spec.name),
                started_at,
                finished_at: Timestamp::now(),
            };
            return Ok(Run {
                ended,
                lasted: Duration::ZERO,
                asked_to_end: false,
            });
        }
    };
    status.state = ContainerState::Running {
        pid: pid.as_raw_nonzero().get(),
        started_at,
    };
    // A container that runs is not ended because nobody can be told of it.
    let mut untold = status.write(&spec.status_file).is_err();

    let mut asked_to_end = false;
    let mut deadline = None;
    let exit = loop {
        if let Some(exit) = reap(pid)? {
            break exit;
        }
        let grace = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = signals.child.recv() => {}
            () = tokio::time::sleep(WRITE_AGAIN), if untold => {
                untold = status.write(&spec.status_file).is_err();
            }
            _ = signals.terminate.recv(), if !asked_to_end => {
                asked_to_end = true;
                let grace = Duration::from_secs(spec.grace_seconds);
                deadline = Some(tokio::time::Instant::now() + grace);
                signal_group(pid, Signal::TERM);
            }
            () = grace => {
                deadline = None;
                signal_group(pid, Signal::KILL);
                end_descendants(&mut signals.child, Some(pid)).await?;
            }
        }
    };
    // Like a container's first process: when it ends, all that it started ends.
    end_descendants(&mut signals.child, None).await?;
    let ended = terminated(folder, exit, started_at);
    Ok(Run {
        ended,
        lasted: clock.elapsed(),
        asked_to_end,
    })
}

fn spawn(folder: &ContainerFolder, spec: &ContainerSpec, generation: u64) -> io::Result<Pid> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&spec.log_file)?;
    let second = ShimArgs {
        folder: folder.path().to_owned(),
        generation,
        exec: true,
    };
    // `/proc/self/exe` is this very program even when its file has been replaced since.
    let child = Command::new("/proc/self/exe")
        .args(second.command_line())
        .env_clear()
        .env(CONTAINER_MARK, &spec.mark)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    // Dropping the handle leaves the child alone; it is reaped with the orphans, by `reap`.
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("the kernel gave a pid out of range"))
}

/// Takes every ended child, and gives back how `main` ended if it was among them.
fn reap(main: Pid) -> io::Result<Option<WaitStatus>> {
    let mut exit = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == main => exit = Some(status),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(exit),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn signal_group(leader: Pid, signal: Signal) {
    // The second stage may not yet lead a group: then the process itself is meant. A process that
    // is gone needs no signal, so no answer is an error here.
    if rustix::process::kill_process_group(leader, signal).is_err() {
        let _ = rustix::process::kill_process(leader, signal);
    }
}

/// Kills what descends from the shim until nothing is left, or nothing but the unreaped `keep`.
async fn end_descendants(child: &mut SignalStream, keep: Option<Pid>) -> io::Result<()> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    loop {
        let left = process::descendants(own)?;
        if left.is_empty() {
            return Ok(());
        }
        for pid in left.into_iter().filter_map(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        if keep.is_some() {
            return Ok(());
        }
        // A killed process that is not our child is reported to its own parent, which is also being
        // killed; look again soon even if no signal comes.
        let _ = tokio::time::timeout(Duration::from_millis(20), child.recv()).await;
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
    }
}

fn terminated(folder: &ContainerFolder, exit: WaitStatus, started_at: Timestamp) -> Terminated {
    let signal = exit.terminating_signal();
    // 128 + signal is how shells and the kubelet write a death by signal.
    let exit_code = exit
        .exit_status()
        .unwrap_or_else(|| signal.map_or(255, |signal| 128 + signal));
    let start_error = folder.start_error();
    let reason = match (&start_error, exit_code) {
        (Some(_), _) => "StartError",
        (None, 0) => "Completed",
        (None, _) => "Error",
    };
    Terminated {
        exit_code,
        signal,
        reason: reason.to_owned(),
        message: start_error.unwrap_or_default(),
        started_at,
        finished_at: Timestamp::now(),
    }
}

/// The second stage. Returns only when the command could not be started.
fn become_container(folder: &ContainerFolder, generation: u64) -> ExitCode {
    let prepared = (|| {
        rustix::process::setsid()?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The shim may have died before the line above; then nobody would end this process.
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
        let claimed_by = folder.claimed_by(generation)?.map(|process| process.pid);
        if parent != claimed_by {
            return Ok(None);
        }
        folder.read_spec()
    })();
    let spec = match prepared {
        Ok(Some(spec)) => spec,
        Ok(None) => return ExitCode::FAILURE,
        Err(error) => return start_failed(folder, &error.to_string()),
    };
    let Some((program, arguments)) = spec.command.split_first() else {
        return start_failed(folder, "the container has no command");
    };
    let error = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&spec.environment)
        .current_dir(&spec.working_dir)
        .exec();
    let place = if fs::metadata(&spec.working_dir).is_ok() {
        String::new()
    } else {
        format!(
            " (working directory {} does not exist)",
            spec.working_dir.display()
        )
    };
    start_failed(folder, &format!("cannot start {program:?}: {error}{place}"))
}

fn start_failed(folder: &ContainerFolder, message: &str) -> ExitCode {
    let _ = fail(message);
    if let Err(error) = folder.write_start_error(message) {
        let _ = fail(&error.to_string());
    }
    u8::try_from(START_ERROR).map_or(ExitCode::FAILURE, ExitCode::from)
}

impl RestartPolicy {
    /// Whether a container that ended with `exit_code` is started again.
    #[must_use]
    pub fn restarts(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_starts_at_once_then_doubles_to_five_minutes_and_forgets_after_a_long_run() {
        let crash = Duration::from_secs(1);
        let delays: Vec<u64> = (0..8).map(|n| back_off(n, crash).as_secs()).collect();
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(back_off(u32::MAX, crash).as_secs(), 300);
        assert_eq!(back_off(7, Duration::from_mins(10)), Duration::ZERO);
    }

    #[tokio::test]
    async fn an_end_that_cannot_be_written_now_is_written_later() {
        let dir = tempfile::tempdir().expect("tempdir");
        let folder = dir.path().join("status");
        let file = folder.join("a.json");
        let status = ContainerStatus::new(1);
        let mut signals = Signals {
            terminate: signal(SignalKind::user_defined1()).expect("signal"),
            child: signal(SignalKind::child()).expect("signal"),
            _interrupt: signal(SignalKind::user_defined1()).expect("signal"),
            _hangup: signal(SignalKind::user_defined1()).expect("signal"),
        };
        let room = async {
            tokio::task::yield_now().await;
            assert!(ContainerStatus::read(&file).expect("read").is_none());
            fs::create_dir(&folder).expect("made");
        };
        tokio::join!(write_at_last(&status, &file, &mut signals), room);
        assert_eq!(ContainerStatus::read(&file).expect("read"), Some(status));
    }

    #[test]
    fn only_failures_restart_on_failure() {
        assert!(RestartPolicy::Always.restarts(0));
        assert!(!RestartPolicy::OnFailure.restarts(0));
        assert!(RestartPolicy::OnFailure.restarts(137));
        assert!(!RestartPolicy::Never.restarts(1));
    }
}

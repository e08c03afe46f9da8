//! A set of namespaces, held by its first process.

use std::ffi::OsStr;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use rustix::process::Pid;

use crate::process;
use crate::run;
use crate::state::{self, State};
use crate::wait::{self, TimedOut};

/// Why namespaces could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the state folder.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The program that makes them.
    #[error(transparent)]
    Run(#[from] run::Error),
    /// They were not set up in time.
    #[error("the namespaces of {name} were not set up: {source}\n{log}")]
    NotReady {
        /// Whose.
        name: String,
        /// What was waited for.
        source: TimedOut,
        /// What their script did last.
        log: String,
    },
}

/// What the first process of new namespaces does: sets them up, says that they are ready, and from then on only buries
/// the orphans of its pid namespace.
pub(crate) struct Setup<'setup> {
    /// Whose namespaces they are; unique in the cluster.
    pub(crate) name: &'setup str,
    pub(crate) script: &'setup str,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Ends them together with this process.
    pub(crate) with_owner: bool,
}

/// Namespaces that are there.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    name: String,
    first: Pid,
}

impl Namespace {
    /// Makes new namespaces: inside `outer`, or of the machine's. The pipe keeps them alive when they end with their
    /// owner.
    pub(crate) fn create(
        state: &State,
        outer: Option<&Self>,
        setup: Setup,
    ) -> Result<(Self, Option<ChildStdin>), Error> {
        let mut command = match outer {
            Some(outer) => outer.enter("setsid"),
            None => Command::new("setsid"),
        };
        let ready = state.pid(setup.name);
        let log = state.open_log(setup.name)?;
        let log_too = log.try_clone().map_err(state::error("write", &ready))?;
        state.write(&ready, "")?;
        command
            .args([
                "--fork",
                "unshare",
                "--fork",
                "--pid",
                "--mount-proc",
                "--mount",
                "--net",
            ])
            .args(["--uts", "--ipc", "sh", "-c", setup.script])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env(process::CLUSTER, state.dir())
            .env(process::SERVICE, setup.name)
            .env("READY", &ready)
            .envs(setup.environment)
            .stdin(if setup.with_owner {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(log)
            .stderr(log_too);
        let mut child = command.spawn().map_err(|source| run::Error::Start {
            command: "setsid unshare".to_owned(),
            source,
        })?;
        let owner = child.stdin.take();
        // What was started goes on without it.
        let _ = child.wait();
        let namespace = wait::until("its first process", Duration::from_secs(30), || {
            let namespace = Self::find(state, setup.name).ok_or("no process")?;
            let said = std::fs::read_to_string(&ready).unwrap_or_default();
            if said == "ready\n" {
                Ok(namespace)
            } else {
                Err("not ready")
            }
        })
        .map_err(|source| Error::NotReady {
            name: setup.name.to_owned(),
            source,
            log: state.log_tail(setup.name),
        })?;
        Ok((namespace, owner))
    }

    /// The namespaces that were made under this name.
    pub(crate) fn find(state: &State, name: &str) -> Option<Self> {
        let first = process::of_service(state.dir(), name, 1)?;
        Some(Self {
            name: name.to_owned(),
            first,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Their first process; with it ends everything in them.
    pub(crate) fn first(&self) -> Pid {
        self.first
    }

    /// A program to be run in them. It starts in their root folder. What is started here is the way in, outside of their
    /// pid namespace; the program is its child, and ends with it.
    pub(crate) fn enter(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.first.to_string()])
            .args(["--mount", "--net", "--pid", "--uts", "--ipc", "--"])
            .args(["setpriv", "--pdeathsig", "KILL"])
            .arg(program);
        command
    }
}

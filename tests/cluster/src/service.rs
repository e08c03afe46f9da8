//! One of the cluster's programs: how it is started, and whether it runs.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use crate::namespace::Namespace;
use crate::state::{self, State};
use crate::wait::{self, Not, TimedOut};
use crate::{process, run};

/// Why a service did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the state folder.
    #[error(transparent)]
    State(#[from] state::Error),
    /// Its program could not be started.
    #[error("cannot start {name}: {source}")]
    Start {
        /// The service.
        name: String,
        /// Why.
        source: run::Error,
    },
    /// It ended as soon as it was started.
    #[error("{name} ended at once\n{log}")]
    EndedAtOnce {
        /// The service.
        name: String,
        /// What it said last.
        log: String,
    },
    /// What it is to bring about did not come.
    #[error("{source}\n{log}")]
    NotServing {
        /// What was waited for.
        source: TimedOut,
        /// What it said last.
        log: String,
    },
    /// Not even a kill ended it.
    #[error("{name} does not end: {source}")]
    Stuck {
        /// The service.
        name: String,
        /// What was waited for.
        source: TimedOut,
    },
}

/// How a service is started, as the state folder has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) path: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
}

/// One of the cluster's programs. Any process that attaches to the cluster can stop and start it.
#[derive(Debug, Clone)]
pub struct Service {
    state: State,
    namespace: Namespace,
    name: String,
}

/// A service that is asked to end and does not is killed after this.
const PATIENCE: Duration = Duration::from_secs(15);

impl Service {
    pub(crate) fn new(state: &State, namespace: &Namespace, name: &str) -> Self {
        Self {
            state: state.clone(),
            namespace: namespace.clone(),
            name: name.to_owned(),
        }
    }

    /// Writes down how it is started.
    pub(crate) fn define(&self, program: &Program) -> Result<(), Error> {
        Ok(self
            .state
            .write_json(&self.state.service(&self.name), program)?)
    }

    /// The same, and whether it was started otherwise until now.
    pub(crate) fn redefine(&self, program: &Program) -> Result<bool, Error> {
        let before: Result<Program, _> = state::read_json(&self.state.service(&self.name));
        self.define(program)?;
        Ok(before.ok().as_ref() != Some(program))
    }

    /// Its name in the cluster, such as `mignode-kubelet`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where everything that it says goes.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.state.log(&self.name)
    }

    /// The last lines of that, under a heading.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.state.log_tail(&self.name)
    }

    /// Its process, numbered as outside of the cluster, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process()
            .and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok())
    }

    fn process(&self) -> Option<Pid> {
        let inner = fs::read_to_string(self.state.pid(&self.name)).ok()?;
        process::of_service(self.state.dir(), &self.name, inner.trim().parse().ok()?)
    }

    /// Starts it, unless it runs. That it runs does not mean yet that it serves.
    ///
    /// # Errors
    /// When it cannot be started, or ends at once.
    pub fn start(&self) -> Result<(), Error> {
        if self.process().is_some() {
            return Ok(());
        }
        let program: Program = state::read_json(&self.state.service(&self.name))?;
        let pid = self.state.pid(&self.name);
        let log = self.state.open_log(&self.name)?;
        let log_too = log.try_clone().map_err(state::error("write", &pid))?;
        // The shell writes its number down and then becomes the program: there is no moment in which it runs
        // without being known.
        let mut command = self.namespace.enter("setsid");
        command
            .args([
                "--fork",
                "sh",
                "-c",
                r#"echo $$ >&0; exec "$@" </dev/null"#,
                "sh",
            ])
            .arg(&program.path)
            .args(&program.arguments)
            .env_clear()
            .envs(program.environment)
            .env(process::CLUSTER, self.state.dir())
            .env(process::SERVICE, &self.name)
            .stdin(File::create(&pid).map_err(state::error("write", &pid))?)
            .stdout(log)
            .stderr(log_too);
        let start_error = |source| Error::Start {
            name: self.name.clone(),
            source: run::Error::Start {
                command: "nsenter setsid".to_owned(),
                source,
            },
        };
        command.status().map_err(start_error)?;
        wait::until("its process", Duration::from_secs(5), || {
            self.process().ok_or("none")
        })
        .map(drop)
        .map_err(|_| Error::EndedAtOnce {
            name: self.name.clone(),
            log: self.log_tail(),
        })
    }

    /// Waits until `look` gives a value, for as long as the service runs.
    ///
    /// # Errors
    /// When `limit` has passed or the service has ended: with what the last look saw, and the end of the log.
    pub fn serves<T, E: std::fmt::Display>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Result<T, E>,
    ) -> Result<T, Error> {
        wait::until_or_never(what, limit, || match look() {
            Ok(value) => Ok(value),
            Err(last) if self.process().is_some() => Err(Not::Yet(last.to_string())),
            Err(last) => Err(Not::Ever(format!("{} has ended ({last})", self.name))),
        })
        .map_err(|source| Error::NotServing {
            source,
            log: self.log_tail(),
        })
    }

    /// Asks it to end (SIGTERM), and kills it when it does not within 15 seconds. Gives back when it has ended.
    ///
    /// # Errors
    /// When not even the kill ends it.
    pub fn stop(&self) -> Result<(), Error> {
        let Some(pid) = self.process() else {
            return Ok(());
        };
        process::signal(pid, Signal::TERM);
        if self.ended(pid).is_ok() {
            return Ok(());
        }
        self.kill()
    }

    /// Kills it (SIGKILL). Gives back when it has ended.
    ///
    /// # Errors
    /// When that does not end it.
    pub fn kill(&self) -> Result<(), Error> {
        let Some(pid) = self.process() else {
            return Ok(());
        };
        process::signal(pid, Signal::KILL);
        self.ended(pid).map_err(|source| Error::Stuck {
            name: self.name.clone(),
            source,
        })
    }

    /// [`Service::stop`], then [`Service::start`].
    ///
    /// # Errors
    /// As theirs.
    pub fn restart(&self) -> Result<(), Error> {
        self.stop()?;
        self.start()
    }

    fn ended(&self, pid: Pid) -> Result<(), TimedOut> {
        wait::until(&format!("the end of {}", self.name), PATIENCE, || {
            if process::runs(pid) {
                Err("it runs")
            } else {
                Ok(())
            }
        })
    }
}

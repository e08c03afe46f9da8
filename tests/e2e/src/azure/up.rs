//! `migpool up --azure`, as a process of a test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::held::Held;
use super::{CLUSTER, GROUP, Shell};
use crate::charts;
use crate::machine::Machine;
use crate::wait::{SOON, until};

/// How long it may take to end when it is asked to.
const PARTING: Duration = Duration::from_secs(30);

/// A `migpool up --azure` with a state folder of its own. It ends with this.
pub(crate) struct Up<'m> {
    machine: &'m Machine,
    folder: PathBuf,
    /// Where it listens; the first one that is free, to begin with.
    address: String,
    child: Child,
}

impl<'m> Up<'m> {
    /// Starts it in a folder of this name, and waits until it answers.
    ///
    /// # Errors
    /// It does not come to that.
    pub(crate) fn start(machine: &'m Machine, name: &str) -> anyhow::Result<Self> {
        let folder = machine.scratch().join(name);
        std::fs::create_dir_all(&folder)?;
        let address = "127.0.0.1:0".to_owned();
        let child = spawn(&folder, &address)?;
        let mut up = Self {
            machine,
            folder,
            address,
            child,
        };
        up.answers()?;
        Ok(up)
    }

    /// A new shell in which Azure's clients use it, as `migpool azure env` sets it up.
    ///
    /// # Errors
    /// They can't be set up.
    pub(crate) fn shell(&self) -> anyhow::Result<Shell<'m>> {
        let mut shell = self.bare_shell()?;
        shell.eval("migpool azure env")?;
        Ok(shell)
    }

    /// A new shell that only knows where the state folder is.
    ///
    /// # Errors
    /// A client is missing.
    pub(crate) fn bare_shell(&self) -> anyhow::Result<Shell<'m>> {
        let mut shell = Shell::new(self.machine, &self.folder.join("home"))?;
        shell.set("MIGPOOL_STATE_DIR", self.state().to_string_lossy());
        Ok(shell)
    }

    /// A shell, and the article's group and cluster.
    ///
    /// # Errors
    /// They can't be made.
    pub(crate) fn with_cluster(&self) -> anyhow::Result<Shell<'m>> {
        let shell = self.shell()?;
        shell.done(&format!(
            "az group create --name {GROUP} --location southcentralus --output none &&
             az aks create --resource-group {GROUP} --name {CLUSTER} --node-count 1 --output none"
        ))?;
        Ok(shell)
    }

    /// Its state folder.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// What it has written to its log so far.
    ///
    /// # Errors
    /// The log can't be read.
    pub(crate) fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(log_of(&self.folder))?)
    }

    /// From here on the agents of this pool's nodes hang as soon as they are started, until what this gives is dropped.
    pub(crate) fn hold_agents(&self, pool: &str) -> Held {
        // Its nodes' folders are named after the pool, and an agent's command line names its node's.
        Held::start(format!("{}/nodes/aks-{pool}-", self.state().display()))
    }

    /// Kills it with SIGKILL, and starts it again at the same address.
    ///
    /// # Errors
    /// It had ended before, or does not come back.
    pub(crate) fn kill_and_start(&mut self) -> anyhow::Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "migpool up has ended by itself: {ended:?}");
        self.child.kill()?;
        self.child.wait()?;
        self.machine.log("killed migpool up with SIGKILL");
        self.child = spawn(&self.folder, &self.address)?;
        self.answers()
    }

    /// Waits until it answers, and keeps where.
    fn answers(&mut self) -> anyhow::Result<()> {
        let shell = self.bare_shell()?;
        let ended = || {
            let log = self.log().unwrap_or_default();
            format!("migpool up does not answer: {log}")
        };
        let endpoint = self.state().join("azure/endpoint.json");
        until("migpool up to answer", SOON, || {
            // What asks has to find a certificate and a port.
            shell.done("migpool azure ca")?;
            let text = std::fs::read_to_string(&endpoint)?;
            let endpoint: serde_json::Value = serde_json::from_str(&text)?;
            let url = endpoint["url"].as_str().unwrap_or_default().to_owned();
            let said = shell.types(&format!(
                "curl --silent --insecure --max-time 5 {url}/healthz"
            ))?;
            ensure!(said.ok, "{url}/healthz is not answered");
            Ok(url)
        })
        .with_context(ended)
        .and_then(|url| {
            let address = url.strip_prefix("https://").context("not an https URL")?;
            address.clone_into(&mut self.address);
            Ok(())
        })
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// It does not, or fails at it.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id())?;
        let pid = Pid::from_raw(pid).context("a process without an id")?;
        kill_process(pid, Signal::TERM)?;
        let status = until("migpool up to end", PARTING, || {
            self.child.try_wait()?.context("it goes on")
        })?;
        if !status.success() {
            bail!("migpool up ended with {status}: {}", self.log()?);
        }
        Ok(())
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let (Some(pid), Ok(None)) = (pid, self.child.try_wait()) {
            let _ = kill_process(pid, Signal::TERM);
            // It ends the processes that its nodes are.
            let _ = until("migpool up to end", PARTING, || {
                self.child.try_wait()?.context("it goes on")
            });
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_of(folder: &Path) -> PathBuf {
    folder.join("up.log")
}

fn spawn(folder: &Path, address: &str) -> anyhow::Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_of(folder))?;
    Command::new(charts::program()?)
        .args(["up", "--azure", "--azure-listen", address, "--state-dir"])
        .arg(folder.join("state"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start migpool up")
}

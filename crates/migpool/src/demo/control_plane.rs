//! The demo's own `migpool up`, on a temporary state folder.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::steps::GROUP;
use crate::failure::Failure;

/// A running `migpool up` and its state folder.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    program: PathBuf,
    folder: Option<TempDir>,
    state_dir: PathBuf,
    child: Option<Child>,
    keep: bool,
}

impl ControlPlane {
    /// Starts `up` on a new folder and waits until it answers.
    pub(crate) fn start(keep: bool) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| {
            Failure::failed(format!("cannot find migpool's own program: {error}"))
        })?;
        // Unix sockets want short paths, so the system's own temporary folder and a short name.
        let folder = tempfile::Builder::new()
            .prefix("migpool-")
            .tempdir()
            .map_err(|error| {
                Failure::failed(format!("cannot make a temporary folder: {error}"))
                    .with_help("name a folder that can be written to with TMPDIR")
            })?;
        let state_dir = folder.path().join("state");
        let mut plane = Self {
            program,
            folder: Some(folder),
            state_dir,
            child: None,
            keep,
        };
        plane.up()?;
        Ok(plane)
    }

    /// The state folder.
    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// A command of this program, aimed at this control plane.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("MIGPOOL_STATE_DIR", &self.state_dir)
            .stdin(Stdio::null());
        command
    }

    /// Kills `up` as `kill -9` does, and starts it again.
    pub(crate) fn kill_and_restart(&mut self) -> Result<(), Failure> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        self.up()
    }

    fn up(&mut self) -> Result<(), Failure> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())?;
        let mut child = self
            .command(&["up"])
            .stdout(Stdio::piped())
            .stderr(log)
            // A signal from the terminal reaches the demo, which then stops `up` itself.
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::failed(format!("cannot start `migpool up`: {error}")))?;
        let mut ready = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut ready)?;
        }
        self.child = Some(child);
        if ready.is_empty() {
            let log = self.read_log();
            self.stop(false)?;
            return Err(Failure::failed(format!(
                "`migpool up` ended before it answered:\n{log}"
            )));
        }
        Ok(())
    }

    /// Stops `up` and removes the folder, unless it is to be kept; prints the log when something went wrong.
    pub(crate) fn stop(&mut self, print_log: bool) -> Result<(), Failure> {
        if let Some(mut child) = self.child.take() {
            if !self.keep {
                self.end_what_is_left();
            }
            // An `up` that ended by itself is no longer there to be told to.
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
            child.wait()?;
        }
        if print_log {
            anstream::eprintln!("\nThe log of `migpool up`:\n{}", self.read_log());
        }
        let Some(folder) = self.folder.take() else {
            return Ok(());
        };
        if self.keep {
            let kept = folder.keep();
            anstream::println!(
                "Kept, the node pool too: MIGPOOL_STATE_DIR={} migpool up",
                kept.join("state").display()
            );
            return Ok(());
        }
        folder.close().map_err(|error| {
            Failure::failed(format!(
                "cannot remove the demo's temporary folder: {error}"
            ))
        })
    }

    /// Pods outlive `up`: where the story ended before its own end, they are taken away here.
    fn end_what_is_left(&self) {
        let arguments = ["group", "delete", "--name", GROUP, "--yes"];
        // After the story's own end the group is not there any more, and the command says so to nobody.
        let _ = self.command(&arguments).output();
    }

    fn log(&self) -> PathBuf {
        self.state_dir.with_file_name("up.log")
    }

    fn read_log(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_else(|error| format!("(unreadable: {error})"))
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // On the way out of an error nothing is left to tell anyone.
        let _ = self.stop(false);
    }
}

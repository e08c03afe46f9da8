//! A `migpool up` for a test, and the commands that talk to it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const GROUP: &str = "myResourceGroup";
pub(crate) const CLUSTER: &str = "myAKSCluster";

/// The migpool program.
pub(crate) fn migpool() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_migpool"));
    command
        .stdin(Stdio::null())
        .env("NO_COLOR", "1")
        .env_remove("NVIDIA_DRIVER_ROOT");
    command
}

/// Runs a command and takes its output.
pub(crate) fn output(command: &mut Command) -> Output {
    command.output().expect("the program starts")
}

/// What a command printed to standard output; it must succeed.
pub(crate) fn stdout(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A running control plane.
pub(crate) struct ControlPlane {
    folder: TempDir,
    child: Option<Child>,
}

impl ControlPlane {
    pub(crate) fn start() -> Self {
        Self::start_with(&["up"])
    }

    pub(crate) fn start_with(words: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("mp-")
            .tempdir()
            .expect("a temporary folder");
        let mut plane = Self {
            folder,
            child: None,
        };
        plane.up_with(words);
        plane
    }

    /// With the article's group and cluster.
    pub(crate) fn with_cluster() -> Self {
        Self::start().make_cluster()
    }

    /// The same, with nodes on this machine's own GPUs.
    pub(crate) fn with_real_gpus() -> Self {
        Self::start_with(&["up", "--real-gpus"]).make_cluster()
    }

    fn make_cluster(self) -> Self {
        let plane = self;
        plane.run(&[
            "group",
            "create",
            "--name",
            GROUP,
            "--location",
            "southcentralus",
        ]);
        plane.run(&[
            "cluster",
            "create",
            "-g",
            GROUP,
            "--name",
            CLUSTER,
            "--node-count",
            "1",
        ]);
        plane
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    pub(crate) fn up(&mut self) {
        self.up_with(&["up"]);
    }

    pub(crate) fn up_with(&mut self, words: &[&str]) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("up.log"))
            .expect("a log");
        let mut child = self
            .command(words)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("up starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        self.child = Some(child);
        assert!(
            line.contains("migpool is up"),
            "up did not come up: {line}{}",
            self.log()
        );
    }

    /// The process of `up`.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("up runs").id()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("up runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("up.log")).unwrap_or_default()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = migpool();
        command
            .args(arguments)
            .env("MIGPOOL_STATE_DIR", self.state_dir());
        command
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        stdout(&mut self.command(arguments))
    }

    /// Runs a command that must fail, and gives its exit code and what it said.
    pub(crate) fn fails(&self, arguments: &[&str]) -> (i32, String) {
        failure(&mut self.command(arguments))
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut words = arguments.to_vec();
        words.extend(["-o", "json"]);
        serde_json::from_str(&self.run(&words)).expect("JSON")
    }

    pub(crate) fn add_pool(&self, name: &str, rest: &[&str]) -> String {
        let mut words = vec![
            "nodepool",
            "add",
            "--name",
            name,
            "-g",
            GROUP,
            "--cluster-name",
            CLUSTER,
        ];
        words.extend(rest);
        self.run(&words)
    }

    /// Writes a file beside the state folder and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// The pods, as JSON.
    pub(crate) fn pods(&self) -> Vec<Value> {
        self.json(&["pod", "list"])
            .as_array()
            .expect("a list")
            .clone()
    }

    /// The devices of every pod in this phase, one after the other.
    pub(crate) fn devices_of_pods(&self, phase: &str) -> Vec<String> {
        self.pods()
            .iter()
            .filter(|pod| pod["phase"] == phase)
            .flat_map(|pod| pod["containers"].as_array().expect("containers").clone())
            .flat_map(|container| {
                let devices = container["devices"]
                    .as_object()
                    .cloned()
                    .unwrap_or_default();
                devices
                    .into_iter()
                    .flat_map(|(_, ids)| ids.as_array().cloned().unwrap_or_default())
            })
            .map(|id| id.as_str().expect("an id").to_owned())
            .collect()
    }

    /// Waits until something holds; fails with the log when it has not after a minute.
    pub(crate) fn eventually<T>(&self, what: &str, mut check: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            if let Some(found) = check(self) {
                return found;
            }
            assert!(Instant::now() < deadline, "never: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Takes the pods along: their shims outlive `up` on purpose.
            if let Ok(output) = self
                .command(&["group", "delete", "--name", GROUP, "--yes"])
                .output()
            {
                let _ = output.status;
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The exit code of a command that must fail, and what it said on standard error, on one line.
pub(crate) fn failure(command: &mut Command) -> (i32, String) {
    let output = output(command);
    assert!(!output.status.success(), "{command:?} did not fail");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    // The report is wrapped and framed for people; the words are what is promised.
    let words: Vec<_> = text
        .split_whitespace()
        .filter(|word| !word.chars().all(|c| "×│╰─▶".contains(c)))
        .collect();
    (
        output.status.code().expect("it was not killed"),
        words.join(" "),
    )
}

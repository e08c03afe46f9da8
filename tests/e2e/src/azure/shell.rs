//! A person's shell in which Azure's clients use migpool.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;
use test_cluster::Python;

use super::clients;
use crate::charts;
use crate::machine::{Machine, Said, workspace};

/// What Azure's clients and Python read from the environment of whoever runs the tests.
const NOT_INHERITED: [&str; 4] = ["AZURE_", "IDENTITY_", "MIGPOOL_", "PYTHON"];

/// A shell, with the variables that are set in it. Its home is a folder of the tests': nobody's own settings are near.
pub(crate) struct Shell<'m> {
    machine: &'m Machine,
    start: Box<dyn Fn(&OsStr) -> Command + Send + Sync + 'm>,
    home: PathBuf,
    variables: BTreeMap<String, String>,
    sdk: Python,
}

impl<'m> Shell<'m> {
    /// A shell on this machine whose home is `home`: az, curl and migpool are in its `PATH`.
    ///
    /// # Errors
    /// A client is missing.
    pub(crate) fn new(machine: &'m Machine, home: &Path) -> anyhow::Result<Self> {
        Self::within(machine, home, |program| Command::new(program))
    }

    /// The same, where `start` begins each program: in a cluster's network, with its `kubectl` and `helm`.
    ///
    /// # Errors
    /// A client is missing.
    pub(crate) fn within(
        machine: &'m Machine,
        home: &Path,
        start: impl Fn(&OsStr) -> Command + Send + Sync + 'm,
    ) -> anyhow::Result<Self> {
        let (cli, sdk) = (clients::cli()?, clients::sdk()?);
        let migpool = charts::program()?;
        let programs = migpool.parent().context("a program without a folder")?;
        std::fs::create_dir_all(home)?;
        let mut variables = BTreeMap::new();
        let inherited = start(OsStr::new("sh"));
        let path = inherited
            .get_envs()
            .find(|(name, _)| *name == "PATH")
            .and_then(|(_, value)| value)
            .map(|value| value.to_string_lossy().into_owned());
        let path = path
            .or_else(|| std::env::var("PATH").ok())
            .unwrap_or_default();
        let path = format!("{}:{}:{path}", cli.programs().display(), programs.display());
        variables.insert("PATH".to_owned(), path);
        variables.insert("HOME".to_owned(), home.to_string_lossy().into_owned());
        Ok(Self {
            machine,
            start: Box::new(start),
            home: home.to_owned(),
            variables,
            sdk,
        })
    }

    /// Sets a variable for what is run from here on.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.insert(name.to_owned(), value.into());
    }

    /// A variable that is set.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn variable(&self, name: &str) -> anyhow::Result<&str> {
        let value = self.variables.get(name);
        value
            .map(String::as_str)
            .with_context(|| format!("{name} is not set"))
    }

    /// Its home.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Runs `eval "$(...)"`, and keeps what variables it sets and unsets.
    ///
    /// # Errors
    /// The program fails.
    pub(crate) fn eval(&mut self, line: &str) -> anyhow::Result<()> {
        let before: Vec<String> = self.variables.keys().cloned().collect();
        let script = format!("set -e; set_up=\"$({line})\"; eval \"$set_up\"; exec env -0");
        let printed = self.done(&script)?;
        let after: BTreeMap<_, _> = printed
            .split('\0')
            .filter_map(|entry| entry.split_once('='))
            .collect();
        let interesting = |name: &str| {
            before.iter().any(|known| known == name)
                || name.ends_with("_CA_BUNDLE")
                || NOT_INHERITED.iter().any(|prefix| name.starts_with(prefix))
        };
        self.variables = after
            .into_iter()
            .filter(|(name, _)| interesting(name))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(())
    }

    /// A program with the shell's variables.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = (self.start)(program.as_ref());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if NOT_INHERITED.iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(&*name);
            }
        }
        command.envs(&self.variables);
        command
    }

    /// Runs a line as a person types it, and answers with what it said.
    ///
    /// # Errors
    /// The shell can't be started.
    pub(crate) fn types(&self, line: &str) -> anyhow::Result<Said> {
        let mut command = self.command("sh");
        command.args(["-c", line]);
        self.machine.run(command, None)
    }

    /// Runs a line that has to succeed, and answers with what it printed.
    ///
    /// # Errors
    /// It fails; its own words are the reason.
    pub(crate) fn done(&self, line: &str) -> anyhow::Result<String> {
        let said = self.types(line)?;
        let words = format!("{}\n{}", said.stderr.trim(), said.stdout.trim());
        ensure!(said.ok, "`{line}` failed: {}", words.trim());
        Ok(said.stdout)
    }

    /// Runs a line that has to succeed, and answers with the JSON that it printed.
    ///
    /// # Errors
    /// It fails, or prints something else.
    pub(crate) fn json(&self, line: &str) -> anyhow::Result<Value> {
        let printed = self.done(line)?;
        serde_json::from_str(&printed)
            .with_context(|| format!("`{line}` printed no JSON: {printed}"))
    }

    /// A line that has to print exactly this, apart from white space around it.
    ///
    /// # Errors
    /// It fails, or prints something else.
    pub(crate) fn prints(&self, line: &str, wanted: &str) -> anyhow::Result<()> {
        let printed = self.done(line)?;
        ensure!(
            printed.trim() == wanted,
            "`{line}` printed {:?}, not {wanted:?}",
            printed.trim()
        );
        Ok(())
    }

    /// A line has to fail with this exit code, and all these words on standard error.
    ///
    /// # Errors
    /// It succeeds, or fails in another way.
    pub(crate) fn fails(&self, line: &str, code: i32, words: &[&str]) -> anyhow::Result<()> {
        let said = self.types(line)?;
        ensure!(
            said.code == Some(code),
            "`{line}` ended with {:?}, not {code}: {}{}",
            said.code,
            said.stderr,
            said.stdout
        );
        let missing = words.iter().find(|word| !said.stderr.contains(**word));
        ensure!(
            missing.is_none(),
            "`{line}` does not say {missing:?}: {}",
            said.stderr
        );
        ensure!(
            !said.stderr.contains("Traceback"),
            "`{line}` crashes: {}",
            said.stderr
        );
        Ok(())
    }

    /// Runs a file of the checkout, unchanged, and answers with what it printed.
    ///
    /// # Errors
    /// It fails; its own words are the reason.
    pub(crate) fn script(&self, path: &str) -> anyhow::Result<String> {
        let path = workspace().join(path);
        self.machine.done(self.command(path), None)
    }

    /// Runs a Python program of the checkout, unchanged, where the SDK is, and answers with what it printed.
    ///
    /// # Errors
    /// It fails; its own words are the reason.
    pub(crate) fn python(&self, path: &str, arguments: &[&str]) -> anyhow::Result<String> {
        self.machine
            .done(self.python_command(path, arguments), None)
    }

    /// The same, to be run by the caller.
    pub(crate) fn python_command(&self, path: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(self.sdk.program("python"));
        // What it leaves beside itself is the tests'.
        command
            .current_dir(&self.home)
            .arg(workspace().join(path))
            .args(arguments);
        command
    }
}

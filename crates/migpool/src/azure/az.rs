//! az, run on settings of its own.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use crate::azure::Endpoint;

/// What migpool is called among az's clouds.
pub(crate) const CLOUD: &str = "migpool";

/// Why az did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AzError {
    /// There is no az.
    #[error("az is not on the PATH")]
    Missing,
    /// It could not be started.
    #[error("az cannot be started: {0}")]
    Start(#[source] io::Error),
    /// It ended with a failure.
    #[error("`az {words}` failed: {said}")]
    Failed {
        /// Its arguments, without secrets.
        words: String,
        /// What it wrote to standard error.
        said: String,
    },
}

/// az with the variables that make it use the front.
#[derive(Debug)]
pub(crate) struct Az {
    variables: Vec<(&'static str, String)>,
}

impl Az {
    /// az with these variables.
    pub(crate) fn new(variables: Vec<(&'static str, String)>) -> Self {
        Self { variables }
    }

    /// Makes the front known and the cloud that is used.
    pub(crate) fn use_cloud(&self, endpoint: &Endpoint) -> Result<(), AzError> {
        let words = cloud(endpoint);
        let words = |verb: &'static str| {
            let words = words.iter().map(String::as_str);
            ["cloud", verb].into_iter().chain(words).collect::<Vec<_>>()
        };
        // az has one verb for a cloud that it knows and another for one that it does not.
        if self.run(&words("register")).is_err() {
            self.run(&words("update"))?;
        }
        self.run(&["cloud", "set", "--name", CLOUD])
    }

    /// Runs one command, and gives nothing of what it prints away.
    pub(crate) fn run(&self, words: &[&str]) -> Result<(), AzError> {
        self.run_with_input(words, "")
    }

    /// The same, with something to read on its standard input.
    pub(crate) fn run_with_input(&self, words: &[&str], input: &str) -> Result<(), AzError> {
        let mut child = Command::new("az")
            .args(words)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => AzError::Missing,
                _ => AzError::Start(error),
            })?;
        if let Some(mut stdin) = child.stdin.take() {
            // Whoever does not read it has a better reason to fail than a broken pipe.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().map_err(AzError::Start)?;
        if output.status.success() {
            return Ok(());
        }
        Err(AzError::Failed {
            words: words.join(" "),
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

/// What `az cloud register` has to be told. The discovery would ask the front for the same.
pub(crate) fn cloud(endpoint: &Endpoint) -> Vec<String> {
    [
        ("--name", CLOUD.to_owned()),
        ("--endpoint-resource-manager", endpoint.url.clone()),
        ("--endpoint-active-directory", endpoint.authority()),
        (
            "--endpoint-active-directory-resource-id",
            identity::AUDIENCE.to_owned(),
        ),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .chain(["--skip-endpoint-discovery".to_owned()])
    .collect()
}

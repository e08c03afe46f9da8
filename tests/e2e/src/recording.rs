//! Everything that a node was seen to have to give, also what was there for a moment only.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::nodes::Node;
use crate::wait::{SOON, until};
use crate::world::World;

/// A `kubectl get --watch` that goes on until it is ended.
pub(crate) struct Recording {
    process: Child,
    path: PathBuf,
}

impl Recording {
    /// Begins to record what is allocatable on a node, and has seen how it begins.
    ///
    /// # Errors
    /// It does not begin.
    pub(crate) fn of_allocatable(world: &World, node: Node<'_>) -> anyhow::Result<Self> {
        let path = world.scratch().join(format!("allocatable-{}", node.name()));
        let process = world
            .cluster()
            .command("kubectl")
            .args(["get", "node", node.name(), "--watch"])
            .args(["--output", "jsonpath={.status.allocatable}{\"\\n\"}"])
            .stdin(Stdio::null())
            .stdout(File::create(&path)?)
            .spawn()
            .context("cannot start kubectl")?;
        let recording = Self { process, path };
        until("the recording to begin", SOON, || {
            ensure!(!fs::read(&recording.path)?.is_empty(), "nothing yet");
            Ok(())
        })?;
        Ok(recording)
    }

    /// All amounts of a resource that there were.
    ///
    /// # Errors
    /// It has ended by itself, or has written what is no JSON.
    pub(crate) fn end(mut self, resource: &str) -> anyhow::Result<BTreeSet<u32>> {
        ensure!(
            self.process.try_wait()?.is_none(),
            "the recording has ended by itself"
        );
        self.process.kill()?;
        self.process.wait()?;
        let text = fs::read_to_string(&self.path)?;
        // The last line may be half a one.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| {
                let amounts: Value = serde_json::from_str(line)
                    .with_context(|| format!("kubectl wrote `{line}`"))?;
                let amount = amounts[resource].as_str().unwrap_or("0");
                amount
                    .parse()
                    .with_context(|| format!("`{amount}` is no number"))
            })
            .collect()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

//! What Helm puts into the cluster, and takes out again.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::machine::workspace;
use crate::pods;
use crate::wait::{LATER, until};
use crate::world::{H100NODE, MIGNODE, World};

/// The namespace of the simulated boards. It stays as it is between tests.
pub(crate) const BOARDS: &str = "nvml-sim";

/// The program `migpool` of the checkout: what was built last.
///
/// # Errors
/// None was built.
pub(crate) fn program() -> anyhow::Result<PathBuf> {
    let target = workspace().join("target");
    ["debug", "release"]
        .map(|profile| target.join(profile).join("migpool"))
        .into_iter()
        .filter_map(|path| {
            let built = path.metadata().and_then(|data| data.modified()).ok()?;
            Some((built, path))
        })
        .max_by_key(|(built, _): &(SystemTime, _)| *built)
        .map(|(_, path)| path)
        .context("there is no migpool in target/debug or target/release: cargo build --release")
}

/// Gives the nodes simulated boards with our own chart, if they have none yet, and waits until they are there: eight
/// A100 40GB for one, H100 for the other.
///
/// # Errors
/// They do not come.
pub(crate) fn give_boards(world: &World) -> anyhow::Result<()> {
    for (node, board, count) in [
        (MIGNODE, "A100-SXM4-40GB", 8),
        (H100NODE, "H100-SXM5-80GB", 2),
    ] {
        let release = format!("boards-{node}");
        world.helm(&[
            "upgrade",
            "--install",
            &release,
            &chart("nvml-sim"),
            "--namespace",
            BOARDS,
            "--create-namespace",
            "--set",
            &format!("boards[0].name={board},boards[0].count={count}"),
            "--set",
            &only_on(node),
        ])?;
    }
    // On a cluster that was kept, the chart may be another one than it was.
    world.kubectl(&[
        "rollout",
        "status",
        "daemonset",
        "--namespace",
        BOARDS,
        "--selector",
        "app.kubernetes.io/name=nvml-sim",
        "--timeout=240s",
    ])?;
    for node in [MIGNODE, H100NODE] {
        let library = world
            .node(node)
            .path(crate::nodes::DRIVER_ROOT)?
            .join("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1");
        until(
            &format!("{node} to have its simulated driver"),
            LATER,
            || {
                ensure!(library.exists(), "there is no {}", library.display());
                let labels = world.get(&["node", node])?["metadata"]["labels"].take();
                ensure!(
                    labels["nvidia.com/gpu.present"] == "true",
                    "its labels are {labels}"
                );
                Ok(())
            },
        )?;
    }
    Ok(())
}

/// The value that keeps a chart's pods to one node.
pub(crate) fn only_on(node: &str) -> String {
    format!("nodeSelector.kubernetes\\.io/hostname={node}")
}

/// A chart's folder.
pub(crate) fn chart(name: &str) -> String {
    workspace()
        .join("charts")
        .join(name)
        .to_string_lossy()
        .into_owned()
}

/// Installs or upgrades a release of a chart of ours in the tests' namespace, with these values (`key=value`).
///
/// # Errors
/// Helm refuses.
pub(crate) fn install(
    world: &World,
    release: &str,
    name: &str,
    values: &[&str],
) -> anyhow::Result<()> {
    let chart = chart(name);
    let mut arguments = vec!["upgrade", "--install", release, &chart];
    arguments.extend(values.iter().flat_map(|value| ["--set", value]));
    // What is not about node pools is tried without an operator.
    if name == "migpool" && !values.iter().any(|value| value.starts_with("operator.")) {
        arguments.extend(["--set", "operator.enabled=false"]);
    }
    world.helm(&arguments)?;
    Ok(())
}

/// `helm uninstall`, and waits until its pods are gone.
///
/// # Errors
/// It fails, or the pods stay.
pub(crate) fn uninstall(world: &World, release: &str, namespace: &str) -> anyhow::Result<()> {
    world.helm(&["uninstall", release, "--namespace", namespace])?;
    until(&format!("the pods of {release} to go"), LATER, || {
        let selector = format!("app.kubernetes.io/instance={release}");
        let left = world.pods(&["--namespace", namespace, "--selector", &selector])?;
        pods::are_gone(&left)
    })
}

/// Uninstalls every release but those of the boards.
///
/// # Errors
/// One can't be uninstalled.
pub(crate) fn uninstall_all(world: &World) -> anyhow::Result<()> {
    for (release, namespace) in releases(world)? {
        if namespace != BOARDS {
            uninstall(world, &release, &namespace)?;
        }
    }
    Ok(())
}

/// All releases, with their namespaces.
///
/// # Errors
/// Helm fails.
pub(crate) fn releases(world: &World) -> anyhow::Result<BTreeMap<String, String>> {
    let printed = world.helm(&["list", "--all-namespaces", "--all", "--output", "json"])?;
    let list: Value = serde_json::from_str(&printed).context("helm list gave no JSON")?;
    list.as_array()
        .context("helm list gave no list")?
        .iter()
        .map(|release| {
            let text = |key: &str| {
                release[key]
                    .as_str()
                    .map(str::to_owned)
                    .with_context(|| format!("a release without {key}"))
            };
            Ok((text("name")?, text("namespace")?))
        })
        .collect()
}

/// A repository of our charts, as `migpool up` serves it.
pub(crate) struct Repository {
    process: Child,
    url: String,
}

impl Repository {
    /// Packs the charts, and starts `migpool up` with them in the cluster's namespaces.
    ///
    /// # Errors
    /// It does not say where it serves.
    pub(crate) fn serve(world: &World) -> anyhow::Result<Self> {
        let mut pack = Command::new(env!("CARGO"));
        pack.args(["xtask", "charts"]).current_dir(workspace());
        world.done(pack, None)?;
        let mut command = world.cluster().command(program()?);
        command
            .arg("up")
            .arg("--state-dir")
            .arg(world.scratch().join("up"))
            .arg("--chart-repository")
            .arg(workspace().join("target/charts"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut process = command.spawn().context("cannot start migpool up")?;
        let printed = process.stdout.take().context("no standard output")?;
        let mut heard = String::new();
        for line in BufReader::new(printed).lines() {
            let line = line?;
            if let Some(at) = line.find("http://") {
                let url = line[at..].split_whitespace().next().unwrap_or_default();
                let url = url.trim_end_matches(['/', '.', ',']).to_owned();
                return Ok(Self { process, url });
            }
            heard.push_str(&line);
            heard.push('\n');
        }
        bail!("migpool up did not say where its chart repository is: {heard}");
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

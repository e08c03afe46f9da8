//! The front of a cluster, as the chart brings it.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::Shell;
use crate::machine::Machine;
use crate::operators;
use crate::wait::{LATER, SOON, until};
use crate::world::{NAMESPACE, World};

/// The front's Deployment, Service and Secret, and its service account.
pub(crate) const FRONT: &str = "migpool-arm";

/// What it keeps beside node pools.
const RECORDS: [&str; 4] = [
    "armdeployments",
    "operations",
    "managedclusters",
    "resourcegroups",
];

/// Where the front is reached: a port of the control plane's network, which is this test's alone.
const URL: &str = "https://localhost:8443";

/// The front of a cluster, reached as `kubectl port-forward` makes it reachable. The forwarding ends with this.
pub(crate) struct Front<'w> {
    world: &'w World,
    home: PathBuf,
    forward: Child,
}

impl<'w> Front<'w> {
    /// Installs the chart with it, and waits until it answers.
    ///
    /// # Errors
    /// It does not come to that.
    pub(crate) fn install(world: &'w World) -> anyhow::Result<Self> {
        let config = world.kubectl(&["config", "view", "--output=json"])?;
        let config: Value = serde_json::from_str(&config)?;
        let server = config["clusters"][0]["cluster"]["server"]
            .as_str()
            .context("the kubeconfig names no server")?;
        Self::install_with(world, &[&format!("arm.credentials.server={server}")])
    }

    /// Installs the chart with it and these values, and waits until it answers.
    ///
    /// # Errors
    /// It does not come to that.
    pub(crate) fn install_with(world: &'w World, values: &[&str]) -> anyhow::Result<Self> {
        operators::install(world, &[&["arm.enabled=true"], values].concat())?;
        let deployment = format!("deployment/{FRONT}");
        world.kubectl(&["rollout", "status", &deployment, "--timeout=240s"])?;
        let home = world.scratch().join("front");
        if home.exists() {
            std::fs::remove_dir_all(&home)?;
        }
        let mut front = Self {
            world,
            home,
            forward: forward(world)?,
        };
        front.answers()?;
        Ok(front)
    }

    /// Deletes its pod without a word to it, and waits until another answers.
    ///
    /// # Errors
    /// None does.
    pub(crate) fn replace(&mut self) -> anyhow::Result<()> {
        let selector = "app.kubernetes.io/instance=migpool,app.kubernetes.io/component=arm";
        let arguments = ["delete", "pods", "--selector", selector];
        let at_once = ["--force", "--grace-period=0", "--namespace", NAMESPACE];
        self.world.kubectl(&[&arguments[..], &at_once].concat())?;
        let deployment = format!("deployment/{FRONT}");
        self.world
            .kubectl(&["rollout", "status", &deployment, "--timeout=240s"])?;
        // What is forwarded to a pod ends with it.
        let _ = self.forward.kill();
        self.forward.wait()?;
        self.forward = forward(self.world)?;
        self.answers()
    }

    /// What its pod has written to its log so far.
    ///
    /// # Errors
    /// `kubectl logs` fails.
    pub(crate) fn log(&self) -> anyhow::Result<String> {
        let deployment = format!("deployment/{FRONT}");
        self.world
            .kubectl(&["logs", "--namespace", NAMESPACE, &deployment])
    }

    fn answers(&mut self) -> anyhow::Result<()> {
        let shell = self.bare_shell()?;
        let ask = format!("curl --silent --insecure --fail --max-time 5 {URL}/healthz");
        until("the front to answer", SOON, || {
            // It ends with the first connection that its pod does not take, and that one may be just starting: `rollout
            // status` goes by what the Deployment's status said last.
            if self.forward.try_wait()?.is_some() {
                self.forward = forward(self.world)?;
            }
            ensure!(shell.types(&ask)?.ok, "{URL}/healthz is not answered");
            Ok(())
        })
    }

    /// A shell in which Azure's clients use it. Its kubeconfig is what az comes to write.
    ///
    /// # Errors
    /// They can't be set up.
    pub(crate) fn shell(&self) -> anyhow::Result<Shell<'w>> {
        let mut shell = self.bare_shell()?;
        let administrator = self.world.cluster().kubeconfig();
        let env = format!(
            "migpool azure env --kubeconfig '{}' --namespace {NAMESPACE} --url {URL}",
            administrator.display()
        );
        until("the front's identities to be there", LATER, || {
            shell.done(&env).map(drop)
        })?;
        shell.eval(&env)?;
        Ok(shell)
    }

    fn bare_shell(&self) -> anyhow::Result<Shell<'w>> {
        let machine: &Machine = self.world.machine();
        let cluster = self.world.cluster();
        let mut shell = Shell::within(machine, &self.home, |program| cluster.command(program))?;
        let kubeconfig = self.home.join(".kube/config");
        shell.set("KUBECONFIG", kubeconfig.to_string_lossy());
        let state = self.home.join("state");
        shell.set("MIGPOOL_STATE_DIR", state.to_string_lossy());
        Ok(shell)
    }
}

/// Takes what a front keeps out of the cluster, after the operator has gone: records that a test has left.
///
/// # Errors
/// Something stays.
pub(crate) fn sweep(world: &World) -> anyhow::Result<()> {
    let known = world.names_of("customresourcedefinitions")?;
    for record in RECORDS {
        if known
            .iter()
            .any(|name| name.ends_with(&format!("/{record}.migpool.dev")))
        {
            let path = format!("/apis/migpool.dev/v1alpha1/{record}");
            world.kubectl(&["delete", "--raw", &path])?;
        }
    }
    Ok(())
}

/// What makes the front's Service reachable.
fn forward(world: &World) -> anyhow::Result<Child> {
    world
        .cluster()
        .command("kubectl")
        .args(["port-forward", "--namespace", NAMESPACE])
        .args([&format!("service/{FRONT}"), "8443:443"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start kubectl port-forward")
}

impl Drop for Front<'_> {
    fn drop(&mut self) {
        let _ = self.forward.kill();
        let _ = self.forward.wait();
    }
}

//! The operator: in its pods, as the chart brings it, and as a process of its own, to be killed often.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::charts;
use crate::machine::workspace;
use crate::pods::{self, Pod};
use crate::pools;
use crate::wait::{LATER, until};
use crate::world::{NAMESPACE, World};

/// What the chart's release is called, and with it the operator's service account.
pub(crate) const RELEASE: &str = "migpool";

/// The operator's service account and deployment.
pub(crate) const OPERATOR: &str = "migpool-operator";

/// The Lease by which one operator acts.
pub(crate) const LEASE: &str = "migpool-operator";

/// The webhook's Service.
pub(crate) const WEBHOOK: &str = "migpool-webhook";

/// The webhook's configuration.
const WEBHOOK_CONFIGURATION: &str = "default-migpool-webhook";

/// Which pods are the operator's.
const SELECTOR: &str = "app.kubernetes.io/instance=migpool,app.kubernetes.io/component=operator";

/// Installs the chart `migpool` with these values beside its own, and waits until its operator acts and its webhook is
/// asked.
///
/// # Errors
/// It does not come up.
pub(crate) fn install(world: &World, values: &[&str]) -> anyhow::Result<()> {
    let values: Vec<&str> = ["operator.enabled=true"]
        .into_iter()
        .chain(values.iter().copied())
        .collect();
    charts::install(world, RELEASE, "migpool", &values)?;
    acts(world)
}

/// Waits until an operator acts, and its webhook is asked.
///
/// # Errors
/// It does not come to that.
pub(crate) fn acts(world: &World) -> anyhow::Result<()> {
    let deployment = format!("deployment/{OPERATOR}");
    world.kubectl(&["rollout", "status", &deployment, "--timeout=240s"])?;
    until("an operator to lead", LATER, || leader(world).map(drop))?;
    until("the webhook to be asked", LATER, || {
        let configuration =
            world.get(&["validatingwebhookconfiguration", WEBHOOK_CONFIGURATION])?;
        let bundle = &configuration["webhooks"][0]["clientConfig"]["caBundle"];
        ensure!(bundle.is_string(), "it has no caBundle yet");
        let impossible = pools::manifest(
            "webhook",
            &serde_json::json!({"vmSize": "Standard_ND96asr_v4", "layouts": "3g.20gb*3"}),
        );
        let mut command = world.cluster().command("kubectl");
        command.args(["create", "--dry-run=server", "--filename", "-"]);
        let said = world.run(command, Some(&impossible.to_string()))?;
        ensure!(!said.ok, "what can't be is let in");
        // Not as something that the API server does not know yet, for one.
        ensure!(
            said.stderr.contains("denied the request"),
            "{}",
            said.stderr
        );
        Ok(())
    })
}

/// The operator's pods that are not about to go.
///
/// # Errors
/// They can't be listed.
pub(crate) fn all(world: &World) -> anyhow::Result<Vec<Pod>> {
    let mut pods = world.pods(&["--selector", SELECTOR])?;
    pods.retain(|pod| !pod.deleting);
    Ok(pods)
}

/// Waits until no pod of the operator is there any more: one that is ending may still act.
///
/// # Errors
/// One stays.
pub(crate) fn have_gone(world: &World) -> anyhow::Result<()> {
    until("the operator to go", LATER, || {
        pods::are_gone(&world.pods(&["--selector", SELECTOR])?)
    })
}

/// The pod of the operator that acts.
///
/// # Errors
/// None does.
pub(crate) fn leader(world: &World) -> anyhow::Result<Pod> {
    let lease = world.get(&["lease", LEASE])?;
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
    let mut pods = all(world)?.into_iter();
    let found = pods.find(|pod| pod.runs() && holder.contains(pod.name.as_str()));
    found.with_context(|| format!("the lease is held by `{holder}`"))
}

/// Kills the program of an operator's pod with SIGKILL, and replaces the pod: a container that is killed often is started
/// again ever later.
///
/// # Errors
/// There is no such program.
pub(crate) fn kill(world: &World, pod: &Pod) -> anyhow::Result<()> {
    let node = pod.node.as_deref().context("a pod without a node")?;
    world.node(node).kill(&pod.uid, "migpool")?;
    let arguments = ["delete", "pod", &pod.name, "--force", "--grace-period=0"];
    world.kubectl(&[&arguments[..], &["--namespace", NAMESPACE]].concat())?;
    Ok(())
}

/// Deletes the Lease, and waits until an operator acts by a new one.
///
/// # Errors
/// None does.
pub(crate) fn lose_lease(world: &World) -> anyhow::Result<()> {
    world.kubectl(&["delete", "lease", LEASE, "--namespace", NAMESPACE])?;
    acts(world)
}

/// Keeps the agents of the release to one node, or to all that have boards again.
///
/// # Errors
/// The daemon set can't be changed.
pub(crate) fn agents_only_on(world: &World, node: Option<&str>) -> anyhow::Result<()> {
    let patch = json!({"spec": {"template": {"spec": {
        "nodeSelector": {"kubernetes.io/hostname": node},
    }}}})
    .to_string();
    world.kubectl(&[
        "patch",
        "daemonset",
        RELEASE,
        "--type=merge",
        "--patch",
        &patch,
    ])?;
    Ok(())
}

/// Waits until no pod of the release is on a node any more, and what the node's agent wrote last is that it has ended. Until
/// then it may write over what somebody else says in its place.
///
/// # Errors
/// It stays, or does not say so.
pub(crate) fn agent_has_gone(world: &World, node: &str) -> anyhow::Result<()> {
    until(&format!("the agent of {node} to go"), LATER, || {
        pods::are_gone(&world.release_pods(RELEASE, node)?)?;
        let status = pools::gpu_node(world, node)?["status"].take();
        ensure!(
            status["phase"] == "Stopped",
            "it has gone, and has said last: {}, {}",
            status["phase"],
            status["message"]
        );
        Ok(())
    })
}

/// Installs the definitions of the chart, and nothing else of it.
///
/// # Errors
/// They are refused.
pub(crate) fn define(world: &World) -> anyhow::Result<()> {
    world.apply_file("charts/migpool/crds-files")?;
    for name in ["nodepools", "gpunodes"] {
        let definition = format!("customresourcedefinition/{name}.migpool.dev");
        world.kubectl(&[
            "wait",
            "--for=condition=Established",
            &definition,
            "--timeout=60s",
        ])?;
    }
    Ok(())
}

/// An operator as a process on this machine, as the administrator. It ends with this.
pub(crate) struct Process<'w> {
    world: &'w World,
    identity: String,
    log: PathBuf,
    child: Child,
}

impl<'w> Process<'w> {
    /// Starts it, under this name.
    ///
    /// # Errors
    /// There is no program, or it can't be started.
    pub(crate) fn start(world: &'w World, identity: &str) -> anyhow::Result<Self> {
        let log = workspace()
            .join("target")
            .join(format!("e2e-{identity}.log"));
        File::create(&log)?;
        Ok(Self {
            world,
            identity: identity.to_owned(),
            child: spawn(world, identity, &log)?,
            log,
        })
    }

    /// Its process on this machine.
    fn pid(&self) -> anyhow::Result<Pid> {
        // What was started is the way into the namespaces; the operator is its child.
        let way = self.child.id();
        let path = format!("/proc/{way}/task/{way}/children");
        let children = std::fs::read_to_string(&path)?;
        let child = children.split_whitespace().next();
        child
            .and_then(|pid| Pid::from_raw(pid.parse().ok()?))
            .with_context(|| {
                format!(
                    "the operator {} does not run; see {}",
                    self.identity,
                    self.log.display()
                )
            })
    }

    /// Kills it with SIGKILL, and starts it again at once, under the same name.
    ///
    /// # Errors
    /// It was not there any more: it has ended by itself.
    pub(crate) fn kill_and_start(&mut self) -> anyhow::Result<()> {
        kill_process(self.pid()?, Signal::KILL)?;
        self.child.wait()?;
        self.child = spawn(self.world, &self.identity, &self.log)?;
        Ok(())
    }

    /// It runs.
    ///
    /// # Errors
    /// It has ended, and what it said last.
    pub(crate) fn runs(&mut self) -> anyhow::Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(
            ended.is_none(),
            "the operator {} has ended ({ended:?}); see {}",
            self.identity,
            self.log.display()
        );
        Ok(())
    }
}

impl Drop for Process<'_> {
    fn drop(&mut self) {
        if let Ok(pid) = self.pid() {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(world: &World, identity: &str, log: &PathBuf) -> anyhow::Result<Child> {
    let log = File::options().append(true).open(log)?;
    world
        .cluster()
        .command(charts::program()?)
        .args(["operator", "--namespace", NAMESPACE, "--identity", identity])
        .arg("--kubeconfig")
        .arg(world.cluster().kubeconfig())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start migpool operator")
}

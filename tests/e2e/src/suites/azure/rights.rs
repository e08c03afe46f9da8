//! The front, and the operator that works for it, may do what they do, and do what they may.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{AT_CLUSTER, IN_CLUSTER};
use crate::audit::{self, Audit};
use crate::azure::{FRONT, Front, Shell};
use crate::checks;
use crate::machine::workspace;
use crate::operators::{self, OPERATOR};
use crate::pools;
use crate::rights;
use crate::suite::{Outcome, Test};
use crate::wait::{LATER, SOON, until};
use crate::world::{MIGNODE, NAMESPACE, World};

pub(super) const TESTS: &[Test] = &[Test {
    name: "with_the_front_every_right_is_used_and_no_request_is_forbidden",
    run: every_right,
}];

/// A policy that the front's node pools are against, and its binding.
const POLICY: &str = "e2e-no-pools-of-the-front";

/// What it says.
const AGAINST: &str = "there are pools enough";

/// What the policy is tried with.
const PROBE: &str = "probe";

/// Where kubeadm says where the API server is.
const INFO: &str = "cluster-info";

fn every_right(world: &World) -> Outcome {
    let outcome = year(world);
    let left = ["--ignore-not-found", "--namespace=kube-public"];
    let info = world.kubectl(&[&["delete", "configmap", INFO], &left[..]].concat());
    let policy = allow_pools(world);
    outcome.and(info.map(drop)).and(policy)
}

/// All that is done with a front, and then whose rights were used.
fn year(world: &World) -> Outcome {
    let audit = Audit::from_now_on(world)?;
    tell_where_the_server_is(world)?;
    let front = Front::install_with(world, &[])?;
    let shell = front.shell()?;
    clusters(world, &shell)?;
    node_pools(world, &shell)?;
    deployments(&shell)?;
    an_hour_passes(world)?;
    operators::lose_lease(world)?;
    shell.done("az group delete --name myResourceGroup --yes")?;
    shell.prints("az group exists --name myResourceGroup", "false")?;
    pools::is_free(world, MIGNODE)?;

    rights::are_used(world, &audit, OPERATOR, &[])?;
    let asked = rights::are_used(world, &audit, FRONT, &[])?;
    let stranger = asked
        .iter()
        .find(|request| !request.program.starts_with("migpool-arm/"));
    ensure!(
        stranger.is_none(),
        "the front is called otherwise: {stranger:?}"
    );
    Ok(())
}

/// What kubeadm leaves in a cluster.
fn tell_where_the_server_is(world: &World) -> Outcome {
    let config = world.kubectl(&["config", "view", "--raw", "--flatten", "--output=json"])?;
    let config: Value = serde_json::from_str(&config)?;
    let cluster = &config["clusters"][0]["cluster"];
    ensure!(cluster["server"].is_string(), "no server in the kubeconfig");
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "clusters": [{"name": "", "cluster": cluster}],
    });
    world.apply(&[json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": INFO, "namespace": "kube-public"},
        "data": {"kubeconfig": kubeconfig.to_string()},
    })])
}

/// A cluster whose pool the front can't write, so that the operator does; and what else is asked of clusters and groups.
fn clusters(world: &World, shell: &Shell<'_>) -> Outcome {
    shell.done("az group create --name myResourceGroup --location southcentralus --output none")?;
    shell.prints(
        "az group list --query '[].name' --output tsv",
        "myResourceGroup",
    )?;
    shell.done("az group update --name myResourceGroup --set tags.team=audio --output none")?;
    refuse_pools(world)?;
    shell.done(
        "az aks create --resource-group myResourceGroup --name myAKSCluster --node-count 1 --output none",
    )?;
    shell.prints(
        &format!("az aks nodepool list {IN_CLUSTER} --query '[].name' --output tsv"),
        "nodepool1",
    )?;
    // A pool by itself is decided by the front, and the API server's word is passed on.
    shell.fails(
        &format!(
            "az aks nodepool add {IN_CLUSTER} --name mignode --node-count 0 --node-vm-size Standard_ND96asr_v4"
        ),
        1,
        &["BadRequest", AGAINST],
    )?;
    allow_pools(world)?;
    until("the policy to be gone", SOON, || {
        ensure!(tries(world)?, "it is not");
        Ok(())
    })?;
    shell.done(&format!(
        "az aks update {AT_CLUSTER} --tags team=vision --output none"
    ))?;
    shell.prints("az aks list --query '[].name' --output tsv", "myAKSCluster")?;
    for (flags, context) in [("", "myAKSCluster"), ("--admin", "myAKSCluster-admin")] {
        shell.done(&format!(
            "az aks get-credentials {AT_CLUSTER} --overwrite-existing {flags}"
        ))?;
        shell.prints("kubectl config current-context", context)?;
        let nodes = shell.done("kubectl get nodes --output name")?;
        ensure!(nodes.contains(MIGNODE), "kubectl get nodes: {nodes}");
    }
    shell.done(&format!("az aks stop {AT_CLUSTER}"))?;
    shell.done(&format!("az aks start {AT_CLUSTER}"))?;
    Ok(())
}

fn node_pools(world: &World, shell: &Shell<'_>) -> Outcome {
    let pool = format!("{IN_CLUSTER} --name mignode");
    shell.done(&format!(
        "az aks nodepool add {pool} --node-count 1 --node-vm-size Standard_ND96asr_v4 --gpu-instance-profile MIG1g --output none"
    ))?;
    checks::allocatable(world, world.node(MIGNODE), "nvidia.com/gpu", 56, LATER)?;
    shell.prints(
        &format!("az aks nodepool show {pool} --query provisioningState --output tsv"),
        "Succeeded",
    )?;
    shell.prints(
        &format!(
            "az aks machine list {IN_CLUSTER} --nodepool-name mignode --query '[].name' --output tsv"
        ),
        MIGNODE,
    )?;
    // What is asked before the last thing has come to its end takes its place: there is one node of that size.
    for scale in ["2 --no-wait", "0"] {
        shell.done(&format!(
            "az aks nodepool scale {pool} --node-count {scale} --output none"
        ))?;
    }
    shell.done(&format!("az aks nodepool delete {pool}"))?;
    Ok(())
}

/// Two deployments, of which one is deleted and the other goes with its group.
fn deployments(shell: &Shell<'_>) -> Outcome {
    let file = workspace().join("examples/azure/nodepool.json");
    let group = "--resource-group myResourceGroup";
    for name in ["first", "second"] {
        shell.done(&format!(
            "az deployment group create {group} --name {name} --template-file {} --parameters nodeCount=1 --output none",
            file.display()
        ))?;
    }
    shell.done(&format!("az deployment group delete {group} --name first"))?;
    shell.prints(
        &format!("az deployment group list {group} --query '[].name' --output tsv"),
        "second",
    )
}

/// An operation that ended long ago is forgotten.
fn an_hour_passes(world: &World) -> Outcome {
    const OPERATIONS: &str = "operations.migpool.dev";
    let list = world.get(&[OPERATIONS])?;
    let operations = list["items"].as_array().into_iter().flatten();
    let mut ended = operations.filter_map(|operation| {
        let name = operation["metadata"]["name"].as_str()?;
        let record: Value = serde_json::from_str(operation["spec"]["record"].as_str()?).ok()?;
        (!record["end"].is_null()).then(|| (name.to_owned(), record))
    });
    let (name, mut record) = ended.next().context("no operation has ended")?;
    record["end"] = "2026-01-01T00:00:00Z".into();
    let patch = json!({"spec": {"record": record.to_string()}}).to_string();
    world.kubectl(&[
        "patch",
        OPERATIONS,
        &name,
        "--type=merge",
        "--patch",
        &patch,
    ])?;
    until("an old operation to be forgotten", LATER, || {
        let left = world.names_of(OPERATIONS)?;
        ensure!(
            !left.iter().any(|it| it.ends_with(&format!("/{name}"))),
            "{name} is still there"
        );
        Ok(())
    })
}

/// Lets the API server refuse every node pool that the front makes, but not the trial of one: as if the front were killed after
/// that.
fn refuse_pools(world: &World) -> Outcome {
    let front = audit::user(NAMESPACE, FRONT);
    let refuses = format!(
        "request.userInfo.username == '{front}' && (!request.dryRun || object.metadata.name == '{PROBE}')"
    );
    world.apply(&[
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": POLICY},
            "spec": {
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": ["migpool.dev"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["nodepools"],
                }]},
                "matchConditions": [{"name": "front", "expression": refuses}],
                "validations": [{"expression": "false", "message": AGAINST}],
            },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": POLICY},
            "spec": {"policyName": POLICY, "validationActions": ["Deny"]},
        }),
    ])?;
    until("the policy to be heeded", SOON, || {
        ensure!(!tries(world)?, "it is not");
        Ok(())
    })
}

/// Whether the API server would take a node pool of the front's.
fn tries(world: &World) -> anyhow::Result<bool> {
    let probe = pools::manifest(PROBE, &json!({"vmSize": "Standard_ND96asr_v4", "count": 0}));
    let mut command = world.cluster().command("kubectl");
    command.args(["create", "--dry-run=server", "--filename", "-"]);
    command.args(["--as", &audit::user(NAMESPACE, FRONT)]);
    let said = world.run(command, Some(&probe.to_string()))?;
    ensure!(said.ok || said.stderr.contains(AGAINST), "{}", said.stderr);
    Ok(said.ok)
}

/// Takes that back.
fn allow_pools(world: &World) -> Outcome {
    let kinds = "validatingadmissionpolicybindings,validatingadmissionpolicies";
    world.kubectl(&["delete", kinds, POLICY, "--ignore-not-found"])?;
    Ok(())
}

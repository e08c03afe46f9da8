//! What people run next, where there is a Kubernetes behind it.

use anyhow::{Context, ensure};

use super::{AT_CLUSTER, IN_CLUSTER};
use crate::azure::{Front, Shell};
use crate::checks;
use crate::pools;
use crate::suite::{Outcome, Test};
use crate::wait::{LATER, SOON, until};
use crate::world::{MIGNODE, World};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "what_az_asks_of_a_pool_comes_to_its_node",
        run: comes_to_its_node,
    },
    Test {
        name: "what_no_node_fits_can_be_aborted_and_a_front_that_is_killed_goes_on",
        run: aborted,
    },
    Test {
        name: "a_reader_reads_and_is_handed_no_credentials",
        run: reader,
    },
];

/// A label that tests look at.
const TEAM: &str = "e2e.migpool.dev/pool-team";

/// The article's pool, with more flags.
fn add(shell: &Shell<'_>, flags: &str) -> anyhow::Result<()> {
    shell.done(&format!(
        "az group create --name myResourceGroup --location southcentralus --output none &&
         az aks create --resource-group myResourceGroup --name myAKSCluster --node-count 1 --output none &&
         az aks nodepool add {IN_CLUSTER} --name mignode --node-vm-size Standard_ND96asr_v4 --gpu-instance-profile MIG1g {flags}"
    ))?;
    Ok(())
}

fn pool(shell: &Shell<'_>, words: &str) -> anyhow::Result<String> {
    let (verb, flags) = words.split_once(' ').unwrap_or((words, ""));
    shell.done(&format!(
        "az aks nodepool {verb} {IN_CLUSTER} --name mignode {flags}"
    ))
}

fn comes_to_its_node(world: &World) -> Outcome {
    let front = Front::install(world)?;
    let shell = front.shell()?;
    add(
        &shell,
        &format!("--node-count 1 --labels {TEAM}=vision --node-taints e2e=yes:PreferNoSchedule"),
    )?;
    let worn = |label: &str| -> Outcome {
        let dress = pools::comes_to_wear(
            world,
            MIGNODE,
            Some("mignode"),
            &["e2e=yes:PreferNoSchedule"],
        )?;
        ensure!(
            dress.labels.get(TEAM).map(String::as_str) == Some(label),
            "{dress:?}"
        );
        Ok(())
    };
    worn("vision")?;
    pool(
        &shell,
        &format!("update --labels {TEAM}=audio --output none"),
    )?;
    worn("audio")?;
    shell.prints(
        &format!(
            "az aks machine list {IN_CLUSTER} --nodepool-name mignode --query '[].name' --output tsv"
        ),
        MIGNODE,
    )?;
    // What kubectl has is what az shows.
    let kept = pools::pool(world, "mignode")?;
    ensure!(kept["spec"]["gpuInstanceProfile"] == "MIG1g", "{kept}");

    pool(&shell, "scale --node-count 0 --output none")?;
    until("the node to be given back", LATER, || {
        pools::is_free(world, MIGNODE)
    })?;
    pool(&shell, "scale --node-count 1 --output none")?;
    checks::allocatable(world, world.node(MIGNODE), "nvidia.com/gpu", 56, LATER)?;
    // So it is while the pool is stopped.
    pool(&shell, "stop --output none")?;
    until("the stopped pool's node to be given back", LATER, || {
        pools::is_free(world, MIGNODE)
    })?;
    pool(&shell, "start --output none")?;
    checks::allocatable(world, world.node(MIGNODE), "nvidia.com/gpu", 56, LATER)?;
    shell.done(&format!(
        "az aks update {AT_CLUSTER} --tags team=vision --output none"
    ))?;
    shell.prints(
        &format!("az aks show {AT_CLUSTER} --query tags.team --output tsv"),
        "vision",
    )?;

    shell.done(&format!("az aks delete {AT_CLUSTER} --yes"))?;
    pools::is_free(world, MIGNODE)?;
    shell.done("az group delete --name myResourceGroup --yes")?;
    Ok(())
}

fn aborted(world: &World) -> Outcome {
    let mut front = Front::install(world)?;
    let shell = front.shell()?;
    // There is one node of that size.
    add(&shell, "--node-count 2 --no-wait")?;
    let state = |wanted: &str| {
        shell.prints(
            &format!(
                "az aks nodepool show {IN_CLUSTER} --name mignode --query provisioningState --output tsv"
            ),
            wanted,
        )
    };
    state("Creating")?;
    front.replace()?;
    state("Creating")?;
    shell.done(&format!(
        "az aks nodepool operation-abort {IN_CLUSTER} --nodepool-name mignode"
    ))?;
    state("Canceled")?;
    pool(&shell, "scale --node-count 1 --output none")?;
    state("Succeeded")?;
    shell.done("az group delete --name myResourceGroup --yes")?;
    pools::is_free(world, MIGNODE)
}

fn reader(world: &World) -> Outcome {
    let front = Front::install(world)?;
    let administrator = front.shell()?;
    administrator.done(
        "az group create --name myResourceGroup --location southcentralus --output none &&
         az aks create --resource-group myResourceGroup --name myAKSCluster --node-count 1 --output none",
    )?;
    let kubeconfig = world.cluster().kubeconfig();
    let secret = administrator.json(&format!(
        "migpool azure principal create reader --role reader --scope /subscriptions/$AZURE_SUBSCRIPTION_ID \
         --kubeconfig '{}' --namespace default --output json",
        kubeconfig.display()
    ))?;
    let text = |key: &str| secret[key].as_str().with_context(|| format!("no {key}"));
    // The same shell, signed in as somebody else.
    administrator.done("az account clear")?;
    let login = format!(
        "az login --service-principal --username {} --tenant {} --password '{}' --output none",
        text("appId")?,
        text("tenant")?,
        text("password")?
    );
    // The front sees what was changed beside it within a moment.
    until("the reader to be let in", SOON, || {
        administrator.done(&login).map(drop)
    })?;
    administrator.prints("az aks list --query '[].name' --output tsv", "myAKSCluster")?;
    administrator.fails(
        &format!("az aks get-credentials {AT_CLUSTER}"),
        1,
        &["AuthorizationFailed"],
    )?;
    administrator.fails(
        &format!("az aks delete {AT_CLUSTER} --yes"),
        1,
        &["AuthorizationFailed"],
    )
}

//! What is done to a cluster as a whole.

use anyhow::ensure;

use super::AT_CLUSTER;
use crate::azure::Up;
use crate::machine::Machine;
use crate::suite::{Alone, Outcome};

pub(super) const ALONE: &[Alone] = &[
    Alone {
        name: "clusters_are_listed_tagged_scaled_stopped_started_and_deleted",
        run: lives,
    },
    Alone {
        name: "what_goes_on_with_a_cluster_can_be_aborted",
        run: aborted,
    },
    Alone {
        name: "what_az_prints_is_whole_in_each_of_its_formats",
        run: formats,
    },
    Alone {
        name: "what_is_wrong_with_a_cluster_is_said_by_az",
        run: refused,
    },
];

fn lives(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "cluster")?;
    let shell = up.with_cluster()?;
    let shown = |query: &str, wanted: &str| {
        shell.prints(
            &format!("az aks show {AT_CLUSTER} --query {query} --output tsv"),
            wanted,
        )
    };
    shown("provisioningState", "Succeeded")?;
    shown("'agentPoolProfiles[].name'", "nodepool1")?;
    // az sent it empty.
    let size = shell.done(&format!(
        "az aks show {AT_CLUSTER} --query 'agentPoolProfiles[0].vmSize' --output tsv"
    ))?;
    ensure!(size.trim().starts_with("Standard_"), "vmSize is {size:?}");

    shell.done(&format!(
        "az aks update {AT_CLUSTER} --tags team=vision cost=12 --output none"
    ))?;
    shown("tags.team", "vision")?;
    shell.done(&format!(
        "az aks scale {AT_CLUSTER} --node-count 2 --output none"
    ))?;
    shown("'agentPoolProfiles[0].count'", "2")?;
    shown("tags.cost", "12")?;

    let upgrades = shell.json(&format!("az aks get-upgrades {AT_CLUSTER}"))?;
    ensure!(
        upgrades["controlPlaneProfile"]["kubernetesVersion"].is_string(),
        "{upgrades}"
    );
    shell.done(&format!("az aks get-upgrades {AT_CLUSTER} --output table"))?;
    shell.done("az aks get-versions --location southcentralus --output table")?;
    shell.done(&format!(
        "az aks upgrade {AT_CLUSTER} --node-image-only --yes --output none"
    ))?;
    shell.done(&format!("az aks wait {AT_CLUSTER} --updated"))?;

    // Nothing here upgrades a Kubernetes.
    shell.fails(
        &format!("az aks upgrade {AT_CLUSTER} --kubernetes-version 1.99.0 --yes"),
        1,
        &["InvalidParameter", "1.99.0"],
    )?;

    shell.done(&format!("az aks stop {AT_CLUSTER}"))?;
    shown("powerState.code", "Stopped")?;
    shell.done(&format!("az aks start {AT_CLUSTER}"))?;
    shown("powerState.code", "Running")?;
    shown("provisioningState", "Succeeded")?;

    // Nothing goes on, so there is nothing to abort.
    shell.fails(
        &format!("az aks operation-abort {AT_CLUSTER}"),
        1,
        &["OperationNotAllowed", "no operation in progress"],
    )?;
    shell.done(&format!("az aks delete {AT_CLUSTER} --yes"))?;
    shell.fails(
        &format!("az aks show {AT_CLUSTER}"),
        3,
        &["ResourceNotFound", "myAKSCluster"],
    )
}

fn aborted(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "cluster-abort")?;
    let shell = up.shell()?;
    shell.done("az group create --name myResourceGroup --location southcentralus --output none")?;
    let held = up.hold_agents("nodepool1");
    shell.done(&format!(
        "az aks create {AT_CLUSTER} --node-count 1 --no-wait --output none"
    ))?;
    let state = |wanted: &str| {
        shell.prints(
            &format!(
                "az aks show {AT_CLUSTER} --query '[provisioningState, agentPoolProfiles[0].provisioningState]' --output tsv"
            ),
            &format!("{wanted}\n{wanted}"),
        )
    };
    state("Creating")?;
    shell.done(&format!("az aks operation-abort {AT_CLUSTER}"))?;
    state("Canceled")?;
    drop(held);
    shell.fails(
        &format!("az aks operation-abort {AT_CLUSTER}"),
        1,
        &["OperationNotAllowed", "no operation in progress"],
    )?;
    // And the cluster is usable: what is asked next goes on.
    shell.done(&format!(
        "az aks scale {AT_CLUSTER} --node-count 2 --output none"
    ))?;
    state("Succeeded")
}

fn formats(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "formats")?;
    let shell = up.with_cluster()?;
    let table = shell.done("az aks list --output table")?;
    for word in [
        "myAKSCluster",
        "southcentralus",
        "myResourceGroup",
        "Succeeded",
    ] {
        ensure!(table.contains(word), "no {word} in {table}");
    }
    // The version stands in two columns.
    let version = shell.done("az aks list --query '[0].currentKubernetesVersion' --output tsv")?;
    let version = version.trim();
    ensure!(
        !version.is_empty() && table.matches(version).count() == 2,
        "{version:?} in {table}"
    );
    let yaml = shell.done("az aks list --output yaml")?;
    ensure!(yaml.contains("name: myAKSCluster"), "{yaml}");
    let colored = shell.done("az aks list --output jsonc")?;
    ensure!(colored.contains("myAKSCluster"), "{colored}");
    shell.prints(
        "az aks list --query '[].[name, provisioningState]' --output tsv",
        "myAKSCluster\tSucceeded",
    )?;
    let pools = shell.done(&format!(
        "az aks nodepool list {} -o table",
        super::IN_CLUSTER
    ))?;
    ensure!(
        pools.contains("nodepool1") && pools.contains("System"),
        "{pools}"
    );
    let quiet = shell.done("az aks list --output none")?;
    ensure!(quiet.is_empty(), "{quiet}");
    Ok(())
}

fn refused(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "refused")?;
    let shell = up.with_cluster()?;
    shell.fails(
        "az aks create --resource-group nosuch --name c --location southcentralus",
        3,
        &["ResourceGroupNotFound"],
    )?;
    shell.fails(
        "az aks create --resource-group myResourceGroup --name c --node-vm-size Standard_Nope --node-count 1",
        1,
        &["Standard_Nope"],
    )?;
    shell.fails(
        "az aks show --resource-group myResourceGroup --name c",
        3,
        &["ResourceNotFound"],
    )?;
    shell.fails(
        "az rest --method get --skip-authorization-header --headers \"Authorization=Bearer $(az account get-access-token --query accessToken --output tsv)\" --url $MIGPOOL_AZURE_ENDPOINT/subscriptions/11111111-2222-3333-4444-555555555555/resourcegroups?api-version=2024-11-01",
        1,
        &["11111111-2222-3333-4444-555555555555"],
    )?;
    Ok(())
}

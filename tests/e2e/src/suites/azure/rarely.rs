//! What is asked for more rarely, each as the documentation has it.

use anyhow::ensure;

use super::{AT_CLUSTER, IN_CLUSTER};
use crate::azure::Up;
use crate::machine::Machine;
use crate::suite::{Alone, Outcome};

pub(super) const ALONE: &[Alone] = &[Alone {
    name: "what_cannot_be_here_is_refused_with_what_to_do_instead",
    run: refused,
}];

fn refused(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "rarely")?;
    let shell = up.with_cluster()?;
    shell.fails(
        &format!("az aks command invoke {AT_CLUSTER} --command 'kubectl get nodes'"),
        1,
        &["NotSupported", "migpool pod exec"],
    )?;
    shell.fails(
        &format!("az aks rotate-certs {AT_CLUSTER} --yes"),
        1,
        &["NotSupported", "migpool azure rotate"],
    )?;
    let pool = shell.done(&format!(
        "az aks nodepool show {IN_CLUSTER} --name nodepool1 --query id --output tsv"
    ))?;
    let group = "--resource-group myResourceGroup";
    shell.fails(
        &format!(
            "az aks nodepool snapshot create {group} --name snapshot --nodepool-id {}",
            pool.trim()
        ),
        1,
        &["NotSupported", "make another one like it"],
    )?;
    shell.prints(
        &format!("az aks nodepool snapshot list {group} --query 'length(@)' --output tsv"),
        "0",
    )?;

    let provider = shell.json("az provider show --namespace Microsoft.ContainerService")?;
    ensure!(
        provider["registrationState"] == "Registered"
            && provider["resourceTypes"]
                .as_array()
                .is_some_and(|types| types
                    .iter()
                    .any(|it| it["resourceType"] == "managedClusters/agentPools")),
        "{provider}"
    );
    shell.fails(
        "az provider show --namespace Microsoft.Storage",
        3,
        &["InvalidResourceNamespace", "Microsoft.ContainerService"],
    )?;

    // Nothing here upgrades a Kubernetes, but the version that there is can be asked for.
    let upgrade = |version: &str| {
        format!(
            "az aks nodepool upgrade {IN_CLUSTER} --name nodepool1 --kubernetes-version {version} --yes --output none"
        )
    };
    shell.fails(
        &upgrade("1.99.0"),
        1,
        &["InvalidParameter", "1.99.0", "orchestratorVersion"],
    )?;
    let version = shell.done(&format!(
        "az aks show {AT_CLUSTER} --query currentKubernetesVersion --output tsv"
    ))?;
    shell.done(&upgrade(version.trim()))?;
    shell.prints(
        &format!(
            "az aks nodepool show {IN_CLUSTER} --name nodepool1 --query '[provisioningState, count]' --output tsv"
        ),
        "Succeeded\n1",
    )
}

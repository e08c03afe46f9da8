//! Templates, as Bicep compiles them.

use anyhow::ensure;

use super::IN_CLUSTER;
use crate::azure::Up;
use crate::machine::{Machine, workspace};
use crate::suite::{Alone, Outcome};

pub(super) const ALONE: &[Alone] = &[
    Alone {
        name: "a_template_makes_the_articles_pool",
        run: template,
    },
    Alone {
        name: "a_template_that_cannot_be_is_refused_before_anything_is_made",
        run: refused,
    },
];

const DEPLOY: &str = "az deployment group create --resource-group myResourceGroup";

fn template(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "template")?;
    let shell = up.with_cluster()?;
    let file = workspace().join("examples/azure/nodepool.json");
    let file = file.display();
    let deployed = shell.json(&format!("{DEPLOY} --template-file {file}"))?;
    let properties = &deployed["properties"];
    ensure!(
        properties["provisioningState"] == "Succeeded" && deployed["name"] == "nodepool",
        "{deployed}"
    );
    let id = properties["outputs"]["poolId"]["value"]
        .as_str()
        .unwrap_or_default();
    ensure!(
        id.ends_with("/managedClusters/myAKSCluster/agentPools/migbicep"),
        "the output poolId is {id:?}"
    );
    shell.prints(
        &format!(
            "az aks nodepool show {IN_CLUSTER} --name migbicep --query '[gpuInstanceProfile, provisioningState]' --output tsv"
        ),
        "MIG1g\nSucceeded",
    )?;
    // Again, with other parameters.
    shell.done(&format!(
        "{DEPLOY} --name other --template-file {file} --parameters poolName=migother gpuInstanceProfile=MIG3g --output none"
    ))?;
    shell.prints(
        &format!(
            "az aks nodepool show {IN_CLUSTER} --name migother --query gpuInstanceProfile --output tsv"
        ),
        "MIG3g",
    )?;
    shell.prints(
        "az deployment group list --resource-group myResourceGroup --query 'sort([].name)' --output tsv",
        "nodepool\nother",
    )?;
    let operations = shell
        .json("az deployment operation group list --resource-group myResourceGroup --name other")?;
    ensure!(
        operations.as_array().is_some_and(|all| !all.is_empty()),
        "{operations}"
    );
    // A deployment is a record: what it made stays.
    shell.done("az deployment group delete --resource-group myResourceGroup --name other")?;
    shell.done(&format!(
        "az aks nodepool show {IN_CLUSTER} --name migother --output none"
    ))?;
    Ok(())
}

fn refused(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "template-wrong")?;
    let shell = up.with_cluster()?;
    let file = workspace().join("examples/azure/nodepool.json");
    let file = file.display();
    shell.fails(
        &format!("{DEPLOY} --template-file {file} --parameters gpuInstanceProfile=MIG9g"),
        1,
        &["MIG9g"],
    )?;
    shell.fails(
        &format!("{DEPLOY} --template-file {file} --parameters clusterName=nosuch"),
        1,
        &["nosuch"],
    )?;
    let storage = shell.home().join("storage.json");
    std::fs::write(
        &storage,
        r#"{"$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
            "contentVersion": "1.0.0.0",
            "resources": [{"type": "Microsoft.Storage/storageAccounts", "apiVersion": "2023-01-01", "name": "s", "location": "x"}]}"#,
    )?;
    shell.fails(
        &format!("{DEPLOY} --template-file {}", storage.display()),
        1,
        &["Microsoft.Storage/storageAccounts"],
    )?;
    shell.prints(
        &format!("az aks nodepool list {IN_CLUSTER} --query '[].name' --output tsv"),
        "nodepool1",
    )
}

//! Subscriptions, places and resource groups.

use anyhow::ensure;

use crate::azure::Up;
use crate::machine::Machine;
use crate::suite::{Alone, Outcome};

pub(super) const ALONE: &[Alone] = &[
    Alone {
        name: "the_account_and_its_locations_are_shown",
        run: account,
    },
    Alone {
        name: "groups_come_and_go",
        run: groups,
    },
];

fn account(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "account")?;
    let shell = up.shell()?;
    let account = shell.json("az account show")?;
    ensure!(
        account["state"] == "Enabled" && account["environmentName"] == "migpool",
        "{account}"
    );
    shell.prints("az account list --query 'length(@)' --output tsv", "1")?;
    let subscription = shell.variable("AZURE_SUBSCRIPTION_ID")?;
    shell.prints("az account show --query id --output tsv", subscription)?;
    shell.prints(
        "az account list-locations --query \"[?name=='southcentralus'].displayName\" --output tsv",
        "South Central US",
    )?;
    shell.prints(
        "az account get-access-token --query tokenType --output tsv",
        "Bearer",
    )?;
    // Tokens are short-lived.
    let life = shell.done(
        "echo $(( $(az account get-access-token --query expires_on --output tsv) - $(date +%s) ))",
    )?;
    let life: i64 = life.trim().parse()?;
    ensure!((60..=3600).contains(&life), "a token lives for {life} s");
    Ok(())
}

fn groups(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "groups")?;
    let shell = up.shell()?;
    shell.prints("az group exists --name myResourceGroup", "false")?;
    let created = shell.json(
        "az group create --name myResourceGroup --location southcentralus --tags team=vision",
    )?;
    ensure!(
        created["properties"]["provisioningState"] == "Succeeded"
            && created["tags"]["team"] == "vision",
        "{created}"
    );
    shell.prints("az group exists --name MYRESOURCEGROUP", "true")?;
    shell.prints(
        "az group show --name myResourceGroup --query location --output tsv",
        "southcentralus",
    )?;
    let table = shell.done("az group list --output table")?;
    ensure!(
        table.contains("Name") && table.contains("myResourceGroup"),
        "{table}"
    );
    shell.done("az group update --name myResourceGroup --set tags.team=audio --output none")?;
    shell.prints(
        "az group show --name myResourceGroup --query tags.team --output tsv",
        "audio",
    )?;
    shell.done("az group wait --name myResourceGroup --created")?;
    shell.fails(
        "az group show --name nosuch",
        3,
        &["ResourceGroupNotFound", "nosuch"],
    )?;
    shell.done(
        "az aks create --resource-group myResourceGroup --name c1 --node-count 1 --no-wait",
    )?;
    // With all that is in it.
    shell.done("az group delete --name myResourceGroup --yes")?;
    shell.prints("az group exists --name myResourceGroup", "false")?;
    shell.prints("az aks list --query 'length(@)' --output tsv", "0")?;
    shell.prints("az resource list --query 'length(@)' --output tsv", "0")
}

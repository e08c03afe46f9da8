//! Who gets in, and what they may do.

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{AT_CLUSTER, IN_CLUSTER};
use crate::azure::{Shell, Up};
use crate::machine::Machine;
use crate::suite::{Alone, Outcome};

pub(super) const ALONE: &[Alone] = &[
    Alone {
        name: "service_principals_do_what_their_role_lets_them_and_no_more",
        run: roles,
    },
    Alone {
        name: "setup_signs_az_in_as_a_service_principal_and_no_more_is_to_be_had",
        run: set_up_as_principal,
    },
    Alone {
        name: "who_did_what_is_written_down_and_no_token_with_it",
        run: audit,
    },
];

/// Makes a service principal with a role, and a shell in which az has signed in as it.
fn as_principal<'m>(
    up: &Up<'m>,
    administrator: &Shell<'m>,
    role: &str,
    scope: &str,
) -> anyhow::Result<(Shell<'m>, Value)> {
    let secret = administrator.json(&format!(
        "migpool azure principal create {role} --role {role} --scope {scope} --output json"
    ))?;
    let text = |key: &str| {
        secret[key]
            .as_str()
            .with_context(|| format!("no {key} in what `principal create` prints"))
    };
    let mut shell = up.bare_shell()?;
    for (name, value) in [
        (
            "REQUESTS_CA_BUNDLE",
            administrator.variable("REQUESTS_CA_BUNDLE")?,
        ),
        (
            "AZURE_SUBSCRIPTION_ID",
            administrator.variable("AZURE_SUBSCRIPTION_ID")?,
        ),
        ("AZURE_CORE_COLLECT_TELEMETRY", "0"),
    ] {
        shell.set(name, value);
    }
    let settings = up.state().join(format!("az-{role}"));
    shell.set("AZURE_CONFIG_DIR", settings.to_string_lossy());
    let endpoint = administrator.variable("MIGPOOL_AZURE_ENDPOINT")?;
    // What az finds out by itself is enough.
    shell.done(&format!(
        "az cloud register --name other --endpoint-resource-manager {endpoint} && az cloud set --name other"
    ))?;
    let (id, tenant) = (text("appId")?, text("tenant")?);
    shell.fails(
        &format!("az login --service-principal --username {id} --tenant {tenant} --password wrong"),
        1,
        &["AADSTS"],
    )?;
    shell.done(&format!(
        "az login --service-principal --username {id} --tenant {tenant} --password '{}' --output none",
        text("password")?
    ))?;
    Ok((shell, secret))
}

fn roles(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "roles")?;
    let administrator = up.with_cluster()?;
    let subscription = administrator.variable("AZURE_SUBSCRIPTION_ID")?;
    let whole = format!("/subscriptions/{subscription}");
    let add = format!(
        "az aks nodepool add {IN_CLUSTER} --name mignode --node-vm-size Standard_ND96asr_v4 --node-count 0 --output none"
    );

    let (reader, _) = as_principal(&up, &administrator, "reader", &whole)?;
    reader.prints("az aks list --query '[].name' --output tsv", "myAKSCluster")?;
    reader.fails(&add, 1, &["AuthorizationFailed"])?;
    reader.fails(
        &format!("az aks get-credentials {AT_CLUSTER}"),
        1,
        &["AuthorizationFailed"],
    )?;
    reader.fails(
        "az group delete --name myResourceGroup --yes",
        1,
        &["AuthorizationFailed"],
    )?;

    let cluster = format!(
        "{whole}/resourceGroups/myResourceGroup/providers/Microsoft.ContainerService/managedClusters/myAKSCluster"
    );
    let (contributor, secret) = as_principal(&up, &administrator, "contributor", &cluster)?;
    contributor.done(&add)?;
    contributor.fails(
        "az group create --name other --location southcentralus",
        1,
        &["AuthorizationFailed"],
    )?;
    contributor.fails(
        "az aks create --resource-group myResourceGroup --name other --location southcentralus",
        1,
        &["AuthorizationFailed"],
    )?;

    // A principal that is gone is gone at once, whatever tokens it has.
    let id = secret["appId"].as_str().unwrap_or_default();
    administrator.done(&format!("migpool azure principal delete {id}"))?;
    crate::wait::until("the principal to be refused", crate::wait::SOON, || {
        contributor.fails(&format!("az aks nodepool list {IN_CLUSTER}"), 1, &[])
    })
}

fn set_up_as_principal(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "principal")?;
    // Somebody works here as the managed identity already.
    let administrator = up.with_cluster()?;
    let secret = administrator.json(
        "migpool azure principal create ci --role reader --scope /subscriptions/$AZURE_SUBSCRIPTION_ID --output json",
    )?;
    let text = |key: &str| secret[key].as_str().with_context(|| format!("no {key}"));
    let mut shell = up.bare_shell()?;
    shell.set("AZURE_CLIENT_SECRET", "wrong");
    let setup = "migpool azure setup --apply --service-principal ci";
    shell.fails(setup, 1, &["AADSTS"])?;
    shell.set("AZURE_CLIENT_SECRET", text("password")?);
    shell.done(setup)?;
    shell.eval("migpool azure env")?;
    ensure!(
        shell.variable("IDENTITY_HEADER").is_err(),
        "the shell has the managed identity's secret"
    );
    shell.prints(
        "az account show --query '[user.type, user.name]' --output tsv",
        &format!("servicePrincipal\n{}", text("appId")?),
    )?;
    shell.prints("az aks list --query '[].name' --output tsv", "myAKSCluster")?;
    shell.fails(
        "az group create --name other --location southcentralus",
        1,
        &["AuthorizationFailed", "'ci'"],
    )
}

fn audit(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "audit")?;
    let shell = up.with_cluster()?;
    let token = shell.done("az account get-access-token --query accessToken --output tsv")?;
    shell.fails("az group show --name nosuch", 3, &[])?;
    let log = std::fs::read_to_string(up.state().join("azure/audit.log"))?;
    let entries: Vec<Value> = log
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .context("the audit log is not JSON lines")?;
    ensure!(
        entries
            .iter()
            .any(|entry| entry.to_string().contains("managedClusters/myAKSCluster")),
        "nobody is said to have made the cluster: {log}"
    );
    let header = shell.variable("IDENTITY_HEADER")?;
    let body = token.trim().split('.').nth(2).context("not a token")?;
    for (what, secret) in [("a token", body), ("the managed identity's secret", header)] {
        ensure!(!log.contains(secret), "{what} is in the audit log");
        ensure!(!up.log()?.contains(secret), "{what} is in the log");
    }
    shell.done("migpool azure audit")?;
    Ok(())
}

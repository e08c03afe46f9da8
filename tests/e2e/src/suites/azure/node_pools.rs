//! What is done to node pools after the article's step.

use anyhow::{Context, ensure};

use super::IN_CLUSTER;
use crate::azure::{Shell, Up};
use crate::machine::Machine;
use crate::suite::{Alone, Outcome};
use crate::wait::{SOON, until};

pub(super) const ALONE: &[Alone] = &[
    Alone {
        name: "a_pool_is_scaled_labelled_stopped_started_and_deleted",
        run: lives,
    },
    Alone {
        name: "what_cannot_be_is_refused_and_changes_nothing",
        run: refused,
    },
    Alone {
        name: "without_waiting_az_comes_back_at_once_and_can_wait_later",
        run: no_wait,
    },
    Alone {
        name: "what_goes_on_can_be_aborted",
        run: abort,
    },
    Alone {
        name: "machines_are_listed_and_deleted_by_name",
        run: machines,
    },
    Alone {
        name: "the_managed_gpu_profile_says_strategy_and_profiles",
        run: managed,
    },
];

/// A pool's name and what is asked of it.
fn add(shell: &Shell<'_>, name: &str, flags: &str) -> anyhow::Result<()> {
    shell.done(&format!(
        "az aks nodepool add {IN_CLUSTER} --name {name} --node-vm-size Standard_ND96asr_v4 {flags} --output none"
    ))?;
    Ok(())
}

/// A value of a pool, as `--query` finds it.
fn shown(shell: &Shell<'_>, name: &str, query: &str, wanted: &str) -> anyhow::Result<()> {
    shell.prints(
        &format!(
            "az aks nodepool show {IN_CLUSTER} --name {name} --query \"{query}\" --output tsv"
        ),
        wanted,
    )
}

fn lives(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "pool")?;
    let shell = up.with_cluster()?;
    let pool = |words: &str| {
        let (verb, flags) = words.split_once(' ').unwrap_or((words, ""));
        shell.done(&format!(
            "az aks nodepool {verb} {IN_CLUSTER} --name mignode {flags}"
        ))
    };
    add(
        &shell,
        "mignode",
        "--gpu-instance-profile MIG1g --node-count 1 --labels team=vision --node-taints sku=gpu:NoSchedule --tags cost=12",
    )?;
    shown(&shell, "mignode", "nodeLabels.team", "vision")?;
    shown(&shell, "mignode", "nodeTaints[0]", "sku=gpu:NoSchedule")?;
    shown(&shell, "mignode", "tags.cost", "12")?;

    pool("scale --node-count 2 --output none")?;
    shown(
        &shell,
        "mignode",
        "[count, provisioningState]",
        "2\nSucceeded",
    )?;
    // All that was asked before is as it was.
    shown(&shell, "mignode", "nodeLabels.team", "vision")?;
    let nodes = shell.done("migpool node list")?;
    ensure!(
        nodes
            .lines()
            .filter(|line| line.contains("mignode"))
            .count()
            == 2,
        "{nodes}"
    );

    pool("update --labels team=audio --tags cost=13 --node-taints '' --output none")?;
    shown(&shell, "mignode", "nodeLabels.team", "audio")?;
    shown(&shell, "mignode", "tags.cost", "13")?;
    shown(&shell, "mignode", "nodeTaints", "")?;

    pool("update --enable-cluster-autoscaler --min-count 1 --max-count 3 --output none")?;
    shown(
        &shell,
        "mignode",
        "[enableAutoScaling, minCount, maxCount]",
        "true\n1\n3",
    )?;
    pool("update --disable-cluster-autoscaler --output none")?;
    shown(&shell, "mignode", "[enableAutoScaling]", "false")?;

    pool("stop --output none")?;
    shown(&shell, "mignode", "powerState.code", "Stopped")?;
    pool("start --output none")?;
    shown(
        &shell,
        "mignode",
        "[powerState.code, provisioningState]",
        "Running\nSucceeded",
    )?;

    let upgrades = shell.json(&format!(
        "az aks nodepool get-upgrades {IN_CLUSTER} --nodepool-name mignode"
    ))?;
    ensure!(upgrades["osType"] == "Linux", "{upgrades}");
    pool("upgrade --node-image-only --output none")?;
    shown(&shell, "mignode", "provisioningState", "Succeeded")?;

    pool("delete")?;
    shell.fails(
        &format!("az aks nodepool show {IN_CLUSTER} --name mignode"),
        3,
        &["NotFound", "mignode"],
    )?;
    shell.prints(
        &format!("az aks nodepool list {IN_CLUSTER} --query '[].name' --output tsv"),
        "nodepool1",
    )
}

fn refused(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "wrong")?;
    let shell = up.with_cluster()?;
    let add = |name: &str, flags: &str| {
        format!("az aks nodepool add {IN_CLUSTER} --name {name} --node-count 1 {flags}")
    };
    let a100 = "--node-vm-size Standard_ND96asr_v4";
    shell.fails(
        &add("MIGnode", a100),
        1,
        &["InvalidParameter", "agentPoolProfile.name"],
    )?;
    shell.fails(
        &add("mig", &format!("{a100} --gpu-instance-profile MIG9g")),
        2,
        &["MIG9g"],
    )?;
    shell.fails(
        &add(
            "mig",
            "--node-vm-size Standard_DS2_v2 --gpu-instance-profile MIG1g",
        ),
        1,
        &["Standard_DS2_v2"],
    )?;
    shell.fails(
        &add("mig", &format!("{a100} --node-count 1001")),
        1,
        &["1001"],
    )?;
    shell.fails(
        &add("mig", &format!("{a100} --node-taints sku=gpu:Never")),
        1,
        &["Never"],
    )?;
    shell.fails(
        &format!("az aks nodepool delete {IN_CLUSTER} --name nodepool1"),
        1,
        &["nodepool1"],
    )?;
    shell.fails(
        &format!("az aks nodepool scale {IN_CLUSTER} --name nosuch --node-count 1"),
        3,
        &["NotFound"],
    )?;
    shell.prints(
        &format!("az aks nodepool list {IN_CLUSTER} --query '[].name' --output tsv"),
        "nodepool1",
    )?;
    // The profile of a pool is for good.
    shell.done(&format!(
        "{} --output none",
        add("mig", &format!("{a100} --gpu-instance-profile MIG1g"))
    ))?;
    let id = shell.done(&format!(
        "az aks nodepool show {IN_CLUSTER} --name mig --query id --output tsv"
    ))?;
    shell.fails(
        &format!(
            "az rest --method put --url '{}?api-version=2024-09-01' --body '{{\"properties\": {{\"count\": 1, \"vmSize\": \"Standard_ND96asr_v4\", \"gpuInstanceProfile\": \"MIG2g\"}}}}'",
            id.trim()
        ),
        1,
        &["PropertyChangeNotAllowed", "properties.gpuInstanceProfile"],
    )?;
    shown(&shell, "mig", "gpuInstanceProfile", "MIG1g")
}

fn no_wait(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "nowait")?;
    let shell = up.with_cluster()?;
    let printed = shell.done(&format!(
        "az aks nodepool add {IN_CLUSTER} --name mignode --node-vm-size Standard_ND96asr_v4 --gpu-instance-profile MIG2g \
         --node-count 2 --no-wait"
    ))?;
    ensure!(printed.trim().is_empty(), "{printed}");
    shell.done(&format!(
        "az aks nodepool wait {IN_CLUSTER} --nodepool-name mignode --created --interval 1 --timeout 120"
    ))?;
    shown(
        &shell,
        "mignode",
        "[provisioningState, count]",
        "Succeeded\n2",
    )?;
    shell.done(&format!(
        "az aks nodepool delete {IN_CLUSTER} --name mignode --no-wait"
    ))?;
    shell.done(&format!(
        "az aks nodepool wait {IN_CLUSTER} --nodepool-name mignode --deleted --interval 1 --timeout 120"
    ))
    .map(drop)
}

fn abort(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "abort")?;
    let shell = up.with_cluster()?;
    let held = up.hold_agents("mignode");
    shell.done(&format!(
        "az aks nodepool add {IN_CLUSTER} --name mignode --node-vm-size Standard_ND96asr_v4 --gpu-instance-profile MIG1g \
         --node-count 2 --no-wait"
    ))?;
    shown(&shell, "mignode", "provisioningState", "Creating")?;
    shell.done(&format!(
        "az aks nodepool operation-abort {IN_CLUSTER} --nodepool-name mignode"
    ))?;
    shown(&shell, "mignode", "provisioningState", "Canceled")?;
    drop(held);
    // There is nothing to abort any more.
    shell.fails(
        &format!("az aks nodepool operation-abort {IN_CLUSTER} --nodepool-name mignode"),
        1,
        &["mignode"],
    )?;
    // And the pool is usable: what is asked next goes on.
    shell.done(&format!(
        "az aks nodepool scale {IN_CLUSTER} --name mignode --node-count 1 --output none"
    ))?;
    shown(
        &shell,
        "mignode",
        "[provisioningState, count]",
        "Succeeded\n1",
    )?;
    shell.done(&format!(
        "az aks nodepool delete {IN_CLUSTER} --name mignode"
    ))?;
    Ok(())
}

fn machines(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "machines")?;
    let shell = up.with_cluster()?;
    add(
        &shell,
        "mignode",
        "--gpu-instance-profile MIG3g --node-count 2",
    )?;
    let list = format!("az aks machine list {IN_CLUSTER} --nodepool-name mignode");
    let names = shell.done(&format!("{list} --query '[].name' --output tsv"))?;
    let names: Vec<_> = names.lines().collect();
    ensure!(names.len() == 2, "{names:?}");
    let first = names.first().context("no machine")?;
    let shown = shell.json(&format!(
        "az aks machine show {IN_CLUSTER} --nodepool-name mignode --machine-name {first}"
    ))?;
    ensure!(shown["name"] == **first, "{shown}");
    shell.done(&format!(
        "az aks nodepool delete-machines {IN_CLUSTER} --nodepool-name mignode --machine-names {first}"
    ))?;
    until("the machine to be gone", SOON, || {
        let left = shell.done(&format!("{list} --query '[].name' --output tsv"))?;
        ensure!(left.trim() == names[1], "there are {left}");
        Ok(())
    })?;
    self::shown(&shell, "mignode", "count", "1")
}

fn managed(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "managed")?;
    let shell = up.with_cluster()?;
    let url = format!(
        "/subscriptions/{}/resourceGroups/myResourceGroup/providers/Microsoft.ContainerService/managedClusters/myAKSCluster/agentPools",
        shell.variable("AZURE_SUBSCRIPTION_ID")?
    );
    let put = |name: &str, properties: &str| {
        format!(
            "az rest --method put --url '{url}/{name}?api-version=2026-07-02-preview' --body '{{\"properties\": {properties}}}'"
        )
    };
    shell.done(&put(
        "mixed",
        r#"{"count": 1, "vmSize": "Standard_ND96asr_v4", "gpuInstanceProfile": "MIG1g",
            "gpuProfile": {"nvidia": {"managementMode": "Managed", "migStrategy": "Mixed"}}}"#,
    ))?;
    shell.done(&put(
        "list",
        r#"{"count": 1, "vmSize": "Standard_ND96asr_v4",
            "gpuProfile": {"nvidia": {"migStrategy": "Mixed", "migProfiles": ["MIG3g", "MIG2g", "MIG1g"]}}}"#,
    ))?;
    for name in ["mixed", "list"] {
        shell.done(&format!(
            "az aks nodepool wait {IN_CLUSTER} --nodepool-name {name} --created --interval 1 --timeout 120"
        ))?;
    }
    let described = shell.done("migpool node describe mixed")?;
    ensure!(
        described.contains("nvidia.com/mig-1g.5gb") && described.contains("56"),
        "{described}"
    );
    let described = shell.done("migpool node describe list")?;
    for resource in ["mig-3g.20gb", "mig-2g.10gb", "mig-1g.5gb"] {
        ensure!(described.contains(resource), "no {resource}: {described}");
    }
    // Both at once say two different things.
    shell.fails(
        &put(
            "both",
            r#"{"count": 1, "vmSize": "Standard_ND96asr_v4", "gpuInstanceProfile": "MIG1g",
                "gpuProfile": {"nvidia": {"migProfiles": ["MIG3g"]}}}"#,
        ),
        1,
        &["migProfiles"],
    )?;
    // az's own flag of the driver.
    add(&shell, "nodriver", "--gpu-driver none --node-count 0")?;
    shown(&shell, "nodriver", "gpuProfile.driver", "None")
}

//! The article's steps, as `examples/azure` has them, unchanged.

use anyhow::ensure;

use super::IN_CLUSTER;
use crate::azure::{Front, Shell, Up};
use crate::checks;
use crate::machine::Machine;
use crate::pools;
use crate::suite::{Alone, Outcome, Test};
use crate::wait::LATER;
use crate::world::{H100NODE, MIGNODE, World};

pub(super) const ALONE: &[Alone] = &[
    Alone {
        name: "the_articles_node_pool_comes_on_one_machine",
        run: one_machine,
    },
    Alone {
        name: "where_there_is_no_kubernetes_no_credentials_are_handed_out",
        run: no_credentials,
    },
    Alone {
        name: "azs_own_settings_are_never_touched_and_teardown_undoes_the_rest",
        run: teardown,
    },
];

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "the_article_from_az_group_create_to_nvidia_smi_single",
        run: |world| {
            let node_pool = "examples/azure/article-nodepool.sh";
            on_a_cluster(world, node_pool, "single", "nvidia.com/gpu")
        },
    },
    Test {
        name: "the_article_from_az_group_create_to_nvidia_smi_mixed",
        run: |world| {
            let node_pool = "examples/azure/article-nodepool-mixed.sh";
            on_a_cluster(world, node_pool, "mixed", "nvidia.com/mig-1g.5gb")
        },
    },
];

/// All of the article's commands, on a Kubernetes: the last is `nvidia-smi -L` in its pod.
fn on_a_cluster(world: &World, node_pool: &str, strategy: &str, resource: &str) -> Outcome {
    // Before anything is waited for: the charts are packed once.
    let charts = world.repository()?.url().to_owned();
    world.kubectl(&["cordon", H100NODE])?;
    let front = Front::install(world)?;
    let mut shell = front.shell()?;
    shell.script(node_pool)?;
    pool_is_whole(&shell)?;
    pools::comes_to_be_ready(world, "mignode", 1, LATER)?;
    let node = world.node(MIGNODE);
    checks::allocatable(world, node, resource, 56, LATER)?;

    shell.set("MIG_STRATEGY", strategy);
    shell.set("CHARTS", charts);
    let printed = shell.script("examples/azure/article-cluster.sh")?;
    ensure!(
        printed.contains(MIGNODE) && printed.contains(resource),
        "kubectl get nodes and describe: {printed}"
    );
    let slices: Vec<_> = printed
        .lines()
        .filter(|line| line.trim_start().starts_with("MIG 1g.5gb"))
        .collect();
    ensure!(slices.len() == 1, "nvidia-smi -L has {slices:?}: {printed}");
    checks::sees_what_it_holds(world, node, &format!("nvidia-{strategy}"), 1)?;
    // The chart's plugin takes the place of the agent's with the kubelet, perhaps only after the pod has come to run.
    checks::allocatable(world, node, resource, 56, LATER)?;
    checks::described(world, node, resource, 56)?;

    // And back: the node is given up with its pool.
    shell.done(&format!(
        "kubectl delete pod nvidia-{strategy} --grace-period=1"
    ))?;
    shell.done(&format!(
        "az aks nodepool delete {IN_CLUSTER} --name mignode"
    ))?;
    pools::is_free(world, MIGNODE)?;
    shell.done("az group delete --name myResourceGroup --yes")?;
    shell.prints("az group exists --name myResourceGroup", "false")
}

/// The article's commands up to where they need a Kubernetes, and the slices that come of them.
fn one_machine(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "article")?;
    let shell = up.shell()?;
    let printed = shell.script("examples/azure/article-nodepool.sh")?;
    let table = printed.lines().rev().take(4).collect::<Vec<_>>();
    ensure!(
        table.iter().any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.first() == Some(&"mignode")
                && words.contains(&"Standard_ND96asr_v4")
                && words.contains(&"Succeeded")
        }),
        "az aks nodepool list --output table: {table:?}"
    );
    pool_is_whole(&shell)?;
    // The raw PUTs found what they asked for: one node, as before.
    let pools = shell.json(&format!("az aks nodepool list {IN_CLUSTER}"))?;
    let names: Vec<_> = pools
        .as_array()
        .into_iter()
        .flatten()
        .map(|pool| (pool["name"].as_str(), pool["count"].as_u64()))
        .collect();
    ensure!(
        names == [(Some("mignode"), Some(1)), (Some("nodepool1"), Some(1))],
        "{names:?}"
    );
    // The node has its slices: what migpool itself shows is what az made.
    let described = shell.done("migpool node describe mignode")?;
    ensure!(
        described
            .lines()
            .any(|line| line.contains("nvidia.com/gpu") && line.contains("56")),
        "{described}"
    );
    up.end()
}

/// The pool as az shows it.
fn pool_is_whole(shell: &Shell<'_>) -> Outcome {
    let show = format!("az aks nodepool show {IN_CLUSTER} --name mignode");
    let pool = shell.json(&show)?;
    for (key, wanted) in [
        ("name", "mignode"),
        ("provisioningState", "Succeeded"),
        ("vmSize", "Standard_ND96asr_v4"),
        ("gpuInstanceProfile", "MIG1g"),
        ("mode", "User"),
        ("osType", "Linux"),
        ("typePropertiesType", "VirtualMachineScaleSets"),
        ("resourceGroup", "myResourceGroup"),
    ] {
        // az calls the field `type` of the properties otherwise in some versions.
        let value = &pool[key];
        ensure!(
            value == wanted || (key.starts_with("type") && value.is_null()),
            "{key} is {value}, not {wanted}"
        );
    }
    ensure!(pool["count"] == 1, "count is {}", pool["count"]);
    ensure!(
        pool["powerState"]["code"] == "Running",
        "{}",
        pool["powerState"]
    );
    Ok(())
}

fn no_credentials(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "credentials")?;
    let shell = up.with_cluster()?;
    let get = format!("az aks get-credentials {}", super::AT_CLUSTER);
    shell.fails(
        &get,
        1,
        &[
            "no Kubernetes API server",
            "migpool node list",
            "arm.enabled=true",
        ],
    )?;
    shell.fails(&format!("{get} --admin"), 1, &["no Kubernetes API server"])?;
    ensure!(
        !shell.home().join(".kube").exists(),
        "a kubeconfig was written"
    );
    Ok(())
}

fn teardown(machine: &Machine) -> Outcome {
    let up = Up::start(machine, "teardown")?;
    let mut shell = up.bare_shell()?;
    // Somebody who has worked with Azure before.
    let own = shell.home().join(".azure");
    std::fs::create_dir_all(&own)?;
    std::fs::write(own.join("azureProfile.json"), "{\"subscriptions\": []}")?;
    let before = files(&own)?;

    shell.eval("migpool azure env")?;
    let settings = shell.variable("AZURE_CONFIG_DIR")?.to_owned();
    ensure!(
        settings.starts_with(&*up.state().to_string_lossy()),
        "az's settings are in {settings}"
    );
    shell.prints(
        "az account show --query environmentName --output tsv",
        "migpool",
    )?;
    // Twice is as good as once, and a second shell needs no more.
    shell.eval("migpool azure env")?;
    shell.prints("az cloud show --query name --output tsv", "migpool")?;
    ensure!(files(&own)? == before, "az's own settings have changed");

    shell.eval("migpool azure teardown")?;
    for name in ["AZURE_CONFIG_DIR", "IDENTITY_HEADER", "REQUESTS_CA_BUNDLE"] {
        ensure!(shell.variable(name).is_err(), "{name} is still set");
    }
    ensure!(
        !std::path::Path::new(&settings).exists(),
        "{settings} is still there"
    );
    ensure!(files(&own)? == before, "az's own settings have changed");
    shell.fails("az account show", 1, &["az login"])
}

/// The files of a folder, with what they hold.
fn files(folder: &std::path::Path) -> anyhow::Result<Vec<(std::ffi::OsString, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        files.push((entry.file_name(), std::fs::read(entry.path())?));
    }
    files.sort();
    Ok(files)
}

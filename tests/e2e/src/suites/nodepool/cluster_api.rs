//! Nodes that Cluster API makes: its own custom resources, without any cloud. The machines are made by hand here, and their
//! nodes are simulated.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::charts;
use crate::fleet::{Fleet, SIZE};
use crate::machine::workspace;
use crate::operators;
use crate::pools;
use crate::suite::{Outcome, Test};
use crate::wait::{LATER, until};
use crate::world::{CPUNODE, NAMESPACE, World};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "a_machine_deployment_is_scaled_and_its_nodes_are_taken",
        run: scaled,
    },
    Test {
        name: "a_machine_deployment_that_the_autoscaler_scales_is_left_to_it",
        run: autoscaled,
    },
    Test {
        name: "without_the_right_to_cluster_api_a_pool_says_so",
        run: without_right,
    },
];

/// The machine deployment.
const SET: &str = "gpu-nodes";

/// The machine deployments of Cluster API, in full.
const MACHINE_DEPLOYMENTS: &str = "machinedeployments.cluster.x-k8s.io";

/// Cluster API's definitions, that are wanted here.
const DEFINITIONS: [&str; 2] = ["machinedeployments", "machines"];

/// Installs Cluster API's own definitions, out of its pinned module.
fn define(world: &World) -> Outcome {
    let mut command = Command::new("go");
    command
        .args(["mod", "download", "-json", "sigs.k8s.io/cluster-api"])
        .current_dir(workspace().join("tests/e2e/cluster-api"));
    let module: Value = serde_json::from_str(&world.done(command, None)?)?;
    let folder = module["Dir"].as_str().context("Go names no folder")?;
    let folder = PathBuf::from(folder).join("core/config/crd/bases");
    for name in DEFINITIONS {
        let path = folder.join(format!("cluster.x-k8s.io_{name}.yaml"));
        // Too large for what `kubectl apply` notes of an object on the client's side.
        let path = path.to_string_lossy().into_owned();
        world.kubectl(&["apply", "--server-side", "--filename", &path])?;
        let definition = format!("customresourcedefinition/{name}.cluster.x-k8s.io");
        world.kubectl(&[
            "wait",
            "--for=condition=Established",
            &definition,
            "--timeout=60s",
        ])?;
    }
    Ok(())
}

/// Takes them away again, and all that they define.
fn forget(world: &World) -> Outcome {
    let names = DEFINITIONS.map(|name| format!("{name}.cluster.x-k8s.io"));
    let mut arguments = vec!["delete", "customresourcedefinition", "--ignore-not-found"];
    arguments.extend(names.iter().map(String::as_str));
    world.kubectl(&arguments)?;
    Ok(())
}

fn template() -> Value {
    json!({
        "clusterName": "test",
        "bootstrap": {"dataSecretName": "none"},
        "infrastructureRef": {
            "apiGroup": "infrastructure.example.com", "kind": "NoneMachineTemplate", "name": "none",
        },
    })
}

fn machine_deployment(replicas: u32) -> Value {
    let labels = json!({"cluster.x-k8s.io/deployment-name": SET});
    json!({
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "MachineDeployment",
        "metadata": {"name": SET, "namespace": NAMESPACE},
        "spec": {
            "clusterName": "test",
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template()},
        },
    })
}

/// What Cluster API's controllers would make: a machine, and who has become its node.
fn make_machine(world: &World, name: &str, node: &str) -> Outcome {
    world.apply(&[json!({
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "Machine",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {
                "cluster.x-k8s.io/deployment-name": SET, "cluster.x-k8s.io/cluster-name": "test",
            },
        },
        "spec": template(),
    })])?;
    let patch = json!({"status": {"nodeRef": {"name": node}}}).to_string();
    let machine = format!("machines.cluster.x-k8s.io/{name}");
    world.kubectl(&[
        "patch",
        &machine,
        "--subresource=status",
        "--type=merge",
        "--patch",
        &patch,
    ])?;
    Ok(())
}

fn pool() -> Value {
    json!({
        "vmSize": SIZE,
        "count": 2,
        "gpuInstanceProfile": "MIG3g",
        "migStrategy": "mixed",
        "nodeTaints": ["sku=gpu:NoSchedule"],
        "provider": {
            "type": "ClusterAPI",
            "clusterAPI": {"namespace": NAMESPACE, "machineDeployment": SET},
        },
    })
}

fn set(world: &World) -> anyhow::Result<Value> {
    world.get(&[MACHINE_DEPLOYMENTS, SET])
}

/// Does something where Cluster API is known, and takes that away again.
fn with_cluster_api(world: &World, work: fn(&World) -> Outcome) -> Outcome {
    define(world)?;
    let outcome = work(world);
    pools::sweep(world)?;
    outcome.and(forget(world))
}

fn scaled(world: &World) -> Outcome {
    with_cluster_api(world, scaled_by)
}

fn autoscaled(world: &World) -> Outcome {
    with_cluster_api(world, autoscaled_by)
}

fn autoscaled_by(world: &World) -> Outcome {
    let chart = ["operator.clusterAPI=true", &charts::only_on(CPUNODE)];
    operators::install(world, &chart)?;
    let fleet = Fleet::start(world, 1, Duration::from_millis(200))?;
    let mut set_of_autoscaler = machine_deployment(1);
    set_of_autoscaler["metadata"]["annotations"] = json!({
        "cluster.x-k8s.io/cluster-api-autoscaler-node-group-min-size": "0",
        "cluster.x-k8s.io/cluster-api-autoscaler-node-group-max-size": "3",
    });
    world.apply(&[set_of_autoscaler])?;
    make_machine(world, "machine-0", &Fleet::node(0))?;
    pools::ask(world, "made", &pool())?;
    autoscaler_knows(world)?;
    // What there is is taken; that there are more is the autoscaler's business.
    pools::comes_to_wear(
        world,
        &Fleet::node(0),
        Some("made"),
        &["kwok.x-k8s.io/node=fake:NoSchedule", "sku=gpu:NoSchedule"],
    )?;
    let replicas = set(world)?["spec"]["replicas"].take();
    ensure!(replicas == 1, "the set has {replicas}");
    fleet.end()?;
    Ok(())
}

fn scaled_by(world: &World) -> Outcome {
    operators::install(
        world,
        &["operator.clusterAPI=true", &charts::only_on(CPUNODE)],
    )?;
    let fleet = Fleet::start(world, 3, Duration::from_millis(200))?;
    world.apply(&[machine_deployment(0)])?;
    pools::ask(world, "made", &pool())?;
    let replicas = |count: u64| {
        until(&format!("{count} machines to be asked for"), LATER, || {
            let set = set(world)?;
            ensure!(
                set["spec"]["replicas"] == count,
                "{}",
                set["spec"]["replicas"]
            );
            Ok(())
        })
    };
    replicas(2)?;
    until("the pool to say that it waits", LATER, || {
        let pool = pools::pool(world, "made")?;
        let waits = ["TooFewNodes", "AddingNodes"]
            .iter()
            .any(|reason| pools::has(&pool, ("Ready", "False", reason), &[]));
        ensure!(waits, "{}", pools::line(&pool));
        Ok(())
    })?;
    autoscaler_knows(world)?;

    // Nodes that are not of its machines are not its own, however well they would fit.
    make_machine(world, "machine-0", &Fleet::node(0))?;
    make_machine(world, "machine-1", &Fleet::node(2))?;
    pools::comes_to_be_ready(world, "made", 2, LATER)?;
    for number in [0, 2] {
        pools::comes_to_wear(
            world,
            &Fleet::node(number),
            Some("made"),
            &["kwok.x-k8s.io/node=fake:NoSchedule", "sku=gpu:NoSchedule"],
        )?;
    }
    pools::is_free(world, &Fleet::node(1))?;

    // One fewer: the machine of the node that has left is the one to go.
    world.kubectl(&["scale", pools::NODE_POOLS, "made", "--replicas=1"])?;
    replicas(1)?;
    let left = until("a node to have left", LATER, || {
        let free = [0, 2]
            .into_iter()
            .find(|number| pools::is_free(world, &Fleet::node(*number)).is_ok());
        free.context("both are in the pool")
    })?;
    let machine = if left == 0 { "machine-0" } else { "machine-1" };
    let object = world.get(&["machines.cluster.x-k8s.io", machine])?;
    let annotations = &object["metadata"]["annotations"];
    ensure!(
        annotations["cluster.x-k8s.io/delete-machine"].is_string(),
        "the machine of the node that has left is not marked: {annotations}"
    );
    // As the controllers of Cluster API would.
    world.kubectl(&["delete", &format!("machines.cluster.x-k8s.io/{machine}")])?;
    world.kubectl(&["delete", "node", &Fleet::node(left)])?;
    pools::comes_to_be_ready(world, "made", 1, LATER)?;

    pools::delete(world, "made")?;
    replicas(0)?;
    fleet.end()?;
    Ok(())
}

/// What a node would have is known before there is one.
fn autoscaler_knows(world: &World) -> Outcome {
    until("the autoscaler's annotations", LATER, || {
        let annotations = set(world)?["metadata"]["annotations"].take();
        for (key, word) in [
            ("cpu", "96"),
            ("memory", "900Gi"),
            ("gpu-type", "nvidia.com/mig-3g.20gb"),
            ("gpu-count", "16"),
            ("labels", "kubernetes.azure.com/agentpool=made"),
            ("taints", "sku=gpu:NoSchedule"),
        ] {
            let key = format!("capacity.cluster-autoscaler.kubernetes.io/{key}");
            let value = annotations[&key].as_str().unwrap_or_default();
            ensure!(value.contains(word), "{key} is `{value}`, without {word}");
        }
        Ok(())
    })
}

fn without_right(world: &World) -> Outcome {
    operators::install(world, &[&charts::only_on(CPUNODE)])?;
    pools::ask(world, "made", &pool())?;
    until("the pool to say what the chart lacks", LATER, || {
        let pool = pools::pool(world, "made")?;
        let message = pool["status"]["message"].as_str().unwrap_or_default();
        ensure!(
            message.contains("operator.clusterAPI=true"),
            "{}",
            pools::line(&pool)
        );
        Ok(())
    })
}

//! What the cluster promises to those who test on it.

use std::time::Duration;

use serde_json::{Value, json};
use test_cluster::{Cluster, Config, Lifetime, Node};

pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;
pub(crate) type Promise = fn(&Cluster) -> Outcome;

pub(crate) const ALL: [(&str, Promise); 11] = [
    (
        "every_node_runs_pods_that_can_be_looked_into",
        every_node_runs_pods,
    ),
    ("pods_reach_each_other_across_nodes", pods_reach_each_other),
    ("a_pods_token_names_its_node_and_opens_the_api", tokens),
    (
        "a_mount_made_later_shows_in_pods_that_follow_the_nodes_root",
        later_mounts,
    ),
    ("a_killed_kubelet_starts_again_and_touches_no_pod", kubelet),
    ("pods_go_on_while_containerd_is_away", containerd),
    ("the_api_server_comes_back_with_what_it_knew", api_server),
    (
        "nodes_do_not_see_each_others_folders_and_processes",
        nodes_are_apart,
    ),
    ("another_process_finds_the_cluster_by_its_folder", attach),
    ("orphans_are_buried", orphans),
    (
        "a_program_ends_with_the_one_that_called_it",
        ends_with_its_caller,
    ),
];

pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A pod that sleeps on a node.
fn pod(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "sleeper",
                "image": "busybox",
                "imagePullPolicy": "Never",
                "command": ["sh", "-c", "echo awake; exec sleep 100000"],
            }],
        },
    })
}

/// Makes sure that the pod is there and Ready.
fn run(cluster: &Cluster, pod: &Value) -> Outcome {
    cluster.apply(&pod.to_string())?;
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    cluster.kubectl([
        "wait",
        "--for=condition=Ready",
        "pod",
        name,
        "--timeout=60s",
    ])?;
    Ok(())
}

/// A sleeping pod on every node.
fn sleepers(cluster: &Cluster) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    cluster
        .nodes()
        .iter()
        .map(|node| {
            let name = format!("sleeper-{}", node.name());
            run(cluster, &pod(&name, node.name()))?;
            Ok(name)
        })
        .collect()
}

/// What tells whether a pod's container is still the same one.
fn containers(cluster: &Cluster) -> Result<Vec<(Value, Value)>, test_cluster::Error> {
    let pods = cluster.kubectl_json(["get", "pods"])?;
    let items = pods["items"].as_array().cloned().unwrap_or_default();
    let status = |pod: &Value| pod["status"]["containerStatuses"][0].clone();
    Ok(items
        .iter()
        .map(|pod| {
            (
                status(pod)["containerID"].clone(),
                status(pod)["restartCount"].clone(),
            )
        })
        .collect())
}

pub(crate) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(otherwise().into())
    }
}

fn first(cluster: &Cluster) -> Result<&Node, String> {
    cluster
        .nodes()
        .first()
        .ok_or_else(|| "the cluster has no nodes".to_owned())
}

fn every_node_runs_pods(cluster: &Cluster) -> Outcome {
    for (name, node) in sleepers(cluster)?.iter().zip(cluster.nodes()) {
        let said = cluster.kubectl(["logs", name])?;
        ensure(said == "awake\n", || format!("{name} said `{said}`"))?;
        let host = cluster.kubectl(["exec", name, "--", "hostname"])?;
        ensure(host.trim() == *name, || {
            format!("{name} on {} is `{host}`", node.name())
        })?;
    }
    Ok(())
}

fn pods_reach_each_other(cluster: &Cluster) -> Outcome {
    let names = sleepers(cluster)?;
    for from in &names {
        for to in &names {
            let address =
                cluster.kubectl(["get", "pod", to, "--output=jsonpath={.status.podIP}"])?;
            cluster.kubectl(["exec", from, "--", "ping", "-c", "1", "-w", "5", &address])?;
        }
    }
    Ok(())
}

/// kubectl itself, in a pod, by nothing but what every pod is given.
fn tokens(cluster: &Cluster) -> Outcome {
    let node = first(cluster)?;
    let kubectl = test_cluster::Parts::ensure()?
        .program("kubectl")
        .ok_or("no kubectl")?;
    let folder = kubectl.parent().ok_or("no folder of kubectl")?;
    let mut pod = pod("caller", node.name());
    pod["spec"]["volumes"] = json!([{"name": "kubectl", "hostPath": {"path": folder}}]);
    pod["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "kubectl", "mountPath": "/programs"}]);
    run(cluster, &pod)?;
    let who = cluster.kubectl([
        "exec",
        "caller",
        "--",
        "/programs/kubectl",
        "auth",
        "whoami",
        "--output=json",
    ])?;
    let who: Value = serde_json::from_str(&who)?;
    let user = &who["status"]["userInfo"];
    ensure(
        user["username"] == "system:serviceaccount:default:default",
        || who.to_string(),
    )?;
    let named = &user["extra"]["authentication.kubernetes.io/node-name"];
    ensure(*named == json!([node.name()]), || who.to_string())
}

fn later_mounts(cluster: &Cluster) -> Outcome {
    let node = first(cluster)?;
    let mut watcher = pod("watcher", node.name());
    watcher["spec"]["volumes"] = json!([{"name": "root", "hostPath": {"path": "/"}}]);
    watcher["spec"]["containers"][0]["volumeMounts"] = json!([
        {"name": "root", "mountPath": "/host", "readOnly": true, "mountPropagation": "HostToContainer"},
    ]);
    run(cluster, &watcher)?;

    let mut mounter = pod("mounter", node.name());
    mounter["spec"]["volumes"] = json!([
        {"name": "run", "hostPath": {"path": "/run/later", "type": "DirectoryOrCreate"}},
    ]);
    mounter["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    mounter["spec"]["containers"][0]["volumeMounts"] = json!([
        {"name": "run", "mountPath": "/later", "mountPropagation": "Bidirectional"},
    ]);
    run(cluster, &mounter)?;
    let script = "mkdir /later/driver && mount -t tmpfs tmpfs /later/driver && echo here >/later/driver/file";
    cluster.kubectl(["exec", "mounter", "--", "sh", "-c", script])?;
    let seen = cluster.kubectl([
        "exec",
        "watcher",
        "--",
        "cat",
        "/host/run/later/driver/file",
    ])?;
    cluster.kubectl(["exec", "mounter", "--", "umount", "/later/driver"])?;
    ensure(seen == "here\n", || format!("the watcher sees `{seen}`"))
}

fn kubelet(cluster: &Cluster) -> Outcome {
    sleepers(cluster)?;
    let before = containers(cluster)?;
    for node in cluster.nodes() {
        let old = node.kubelet().pid();
        node.kubelet().kill()?;
        ensure(node.kubelet().pid().is_none(), || {
            "it runs after its kill".to_owned()
        })?;
        node.kubelet().start()?;
        ensure(node.kubelet().pid() != old, || {
            "it is the old one".to_owned()
        })?;
        // It says of itself that it is there again, not only its last lease.
        node.kubelet().serves("its node's status", PATIENCE, || {
            cluster.kubectl([
                "get",
                "--raw",
                &format!("/api/v1/nodes/{}/proxy/healthz", node.name()),
            ])
        })?;
    }
    cluster.wait_until_ready()?;
    run(cluster, &pod("newcomer", first(cluster)?.name()))?;
    cluster.kubectl(["delete", "pod", "newcomer"])?;
    let after = containers(cluster)?;
    ensure(before == after, || {
        format!("before {before:?}, after {after:?}")
    })
}

fn containerd(cluster: &Cluster) -> Outcome {
    let node = first(cluster)?;
    sleepers(cluster)?;
    let before = containers(cluster)?;
    node.containerd().kill()?;
    node.containerd().start()?;
    node.containerd().serves("containerd", PATIENCE, || {
        let status = node
            .command("ctr")
            .arg("version")
            .output()
            .map(|output| output.status);
        match status {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    cluster.wait_until_ready()?;
    run(cluster, &pod("newcomer", node.name()))?;
    cluster.kubectl(["delete", "pod", "newcomer"])?;
    let after = containers(cluster)?;
    ensure(before == after, || {
        format!("before {before:?}, after {after:?}")
    })
}

fn api_server(cluster: &Cluster) -> Outcome {
    sleepers(cluster)?;
    let before = containers(cluster)?;
    cluster.api_server().stop()?;
    ensure(cluster.kubectl(["get", "nodes"]).is_err(), || {
        "it answers after its stop".to_owned()
    })?;
    cluster.api_server().start()?;
    cluster.wait_until_ready()?;
    let after = containers(cluster)?;
    ensure(before == after, || {
        format!("before {before:?}, after {after:?}")
    })
}

fn nodes_are_apart(cluster: &Cluster) -> Outcome {
    for node in cluster.nodes() {
        for folder in ["/run", "/var/lib/migpool", "/etc", "/opt", "/tmp"] {
            std::fs::create_dir_all(node.host_path(folder))?;
            std::fs::write(node.host_path(folder).join("mine"), node.name())?;
        }
    }
    for node in cluster.nodes() {
        for folder in ["/run", "/var/lib/migpool", "/etc", "/opt", "/tmp"] {
            let text = std::fs::read_to_string(node.host_path(folder).join("mine"))?;
            ensure(text == node.name(), || {
                format!("{folder} of {} is that of {text}", node.name())
            })?;
            let outside = std::path::Path::new(folder).join("mine");
            ensure(!outside.exists(), || {
                format!("{} is the machine's", outside.display())
            })?;
        }
        let processes = node.command("ps").args(["-e", "-o", "args"]).output()?;
        let processes = String::from_utf8(processes.stdout)?;
        let kubelets = processes
            .lines()
            .filter(|line| line.starts_with("kubelet "))
            .count();
        ensure(kubelets == 1, || {
            format!("{} sees\n{processes}", node.name())
        })?;
    }
    Ok(())
}

fn attach(cluster: &Cluster) -> Outcome {
    let config = Config::new("cluster-test", Lifetime::WithOwner);
    let attached = Cluster::attach(&config.state_dir)?;
    ensure(
        attached.api_server().pid() == cluster.api_server().pid(),
        || "another API server".to_owned(),
    )?;
    let node = first(&attached)?;
    ensure(
        node.kubelet().pid() == first(cluster)?.kubelet().pid(),
        || "another kubelet".to_owned(),
    )
}

/// Each namespace's first process waits for what is left to it, so that no process table fills up.
fn orphans(cluster: &Cluster) -> Outcome {
    let node = first(cluster)?;
    node.command("sh")
        .args(["-c", "(sleep 0.1 &) ; (sleep 0.1 &)"])
        .status()?;
    cluster
        .command("sh")
        .args(["-c", "(sleep 0.1 &) ; (sleep 0.1 &)"])
        .status()?;
    for mut command in [node.command("ps"), cluster.command("ps")] {
        command.args(["-e", "-o", "stat,args"]);
        test_cluster::until("the orphans to be buried", PATIENCE, || {
            let processes = command.output().map_err(|error| error.to_string())?;
            let text = String::from_utf8_lossy(&processes.stdout).into_owned();
            let left = text
                .lines()
                .any(|line| line.starts_with('Z') || line.contains("sleep 0.1"));
            if left { Err(text) } else { Ok(()) }
        })?;
    }
    Ok(())
}

fn ends_with_its_caller(cluster: &Cluster) -> Outcome {
    let sleeps = |command: &mut std::process::Command| -> Result<bool, std::io::Error> {
        let output = command.args(["-e", "-o", "args"]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).contains("sleep 4711"))
    };
    let node = first(cluster)?;
    for (mut sleeper, ps) in [
        (
            node.command("sleep"),
            &(|| node.command("ps")) as &dyn Fn() -> std::process::Command,
        ),
        (cluster.command("sleep"), &(|| cluster.command("ps"))),
    ] {
        let mut sleeper = sleeper.arg("4711").spawn()?;
        let look = |wanted: bool| {
            move || match sleeps(&mut ps()) {
                Ok(found) if found == wanted => Ok(()),
                other => Err(format!("sleeping: {other:?}")),
            }
        };
        test_cluster::until("it to sleep", PATIENCE, look(true))?;
        sleeper.kill()?;
        sleeper.wait()?;
        test_cluster::until("it to end", PATIENCE, look(false))?;
    }
    Ok(())
}

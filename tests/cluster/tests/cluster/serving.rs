//! What the control plane promises to those who serve it, and to those who look at what it was asked.

use std::time::Duration;

use serde_json::{Value, json};
use test_cluster::Cluster;

use crate::promises::{Outcome, PATIENCE, Promise, ensure};

pub(crate) const ALL: [(&str, Promise); 3] = [
    (
        "the_api_server_calls_a_webhook_by_its_service",
        webhook_by_service,
    ),
    (
        "what_a_service_account_asks_is_written_down",
        requests_are_written_down,
    ),
    (
        "a_node_that_is_none_is_ready_and_runs_pods_that_are_none",
        fake_node,
    ),
];

/// A namespace in which nothing privileged runs.
const RESTRICTED: &str = "restricted";

/// A deployment that answers over HTTP, under Kubernetes' strictest rules for pods, and its service.
fn web(replicas: u32) -> Value {
    let labels = json!({"app": "web"});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": RESTRICTED,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": RESTRICTED},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "terminationGracePeriodSeconds": 0,
                        "securityContext": {
                            "runAsNonRoot": true,
                            "runAsUser": 65532,
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                        "containers": [{
                            "name": "web",
                            "image": "busybox",
                            "imagePullPolicy": "Never",
                            "command": ["httpd", "-f", "-p", "8080", "-h", "/"],
                            "securityContext": {
                                "allowPrivilegeEscalation": false,
                                "capabilities": {"drop": ["ALL"]},
                            },
                        }],
                    },
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": RESTRICTED},
            "spec": {"selector": labels, "ports": [{"port": 443, "targetPort": 8080}]},
        },
    ]})
}

/// No webhook that answers in TLS is needed to see that it is asked: one that does not is told from one that is not there.
fn webhook_by_service(cluster: &Cluster) -> Outcome {
    let nodes = u32::try_from(cluster.nodes().len())?;
    cluster.apply(&web(nodes).to_string())?;
    cluster.kubectl([
        "rollout",
        "status",
        "deployment/web",
        "--namespace=restricted",
        "--timeout=60s",
    ])?;
    cluster.apply(
        &json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "web"},
            "webhooks": [{
                "name": "web.migpool.dev",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "timeoutSeconds": 5,
                "clientConfig": {"service": {"name": "web", "namespace": RESTRICTED}},
                "rules": [{
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["configmaps"],
                }],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": RESTRICTED}},
            }],
        })
        .to_string(),
    )?;
    let asked = |_| -> Result<(), String> {
        let tried = cluster.kubectl([
            "create",
            "configmap",
            "judged",
            "--namespace=restricted",
            "--dry-run=server",
        ]);
        match tried.map_err(|error| error.to_string()) {
            Err(error) if error.contains("server gave HTTP response to HTTPS client") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    };
    // On whichever node the pod is that is asked.
    test_cluster::until("the webhook to be asked", PATIENCE, || asked(0))?;
    let all = (0..4 * nodes).try_for_each(asked);
    cluster.kubectl(["delete", "validatingwebhookconfiguration", "web"])?;
    cluster.kubectl(["delete", "namespace", RESTRICTED])?;
    Ok(all?)
}

fn requests_are_written_down(cluster: &Cluster) -> Outcome {
    let token = cluster.kubectl(["create", "token", "default"])?;
    let token = format!("--token={}", token.trim());
    let config = cluster.kubectl(["config", "view", "--raw", "--flatten", "--output=json"])?;
    let mut config: Value = serde_json::from_str(&config)?;
    config["users"][0]["user"] = json!({});
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, config.to_string())?;
    let path = format!("--kubeconfig={}", path.display());
    let answer = cluster.kubectl([&path, &token, "get", "secrets"]);
    ensure(answer.is_err(), || format!("{answer:?}"))?;

    let lines = std::fs::read_to_string(cluster.audit_log())?;
    let mut written = Vec::new();
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line)?;
        if event["user"]["username"] == "system:serviceaccount:default:default"
            && event["objectRef"]["resource"] == "secrets"
        {
            let code = event["responseStatus"]["code"].as_u64();
            written.push((event["verb"].as_str().unwrap_or_default().to_owned(), code));
        }
    }
    ensure(written.contains(&("list".to_owned(), Some(403))), || {
        format!("{written:?}")
    })?;
    ensure(!lines.contains("system:node:"), || {
        "kubelets are written down too".to_owned()
    })
}

fn fake_node(cluster: &Cluster) -> Outcome {
    cluster.kwok().start()?;
    // Its lease is renewed too seldom for Kubernetes' own patience.
    cluster.wait_for_nodes(Some(Duration::from_hours(2)))?;
    cluster.apply(
        &json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": "fake-0",
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {"type": "kwok"},
            },
            "status": {"capacity": {"nvidia.com/gpu": "8"}, "allocatable": {"nvidia.com/gpu": "8"}},
        })
        .to_string(),
    )?;
    cluster
        .kwok()
        .serves("the node to be Ready", PATIENCE, || {
            let node = cluster.kubectl_json(["get", "node", "fake-0"]);
            let node = node.map_err(|error| error.to_string())?;
            let ready = node["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
            if ready {
                Ok(())
            } else {
                Err(node["status"].to_string())
            }
        })?;
    cluster.apply(
        &json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "of-no-node"},
            "spec": {
                "nodeName": "fake-0",
                "containers": [{"name": "none", "image": "none"}],
            },
        })
        .to_string(),
    )?;
    cluster.kubectl([
        "wait",
        "--for=condition=Ready",
        "pod/of-no-node",
        "--timeout=60s",
    ])?;
    cluster.kubectl(["delete", "node", "fake-0"])?;
    cluster.kubectl(["delete", "pod", "of-no-node", "--force"])?;
    cluster.kwok().stop()?;
    cluster.wait_for_nodes(None)?;
    Ok(())
}

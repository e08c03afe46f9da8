//! Pods on one machine: programs of its own user, whom no role stands in for.

use std::sync::Arc;

use http::{Method, StatusCode};
use identity::Role;
use pool::memory::MemoryBackend;
use pool::{ClusterKey, Workloads};
use serde_json::json;

use crate::common::{SUBSCRIPTION, Server, cluster, front_over, lenient};

const VERSION: &str = "api-version=2026-06-01";

/// A gateway before a cluster in which the machine's user runs the pod `theirs`, and that user's own way in.
async fn server() -> (Server, Arc<MemoryBackend>) {
    let backend = Arc::new(MemoryBackend::new());
    let server = Server::before(lenient(), None, |identity| {
        front_over(identity, Arc::clone(&backend))
    })
    .await;
    let owner = server.owner().await;
    server.put_group("g", &owner).await;
    let body = json!({"location": "southcentralus", "properties": {"agentPoolProfiles": [
        {"name": "nodepool1", "count": 1, "mode": "System"}
    ]}});
    let url = format!("{}?{VERSION}", cluster("g", "c"));
    let made = server.put(&url, &owner, &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let secret = r#"{"kind": "Pod", "prints": "a secret"}"#;
    let theirs = "theirs".parse().unwrap();
    backend.run_pod(&key(), &theirs, secret).await.unwrap();
    (server, backend)
}

fn key() -> ClusterKey {
    serde_json::from_value(json!({
        "subscription": "00000000-0000-0000-0000-000000000000", "group": "g", "cluster": "c",
    }))
    .unwrap()
}

fn pod(name: &str, below: &str) -> String {
    let cluster = cluster("g", "c");
    format!("{cluster}/providers/Migpool.Local/pods/{name}{below}?{VERSION}")
}

#[tokio::test]
async fn no_role_runs_a_program_on_the_machine_or_reads_what_one_printed() {
    let (server, backend) = server().await;
    let scope = cluster("g", "c");
    let contributor = server
        .token_of("contributor", Role::Contributor, &scope)
        .await;
    let reader = server.token_of("reader", Role::Reader, &scope).await;
    let owner = server.owner().await;
    let manifest = json!({"manifest": r#"{"kind": "Pod"}"#}).to_string();
    for (method, url, token, command) in [
        (Method::PUT, pod("mine", ""), &contributor, "run"),
        (Method::PUT, pod("mine", ""), &owner, "run"),
        (Method::PUT, pod("theirs", ""), &owner, "run"),
        (Method::GET, pod("theirs", "/log"), &reader, "logs"),
        (Method::GET, pod("theirs", "/log"), &owner, "logs"),
        (
            Method::POST,
            pod("theirs", "/execEnvironment"),
            &contributor,
            "exec",
        ),
        (
            Method::POST,
            pod("theirs", "/EXECENVIRONMENT"),
            &owner,
            "exec",
        ),
    ] {
        let answer = server
            .send(method.clone(), &url, Some(token), manifest.clone())
            .await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {url}");
        assert_eq!(answer.code(), "OperationNotAllowed");
        let command = format!("'migpool pod {command}'");
        assert!(answer.text.contains(&command), "{answer:?}");
        assert!(!answer.text.contains("a secret"), "{answer:?}");
    }
    let running = backend.pods(&key()).await.unwrap();
    let names: Vec<_> = running.iter().map(|pod| pod.name.as_str()).collect();
    assert_eq!(names, ["theirs"]);
}

#[tokio::test]
async fn pods_are_seen_by_readers_and_ended_by_contributors() {
    let (server, backend) = server().await;
    let reader = server.token_of("reader", Role::Reader, SUBSCRIPTION).await;
    let seen = server.get(&pod("theirs", ""), &reader).await;
    assert_eq!(seen.status, StatusCode::OK, "{seen:?}");
    assert_eq!(seen.json["name"], "theirs");
    assert!(!seen.text.contains("a secret"), "{seen:?}");
    let contributor = server
        .token_of("contributor", Role::Contributor, &cluster("g", "c"))
        .await;
    let url = pod("theirs", "");
    let ended = server
        .send(Method::DELETE, &url, Some(&contributor), "")
        .await;
    assert_eq!(ended.status, StatusCode::OK, "{ended:?}");
    assert!(backend.pods(&key()).await.unwrap().is_empty());
}

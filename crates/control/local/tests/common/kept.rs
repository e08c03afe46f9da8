//! A front over the real database with a controller and a deployer that a test runs by hand.
#![allow(dead_code, clippy::expect_used)]

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::{HeaderMap, Method, Request, StatusCode};
use migpool_local::store::Database;
use pool::Controller;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::front::Backend;

pub(crate) const SUBSCRIPTION: &str = "/subscriptions/00000000-0000-0000-0000-000000000000";
/// [`SUBSCRIPTION`]'s group as a store has it.
pub(crate) const PATH: &str = "00000000-0000-0000-0000-000000000000/group";

pub(crate) fn group() -> String {
    format!("{SUBSCRIPTION}/resourcegroups/group")
}

pub(crate) fn clusters() -> String {
    format!(
        "{}/providers/Microsoft.ContainerService/managedClusters",
        group()
    )
}

pub(crate) fn cluster() -> String {
    format!("{}/cluster", clusters())
}

pub(crate) fn agent_pool(name: &str) -> String {
    format!("{}/agentPools/{name}", cluster())
}

pub(crate) fn deployment(name: &str) -> String {
    format!(
        "{}/providers/Microsoft.Resources/deployments/{name}",
        group()
    )
}

/// What makes a group.
pub(crate) fn a_group() -> Value {
    json!({"location": "southcentralus", "tags": {"team": "vision"}})
}

/// What makes a cluster with its one system pool.
pub(crate) fn a_cluster() -> Value {
    let profile = json!({"name": "nodepool1", "count": 1, "vmSize": "", "mode": "System"});
    json!({"location": "southcentralus", "tags": {}, "properties": {"dnsPrefix": "c", "agentPoolProfiles": [profile]}})
}

/// What makes a pool of one node.
pub(crate) fn a_pool() -> Value {
    json!({"properties": {
        "count": 1, "vmSize": "Standard_ND96asr_v4", "gpuInstanceProfile": "MIG1g", "mode": "User",
    }})
}

/// What makes a pool of this name by a template.
pub(crate) fn a_deployment(pool: &str) -> Value {
    json!({"properties": {"mode": "Incremental", "parameters": {}, "template": {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "resources": [{
            "type": "Microsoft.ContainerService/managedClusters/agentPools", "apiVersion": "2024-09-01",
            "name": format!("cluster/{pool}"), "properties": a_pool()["properties"],
        }],
        "outputs": {"id": {"type": "string", "value": "[resourceGroup().id]"}},
    }}})
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Answer {
    /// What a list leaves out, in words.
    pub(crate) fn warning(&self) -> &str {
        let warning = self.headers.get("x-ms-warning");
        warning.and_then(|it| it.to_str().ok()).unwrap_or_default()
    }
}

pub(crate) struct World {
    _dir: tempfile::TempDir,
    pub(crate) backend: Backend,
    front: arm::Front,
    controller: Controller<Backend, Backend>,
    deployer: arm::Deployer<Backend>,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Database::open(&dir.path().join("migpool.db")).expect("opens");
        let backend = Backend::over(store);
        Self {
            _dir: dir,
            front: backend.front(),
            controller: Controller::new(backend.clone(), backend.clone()),
            deployer: arm::Deployer::new(std::sync::Arc::new(backend.clone())),
            backend,
        }
    }

    /// With a group, and in it a cluster with the pool `nodepool1` and the pool `one`.
    pub(crate) async fn peopled() -> Self {
        let world = Self::new();
        for (path, body) in [
            (group(), a_group()),
            (cluster(), a_cluster()),
            (agent_pool("one"), a_pool()),
        ] {
            let answer = world.put(&path, &body).await;
            assert_eq!(answer.status, StatusCode::CREATED, "{path}: {answer:?}");
        }
        world.settle().await;
        world
    }

    /// Lets the controller and the deployer do all that is to be done.
    pub(crate) async fn settle(&self) {
        for _ in 0..6 {
            let _ = self.controller.round().await.expect("a round");
            self.deployer.round().await.expect("a round");
        }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Body) -> Answer {
        let version = match path {
            _ if path.contains("Microsoft.Resources") => "2025-04-01",
            _ if path.contains("/providers/") => "2026-06-01",
            _ => "2024-11-01",
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("{path}?api-version={version}"))
            .header("host", "localhost")
            .body(body)
            .expect("a request");
        let answer = self
            .front
            .clone()
            .oneshot(request)
            .await
            .expect("an answer");
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
            json: serde_json::from_slice(&bytes).unwrap_or_default(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, Body::empty()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, body.to_string().into()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, Body::empty()).await
    }
}

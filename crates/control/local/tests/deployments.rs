//! A deployment that was begun is carried on after a restart, from what the store has of it.
#![allow(clippy::expect_used)]

#[path = "common/front.rs"]
mod front;

use std::sync::Arc;
use std::time::Duration;

use front::Backend;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use migpool_local::store::Database;
use pool::{Cluster, Controller, Scope, Store};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tower::ServiceExt;

const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/group";
/// Of groups and of AKS alike.
const VERSION: &str = "2024-11-01";
/// No test depends on how long something takes: this long is a failure.
const PATIENCE: Duration = Duration::from_mins(1);

async fn send(backend: &Backend, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
    let uri = format!("{path}?api-version={VERSION}");
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "localhost")
        .body(axum::body::Body::new(Full::new(Bytes::from(
            body.to_string(),
        ))))
        .expect("request");
    let answer = backend.front().oneshot(request).await.expect("answer");
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("body").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// A cluster and a pool after it.
fn deployment() -> Value {
    let template = json!({
        "resources": [
            {
                "type": "Microsoft.ContainerService/managedClusters",
                "apiVersion": "2024-09-01",
                "name": "cluster",
                "location": "[resourceGroup().location]",
                "properties": {"agentPoolProfiles": [{"name": "system", "count": 1, "mode": "System"}]},
            },
            {
                "type": "Microsoft.ContainerService/managedClusters/agentPools",
                "apiVersion": "2024-09-01",
                "name": "cluster/mignode",
                "properties": {"count": 1, "vmSize": "Standard_ND96asr_v4", "gpuInstanceProfile": "MIG1g"},
                "dependsOn": ["[resourceId('Microsoft.ContainerService/managedClusters', 'cluster')]"],
            },
        ],
        "outputs": {
            "state": {
                "type": "string",
                "value": "[reference(resourceId('Microsoft.ContainerService/managedClusters', 'cluster')).provisioningState]",
            },
        },
    });
    json!({"properties": {"mode": "Incremental", "template": template}})
}

#[tokio::test]
async fn a_deployment_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("migpool.db");
    let deployment_path = format!("{GROUP}/providers/Microsoft.Resources/deployments/dep");
    {
        let backend = Backend::over(Database::open(&file).expect("database"));
        let location = json!({"location": "southcentralus"});
        send(&backend, Method::PUT, GROUP, &location).await;
        let (status, body) = send(&backend, Method::PUT, &deployment_path, &deployment()).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        // The cluster is asked for, and then the process is gone.
        let deployer = arm::Deployer::new(Arc::new(backend.clone()));
        deployer.round().await.expect("round");
        let clusters = backend.list::<Cluster>(&Scope::everything()).await;
        assert_eq!(clusters.expect("clusters").len(), 1);
    }

    let backend = Backend::over(Database::open(&file).expect("database"));
    let (stop, stopped) = oneshot::channel::<()>();
    let (stop_too, stopped_too) = oneshot::channel::<()>();
    let controller = Controller::new(backend.clone(), backend.clone());
    let controller = tokio::spawn(controller.run(async {
        let _ = stopped.await;
    }));
    let deployer = arm::Deployer::new(Arc::new(backend.clone()));
    let deployer = tokio::spawn(deployer.run(async {
        let _ = stopped_too.await;
    }));
    let ended = tokio::time::timeout(PATIENCE, async {
        let mut changes = backend.store_changes();
        loop {
            let (_, shown) = send(&backend, Method::GET, &deployment_path, &Value::Null).await;
            if shown["properties"]["provisioningState"] != "Running" {
                break shown;
            }
            changes.changed().await.expect("store");
        }
    });
    let ended = ended.await.expect("ended in time");
    assert_eq!(
        ended["properties"]["provisioningState"], "Succeeded",
        "{ended}"
    );
    assert_eq!(
        ended["properties"]["outputs"],
        json!({"state": {"type": "String", "value": "Succeeded"}})
    );
    let pool = format!(
        "{GROUP}/providers/Microsoft.ContainerService/managedClusters/cluster/agentPools/mignode"
    );
    let (status, pool) = send(&backend, Method::GET, &pool, &Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{pool}");
    assert_eq!(pool["properties"]["gpuInstanceProfile"], "MIG1g");
    drop((stop, stop_too));
    controller.await.expect("controller");
    deployer.await.expect("deployer");
}

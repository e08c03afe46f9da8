//! A front over a backend in memory, and its controller, which a test runs by hand.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use migpool_arm as arm;
use pool::memory::MemoryBackend;
use pool::{Controller, Kind, RawRecord, Scope, Store};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::conformance;

/// A subscription.
pub(crate) const SUBSCRIPTION: &str = "/subscriptions/00000000-0000-0000-0000-000000000000";
/// The api-version that a current `az` sends.
pub(crate) const VERSION: &str = "2026-06-01";

/// A front over a backend in memory.
pub(crate) struct Api {
    pub(crate) backend: Arc<MemoryBackend>,
    front: arm::Front,
    controller: Controller<Arc<MemoryBackend>, Arc<MemoryBackend>>,
    deployer: arm::Deployer<MemoryBackend>,
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
    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The error's code, in either shape.
    pub(crate) fn code(&self) -> &str {
        let error = self.json.get("error").unwrap_or(&self.json);
        error["code"]
            .as_str()
            .unwrap_or_else(|| panic!("no code in {self:?}"))
    }

    /// The error's message, in either shape.
    pub(crate) fn message(&self) -> &str {
        let error = self.json.get("error").unwrap_or(&self.json);
        error["message"]
            .as_str()
            .unwrap_or_else(|| panic!("no message in {self:?}"))
    }
}

pub(crate) fn group() -> String {
    format!("{SUBSCRIPTION}/resourcegroups/myResourceGroup")
}

pub(crate) fn cluster() -> String {
    format!(
        "{}/providers/Microsoft.ContainerService/managedClusters/myAKSCluster",
        group()
    )
}

pub(crate) fn agent_pool(name: &str) -> String {
    format!("{}/agentPools/{name}", cluster())
}

/// The article's body.
pub(crate) fn the_articles_pool() -> Value {
    json!({"properties": {
        "count": 1,
        "vmSize": "Standard_ND96asr_v4",
        "type": "VirtualMachineScaleSets",
        "gpuInstanceProfile": "MIG1g",
    }})
}

/// What `az aks create --node-count 1` sends, save for what means nothing here.
pub(crate) fn the_articles_cluster() -> Value {
    json!({
        "location": "southcentralus",
        "identity": {"type": "SystemAssigned"},
        "properties": {
            "kubernetesVersion": "",
            "dnsPrefix": "myAKSClust-myResourceGroup-000000",
            "agentPoolProfiles": [{
                "name": "nodepool1", "count": 1, "vmSize": "", "osDiskSizeGB": 0, "osType": "Linux",
                "orchestratorVersion": "", "mode": "System", "type": "VirtualMachineScaleSets",
            }],
        },
    })
}

impl Api {
    pub(crate) fn new() -> Self {
        Self::over(Arc::new(MemoryBackend::new()))
    }

    /// A front that has answered nothing yet.
    pub(crate) fn over(backend: Arc<MemoryBackend>) -> Self {
        Self {
            front: arm::Front::new(
                Arc::clone(&backend),
                arm::FrontSettings {
                    scheme: arm::Scheme::Http,
                    account: arm::Account::local(),
                },
            ),
            controller: Controller::new(Arc::clone(&backend), Arc::clone(&backend)),
            deployer: arm::Deployer::new(Arc::clone(&backend)),
            backend,
        }
    }

    /// With the article's group and cluster, there.
    pub(crate) async fn with_cluster() -> Self {
        let api = Self::new();
        let answer = api
            .put(
                &group(),
                "2024-11-01",
                &json!({"location": "southcentralus"}),
            )
            .await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        let answer = api.put(&cluster(), VERSION, &the_articles_cluster()).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        api.settle().await;
        api
    }

    /// With the article's pool too, in `state` if it is held.
    pub(crate) async fn with_pool() -> Self {
        let api = Self::with_cluster().await;
        let answer = api
            .put(&agent_pool("mignode"), VERSION, &the_articles_pool())
            .await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        api.settle().await;
        api
    }

    /// All that is kept.
    pub(crate) async fn records(&self) -> Vec<RawRecord> {
        let scope = Scope::everything();
        let mut all = Vec::new();
        for kind in [
            Kind::Group,
            Kind::Cluster,
            Kind::NodePool,
            Kind::Operation,
            Kind::Deployment,
        ] {
            let records = self.backend.scan(kind, &scope);
            all.extend(records.await.unwrap());
        }
        all
    }

    /// Lets the controller and the deployer do all that is to be done.
    pub(crate) async fn settle(&self) {
        for _ in 0..8 {
            let _ = self.controller.round().await.unwrap();
            self.deployer.round().await.unwrap();
        }
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        uri: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "localhost:8443");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send_request(request.body(body.into()).unwrap()).await
    }

    pub(crate) async fn send_request(&self, request: Request<Body>) -> Answer {
        let asked = conformance::Asked {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
        };
        let response = self.front.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        conformance::check(&asked, parts.status, &parts.headers, &text);
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer {
            status: parts.status,
            headers: parts.headers,
            text,
            json,
        }
    }

    pub(crate) async fn get(&self, path: &str, version: &str) -> Answer {
        self.send(
            Method::GET,
            &format!("{path}?api-version={version}"),
            &[],
            Body::empty(),
        )
        .await
    }

    pub(crate) async fn put(&self, path: &str, version: &str, body: &Value) -> Answer {
        self.put_if(path, version, body, &[]).await
    }

    pub(crate) async fn put_if(
        &self,
        path: &str,
        version: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        let uri = format!("{path}?api-version={version}");
        self.send(Method::PUT, &uri, headers, body.to_string())
            .await
    }

    pub(crate) async fn delete(&self, path: &str, version: &str) -> Answer {
        self.send(
            Method::DELETE,
            &format!("{path}?api-version={version}"),
            &[],
            Body::empty(),
        )
        .await
    }

    /// Follows an absolute URL that the server gave.
    pub(crate) async fn follow(&self, url: &str) -> Answer {
        let path = url
            .strip_prefix("http://localhost:8443")
            .unwrap_or_else(|| panic!("{url}"));
        self.send(Method::GET, path, &[], Body::empty()).await
    }
}

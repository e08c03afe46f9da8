//! An API server that has one node, its events, and pods that can be evicted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, Response, Uri};
use migpool_agent::ClusterConfig;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::gpu_nodes::{self, GpuNodes};
use crate::node::{Node, eventually};

/// The node's name.
pub(crate) const NODE: &str = "node-1";

const TAINT: &str = "migpool.dev/partitioning";

/// What the server has, and how it behaves.
#[derive(Default)]
pub(crate) struct Cluster {
    /// Labels, by the field manager that owns them.
    pub(crate) labels: BTreeMap<String, BTreeMap<String, String>>,
    pub(crate) taints: Vec<Value>,
    pub(crate) conditions: Vec<Value>,
    /// How much of each resource the node is said to have.
    pub(crate) capacity: BTreeMap<String, String>,
    /// Reasons and notes.
    pub(crate) events: Vec<(String, String)>,
    pub(crate) pods: BTreeSet<String>,
    /// A budget that lets no pod go.
    pub(crate) budget: Option<String>,
    /// Nobody may do anything.
    pub(crate) forbidden: bool,
    /// The node's uid, and its `GpuNode`.
    pub(crate) uid: String,
    pub(crate) gpu_nodes: GpuNodes,
    /// Whenever the taint is set: how many MIG devices there were then.
    pub(crate) devices_when_tainted: Vec<usize>,
    driver_root: PathBuf,
    version: u64,
}

/// The server; it ends with the test's runtime.
pub(crate) struct ApiServer {
    address: SocketAddr,
    folder: PathBuf,
    cluster: Arc<Mutex<Cluster>>,
}

impl ApiServer {
    /// One that is there.
    pub(crate) async fn start(node: &Node) -> Self {
        let server = Self::away(node).await;
        server.come().await;
        server
    }

    /// One that nobody answers for yet.
    pub(crate) async fn away(node: &Node) -> Self {
        // The address is free again when the listener is gone.
        let address = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let cluster = Cluster {
            driver_root: node.root(),
            uid: "uid".to_owned(),
            ..Cluster::default()
        };
        Self {
            address,
            folder: node.path("kube"),
            cluster: Arc::new(Mutex::new(cluster)),
        }
    }

    /// From now on it answers.
    pub(crate) async fn come(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let app = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&self.cluster));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    }

    /// How to reach it as a node of this name.
    pub(crate) fn config_of(&self, node: &str) -> ClusterConfig {
        std::fs::create_dir_all(&self.folder).unwrap();
        let path = self.folder.join("config");
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "u", "user": {"token": "secret"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        });
        std::fs::write(&path, text.to_string()).unwrap();
        ClusterConfig {
            node: node.to_owned(),
            kubeconfig: Some(path),
        }
    }

    pub(crate) fn config(&self) -> ClusterConfig {
        self.config_of(NODE)
    }

    pub(crate) fn now(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap()
    }

    /// Waits until the cluster is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&Cluster) -> bool) {
        eventually(|| wanted(&self.now())).await;
    }
}

impl Cluster {
    pub(crate) fn is_tainted(&self) -> bool {
        self.taints.iter().any(|taint| taint["key"] == TAINT)
    }

    /// Puts the taint on the node, as an agent did that was killed then.
    pub(crate) fn taint(&mut self) {
        self.taints = vec![json!({"key": TAINT, "effect": "NoSchedule"})];
    }

    /// Status, reason and message of a condition.
    pub(crate) fn condition(&self, kind: &str) -> Option<[&str; 3]> {
        let found = self.conditions.iter().find(|it| it["type"] == kind)?;
        let text = |name: &str| found[name].as_str().unwrap();
        Some([text("status"), text("reason"), text("message")])
    }

    /// Whether there is an event of this reason whose note has these words.
    pub(crate) fn has_event(&self, reason: &str, words: &[&str]) -> bool {
        self.events
            .iter()
            .any(|(is, note)| is == reason && words.iter().all(|word| note.contains(word)))
    }

    /// All labels of the node.
    pub(crate) fn all_labels(&self) -> BTreeMap<&str, &str> {
        let all = self.labels.values().flatten();
        all.map(|(key, value)| (key.as_str(), value.as_str()))
            .collect()
    }

    fn node(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": NODE, "uid": self.uid, "resourceVersion": self.version.to_string()},
            "spec": {"taints": self.taints},
            "status": {"conditions": self.conditions, "capacity": self.capacity},
        })
    }

    fn patch_node(&mut self, is_status: bool, query: &str, body: &Value) {
        self.version += 1;
        if is_status {
            let conditions = body["status"]["conditions"].as_array().unwrap();
            self.conditions.clone_from(conditions);
            return;
        }
        if let Some(taints) = body["spec"]["taints"].as_array() {
            let was_tainted = self.is_tainted();
            self.taints.clone_from(taints);
            if self.is_tainted() && !was_tainted {
                let there = migpool_agent::probe(&self.driver_root).unwrap();
                self.devices_when_tainted.push(there.mig_devices().count());
            }
            return;
        }
        let manager = query
            .split('&')
            .find_map(|part| part.strip_prefix("fieldManager="))
            .unwrap();
        let labels = body["metadata"]["labels"].clone();
        let labels = serde_json::from_value(labels).unwrap_or_default();
        self.labels.insert(manager.to_owned(), labels);
    }

    fn evict(&mut self, pod: &str) -> (u16, Value) {
        if let Some(budget) = &self.budget {
            let message =
                format!("The disruption budget {budget} needs 1 healthy pods and has 1 currently");
            let causes = json!([{"reason": "DisruptionBudget", "message": message}]);
            return refusal(429, "Cannot evict pod", &json!({"causes": causes}));
        }
        self.pods.remove(pod);
        (201, json!({"kind": "Eviction"}))
    }

    fn answer(&mut self, method: &Method, path: &str, query: &str, body: &Value) -> (u16, Value) {
        if self.forbidden {
            let what = path.rsplit('/').next().unwrap();
            let message = format!(
                r#"{what} is forbidden: User "u" cannot {} resource "nodes" in API group """#,
                method.as_str().to_lowercase()
            );
            return refusal(403, &message, &json!({}));
        }
        if let Some(rest) = path.strip_prefix(gpu_nodes::PATH) {
            return self.gpu_nodes.answer(method, rest, body);
        }
        let node = format!("/api/v1/nodes/{NODE}");
        let pods = "/api/v1/namespaces/default/pods/";
        if let Some(rest) = path.strip_prefix(&node) {
            if *method == Method::PATCH {
                self.patch_node(rest == "/status", query, body);
            }
            return (200, self.node());
        }
        if path.starts_with("/apis/events.k8s.io/v1/") {
            let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
            self.events.push((text("reason"), text("note")));
            return (201, json!({"kind": "Event", "metadata": {"name": "x"}}));
        }
        match path.strip_prefix(pods) {
            Some(pod) if *method == Method::POST => {
                let pod = pod.strip_suffix("/eviction").unwrap().to_owned();
                self.evict(&pod)
            }
            Some(pod) if self.pods.contains(pod) => {
                let metadata = json!({"name": pod, "namespace": "default", "uid": pod});
                let rest = json!({"nodeName": NODE});
                let status = json!({"phase": "Running"});
                (
                    200,
                    json!({"kind": "Pod", "metadata": metadata, "spec": rest, "status": status}),
                )
            }
            _ => {
                let name = path.rsplit('/').next().unwrap();
                let kind = if path.contains("/pods/") {
                    "pods"
                } else {
                    "nodes"
                };
                let message = format!("{kind} \"{name}\" not found");
                refusal(404, &message, &json!({"name": name, "kind": kind}))
            }
        }
    }
}

pub(crate) fn refusal(code: u16, message: &str, details: &Value) -> (u16, Value) {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        _ => "TooManyRequests",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message, "details": details,
    });
    (code, status)
}

async fn answer(
    State(cluster): State<Arc<Mutex<Cluster>>>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response<Body> {
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let query = uri.query().unwrap_or_default();
    if query.contains("watch=true") && !cluster.lock().unwrap().gpu_nodes.is_unknown {
        return Response::new(gpu_nodes::watch(cluster, query));
    }
    let (code, answer) = cluster
        .lock()
        .unwrap()
        .answer(&method, uri.path(), query, &body);
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(Body::from(answer.to_string()))
        .unwrap()
}

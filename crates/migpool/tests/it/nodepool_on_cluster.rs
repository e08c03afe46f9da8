//! `nodepool` and `node` with a kubeconfig, against an API server that knows as much of node pools as these commands need.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::control_plane::{failure, migpool, stdout};

const POOLS: &str = "/apis/migpool.dev/v1alpha1/nodepools";
const GPU_NODES: &str = "/apis/migpool.dev/v1alpha1/gpunodes";
const NODES: &str = "/api/v1/nodes";
const SIZE: &str = "Standard_ND96asr_v4";
const RULE: &str = "Give either vmSize or nodeSelector: which machines the nodes are.";

/// A cluster whose operator brings a pool about by the second look, unless it is called `broken`.
#[derive(Default)]
struct Cluster {
    knows_pools: bool,
    pools: BTreeMap<String, Value>,
    gpu_nodes: Vec<Value>,
    nodes: Vec<Value>,
    generation: u64,
}

impl Cluster {
    fn answer(&mut self, method: &Method, path: &str, body: &Value) -> Response {
        if path == NODES {
            return list("v1", "Node", &self.nodes);
        }
        if !self.knows_pools {
            return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
        }
        if path == GPU_NODES {
            return list("migpool.dev/v1alpha1", "GpuNode", &self.gpu_nodes);
        }
        let Some(name) = path.strip_prefix(POOLS) else {
            return refused(404, "NotFound", "no such path", "", &json!([]));
        };
        let name = name.trim_start_matches('/').to_owned();
        match (method, name.as_str()) {
            (&Method::GET, "") => {
                let pools: Vec<Value> = self.pools.values().cloned().collect();
                list("migpool.dev/v1alpha1", "NodePool", &pools)
            }
            (&Method::POST, "") => self.create(body),
            (_, name) if !self.pools.contains_key(name) => {
                let said = format!("nodepools.migpool.dev \"{name}\" not found");
                refused(404, "NotFound", &said, name, &json!([]))
            }
            (&Method::PATCH, name) => {
                self.generation += 1;
                let pool = self.pools.get_mut(name).unwrap();
                pool["spec"]["count"] = body["spec"]["count"].clone();
                pool["metadata"]["generation"] = json!(self.generation);
                axum::Json(pool.clone()).into_response()
            }
            (&Method::DELETE, name) => axum::Json(self.pools.remove(name)).into_response(),
            (_, name) => {
                let pool = self.pools.get_mut(name).unwrap();
                let before = pool.clone();
                let is_broken = name == "broken";
                pool["status"] = json!({
                    "observedGeneration": pool["metadata"]["generation"],
                    "phase": if is_broken { "Failed" } else { "Succeeded" },
                    "message": if is_broken { "worker-1: GPU 3 is lost" } else { "" },
                    "nodes": pool["spec"]["count"],
                });
                axum::Json(before).into_response()
            }
        }
    }

    fn create(&mut self, pool: &Value) -> Response {
        let name = pool["metadata"]["name"].as_str().unwrap().to_owned();
        if self.pools.contains_key(&name) {
            return refused(409, "AlreadyExists", "it exists", &name, &json!([]));
        }
        if pool["spec"]["vmSize"].is_null() {
            let causes = json!([{"reason": "FieldValueInvalid", "field": "spec",
                "message": format!("Invalid value: \"object\": {RULE}")}]);
            let said = format!("NodePool.migpool.dev \"{name}\" is invalid: spec: ..");
            return refused(422, "Invalid", &said, &name, &causes);
        }
        self.generation += 1;
        let mut pool = pool.clone();
        pool["metadata"]["uid"] = json!(format!("uid-{name}"));
        pool["metadata"]["generation"] = json!(self.generation);
        pool["metadata"]["managedFields"] = json!([{"manager": "migpool"}]);
        self.pools.insert(name, pool.clone());
        axum::Json(pool).into_response()
    }
}

fn list(api_version: &str, kind: &str, items: &[Value]) -> Response {
    axum::Json(json!({"apiVersion": api_version, "kind": format!("{kind}List"), "metadata": {}, "items": items}))
        .into_response()
}

fn refused(code: u16, reason: &str, message: &str, name: &str, causes: &Value) -> Response {
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason,
        "message": message, "details": {"name": name, "kind": "nodepools", "causes": causes}});
    (StatusCode::from_u16(code).unwrap(), axum::Json(status)).into_response()
}

type Shared = Arc<Mutex<Cluster>>;

async fn handle(State(state): State<Shared>, method: Method, uri: Uri, body: Bytes) -> Response {
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let mut cluster = state.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.answer(&method, uri.path(), &body)
}

/// The API server, and a home with its kubeconfig. It serves until the tests end.
struct Server {
    folder: TempDir,
}

impl Server {
    fn start(cluster: Cluster) -> Self {
        let state: Shared = Arc::new(Mutex::new(cluster));
        let router = Router::new().fallback(handle).with_state(state);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, router).await
            })
        });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config"), kubeconfig(address)).unwrap();
        Self { folder }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = migpool();
        command
            .args(words)
            .env("MIGPOOL_STATE_DIR", self.folder.path().join("none"))
            .env("KUBECONFIG", self.folder.path().join("config"))
            .env_remove("KUBERNETES_SERVICE_HOST")
            .env("HOME", self.folder.path());
        command
    }

    /// By the flag that names a file.
    fn named(&self, words: &[&str]) -> Command {
        let mut command = self.command(words);
        command
            .arg("--kubeconfig")
            .arg(self.folder.path().join("config"))
            .env_remove("KUBECONFIG");
        command
    }
}

fn kubeconfig(server: SocketAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: c\n  cluster: {{server: 'http://{server}'}}\n\
         contexts:\n- name: c\n  context: {{cluster: c, user: u}}\nusers:\n- name: u\n  user: {{}}\n"
    )
}

fn with_pools() -> Server {
    Server::start(Cluster {
        knows_pools: true,
        ..Cluster::default()
    })
}

fn add<'a>(name: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["nodepool", "add", "--name", name, "-c", "1"], rest].concat()
}

#[test]
fn a_pool_is_added_shown_scaled_and_deleted() {
    let server = with_pools();
    let size = [
        "-s",
        SIZE,
        "--gpu-instance-profile",
        "MIG1g",
        "--labels",
        "team=ml",
    ];
    let table = "NAME     VM SIZE              COUNT  PROFILE  STRATEGY  MODE  STATE      MESSAGE\n\
         mignode  Standard_ND96asr_v4  1      MIG1g    Single    User  Succeeded\n";
    assert_eq!(stdout(&mut server.named(&add("mignode", &size))), table);
    let (code, said) = failure(&mut server.named(&add("mignode", &size)));
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("node pool mignode already exists") && said.contains("scale"),
        "{said}"
    );

    let words = ["nodepool", "list", "--on-cluster"];
    assert_eq!(stdout(&mut server.command(&words)), table);
    let words = ["nodepool", "show", "--name", "mignode", "-o", "json"];
    let shown: Value = serde_json::from_str(&stdout(&mut server.named(&words))).unwrap();
    assert_eq!(shown["kind"], "NodePool");
    assert_eq!(shown["spec"]["nodeLabels"]["team"], "ml");
    assert_eq!(shown["metadata"]["managedFields"], Value::Null);

    let words = ["nodepool", "scale", "--name", "mignode", "-c", "3"];
    let scaled = stdout(&mut server.named(&words));
    assert!(scaled.contains("  3      MIG1g"), "{scaled}");
    assert!(scaled.contains("Succeeded"), "{scaled}");
    // Named in another cluster it is another pool.
    let words = ["nodepool", "delete", "--name", "mignode"];
    let (code, said) = failure(server.named(&words).args(["--cluster-name", "west"]));
    assert_eq!(code, 1);
    assert!(
        said.contains("no node pool mignode in cluster west"),
        "{said}"
    );
    assert_eq!(stdout(&mut server.named(&words)), "");
    let (code, said) = failure(&mut server.named(&words));
    assert_eq!(code, 1);
    assert!(said.contains("there is no node pool mignode"), "{said}");
}

#[test]
fn a_pool_that_cannot_be_is_said_in_the_words_of_who_refused() {
    let server = with_pools();
    let (code, said) = failure(&mut server.named(&add("mignode", &[])));
    assert_eq!((code, said.as_str()), (1, RULE));
    let (code, said) = failure(&mut server.named(&add("broken", &["-s", SIZE])));
    assert_eq!(code, 1);
    assert!(
        said.ends_with("creating node pool broken: failed: worker-1: GPU 3 is lost"),
        "{said}"
    );
    // What was not to be waited for is no failure.
    let words = ["nodepool", "delete", "--name", "broken"];
    stdout(&mut server.named(&words));
    let no_wait = add("broken", &["-s", SIZE, "--no-wait"]);
    assert_eq!(stdout(&mut server.named(&no_wait)), "");
}

#[test]
fn a_nodepool_command_says_which_cluster_it_needs() {
    // As ever, KUBECONFIG alone changes nothing.
    let server = with_pools();
    let (code, said) = failure(&mut server.command(&["nodepool", "list"]));
    assert_eq!(code, 2);
    assert!(
        said.contains("required arguments were not provided")
            && said.contains("--resource-group <RESOURCE_GROUP> --cluster-name <CLUSTER_NAME>"),
        "{said}"
    );
    let (code, said) = failure(&mut server.named(&["nodepool", "list", "--in-cluster"]));
    assert_eq!(code, 2);
    assert!(said.contains("cannot be used with"), "{said}");
    let (code, said) = failure(&mut server.command(&["nodepool", "list", "--in-cluster"]));
    assert_eq!(code, 1);
    assert!(said.contains("service account"), "{said}");
    let group = ["node", "list", "-g", "a", "--cluster-name", "b"];
    let (code, said) = failure(&mut server.named(&group));
    assert_eq!(code, 2);
    assert!(said.contains("cannot be used with"), "{said}");
}

#[test]
fn a_nodepool_of_a_cluster_without_the_chart_is_told_to_install_it() {
    let server = Server::start(Cluster::default());
    for words in [
        ["nodepool", "list"].as_slice(),
        &add("mignode", &["-s", SIZE]),
        &["node", "map"],
    ] {
        let (code, said) = failure(&mut server.named(words));
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("install migpool's chart"), "{said}");
    }
}

/// A node with one GPU in two slices, one of them held.
fn cluster_with_nodes() -> Cluster {
    let node = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"zone": "a"}, "creationTimestamp": "2026-01-02T03:04:05Z"},
            "status": {
                "capacity": {"cpu": "96", "nvidia.com/gpu": "2"}, "allocatable": {"cpu": "95", "nvidia.com/gpu": "2"},
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "posting"}]}})
    };
    let slice = |start: u8, holder: Value| {
        json!({"uuid": format!("MIG-{start}"), "profile": "3g.20gb", "gpuInstance": 1, "computeInstance": 0,
            "start": start, "size": 4, "healthy": true, "holder": holder})
    };
    let held = json!({"namespace": "ml", "pod": "train", "container": "main"});
    let gpu_node = |name: &str, pool: Value| {
        json!({"apiVersion": "migpool.dev/v1alpha1", "kind": "GpuNode",
            "metadata": {"name": name, "generation": 1}, "spec": pool,
            "status": {"observedGeneration": 1, "phase": "Ready", "gpus": [
                {"index": 0, "uuid": "GPU-0", "product": "NVIDIA A100-SXM4-40GB", "board": "A100-40GB", "memoryUnits": 8,
                 "computeSlices": 7, "migCapable": true, "migEnabled": true, "healthy": true,
                 "slices": [slice(0, held.clone()), slice(4, Value::Null)]}]}})
    };
    let in_pool = json!({"pool": {"name": "mignode", "uid": "p"}});
    let pool = json!({"apiVersion": "migpool.dev/v1alpha1", "kind": "NodePool",
        "metadata": {"name": "mignode", "uid": "p", "generation": 1},
        "spec": {"vmSize": SIZE, "gpuInstanceProfile": "MIG3g"}});
    Cluster {
        knows_pools: true,
        pools: BTreeMap::from([("mignode".to_owned(), pool)]),
        nodes: vec![node("worker-1"), node("worker-2"), node("without-gpus")],
        gpu_nodes: vec![
            gpu_node("worker-1", in_pool),
            gpu_node("worker-2", json!({})),
        ],
        generation: 1,
    }
}

#[test]
fn the_nodes_of_nodepools_are_listed_described_and_drawn_with_who_holds_what() {
    let server = Server::start(cluster_with_nodes());
    assert_eq!(
        stdout(&mut server.named(&["node", "list"])),
        "NAME      STATUS  POOL     VM SIZE              GPUS  ALLOCATABLE\n\
         worker-1  Ready   mignode  Standard_ND96asr_v4  1     nvidia.com/gpu: 2\n\
         worker-2  Ready   -                             1     nvidia.com/gpu: 2\n"
    );
    let described = stdout(&mut server.named(&["node", "describe", "mignode"]));
    for part in [
        "Name:         worker-1",
        "  zone=a",
        "KubeletReady",
        "  cpu: 96",
        "(MIG, 2 slices, 1 held)",
    ] {
        assert!(described.contains(part), "{part}: {described}");
    }
    assert!(!described.contains("worker-2"), "{described}");
    let drawn = stdout(&mut server.named(&["node", "map", "worker-1"]));
    assert!(
        drawn.contains("|ml/train") && drawn.contains("|free"),
        "{drawn}"
    );
    let map = stdout(&mut server.named(&["node", "map", "-o", "json"]));
    let nodes: Value = serde_json::from_str(&map).unwrap();
    assert_eq!(nodes.as_array().unwrap().len(), 2);
    assert_eq!(nodes[0]["gpus"][0]["slices"][0]["holder"]["pod"], "train");
    let (code, said) = failure(&mut server.named(&["node", "map", "none"]));
    assert_eq!(code, 1);
    assert!(
        said.contains("no node and no pool is called none"),
        "{said}"
    );
}

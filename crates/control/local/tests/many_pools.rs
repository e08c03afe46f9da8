//! Many pools, many clients at once, and a server that is killed while they work.
#![allow(clippy::expect_used)]

mod common;
#[path = "common/front.rs"]
mod front;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use front::Backend;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use migpool_local::store::Database;
use pool::{Controller, Group, NodePool, Operation, OperationStatus, Scope, Store};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tower::ServiceExt;

const CLIENTS: usize = 20;
const POOLS_OF_CLIENT: usize = 10;
/// No test depends on how long something takes: this long is a failure.
const PATIENCE: Duration = Duration::from_mins(3);

const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/group";
const GROUPS_VERSION: &str = "2024-11-01";
const VERSION: &str = "2026-06-01";

fn cluster() -> String {
    format!("{GROUP}/providers/Microsoft.ContainerService/managedClusters/cluster")
}

fn agent_pool(name: &str) -> String {
    format!("{}/agentPools/{name}", cluster())
}

fn of_count(count: u32) -> Value {
    json!({"properties": {
        "count": count, "vmSize": "Standard_ND96asr_v4", "gpuInstanceProfile": "MIG1g", "mode": "User",
    }})
}

/// How the clients reach the front.
#[derive(Clone)]
enum Door {
    InProcess(arm::Front),
    Socket(PathBuf),
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    /// The URL of the operation that it started or found under way.
    fn operation(&self) -> Option<String> {
        let url = self.headers.get("azure-asyncoperation")?;
        let url = url.to_str().expect("text");
        let path = url.find("/subscriptions/").expect("a path");
        Some(url[path..].to_owned())
    }

    fn etag(&self) -> String {
        let etag = self.body["properties"]["eTag"].as_str();
        etag.expect("an ETag").to_owned()
    }
}

impl Door {
    /// Sends a request, again and again while nobody answers.
    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let separator = if path.contains('?') { '&' } else { '?' };
        let version = if path.contains("/providers/") {
            VERSION
        } else {
            GROUPS_VERSION
        };
        let uri = if path.contains("api-version=") {
            path.to_owned()
        } else {
            format!("{path}{separator}api-version={version}")
        };
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        loop {
            let mut request = Request::builder()
                .method(&method)
                .uri(&uri)
                .header("host", "localhost");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Full::new(Bytes::from(text.clone())));
            match self.once(request.expect("a request")).await {
                Ok(answer) => return answer,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn once(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let (parts, bytes) = match self {
            Self::InProcess(front) => {
                let answer = front
                    .clone()
                    .oneshot(request.map(axum::body::Body::new))
                    .await?;
                let (parts, body) = answer.into_parts();
                (parts, body.collect().await?.to_bytes())
            }
            Self::Socket(socket) => {
                let stream = UnixStream::connect(socket).await?;
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
                let connection = tokio::spawn(connection);
                let (parts, body) = sender.send_request(request).await?.into_parts();
                let bytes = body.collect().await?.to_bytes();
                connection.abort();
                (parts, bytes)
            }
        };
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        })
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], &Value::Null).await
    }

    async fn put(&self, path: &str, body: &Value) -> Answer {
        let answer = self.send(Method::PUT, path, &[], body).await;
        assert!(answer.status.is_success(), "{path}: {answer:?}");
        answer
    }

    async fn delete(&self, path: &str) -> Answer {
        let answer = self.send(Method::DELETE, path, &[], &Value::Null).await;
        assert!(answer.status.is_success(), "{path}: {answer:?}");
        answer
    }

    /// Waits until an operation has ended, and says how.
    async fn ended(&self, operation: &str) -> String {
        loop {
            let answer = self.get(operation).await;
            assert_eq!(answer.status, StatusCode::OK, "{operation}: {answer:?}");
            match answer.body["status"].as_str() {
                Some("InProgress") => tokio::time::sleep(Duration::from_millis(20)).await,
                Some(status) => return status.to_owned(),
                None => panic!("{operation}: {answer:?}"),
            }
        }
    }

    /// Makes the group and the cluster, with its one system pool.
    async fn make_cluster(&self) {
        self.put(GROUP, &json!({"location": "southcentralus"}))
            .await;
        let profile = json!({"name": "nodepool1", "count": 1, "vmSize": "", "mode": "System"});
        let body =
            json!({"location": "southcentralus", "properties": {"agentPoolProfiles": [profile]}});
        self.put(&cluster(), &body).await;
    }
}

/// The lives of one client's pools: made, scaled, deleted. Some wait for each step, others are faster than the controller.
/// The answer is every operation that the client was told of.
async fn client(door: Door, number: usize) -> Vec<String> {
    let mut operations = Vec::new();
    for one in 0..POOLS_OF_CLIENT {
        let path = agent_pool(&format!("c{number}p{one}"));
        let waits = (number + one).is_multiple_of(2);
        let mut last = String::new();
        for count in [1, 3] {
            let answer = door.put(&path, &of_count(count)).await;
            assert_eq!(answer.body["properties"]["count"], count);
            assert!(answer.etag() > last, "{} after {last}", answer.etag());
            last = answer.etag();
            if let Some(operation) = answer.operation() {
                if waits {
                    assert_eq!(door.ended(&operation).await, "Succeeded");
                }
                operations.push(operation);
            }
            let shown = door.get(&path).await;
            assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
            assert!(shown.etag() >= last, "{} after {last}", shown.etag());
            last = shown.etag();
        }
        if let Some(operation) = door.delete(&path).await.operation() {
            if waits {
                assert_eq!(door.ended(&operation).await, "Succeeded");
                assert_eq!(door.get(&path).await.status, StatusCode::NOT_FOUND);
            }
            operations.push(operation);
        }
    }
    operations
}

/// All clients at once; at the end every operation that one was told of has ended.
async fn clients(door: &Door) -> BTreeSet<String> {
    let mut at_work = JoinSet::new();
    for number in 0..CLIENTS {
        at_work.spawn(client(door.clone(), number));
    }
    let operations: Vec<String> = at_work.join_all().await.into_iter().flatten().collect();
    for operation in &operations {
        let status = door.ended(operation).await;
        // A faster change takes the place of one under way.
        assert!(
            ["Succeeded", "Canceled"].contains(&status.as_str()),
            "{operation}: {status}"
        );
    }
    operations.into_iter().collect()
}

async fn no_pool_is_left_but_the_clusters_first(door: &Door) {
    let pools = format!("{}/agentPools", cluster());
    loop {
        let list = door.get(&pools).await;
        let pools = list.body["value"].as_array().expect("a list").clone();
        if let [first] = pools.as_slice() {
            assert_eq!(first["name"], "nodepool1");
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The store has every operation that a client was told of, and none that has not ended.
async fn the_store_lost_nothing(store: &Database, told: &BTreeSet<String>) {
    let kept = store
        .list::<Operation>(&Scope::everything())
        .await
        .expect("operations");
    for operation in &kept {
        assert_ne!(
            operation.record.status,
            OperationStatus::InProgress,
            "{operation:?}"
        );
        assert!(operation.record.end.is_some(), "{operation:?}");
    }
    let kept: BTreeSet<String> = kept.iter().map(|it| it.record.key.id.to_string()).collect();
    for operation in told {
        let id = operation
            .rsplit('/')
            .next()
            .and_then(|last| last.split('?').next());
        assert!(kept.contains(id.expect("an id")), "{operation} is lost");
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("done in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_pools_come_and_go_under_twenty_clients_and_nothing_is_lost() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Database::open(&dir.path().join("migpool.db")).expect("opens");
    let backend = Backend::over(store.clone());
    let controller = Controller::new(backend.clone(), backend.clone());
    let controller = tokio::spawn(controller.run(std::future::pending()));
    let door = Door::InProcess(backend.front());
    in_time(async {
        door.make_cluster().await;
        let told = clients(&door).await;
        // Each pool was made, scaled and deleted, and each of these was an operation.
        assert_eq!(told.len(), CLIENTS * POOLS_OF_CLIENT * 3);
        no_pool_is_left_but_the_clusters_first(&door).await;
        the_store_lost_nothing(&store, &told).await;
        // Then everything goes with its group, the nodes too.
        door.delete(GROUP).await;
        while door.get(GROUP).await.status != StatusCode::NOT_FOUND {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(backend.nodes.node_names().is_empty());
        the_store_lost_nothing(&store, &told).await;
    })
    .await;
    controller.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_under_if_match_lose_none_of_each_other() {
    const EACH: usize = 5;
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Database::open(&dir.path().join("migpool.db")).expect("opens");
    let backend = Backend::over(store.clone());
    let controller = Controller::new(backend.clone(), backend.clone());
    let controller = tokio::spawn(controller.run(std::future::pending()));
    let door = Door::InProcess(backend.front());
    in_time(async {
        door.make_cluster().await;
        let path = agent_pool("counted");
        door.put(&path, &of_count(0)).await;
        let mut at_work = JoinSet::new();
        for _ in 0..CLIENTS {
            let (door, path) = (door.clone(), path.clone());
            at_work.spawn(async move {
                let mut done = 0;
                while done < EACH {
                    let mut shown = door.get(&path).await;
                    let counted = shown.body["properties"]["tags"]["counted"].as_str();
                    let counted: usize = counted.map_or(0, |text| text.parse().expect("a number"));
                    let etag = format!("\"{}\"", shown.etag());
                    shown.body["properties"]["tags"] =
                        json!({"counted": (counted + 1).to_string()});
                    let headers = [("if-match", etag.as_str())];
                    let put = door.send(Method::PUT, &path, &headers, &shown.body).await;
                    match put.status {
                        StatusCode::OK => done += 1,
                        // Somebody was faster, before the request or while it was under way.
                        StatusCode::PRECONDITION_FAILED => tokio::task::yield_now().await,
                        _ => panic!("{put:?}"),
                    }
                }
            });
        }
        at_work.join_all().await;
        let shown = door.get(&path).await;
        let counted = (CLIENTS * EACH).to_string();
        assert_eq!(shown.body["properties"]["tags"]["counted"], counted);
    })
    .await;
    controller.abort();
}

/// The helper program as a server on this folder.
fn serve(dir: &Path) -> Child {
    Command::new(common::program())
        .arg("front")
        .arg(dir)
        .stdin(Stdio::null())
        .spawn()
        .expect("starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_killed_again_and_again_loses_no_operation_and_ends_all() {
    let dir = tempfile::tempdir().expect("tempdir");
    let door = Door::Socket(dir.path().join("api.sock"));
    let mut server = serve(dir.path());
    let told = in_time(async {
        door.make_cluster().await;
        let killed = async {
            // Moments in the middle of the clients' work, whatever that is then.
            for pause in [90, 210, 350, 140, 500, 270, 900, 400, 1300, 700, 200, 1100] {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                server.kill().expect("killed");
                server.wait().expect("ended");
                server = serve(dir.path());
            }
        };
        let (told, ()) = tokio::join!(clients(&door), killed);
        // Those that were under way when the last server started end too.
        no_pool_is_left_but_the_clusters_first(&door).await;
        told
    })
    .await;
    server.kill().expect("killed");
    server.wait().expect("ended");
    let store = Database::open(&dir.path().join("migpool.db")).expect("opens");
    the_store_lost_nothing(&store, &told).await;
    let pools = store
        .list::<NodePool>(&Scope::everything())
        .await
        .expect("pools");
    assert_eq!(pools.len(), 1);
    let groups = store
        .list::<Group>(&Scope::everything())
        .await
        .expect("groups");
    assert_eq!(groups.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_has_written_reads_it_at_once_and_nobody_is_taken_back_in_time() {
    const CHANGES: u32 = 60;
    const WATCHERS: usize = 4;
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Database::open(&dir.path().join("migpool.db")).expect("opens");
    let backend = Backend::over(store);
    let controller = Controller::new(backend.clone(), backend.clone());
    let controller = tokio::spawn(controller.run(std::future::pending()));
    let door = Door::InProcess(backend.front());
    in_time(async {
        door.make_cluster().await;
        let path = agent_pool("watched");
        door.put(&path, &of_count(0)).await;
        let mut watchers = JoinSet::new();
        for _ in 0..WATCHERS {
            let (door, path) = (door.clone(), path.clone());
            watchers.spawn(async move {
                let mut last = String::new();
                loop {
                    let answer = door.get(&path).await;
                    assert!(answer.etag() >= last, "{} after {last}", answer.etag());
                    last = answer.etag();
                    if answer.body["properties"]["tags"]["change"] == "last" {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
        for change in 0..=CHANGES {
            let change = if change == CHANGES {
                "last".to_owned()
            } else {
                change.to_string()
            };
            let mut pool = of_count(0);
            pool["properties"]["tags"] = json!({ "change": change });
            let written = door.put(&path, &pool).await;
            let read = door.get(&path).await;
            assert_eq!(read.body["properties"]["tags"]["change"], change.as_str());
            assert!(read.etag() >= written.etag(), "{}", read.etag());
        }
        while let Some(watched) = watchers.join_next().await {
            watched.expect("never back in time");
        }
    })
    .await;
    controller.abort();
}

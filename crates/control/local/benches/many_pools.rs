//! The front and the controller with 100,000 pools in the store.
//!
//! The store is the real one, on the disk of this machine; pools have no nodes, since no machine has room for so many. One
//! thread does everything, as in `migpool up`. Nothing fails on a slow machine.

#[path = "../tests/common/front.rs"]
mod front;

use std::error::Error;
use std::time::{Duration, Instant};

use arm::Front;
use axum::body::Body;
use axum::http::{Method, Request};
use front::Backend;
use http_body_util::BodyExt;
use local::store::Database;
use migpool_local as local;
use pool::{Change, Cluster, Controller, Group, NodePool, ProvisioningState, Scope, Store};
use serde_json::{Value, json};
use tower::ServiceExt;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Groups, clusters in each, pools in each: 100,000, less those that one cluster has alone.
const GROUPS: usize = 10;
const CLUSTERS: usize = 99;
const POOLS: usize = 100;
const POOLS_OF_THE_LARGEST: usize = 1000;
/// How often each thing is done.
const TIMES: usize = 1000;
/// The goal of whatever a person waits for.
const GOAL: f64 = 50.0;

const SUBSCRIPTION: &str = "/subscriptions/00000000-0000-0000-0000-000000000000";

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run())
}

async fn run() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let backend = Backend::over(Database::open(&dir.path().join("migpool.db"))?);
    let front = backend.front();
    let pools = fill(&backend, &front).await?;
    println!("{pools} pools in the store, {} MiB resident", resident()?);

    measure(&front, "a pool shown", TIMES, pool_path).await?;
    let largest = format!("{}/agentPools", cluster_path("g0", "largest"));
    measure(&front, "a page of 200 pools", TIMES / 5, |_| {
        largest.clone()
    })
    .await?;
    let clusters = format!("{SUBSCRIPTION}/providers/Microsoft.ContainerService/managedClusters");
    measure(
        &front,
        "a page of clusters with 200 pools",
        TIMES / 5,
        |_| clusters.clone(),
    )
    .await?;
    let groups = format!("{SUBSCRIPTION}/resourcegroups");
    measure(&front, "the groups", TIMES / 5, |_| groups.clone()).await?;
    let (took, pages) = whole_list(&front, &clusters).await?;
    println!("all clusters, {pages} pages: {:.0} ms", millis(took));

    // From here on with the controller, whose first look at everything goes on meanwhile.
    let controller = Controller::new(backend.clone(), backend.clone());
    let controller = tokio::spawn(controller.run(std::future::pending()));
    measure(
        &front,
        "a pool shown while the controller looks at everything",
        TIMES,
        pool_path,
    )
    .await?;
    let began = Instant::now();
    change(&backend, &front, 0).await?;
    println!(
        "the first change after that: {:.1} ms",
        millis(began.elapsed())
    );
    let mut times = Vec::new();
    for time in 0..TIMES / 5 {
        let began = Instant::now();
        change(&backend, &front, time).await?;
        times.push(began.elapsed());
    }
    report("a pool changed, from its PUT to its end", &mut times);
    println!("{} MiB resident at the end", resident()?);
    controller.abort();
    Ok(())
}

fn cluster_path(group: &str, cluster: &str) -> String {
    format!(
        "{SUBSCRIPTION}/resourcegroups/{group}/providers/Microsoft.ContainerService/managedClusters/{cluster}"
    )
}

/// One of the pools, another each time.
fn pool_path(time: usize) -> String {
    let any = time.wrapping_mul(7919);
    let (group, cluster, pool) = (any % GROUPS, any / GROUPS % CLUSTERS, any / 3 % POOLS);
    let cluster = cluster_path(&format!("g{group}"), &format!("c{cluster}"));
    format!("{cluster}/agentPools/p{pool}")
}

async fn send(front: &Front, method: Method, path: &str, body: Body) -> Outcome<Value> {
    let version = if path.contains("/providers/") {
        "2026-06-01"
    } else {
        "2024-11-01"
    };
    let uri = if path.contains('?') {
        path.to_owned()
    } else {
        format!("{path}?api-version={version}")
    };
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "localhost");
    let response = front.clone().oneshot(request.body(body)?).await?;
    let status = response.status();
    let bytes = response.into_body().collect().await?.to_bytes();
    if !status.is_success() {
        return Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&bytes)).into());
    }
    Ok(serde_json::from_slice(&bytes)?)
}

async fn get(front: &Front, path: &str) -> Outcome<Value> {
    send(front, Method::GET, path, Body::empty()).await
}

/// Puts everything into the store: a first group, cluster and pool by the front, and the others as they are.
async fn fill(backend: &Backend, front: &Front) -> Outcome<usize> {
    let location = Body::from(json!({"location": "southcentralus"}).to_string());
    send(
        front,
        Method::PUT,
        &format!("{SUBSCRIPTION}/resourcegroups/first"),
        location,
    )
    .await?;
    let profile = json!({"name": "nodepool1", "count": 1, "vmSize": "", "mode": "System"});
    let body =
        json!({"location": "southcentralus", "properties": {"agentPoolProfiles": [profile]}});
    let first = cluster_path("first", "first");
    send(front, Method::PUT, &first, Body::from(body.to_string())).await?;
    let body = json!({"properties": {
        "count": 0, "vmSize": "Standard_ND96asr_v4", "gpuInstanceProfile": "MIG1g", "mode": "User",
        "nodeLabels": {"team": "vision"}, "tags": {"cost": "17"},
    }});
    let path = format!("{first}/agentPools/first");
    send(front, Method::PUT, &path, Body::from(body.to_string())).await?;
    // What is there once is as asked.
    let controller = Controller::new(backend.clone(), backend.clone());
    for _ in 0..3 {
        let _ = controller.round().await?;
    }
    let everything = Scope::everything();
    let group = backend.list::<Group>(&everything).await?.remove(0).record;
    let cluster = backend.list::<Cluster>(&everything).await?.remove(0).record;
    let mut pool = backend
        .list::<NodePool>(&everything)
        .await?
        .remove(0)
        .record;
    if pool.provisioning_state != ProvisioningState::Succeeded {
        return Err("the first pool is not as asked".into());
    }
    let mut count = 2;
    for number in 0..GROUPS {
        let mut group = group.clone();
        group.key.group = format!("g{number}").parse()?;
        backend.commit(vec![Change::create(&group)?]).await?;
        let largest = (number == 0).then(|| ("largest".to_owned(), POOLS_OF_THE_LARGEST));
        let others = (0..CLUSTERS).map(|number| (format!("c{number}"), POOLS));
        for (name, pools) in others.chain(largest) {
            let mut cluster = cluster.clone();
            cluster.key.group = group.key.clone();
            cluster.key.cluster = name.parse()?;
            let mut changes = vec![Change::create(&cluster)?];
            for number in 0..pools {
                pool.key.cluster = cluster.key.clone();
                pool.key.pool = format!("p{number}").parse()?;
                changes.push(Change::create(&pool)?);
            }
            count += pools;
            backend.commit(changes).await?;
        }
    }
    Ok(count)
}

async fn measure(
    front: &Front,
    what: &str,
    times: usize,
    path: impl Fn(usize) -> String,
) -> Outcome<()> {
    let mut took = Vec::with_capacity(times);
    for time in 0..times {
        let path = path(time);
        let began = Instant::now();
        get(front, &path).await?;
        took.push(began.elapsed());
    }
    report(what, &mut took);
    Ok(())
}

async fn whole_list(front: &Front, path: &str) -> Outcome<(Duration, usize)> {
    let began = Instant::now();
    let mut pages = 1;
    let mut page = get(front, path).await?;
    while let Some(next) = page["nextLink"].as_str() {
        let next = next.trim_start_matches("http://localhost").to_owned();
        page = get(front, &next).await?;
        pages += 1;
    }
    Ok((began.elapsed(), pages))
}

/// Changes one pool and waits until the controller is done with it.
async fn change(backend: &Backend, front: &Front, time: usize) -> Outcome<()> {
    let path = pool_path(time);
    let mut changes = backend.store_changes();
    let mut body = get(front, &path).await?;
    body["properties"]["tags"] = json!({"cost": format!("{time} {}", body["properties"]["eTag"])});
    let mut shown = send(front, Method::PUT, &path, Body::from(body.to_string())).await?;
    while shown["properties"]["provisioningState"] != "Succeeded" {
        changes.changed().await?;
        shown = get(front, &path).await?;
    }
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Prints two figures, the goal, and its ratio to the second: below 1 is better than the goal.
fn report(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |hundredths: usize| times.get(times.len() * hundredths / 100).copied();
    let (p50, p99) = (at(50).map_or(0.0, millis), at(99).map_or(0.0, millis));
    println!(
        "{what}: p50 {p50:.2} ms, p99 {p99:.2} ms of {}, goal {GOAL} ms, ratio {:.2}",
        times.len(),
        p99 / GOAL
    );
}

fn resident() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    Ok(kib.ok_or("no VmRSS")?.parse::<u64>()? / 1024)
}

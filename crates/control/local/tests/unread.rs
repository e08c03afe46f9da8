//! Records that can't be read, in the real database: nothing else suffers from them, and they can be deleted.
#![allow(clippy::expect_used)]

#[path = "common/front.rs"]
mod front;
#[path = "common/kept.rs"]
mod kept;

use hyper::StatusCode;
use kept::{
    PATH, SUBSCRIPTION, World, a_deployment, a_group, agent_pool, cluster, clusters, deployment,
    group,
};
use pool::{Change, Expected, Kind, Store, StoreError};
use serde_json::{Value, json};

/// Nested deeper than what reads it goes.
fn deep() -> Value {
    (0..200).fold(Value::Null, |inner, _| json!([inner]))
}

/// Puts what can't be read in the place of a record, or where there is none.
async fn spoil(world: &World, kind: Kind, path: &str) {
    let store = &world.backend.store;
    let found = store.revision_of(kind, path).await.expect("a revision");
    let change = Change::Put {
        kind,
        path: path.to_owned(),
        expected: found.map_or(Expected::Absent, Expected::Revision),
        body: deep(),
    };
    store.commit(vec![change]).await.expect("commits");
    let read = store.read(kind, path).await;
    assert!(
        matches!(read, Err(StoreError::Unreadable { .. })),
        "{read:?}"
    );
}

async fn is_gone(world: &World, kind: Kind, path: &str) -> bool {
    let found = world.backend.store.revision_of(kind, path).await;
    found.expect("a revision").is_none()
}

/// Spoils a record, and looks at everything else: the list that it is on shows `others` and names it, what it is itself is an
/// error that names it, and another group can be worked with.
async fn spoiled(kind: Kind, path: &str, url: &str, list: &str, others: &[&str]) -> World {
    let world = World::peopled().await;
    let elsewhere = format!("{SUBSCRIPTION}/resourcegroups/elsewhere");
    world.put(&elsewhere, &a_group()).await;
    spoil(&world, kind, path).await;
    world.settle().await;

    let listed = world.get(list).await;
    assert_eq!(listed.status, StatusCode::OK, "{listed:?}");
    let names: Vec<&str> = listed.json["value"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|it| it["name"].as_str())
        .collect();
    assert_eq!(names, others);
    assert!(listed.warning().contains(path), "{listed:?}");
    let shown = world.get(url).await;
    assert_eq!(shown.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(shown.text.contains(path), "{shown:?}");
    assert_eq!(world.get(&elsewhere).await.status, StatusCode::OK);
    world
}

#[tokio::test]
async fn a_deployment_that_cannot_be_read_stops_no_other_and_can_be_deleted() {
    let path = format!("{PATH}/strange");
    let url = deployment("strange");
    let list = deployment("");
    let world = spoiled(
        Kind::Deployment,
        &path,
        &url,
        list.trim_end_matches('/'),
        &[],
    )
    .await;
    let asked = world.put(&deployment("plain"), &a_deployment("two")).await;
    assert_eq!(asked.status, StatusCode::CREATED, "{asked:?}");
    world.settle().await;
    let plain = world.get(&deployment("plain")).await;
    assert_eq!(plain.json["properties"]["provisioningState"], "Succeeded");

    assert_eq!(world.delete(&url).await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.get(&url).await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.get(&deployment("plain")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_group_is_deleted_with_deployments_that_cannot_be_read() {
    let world = World::peopled().await;
    let paths = ["a", "b"].map(|name| format!("{PATH}/{name}"));
    for path in &paths {
        spoil(&world, Kind::Deployment, path).await;
    }
    assert_eq!(world.delete(&group()).await.status, StatusCode::ACCEPTED);
    world.settle().await;
    assert_eq!(world.get(&group()).await.status, StatusCode::NOT_FOUND);
    for path in &paths {
        assert!(is_gone(&world, Kind::Deployment, path).await);
    }
}

#[tokio::test]
async fn a_pool_that_cannot_be_read_can_be_deleted_and_its_nodes_go_with_it() {
    let path = format!("{PATH}/cluster/one");
    let url = agent_pool("one");
    let list = agent_pool("");
    let list = list.trim_end_matches('/');
    let world = spoiled(Kind::NodePool, &path, &url, list, &["nodepool1"]).await;
    assert_eq!(world.backend.nodes.node_names().len(), 2);
    // Its cluster waits for somebody to say so.
    assert_eq!(world.delete(&cluster()).await.status, StatusCode::ACCEPTED);
    world.settle().await;
    let waiting = world.get(&cluster()).await;
    assert!(waiting.text.contains(&path), "{waiting:?}");

    assert_eq!(world.delete(&url).await.status, StatusCode::NO_CONTENT);
    world.settle().await;
    assert_eq!(world.get(&cluster()).await.status, StatusCode::NOT_FOUND);
    assert!(world.backend.nodes.node_names().is_empty());
}

#[tokio::test]
async fn a_cluster_that_cannot_be_read_can_be_deleted_with_its_pools_and_their_nodes() {
    let path = format!("{PATH}/cluster");
    let world = spoiled(Kind::Cluster, &path, &cluster(), &clusters(), &[]).await;
    spoil(&world, Kind::NodePool, &format!("{path}/one")).await;
    let answer = world.delete(&cluster()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    world.settle().await;
    assert_eq!(world.get(&cluster()).await.status, StatusCode::NOT_FOUND);
    for name in ["one", "nodepool1"] {
        assert!(is_gone(&world, Kind::NodePool, &format!("{path}/{name}")).await);
    }
    assert!(world.backend.nodes.node_names().is_empty());
    assert_eq!(world.get(&group()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_group_that_cannot_be_read_can_be_deleted_with_all_that_is_in_it() {
    let list = format!("{SUBSCRIPTION}/resourcegroups");
    let world = spoiled(Kind::Group, PATH, &group(), &list, &["elsewhere"]).await;
    spoil(&world, Kind::Deployment, &format!("{PATH}/strange")).await;
    spoil(&world, Kind::Cluster, &format!("{PATH}/cluster")).await;
    assert_eq!(world.delete(&group()).await.status, StatusCode::ACCEPTED);
    world.settle().await;
    assert_eq!(world.get(&group()).await.status, StatusCode::NOT_FOUND);
    for (kind, path) in [
        (Kind::Cluster, "cluster"),
        (Kind::NodePool, "cluster/one"),
        (Kind::Deployment, "strange"),
    ] {
        assert!(is_gone(&world, kind, &format!("{PATH}/{path}")).await);
    }
    assert!(world.backend.nodes.node_names().is_empty());
    // Its name is free again.
    let again = world.put(&group(), &a_group()).await;
    assert_eq!(again.status, StatusCode::CREATED);
}

#[tokio::test]
async fn an_operation_that_cannot_be_read_holds_up_nothing() {
    let world = World::peopled().await;
    let asked = world.delete(&agent_pool("one")).await;
    let url = asked.headers["azure-asyncoperation"]
        .to_str()
        .expect("text");
    let id = url.rsplit('/').next().and_then(|it| it.split('?').next());
    let subscription = PATH.split('/').next().expect("a subscription");
    let path = format!("{subscription}/{}", id.expect("an id"));
    spoil(&world, Kind::Operation, &path).await;
    world.settle().await;
    let shown = world.get(&agent_pool("one")).await;
    assert_eq!(shown.status, StatusCode::NOT_FOUND, "{shown:?}");
    let other = world.delete(&group()).await;
    assert_eq!(other.status, StatusCode::ACCEPTED);
    world.settle().await;
    assert_eq!(world.get(&group()).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_deployment_to_what_cannot_be_read_fails_with_its_name_and_the_others_go_on() {
    let world = World::peopled().await;
    let path = format!("{PATH}/cluster/two");
    // The first of the two comes to the pool that is spoiled.
    for (name, pool) in [("a", "two"), ("b", "three")] {
        let asked = world.put(&deployment(name), &a_deployment(pool)).await;
        assert_eq!(asked.status, StatusCode::CREATED, "{asked:?}");
    }
    spoil(&world, Kind::NodePool, &path).await;
    world.settle().await;
    let failed = world.get(&deployment("a")).await;
    assert_eq!(failed.json["properties"]["provisioningState"], "Failed");
    assert!(failed.text.contains(&path), "{failed:?}");
    let other = world.get(&deployment("b")).await;
    assert_eq!(other.json["properties"]["provisioningState"], "Succeeded");
}

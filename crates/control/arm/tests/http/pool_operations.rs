//! What is done with agent pools beside making, changing and deleting them.

use crate::common::{Answer, Api, VERSION, agent_pool, cluster, group, the_articles_pool};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use pool::{Cluster, ClusterKey, NodeName, PowerState, Store};
use serde_json::{Value, json};

async fn post(api: &Api, path: &str, body: &Value) -> Answer {
    let uri = format!("{path}?api-version={VERSION}");
    let body = if body.is_null() {
        Body::empty()
    } else {
        body.to_string().into()
    };
    api.send(Method::POST, &uri, &[], body).await
}

fn poll(answer: &Answer) -> String {
    answer.header("azure-asyncoperation").unwrap().to_owned()
}

async fn properties(api: &Api) -> Value {
    api.get(&agent_pool("mignode"), VERSION).await.json["properties"].clone()
}

/// The article's pool with so many nodes, all there.
async fn with_nodes(count: u32) -> Api {
    let api = Api::with_cluster().await;
    let mut body = the_articles_pool();
    body["properties"]["count"] = json!(count);
    api.put(&agent_pool("mignode"), VERSION, &body).await;
    api.settle().await;
    api
}

fn nodes(api: &Api) -> Vec<NodeName> {
    let mut names = api.backend.node_names();
    names.retain(|name| name.as_str().contains("mignode"));
    names
}

/// What `az aks nodepool stop|start` does: the whole body of a GET, with another power.
async fn set_power(api: &Api, code: &str) -> Answer {
    let mut body = api.get(&agent_pool("mignode"), VERSION).await.json;
    body["properties"]["powerState"]["code"] = json!(code);
    api.put(&agent_pool("mignode"), VERSION, &body).await
}

#[tokio::test]
async fn stopping_a_pool_takes_its_nodes_keeps_its_count_and_starting_brings_them_back() {
    let api = with_nodes(2).await;
    api.backend.hold_nodes();
    let answer = set_power(&api, "Stopped").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.json["properties"]["provisioningState"], "Stopping");
    api.settle().await;
    assert_eq!(
        api.follow(&poll(&answer)).await.json["status"],
        "InProgress"
    );
    api.backend.advance_all();
    api.settle().await;
    assert_eq!(api.follow(&poll(&answer)).await.json["status"], "Succeeded");
    assert!(nodes(&api).is_empty());
    let stopped = properties(&api).await;
    assert_eq!(stopped["powerState"]["code"], "Stopped");
    assert_eq!(
        (&stopped["count"], &stopped["provisioningState"]),
        (&json!(2), &json!("Succeeded"))
    );

    let answer = set_power(&api, "Running").await;
    assert_eq!(answer.json["properties"]["provisioningState"], "Starting");
    api.settle().await;
    api.backend.advance_all();
    api.settle().await;
    assert_eq!(api.follow(&poll(&answer)).await.json["status"], "Succeeded");
    assert_eq!(nodes(&api).len(), 2);
}

#[tokio::test]
async fn a_pool_of_a_stopped_cluster_shows_it_and_is_not_changed() {
    let api = with_nodes(1).await;
    let key = ClusterKey {
        group: pool::GroupKey {
            subscription: pool::SubscriptionId::local(),
            group: "myResourceGroup".parse().unwrap(),
        },
        cluster: "myAKSCluster".parse().unwrap(),
    };
    let before = api.get(&cluster(), VERSION).await.json;
    let mut stored = api.backend.get::<Cluster>(&key).await.unwrap().unwrap();
    stored.record.power = PowerState::Stopped;
    let change = pool::Change::update(&stored.record, stored.revision).unwrap();
    api.backend.commit(vec![change]).await.unwrap();
    api.settle().await;
    assert!(nodes(&api).is_empty());
    assert_eq!(properties(&api).await["powerState"]["code"], "Stopped");

    let mut body = api.get(&agent_pool("mignode"), VERSION).await.json;
    body["properties"]["count"] = json!(2);
    for answer in [
        api.put(&agent_pool("mignode"), VERSION, &body).await,
        post(
            &api,
            &format!("{}/upgradeNodeImageVersion", agent_pool("mignode")),
            &Value::Null,
        )
        .await,
    ] {
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::CONFLICT, "OperationNotAllowed")
        );
        assert!(answer.message().contains("is stopped"), "{answer:?}");
    }

    // The cluster's body says so of each pool, and giving it back stops none by itself.
    let mut body = api.get(&cluster(), VERSION).await.json;
    assert_eq!(
        body["properties"]["agentPoolProfiles"][0]["powerState"]["code"],
        "Stopped"
    );
    let mut stored = api.backend.get::<Cluster>(&key).await.unwrap().unwrap();
    stored.record.power = PowerState::Running;
    let change = pool::Change::update(&stored.record, stored.revision).unwrap();
    api.backend.commit(vec![change]).await.unwrap();
    body["tags"] = json!({"a": "b"});
    let answer = api.put(&cluster(), VERSION, &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    api.settle().await;
    assert_eq!(nodes(&api).len(), 1);
    let after = api.get(&cluster(), VERSION).await.json;
    assert_eq!(
        after["properties"]["agentPoolProfiles"][0]["powerState"],
        before["properties"]["agentPoolProfiles"][0]["powerState"]
    );
}

#[tokio::test]
async fn an_aborted_operation_is_canceled_the_pool_stays_as_it_is_and_a_put_goes_on() {
    let api = with_nodes(1).await;
    api.backend.hold_nodes();
    let mut body = api.get(&agent_pool("mignode"), VERSION).await.json;
    body["properties"]["count"] = json!(3);
    let scaling = api.put(&agent_pool("mignode"), VERSION, &body).await;
    api.settle().await;
    let abort = format!("{}/abort", agent_pool("mignode"));
    let answer = post(&api, &abort, &Value::Null).await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (StatusCode::ACCEPTED, "")
    );
    assert_eq!(api.follow(&poll(&answer)).await.json["status"], "Succeeded");
    let result = answer.header("location").unwrap().to_owned();
    assert_eq!(api.follow(&result).await.status, StatusCode::NO_CONTENT);

    let canceled = api.follow(&poll(&scaling)).await;
    assert_eq!(canceled.json["status"], "Canceled");
    assert_eq!(canceled.json["error"]["code"], "OperationCanceled");
    api.settle().await;
    assert_eq!(properties(&api).await["provisioningState"], "Canceled");

    // The nodes that were on their way come, and are not touched.
    api.backend.advance_all();
    api.settle().await;
    assert_eq!(properties(&api).await["provisioningState"], "Canceled");
    let answer = post(&api, &abort, &Value::Null).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::CONFLICT, "OperationNotAllowed")
    );

    let body = api.get(&agent_pool("mignode"), VERSION).await.json;
    let again = api.put(&agent_pool("mignode"), VERSION, &body).await;
    assert_eq!(again.json["properties"]["provisioningState"], "Updating");
    api.settle().await;
    assert_eq!(api.follow(&poll(&again)).await.json["status"], "Succeeded");
    assert_eq!(nodes(&api).len(), 3);
}

#[tokio::test]
async fn an_aborted_deletion_leaves_the_pool() {
    let api = with_nodes(1).await;
    api.backend.hold_nodes();
    let deletion = api.delete(&agent_pool("mignode"), VERSION).await;
    let abort = format!("{}/abort", agent_pool("mignode"));
    let answer = post(&api, &abort, &Value::Null).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    api.settle().await;
    assert_eq!(
        api.follow(&poll(&deletion)).await.json["status"],
        "Canceled"
    );
    assert_eq!(properties(&api).await["provisioningState"], "Canceled");
    assert_eq!(nodes(&api).len(), 1);
}

#[tokio::test]
async fn aborting_what_a_cluster_does_leaves_its_pools_as_they_are() {
    let api = Api::new();
    api.put(
        &group(),
        "2024-11-01",
        &json!({"location": "southcentralus"}),
    )
    .await;
    api.backend.hold_nodes();
    let body = crate::common::the_articles_cluster();
    let creation = api.put(&cluster(), VERSION, &body).await;
    api.settle().await;
    let abort = format!("{}/abort", cluster());
    let answer = post(&api, &abort, &Value::Null).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    api.backend.advance_all();
    api.settle().await;
    assert_eq!(
        api.follow(&poll(&creation)).await.json["status"],
        "Canceled"
    );
    let shown = api.get(&cluster(), VERSION).await.json;
    assert_eq!(shown["properties"]["provisioningState"], "Canceled");
    assert_eq!(
        shown["properties"]["agentPoolProfiles"][0]["provisioningState"],
        "Canceled"
    );
    assert_eq!(
        post(&api, &abort, &Value::Null).await.status,
        StatusCode::CONFLICT
    );

    let again = api.put(&cluster(), VERSION, &body).await;
    assert_eq!(again.status, StatusCode::OK);
    api.settle().await;
    assert_eq!(api.follow(&poll(&again)).await.json["status"], "Succeeded");
}

#[tokio::test]
async fn a_stop_that_was_aborted_can_be_asked_for_again_and_be_taken_back() {
    let api = with_nodes(2).await;
    api.backend.hold_nodes();
    let turn = |what: &str| format!("{}/{what}", cluster());
    for again in ["stop", "start"] {
        let stopping = post(&api, &turn("stop"), &Value::Null).await;
        assert_eq!(stopping.status, StatusCode::ACCEPTED, "{stopping:?}");
        let abort = post(&api, &turn("abort"), &Value::Null).await;
        assert_eq!(abort.status, StatusCode::ACCEPTED, "{abort:?}");
        api.settle().await;
        assert_eq!(
            api.follow(&poll(&stopping)).await.json["status"],
            "Canceled"
        );
        let shown = properties(&api).await;
        assert_eq!(shown["provisioningState"], "Canceled");
        assert_eq!(nodes(&api).len(), 2);

        let turned = post(&api, &turn(again), &Value::Null).await;
        assert_eq!(turned.status, StatusCode::ACCEPTED, "{turned:?}");
        api.settle().await;
        api.backend.advance_all();
        api.settle().await;
        assert_eq!(api.follow(&poll(&turned)).await.json["status"], "Succeeded");
        let left = if again == "stop" { 0 } else { 2 };
        assert_eq!(nodes(&api).len(), left);

        let started = post(&api, &turn("start"), &Value::Null).await;
        assert!(started.status.is_success(), "{started:?}");
        api.settle().await;
        api.backend.advance_all();
        api.settle().await;
        assert_eq!(nodes(&api).len(), 2);
    }
}

#[tokio::test]
async fn machines_are_the_nodes_of_the_pool_and_of_no_other() {
    let api = with_nodes(2).await;
    let machines = format!("{}/machines", agent_pool("mignode"));
    let answer = api.get(&machines, VERSION).await;
    assert_eq!(answer.status, StatusCode::OK);
    let listed = answer.json["value"].as_array().unwrap();
    let names: Vec<&str> = listed
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    let expected = nodes(&api);
    assert_eq!(
        names,
        expected.iter().map(NodeName::as_str).collect::<Vec<_>>()
    );
    assert_eq!(
        listed[0]["type"],
        "Microsoft.ContainerService/managedClusters/agentPools/machines"
    );
    assert!(listed[0]["properties"]["network"]["ipAddresses"].is_array());
    let resource = listed[0]["properties"]["resourceId"].as_str().unwrap();
    assert_eq!(api.get(resource, VERSION).await.status, StatusCode::OK);

    let one = api.get(&format!("{machines}/{}", names[1]), VERSION).await;
    assert_eq!(one.json, listed[1]);
    let none = api.get(&format!("{machines}/aks-other"), VERSION).await;
    assert_eq!(
        (none.status, none.code()),
        (StatusCode::NOT_FOUND, "ResourceNotFound")
    );
    let none = api
        .get(&format!("{}/machines", agent_pool("other")), VERSION)
        .await;
    assert_eq!(
        (none.status, none.code()),
        (StatusCode::NOT_FOUND, "NotFound")
    );
}

#[tokio::test]
async fn the_machines_that_are_named_go_and_the_count_goes_down_by_as_many() {
    let api = with_nodes(4).await;
    api.backend.hold_nodes();
    let before = nodes(&api);
    let delete = format!("{}/deleteMachines", agent_pool("mignode"));
    let names = json!({"machineNames": [before[0].as_str(), before[2].as_str().to_uppercase()]});
    let answer = post(&api, &delete, &names).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    assert!(answer.header("location").is_some());
    assert_eq!(properties(&api).await["count"], 2);
    api.settle().await;
    assert_eq!(
        api.follow(&poll(&answer)).await.json["status"],
        "InProgress"
    );
    // They are on their way out already.
    let twice = post(&api, &delete, &names).await;
    assert_eq!(twice.status, StatusCode::BAD_REQUEST);

    api.backend.advance_all();
    api.settle().await;
    assert_eq!(api.follow(&poll(&answer)).await.json["status"], "Succeeded");
    assert_eq!(nodes(&api), [before[1].clone(), before[3].clone()]);
}

#[tokio::test]
async fn machines_that_are_not_there_or_not_to_spare_are_refused_whole() {
    let api = with_nodes(2).await;
    let before = nodes(&api);
    let delete = format!("{}/deleteMachines", agent_pool("mignode"));
    for (names, why) in [
        (
            json!([before[0].as_str(), "aks-other"]),
            "no machine 'aks-other'",
        ),
        (json!([]), "machineNames is required"),
    ] {
        let answer = post(&api, &delete, &json!({"machineNames": names})).await;
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::BAD_REQUEST, "InvalidParameter")
        );
        assert!(answer.message().contains(why), "{answer:?}");
    }
    let mut system = api.backend.node_names();
    system.retain(|name| name.as_str().contains("nodepool1"));
    let last = json!({"machineNames": [system[0].as_str()]});
    let path = format!("{}/deleteMachines", agent_pool("nodepool1"));
    let answer = post(&api, &path, &last).await;
    assert!(
        answer.message().contains("at least 1 must be left"),
        "{answer:?}"
    );
    api.settle().await;
    assert_eq!(nodes(&api), before);
}

#[tokio::test]
async fn the_only_version_is_what_nodes_run_and_can_be_upgraded_to() {
    let api = with_nodes(1).await;
    let pool = agent_pool("mignode");
    let shown = properties(&api).await;
    let version = shown["currentOrchestratorVersion"].as_str().unwrap();
    assert_eq!(shown["orchestratorVersion"], version);

    let path = format!("{pool}/upgradeProfiles/default");
    let profile = api.get(&path, VERSION).await.json;
    assert_eq!(profile["name"], "default");
    let profile = &profile["properties"];
    assert_eq!(profile["kubernetesVersion"], version);
    assert_eq!(profile["osType"], "Linux");
    assert_eq!(profile["upgrades"], json!([]));
    assert_eq!(profile["recentlyUsedVersions"], json!([]));
    assert_eq!(profile["latestNodeImageVersion"], shown["nodeImageVersion"]);
    let path = format!("{}/availableAgentPoolVersions", cluster());
    let available = api.get(&path, VERSION).await.json;
    assert_eq!(
        available["properties"]["agentPoolVersions"],
        json!([{"default": true, "kubernetesVersion": version, "isPreview": false}])
    );

    let minor = version.rsplit_once('.').unwrap().0;
    for same in [version, minor, ""] {
        let mut body = api.get(&pool, VERSION).await.json;
        body["properties"]["orchestratorVersion"] = json!(same);
        let answer = api.put(&pool, VERSION, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(answer.json["properties"]["orchestratorVersion"], version);
    }
    let mut body = api.get(&pool, VERSION).await.json;
    body["properties"]["orchestratorVersion"] = json!("1.99.0");
    let answer = api.put(&pool, VERSION, &body).await;
    assert_eq!(
        answer.json["target"],
        "agentPoolProfile.orchestratorVersion"
    );

    let image = post(
        &api,
        &format!("{pool}/upgradeNodeImageVersion"),
        &Value::Null,
    )
    .await;
    assert_eq!(image.status, StatusCode::ACCEPTED, "{image:?}");
    assert_eq!(image.json["properties"]["provisioningState"], "Updating");
    api.settle().await;
    assert_eq!(api.follow(&poll(&image)).await.json["status"], "Succeeded");
}

#[tokio::test]
async fn there_are_no_snapshots_and_none_can_be_made() {
    let api = Api::with_cluster().await;
    let snapshots = format!("{}/providers/Microsoft.ContainerService/snapshots", group());
    let all = snapshots.replace("/resourcegroups/myResourceGroup", "");
    for list in [&snapshots, &all] {
        let answer = api.get(list, VERSION).await;
        assert_eq!(
            (answer.status, &answer.json),
            (StatusCode::OK, &json!({"value": []}))
        );
    }
    let one = format!("{snapshots}/mine");
    let answer = api.get(&one, VERSION).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::NOT_FOUND, "ResourceNotFound")
    );
    let body = json!({"location": "southcentralus"});
    let answer = api.put(&one, VERSION, &body).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::BAD_REQUEST, "NotSupported")
    );
}

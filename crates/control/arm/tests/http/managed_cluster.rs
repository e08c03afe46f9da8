//! Clusters beside their making and deletion: tags, power, versions, what is kept and what is refused.

use crate::common::{
    Answer, Api, SUBSCRIPTION, VERSION, agent_pool, cluster, group, the_articles_cluster,
};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use rstest::rstest;
use serde_json::{Value, json};

async fn post(api: &Api, action: &str, headers: &[(&str, &str)]) -> Answer {
    let uri = format!("{}/{action}?api-version={VERSION}", cluster());
    api.send(Method::POST, &uri, headers, Body::empty()).await
}

async fn patch(api: &Api, body: &Value, headers: &[(&str, &str)]) -> Answer {
    let uri = format!("{}?api-version={VERSION}", cluster());
    api.send(Method::PATCH, &uri, headers, body.to_string())
        .await
}

async fn shown(api: &Api) -> Value {
    api.get(&cluster(), VERSION).await.json
}

#[tokio::test]
async fn a_patch_replaces_the_tags_and_touches_nothing_else() {
    let api = Api::with_pool().await;
    let before = shown(&api).await;
    let answer = patch(&api, &json!({"tags": {"team": "a"}}), &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json["tags"], json!({"team": "a"}));
    assert_eq!(answer.header("azure-asyncoperation"), None);
    let mut after = shown(&api).await;
    assert_eq!(after["properties"]["provisioningState"], "Succeeded");
    for field in ["tags", "eTag"] {
        after[field] = before[field].clone();
    }
    assert_eq!(after, before);
    let etag = answer.json["eTag"].as_str().unwrap();
    let same = patch(&api, &json!({"tags": {"team": "a"}}), &[("if-match", etag)]).await;
    assert_eq!(same.json["eTag"], etag);
    let stale = patch(&api, &json!({"tags": {}}), &[("if-match", "\"0\"")]).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    let more = patch(&api, &json!({"tags": {}, "properties": {}}), &[]).await;
    assert_eq!(
        (more.status, more.code()),
        (StatusCode::BAD_REQUEST, "UnmarshalError")
    );
}

#[tokio::test]
async fn a_stopped_cluster_has_no_nodes_and_keeps_its_pools_until_it_is_started() {
    let api = Api::with_pool().await;
    assert_eq!(api.backend.node_names().len(), 2);
    let stop = post(&api, "stop", &[]).await;
    assert_eq!(stop.status, StatusCode::ACCEPTED);
    let poll = stop.header("azure-asyncoperation").unwrap().to_owned();
    let location = stop.header("location").unwrap().to_owned();
    assert_eq!(api.follow(&poll).await.json["status"], "InProgress");
    assert_eq!(
        shown(&api).await["properties"]["provisioningState"],
        "Stopping"
    );
    let again = post(&api, "stop", &[]).await;
    assert_eq!(again.header("azure-asyncoperation"), Some(poll.as_str()));
    api.settle().await;
    assert_eq!(api.follow(&poll).await.json["status"], "Succeeded");
    assert!(api.follow(&location).await.status.is_success());
    assert!(api.backend.node_names().is_empty());
    let stopped = shown(&api).await;
    assert_eq!(
        stopped["properties"]["powerState"],
        json!({"code": "Stopped"})
    );
    let pool = api.get(&agent_pool("mignode"), VERSION).await.json;
    assert_eq!(pool["properties"]["count"], 1);
    assert_eq!(post(&api, "stop", &[]).await.status, StatusCode::NO_CONTENT);
    let same = api.put(&cluster(), VERSION, &stopped).await;
    assert_eq!((same.status, &same.json), (StatusCode::OK, &stopped));
    let mut scaled = stopped.clone();
    scaled["properties"]["agentPoolProfiles"][0]["count"] = json!(2);
    let refused = api.put(&cluster(), VERSION, &scaled).await;
    assert_eq!(
        (refused.status, refused.code()),
        (StatusCode::CONFLICT, "OperationNotAllowed")
    );

    let start = post(&api, "start", &[]).await;
    assert_eq!(start.status, StatusCode::ACCEPTED);
    let poll = start.header("azure-asyncoperation").unwrap().to_owned();
    api.settle().await;
    assert_eq!(api.follow(&poll).await.json["status"], "Succeeded");
    assert_eq!(api.backend.node_names().len(), 2);
    assert_eq!(
        shown(&api).await["properties"]["powerState"],
        json!({"code": "Running"})
    );
}

#[tokio::test]
async fn starting_while_it_stops_takes_the_stops_place() {
    let api = Api::with_pool().await;
    api.backend.hold_nodes();
    let stop = post(&api, "stop", &[]).await;
    let poll = stop.header("azure-asyncoperation").unwrap().to_owned();
    api.settle().await;
    let start = post(&api, "start", &[]).await;
    assert_eq!(start.status, StatusCode::ACCEPTED);
    let canceled = api.follow(&poll).await;
    assert_eq!(canceled.json["status"], "Canceled");
    let poll = start.header("azure-asyncoperation").unwrap().to_owned();
    for _ in 0..4 {
        api.settle().await;
        api.backend.advance_all();
    }
    api.settle().await;
    assert_eq!(api.follow(&poll).await.json["status"], "Succeeded");
    assert_eq!(api.backend.node_names().len(), 2);
}

#[rstest]
#[case("runCommand", "kubectl")]
#[case("rotateClusterCertificates", "can't rotate them")]
#[case("rotateServiceAccountSigningKeys", "can't rotate them")]
#[case("resetServicePrincipalProfile", "Microsoft Entra ID")]
#[case("resetAADProfile", "Microsoft Entra ID")]
#[case(
    "accessProfiles/clusterUser/listCredential",
    "listClusterUserCredential"
)]
#[tokio::test]
async fn what_means_nothing_here_is_refused_with_what_to_do_instead(
    #[case] action: &str,
    #[case] told: &str,
) {
    let api = Api::with_cluster().await;
    let answer = post(&api, action, &[]).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::BAD_REQUEST, "NotSupported")
    );
    assert!(answer.message().contains(told), "{answer:?}");
    let none = Api::new();
    let answer = post(&none, action, &[]).await;
    assert_eq!(answer.code(), "ResourceGroupNotFound");
}

#[tokio::test]
async fn there_is_one_version_of_kubernetes_and_no_upgrade() {
    let api = Api::with_pool().await;
    let shown = shown(&api).await;
    let version = shown["properties"]["currentKubernetesVersion"]
        .as_str()
        .unwrap();
    assert_eq!(shown["properties"]["kubernetesVersion"], version);
    let upgrades = api
        .get(&format!("{}/upgradeProfiles/default", cluster()), VERSION)
        .await;
    let properties = &upgrades.json["properties"];
    assert_eq!(
        properties["controlPlaneProfile"],
        json!({"kubernetesVersion": version, "osType": "Linux", "upgrades": []})
    );
    assert_eq!(properties["agentPoolProfiles"][0]["name"], "mignode");
    let versions = api
        .get(&format!("{SUBSCRIPTION}/providers/Microsoft.ContainerService/locations/southcentralus/kubernetesVersions"), VERSION)
        .await;
    let (minor, _) = version.rsplit_once('.').unwrap();
    let value = &versions.json["values"][0];
    assert_eq!(value["version"], minor);
    assert_eq!(value["patchVersions"], json!({version: {"upgrades": []}}));
    let mut body = shown.clone();
    body["properties"]["kubernetesVersion"] = json!("1.20.1");
    let other = api.put(&cluster(), VERSION, &body).await;
    assert_eq!(
        (other.status, other.code()),
        (StatusCode::BAD_REQUEST, "InvalidParameter")
    );
    assert!(other.message().contains(version), "{other:?}");
}

#[tokio::test]
async fn what_clients_read_of_a_cluster_is_there_and_what_was_sent_comes_back() {
    let api = Api::new();
    api.put(
        &group(),
        "2024-11-01",
        &json!({"location": "southcentralus"}),
    )
    .await;
    let mut body = the_articles_cluster();
    body["properties"]["NetworkProfile"] = json!({"loadBalancerSku": "standard"});
    body["properties"]["servicePrincipalProfile"] = json!({"clientId": "a", "secret": "hidden"});
    body["properties"]["windowsProfile"] = json!({"adminUsername": "a", "adminPassword": "hidden"});
    body["sku"] = json!({"name": "Base", "tier": "Standard"});
    let answer = api.put(&cluster(), VERSION, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    assert!(!answer.text.contains("hidden"), "{answer:?}");
    let properties = &answer.json["properties"];
    for (field, value) in [
        ("dnsPrefix", json!("myAKSClust-myResourceGroup-000000")),
        ("enableRBAC", json!(true)),
        ("maxAgentPools", json!(100)),
        ("networkProfile", json!({"loadBalancerSku": "standard"})),
        (
            "nodeResourceGroup",
            json!("MC_myResourceGroup_myAKSCluster_southcentralus"),
        ),
        ("powerState", json!({"code": "Running"})),
        ("servicePrincipalProfile", json!({"clientId": "a"})),
        ("supportPlan", json!("KubernetesOfficial")),
        ("windowsProfile", json!({"adminUsername": "a"})),
    ] {
        assert_eq!(properties[field], value, "{field}");
    }
    assert_eq!(answer.json["sku"]["tier"], "Standard");
    assert_eq!(answer.json["identity"], json!({"type": "SystemAssigned"}));
    api.settle().await;
    let shown = shown(&api).await;
    let mut without = shown.clone();
    for field in ["dnsPrefix", "nodeResourceGroup"] {
        without["properties"].as_object_mut().unwrap().remove(field);
    }
    let same = api.put(&cluster(), VERSION, &without).await;
    assert_eq!((same.status, &same.json), (StatusCode::OK, &shown));
    without["properties"]["dnsPrefix"] = json!("another");
    let changed = api.put(&cluster(), VERSION, &without).await;
    assert_eq!(changed.code(), "PropertyChangeNotAllowed");
}

#[tokio::test]
async fn unknown_fields_of_a_cluster_are_ignored_before_2024_and_refused_from_then_on() {
    let api = Api::with_cluster().await;
    for place in ["/properties", ""] {
        let mut body = shown(&api).await;
        body.pointer_mut(place).unwrap()["enableRBACs"] = json!(true);
        let old = api.put(&cluster(), "2023-11-01", &body).await;
        assert_eq!(old.status, StatusCode::OK, "{old:?}");
        assert!(!old.text.contains("enableRBACs"));
        let new = api.put(&cluster(), "2024-01-01", &body).await;
        assert_eq!(
            (new.status, new.code()),
            (StatusCode::BAD_REQUEST, "UnmarshalError")
        );
    }
}

#[tokio::test]
async fn a_cluster_that_failed_is_tried_again_by_putting_it_back() {
    let api = Api::with_pool().await;
    api.backend.hold_nodes();
    let mut body = shown(&api).await;
    body["properties"]["agentPoolProfiles"][0]["count"] = json!(2);
    api.put(&cluster(), VERSION, &body).await;
    api.settle().await;
    let names = api.backend.node_names();
    for name in &names {
        api.backend.change_node(name, |node| {
            node.phase = pool::NodePhase::Failed;
            node.message = "GPU 3 could not be partitioned".into();
        });
    }
    api.settle().await;
    let failed = shown(&api).await;
    assert_eq!(failed["properties"]["provisioningState"], "Failed");
    let again = api.put(&cluster(), VERSION, &failed).await;
    assert_eq!(again.json["properties"]["provisioningState"], "Updating");
}

#[tokio::test]
async fn the_last_system_pool_stays_one_also_by_the_clusters_body() {
    let api = Api::with_pool().await;
    let before = shown(&api).await;
    let mut body = before.clone();
    for pool in body["properties"]["agentPoolProfiles"]
        .as_array_mut()
        .unwrap()
    {
        pool["mode"] = json!("User");
    }
    let answer = api.put(&cluster(), VERSION, &body).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::BAD_REQUEST, "InvalidParameter")
    );
    assert_eq!(shown(&api).await, before);
}

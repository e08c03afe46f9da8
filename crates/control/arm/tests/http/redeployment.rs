//! Templates of what is there already: what would be refused is, before anything is changed.

use crate::common::{Api, VERSION, agent_pool, cluster, the_articles_cluster};
use crate::deployment::{DEPLOYMENTS, body, deployment, post};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use rstest::rstest;
use serde_json::{Value, json};

fn another_cluster() -> String {
    cluster().replace("myAKSCluster", "another")
}

/// The group, and two clusters that are there.
async fn with_two_clusters() -> Api {
    let api = Api::with_cluster().await;
    let body = the_articles_cluster();
    api.put(&another_cluster(), VERSION, &body).await;
    api.settle().await;
    api
}

fn a_pool(name: &str, mode: &str) -> Value {
    json!({
        "type": "Microsoft.ContainerService/managedClusters/agentPools",
        "apiVersion": "2024-09-01",
        "name": name,
        "properties": {"count": 1, "vmSize": "Standard_ND96asr_v4", "mode": mode},
    })
}

/// The article's cluster, as it is, save for `field`.
fn the_cluster_but(field: &str, value: Value) -> Value {
    let mut resource = the_articles_cluster();
    resource["type"] = json!("Microsoft.ContainerService/managedClusters");
    resource["apiVersion"] = json!("2024-02-01");
    resource["name"] = json!("myAKSCluster");
    *resource.pointer_mut(field).unwrap() = value;
    resource
}

/// The last system pool, which would be none any more.
fn the_system_pool() -> Value {
    let mut pool = a_pool("myAKSCluster/nodepool1", "User");
    pool["properties"]["vmSize"] = json!("");
    pool
}

#[rstest]
#[case(the_cluster_but("/location", json!("westeurope")), "InvalidResourceLocation")]
#[case(the_cluster_but("/properties/dnsPrefix", json!("other")), "PropertyChangeNotAllowed")]
#[case(the_cluster_but("/properties/agentPoolProfiles/0/mode", json!("User")), "InvalidParameter")]
#[case(the_cluster_but("/properties/agentPoolProfiles/0/vmSize", json!("Standard_ND96asr_v4")), "PropertyChangeNotAllowed")]
#[case(the_system_pool(), "InvalidParameter")]
#[tokio::test]
async fn a_change_of_what_is_there_that_would_be_refused_stops_all_before_anything_is_made(
    #[case] changed: Value,
    #[case] code: &str,
) {
    let api = with_two_clusters().await;
    let template = json!({"resources": [a_pool("another/fine", "User"), changed]});
    let body = body(&template, &json!({}));
    for answer in [
        post(&api, "validate", &body).await,
        api.put(&deployment("dep"), DEPLOYMENTS, &body).await,
    ] {
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::BAD_REQUEST, "InvalidTemplateDeployment"),
            "{answer:?}"
        );
        let inner = &answer.json["error"]["details"][0];
        assert_eq!(inner["code"], code, "{answer:?}");
    }
    api.settle().await;
    let pool = format!("{}/agentPools/fine", another_cluster());
    let pool = api.get(&pool, VERSION).await;
    assert_eq!(pool.status, StatusCode::NOT_FOUND, "{pool:?}");
}

#[tokio::test]
async fn nothing_is_deployed_beside_a_pool_of_a_stopped_cluster() {
    let api = with_two_clusters().await;
    let stop = format!("{}/stop?api-version={VERSION}", cluster());
    api.send(Method::POST, &stop, &[], Body::empty()).await;
    api.settle().await;
    let pools = [
        a_pool("another/fine", "User"),
        a_pool("myAKSCluster/pool", "User"),
    ];
    let body = body(&json!({ "resources": pools }), &json!({}));
    let answer = api.put(&deployment("dep"), DEPLOYMENTS, &body).await;
    assert_eq!(answer.code(), "InvalidTemplateDeployment", "{answer:?}");
    let inner = &answer.json["error"]["details"][0];
    assert_eq!(inner["code"], "OperationNotAllowed", "{answer:?}");
}

#[tokio::test]
async fn a_system_pool_may_make_room_for_another_of_the_same_template() {
    let api = Api::with_cluster().await;
    let mut leaving = the_system_pool();
    leaving["dependsOn"] = json!(["myAKSCluster/system"]);
    let pools = [leaving, a_pool("myAKSCluster/system", "System")];
    let body = body(&json!({ "resources": pools }), &json!({}));
    let answer = api.put(&deployment("dep"), DEPLOYMENTS, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    api.settle().await;
    let shown = api.get(&deployment("dep"), DEPLOYMENTS).await;
    assert_eq!(shown.json["properties"]["provisioningState"], "Succeeded");
    let pool = api.get(&agent_pool("nodepool1"), VERSION).await;
    assert_eq!(pool.json["properties"]["mode"], "User");
}

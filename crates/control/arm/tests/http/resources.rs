//! Resource groups, clusters, nodes, pods, and what is common to all requests.

use crate::common::{Api, SUBSCRIPTION, VERSION, agent_pool, cluster, group, the_articles_cluster};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use migpool_arm as arm;
use rstest::rstest;
use serde_json::{Value, json};

const GROUPS: &str = "2024-11-01";

#[tokio::test]
async fn a_group_is_made_with_201_changed_with_200_and_keeps_its_location() {
    let api = Api::new();
    let answer = api
        .put(
            &group(),
            GROUPS,
            &json!({"location": "South Central US", "tags": {"a": "b"}}),
        )
        .await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(
        answer.json,
        json!({
            "id": format!("{SUBSCRIPTION}/resourceGroups/myResourceGroup"),
            "name": "myResourceGroup",
            "type": "Microsoft.Resources/resourceGroups",
            "location": "southcentralus",
            "tags": {"a": "b"},
            "properties": {"provisioningState": "Succeeded"},
        })
    );
    let again = api
        .put(&group(), GROUPS, &json!({"location": "southcentralus"}))
        .await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(again.json["tags"], json!({}));
    let elsewhere = api
        .put(&group(), GROUPS, &json!({"location": "westeurope"}))
        .await;
    assert_eq!(
        (elsewhere.status, elsewhere.code()),
        (StatusCode::CONFLICT, "InvalidResourceGroupLocation")
    );
    let nowhere = api.put(&group(), GROUPS, &json!({})).await;
    assert_eq!(
        (nowhere.status, nowhere.code()),
        (StatusCode::BAD_REQUEST, "LocationRequired")
    );
    let list = api
        .get(&format!("{SUBSCRIPTION}/resourcegroups"), GROUPS)
        .await;
    assert_eq!(list.json["value"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn head_of_a_group_is_204_or_404_without_a_body() {
    let api = Api::with_cluster().await;
    let uri = |path: String| format!("{path}?api-version={GROUPS}");
    let there = api
        .send(Method::HEAD, &uri(group()), &[], Body::empty())
        .await;
    assert_eq!(
        (there.status, there.text.as_str()),
        (StatusCode::NO_CONTENT, "")
    );
    let absent = api
        .send(
            Method::HEAD,
            &uri(format!("{}x", group())),
            &[],
            Body::empty(),
        )
        .await;
    assert_eq!(
        (absent.status, absent.text.as_str()),
        (StatusCode::NOT_FOUND, "")
    );
}

#[tokio::test]
async fn a_groups_deletion_takes_everything_with_it_and_its_location_says_when() {
    let api = Api::with_pool().await;
    api.backend.hold_nodes();
    let answer = api.delete(&group(), GROUPS).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let location = answer.header("location").unwrap().to_owned();
    assert!(location.contains("/operationresults/"), "{location}");
    let put = api.put(&cluster(), VERSION, &the_articles_cluster()).await;
    assert_eq!(
        (put.status, put.code()),
        (StatusCode::CONFLICT, "ResourceGroupBeingDeleted")
    );
    api.settle().await;
    assert_eq!(api.follow(&location).await.status, StatusCode::ACCEPTED);
    assert_eq!(
        api.delete(&cluster(), VERSION).await.status,
        StatusCode::ACCEPTED
    );
    assert_eq!(
        api.delete(&agent_pool("nodepool1"), VERSION).await.status,
        StatusCode::ACCEPTED
    );
    api.backend.advance_all();
    api.settle().await;
    assert_eq!(api.follow(&location).await.status, StatusCode::OK);
    let gone = api.get(&group(), GROUPS).await;
    assert_eq!(
        (gone.status, gone.code()),
        (StatusCode::NOT_FOUND, "ResourceGroupNotFound")
    );
    let again = api.delete(&group(), GROUPS).await;
    assert_eq!(
        (again.status, again.code()),
        (StatusCode::NOT_FOUND, "ResourceGroupNotFound")
    );
    assert!(api.backend.node_names().is_empty());
}

#[tokio::test]
async fn the_articles_cluster_is_made_with_its_pools() {
    let api = Api::new();
    api.put(&group(), GROUPS, &json!({"location": "southcentralus"}))
        .await;
    assert_eq!(
        api.get(&cluster(), VERSION).await.code(),
        "ResourceNotFound"
    );
    let answer = api.put(&cluster(), VERSION, &the_articles_cluster()).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(
        answer.json["type"],
        "Microsoft.ContainerService/ManagedClusters"
    );
    assert_eq!(answer.json["properties"]["provisioningState"], "Creating");
    assert_eq!(answer.json["identity"]["type"], "SystemAssigned");
    let profile = &answer.json["properties"]["agentPoolProfiles"][0];
    assert_eq!(
        (&profile["name"], &profile["vmSize"]),
        (&json!("nodepool1"), &json!("Standard_DS2_v2"))
    );
    let poll = answer.header("azure-asyncoperation").unwrap().to_owned();
    assert_eq!(api.follow(&poll).await.json["status"], "InProgress");
    api.settle().await;
    assert_eq!(api.follow(&poll).await.json["status"], "Succeeded");
    let cluster = api.get(&cluster(), VERSION).await;
    assert_eq!(cluster.json["properties"]["provisioningState"], "Succeeded");
    assert_eq!(
        cluster.json["properties"]["agentPoolProfiles"][0]["provisioningState"],
        "Succeeded"
    );
    for list in [
        format!("{SUBSCRIPTION}/providers/Microsoft.ContainerService/managedClusters"),
        format!(
            "{}/providers/Microsoft.ContainerService/managedClusters",
            group()
        ),
    ] {
        let list = api.get(&list, VERSION).await;
        assert_eq!(list.json["value"], json!([cluster.json]));
    }
}

#[tokio::test]
async fn a_clusters_whole_body_can_be_put_back_and_scale_a_pool() {
    let api = Api::with_pool().await;
    let mut body = api.get(&cluster(), VERSION).await.json;
    let same = api.put(&cluster(), VERSION, &body).await;
    assert_eq!((same.status, &same.json), (StatusCode::OK, &body));
    let profiles = body["properties"]["agentPoolProfiles"]
        .as_array_mut()
        .unwrap();
    profiles
        .iter_mut()
        .find(|pool| pool["name"] == "mignode")
        .unwrap()["count"] = json!(2);
    let answer = api.put(&cluster(), VERSION, &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.json["properties"]["provisioningState"], "Updating");
    api.settle().await;
    let pool = api.get(&agent_pool("mignode"), VERSION).await;
    assert_eq!(
        (
            &pool.json["properties"]["count"],
            &pool.json["properties"]["provisioningState"]
        ),
        (&json!(2), &json!("Succeeded"))
    );
}

#[rstest]
#[case(json!({"location": "southcentralus"}), "InvalidParameter")]
#[case(json!({"properties": {}}), "LocationRequired")]
#[case(json!({"location": "southcentralus", "properties": {"agentPoolProfiles": [{"name": "a", "mode": "User"}]}}), "InvalidParameter")]
#[case(json!({"location": "southcentralus", "properties": {"agentPoolProfiles": [{"name": "Bad Name"}]}}), "InvalidParameter")]
#[case(json!({"location": "southcentralus", "properties": {"agentPoolProfiles": [{"name": "a"}, {"name": "a"}]}}), "InvalidParameter")]
#[case(json!({"location": "southcentralus", "properties": {"agentPoolProfiles": {"name": "a"}}}), "UnmarshalError")]
#[case(json!({"location": "over/there", "properties": {}}), "LocationNotAvailableForResourceGroup")]
#[tokio::test]
async fn a_cluster_that_makes_no_sense_is_refused_and_not_stored(
    #[case] body: Value,
    #[case] code: &str,
) {
    let api = Api::new();
    api.put(&group(), GROUPS, &json!({"location": "southcentralus"}))
        .await;
    let answer = api.put(&cluster(), VERSION, &body).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::BAD_REQUEST, code),
        "{answer:?}"
    );
    assert_eq!(
        api.get(&cluster(), VERSION).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_cluster_is_deleted_with_202_and_then_204() {
    let api = Api::with_pool().await;
    let answer = api.delete(&cluster(), VERSION).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    assert!(answer.header("location").is_some());
    let poll = answer.header("azure-asyncoperation").unwrap().to_owned();
    api.settle().await;
    assert_eq!(api.follow(&poll).await.json["status"], "Succeeded");
    assert!(api.backend.node_names().is_empty());
    assert_eq!(
        api.delete(&cluster(), VERSION).await.status,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn nodes_are_listed_with_what_is_seen_of_them() {
    let api = Api::with_pool().await;
    let nodes = format!("{}/providers/Migpool.Local/nodes", cluster());
    let list = api.get(&nodes, VERSION).await;
    let list = list.json["value"].as_array().unwrap();
    assert_eq!(list.len(), 2);
    let node = list
        .iter()
        .find(|node| node["name"].as_str().unwrap().contains("mignode"))
        .unwrap();
    assert_eq!(node["properties"]["allocatable"]["nvidia.com/gpu"], 56);
    let one = api
        .get(
            &format!("{nodes}/{}", node["name"].as_str().unwrap()),
            VERSION,
        )
        .await;
    assert_eq!(one.json, *node);
    let node: arm::types::Node = serde_json::from_value(one.json).unwrap();
    assert!(node.properties.ready);
    let absent = api.get(&format!("{nodes}/nothere"), VERSION).await;
    assert_eq!(
        (absent.status, absent.code()),
        (StatusCode::NOT_FOUND, "ResourceNotFound")
    );
}

#[tokio::test]
async fn pods_are_run_shown_read_and_ended() {
    let api = Api::with_pool().await;
    let pods = format!("{}/providers/Migpool.Local/pods", cluster());
    let pod = format!("{pods}/nvidia-single");
    let body = json!({"manifest": "{\"kind\": \"Pod\"}"});
    let absent = api.get(&pod, VERSION).await;
    assert_eq!(
        (absent.status, absent.code()),
        (StatusCode::NOT_FOUND, "ResourceNotFound")
    );
    assert_eq!(
        api.put(&pod, VERSION, &body).await.status,
        StatusCode::CREATED
    );
    assert_eq!(api.put(&pod, VERSION, &body).await.status, StatusCode::OK);
    let other = api.put(&pod, VERSION, &json!({"manifest": "{}"})).await;
    assert_eq!(
        (other.status, other.code()),
        (StatusCode::CONFLICT, "Conflict")
    );
    assert_eq!(
        api.get(&pods, VERSION).await.json["value"][0]["properties"]["phase"],
        "Running"
    );
    assert_eq!(
        api.get(&format!("{pod}/log"), VERSION).await.text,
        "{\"kind\": \"Pod\"}"
    );
    let uri = format!("{pod}/execEnvironment?api-version={VERSION}");
    let environment = api.send(Method::POST, &uri, &[], Body::empty()).await;
    assert_eq!(
        environment.json["properties"]["environment"]["HOSTNAME"],
        "nvidia-single"
    );
    assert_eq!(api.delete(&pod, VERSION).await.status, StatusCode::OK);
    assert_eq!(
        api.delete(&pod, VERSION).await.status,
        StatusCode::NO_CONTENT
    );
    let broken = api.put(&pod, VERSION, &json!({"manifest": "{"})).await;
    assert_eq!(broken.status, StatusCode::BAD_REQUEST);
    assert!(broken.message().contains("line 1 column"), "{broken:?}");
    let none = api.put(&pod, VERSION, &json!({})).await;
    assert_eq!(
        (none.status, none.code()),
        (StatusCode::BAD_REQUEST, "InvalidParameter")
    );
}

#[rstest]
#[case("", "line 1 column 0")]
#[case("{\"location\": \n  oops}", "line 2 column")]
#[case("[]", "line 1 column")]
#[tokio::test]
async fn broken_json_is_answered_with_line_and_column(
    #[case] body: &'static str,
    #[case] at: &str,
) {
    let api = Api::with_cluster().await;
    for path in [group(), cluster(), agent_pool("mignode")] {
        let version = if path == group() { GROUPS } else { VERSION };
        let uri = format!("{path}?api-version={version}");
        let answer = api.send(Method::PUT, &uri, &[], body).await;
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::BAD_REQUEST, "InvalidRequestContent")
        );
        assert!(answer.message().contains(at), "{answer:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let api = Api::with_cluster().await;
    let uri = format!("{}?api-version={VERSION}", cluster());
    let answer = api
        .send(Method::PUT, &uri, &[], vec![b' '; 4 * 1024 * 1024 + 1])
        .await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::PAYLOAD_TOO_LARGE, "RequestContentTooLarge")
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_are_errors_in_arms_shape() {
    let api = Api::with_cluster().await;
    let answer = api.get("/subscriptions/x/nothing", VERSION).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::NOT_FOUND, "InvalidResourceType")
    );
    let uri = format!("{}?api-version={VERSION}", cluster());
    let answer = api.send(Method::POST, &uri, &[], Body::empty()).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::METHOD_NOT_ALLOWED, "HttpMethodNotAllowed")
    );
    let answer = api
        .get(&format!("{}/agentPools/%FF", cluster()), VERSION)
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.json["error"]["code"].is_string());
}

#[tokio::test]
async fn every_answer_has_a_request_id_and_the_clients_correlation_id() {
    let api = Api::with_cluster().await;
    let uri = format!("{}?api-version={VERSION}", cluster());
    let id = "8ecadfc9-d1a3-4ea4-b844-0d9f87e4d7c8";
    let answer = api
        .send(
            Method::GET,
            &uri,
            &[("x-ms-correlation-request-id", id)],
            Body::empty(),
        )
        .await;
    assert_eq!(answer.header("x-ms-correlation-request-id"), Some(id));
    let request = answer.header("x-ms-request-id").unwrap().to_owned();
    let error = api.get("/nothing", VERSION).await;
    assert_ne!(error.header("x-ms-request-id").unwrap(), request);
}

#[tokio::test]
async fn a_host_that_is_none_does_not_get_into_urls() {
    let api = Api::with_cluster().await;
    let uri = format!("{}?api-version={VERSION}", cluster());
    for host in ["evil.example/path", "a b", "x@y/z?q"] {
        let request = axum::http::Request::builder()
            .method(Method::DELETE)
            .uri(&uri)
            .header("host", host);
        let answer = api.send_request(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{host}");
    }
    assert_eq!(
        api.get(&cluster(), VERSION).await.json["properties"]["provisioningState"],
        "Succeeded"
    );
}

#[tokio::test]
async fn an_operation_that_is_not_there_is_not_found() {
    let api = Api::new();
    let path =
        format!("{SUBSCRIPTION}/providers/Microsoft.ContainerService/locations/here/operations");
    let absent = api
        .get(
            &format!("{path}/8ecadfc9-d1a3-4ea4-b844-0d9f87e4d7c8"),
            "2017-08-31",
        )
        .await;
    assert_eq!(
        (absent.status, absent.code()),
        (StatusCode::NOT_FOUND, "ResourceNotFound")
    );
    let none = api.get(&format!("{path}/seven"), "2017-08-31").await;
    assert_eq!(
        (none.status, none.code()),
        (StatusCode::BAD_REQUEST, "InvalidOperationId")
    );
}

//! Groups beside their making and deletion: tags, filters, and what is in them.

use crate::common::{Api, SUBSCRIPTION, VERSION, cluster, group};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use rstest::rstest;
use serde_json::{Value, json};

const GROUPS: &str = "2024-11-01";

fn names(list: &Value) -> Vec<&str> {
    let value = list["value"].as_array().unwrap();
    value
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_patch_replaces_a_groups_tags_if_it_has_any() {
    let api = Api::with_cluster().await;
    let uri = format!("{}?api-version={GROUPS}", group());
    for (body, tags) in [
        (json!({"tags": {"a": "b"}}), json!({"a": "b"})),
        (json!({}), json!({"a": "b"})),
        (json!({"tags": {}}), json!({})),
    ] {
        let answer = api.send(Method::PATCH, &uri, &[], body.to_string()).await;
        assert_eq!(
            (answer.status, &answer.json["tags"]),
            (StatusCode::OK, &tags)
        );
    }
    let absent = format!("{}x?api-version={GROUPS}", group());
    let answer = api.send(Method::PATCH, &absent, &[], "{}").await;
    assert_eq!(answer.code(), "ResourceGroupNotFound");
}

#[tokio::test]
async fn groups_are_listed_by_tag() {
    let api = Api::new();
    for (name, tags) in [
        ("one", json!({"team": "a"})),
        ("two", json!({"team": "b"})),
        ("three", json!({})),
    ] {
        let path = format!("{SUBSCRIPTION}/resourcegroups/{name}");
        let body = json!({"location": "southcentralus", "tags": tags});
        api.put(&path, GROUPS, &body).await;
    }
    let list = async |filter: &str| {
        let uri = format!(
            "{SUBSCRIPTION}/resourcegroups?api-version={GROUPS}&$filter={}",
            filter.replace(' ', "%20")
        );
        api.send(Method::GET, &uri, &[], Body::empty()).await
    };
    let both = list("tagName eq 'team'").await;
    assert_eq!(names(&both.json), ["one", "two"]);
    let one = list("tagname eq 'TEAM' and tagvalue eq 'b'").await;
    assert_eq!(names(&one.json), ["two"]);
    for unknown in ["location eq 'x'", "tagName startswith 't'"] {
        let refused = list(unknown).await;
        assert_eq!(
            (refused.status, refused.code()),
            (StatusCode::BAD_REQUEST, "InvalidFilterInQueryString")
        );
    }
}

#[rstest]
#[case("", true)]
#[case(
    "&$filter=resourceType%20eq%20'Microsoft.ContainerService/managedClusters'",
    true
)]
#[case(
    "&$filter=resourceType%20eq%20'Microsoft.Storage/storageAccounts'",
    false
)]
#[case(
    "&$filter=resourceGroup%20eq%20'MYRESOURCEGROUP'%20and%20name%20eq%20'myAKSCluster'",
    true
)]
#[case("&$filter=location%20eq%20'westeurope'", false)]
#[tokio::test]
async fn what_is_in_a_group_and_in_the_subscription_is_listed(
    #[case] filter: &str,
    #[case] is_listed: bool,
) {
    let api = Api::with_pool().await;
    for path in [
        format!("{SUBSCRIPTION}/resources"),
        format!("{}/resources", group()),
    ] {
        let uri =
            format!("{path}?api-version={GROUPS}{filter}&$expand=createdTime,provisioningState");
        let answer = api.send(Method::GET, &uri, &[], Body::empty()).await;
        let expected: &[&str] = if is_listed { &["myAKSCluster"] } else { &[] };
        assert_eq!(names(&answer.json), expected, "{path}");
        if let Some(resource) = answer.json["value"].get(0) {
            assert_eq!(
                resource["type"],
                "Microsoft.ContainerService/managedClusters"
            );
            assert_eq!(resource["provisioningState"], "Succeeded");
            assert!(resource["createdTime"].is_string());
            let id = resource["id"].as_str().unwrap();
            assert_eq!(api.get(id, VERSION).await.status, StatusCode::OK);
            assert!(id.eq_ignore_ascii_case(&cluster()));
        }
    }
}

#[tokio::test]
async fn deletion_may_be_asked_to_be_forced_and_templates_are_not_written() {
    let api = Api::with_cluster().await;
    let uri = format!("{}/exportTemplate?api-version={GROUPS}", group());
    let answer = api.send(Method::POST, &uri, &[], "{}").await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::BAD_REQUEST, "NotSupported")
    );
    let uri = format!(
        "{}?forceDeletionTypes=Microsoft.Compute%2FvirtualMachines&api-version={GROUPS}",
        group()
    );
    let answer = api.send(Method::DELETE, &uri, &[], Body::empty()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
}

//! What depends on the api-version.

use crate::common::{Api, VERSION, agent_pool, cluster, group, the_articles_pool};
use axum::http::{Method, StatusCode};
use rstest::rstest;
use serde_json::json;

#[rstest]
#[case(Method::GET, agent_pool("mignode"))]
#[case(Method::PUT, agent_pool("mignode"))]
#[case(Method::DELETE, cluster())]
#[case(Method::GET, group())]
#[tokio::test]
async fn every_request_needs_an_api_version(#[case] method: Method, #[case] path: String) {
    let api = Api::with_cluster().await;
    for uri in [path.clone(), format!("{path}?api-version=")] {
        let answer = api.send(method.clone(), &uri, &[], "{}").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.json["error"]["code"], "MissingApiVersionParameter");
        assert_eq!(
            answer.json["error"]["message"],
            "The api-version query parameter (?api-version=) is required for all requests."
        );
    }
}

#[tokio::test]
async fn an_unknown_api_version_is_told_those_there_are() {
    let api = Api::with_cluster().await;
    let answer = api.get(&agent_pool("mignode"), "2021-08-02").await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::BAD_REQUEST, "NoRegisteredProviderFound")
    );
    assert!(
        answer
            .message()
            .contains("API version '2021-08-02' for type 'managedClusters'")
    );
    assert!(
        answer
            .message()
            .contains("The supported api-versions are '2017-08-31, ")
    );
    let answer = api.get(&group(), "2021-08-02").await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::BAD_REQUEST, "InvalidApiVersionParameter")
    );
}

#[tokio::test]
async fn a_version_before_2021_08_01_ignores_the_profile_and_says_so() {
    let api = Api::with_cluster().await;
    let answer = api
        .put(&agent_pool("mignode"), "2021-07-01", &the_articles_pool())
        .await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let warning = answer.header("x-ms-warning").unwrap();
    assert!(
        warning.contains("2021-07-01 does not know gpuInstanceProfile"),
        "{warning}"
    );
    assert!(
        answer
            .header("warning")
            .unwrap()
            .starts_with("299 migpool \"")
    );
    api.settle().await;
    let pool = api.get(&agent_pool("mignode"), VERSION).await;
    assert_eq!(pool.json["properties"].get("gpuInstanceProfile"), None);
    let answer = api
        .put(&agent_pool("withmig"), "2021-08-01", &the_articles_pool())
        .await;
    assert_eq!(answer.header("x-ms-warning"), None);
    assert_eq!(answer.json["properties"]["gpuInstanceProfile"], "MIG1g");
}

#[tokio::test]
async fn unknown_fields_are_ignored_before_2024_and_refused_from_then_on() {
    let api = Api::with_cluster().await;
    let mut body = the_articles_pool();
    body["properties"]["gpuInstanceProfil"] = json!("MIG1g");
    let old = api.put(&agent_pool("old"), "2023-11-01", &body).await;
    assert_eq!(old.status, StatusCode::CREATED);
    assert_eq!(old.json["properties"].get("gpuInstanceProfil"), None);
    let new = api.put(&agent_pool("new"), "2024-01-01", &body).await;
    assert_eq!(
        (new.status, new.code()),
        (StatusCode::BAD_REQUEST, "UnmarshalError")
    );
    assert_eq!(
        new.message(),
        "UnmarshalEntity encountered error: json: unknown field \"gpuInstanceProfil\""
    );
    let beside = json!({"properties": {}, "property": 1});
    let new = api.put(&agent_pool("new"), "2024-01-01", &beside).await;
    assert_eq!(new.code(), "UnmarshalError");
}

#[tokio::test]
async fn a_field_of_the_wrong_type_is_an_unmarshal_error_in_every_version() {
    let api = Api::with_cluster().await;
    for version in ["2021-08-01", VERSION] {
        for (field, value) in [
            ("count", json!("three")),
            ("count", json!(1.5)),
            ("vmSize", json!(7)),
            ("nodeLabels", json!(["a"])),
            ("nodeLabels", json!({"a": 1})),
            ("nodeTaints", json!("a=b:NoSchedule")),
            ("gpuProfile", json!({"nvidia": []})),
        ] {
            let mut body = the_articles_pool();
            body["properties"][field] = value;
            let answer = api.put(&agent_pool("mignode"), version, &body).await;
            assert_eq!(
                (answer.status, answer.code()),
                (StatusCode::BAD_REQUEST, "UnmarshalError"),
                "{field}"
            );
            assert!(answer.message().contains(field), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn names_of_fields_compare_without_case() {
    let api = Api::with_cluster().await;
    let body = json!({"Properties": {"Count": 1, "VMSize": "Standard_ND96asr_v4", "GPUInstanceProfile": "MIG7g"}});
    let answer = api.put(&agent_pool("mignode"), VERSION, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    assert_eq!(answer.json["properties"]["gpuInstanceProfile"], "MIG7g");
}

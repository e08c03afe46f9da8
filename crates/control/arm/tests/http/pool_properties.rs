//! The properties of agent pools that AKS has rules for.

use crate::common::{Api, VERSION, agent_pool, the_articles_pool};
use axum::http::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};

fn pool(properties: &Value) -> Value {
    let mut body = the_articles_pool();
    for (field, value) in properties.as_object().unwrap() {
        body["properties"][field] = value.clone();
    }
    body
}

#[tokio::test]
async fn the_autoscalers_bounds_are_kept_and_the_count_is_not_changed_by_hand() {
    let api = Api::with_cluster().await;
    let path = agent_pool("mignode");
    let body = pool(&json!({"enableAutoScaling": true, "minCount": 1, "maxCount": 3}));
    let answer = api.put(&path, VERSION, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    api.settle().await;
    let shown = api.get(&path, VERSION).await.json;
    assert_eq!(shown["properties"]["enableAutoScaling"], true);
    assert_eq!(shown["properties"]["minCount"], 1);
    assert_eq!(shown["properties"]["maxCount"], 3);
    assert_eq!(api.put(&path, VERSION, &shown).await.json, shown);

    let mut scaled = shown.clone();
    scaled["properties"]["count"] = json!(2);
    let answer = api.put(&path, VERSION, &scaled).await;
    assert_eq!(
        (answer.status, answer.json["target"].as_str()),
        (StatusCode::BAD_REQUEST, Some("agentPoolProfile.count"))
    );

    // What `az aks nodepool update --disable-cluster-autoscaler` does.
    let mut off = shown.clone();
    off["properties"]["enableAutoScaling"] = json!(false);
    off["properties"]["minCount"] = Value::Null;
    off["properties"]["maxCount"] = Value::Null;
    let answer = api.put(&path, VERSION, &off).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.json["properties"]["enableAutoScaling"], false);
    assert_eq!(answer.json["properties"].get("minCount"), None);
    off["properties"]["count"] = json!(2);
    let answer = api.put(&path, VERSION, &off).await;
    assert_eq!(answer.json["properties"]["provisioningState"], "Scaling");
}

#[rstest]
#[case(json!({"maxPods": 30}), json!({"maxPods": 50}), "properties.maxPods")]
#[case(json!({}), json!({"osDiskSizeGB": 256}), "properties.osDiskSizeGB")]
#[case(json!({"availabilityZones": ["1"]}), json!({"availabilityZones": ["2"]}), "properties.availabilityZones")]
#[case(json!({}), json!({"scaleSetPriority": "Spot"}), "properties.scaleSetPriority")]
#[case(json!({}), json!({"gpuProfile": {"driver": "None"}}), "properties.gpuProfile.driver")]
#[case(json!({"gpuProfile": {"driver": "None"}}), json!({"gpuProfile": {"driver": "Install"}}), "properties.gpuProfile.driver")]
#[tokio::test]
async fn what_aks_does_not_let_anybody_change_stays(
    #[case] first: Value,
    #[case] then: Value,
    #[case] target: &str,
) {
    let api = Api::with_cluster().await;
    let path = agent_pool("mignode");
    let answer = api.put(&path, VERSION, &pool(&first)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let answer = api.put(&path, VERSION, &pool(&then)).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::BAD_REQUEST, "PropertyChangeNotAllowed")
    );
    assert_eq!(answer.json["target"], target);
}

#[tokio::test]
async fn what_cannot_be_changed_need_not_be_repeated_and_its_case_does_not_matter() {
    let api = Api::with_cluster().await;
    let path = agent_pool("mignode");
    let first = json!({
        "maxPods": 30, "osDiskType": "Ephemeral", "availabilityZones": ["1"],
        "gpuProfile": {"driver": "none", "nvidia": {"managementMode": "managed"}},
    });
    let answer = api.put(&path, VERSION, &pool(&first)).await;
    let made = answer.json["properties"].clone();
    assert_eq!(made["gpuProfile"]["driver"], "None");
    assert_eq!(made["gpuProfile"]["nvidia"]["managementMode"], "Managed");
    api.settle().await;
    let again = json!({"osDiskType": "ephemeral", "scaleSetPriority": "Regular"});
    let answer = api.put(&path, VERSION, &pool(&again)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let again = &answer.json["properties"];
    for field in ["maxPods", "osDiskType", "availabilityZones", "gpuProfile"] {
        assert_eq!(again[field], made[field], "{field}");
    }
}

#[tokio::test]
async fn a_list_of_mig_profiles_comes_back_with_the_layout_that_it_means() {
    let api = Api::with_cluster().await;
    let path = agent_pool("mignode");
    let mut body = pool(&json!({"gpuProfile": {"nvidia": {
        "managementMode": "Managed", "migStrategy": "Mixed", "migProfiles": ["MIG3g", "MIG2g", "MIG1g", "MIG1g"],
    }}}));
    body["properties"]["gpuInstanceProfile"] = Value::Null;
    let version = "2026-07-02-preview";
    let answer = api.put(&path, version, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let made = &answer.json["properties"];
    assert_eq!(
        made["gpuProfile"]["nvidia"]["migProfiles"],
        json!(["MIG3g", "MIG2g", "MIG1g", "MIG1g"])
    );
    assert_eq!(made["layouts"], "3g.20gb,2g.10gb,1g.5gb*2");
    api.settle().await;
    let shown = api.get(&path, version).await.json;
    assert_eq!(shown["properties"]["provisioningState"], "Succeeded");
    assert_eq!(api.put(&path, version, &shown).await.json, shown);
}

#[rstest]
#[case("maxPods", json!("30"))]
#[case("availabilityZones", json!("1"))]
#[case("enableFIPS", json!("true"))]
#[case("upgradeSettings", json!([]))]
#[case("enableAutoScaling", json!("true"))]
#[case("minCount", json!("1"))]
#[case("powerState", json!("Stopped"))]
#[case("gpuProfile", json!({"driver": 1}))]
#[case("gpuProfile", json!({"nvidia": {"migProfiles": "MIG1g"}}))]
#[case("gpuProfile", json!({"amd": {}}))]
#[tokio::test]
async fn a_field_of_the_wrong_type_is_not_read(#[case] field: &str, #[case] value: Value) {
    let api = Api::with_cluster().await;
    let body = pool(&json!({ field: value }));
    let answer = api.put(&agent_pool("mignode"), VERSION, &body).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::BAD_REQUEST, "UnmarshalError")
    );
}

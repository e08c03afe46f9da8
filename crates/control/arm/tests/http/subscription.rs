//! Whose resources these are.

use crate::common::{Api, SUBSCRIPTION, VERSION};
use axum::http::{Method, StatusCode};
use rstest::rstest;
use serde_json::json;

const OTHER: &str = "/subscriptions/8ecadfc9-d1a3-4ea4-b844-0d9f87e4d7c8";

#[rstest]
#[case(format!("{OTHER}/resourcegroups"), "2024-11-01")]
#[case(format!("{OTHER}/resourceGroups/myResourceGroup"), "2024-11-01")]
#[case(format!("/Subscriptions{}/resourcegroups", &OTHER[14..]), "2024-11-01")]
#[case(format!("/subscriptions/%38{}/resourcegroups", &OTHER[16..]), "2024-11-01")]
#[case(format!("{OTHER}/providers/Microsoft.ContainerService/managedClusters"), VERSION)]
#[tokio::test]
async fn a_subscription_that_is_not_the_accounts_has_nothing(
    #[case] path: String,
    #[case] version: &str,
) {
    let api = Api::with_cluster().await;
    let answer = api.get(&path, version).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::NOT_FOUND, "SubscriptionNotFound")
    );
    assert_eq!(
        answer.message(),
        "The subscription '8ecadfc9-d1a3-4ea4-b844-0d9f87e4d7c8' could not be found."
    );
}

#[tokio::test]
async fn the_account_is_told_with_its_tenant_and_regions() {
    let api = Api::new();
    let list = api.get("/subscriptions", "2022-12-01").await;
    let subscription = &list.json["value"][0];
    assert_eq!(subscription["id"], SUBSCRIPTION);
    assert_eq!(subscription["state"], "Enabled");
    let tenant = &subscription["tenantId"];
    assert_eq!(tenant, "00000000-0000-0000-0000-000000000000");
    let one = api.get(SUBSCRIPTION, "2016-06-01").await;
    assert_eq!(&one.json, subscription);
    let tenants = api.get("/tenants", "2022-12-01").await;
    assert_eq!(&tenants.json["value"][0]["tenantId"], tenant);
    let locations = api
        .get(&format!("{SUBSCRIPTION}/locations"), "2022-12-01")
        .await;
    let there_are = locations.json["value"].as_array().unwrap();
    let south = there_are
        .iter()
        .find(|it| it["name"] == "southcentralus")
        .unwrap();
    assert_eq!(south["regionalDisplayName"], "(US) South Central US");
    let unknown = api.get("/subscriptions", "2022-13-01").await;
    assert_eq!(
        (unknown.status, unknown.code()),
        (StatusCode::BAD_REQUEST, "InvalidApiVersionParameter")
    );
}

#[tokio::test]
async fn providers_and_their_features_are_there_without_registration() {
    let api = Api::new();
    let providers = format!("{SUBSCRIPTION}/providers");
    let list = api.get(&providers, "2024-11-01").await;
    let there_are = list.json["value"].as_array().unwrap();
    let path = format!("{providers}/microsoft.containerservice");
    let one = api.get(&path, "2024-11-01").await;
    assert!(there_are.contains(&one.json), "{one:?}");
    assert_eq!(one.json["registrationState"], "Registered");
    let clusters = &one.json["resourceTypes"][0];
    assert_eq!(clusters["resourceType"], "managedClusters");
    // What reads the newest one of the list must be able to use it.
    let newest = clusters["apiVersions"][0].as_str().unwrap();
    let listed = api.get(&format!("{path}/managedClusters"), newest).await;
    assert_eq!(listed.status, StatusCode::OK, "{listed:?}");
    let uri = format!("{path}/register?api-version=2024-11-01");
    let registered = api.send(Method::POST, &uri, &[], "").await;
    assert_eq!(registered.json, one.json);
    let uri = format!("{path}/unregister?api-version=2024-11-01");
    let refused = api.send(Method::POST, &uri, &[], "").await;
    assert_eq!(refused.code(), "NotSupported");
    let unknown = api
        .get(&format!("{providers}/Microsoft.Storage"), "2024-11-01")
        .await;
    assert_eq!(
        (unknown.status, unknown.code()),
        (StatusCode::NOT_FOUND, "InvalidResourceNamespace")
    );

    let features =
        format!("{providers}/Microsoft.Features/providers/Microsoft.ContainerService/features");
    let feature = format!("{features}/managedGPUExperiencePreview");
    let one = api.get(&feature, "2021-07-01").await;
    assert_eq!(one.json["properties"]["state"], "Registered");
    let list = api.get(&features, "2021-07-01").await;
    assert_eq!(list.json["value"], json!([one.json]));
    let uri = format!("{feature}/register?api-version=2021-07-01");
    assert_eq!(api.send(Method::POST, &uri, &[], "").await.json, one.json);
    let unknown = api.get(&format!("{features}/Other"), "2021-07-01").await;
    assert_eq!(
        (unknown.status, unknown.code()),
        (StatusCode::NOT_FOUND, "FeatureNotFound")
    );
}

#[tokio::test]
async fn vm_sizes_are_listed_with_their_gpus() {
    let api = Api::new();
    let uri = format!(
        "{SUBSCRIPTION}/providers/Microsoft.Compute/skus?api-version=2019-04-01&$filter=location%20eq%20'southcentralus'"
    );
    let answer = api.send(Method::GET, &uri, &[], "").await;
    let sizes = answer.json["value"].as_array().unwrap();
    assert_eq!(sizes.len(), pool::VmSize::all().len());
    let size = sizes
        .iter()
        .find(|it| it["name"] == "Standard_ND96asr_v4")
        .unwrap();
    assert_eq!(size["locations"], json!(["southcentralus"]));
    let has = size["capabilities"].as_array().unwrap();
    for (name, value) in [("vCPUs", "96"), ("MemoryGB", "900"), ("GPUs", "8")] {
        assert!(
            has.contains(&json!({"name": name, "value": value})),
            "{name}"
        );
    }
    let unknown = uri.replace("2019-04-01", "2019-04-02");
    let answer = api.send(Method::GET, &unknown, &[], "").await;
    assert_eq!(answer.code(), "NoRegisteredProviderFound");
    assert!(answer.message().contains("for type 'skus'"), "{answer:?}");
}

#[rstest]
#[case("/resources?$expand=createdTime&$expand=createdTime&api-version=2024-11-01")]
#[case("/providers/%ff?api-version=2024-11-01")]
#[case("/providers/Microsoft.Features/providers/%ff/features?api-version=2021-07-01")]
#[case("/providers/Microsoft.Features/providers/a/features/%ff?api-version=2021-07-01")]
#[case("/locations?api-version=2022-12-01&api-version=2022-12-01")]
#[tokio::test]
async fn a_url_that_cannot_be_read_is_refused_in_arms_shape(#[case] path: &str) {
    let answer = Api::new()
        .send(Method::GET, &format!("{SUBSCRIPTION}{path}"), &[], "")
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.code(), "InvalidRequestUri", "{answer:?}");
}

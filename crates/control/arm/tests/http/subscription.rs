//! Whose resources these are.

use crate::common::{Api, VERSION};
use axum::http::StatusCode;
use rstest::rstest;

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

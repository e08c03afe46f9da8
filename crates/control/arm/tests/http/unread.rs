//! Resources whose records can't be read, such as those of a later version.

use hyper::StatusCode;
use pool::{Change, Expected, Kind, Store as _};
use rstest::rstest;
use serde_json::json;

use crate::common::{Api, VERSION, agent_pool, cluster, group};

const PATH: &str = "00000000-0000-0000-0000-000000000000/myresourcegroup";

/// Puts the record of another version in the place of a resource's, or where there is none.
async fn replace(api: &Api, kind: Kind, path: &str) {
    let found = api.backend.revision_of(kind, path).await.unwrap();
    let change = Change::Put {
        kind,
        path: path.to_owned(),
        expected: found.map_or(Expected::Absent, Expected::Revision),
        body: json!({"from": "the future"}),
    };
    api.backend.commit(vec![change]).await.unwrap();
}

#[rstest]
#[case::pool(
    Kind::NodePool,
    "/myakscluster/mignode",
    agent_pool("mignode"),
    VERSION
)]
#[case::cluster(Kind::Cluster, "/myakscluster", cluster(), VERSION)]
#[case::group(Kind::Group, "", group(), "2024-11-01")]
#[case::deployment(
    Kind::Deployment,
    "/d",
    format!("{}/providers/Microsoft.Resources/deployments/d", group()),
    "2025-04-01"
)]
#[tokio::test]
async fn one_of_another_version_is_deleted_without_being_read(
    #[case] kind: Kind,
    #[case] path: &str,
    #[case] url: String,
    #[case] version: &str,
) {
    let api = Api::with_pool().await;
    replace(&api, kind, &format!("{PATH}{path}")).await;
    let shown = api.get(&url, version).await;
    assert_eq!(shown.status, StatusCode::INTERNAL_SERVER_ERROR);
    let answer = api.delete(&url, version).await;
    assert!(answer.status.is_success(), "{answer:?}");
    // What has something in it goes after that, and its deletion can be followed.
    let is_followed = matches!(kind, Kind::Group | Kind::Cluster);
    assert_eq!(answer.header("location").is_some(), is_followed);
    api.settle().await;
    let gone = api.get(&url, version).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND, "{gone:?}");
    // A deployment leaves what it has deployed.
    let left = match kind {
        Kind::Deployment => 2,
        Kind::NodePool => 1,
        _ => 0,
    };
    assert_eq!(api.backend.node_names().len(), left);
}

#[tokio::test]
async fn one_of_another_version_is_not_deleted_under_a_condition_that_is_not_met() {
    let api = Api::with_pool().await;
    replace(&api, Kind::Cluster, &format!("{PATH}/myakscluster")).await;
    let uri = format!("{}?api-version={VERSION}", cluster());
    let unmet = [("if-match", "\"0000000000000000\"")];
    let answer = api.send(hyper::Method::DELETE, &uri, &unmet, "").await;
    assert_eq!(answer.status, StatusCode::PRECONDITION_FAILED, "{answer:?}");
    let shown = api.get(&cluster(), VERSION).await;
    assert_eq!(shown.status, StatusCode::INTERNAL_SERVER_ERROR);
}

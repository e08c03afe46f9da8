//! The `NodeFeature` object.

use std::collections::BTreeMap;

use migpool_cluster::Error;
use serde_json::json;

use crate::api_server::{Answer, ApiServer, done, not_found, status};

const LIST: &str = "/apis/nfd.k8s-sigs.io/v1alpha1/namespaces/migpool/nodefeatures";
const NAME: &str = "nvidia-features-for-mignode";

fn wanted() -> BTreeMap<String, String> {
    BTreeMap::from([("nvidia.com/gpu.count".to_owned(), "56".to_owned())])
}

fn absent() -> Answer {
    not_found("nodefeatures", NAME)
}

#[tokio::test]
async fn an_object_that_is_not_there_is_made_as_nvidia_makes_it() {
    let server = ApiServer::answering([absent(), done(201)]).await;
    let feature = server.client.node_feature("migpool");
    assert!(feature.apply(&wanted()).await.unwrap());
    assert_eq!(
        server.lines(),
        [format!("GET {LIST}/{NAME}"), format!("POST {LIST}")]
    );
    let body = &server.asked()[1].body;
    assert_eq!(body["metadata"]["name"], NAME);
    assert_eq!(
        body["metadata"]["labels"],
        json!({"nfd.node.kubernetes.io/node-name": "mignode"})
    );
    assert_eq!(body["spec"]["labels"], json!(wanted()));
}

#[tokio::test]
async fn an_object_that_somebody_makes_meanwhile_is_changed() {
    let exists = status(
        409,
        "AlreadyExists",
        "nodefeatures.nfd.k8s-sigs.io \"nvidia-features-for-mignode\" already exists",
        &json!({"name": NAME, "kind": "nodefeatures"}),
    );
    let there = Answer::Json(
        200,
        json!({"metadata": {"name": NAME, "resourceVersion": "9"}, "spec": {"labels": {"old": "1"}}}),
    );
    let server = ApiServer::answering([absent(), exists, there, done(200)]).await;
    let feature = server.client.node_feature("migpool");
    assert!(feature.apply(&wanted()).await.unwrap());
    let patch = &server.asked()[3];
    assert_eq!(patch.line(), format!("PATCH {LIST}/{NAME}"));
    assert_eq!(
        patch.body["spec"]["labels"],
        json!({"nvidia.com/gpu.count": "56", "old": null})
    );
    assert_eq!(patch.body["metadata"]["resourceVersion"], "9");
}

#[tokio::test]
async fn a_cluster_without_nfd_is_told_from_one_without_the_object() {
    let server = ApiServer::answering([
        Answer::Text(404, "404 page not found\n"),
        Answer::Text(404, "404 page not found\n"),
    ])
    .await;
    let feature = server.client.node_feature("migpool");
    let error = feature.apply(&wanted()).await.unwrap_err();
    assert_eq!(error, Error::NoNodeFeatureResource);
    assert!(
        !feature.remove().await.unwrap(),
        "there is nothing to remove"
    );
}

#[tokio::test]
async fn the_object_is_deleted_at_the_end() {
    let server = ApiServer::answering([done(200), absent()]).await;
    let feature = server.client.node_feature("migpool");
    assert!(feature.remove().await.unwrap());
    assert!(!feature.remove().await.unwrap());
    assert_eq!(server.lines()[0], format!("DELETE {LIST}/{NAME}"));
}

//! Labels: server-side apply, by the node's uid.

use std::collections::BTreeMap;

use serde_json::json;

use crate::api_server::{Answer, ApiServer, metadata, not_found, status};

const MANAGER: &str = "migpool-feature-discovery";

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn taken_by(owner: &str, key: &str) -> Answer {
    let message = format!("Apply failed with 1 conflict: conflict with \"{owner}\" using v1");
    let cause = json!({
        "reason": "FieldManagerConflict",
        "message": format!("conflict with \"{owner}\" using v1"),
        "field": format!(".metadata.labels.{key}"),
    });
    status(409, "Conflict", &message, &json!({"causes": [cause]}))
}

#[tokio::test]
async fn labels_are_applied_under_their_manager_without_force_and_never_make_a_node() {
    let server = ApiServer::answering([metadata(), metadata()]).await;
    let wanted = labels(&[("nvidia.com/gpu.count", "56")]);
    let applied = server.client.labels(MANAGER).apply(&wanted).await.unwrap();
    assert_eq!(applied, migpool_cluster::Applied::default());
    let asked = server.asked();
    assert_eq!(
        server.lines(),
        ["GET /api/v1/nodes/mignode", "PATCH /api/v1/nodes/mignode"]
    );
    assert_eq!(asked[1].content_type, "application/apply-patch+yaml");
    assert!(
        asked[1]
            .query
            .contains("fieldManager=migpool-feature-discovery")
            && !asked[1].query.contains("force=true"),
        "{}",
        asked[1].query
    );
    // With a uid the server refuses to make a node that was deleted a moment ago.
    assert_eq!(
        asked[1].body,
        json!({"apiVersion": "v1", "kind": "Node", "metadata":
            {"name": "mignode", "uid": "node-uid", "labels": {"nvidia.com/gpu.count": "56"}}})
    );
}

#[tokio::test]
async fn what_another_manager_owns_is_named_and_the_rest_is_applied() {
    let product = "nvidia.com/gpu.product";
    let server = ApiServer::answering([
        metadata(),
        taken_by("nfd-master", product),
        metadata(),
        metadata(),
    ])
    .await;
    let wanted = labels(&[("nvidia.com/gpu.count", "56"), (product, "A100")]);
    let applied = server.client.labels(MANAGER).apply(&wanted).await.unwrap();
    assert_eq!(applied.conflicts.len(), 1);
    assert_eq!(applied.conflicts[0].owner, "nfd-master");
    assert_eq!(
        server.asked()[3].body["metadata"]["labels"],
        json!({"nvidia.com/gpu.count": "56"})
    );
}

#[tokio::test]
async fn removing_all_applies_none_so_that_the_server_drops_what_this_manager_owned() {
    let server = ApiServer::answering([metadata(), metadata()]).await;
    server.client.labels(MANAGER).remove_all().await.unwrap();
    assert_eq!(
        server.asked()[1].body["metadata"],
        json!({"name": "mignode", "uid": "node-uid"})
    );
}

#[tokio::test]
async fn a_node_that_was_made_anew_gets_its_labels_by_its_new_uid() {
    let refusal = status(
        409,
        "Conflict",
        "Operation cannot be fulfilled on nodes \"mignode\": Precondition failed: UID in precondition: a, UID in object meta: b",
        &json!({"name": "mignode", "kind": "nodes"}),
    );
    let server = ApiServer::answering([metadata(), refusal, metadata(), metadata()]).await;
    let wanted = labels(&[("nvidia.com/gpu.count", "56")]);
    server.client.labels(MANAGER).apply(&wanted).await.unwrap();
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn no_label_is_sent_to_a_node_that_is_not_there() {
    let server = ApiServer::answering([not_found("nodes", "mignode")]).await;
    let wanted = labels(&[("nvidia.com/gpu.count", "56")]);
    let error = server
        .client
        .labels(MANAGER)
        .apply(&wanted)
        .await
        .unwrap_err();
    assert_eq!(
        error,
        migpool_cluster::Error::NodeNotFound {
            node: "mignode".into()
        }
    );
    assert_eq!(server.lines(), ["GET /api/v1/nodes/mignode"]);
}

//! The taint and the conditions.

use migpool_cluster::{ConditionStatus, Error, GPUS_HEALTHY, MIG_LAYOUT_READY, NodeCondition};
use serde_json::json;

use crate::api_server::{Answer, ApiServer, metadata, node, status};

fn changed_in_between() -> Answer {
    status(
        409,
        "Conflict",
        "Operation cannot be fulfilled on nodes \"mignode\": the object has been modified; please apply your changes to the latest version and try again",
        &json!({"name": "mignode", "kind": "nodes"}),
    )
}

#[tokio::test]
async fn a_taint_that_meets_another_change_is_worked_out_anew() {
    let sku = json!({"key": "sku", "value": "gpu", "effect": "NoSchedule"});
    let late = json!({"key": "late", "effect": "NoExecute", "timeAdded": "2026-11-24T00:00:00Z"});
    let server = ApiServer::answering([
        node("7", &json!({"taints": [sku]}), &json!({})),
        changed_in_between(),
        node("8", &json!({"taints": [sku, late]}), &json!({})),
        metadata(),
    ])
    .await;
    assert!(server.client.set_taint(true).await.unwrap());
    let asked = server.asked();
    assert_eq!(asked[1].body["metadata"]["resourceVersion"], "7");
    assert_eq!(asked[3].content_type, "application/merge-patch+json");
    assert_eq!(asked[3].body["metadata"]["resourceVersion"], "8");
    let ours = json!({"key": "migpool.dev/partitioning", "effect": "NoSchedule"});
    assert_eq!(asked[3].body["spec"]["taints"], json!([sku, late, ours]));
}

#[tokio::test]
async fn a_node_that_never_rests_is_a_conflict_in_the_end() {
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(node("7", &json!({}), &json!({})));
        answers.push(changed_in_between());
    }
    let server = ApiServer::answering(answers).await;
    let error = server.client.set_taint(true).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
    assert!(error.is_transient());
    assert_eq!(server.asked().len(), 10);
}

#[tokio::test]
async fn a_taint_that_is_not_there_is_not_taken_off() {
    let server = ApiServer::answering([node("7", &json!({}), &json!({}))]).await;
    assert!(!server.client.set_taint(false).await.unwrap());
    assert_eq!(server.lines(), ["GET /api/v1/nodes/mignode"]);
}

#[tokio::test]
async fn conditions_are_applied_to_the_status_by_their_own_manager() {
    let ready = json!({"type": "Ready", "status": "True"});
    let old = json!({"type": "MigLayoutReady", "status": "False", "reason": "Partitioning",
        "message": "", "lastTransitionTime": "2026-11-24T00:00:00Z"});
    let conditions = json!({"conditions": [ready, old]});
    let server = ApiServer::answering([node("7", &json!({}), &conditions), metadata()]).await;
    let wanted = [
        NodeCondition {
            kind: MIG_LAYOUT_READY,
            status: ConditionStatus::False,
            reason: "Refused".into(),
            message: "GPU 3: pod ml/train-0 holds what has to go".into(),
        },
        NodeCondition {
            kind: GPUS_HEALTHY,
            status: ConditionStatus::True,
            reason: "AllWork".into(),
            message: String::new(),
        },
    ];
    assert!(server.client.set_conditions(&wanted).await.unwrap());
    let patch = &server.asked()[1];
    assert_eq!(patch.line(), "PATCH /api/v1/nodes/mignode/status");
    assert_eq!(patch.content_type, "application/apply-patch+yaml");
    assert!(
        patch.query.contains("fieldManager=migpool-node-status"),
        "{}",
        patch.query
    );
    let sent = patch.body["status"]["conditions"].as_array().unwrap();
    assert_eq!(sent.len(), 2, "nobody else's condition is sent: {sent:?}");
    assert_eq!(sent[0]["reason"], "Refused");
    assert_eq!(sent[0]["lastTransitionTime"], "2026-11-24T00:00:00Z");
    assert_eq!(sent[1]["type"], "GPUsHealthy");
}

#[tokio::test]
async fn no_conditions_of_ours_means_no_request_to_remove_them() {
    let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    let server = ApiServer::answering([node("7", &json!({}), &ready)]).await;
    assert!(!server.client.remove_conditions().await.unwrap());
    assert_eq!(server.lines(), ["GET /api/v1/nodes/mignode"]);
}

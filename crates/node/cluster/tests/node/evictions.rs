//! Evictions, and the budgets that forbid them.

use migpool_cluster::{Eviction, PodRef};
use serde_json::{Value, json};

use crate::api_server::{Answer, ApiServer, NODE, done, not_found, status};

const POD: &str = "GET /api/v1/namespaces/ml/pods/train-0";
const EVICT: &str = "POST /api/v1/namespaces/ml/pods/train-0/eviction";

fn pod_ref(uid: Option<&str>) -> PodRef {
    PodRef {
        namespace: "ml".into(),
        name: "train-0".into(),
        uid: uid.map(str::to_owned),
    }
}

fn running() -> Answer {
    running_on(NODE)
}

fn running_on(node: &str) -> Answer {
    Answer::Json(
        200,
        json!({"kind": "Pod", "metadata": {"name": "train-0", "uid": "pod-uid"},
            "spec": {"nodeName": node}, "status": {"phase": "Running"}}),
    )
}

async fn evict(
    answers: impl IntoIterator<Item = Answer>,
    uid: Option<&str>,
) -> (Eviction, ApiServer) {
    let server = ApiServer::answering(answers).await;
    let eviction = server.client.evict(&pod_ref(uid)).await.unwrap();
    (eviction, server)
}

fn too_many(causes: &Value) -> Answer {
    status(
        429,
        "TooManyRequests",
        "Cannot evict pod as it would violate the pod's disruption budget.",
        &json!({"causes": causes}),
    )
}

const OTHER_UID: &str =
    "Precondition failed: UID in precondition: pod-uid, UID in object meta: new";

fn conflict(message: &str) -> Answer {
    let details = json!({"name": "train-0", "kind": "pods"});
    status(409, "Conflict", message, &details)
}

#[tokio::test]
async fn a_pod_is_evicted_by_its_uid() {
    let (eviction, server) = evict([running(), done(201)], None).await;
    assert_eq!(eviction, Eviction::Accepted);
    assert_eq!(server.lines(), [POD, EVICT]);
    let body = &server.asked()[1].body;
    assert_eq!(body["apiVersion"], "policy/v1");
    assert_eq!(body["kind"], "Eviction");
    assert_eq!(body["deleteOptions"]["preconditions"]["uid"], "pod-uid");
}

#[tokio::test]
async fn the_budget_that_forbids_it_is_named_at_once() {
    let cause = json!([{"reason": "DisruptionBudget",
        "message": "The disruption budget train-pdb needs 1 healthy pods and has 1 currently"}]);
    let (eviction, server) = evict([running(), too_many(&cause)], None).await;
    let Eviction::Blocked { budget, message } = eviction else {
        panic!("{eviction:?}");
    };
    assert_eq!(budget.as_deref(), Some("train-pdb"));
    assert!(message.contains("needs 1 healthy pods"), "{message}");
    assert_eq!(server.lines(), [POD, EVICT], "tried once");
}

#[tokio::test]
async fn a_server_with_too_much_to_do_is_an_error_and_no_budget() {
    let server = ApiServer::answering([running(), too_many(&json!([]))]).await;
    let error = server.client.evict(&pod_ref(None)).await.unwrap_err();
    assert!(
        matches!(error, migpool_cluster::Error::Busy { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_pod_that_is_gone_before_or_meanwhile_is_gone() {
    let (before, server) = evict([not_found("pods", "train-0")], None).await;
    assert_eq!(before, Eviction::Gone);
    assert_eq!(server.lines(), [POD]);
    let (meanwhile, _) = evict([running(), not_found("pods", "train-0")], None).await;
    assert_eq!(meanwhile, Eviction::Gone);
}

#[tokio::test]
async fn another_pod_of_the_name_is_not_evicted() {
    let (eviction, server) = evict([running()], Some("an-older-uid")).await;
    assert_eq!(eviction, Eviction::Gone);
    assert_eq!(server.lines(), [POD]);
    let (meanwhile, _) = evict([running(), conflict(OTHER_UID)], None).await;
    assert_eq!(meanwhile, Eviction::Gone);
}

#[tokio::test]
async fn a_pod_of_the_name_on_another_node_is_not_evicted() {
    for elsewhere in [running_on("othernode"), running_on("")] {
        let (eviction, server) = evict([elsewhere], None).await;
        assert_eq!(eviction, Eviction::Gone);
        assert_eq!(server.lines(), [POD]);
    }
}

#[tokio::test]
async fn a_pod_that_was_changed_meanwhile_is_not_taken_for_gone() {
    let changed = "Operation cannot be fulfilled on pods \"train-0\": the object has been modified";
    let server = ApiServer::answering([running(), conflict(changed)]).await;
    let error = server.client.evict(&pod_ref(None)).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn something_else_behind_the_address_does_not_make_pods_gone() {
    for answers in [
        vec![Answer::Text(404, "404 page not found\n")],
        vec![running(), Answer::Text(404, "404 page not found\n")],
    ] {
        let server = ApiServer::answering(answers).await;
        let error = server.client.evict(&pod_ref(None)).await.unwrap_err();
        assert!(
            matches!(error, migpool_cluster::Error::Unintelligible { .. }),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_daemon_sets_pod_is_not_asked_to_leave() {
    let daemon = json!({"kind": "Pod", "metadata": {"uid": "u", "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "exporter", "uid": "d", "controller": true}]},
        "spec": {"nodeName": NODE}, "status": {"phase": "Running"}});
    let (eviction, server) = evict([Answer::Json(200, daemon)], None).await;
    assert!(
        matches!(&eviction, Eviction::Refused { reason } if reason.contains("DaemonSet exporter")),
        "{eviction:?}"
    );
    assert_eq!(server.lines(), [POD]);
}

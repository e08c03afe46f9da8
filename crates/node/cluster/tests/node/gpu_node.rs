//! The node's `GpuNode`.

use gpu_node::{GpuNodeStatus, Phase};
use migpool_cluster::{Error, GpuNodeChange, NodeClient, Owner};
use serde_json::{Value, json};

use crate::api_server::{Answer, ApiServer, NODE, metadata, not_found, status};

fn object(uid: &str, generation: i64, spec: &Value) -> Value {
    json!({
        "apiVersion": "migpool.dev/v1alpha1", "kind": "GpuNode",
        "metadata": {
            "name": NODE, "uid": uid, "generation": generation, "resourceVersion": "9",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": "node-uid"}],
        },
        "spec": spec,
        "status": {"phase": "Ready", "lastActions": ["made it"], "newer": {"than": "we"}},
    })
}

fn list(items: &[Value]) -> Answer {
    Answer::Json(
        200,
        json!({"kind": "GpuNodeList", "metadata": {"resourceVersion": "70"}, "items": items}),
    )
}

fn no_such_path() -> Answer {
    Answer::Text(404, "404 page not found\n")
}

#[tokio::test]
async fn the_one_object_of_the_node_is_listed_and_no_other() {
    let pooled = json!({"pool": {"name": "training", "uid": "p"}, "layout": "MIG1g", "migStrategy": "mixed"});
    let server = ApiServer::answering([list(&[object("a", 3, &pooled)]), list(&[])]).await;
    let found = server.client.gpu_node().await.unwrap();
    assert_eq!(found.version, "70");
    let object = found.object.unwrap();
    assert_eq!((object.uid.as_str(), object.generation), ("a", 3));
    assert_eq!(object.owner, Owner::Node("node-uid".to_owned()));
    assert_eq!(object.spec.layout.as_deref(), Some("MIG1g"));
    assert_eq!(object.last_actions, ["made it"]);
    assert_eq!(server.client.gpu_node().await.unwrap().object, None);
    let asked = &server.asked()[0];
    assert_eq!(asked.line(), "GET /apis/migpool.dev/v1alpha1/gpunodes");
    assert!(
        asked
            .query
            .contains("fieldSelector=metadata.name%3Dmignode"),
        "{}",
        asked.query
    );
}

#[tokio::test]
async fn it_is_made_as_the_nodes_own() {
    let made = Answer::Json(201, object("a", 1, &json!({})));
    let server = ApiServer::answering([metadata(), made]).await;
    let owner = server.client.uid().await.unwrap();
    let object = server.client.create_gpu_node(&owner).await.unwrap();
    assert_eq!(object.uid, "a");
    let create = &server.asked()[1];
    assert_eq!(create.line(), "POST /apis/migpool.dev/v1alpha1/gpunodes");
    assert_eq!(create.body["spec"], json!({}));
    let owner = &create.body["metadata"]["ownerReferences"][0];
    assert_eq!(
        *owner,
        json!({"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": "node-uid"})
    );
}

#[tokio::test]
async fn its_status_is_applied_to_the_very_object() {
    let gone = status(
        409,
        "Conflict",
        "uid mismatch: the provided object specified uid a, and no existing object was found",
        &json!({"name": NODE, "kind": "gpunodes"}),
    );
    let missing = not_found("gpunodes.migpool.dev", NODE);
    let done = Answer::Json(200, object("a", 1, &json!({})));
    let server = ApiServer::answering([done, gone, missing]).await;
    let report = GpuNodeStatus {
        phase: Phase::Draining,
        ..GpuNodeStatus::default()
    };
    let apply = || server.client.apply_gpu_node_status("a", &report);
    apply().await.unwrap();
    for _ in 0..2 {
        let error = apply().await.unwrap_err();
        assert!(matches!(error, Error::GpuNodeGone { .. }), "{error:?}");
        assert!(error.is_transient());
    }
    let patch = &server.asked()[0];
    assert_eq!(
        patch.line(),
        "PATCH /apis/migpool.dev/v1alpha1/gpunodes/mignode/status"
    );
    assert_eq!(patch.content_type, "application/apply-patch+yaml");
    for part in ["fieldManager=migpool-agent", "force=true"] {
        assert!(patch.query.contains(part), "{}", patch.query);
    }
    assert_eq!(patch.body["metadata"], json!({"name": NODE, "uid": "a"}));
    assert_eq!(patch.body["status"]["phase"], "Draining");
}

#[tokio::test]
async fn a_cluster_without_the_resource_is_told_what_it_lacks() {
    let server = ApiServer::answering([
        no_such_path(),
        no_such_path(),
        no_such_path(),
        no_such_path(),
    ])
    .await;
    let client: &NodeClient = &server.client;
    let errors = [
        client.gpu_node().await.unwrap_err(),
        client.create_gpu_node("node-uid").await.unwrap_err(),
        client
            .apply_gpu_node_status("a", &GpuNodeStatus::default())
            .await
            .unwrap_err(),
        client.watch_gpu_node("1").await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error, Error::NoGpuNodeResource);
        assert!(error.to_string().contains("CustomResourceDefinitions"));
    }
}

#[tokio::test]
async fn a_watch_tells_of_each_change_and_ends() {
    let event = |kind: &str, object: &Value| json!({"type": kind, "object": object}).to_string();
    let bookmark = json!({"kind": "GpuNode", "metadata": {"resourceVersion": "80"}});
    let lines = [
        event("ADDED", &object("a", 1, &json!({}))),
        event("BOOKMARK", &bookmark),
        event("MODIFIED", &object("a", 2, &json!({"layout": "MIG3g"}))),
        event("DELETED", &object("a", 2, &json!({}))),
        // Cut off where the server ended.
        r#"{"type": "ADDED", "obj"#.to_owned(),
    ];
    let text: &'static str = lines.join("\n").leak();
    let server = ApiServer::answering([Answer::Text(200, text)]).await;
    let mut watch = server.client.watch_gpu_node("70").await.unwrap();
    let mut generations = Vec::new();
    for _ in 0..2 {
        match watch.next().await.unwrap() {
            GpuNodeChange::Is(object) => generations.push(object.generation),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(generations, [1, 2]);
    assert_eq!(watch.next().await.unwrap(), GpuNodeChange::Gone);
    for _ in 0..2 {
        assert_eq!(watch.next().await.unwrap(), GpuNodeChange::Over);
    }
    let query = &server.asked()[0].query;
    for part in [
        "watch=true",
        "resourceVersion=70",
        "allowWatchBookmarks=true",
        "timeoutSeconds=290",
        "fieldSelector=metadata.name%3Dmignode",
    ] {
        assert!(query.contains(part), "{query}");
    }
}

#[tokio::test]
async fn a_version_that_is_too_old_is_the_end_of_a_watch_and_a_refusal_is_an_error() {
    let status_of = |code: u16, message: &str| {
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "code": code, "reason": "Whatever", "message": message,
            "details": {"name": NODE, "kind": "gpunodes"}})
    };
    let event = |code, message: &str| -> &'static str {
        let event = json!({"type": "ERROR", "object": status_of(code, message)});
        format!("{event}\n").leak()
    };
    let server = ApiServer::answering([
        Answer::Text(200, event(410, "too old resource version: 1 (70)")),
        Answer::Json(410, status_of(410, "too old resource version: 1 (70)")),
        Answer::Text(200, event(500, "etcd is away")),
        Answer::Json(
            403,
            status_of(
                403,
                r#"User "u" cannot watch resource "gpunodes" in API group "migpool.dev""#,
            ),
        ),
    ])
    .await;
    for _ in 0..2 {
        let mut watch = server.client.watch_gpu_node("1").await.unwrap();
        assert_eq!(watch.next().await.unwrap(), GpuNodeChange::Over);
    }
    let mut watch = server.client.watch_gpu_node("1").await.unwrap();
    let error = watch.next().await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
    let error = server.client.watch_gpu_node("1").await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("not allowed to watch gpunodes.migpool.dev: "),
        "{error}"
    );
}

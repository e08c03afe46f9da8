//! Events on the node.

use migpool_cluster::{Event, EventKind};

use crate::api_server::{ApiServer, done, metadata, status};
use serde_json::json;

fn lost(gpu: u32) -> Event {
    Event {
        kind: EventKind::Warning,
        reason: "GPULost".into(),
        action: "Watch",
        note: format!("GPU {gpu} is lost"),
    }
}

const CREATE: &str = "POST /apis/events.k8s.io/v1/namespaces/default/events";

#[tokio::test]
async fn an_event_is_about_the_node_and_is_said_once() {
    let server = ApiServer::answering([metadata(), done(201), done(201)]).await;
    let mut events = server.client.events("migpool-agent");
    events.publish(&lost(3)).await.unwrap();
    events.publish(&lost(3)).await.unwrap();
    events.publish(&lost(4)).await.unwrap();
    assert_eq!(
        server.lines(),
        ["GET /api/v1/nodes/mignode", CREATE, CREATE]
    );
    let body = &server.asked()[1].body;
    assert_eq!(body["regarding"]["kind"], "Node");
    assert_eq!(body["regarding"]["name"], "mignode");
    assert_eq!(body["regarding"]["uid"], "node-uid");
    assert_eq!(body["note"], "GPU 3 is lost");
    assert_eq!(body["type"], "Warning");
    assert_eq!(body["reportingController"], "migpool.dev/migpool-agent");
    assert_eq!(body["action"], "Watch");
    // Microseconds: the server takes no other precision.
    let time = body["eventTime"].as_str().unwrap();
    assert_eq!(time.rsplit_once('.').unwrap().1.len(), "123456Z".len());
}

#[tokio::test]
async fn an_event_that_could_not_be_said_is_said_the_next_time() {
    let away = status(503, "ServiceUnavailable", "starting", &json!({}));
    let server = ApiServer::answering([metadata(), away, metadata(), done(201)]).await;
    let mut events = server.client.events("migpool-agent");
    let error = events.publish(&lost(3)).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    events.publish(&lost(3)).await.unwrap();
    assert_eq!(server.asked()[3].line(), CREATE);
}

#[tokio::test]
async fn an_event_needs_no_other_right_than_that_to_events() {
    let message = r#"nodes "mignode" is forbidden: User "u" cannot get resource "nodes" in API group "" at the cluster scope"#;
    let forbidden = status(403, "Forbidden", message, &json!({}));
    let server = ApiServer::answering([forbidden, done(201)]).await;
    let mut events = server.client.events("migpool-agent");
    events.publish(&lost(3)).await.unwrap();
    assert_eq!(server.asked()[1].body["regarding"]["uid"], "mignode");
}

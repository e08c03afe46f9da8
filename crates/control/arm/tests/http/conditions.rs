//! Conditions of changes, and what an old api-version says of a change.

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, StatusCode};
use serde_json::json;

use crate::common::{Answer, Api, VERSION, agent_pool, the_articles_pool};

/// Asks for three nodes under these lines of If-Match.
async fn three_nodes_if(api: &Api, lines: &[&[u8]]) -> Answer {
    let mut request = Request::builder()
        .method(Method::PUT)
        .uri(format!("{}?api-version={VERSION}", agent_pool("mignode")));
    for line in lines {
        request = request.header("if-match", HeaderValue::from_bytes(line).unwrap());
    }
    let body = json!({"properties": {"count": 3, "vmSize": "Standard_ND96asr_v4"}});
    let request = request.body(Body::from(body.to_string())).unwrap();
    api.send_request(request).await
}

#[tokio::test]
async fn a_condition_that_cannot_be_read_or_is_weak_changes_nothing() {
    let api = Api::with_pool().await;
    let before = api.get(&agent_pool("mignode"), VERSION).await;
    let etag = before.header("etag").unwrap().to_owned();
    let weak = format!("W/{etag}");
    let beside = format!("{etag}, \"\u{e9}");
    for line in [b"\xff".as_slice(), b"", weak.as_bytes(), beside.as_bytes()] {
        let refused = three_nodes_if(&api, &[line]).await;
        assert_eq!(
            (refused.status, refused.code()),
            (StatusCode::PRECONDITION_FAILED, "PreconditionFailed"),
            "{line:?}"
        );
    }
    let after = api.get(&agent_pool("mignode"), VERSION).await;
    assert_eq!(after.json, before.json);
    let changed = three_nodes_if(&api, &[b"\"other\"", etag.as_bytes()]).await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    assert_eq!(changed.json["properties"]["count"], 3);
}

#[tokio::test]
async fn a_pool_that_is_put_back_with_an_old_version_keeps_its_profile_and_is_told_so() {
    let api = Api::with_pool().await;
    let body = the_articles_pool();
    let answer = api.put(&agent_pool("mignode"), "2021-07-01", &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.json["properties"]["gpuInstanceProfile"], "MIG1g");
    let warning = answer.header("x-ms-warning").unwrap();
    assert!(warning.contains("keeps what it has"), "{warning}");
}

//! What goes wrong between a node and its API server.

use std::path::Path;
use std::time::Duration;

use migpool_cluster::{Error, NodeClient};
use serde_json::json;

use crate::api_server::{Answer, ApiServer, NODE, kubeconfig, metadata, node, not_found, status};

#[tokio::test]
async fn a_server_that_is_away_is_unreachable_and_comes_back_for_the_same_client() {
    let folder = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = kubeconfig(&folder, &format!("http://{address}"));
    let client = NodeClient::connect(NODE, Some(&config)).await.unwrap();
    let error = client.exists().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.is_transient());
    let text = error.to_string();
    assert!(
        text.contains(&address.to_string()) && text.contains("refused"),
        "{text}"
    );

    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let body = json!({"metadata": {"name": NODE, "uid": "u"}}).to_string();
    let app = axum::Router::new().fallback(move || async move { body });
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    client.exists().await.unwrap();
}

#[tokio::test]
async fn a_server_that_hangs_does_not_hang_the_node() {
    let server = ApiServer::answering([Answer::Never]).await;
    let client = server
        .client
        .clone()
        .with_patience(Duration::from_millis(100));
    let error = client.exists().await.unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { reason, .. } if reason == "no answer for 100ms"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_missing_right_is_named_as_a_role_would_name_it() {
    let message = r#"nodes "mignode" is forbidden: User "system:serviceaccount:migpool:migpool" cannot patch resource "nodes" in API group "" at the cluster scope"#;
    let details = json!({"name": "mignode", "kind": "nodes"});
    let server = ApiServer::answering([
        node("7", &json!({}), &json!({})),
        status(403, "Forbidden", message, &details),
    ])
    .await;
    let error = server.client.set_taint(true).await.unwrap_err();
    let Error::Forbidden { access, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!((access.verb, access.resource), ("patch", "nodes"));
    assert!(
        error
            .to_string()
            .starts_with("not allowed to patch nodes: "),
        "{error}"
    );
}

#[tokio::test]
async fn a_wrong_node_name_is_told_from_everything_else() {
    let server = ApiServer::answering([not_found("nodes", NODE)]).await;
    let error = server.client.exists().await.unwrap_err();
    assert_eq!(error, Error::NodeNotFound { node: NODE.into() });
    assert!(error.to_string().contains("NODE_NAME"), "{error}");
}

#[tokio::test]
async fn something_else_behind_the_address_is_not_understood() {
    let server = ApiServer::answering([
        Answer::Text(404, "404 page not found\n"),
        Answer::Text(200, "<html>sign in</html>"),
        Answer::Text(502, "<html>bad gateway</html>"),
    ])
    .await;
    for _ in 0..2 {
        let error = server.client.exists().await.unwrap_err();
        assert!(matches!(error, Error::Unintelligible { .. }), "{error:?}");
    }
    let error = server.client.exists().await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
}

#[tokio::test]
async fn a_busy_server_is_asked_once_and_its_word_is_passed_on() {
    let busy = status(
        429,
        "TooManyRequests",
        "too many requests",
        &json!({"retryAfterSeconds": 3600}),
    );
    let server = ApiServer::answering([busy, metadata()]).await;
    let error = server.client.exists().await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
    server.client.exists().await.unwrap();
}

#[tokio::test]
async fn names_that_are_no_nodes_are_never_sent() {
    for name in ["", "a/b", "../pods/x", "Node", "node name"] {
        let error = NodeClient::connect(name, None).await.unwrap_err();
        assert_eq!(error, Error::BadNodeName { name: name.into() });
        assert!(error.to_string().contains("spec.nodeName"), "{error}");
    }
}

#[tokio::test]
async fn a_kubeconfig_that_cannot_be_read_is_named() {
    let path = Path::new("/nowhere/kubeconfig");
    let error = NodeClient::connect(NODE, Some(path)).await.unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "{error:?}");
    assert!(error.to_string().contains("/nowhere/kubeconfig"), "{error}");
}

#[tokio::test]
async fn a_proxy_is_refused_without_its_password() {
    let folder = tempfile::tempdir().unwrap();
    let path = kubeconfig(&folder, "https://10.96.0.1");
    let text = std::fs::read_to_string(&path).unwrap();
    let proxied = text.replace(
        r#""server""#,
        r#""proxy-url":"http://user:secret@proxy:3128","server""#,
    );
    std::fs::write(&path, proxied).unwrap();
    let error = NodeClient::connect(NODE, Some(&path)).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("proxy:3128"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn errors_do_not_show_the_token() {
    let server =
        ApiServer::answering([status(401, "Unauthorized", "Unauthorized", &json!({}))]).await;
    let error = server.client.exists().await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    let text = format!("{error} {error:?} {:?}", server.client);
    assert!(!text.contains("secret"), "{text}");
}

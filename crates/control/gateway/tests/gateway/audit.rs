//! What is written down.

use std::time::Duration;

use axum::Router;
use axum::routing::put;
use http::{Method, Request};
use identity::Role;
use secrecy::ExposeSecret;
use tokio::io::AsyncWriteExt;

use crate::common::{SUBSCRIPTION, Server, group, lenient};

#[tokio::test]
async fn every_request_is_written_down_with_the_ids_of_its_answer() {
    let server = Server::start().await;
    let owner = server.owner().await;
    let reader = server.token_of("watcher", Role::Reader, SUBSCRIPTION).await;
    let correlation = "11111111-2222-3333-4444-555555555555";
    let request = Request::put(group("g"))
        .header("authorization", format!("Bearer {owner}"))
        .header("x-ms-correlation-request-id", correlation);
    let body = r#"{"location": "southcentralus"}"#;
    let made = server.client().await.request(request, body).await;
    assert_eq!(made.header("x-ms-correlation-request-id"), correlation);
    let denied = server.put_group("g", &reader).await;
    let unknown = server.send(Method::GET, &group("g"), None, "").await;
    let missing = server.get(&group("none"), &owner).await;
    let health = server.send(Method::GET, "/healthz", None, "").await;
    assert_eq!(health.text, "ok\n");

    let (entries, _) = server.audit();
    assert_eq!(entries.len(), 3, "{entries:?}");
    let (strangers, _) = server.strangers();
    assert_eq!(strangers.len(), 1, "{strangers:?}");
    for (answer, entry, outcome, who) in [
        (&made, &entries[0], "allowed", Some("migpool")),
        (&denied, &entries[1], "denied", Some("watcher")),
        (&unknown, &strangers[0], "denied", None),
        (&missing, &entries[2], "failed", Some("migpool")),
    ] {
        assert_eq!(entry["requestId"], answer.header("x-ms-request-id"));
        assert_eq!(
            entry["correlationId"],
            answer.header("x-ms-correlation-request-id")
        );
        assert_eq!(entry["status"], answer.status.as_u16());
        assert_eq!(entry["outcome"], outcome);
        assert_eq!(entry["principal"].as_str(), who);
        assert!(entry["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    }
    assert_eq!(entries[0]["action"], "write");
    assert_eq!(
        entries[0]["path"],
        format!("{SUBSCRIPTION}/resourcegroups/g")
    );
}

#[tokio::test]
async fn no_secret_is_written_down() {
    let server = Server::start().await;
    let new = server.principal("app", Role::Owner, SUBSCRIPTION).await;
    let (id, secret) = (new.client_id, new.secret.expose_secret());
    let form = format!(
        "grant_type=client_credentials&client_id={id}&client_secret={secret}&scope={}",
        server.identity.audience()
    );
    let request = Request::post("/adfs/oauth2/token?client_secret=in-the-query")
        .header("content-type", "application/x-www-form-urlencoded");
    let answer = server.client().await.request(request, form).await;
    let token = answer.json["access_token"].as_str().unwrap();
    server.put_group("g", token).await;
    server.get(&group("g"), &format!("{token}x")).await;
    let header = server.identity.managed_identity_header();
    let request = Request::get("/msi/token?api-version=2019-08-01&resource=a")
        .header("x-identity-header", &header);
    server.client().await.request(request, "").await;

    let (entries, text) = server.audit();
    let (strangers, of_strangers) = server.strangers();
    assert_eq!((entries.len(), strangers.len()), (2, 2));
    assert_eq!(entries[0]["principalId"], id.to_string());
    let signature = token.rsplit('.').next().unwrap();
    for hidden in [
        secret,
        token,
        signature,
        &header,
        "in-the-query",
        "api-version",
    ] {
        for text in [&text, &of_strangers] {
            assert!(!text.contains(hidden), "{hidden} is in {text}");
        }
    }
}

#[tokio::test]
async fn who_goes_away_does_not_cut_off_what_it_began_nor_that_it_is_written_down() {
    let (done, mut is_done) = tokio::sync::mpsc::channel(1);
    let slow = move || async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let _ = done.send(()).await;
    };
    let server = Server::before(lenient(), None, |_| Router::new().fallback(put(slow))).await;
    let owner = server.owner().await;
    let mut stream = server.connect().await.unwrap();
    let head = format!(
        "PUT {SUBSCRIPTION}/x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {owner}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(stream);
    is_done.recv().await.unwrap();
    let mut entries = Vec::new();
    while entries.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
        entries = server.audit().0;
    }
    assert_eq!(entries[0]["outcome"], "allowed");
}

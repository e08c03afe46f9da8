//! The front on a Unix socket.

use std::sync::Arc;

use crate::common::{Api, SUBSCRIPTION};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use migpool_arm as arm;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn it_serves_until_it_is_cancelled() {
    let api = Api::with_cluster().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let cancel = CancellationToken::new();
    let server = tokio::spawn(arm::serve(
        listener,
        Arc::clone(&api.backend),
        arm::Account::local(),
        cancel.clone(),
    ));

    let stream = TokioIo::new(UnixStream::connect(&path).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<axum::body::Bytes>>(stream)
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get(format!(
        "{SUBSCRIPTION}/resourcegroups?api-version=2024-11-01"
    ))
    .header("host", "localhost")
    .body(Empty::new())
    .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let list: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(list["value"][0]["name"], "myResourceGroup");

    cancel.cancel();
    server.await.unwrap().unwrap();
    connection.await.unwrap().unwrap();
}

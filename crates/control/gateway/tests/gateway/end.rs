//! How it ends.

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use http::{Method, StatusCode};
use migpool_gateway::Limits;

use crate::common::{SUBSCRIPTION, Server, lenient};

fn slow(time: Duration) -> Router {
    let answer = move || async move {
        tokio::time::sleep(time).await;
        "done"
    };
    Router::new().fallback(get(answer))
}

#[tokio::test]
async fn a_request_that_is_under_way_is_answered_and_nobody_else_is_waited_for() {
    let time = Duration::from_millis(500);
    let server = Server::before(lenient(), None, |_| slow(time)).await;
    let owner = server.owner().await;
    let _silent = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let _idle = server.client().await;
    let mut client = server.client().await;
    let cancel = server.cancel.clone();
    let end = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel();
    };
    let (answer, ()) = tokio::join!(
        client.send(Method::GET, SUBSCRIPTION, Some(&owner), ""),
        end
    );
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.text, "done");
    let ended = tokio::time::timeout(Duration::from_secs(4), server.serving).await;
    ended
        .expect("an idle client is waited for")
        .unwrap()
        .unwrap();
    assert!(
        tokio::net::TcpStream::connect(server.address)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn what_takes_longer_than_the_grace_is_cut_off() {
    let limits = Limits {
        grace: Duration::from_millis(300),
        ..lenient()
    };
    let server = Server::before(limits, None, |_| slow(Duration::from_secs(30))).await;
    let owner = server.owner().await;
    let mut client = server.client().await;
    let asked = tokio::spawn(async move {
        client
            .send(Method::GET, SUBSCRIPTION, Some(&owner), "")
            .await
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    server.cancel.cancel();
    server.serving.await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(asked.await.is_err(), "the connection is closed");
}

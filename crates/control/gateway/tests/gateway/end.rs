//! How it ends.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use http::{Method, StatusCode};
use identity::AuditLog;
use migpool_gateway::Limits;

use crate::common::{SUBSCRIPTION, Server, front, group, lenient};

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

/// Somebody who reads slowly.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<Vec<u8>>>);

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        std::thread::sleep(Duration::from_millis(200));
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_log_whose_reader_is_slow_is_written_to_its_end() {
    let written = Slow::default();
    let audit = AuditLog::to_stream(written.clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serving(folder, audit, lenient(), None, front).await;
    let owner = server.owner().await;
    let mut client = server.client().await;
    for _ in 0..20 {
        client
            .send(Method::GET, &group("g"), Some(&owner), "")
            .await;
    }
    server.cancel.cancel();
    server.serving.await.unwrap().unwrap();
    let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert_eq!(written.lines().count(), 20);
}

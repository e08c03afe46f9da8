//! What is no request, or only half of one.

use std::time::{Duration, Instant};

use migpool_gateway::Limits;
use rstest::rstest;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{Server, group, lenient, read_to_end};

/// Checks that `text` is one whole answer in ARM's shape, with ids, after which the connection ended.
fn check(text: &str, status: u16) {
    assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    for name in ["x-ms-request-id: ", "x-ms-correlation-request-id: "] {
        assert!(head.contains(name), "{head}");
    }
    let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{text}"));
    assert!(body["error"]["code"].is_string(), "{body}");
    assert!(body["error"]["message"].is_string(), "{body}");
}

fn many_headers() -> Vec<u8> {
    let headers = "x: 1\r\n".repeat(200);
    format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n").into_bytes()
}

fn large_header() -> Vec<u8> {
    format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "a".repeat(64 * 1024)
    )
    .into_bytes()
}

fn long_url() -> Vec<u8> {
    format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(200_000)).into_bytes()
}

#[rstest]
#[case(many_headers(), 431)]
#[case(large_header(), 431)]
#[case(long_url(), 431)]
#[case(b"\0\0\0\0\r\n\r\n".to_vec(), 400)]
#[case(b"hello\r\n\r\n".to_vec(), 400)]
#[case(b"GET /\r\n\r\n".to_vec(), 400)]
#[case(b"GET / HTTP/9.9\r\nhost: a\r\n\r\n".to_vec(), 400)]
#[case(b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), 400)]
#[case(b"GET /\xff\xfe HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), 400)]
#[case(b"GET / HTTP/1.1\r\nhost: a\r\nx y: 1\r\n\r\n".to_vec(), 400)]
#[case(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_vec(), 400)]
#[case(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n".to_vec(), 400)]
#[case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 400)]
#[tokio::test]
async fn what_is_no_request_is_answered_in_arms_shape(#[case] bytes: Vec<u8>, #[case] status: u16) {
    let server = Server::start().await;
    check(&server.raw(&bytes).await, status);
    let (entries, _) = server.strangers();
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(entries[0]["status"], status);
    assert_eq!(entries[0]["outcome"], "denied");
}

#[rstest]
#[case("GET /a HTTP/1.1\r\n")]
#[case("GET /a HTTP/1.1\r\nhost: a\r\nhost: b\r\n")]
#[case("GET /a HTTP/1.1\r\nhost: a/b\r\n")]
#[case("GET http://u@a/a HTTP/1.1\r\nhost: a\r\n")]
#[case("OPTIONS * HTTP/1.1\r\nhost: a\r\n")]
#[case("CONNECT a:443 HTTP/1.1\r\nhost: a\r\n")]
#[case("GET /\u{e4}%ff HTTP/1.1\r\nhost: a\r\n")]
#[tokio::test]
async fn a_request_that_cannot_be_understood_is_answered_in_arms_shape(#[case] head: &str) {
    let server = Server::start().await;
    let text = server
        .raw(format!("{head}connection: close\r\n\r\n").as_bytes())
        .await;
    check(&text, 400);
}

#[tokio::test]
async fn noise_after_a_request_does_not_disturb_its_answer() {
    let server = Server::start().await;
    let mut stream = server.connect().await.unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 15];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream.write_all(b"noise\r\n\r\n").await.unwrap();
    let rest = read_to_end(&mut stream).await;
    let (healthz, noise) = rest.split_once("ok\n").unwrap();
    assert!(healthz.contains("x-ms-request-id"), "{rest}");
    check(noise, 400);
}

/// Limits of time that a test can wait for.
fn hasty() -> Limits {
    let soon = Duration::from_millis(300);
    Limits {
        handshake: soon,
        header_time: soon,
        body_time: soon,
        idle_time: soon,
        ..lenient()
    }
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_off() {
    let server = Server::with(hasty()).await;
    let stream = server.connect().await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let trickle = tokio::spawn(async move {
        for byte in b"GET / HTTP/1.1\r\nx: ".iter().chain(b"a".iter().cycle()) {
            if write.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    check(&read_to_end(&mut read).await, 408);
    trickle.abort();
}

#[tokio::test]
async fn a_body_that_trickles_in_is_cut_off() {
    let server = Server::with(hasty()).await;
    let owner = server.owner().await;
    let stream = server.connect().await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let head = format!(
        "PUT {} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {owner}\r\ncontent-length: 1000\r\n\r\n",
        group("g")
    );
    let trickle = tokio::spawn(async move {
        write.write_all(head.as_bytes()).await.unwrap();
        while write.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    check(&read_to_end(&mut read).await, 408);
    trickle.abort();
    assert_eq!(server.get(&group("g"), &owner).await.status, 404);
}

#[tokio::test]
async fn a_request_that_breaks_off_changes_nothing() {
    let server = Server::start().await;
    let owner = server.owner().await;
    for body in ["", r#"{"location": "southcentralus"}"#] {
        let mut stream = server.connect().await.unwrap();
        let head = format!(
            "PUT {} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {owner}\r\ncontent-length: 100\r\n\r\n{body}",
            group("g")
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let text = read_to_end(&mut stream).await;
        assert!(!text.contains("HTTP/1.1 2"), "{text}");
    }
    let half = server
        .raw_half(b"PUT /subscriptions HTTP/1.1\r\nhost: a")
        .await;
    assert!(!half.contains("HTTP/1.1 2"), "{half}");
    assert_eq!(server.get(&group("g"), &owner).await.status, 404);
}

#[tokio::test]
async fn silence_is_not_waited_for_long() {
    let server = Server::with(hasty()).await;
    let began = Instant::now();
    let mut without_handshake = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(read_to_end(&mut without_handshake).await, "");
    let mut without_request = server.connect().await.unwrap();
    assert_eq!(read_to_end(&mut without_request).await, "");
    let mut without_another = server.connect().await.unwrap();
    without_another
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let text = read_to_end(&mut without_another).await;
    assert!(text.ends_with("ok\n"), "{text}");
    // Each has waited for its own limit, and lingering for a client that does not close is bounded too.
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn plain_http_is_told_to_use_https() {
    let server = Server::start().await;
    for request in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "POST /", "G"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let text = read_to_end(&mut stream).await;
        check(&text, 426);
        assert!(text.contains("https://"), "{text}");
    }
}

#[tokio::test]
async fn what_is_neither_tls_nor_http_is_hung_up_on() {
    let server = Server::start().await;
    for bytes in [
        &b"\0\0\0\0"[..],
        b"\x16\x03\x01\xff\xff",
        b"\x16hello hello hello",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    }
    let health = server.send(http::Method::GET, "/healthz", None, "").await;
    assert_eq!(health.status, 200);
}

//! How much one client may take.

use std::num::NonZeroU32;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use migpool_gateway::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{Server, group, lenient, read_to_end};

#[tokio::test]
async fn ten_thousand_strangers_get_nothing_and_leave_nothing() {
    let limits = Limits {
        connections_per_peer: 24,
        ..lenient()
    };
    let server = Server::with(limits).await;
    let owner = server.owner().await;
    let mut strangers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut client = server.client().await;
        strangers.spawn(async move {
            for n in 0..500 {
                let (method, token) = match n % 4 {
                    0 => (Method::GET, None),
                    1 => (Method::PUT, None),
                    2 => (Method::DELETE, Some("eyJhbGciOiJub25lIn0.e30.")),
                    _ => (Method::POST, Some("guess")),
                };
                let answer = client.send(method, &group("g"), token, "{}").await;
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
            }
        });
    }
    while let Some(stranger) = strangers.join_next().await {
        stranger.unwrap();
    }
    assert_eq!(
        server.get(&group("g"), &owner).await.status,
        StatusCode::NOT_FOUND
    );
    // All places are free again, and all of them hold.
    let mut all = Vec::new();
    for _ in 0..24 {
        all.push(open(&server).await);
    }
    // Each has its line, and none of them is among those of who is known.
    let (strangers, _) = server.strangers();
    let denied = strangers
        .iter()
        .filter(|entry| entry["outcome"] == "denied");
    assert_eq!(denied.count(), 10_000);
    let (entries, _) = server.audit();
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(entries[0]["principal"], "migpool");
}

/// A connection that is there for certain; a place that was just given up may take a moment to be free.
async fn open(server: &Server) -> impl AsyncWriteExt + AsyncReadExt + Unpin {
    for _ in 0..100 {
        if let Ok(stream) = server.connect().await {
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no connection is taken");
}

#[tokio::test]
async fn a_connection_too_many_is_hung_up_on_and_the_others_stay() {
    for (connections, connections_per_peer) in [(100, 3), (3, 100)] {
        let limits = Limits {
            connections,
            connections_per_peer,
            ..lenient()
        };
        let server = Server::with(limits).await;
        let mut first = server.client().await;
        let second = server.connect().await.unwrap();
        let _silent = TcpStream::connect(server.address).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(server.connect().await.is_err(), "one too many is taken");
        let answer = first.send(Method::GET, "/healthz", None, "").await;
        assert_eq!(answer.status, StatusCode::OK);
        drop(second);
        open(&server).await;
    }
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again() {
    let limits = Limits {
        requests_per_second: NonZeroU32::new(5).unwrap(),
        ..lenient()
    };
    let mut server = Server::with(limits).await;
    let owner = server.owner().await;
    let mut client = server.client().await;
    let mut taken = 0;
    let refused = loop {
        let answer = client
            .send(Method::GET, &group("g"), Some(&owner), "")
            .await;
        if answer.status != StatusCode::NOT_FOUND {
            break answer;
        }
        taken += 1;
        assert!(taken < 1000, "every request is taken");
    };
    assert!(taken >= 10, "{taken}");
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.code(), "TooManyRequests");
    let seconds = refused.header("retry-after").parse().unwrap();
    // It does not have to stop for that, and fills no log with it: one line now, and one that counts the others.
    let mut refusals = 1;
    while refusals < 50 {
        let again = client.send(Method::GET, "/healthz", None, "").await;
        refusals += u64::from(again.status == StatusCode::TOO_MANY_REQUESTS);
    }
    let (strangers, _) = server.strangers();
    assert!(strangers.len() < 10, "{strangers:?}");
    assert_eq!(strangers[0]["requestId"], refused.header("x-ms-request-id"));
    assert_eq!(strangers[0]["status"], 429);
    assert_eq!(strangers[0]["requests"], 1);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let answer = client
        .send(Method::GET, &group("g"), Some(&owner), "")
        .await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    server.cancel.cancel();
    drop(client);
    (&mut server.serving).await.unwrap().unwrap();
    let (strangers, _) = server.strangers();
    let counts = strangers.iter().map(|entry| entry["requests"].as_u64());
    assert_eq!(counts.sum::<Option<u64>>(), Some(refusals), "{strangers:?}");
}

#[tokio::test]
async fn who_guesses_secrets_is_slowed_down_and_others_may_still_work() {
    let limits = Limits {
        sign_ins_per_second: NonZeroU32::new(1).unwrap(),
        ..lenient()
    };
    let server = Server::with(limits).await;
    let owner = server.owner().await;
    let mut client = server.client().await;
    let mut statuses = Vec::new();
    for guess in 0..5 {
        let request = Request::get("/msi/token?api-version=2019-08-01&resource=a")
            .header("x-identity-header", guess.to_string());
        let answer = client.request(request, "").await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            answer.header("retry-after");
            assert_eq!(answer.json["statusCode"], 429, "{answer:?}");
        }
        statuses.push(answer.status.as_u16());
    }
    assert_eq!(statuses, [401, 401, 429, 429, 429]);
    let form = "grant_type=client_credentials";
    let answer = client
        .send(Method::POST, "/adfs/oauth2/token", None, form)
        .await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.json["error"], "temporarily_unavailable");
    let answer = client
        .send(Method::GET, &group("g"), Some(&owner), "")
        .await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_body_too_large_is_refused_whether_it_says_so_or_not() {
    let limits = Limits {
        body_bytes: 100_000,
        ..lenient()
    };
    let server = Server::with(limits).await;
    let owner = server.owner().await;
    let url = group("g");
    let head = format!("PUT {url} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {owner}\r\n");
    let announced = format!("{head}content-length: 10000000\r\n\r\n");
    let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    chunked += &format!("400\r\n{}\r\n", " ".repeat(0x400)).repeat(200);
    for request in [announced, chunked] {
        let text = server.raw(request.as_bytes()).await;
        assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
        assert!(text.contains("RequestContentTooLarge"), "{text}");
    }
    let fits = format!("{{\"location\": \"a\"{}}}", " ".repeat(90_000));
    let answer = server.send(Method::PUT, &url, Some(&owner), fits).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
}

#[tokio::test]
async fn a_strangers_body_is_not_read_and_the_refusal_arrives() {
    let server = Server::start().await;
    let stream = server.connect().await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let url = group("g");
    let sending = tokio::spawn(async move {
        let head = format!("PUT {url} HTTP/1.1\r\nhost: a\r\ncontent-length: 3000000\r\n\r\n");
        write.write_all(head.as_bytes()).await.unwrap();
        let mut sent = 0;
        while sent < 600_000 && write.write_all(&[b' '; 1000]).await.is_ok() {
            sent += 1000;
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
    });
    let text = read_to_end(&mut read).await;
    assert!(text.starts_with("HTTP/1.1 401 "), "{text}");
    sending.abort();
}

#[tokio::test]
async fn who_announces_a_body_may_wait_for_the_word() {
    let server = Server::start().await;
    let owner = server.owner().await;
    let mut stream = server.connect().await.unwrap();
    let body = r#"{"location": "southcentralus"}"#;
    let head = |token: &str| {
        format!(
            "PUT {} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\nexpect: 100-continue\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            group("g"),
            body.len()
        )
    };
    stream.write_all(head(&owner).as_bytes()).await.unwrap();
    let mut word = [0; 25];
    stream.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let text = read_to_end(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 201 "), "{text}");

    let mut stream = server.connect().await.unwrap();
    stream.write_all(head("guess").as_bytes()).await.unwrap();
    let text = read_to_end(&mut stream).await;
    assert!(
        text.starts_with("HTTP/1.1 401 "),
        "a stranger is not asked for its body: {text}"
    );
}

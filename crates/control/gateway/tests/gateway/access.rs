//! Who comes in, and how far.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{Method, Request, StatusCode};
use identity::Role;
use rstest::rstest;
use serde_json::{Value, json};

use crate::common::{SUBSCRIPTION, Server, cluster, group, open_identity};

#[tokio::test]
async fn without_a_token_nothing_is_seen() {
    let server = Server::start().await;
    let token = server.owner().await;
    for path in [
        "/",
        SUBSCRIPTION,
        "/subscriptions",
        "/nothing/here",
        &group("g"),
    ] {
        for method in [
            Method::GET,
            Method::PUT,
            Method::POST,
            Method::DELETE,
            Method::OPTIONS,
        ] {
            let answer = server.send(method, path, None, "").await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
            assert_eq!(answer.code(), "AuthenticationFailed");
            let challenge = answer.header("www-authenticate");
            let expected = format!(
                "Bearer authorization_uri=\"https://{}/adfs\"",
                server.address
            );
            assert!(challenge.starts_with(&expected), "{challenge}");
        }
    }
    for header in ["", "Bearer", "Bearer ", "Basic dTpw", "Bearer a b", &token] {
        let request = Request::get(group("g")).header("authorization", header);
        let answer = server.client().await.request(request, "").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{header}");
        answer.code();
    }
    let twice = Request::get(group("g"))
        .header("authorization", format!("Bearer {token}"))
        .header("authorization", format!("Bearer {token}"));
    let answer = server.client().await.request(twice, "").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let once = Request::get(group("g")).header("authorization", format!("bEaReR {token}"));
    let answer = server.client().await.request(once, "").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{answer:?}");
}

#[tokio::test]
async fn the_description_of_what_is_served_needs_no_token_and_is_all_that_is_given() {
    let server = Server::start().await;
    let answer = server.send(Method::GET, "/openapi.json", None, "").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json["openapi"], "3.1.0");
    for method in [Method::PUT, Method::POST, Method::DELETE] {
        let answer = server.send(method, "/openapi.json", None, "").await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.code(), "HttpMethodNotAllowed");
    }
    let below = server.send(Method::GET, "/openapi.json/x", None, "").await;
    assert_eq!(below.status, StatusCode::UNAUTHORIZED);
}

/// A token's three parts.
fn parts(token: &str) -> (Value, Value, String) {
    let mut parts = token.split('.');
    let mut json = || {
        let bytes = BASE64_URL_SAFE_NO_PAD
            .decode(parts.next().unwrap())
            .unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    let (header, claims) = (json(), json());
    (header, claims, parts.next().unwrap().to_owned())
}

fn token(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

#[tokio::test]
async fn a_token_that_is_not_as_it_was_given_out_opens_nothing() {
    let server = Server::start().await;
    let good = server.owner().await;
    assert_eq!(
        server.put_group("g", &good).await.status,
        StatusCode::CREATED
    );
    let (header, claims, signature) = parts(&good);
    assert_eq!(token(&header, &claims, "").split('.').count(), 3);

    let folder = tempfile::tempdir().unwrap();
    let other = open_identity(&folder).await;
    let secret = other.managed_identity_header();
    let foreign = other
        .sign_in_managed_identity(&secret, None, &other.audience())
        .await
        .unwrap()
        .access_token;
    let (foreign_header, foreign_claims, foreign_signature) = parts(&foreign);

    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        token(&header, &claims, &signature)
    };
    let signed_as = |algorithm: &str, signature: &str| {
        let mut header = header.clone();
        header["alg"] = algorithm.into();
        token(&header, &claims, signature)
    };
    let mut foreign_key = foreign_header.clone();
    foreign_key["kid"] = header["kid"].clone();
    for (what, bad) in [
        ("signed by nobody", signed_as("none", "")),
        ("signed by nobody, as if", signed_as("None", &signature)),
        ("signed with a secret", signed_as("HS256", &signature)),
        ("without its signature", token(&header, &claims, "")),
        (
            "with another's signature",
            token(&header, &claims, &foreign_signature),
        ),
        ("for longer", with("exp", json!(4_102_444_800_u64))),
        ("expired", with("exp", json!(1))),
        (
            "for another audience",
            with("aud", json!("https://management.azure.com")),
        ),
        (
            "of another tenant",
            with("tid", foreign_claims["tid"].clone()),
        ),
        (
            "of another principal",
            with("oid", foreign_claims["oid"].clone()),
        ),
        ("of another server", foreign.clone()),
        (
            "of another server, with our key's name",
            token(&foreign_key, &foreign_claims, &foreign_signature),
        ),
        ("cut off", good[..good.len() - 4].to_owned()),
        ("no token", "a.b.c".to_owned()),
        ("much too long", "a".repeat(20_000)),
    ] {
        for method in [Method::GET, Method::DELETE] {
            let answer = server.send(method, &group("g"), Some(&bad), "").await;
            assert_eq!(
                answer.status,
                StatusCode::UNAUTHORIZED,
                "a token {what}: {answer:?}"
            );
            assert!(answer.code().contains("Authentication"), "{answer:?}");
            assert!(!answer.text.contains(&signature), "{answer:?}");
        }
    }
    assert_eq!(server.get(&group("g"), &good).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_reader_sees_everything_and_changes_nothing() {
    let server = Server::start().await;
    let owner = server.owner().await;
    server.put_group("g", &owner).await;
    let reader = server.token_of("reader", Role::Reader, SUBSCRIPTION).await;
    assert_eq!(
        server.get(&group("g"), &reader).await.status,
        StatusCode::OK
    );
    let credentials = format!(
        "{}/listClusterUserCredential?api-version=2026-06-01",
        cluster("g", "c")
    );
    for (method, url) in [
        (Method::PUT, group("h")),
        (Method::PUT, group("g")),
        (Method::PATCH, group("g")),
        (Method::DELETE, group("g")),
        (Method::POST, credentials),
    ] {
        let answer = server.send(method.clone(), &url, Some(&reader), "{}").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {url}");
        assert_eq!(answer.code(), "AuthorizationFailed");
    }
    assert_eq!(
        server.get(&group("h"), &owner).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(server.get(&group("g"), &owner).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_contributor_stays_within_its_scope() {
    let server = Server::start().await;
    let owner = server.owner().await;
    for name in ["g", "g2"] {
        server.put_group(name, &owner).await;
    }
    let scope = format!("{SUBSCRIPTION}/resourceGroups/g");
    let contributor = server
        .token_of("contributor", Role::Contributor, &scope)
        .await;
    let inside = cluster("G", "c") + "?api-version=2026-06-01";
    assert_eq!(
        server.get(&inside, &contributor).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        server.put_group("G", &contributor).await.status,
        StatusCode::OK
    );

    let elsewhere = cluster("g2", "c") + "?api-version=2026-06-01";
    let admin = format!(
        "{}/listClusterAdminCredential?api-version=2026-06-01",
        cluster("g", "c")
    );
    for (method, url) in [
        (Method::GET, group("g2").as_str()),
        (Method::GET, &group("gg")),
        (Method::PUT, &group("g2")),
        (Method::DELETE, &group("g2")),
        (Method::GET, &elsewhere),
        (Method::POST, &admin),
    ] {
        let answer = server
            .send(method.clone(), url, Some(&contributor), "{}")
            .await;
        assert_eq!(
            answer.status,
            StatusCode::FORBIDDEN,
            "{method} {url}: {answer:?}"
        );
        assert_eq!(answer.code(), "AuthorizationFailed");
    }
}

/// However a path is written, it is decided on as it is routed.
#[rstest]
#[case("/subscriptions/{s}/resourceGroups/g/../g2", 400)]
#[case("/subscriptions/{s}/resourceGroups/g/%2e%2e/g2", 400)]
#[case("/subscriptions/{s}/resourceGroups/g%2f..%2fg2", 400)]
#[case("/subscriptions/{s}/resourceGroups/g%5c..%5cg2", 400)]
#[case("/subscriptions/{s}/resourceGroups/g/./", 400)]
#[case("/subscriptions/{s}/resourceGroups//g", 400)]
#[case("//subscriptions/{s}/resourceGroups/g", 400)]
#[case("/subscriptions/{s}/resourceGroups/g//", 400)]
#[case("/subscriptions/{s}/resourceGroups/g%00", 400)]
#[case("/subscriptions/{s}/resourceGroups/g%ff", 400)]
#[case("/subscriptions/{s}/resourceGroups/%2567", 400)]
#[case("/subscriptions/{s}/resourceGroups/g2", 403)]
#[case("/subscriptions/{s}/resourceGroups/%672", 403)]
#[case("/subscriptions/{s}/resource%47roups/g%32/", 403)]
#[case("/subscriptions/{s}/resourceGroups/g;/g2", 403)]
#[case("/subscriptions/{s}/resourceGroups/g", 200)]
#[case("/SUBSCRIPTIONS/{s}/RESOURCEGROUPS/G/", 200)]
#[case("/subscriptions/{s}/resource%47roups/%67", 200)]
#[tokio::test]
async fn a_path_is_decided_on_as_it_is_routed(#[case] path: &str, #[case] status: u16) {
    let server = Server::start().await;
    let owner = server.owner().await;
    for name in ["g", "g2"] {
        server.put_group(name, &owner).await;
    }
    let scope = format!("{SUBSCRIPTION}/resourceGroups/g");
    let reader = server.token_of("reader", Role::Reader, &scope).await;
    let path = path.replace("{s}", "00000000-0000-0000-0000-000000000000");
    let text = server
        .raw(
            format!(
                "GET {path}?api-version=2024-11-01 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {reader}\r\nconnection: close\r\n\r\n"
            )
            .as_bytes(),
        )
        .await;
    assert!(
        text.starts_with(&format!("HTTP/1.1 {status} ")),
        "{path}: {text}"
    );
    assert!(!text.contains(r#""name":"g2""#), "{text}");
}

#[tokio::test]
async fn a_principal_that_is_deleted_is_out_at_once() {
    let server = Server::start().await;
    let new = server.principal("someone", Role::Owner, SUBSCRIPTION).await;
    let token = {
        use secrecy::ExposeSecret;
        let (id, audience) = (new.client_id.to_string(), server.identity.audience());
        let secret = new.secret.expose_secret();
        server
            .identity
            .sign_in_secret(&id, secret, &audience)
            .await
            .unwrap()
    };
    let token = token.access_token;
    assert_eq!(
        server.put_group("g", &token).await.status,
        StatusCode::CREATED
    );
    server
        .identity
        .delete_principal(new.client_id)
        .await
        .unwrap();
    assert_eq!(
        server.get(&group("g"), &token).await.status,
        StatusCode::UNAUTHORIZED
    );
}

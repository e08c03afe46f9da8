mod server;

use super::*;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures::future::join_all;
use http::StatusCode;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use server::{Server, SigningKey};

use crate::{AUDIENCE, Action, Folder, Identity, PrincipalKind, Reach, Settings};

/// An issuer whose keys may be fetched again at once.
fn hasty(trusted: &TrustedIssuer) -> Arc<ExternalIssuer> {
    let mut issuer = ExternalIssuer::new(trusted.clone()).expect("trusted");
    issuer.pace.pause = Duration::ZERO;
    Arc::new(issuer)
}

fn patient(trusted: &TrustedIssuer) -> Arc<ExternalIssuer> {
    Arc::new(ExternalIssuer::new(trusted.clone()).expect("trusted"))
}

async fn verify(issuer: &Arc<ExternalIssuer>, token: &str) -> Result<Principal, TokenError> {
    let unverified = Unverified::read(token)?;
    let claims = issuer.verify_signature(token, &unverified).await?;
    issuer.principal(&claims, Uuid::nil(), Timestamp::now())
}

#[tokio::test]
async fn a_trusted_issuers_people_come_in_with_their_roles() {
    let (rsa, elliptic) = (SigningKey::rsa("r"), SigningKey::elliptic("e"));
    let server = Server::start(&[&rsa, &elliptic]).await;
    let dir = tempfile::tempdir().expect("tempdir");
    let settings = Settings {
        subscription: Uuid::nil(),
        names: vec!["localhost".to_owned()],
        token_life: Duration::from_hours(1),
        issuer: Some(server.trusted.clone()),
    };
    let identity = Identity::open(Folder::new(dir.path().join("azure")), settings).await;
    let identity = identity.expect("opens");
    for key in [&rsa, &elliptic] {
        let token = key.sign(&server.claims());
        // The second time it is known already.
        for _ in 0..2 {
            let principal = identity.verify(&token).await.expect("good");
            assert_eq!(principal.kind, PrincipalKind::External);
            assert_eq!(principal.name, "ada@example.com");
            let path = format!("/subscriptions/{}/resourceGroups/g", Uuid::nil());
            let allowed = identity.authorize(&principal, Action::Delete, &path).await;
            assert_eq!(allowed, Ok(Reach::Whole));
        }
    }
    // Our own tokens are good besides, and cost the issuer nothing.
    let before = server.requests();
    let header = identity.managed_identity_header();
    let own = identity
        .sign_in_managed_identity(&header, None, AUDIENCE)
        .await;
    let own = own.expect("signed in").access_token;
    identity.verify(&own).await.expect("good");
    assert_eq!(server.requests(), before);
    // With its key another issuer's name is nothing, nor is its name with our key.
    let mut claims = server.claims();
    claims["iss"] = json!("https://other.example");
    let error = identity
        .verify(&elliptic.sign(&claims))
        .await
        .expect_err("not ours");
    assert_eq!(error, TokenError::UnknownKey);
    identity.trust_issuer(None).await.expect("changed");
    identity
        .verify(&rsa.sign(&server.claims()))
        .await
        .expect("the settings go before the document");
}

#[tokio::test]
async fn forged_tokens_of_a_trusted_issuer_are_refused() {
    let (rsa, elliptic) = (SigningKey::rsa("r"), SigningKey::elliptic("e"));
    let server = Server::start(&[&rsa, &elliptic]).await;
    let issuer = patient(&server.trusted);
    let forged = SigningKey::elliptic("e").sign(&server.claims());
    assert_eq!(verify(&issuer, &forged).await, Err(TokenError::Signature));
    // An id of a key for RS256 with a signature of ES256, and the other way round.
    let crossed = SigningKey::elliptic("r").sign(&server.claims());
    assert_eq!(verify(&issuer, &crossed).await, Err(TokenError::UnknownKey));
    let crossed = SigningKey::rsa("e").sign(&server.claims());
    assert_eq!(verify(&issuer, &crossed).await, Err(TokenError::UnknownKey));
    let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"r"}"#);
    let claims = BASE64_URL_SAFE_NO_PAD.encode(server.claims().to_string());
    let unsigned = verify(&issuer, &format!("{header}.{claims}.")).await;
    assert_eq!(unsigned, Err(TokenError::Algorithm("none".to_owned())));
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("r".to_owned());
    let public = EncodingKey::from_secret(&server.answers.borrow().keys);
    let hashed = jsonwebtoken::encode(&header, &server.claims(), &public).expect("signed");
    let hashed = verify(&issuer, &hashed).await;
    assert_eq!(hashed, Err(TokenError::Algorithm("HS256".to_owned())));
    for (name, value) in [
        ("aud", json!("other")),
        ("exp", json!(1)),
        ("nbf", json!(4_000_000_000_u64)),
    ] {
        let mut claims = server.claims();
        claims[name] = value;
        let error = verify(&issuer, &rsa.sign(&claims)).await.expect_err(name);
        match name {
            "aud" => assert!(matches!(error, TokenError::Audience(_))),
            "exp" => assert!(matches!(error, TokenError::Expired(_))),
            _ => assert!(matches!(error, TokenError::NotYetValid(_))),
        }
    }
}

#[tokio::test]
async fn a_new_key_of_the_issuer_is_found_and_its_old_one_ends() {
    let (old, new) = (SigningKey::elliptic("old"), SigningKey::elliptic("new"));
    let server = Server::start(&[&old]).await;
    let issuer = hasty(&server.trusted);
    let (by_old, by_new) = (old.sign(&server.claims()), new.sign(&server.claims()));
    verify(&issuer, &by_old).await.expect("good");
    assert_eq!(verify(&issuer, &by_new).await, Err(TokenError::UnknownKey));
    server.show(&[&old, &new]);
    verify(&issuer, &by_new).await.expect("found");
    verify(&issuer, &by_old).await.expect("still good");
    server.show(&[&new]);
    verify(&issuer, &SigningKey::elliptic("x").sign(&server.claims()))
        .await
        .expect_err("fetches");
    assert_eq!(verify(&issuer, &by_old).await, Err(TokenError::UnknownKey));
    let ended = issuer.still_has(Some("old"), Algorithm::ES256).await;
    assert_eq!(ended, Err(TokenError::UnknownKey));
}

#[tokio::test]
async fn made_up_key_ids_fetch_nothing_again() {
    let key = SigningKey::elliptic("e");
    let server = Server::start(&[&key]).await;
    let issuer = patient(&server.trusted);
    let forged = SigningKey::elliptic("forged").sign(&server.claims());
    let all = (0..50).map(|_| verify(&issuer, &forged));
    for error in join_all(all).await {
        assert_eq!(error, Err(TokenError::UnknownKey));
    }
    assert_eq!(
        server.requests(),
        2,
        "one discovery document and one set of keys"
    );
    verify(&issuer, &key.sign(&server.claims()))
        .await
        .expect("good");
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn an_issuer_that_goes_away_leaves_its_keys_good_and_one_that_never_was_is_named() {
    let key = SigningKey::elliptic("e");
    let mut server = Server::start(&[&key]).await;
    let token = key.sign(&server.claims());
    let known = hasty(&server.trusted);
    verify(&known, &token).await.expect("good");
    server.stop().await;
    verify(&known, &token).await.expect("still good");
    let error = verify(&patient(&server.trusted), &token)
        .await
        .expect_err("away");
    assert!(
        matches!(error, TokenError::IssuerUnavailable { .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains(&server.trusted.issuer),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_never_answers_holds_a_request_up_for_seconds_and_the_next_ones_not_at_all()
{
    let key = SigningKey::elliptic("e");
    let server = Server::start(&[&key]).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let trusted = TrustedIssuer {
        issuer: format!("https://{}", silent.local_addr().expect("an address")),
        ..server.trusted.clone()
    };
    let issuer = patient(&trusted);
    let mut claims = server.claims();
    claims["iss"] = json!(trusted.issuer);
    let token = key.sign(&claims);
    let begin = Instant::now();
    for _ in 0..100 {
        let error = verify(&issuer, &token).await.expect_err("silent");
        assert!(
            matches!(error, TokenError::IssuerUnavailable { .. }),
            "{error}"
        );
    }
    let waited = begin.elapsed();
    assert!(waited < Duration::from_secs(5), "{waited:?}");
}

#[tokio::test]
async fn an_issuer_whose_certificate_is_not_trusted_is_not_asked_for_keys() {
    let key = SigningKey::elliptic("e");
    let (server, other) = (Server::start(&[&key]).await, Server::start(&[&key]).await);
    let token = key.sign(&server.claims());
    let trusted = TrustedIssuer {
        authority: other.trusted.authority.clone(),
        ..server.trusted.clone()
    };
    let error = verify(&patient(&trusted), &token)
        .await
        .expect_err("not trusted");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(server.requests(), 0);
    let trusted = TrustedIssuer {
        authority: Some("/nonexistent/ca.pem".into()),
        ..server.trusted.clone()
    };
    let error = verify(&patient(&trusted), &token)
        .await
        .expect_err("no file");
    assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
}

type Change<'a> = &'a dyn Fn(&mut server::Answers);

#[tokio::test]
async fn what_an_issuer_should_not_say_is_refused_with_the_reason() {
    let key = SigningKey::elliptic("e");
    let server = Server::start(&[&key]).await;
    let token = key.sign(&server.claims());
    let good = server.answers.borrow().clone();
    let large = json!({"keys": [], "padding": "x".repeat(300 * 1024)}).to_string();
    let changes: [(Change<'_>, &str); 7] = [
        (&|answers| answers.status = StatusCode::BAD_GATEWAY, "502"),
        (
            &|answers| answers.issuer = "https://evil.example".to_owned(),
            "evil.example",
        ),
        (
            &|answers| answers.keys_at = "http://127.0.0.1:1/keys".to_owned(),
            "https://",
        ),
        (
            &|answers| answers.keys_at = "file:///etc/passwd".to_owned(),
            "https://",
        ),
        (
            &|answers| answers.keys = b"<html>".to_vec(),
            "no set of keys",
        ),
        (
            &|answers| answers.keys = br#"{"keys":[]}"#.to_vec(),
            "no key for RS256",
        ),
        (
            &|answers| answers.keys = large.clone().into_bytes(),
            "limit",
        ),
    ];
    for (change, reason) in changes {
        server.answers.send_replace(good.clone());
        server.answers.send_modify(change);
        let error = verify(&patient(&server.trusted), &token)
            .await
            .expect_err(reason);
        assert!(error.to_string().contains(reason), "{error}");
    }
    server.answers.send_replace(good);
    verify(&patient(&server.trusted), &token)
        .await
        .expect("good again");
}

#[tokio::test]
async fn a_client_that_goes_away_takes_no_fetch_with_it() {
    let key = SigningKey::elliptic("e");
    let server = Server::start(&[&key]).await;
    let issuer = patient(&server.trusted);
    let token: String = key.sign(&server.claims());
    {
        let verifying = verify(&issuer, &token);
        tokio::pin!(verifying);
        tokio::select! {
            biased;
            _ = &mut verifying => panic!("a fetch takes longer than a poll"),
            () = std::future::ready(()) => {}
        }
    }
    verify(&issuer, &token).await.expect("good");
    assert_eq!(server.requests(), 2, "the first fetch went on");
}

#[test]
fn a_trusted_issuer_is_written_as_people_write_it() {
    let written: Value = json!({"issuer": "https://id.example", "audience": "migpool"});
    let trusted: TrustedIssuer = serde_json::from_value(written.clone()).expect("read");
    assert_eq!(serde_json::to_value(&trusted).expect("written"), written);
    trusted.check().expect("good");
}

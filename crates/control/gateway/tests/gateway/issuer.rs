//! People of a trusted issuer.

use axum::routing::get;
use axum::{Json, Router};
use http::{Method, StatusCode};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use identity::{Role, TrustedIssuer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::common::{SUBSCRIPTION, Server, group, open_identity};
use crate::signed::{Signer, unsigned};

/// An `OpenID` Connect issuer on loopback, with a certificate and a key of its own.
struct Issuer {
    trusted: TrustedIssuer,
    signer: Signer,
    task: JoinHandle<()>,
    _folder: TempDir,
}

impl Issuer {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Another server's identities have all that an issuer needs.
        let identity = open_identity(&folder).await;
        let tls = TlsAcceptor::from(identity.server_config().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (keys, keys_at) = (identity.key_set(), format!("{url}/keys"));
        let configuration = json!({"issuer": url, "jwks_uri": keys_at});
        let router = Router::new()
            .route(
                "/.well-known/openid-configuration",
                get(async move || Json(configuration)),
            )
            .route("/keys", get(async move || Json(keys)));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, service) = (tls.clone(), TowerToHyperService::new(router.clone()));
                tokio::spawn(async move {
                    let stream = TokioIo::new(tls.accept(stream).await.unwrap());
                    let _ = http1::Builder::new()
                        .serve_connection(stream, service)
                        .await;
                });
            }
        });
        Self {
            trusted: TrustedIssuer {
                issuer: url,
                audience: "migpool".to_owned(),
                roles_claim: Some("roles".to_owned()),
                authority: Some(folder.path().join("identity/ca.pem")),
            },
            signer: Signer::of(folder.path()),
            task,
            _folder: folder,
        }
    }

    /// Good claims about somebody who brings these roles.
    fn claims(&self, roles: &[&str]) -> Value {
        let now = jiff::Timestamp::now().as_second();
        json!({
            "iss": self.trusted.issuer, "sub": "u1", "aud": "migpool", "iat": now, "exp": now + 600,
            "email": "ada@example.com", "roles": roles,
        })
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A server with two groups that trusts an issuer.
async fn trusting() -> (Server, Issuer) {
    let (server, issuer) = (Server::start().await, Issuer::start().await);
    let owner = server.owner().await;
    for name in ["g", "g2"] {
        assert_eq!(server.put_group(name, &owner).await.status, 201);
    }
    let trusted = Some(issuer.trusted.clone());
    server.identity.trust_issuer(trusted).await.unwrap();
    (server, issuer)
}

/// What is answered to a look at a group and to a change of it.
async fn tries(server: &Server, name: &str, token: &str) -> [u16; 2] {
    let looked = server.get(&group(name), token).await;
    let changed = server.put_group(name, token).await;
    [looked, changed].map(|answer| answer.status.as_u16())
}

#[tokio::test]
async fn somebody_of_a_trusted_issuer_comes_as_far_as_his_roles() {
    let (server, issuer) = trusting().await;
    let role = format!("contributor:{SUBSCRIPTION}/resourceGroups/g");
    let token = issuer.signer.sign(&issuer.claims(&[&role, "nothing"]));
    assert_eq!(tries(&server, "g", &token).await, [200, 200]);
    assert_eq!(tries(&server, "g2", &token).await, [403, 403]);
    let (entries, _) = server.audit();
    let ours = |entry: &&Value| entry["principal"] == "ada@example.com";
    let statuses: Vec<_> = entries
        .iter()
        .filter(ours)
        .map(|entry| &entry["status"])
        .collect();
    assert_eq!(statuses, [200, 200, 403, 403]);

    // Who brings none has those that were given to him here.
    let token = issuer.signer.sign(&issuer.claims(&[]));
    assert_eq!(tries(&server, "g", &token).await, [403, 403]);
    let id = issuer.trusted.principal_id("u1");
    let scope = format!("{SUBSCRIPTION}/resourceGroups/g2").parse().unwrap();
    server
        .identity
        .assign(id, Role::Reader, scope)
        .await
        .unwrap();
    assert_eq!(tries(&server, "g2", &token).await, [200, 403]);
    assert_eq!(tries(&server, "g", &token).await, [403, 403]);
}

#[tokio::test]
async fn a_token_that_a_trusted_issuer_did_not_give_or_not_for_this_opens_nothing() {
    let (server, issuer) = trusting().await;
    let good = issuer.claims(&["owner"]);
    let token = issuer.signer.sign(&good);
    assert_eq!(tries(&server, "g", &token).await, [200, 200]);

    let folder = tempfile::tempdir().unwrap();
    open_identity(&folder).await;
    let (others, ours) = (Signer::of(folder.path()), Signer::of(server.folder.path()));
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        issuer.signer.sign(&claims)
    };
    let header = json!({"alg": "ES256", "kid": issuer.signer.kid});
    let none = json!({"alg": "none", "kid": issuer.signer.kid});
    let now = good["iat"].as_i64().unwrap();
    for (what, bad) in [
        ("of another key by its name", others.sign_as(&header, &good)),
        ("of another key", others.sign(&good)),
        ("of this server's key", ours.sign(&good)),
        ("without a signature", unsigned(&none, &good) + "."),
        ("of no algorithm", issuer.signer.sign_as(&none, &good)),
        ("that has run out", with("exp", json!(now - 1))),
        ("of tomorrow", with("nbf", json!(now + 86_400))),
        ("for another audience", with("aud", json!("other"))),
        ("about nobody", with("sub", json!(""))),
        (
            "of somebody else",
            with("iss", json!("https://other.example")),
        ),
        (
            "of this server",
            with("iss", json!(server.identity.issuer())),
        ),
    ] {
        for method in [Method::GET, Method::DELETE] {
            let answer = server.send(method, &group("g"), Some(&bad), "").await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "a token {what}");
            assert!(answer.code().contains("AuthenticationToken"), "{answer:?}");
        }
    }
    assert_eq!(tries(&server, "g", &token).await, [200, 200]);
    server.identity.trust_issuer(None).await.unwrap();
    assert_eq!(tries(&server, "g", &token).await, [401, 401]);
}

//! An OpenID Connect issuer on loopback, as far as verifying tokens needs one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::crypto::ring as provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::authority::Authority;
use crate::issuer::TrustedIssuer;

/// A key of the issuer's.
pub(super) struct SigningKey {
    kid: &'static str,
    algorithm: Algorithm,
    encoding: EncodingKey,
    public: Value,
}

impl SigningKey {
    /// For ES256, made now.
    pub(super) fn elliptic(kid: &'static str) -> Self {
        let pair = KeyPair::generate().expect("made");
        let (x, y) = pair.public_key_raw()[1..].split_at(32);
        let [x, y] = [x, y].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        Self {
            kid,
            algorithm: Algorithm::ES256,
            encoding: EncodingKey::from_ec_der(pair.serialized_der()),
            public: json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": kid, "x": x, "y": y}),
        }
    }

    /// For RS256. The key was made for this test and is used for nothing else.
    pub(super) fn rsa(kid: &'static str) -> Self {
        let der = include_bytes!("rsa.der");
        let pair = ring::rsa::KeyPair::from_der(der).expect("a key");
        let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
        let [n, e] = [public.n, public.e].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        Self {
            kid,
            algorithm: Algorithm::RS256,
            encoding: EncodingKey::from_rsa_der(der),
            public: json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": n, "e": e}),
        }
    }

    /// A token of these claims.
    pub(super) fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.kid.to_owned());
        jsonwebtoken::encode(&header, claims, &self.encoding).expect("signed")
    }
}

/// What it answers.
#[derive(Clone)]
pub(super) struct Answers {
    pub(super) status: StatusCode,
    pub(super) issuer: String,
    pub(super) keys_at: String,
    pub(super) keys: Vec<u8>,
}

/// The issuer. It ends with its value.
pub(super) struct Server {
    pub(super) trusted: TrustedIssuer,
    pub(super) answers: watch::Sender<Answers>,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
    _dir: TempDir,
}

impl Server {
    pub(super) async fn start(keys: &[&SigningKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        let now = jiff::Timestamp::now();
        let authority = Authority::new(now).expect("made");
        let certificate = authority
            .certify(&["127.0.0.1".to_owned()], now)
            .expect("made");
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, authority.trusted(now)).expect("written");
        let chain = CertificateDer::from_pem_slice(certificate.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(certificate.key.expose_secret().as_bytes());
        let config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![chain.expect("PEM")], key.expect("PEM"))
            .expect("a certificate");
        let answers = watch::Sender::new(Answers {
            status: StatusCode::OK,
            issuer: url.clone(),
            keys_at: format!("{url}/keys"),
            keys: set(keys),
        });
        let requests = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(serve(
            listener,
            TlsAcceptor::from(Arc::new(config)),
            answers.subscribe(),
            Arc::clone(&requests),
        ));
        Self {
            trusted: TrustedIssuer {
                issuer: url,
                audience: "migpool".to_owned(),
                roles_claim: Some("roles".to_owned()),
                authority: Some(file),
            },
            answers,
            requests,
            task,
            _dir: dir,
        }
    }

    /// Shows these keys from now on.
    pub(super) fn show(&self, keys: &[&SigningKey]) {
        self.answers.send_modify(|answers| answers.keys = set(keys));
    }

    /// How many requests have come.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Goes away.
    pub(super) async fn stop(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// Good claims about somebody who owns the subscription.
    pub(super) fn claims(&self) -> Value {
        let now = jiff::Timestamp::now().as_second();
        json!({
            "iss": self.trusted.issuer, "sub": "u1", "aud": "migpool", "iat": now, "exp": now + 600,
            "email": "ada@example.com", "roles": ["owner"],
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn set(keys: &[&SigningKey]) -> Vec<u8> {
    let keys: Vec<&Value> = keys.iter().map(|key| &key.public).collect();
    json!({"keys": keys}).to_string().into_bytes()
}

async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    answers: watch::Receiver<Answers>,
    requests: Arc<AtomicUsize>,
) {
    loop {
        let (stream, _) = listener.accept().await.expect("accepts");
        let (tls, answers, requests) = (tls.clone(), answers.clone(), Arc::clone(&requests));
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let service = service_fn(move |request: Request<Incoming>| {
                requests.fetch_add(1, Ordering::SeqCst);
                let Answers {
                    status,
                    issuer,
                    keys_at,
                    keys,
                } = answers.borrow().clone();
                async move {
                    let discovery = json!({"issuer": issuer, "jwks_uri": keys_at}).to_string();
                    let (status, body) = match request.uri().path() {
                        "/.well-known/openid-configuration" => (status, discovery.into_bytes()),
                        "/keys" => (status, keys),
                        _ => (StatusCode::NOT_FOUND, Vec::new()),
                    };
                    Response::builder()
                        .status(status)
                        .body(Full::new(Bytes::from(body)))
                }
            });
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

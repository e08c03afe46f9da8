//! Tokens whose signature is good: what they say decides.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use http::{Method, StatusCode};
use rustls::SignatureScheme;
use rustls::crypto::ring as provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::SigningKey;
use serde_json::{Value, json};

use crate::common::{Server, group, open_identity};

/// The key that a server signs tokens with, and the name that it goes by.
pub(crate) struct Signer {
    pub(crate) kid: String,
    key: Arc<dyn SigningKey>,
}

impl Signer {
    /// That of the identities in a folder: whoever can read their document has it.
    pub(crate) fn of(folder: &Path) -> Self {
        let document = std::fs::read(folder.join("identity/identity.json")).unwrap();
        let document: Value = serde_json::from_slice(&document).unwrap();
        let signing = &document["signing"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let key = BASE64_STANDARD.decode(text(&signing["key"])).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
        let provider = provider::default_provider();
        Self {
            kid: text(&signing["public"]["kid"]),
            key: provider.key_provider.load_private_key(key).unwrap(),
        }
    }

    /// A token of these claims, as this key signs them.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(
            &json!({"alg": "ES256", "typ": "JWT", "kid": self.kid}),
            claims,
        )
    }

    /// With a header that says something else.
    pub(crate) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let message = unsigned(header, claims);
        let scheme = [SignatureScheme::ECDSA_NISTP256_SHA256];
        let signer = self.key.choose_scheme(&scheme).unwrap();
        let signature = raw(&signer.sign(message.as_bytes()).unwrap());
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A token's first two parts.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let [header, claims] =
        [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
    format!("{header}.{claims}")
}

/// A signature as TLS has it (a sequence of two numbers in DER), as tokens have it: the numbers, of 32 bytes each.
fn raw(der: &[u8]) -> [u8; 64] {
    let mut raw = [0; 64];
    let mut rest = &der[2..];
    for half in raw.chunks_mut(32) {
        let (number, after) = rest[2..].split_at(usize::from(rest[1]));
        let number = &number[number.len().saturating_sub(32)..];
        half[32 - number.len()..].copy_from_slice(number);
        rest = after;
    }
    raw
}

/// What a token says.
fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_that_our_own_key_has_signed_opens_nothing_unless_it_is_good() {
    let server = Server::start().await;
    let owner = server.owner().await;
    server.put_group("g", &owner).await;
    let ours = Signer::of(server.folder.path());
    let good = claims(&owner);
    let again = ours.sign(&good);
    assert_ne!(again, owner);
    let answer = server.get(&group("g"), &again).await;
    assert_eq!(answer.status, StatusCode::OK, "the key is ours: {answer:?}");

    let folder = tempfile::tempdir().unwrap();
    let other = open_identity(&folder).await;
    let others = Signer::of(folder.path());
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        ours.sign(&claims)
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name).unwrap();
        ours.sign(&claims)
    };
    let headed = |signer: &Signer, algorithm: &str, kid: &str| {
        signer.sign_as(&json!({"alg": algorithm, "typ": "JWT", "kid": kid}), &good)
    };
    let now = good["iat"].as_i64().unwrap();
    let nobody = "11111111-2222-3333-4444-555555555555";
    let tenant = other.tenant().to_string();
    let (expired, invalid, foreign) = (
        "ExpiredAuthenticationToken",
        "InvalidAuthenticationToken",
        "InvalidAuthenticationTokenTenant",
    );
    for (what, token, code) in [
        ("that has run out", with("exp", json!(now - 1)), expired),
        ("of tomorrow", with("nbf", json!(now + 86_400)), invalid),
        ("without an end", without("exp"), invalid),
        (
            "for another audience",
            with("aud", json!("https://management.azure.com")),
            invalid,
        ),
        ("for nobody", without("aud"), invalid),
        ("of another tenant", with("tid", json!(tenant)), foreign),
        (
            "of another issuer",
            with("iss", json!(other.issuer())),
            foreign,
        ),
        ("of nobody", with("oid", json!(nobody)), invalid),
        ("of another secret", with("credential", json!(7)), invalid),
        ("of no algorithm", headed(&ours, "none", &ours.kid), invalid),
        ("of a hash", headed(&ours, "HS256", &ours.kid), invalid),
        (
            "of a key's name",
            headed(&ours, "ES256", &others.kid),
            invalid,
        ),
        (
            "of another key",
            headed(&others, "ES256", &others.kid),
            invalid,
        ),
        (
            "of another key by our name",
            headed(&others, "ES256", &ours.kid),
            invalid,
        ),
        (
            "without a signature",
            unsigned(&json!({"alg": "none", "kid": ours.kid}), &good) + ".",
            invalid,
        ),
    ] {
        for method in [Method::GET, Method::DELETE] {
            let answer = server.send(method, &group("g"), Some(&token), "").await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "a token {what}");
            assert_eq!(answer.code(), code, "a token {what}: {answer:?}");
        }
    }
    let there = server.get(&group("g"), &owner).await;
    assert_eq!(there.status, StatusCode::OK);
}

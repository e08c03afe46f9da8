use super::*;

use serde_json::json;

/// In base64: 342 letters are 2048 bits, 171 are 1024.
fn modulus(letters: usize) -> String {
    "z".repeat(letters - 1) + "A"
}

fn set(keys: &Value) -> KeySet {
    KeySet::read(json!({"keys": keys}).to_string().as_bytes()).expect("a set")
}

#[test]
fn a_key_verifies_in_its_own_way_only() {
    let keys = set(&json!([{"kty": "RSA", "kid": "a", "n": modulus(342), "e": "AQAB"}]));
    assert!(keys.find(Some("a"), Algorithm::RS256).is_some());
    for algorithm in [Algorithm::ES256, Algorithm::HS256, Algorithm::RS512] {
        assert!(keys.find(Some("a"), algorithm).is_none());
    }
    assert!(keys.find(Some("b"), Algorithm::RS256).is_none());
}

#[test]
fn keys_that_are_weak_secret_or_for_something_else_are_left_out() {
    let keys = set(&json!([
        {"kty": "RSA", "kid": "short", "n": modulus(171), "e": "AQAB"},
        {"kty": "RSA", "kid": "encrypts", "use": "enc", "n": modulus(342), "e": "AQAB"},
        {"kty": "RSA", "kid": "otherwise", "alg": "RS512", "n": modulus(342), "e": "AQAB"},
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
        {"kty": "EC", "kid": "curve", "crv": "P-384", "x": "AA", "y": "AA"},
        {"kty": "AKP", "kid": "future", "pub": "AA"},
        "nonsense",
    ]));
    assert!(keys.is_empty());
}

#[test]
fn a_token_without_a_key_id_can_only_mean_the_only_key() {
    let key = |kid: &str| json!({"kty": "RSA", "kid": kid, "n": modulus(342), "e": "AQAB"});
    assert!(
        set(&json!([key("a")]))
            .find(None, Algorithm::RS256)
            .is_some()
    );
    assert!(
        set(&json!([key("a"), key("b")]))
            .find(None, Algorithm::RS256)
            .is_none()
    );
}

#[test]
fn what_is_no_set_is_refused() {
    for text in ["", "[]", "{}", r#"{"keys": {}}"#] {
        assert!(KeySet::read(text.as_bytes()).is_err(), "{text}");
    }
}

use super::*;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::PrincipalId;
use crate::signing::SigningKeys;

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().expect("a time")
}

fn hour() -> SignedDuration {
    SignedDuration::from_hours(1)
}

struct Directory {
    tenant: TenantId,
    keys: SigningKeys,
    principal: PrincipalId,
}

fn directory() -> Directory {
    Directory {
        tenant: TenantId::random(),
        keys: SigningKeys::new(now()).expect("made"),
        principal: PrincipalId::random(),
    }
}

impl Directory {
    fn issue(&self, resource: &str) -> Result<IssuedToken, crate::SignInError> {
        let token = NewToken {
            tenant: self.tenant,
            principal: self.principal,
            credential: 1,
            life: hour(),
            resource,
        };
        token.sign(self.keys.kid(), &self.signer(), now())
    }

    fn signer(&self) -> EncodingKey {
        self.keys.signer().expect("a key")
    }

    fn claims(&self) -> Value {
        let token = self.issue(AUDIENCE).expect("issued").access_token;
        let claims = token.split('.').nth(1).expect("claims");
        let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64");
        serde_json::from_slice(&claims).expect("JSON")
    }

    /// A token of this directory's key with some of its claims changed.
    fn altered(&self, changes: Value) -> String {
        let mut claims = self.claims();
        let (Some(claims_map), Value::Object(changes)) = (claims.as_object_mut(), changes) else {
            panic!("objects");
        };
        claims_map.extend(changes);
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.keys.kid().to_owned());
        jsonwebtoken::encode(&header, &claims, &self.signer()).expect("signed")
    }

    /// What the front does with a token of ours.
    fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        let unverified = Unverified::read(token)?;
        let kid = unverified.kid.ok_or(TokenError::UnknownKey)?;
        let key = self
            .keys
            .verifier(&kid, now)
            .ok_or(TokenError::UnknownKey)?;
        let claims: Claims = verify_signature(token, &key, Algorithm::ES256)?;
        claims.check(self.tenant, now)?;
        Ok(claims)
    }
}

fn parts(header: &Value, claims: &Value, signature: &str) -> String {
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", encode(header), encode(claims))
}

#[test]
fn a_token_says_what_azures_clients_read() {
    let directory = directory();
    let token = directory.issue(AUDIENCE).expect("issued");
    assert_eq!(token.not_before, now());
    assert_eq!(token.expires_on, now() + hour());
    assert_eq!(token.client_id, directory.principal.to_string());
    let claims = directory.claims();
    let (tenant, id) = (
        directory.tenant.to_string(),
        directory.principal.to_string(),
    );
    for (name, value) in [
        ("iss", format!("https://sts.migpool.local/{tenant}/")),
        ("aud", AUDIENCE.to_owned()),
        ("tid", tenant),
        ("oid", id.clone()),
        ("sub", id.clone()),
        ("appid", id),
        ("idtyp", "app".to_owned()),
        ("ver", "1.0".to_owned()),
    ] {
        assert_eq!(claims[name], value, "{name}");
    }
    let claims = directory.verify(&token.access_token, now()).expect("good");
    assert_eq!(claims.oid, directory.principal);
}

#[test]
fn the_resource_may_be_written_as_clients_write_it_and_no_other_is_served() {
    let directory = directory();
    for good in ["", "/", "/.default", "//.default"] {
        let resource = format!("{AUDIENCE}{good}");
        assert_eq!(
            directory.issue(&resource).expect(&resource).resource,
            resource
        );
    }
    for other in [
        "",
        "https://graph.microsoft.com",
        "https://management.migpool.local.evil.example",
        "https://management.migpool.local///",
    ] {
        let error = directory.issue(other).expect_err("another resource");
        assert!(
            matches!(error, crate::SignInError::UnknownResource(_)),
            "{error}"
        );
    }
}

#[test]
fn a_token_is_good_from_its_first_second_to_its_last() {
    let directory = directory();
    let token = directory.issue(AUDIENCE).expect("issued").access_token;
    let second = SignedDuration::from_secs(1);
    assert!(directory.verify(&token, now()).is_ok());
    assert!(directory.verify(&token, now() + hour() - second).is_ok());
    assert_eq!(
        directory.verify(&token, now() + hour()),
        Err(TokenError::Expired(now() + hour()))
    );
    assert!(directory.verify(&token, now() - LEEWAY).is_ok());
    assert_eq!(
        directory.verify(&token, now() - LEEWAY - second),
        Err(TokenError::NotYetValid(now()))
    );
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let directory = directory();
    for alg in ["none", "None", "NONE", ""] {
        for signature in ["", "AAAA"] {
            let header = json!({"alg": alg, "typ": "JWT", "kid": directory.keys.kid()});
            let token = parts(&header, &directory.claims(), signature);
            let error = directory.verify(&token, now());
            assert_eq!(error, Err(TokenError::Algorithm(alg.to_owned())));
        }
    }
    let header = json!({"alg": "ES256", "kid": directory.keys.kid()});
    let token = parts(&header, &directory.claims(), "");
    assert_eq!(directory.verify(&token, now()), Err(TokenError::Signature));
}

#[test]
fn the_public_key_is_no_secret_to_sign_with() {
    let directory = directory();
    let set = directory.keys.key_set(now());
    let key = &set["keys"][0];
    let decode = |name: &str| {
        BASE64_URL_SAFE_NO_PAD
            .decode(key[name].as_str().expect("text"))
            .expect("base64")
    };
    let point = [vec![4], decode("x"), decode("y")].concat();
    for secret in [
        point,
        key.to_string().into_bytes(),
        set.to_string().into_bytes(),
    ] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let mut header = Header::new(algorithm);
            header.kid = Some(directory.keys.kid().to_owned());
            let key = EncodingKey::from_secret(&secret);
            let token = jsonwebtoken::encode(&header, &directory.claims(), &key).expect("signed");
            let error = directory.verify(&token, now());
            assert_eq!(error, Err(TokenError::Algorithm(format!("{algorithm:?}"))));
        }
    }
}

#[test]
fn another_key_is_refused_even_under_our_keys_id() {
    let (directory, stranger) = (directory(), directory());
    let own = stranger.issue(AUDIENCE).expect("issued").access_token;
    assert_eq!(directory.verify(&own, now()), Err(TokenError::UnknownKey));
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(directory.keys.kid().to_owned());
    let forged = jsonwebtoken::encode(&header, &directory.claims(), &stranger.signer());
    let forged = forged.expect("signed");
    assert_eq!(directory.verify(&forged, now()), Err(TokenError::Signature));
    header.kid = None;
    let nameless = jsonwebtoken::encode(&header, &directory.claims(), &directory.signer());
    let nameless = nameless.expect("signed");
    assert_eq!(
        directory.verify(&nameless, now()),
        Err(TokenError::UnknownKey)
    );
}

#[test]
fn a_key_in_the_tokens_own_header_is_not_looked_at() {
    let (directory, stranger) = (directory(), directory());
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(directory.keys.kid().to_owned());
    let own = &stranger.keys.key_set(now())["keys"][0];
    header.jwk = Some(serde_json::from_value(own.clone()).expect("a key"));
    header.jku = Some("https://evil.example/keys".to_owned());
    let forged = jsonwebtoken::encode(&header, &directory.claims(), &stranger.signer());
    assert_eq!(
        directory.verify(&forged.expect("signed"), now()),
        Err(TokenError::Signature)
    );
}

#[test]
fn what_a_good_key_has_signed_must_be_for_us() {
    let directory = directory();
    let other = TenantId::random();
    let verify = |changes| directory.verify(&directory.altered(changes), now());
    assert!(verify(json!({})).is_ok());
    assert_eq!(
        verify(json!({"aud": "https://graph.microsoft.com"})),
        Err(TokenError::Audience(
            "https://graph.microsoft.com".to_owned()
        ))
    );
    assert_eq!(
        verify(json!({"iss": "https://sts.windows.net/x/"})),
        Err(TokenError::Issuer("https://sts.windows.net/x/".to_owned()))
    );
    assert_eq!(
        verify(json!({"iss": issuer(other), "tid": other})),
        Err(TokenError::Tenant {
            found: other.to_string(),
            tenant: directory.tenant
        })
    );
    for malformed in [
        json!({"exp": "tomorrow"}),
        json!({"exp": i64::MAX}),
        json!({"oid": "me"}),
        json!({"aud": [AUDIENCE]}),
    ] {
        let error = verify(malformed).expect_err("malformed");
        assert!(matches!(error, TokenError::Malformed(_)), "{error}");
    }
}

#[test]
fn after_a_rotation_the_last_keys_tokens_are_good_until_they_run_out() {
    let mut directory = directory();
    let token = directory.issue(AUDIENCE).expect("issued").access_token;
    directory.keys = directory.keys.successor(now()).expect("made");
    assert!(directory.verify(&token, now()).is_ok());
    let new = directory.issue(AUDIENCE).expect("issued").access_token;
    assert!(directory.verify(&new, now()).is_ok());
    assert_eq!(
        directory.keys.key_set(now())["keys"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    let later = now() + LONGEST_LIFE;
    assert_eq!(directory.verify(&token, later), Err(TokenError::UnknownKey));
    directory.keys = directory.keys.successor(later).expect("made");
    assert_eq!(
        directory.keys.key_set(later)["keys"]
            .as_array()
            .map(Vec::len),
        Some(2),
        "what is past is forgotten"
    );
}

#[test]
fn garbage_is_refused() {
    let directory = directory();
    let good = directory.issue(AUDIENCE).expect("issued").access_token;
    let long = "a".repeat(LONGEST + 1);
    assert_eq!(
        directory.verify(&long, now()),
        Err(TokenError::TooLong {
            length: LONGEST + 1,
            longest: LONGEST
        })
    );
    for garbage in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "Bearer x",
        "ä.ö.ü",
        &format!("{good}."),
        &format!("{good}.x"),
        &good.replace('.', "-"),
    ] {
        let error = directory.verify(garbage, now()).expect_err("garbage");
        assert!(
            matches!(error, TokenError::Malformed(_)),
            "{garbage}: {error}"
        );
    }
    let header = json!({"alg": "ES256", "kid": directory.keys.kid(), "crit": ["exp"]});
    let error = directory.verify(&parts(&header, &directory.claims(), "AAAA"), now());
    assert!(matches!(error, Err(TokenError::Malformed(_))));
}

#[test]
fn a_token_does_not_show_in_debug_output() {
    let token = directory().issue(AUDIENCE).expect("issued");
    assert!(!format!("{token:?}").contains(&token.access_token));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_token_with_one_letter_changed_is_refused(at in any::<prop::sample::Index>(), letter in "[A-Za-z0-9_-]") {
        let directory = directory();
        let good = directory.issue(AUDIENCE).expect("issued").access_token;
        let at = at.index(good.len());
        let mut altered = good.clone();
        altered.replace_range(at..=at, &letter);
        prop_assume!(altered != good);
        prop_assert!(directory.verify(&altered, now()).is_err());
    }

    #[test]
    fn any_text_is_judged_without_a_crash(text in ".{0,300}", header in ".{0,100}", claims in ".{0,100}") {
        let _ = Unverified::read(&text);
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let _ = Unverified::read(&format!("{}.{}.{text}", encode(&header), encode(&claims)));
    }
}

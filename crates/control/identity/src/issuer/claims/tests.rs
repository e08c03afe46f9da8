use super::*;

use serde_json::json;

fn trusted() -> TrustedIssuer {
    TrustedIssuer {
        issuer: "https://id.example".to_owned(),
        audience: "migpool".to_owned(),
        roles_claim: Some("realm_access.roles".to_owned()),
        authority: None,
    }
}

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().expect("a time")
}

fn claims(changes: Value) -> Result<ExternalClaims, serde_json::Error> {
    let mut claims = json!({
        "iss": "https://id.example", "sub": "u1", "aud": "migpool", "exp": now().as_second() + 60,
        "preferred_username": "ada",
    });
    let (Some(all), Value::Object(changes)) = (claims.as_object_mut(), changes) else {
        panic!("objects");
    };
    for (name, value) in changes {
        if value.is_null() {
            all.remove(&name);
        } else {
            all.insert(name, value);
        }
    }
    serde_json::from_value(claims)
}

fn check(changes: Value) -> Result<(), TokenError> {
    claims(changes).expect("claims").check(&trusted(), now())
}

#[test]
fn a_token_for_us_of_our_issuer_in_its_time_is_good() {
    assert_eq!(check(json!({})), Ok(()));
    assert_eq!(check(json!({"aud": ["other", "migpool"]})), Ok(()));
    let fraction = Number::from_f64(1_772_366_460.5).expect("finite");
    assert_eq!(check(json!({"exp": fraction})), Ok(()));
    assert_eq!(check(json!({"nbf": now().as_second() + 30})), Ok(()));
}

#[test]
fn any_other_is_refused_with_the_reason() {
    assert!(matches!(
        check(json!({"iss": "https://id.example/"})),
        Err(TokenError::Issuer(_))
    ));
    for aud in [json!("migpool2"), json!([]), json!(["a", "b"])] {
        assert!(matches!(
            check(json!({"aud": aud})),
            Err(TokenError::Audience(_))
        ));
    }
    assert!(matches!(
        check(json!({"exp": now().as_second()})),
        Err(TokenError::Expired(_))
    ));
    assert!(matches!(
        check(json!({"nbf": now().as_second() + 120})),
        Err(TokenError::NotYetValid(_))
    ));
    assert!(matches!(
        check(json!({"sub": ""})),
        Err(TokenError::Malformed(_))
    ));
    for name in ["iss", "sub", "aud", "exp"] {
        claims(json!({name: null})).expect_err(name);
    }
}

#[test]
fn a_principal_is_always_the_same_and_another_issuers_is_another() {
    let principal = |changes, trusted: &TrustedIssuer| {
        claims(changes)
            .expect("claims")
            .principal(trusted, Uuid::nil())
    };
    let one = principal(json!({}), &trusted());
    assert_eq!(
        (one.name.as_str(), one.kind),
        ("ada", PrincipalKind::External)
    );
    assert_eq!(one.id, trusted().principal_id("u1"));
    let renamed = principal(json!({"preferred_username": "eve"}), &trusted());
    assert_eq!(renamed.id, one.id);
    assert_ne!(principal(json!({"sub": "u2"}), &trusted()).id, one.id);
    let other = TrustedIssuer {
        issuer: "https://other.example".to_owned(),
        ..trusted()
    };
    assert_ne!(principal(json!({}), &other).id, one.id);
}

#[test]
fn roles_come_from_the_claim_that_was_named_and_only_from_it() {
    let grants = |changes, claim: Option<&str>| {
        let trusted = TrustedIssuer {
            roles_claim: claim.map(str::to_owned),
            ..trusted()
        };
        let principal = claims(changes)
            .expect("claims")
            .principal(&trusted, Uuid::nil());
        let text = |grant: &Grant| format!("{} {}", grant.role, grant.scope);
        principal.grants.iter().map(text).collect::<Vec<_>>()
    };
    let subscription = "/subscriptions/00000000-0000-0000-0000-000000000000";
    let group = format!("{subscription}/resourceGroups/green");
    let nested = json!({"realm_access": {"roles": ["reader", "admin", format!("owner:{group}"), "owner:/x", 7]}});
    assert_eq!(
        grants(nested.clone(), Some("realm_access.roles")),
        [format!("reader {subscription}"), format!("owner {group}")]
    );
    assert!(grants(nested.clone(), None).is_empty());
    assert!(grants(nested, Some("roles")).is_empty());
    let flat = json!({"https://a.b/roles": "Contributor"});
    assert_eq!(
        grants(flat, Some("https://a.b/roles")),
        [format!("contributor {subscription}")]
    );
}

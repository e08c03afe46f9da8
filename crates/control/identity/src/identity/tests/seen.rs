//! Tokens that were verified before: nothing but the signature is taken from that time.

use jiff::{SignedDuration, Timestamp};

use super::{dir, open, subscription};
use crate::seen::Fingerprint;
use crate::signing::SigningKeys;
use crate::{AUDIENCE, Identity, Role, TokenError};

async fn token(identity: &Identity) -> String {
    let header = identity.managed_identity_header();
    let issued = identity.sign_in_managed_identity(&header, None, AUDIENCE);
    issued.await.expect("signed in").access_token
}

#[tokio::test]
async fn only_tokens_with_a_good_signature_are_remembered() {
    let dir = dir();
    let identity = open(&dir).await;
    let good = token(&identity).await;
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    let bad = format!("{signed}.{first}{}", &signature[1..]);
    for token in [bad.as_str(), signed, "a.b.c", ""] {
        identity.verify(token).await.expect_err("bad");
        assert_eq!(identity.0.seen.len(), 0, "{token}");
    }
    identity.verify(&good).await.expect("good");
    identity.verify(&good).await.expect("good");
    assert_eq!(identity.0.seen.len(), 1);
    let after = identity.verify(&bad).await;
    assert_eq!(after, Err(TokenError::Signature), "a good one is known");
}

#[tokio::test]
async fn a_remembered_token_runs_out_like_any_other() {
    let dir = dir();
    let identity = open(&dir).await;
    let token = token(&identity).await;
    identity.verify(&token).await.expect("good");
    let signed = identity.0.seen.get(Fingerprint::of(&token));
    let signed = signed.expect("remembered");
    let later = Timestamp::now() + SignedDuration::from_mins(61);
    let after = identity.state().principal(&signed, later).await;
    assert!(matches!(after, Err(TokenError::Expired(_))), "{after:?}");
    let before = Timestamp::now() - SignedDuration::from_mins(5);
    let early = identity.state().principal(&signed, before).await;
    assert!(
        matches!(early, Err(TokenError::NotYetValid(_))),
        "{early:?}"
    );
}

#[tokio::test]
async fn a_remembered_token_is_refused_as_soon_as_its_key_is_gone() {
    let dir = dir();
    let identity = open(&dir).await;
    let token = token(&identity).await;
    identity.verify(&token).await.expect("good");
    identity.rotate_signing_key().await.expect("rotated");
    identity.verify(&token).await.expect("the former key's");
    let without_former = identity.change(|document, now| {
        document.signing = SigningKeys::new(now)?;
        Ok(())
    });
    without_former.await.expect("changed");
    let after = identity.verify(&token).await;
    assert_eq!(after, Err(TokenError::UnknownKey));
}

#[tokio::test]
async fn a_remembered_token_is_refused_as_soon_as_its_secret_or_its_principal_is_gone() {
    let dir = dir();
    let identity = open(&dir).await;
    let made = identity.create_service_principal("ci", Role::Reader, subscription());
    let made = made.await.expect("made");
    let id = made.client_id.to_string();
    for (is_reset, error) in [
        (true, TokenError::Revoked),
        (false, TokenError::UnknownPrincipal),
    ] {
        let secret = identity.reset_secret(made.client_id).await.expect("reset");
        let secret = secrecy::ExposeSecret::expose_secret(&secret.secret);
        let issued = identity.sign_in_secret(&id, secret, AUDIENCE).await;
        let token = issued.expect("signed in").access_token;
        identity.verify(&token).await.expect("good");
        if is_reset {
            identity.reset_secret(made.client_id).await.expect("reset");
        } else {
            let deleted = identity.delete_principal(made.client_id).await;
            deleted.expect("deleted");
        }
        assert_eq!(identity.verify(&token).await, Err(error));
    }
}

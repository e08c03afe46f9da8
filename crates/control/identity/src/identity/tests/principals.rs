use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use uuid::Uuid;

use super::{dir, open, subscription};
use crate::identity::sign_in;
use crate::{
    AUDIENCE, Action, Grant, IdentityError, Principal, PrincipalId, PrincipalKind, Reach, Role,
    SignInError, TokenError, TrustedIssuer,
};

#[tokio::test]
async fn a_service_principal_may_do_what_its_role_allows_until_it_is_deleted() {
    let dir = dir();
    let identity = open(&dir).await;
    let made = identity
        .create_service_principal("ci", Role::Reader, subscription())
        .await;
    let made = made.expect("made");
    let (id, secret) = (made.client_id.to_string(), made.secret.expose_secret());
    assert_eq!(made.tenant, identity.tenant());
    assert!(!format!("{made:?}").contains(secret));
    let token = identity
        .sign_in_secret(&id, secret, AUDIENCE)
        .await
        .expect("signed in");
    let principal = identity.verify(&token.access_token).await.expect("good");
    assert_eq!(principal.name, "ci");
    let path = format!("/subscriptions/{}/resourceGroups/g", Uuid::nil());
    assert_eq!(
        identity.authorize(&principal, Action::Read, &path).await,
        Ok(Reach::Whole)
    );
    identity
        .authorize(&principal, Action::Write, &path)
        .await
        .expect_err("only reads");
    identity
        .assign(made.client_id, Role::Contributor, subscription())
        .await
        .expect("assigned");
    assert_eq!(
        identity.authorize(&principal, Action::Write, &path).await,
        Ok(Reach::Whole)
    );
    identity
        .unassign(made.client_id, Role::Contributor, &subscription())
        .await
        .expect("taken");
    identity
        .authorize(&principal, Action::Write, &path)
        .await
        .expect_err("only reads again");

    identity
        .delete_principal(made.client_id)
        .await
        .expect("deleted");
    let after = identity.verify(&token.access_token).await;
    assert_eq!(after, Err(TokenError::UnknownPrincipal));
    let after = identity.sign_in_secret(&id, secret, AUDIENCE).await;
    assert_eq!(after, Err(SignInError::WrongCredentials));
    identity
        .authorize(&principal, Action::Read, &path)
        .await
        .expect_err("its roles are gone");
}

#[tokio::test]
async fn wrong_ids_and_wrong_secrets_are_told_the_same() {
    let dir = dir();
    let identity = open(&dir).await;
    let made = identity
        .create_service_principal("ci", Role::Reader, subscription())
        .await;
    let made = made.expect("made");
    let id = made.client_id.to_string();
    let secret = made.secret.expose_secret();
    let longer = "x".repeat(100_000);
    let nobody = Uuid::new_v4().to_string();
    let managed = identity.managed_identity().to_string();
    for (id, secret) in [
        (id.as_str(), "wrong"),
        (&id, ""),
        (&id, &longer),
        (&nobody, secret),
        ("ci", secret),
        ("", ""),
        // The managed identity signs in by its header alone.
        (&managed, &identity.managed_identity_header()),
    ] {
        let error = identity.sign_in_secret(id, secret, AUDIENCE).await;
        assert_eq!(error, Err(SignInError::WrongCredentials));
    }
    let error = identity
        .sign_in_secret(&id, secret, "https://vault.azure.net")
        .await;
    assert!(matches!(error, Err(SignInError::UnknownResource(_))));
}

#[tokio::test]
async fn a_reset_ends_the_last_secret_and_what_it_got() {
    let dir = dir();
    let identity = open(&dir).await;
    let made = identity
        .create_service_principal("ci", Role::Owner, subscription())
        .await;
    let made = made.expect("made");
    let id = made.client_id.to_string();
    let old = identity
        .sign_in_secret(&id, made.secret.expose_secret(), AUDIENCE)
        .await
        .expect("signed in");
    let reset = identity.reset_secret(made.client_id).await.expect("reset");
    assert_eq!(
        identity.verify(&old.access_token).await,
        Err(TokenError::Revoked)
    );
    let error = identity
        .sign_in_secret(&id, made.secret.expose_secret(), AUDIENCE)
        .await;
    assert_eq!(error, Err(SignInError::WrongCredentials));
    let new = identity
        .sign_in_secret(&id, reset.secret.expose_secret(), AUDIENCE)
        .await
        .expect("signed in");
    identity.verify(&new.access_token).await.expect("good");

    let header = identity.managed_identity_header();
    let old = identity
        .sign_in_managed_identity(&header, None, AUDIENCE)
        .await
        .expect("signed in");
    identity
        .rotate_managed_identity_header()
        .await
        .expect("rotated");
    assert_eq!(
        identity.verify(&old.access_token).await,
        Err(TokenError::Revoked)
    );
    let error = identity
        .sign_in_managed_identity(&header, None, AUDIENCE)
        .await;
    assert_eq!(error, Err(SignInError::WrongHeader));
}

#[tokio::test]
async fn who_comes_when_too_many_sign_in_is_told_to_come_again() {
    let dir = dir();
    let identity = open(&dir).await;
    let all = sign_in::MOST;
    let held =
        Arc::clone(&identity.0.signing_in).try_acquire_many_owned(u32::try_from(all).expect("few"));
    let nobody = Uuid::nil().to_string();
    let error = identity.sign_in_secret(&nobody, "x", AUDIENCE).await;
    assert_eq!(error, Err(SignInError::Busy));
    drop(held);
    let error = identity.sign_in_secret(&nobody, "x", AUDIENCE).await;
    assert_eq!(error, Err(SignInError::WrongCredentials));
    // A client that has gone gives its place back only when the work is done.
    let gone = tokio::time::timeout(
        Duration::from_millis(50),
        identity.sign_in_secret(&nobody, "x", AUDIENCE),
    );
    let _ = gone.await;
    while identity.0.signing_in.available_permits() < all {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_external_principals_own_roles_count_only_while_an_issuer_is_trusted() {
    let dir = dir();
    let identity = open(&dir).await;
    let mut principal = identity.principals().remove(0);
    principal.id = PrincipalId::random();
    principal.grants = vec![Grant {
        role: Role::Owner,
        scope: subscription(),
    }];
    let path = format!("/subscriptions/{}/resourceGroups/g", Uuid::nil());
    let asks = |principal: Principal| {
        let (identity, path) = (identity.clone(), path.clone());
        async move {
            identity
                .authorize(&principal, Action::Read, &path)
                .await
                .is_ok()
        }
    };
    assert!(
        !asks(principal.clone()).await,
        "only external ones bring roles along"
    );
    principal.kind = PrincipalKind::External;
    assert!(!asks(principal.clone()).await, "nobody is trusted yet");
    let issuer = TrustedIssuer {
        issuer: "https://id.example".to_owned(),
        audience: "migpool".to_owned(),
        roles_claim: None,
        authority: None,
    };
    identity
        .trust_issuer(Some(issuer.clone()))
        .await
        .expect("trusted");
    assert!(asks(principal.clone()).await);
    for url in [
        "http://id.example",
        "id.example",
        "",
        "https://",
        "https://id.example?x",
    ] {
        let issuer = TrustedIssuer {
            issuer: url.to_owned(),
            ..issuer.clone()
        };
        let error = identity.trust_issuer(Some(issuer)).await.expect_err(url);
        assert!(matches!(error, IdentityError::Issuer { .. }), "{error}");
    }
    identity.trust_issuer(None).await.expect("not trusted");
    assert!(!asks(principal).await);
}

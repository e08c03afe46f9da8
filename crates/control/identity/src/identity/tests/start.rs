use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{dir, open, settings};
use crate::{AUDIENCE, Action, Folder, Identity, IdentityError, PrincipalKind, Reach, Settings};

#[tokio::test]
async fn the_managed_identity_owns_the_subscription_from_the_first_start_on() {
    let dir = dir();
    let identity = open(&dir).await;
    let header = identity.managed_identity_header();
    let token = identity
        .sign_in_managed_identity(&header, None, AUDIENCE)
        .await;
    let token = token.expect("the right header").access_token;
    let principal = identity.verify(&token).await.expect("good");
    assert_eq!(principal.kind, PrincipalKind::ManagedIdentity);
    assert_eq!(principal.id, identity.managed_identity());
    let path = format!("/subscriptions/{}/resourceGroups/g", Uuid::nil());
    for action in Action::ALL {
        let allowed = identity.authorize(&principal, action, &path).await;
        assert_eq!(allowed, Ok(Reach::Whole));
    }
    let own = identity.managed_identity().to_string();
    identity
        .sign_in_managed_identity(&header, Some(&own), AUDIENCE)
        .await
        .expect("its own id");
    for (header, id, resource) in [
        ("", None, AUDIENCE),
        ("migpool_wrong", None, AUDIENCE),
        (header.as_str(), Some("somebody"), AUDIENCE),
        (header.as_str(), None, "https://graph.microsoft.com"),
    ] {
        identity
            .sign_in_managed_identity(header, id, resource)
            .await
            .expect_err("refused");
    }
}

#[tokio::test]
async fn a_second_start_finds_everything_as_it_was() {
    let dir = dir();
    let first = open(&dir).await;
    let header = first.managed_identity_header();
    let token = first
        .sign_in_managed_identity(&header, None, AUDIENCE)
        .await
        .expect("signed in");
    let second = open(&dir).await;
    assert_eq!(second.tenant(), first.tenant());
    assert_eq!(second.authority_pem(), first.authority_pem());
    assert_eq!(second.managed_identity_header(), header);
    second
        .verify(&token.access_token)
        .await
        .expect("still good");
    let laid_out = std::fs::read_to_string(dir.path().join("azure").join("ca.pem"));
    assert_eq!(laid_out.expect("laid out"), first.authority_pem());
}

#[tokio::test]
async fn many_first_starts_at_once_make_one_tenant() {
    let dir = Arc::new(dir());
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let dir = Arc::clone(&dir);
        all.spawn(async move { open(&dir).await.tenant() });
    }
    let tenants = all.join_all().await;
    assert!(
        tenants.windows(2).all(|pair| pair[0] == pair[1]),
        "{tenants:?}"
    );
}

#[tokio::test]
async fn where_nothing_is_kept_nothing_can_be_administered() {
    let dir = dir();
    let error = Identity::attach(Folder::new(dir.path().join("azure"))).await;
    let error = error.expect_err("nothing there");
    assert!(matches!(error, IdentityError::Missing { .. }), "{error}");
    assert!(!dir.path().join("azure").exists());
}

#[tokio::test]
async fn nothing_is_kept_when_no_certificate_can_have_the_names() {
    let dir = dir();
    let folder = Folder::new(dir.path().join("azure"));
    let settings = Settings {
        names: Vec::new(),
        ..settings()
    };
    Identity::open(folder, settings)
        .await
        .expect_err("no names");
    assert!(!dir.path().join("azure").exists());
}

#[tokio::test]
async fn tokens_live_an_hour_at_most() {
    let dir = dir();
    for (asked, given) in [(86_400, 3600), (600, 600), (0, 60)] {
        let settings = Settings {
            token_life: Duration::from_secs(asked),
            ..settings()
        };
        let folder = Folder::new(dir.path().join("azure"));
        let identity = Identity::open(folder, settings).await.expect("opens");
        let header = identity.managed_identity_header();
        let token = identity
            .sign_in_managed_identity(&header, None, AUDIENCE)
            .await
            .expect("signed in");
        let life = token.expires_on.duration_since(token.not_before);
        assert_eq!(life.as_secs(), given);
        assert!(token.not_before <= Timestamp::now());
    }
}

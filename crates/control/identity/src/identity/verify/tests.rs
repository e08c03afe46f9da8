use super::*;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::ExposeSecret;
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    AUDIENCE, Folder, IdentityError, Role, RoleScope, Settings, SignInError, Storage, TokenError,
};

fn settings() -> Settings {
    Settings {
        subscription: Uuid::nil(),
        names: vec!["localhost".to_owned()],
        token_life: Duration::from_hours(1),
        issuer: None,
    }
}

async fn open(dir: &TempDir) -> Identity {
    let folder = Folder::new(dir.path().join("azure"));
    Identity::open(folder, settings()).await.expect("opens")
}

async fn attach(dir: &TempDir) -> Identity {
    let folder = Folder::new(dir.path().join("azure"));
    Identity::attach(folder).await.expect("attaches")
}

fn dir() -> TempDir {
    tempfile::tempdir().expect("tempdir")
}

fn subscription() -> RoleScope {
    RoleScope::subscription(Uuid::nil())
}

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
        assert_eq!(identity.authorize(&principal, action, &path).await, Ok(()));
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
        Ok(())
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
        Ok(())
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
    let all = super::super::sign_in::MOST;
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

/// A storage that has stopped to answer.
#[derive(Clone)]
struct Stuck(Folder, Arc<std::sync::atomic::AtomicBool>);

impl Storage for Stuck {
    fn place(&self) -> String {
        Storage::place(&self.0)
    }

    async fn load(&self) -> Result<Option<crate::Kept>, crate::StorageError> {
        if self.1.load(std::sync::atomic::Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.0.load().await
    }

    async fn save(
        &self,
        document: &[u8],
        expected: Option<&crate::Version>,
    ) -> Result<crate::Version, crate::StorageError> {
        self.0.save(document, expected).await
    }
}

#[tokio::test]
async fn a_storage_that_does_not_answer_leaves_what_is_known_in_force() {
    let dir = dir();
    let is_stuck = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let storage = Stuck(Folder::new(dir.path().join("azure")), Arc::clone(&is_stuck));
    let identity = Identity::open(storage, settings()).await.expect("opens");
    let header = identity.managed_identity_header();
    let token = identity
        .sign_in_managed_identity(&header, None, AUDIENCE)
        .await
        .expect("signed in");
    is_stuck.store(true, std::sync::atomic::Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    for _ in 0..100 {
        identity.verify(&token.access_token).await.expect("good");
    }
    let waited = begin.elapsed();
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    // Who must see the newest is held up for some seconds, and not for ever.
    let error = identity.sign_in_secret("x", "x", AUDIENCE).await;
    assert_eq!(error, Err(SignInError::WrongCredentials));
    let waited = begin.elapsed();
    assert!(waited < Duration::from_secs(10), "{waited:?}");
}

#[tokio::test]
async fn what_another_process_changes_is_seen() {
    let dir = dir();
    let server = open(&dir).await;
    let command = attach(&dir).await;
    let made = command
        .create_service_principal("ci", Role::Owner, subscription())
        .await;
    let made = made.expect("made");
    let id = made.client_id.to_string();
    // At once, since somebody who was just made signs in.
    let token = server
        .sign_in_secret(&id, made.secret.expose_secret(), AUDIENCE)
        .await;
    let token = token.expect("signed in").access_token;
    server.verify(&token).await.expect("good");
    command
        .delete_principal(made.client_id)
        .await
        .expect("deleted");
    server.refresh().await;
    assert_eq!(
        server.verify(&token).await,
        Err(TokenError::UnknownPrincipal)
    );
    command.rotate_authority().await.expect("rotated");
    server.refresh().await;
    assert_eq!(server.authority_pem(), command.authority_pem());
}

#[tokio::test]
async fn verifying_looks_for_changes_by_itself() {
    let dir = dir();
    let server = open(&dir).await;
    let command = attach(&dir).await;
    let header = server.managed_identity_header();
    let token = server
        .sign_in_managed_identity(&header, None, AUDIENCE)
        .await
        .expect("signed in");
    command
        .rotate_managed_identity_header()
        .await
        .expect("rotated");
    let mut tries = 0;
    while server.verify(&token.access_token).await.is_ok() {
        tries += 1;
        assert!(tries < 500, "never seen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn rotations_leave_what_is_out_there_good() {
    let dir = dir();
    let identity = open(&dir).await;
    let header = identity.managed_identity_header();
    let token = identity
        .sign_in_managed_identity(&header, None, AUDIENCE)
        .await
        .expect("signed in");
    let before = identity.state().document.server.certificate.clone();
    identity.rotate_certificate().await.expect("rotated");
    assert_ne!(identity.state().document.server.certificate, before);
    identity.rotate_signing_key().await.expect("rotated");
    identity
        .verify(&token.access_token)
        .await
        .expect("still good");
    let keys = identity.key_set();
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(2));
    let trusted = identity.authority_pem();
    identity.rotate_authority().await.expect("rotated");
    assert!(identity.authority_pem().contains(&trusted));
    let laid_out = std::fs::read_to_string(dir.path().join("azure").join("ca.pem"));
    assert_eq!(laid_out.expect("laid out"), identity.authority_pem());
}

#[tokio::test]
async fn an_old_copy_of_the_document_brings_nobody_back() {
    let dir = dir();
    let identity = open(&dir).await;
    let folder = Folder::new(dir.path().join("azure"));
    let old = folder.load().await.expect("loads").expect("there");
    let managed = identity.managed_identity_header();
    identity
        .rotate_managed_identity_header()
        .await
        .expect("rotated");
    let current = folder.load().await.expect("loads").expect("there");
    folder
        .save(&old.document, Some(&current.version))
        .await
        .expect("a stale cache");
    identity.refresh().await;
    assert_ne!(identity.managed_identity_header(), managed);
}

#[tokio::test]
async fn a_document_that_breaks_leaves_the_known_one_in_force() {
    let dir = dir();
    let identity = open(&dir).await;
    let header = identity.managed_identity_header();
    std::fs::write(dir.path().join("azure").join("identity.json"), "{").expect("write");
    identity.refresh().await;
    let token = identity
        .sign_in_managed_identity(&header, None, AUDIENCE)
        .await
        .expect("signed in");
    identity.verify(&token.access_token).await.expect("good");
    let error = identity
        .rotate_signing_key()
        .await
        .expect_err("nothing to change");
    assert!(matches!(error, IdentityError::Unreadable { .. }), "{error}");
}

#[tokio::test]
async fn an_external_principals_own_roles_count_only_while_an_issuer_is_trusted() {
    let dir = dir();
    let identity = open(&dir).await;
    let mut principal = identity.principals().remove(0);
    principal.id = crate::PrincipalId::random();
    principal.grants = vec![crate::Grant {
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
    let issuer = crate::TrustedIssuer {
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
        let issuer = crate::TrustedIssuer {
            issuer: url.to_owned(),
            ..issuer.clone()
        };
        let error = identity.trust_issuer(Some(issuer)).await.expect_err(url);
        assert!(matches!(error, IdentityError::Issuer { .. }), "{error}");
    }
    identity.trust_issuer(None).await.expect("not trusted");
    assert!(!asks(principal).await);
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

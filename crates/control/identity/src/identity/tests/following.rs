use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::ExposeSecret;

use super::{attach, dir, open, settings, subscription};
use crate::{
    AUDIENCE, Folder, Identity, IdentityError, Kept, Role, SignInError, Storage, StorageError,
    TokenError, Version,
};

/// A storage that has stopped to answer.
#[derive(Clone)]
struct Stuck(Folder, Arc<AtomicBool>);

impl Storage for Stuck {
    fn place(&self) -> String {
        Storage::place(&self.0)
    }

    async fn load(&self) -> Result<Option<Kept>, StorageError> {
        if self.1.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.0.load().await
    }

    async fn save(
        &self,
        document: &[u8],
        expected: Option<&Version>,
    ) -> Result<Version, StorageError> {
        self.0.save(document, expected).await
    }
}

#[tokio::test]
async fn a_storage_that_does_not_answer_leaves_what_is_known_in_force() {
    let dir = dir();
    let is_stuck = Arc::new(AtomicBool::new(false));
    let storage = Stuck(Folder::new(dir.path().join("azure")), Arc::clone(&is_stuck));
    let identity = Identity::open(storage, settings()).await.expect("opens");
    let header = identity.managed_identity_header();
    let token = identity
        .sign_in_managed_identity(&header, None, AUDIENCE)
        .await
        .expect("signed in");
    is_stuck.store(true, Ordering::SeqCst);
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
async fn a_copy_that_was_brought_back_is_told_of_and_no_change_of_it_seems_to_count() {
    let dir = dir();
    let identity = open(&dir).await;
    let folder = Folder::new(dir.path().join("azure"));
    let old = folder.load().await.expect("loads").expect("there");
    for _ in 0..5 {
        identity.rotate_signing_key().await.expect("rotated");
    }
    let newer = folder.load().await.expect("loads").expect("there");
    let restored = folder.save(&old.document, Some(&newer.version)).await;
    let mut restored = restored.expect("a person with a backup");
    identity.refresh().await;
    assert_eq!(identity.looked().failure, None, "a watch may be behind");
    let error = identity.rotate_signing_key().await.expect_err("older");
    assert!(matches!(error, IdentityError::Older { .. }), "{error}");
    let mut told = Vec::new();
    for _ in 0..2 {
        let long_ago = std::time::Instant::now().checked_sub(Duration::from_mins(1));
        identity.looked().older_since = Some(long_ago.expect("a machine that is up for a minute"));
        identity.refresh().await;
        let failure = identity.looked().failure.clone().expect("told");
        assert!(failure.contains("restart the front"), "{failure}");
        told.push(failure);
        // Each change of it is told of anew.
        let command = attach(&dir).await;
        command.rotate_signing_key().await.expect("rotated");
        let kept = folder.load().await.expect("loads").expect("there");
        restored = kept.version;
    }
    assert_ne!(told[0], told[1]);
    let newest = folder.save(&newer.document, Some(&restored)).await;
    newest.expect("brought back");
    identity.refresh().await;
    assert_eq!(identity.looked().failure, None);
    identity.rotate_signing_key().await.expect("rotated");
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

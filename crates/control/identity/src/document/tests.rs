use super::*;

use secrecy::ExposeSecret;

fn names() -> Vec<String> {
    vec!["localhost".to_owned()]
}

fn make() -> Document {
    Document::new(Uuid::nil(), &names(), Timestamp::now()).expect("made")
}

fn text(document: &Document) -> String {
    String::from_utf8(document.write("here").expect("written")).expect("text")
}

#[test]
fn it_is_read_back_as_it_was_written() {
    let mut document = make();
    let secret = SecretHash::of(&secret::generate().expect("random")).expect("random");
    let id = PrincipalId::random();
    document
        .add(id, "ci", secret, Timestamp::now())
        .expect("new");
    let written = text(&document);
    let back = Document::read(written.as_bytes(), "here").expect("read");
    assert_eq!(text(&back), written);
}

#[test]
fn a_secret_is_in_it_neither_in_clear_nor_in_debug_output() {
    let mut document = make();
    let secret = secret::generate().expect("random");
    let hash = SecretHash::of(&secret).expect("random");
    let id = PrincipalId::random();
    document.add(id, "ci", hash, Timestamp::now()).expect("new");
    let written = text(&document);
    assert!(!written.contains(secret.expose_secret()));
    let shown = format!("{document:?}");
    let header = document.managed_identity.header.expose_secret();
    for hidden in [header, "PRIVATE KEY", secret.expose_secret()] {
        assert!(!shown.contains(hidden), "{hidden} shows");
    }
    // Both are really there to be hidden.
    assert!(written.contains(header) && written.contains("PRIVATE KEY"));
}

#[test]
fn a_newer_format_is_refused_with_a_sentence_whatever_else_it_has() {
    let error = Document::read(br#"{"format": 2, "keys": {"quantum": true}}"#, "folder /x");
    let error = error.expect_err("newer").to_string();
    assert_eq!(
        error,
        "the identities in folder /x are of format 2, and this migpool knows up to format 1: use the newer migpool"
    );
}

#[test]
fn what_cannot_be_read_is_told_without_its_contents() {
    let whole = text(&make());
    let broken = whole.replace("\"principals\": []", "\"principals\": \"SECRET\"");
    assert_ne!(broken, whole);
    for bytes in [
        &b""[..],
        b"SECRET",
        broken.as_bytes(),
        &whole.as_bytes()[..whole.len() / 2],
    ] {
        let error = Document::read(bytes, "folder /x").expect_err("broken");
        assert!(matches!(error, IdentityError::Unreadable { .. }), "{error}");
        let error = error.to_string();
        assert!(
            error.contains("folder /x") && error.contains("line"),
            "{error}"
        );
        assert!(!error.contains("SECRET"), "{error}");
    }
}

#[test]
fn the_first_one_gives_the_subscription_to_the_managed_identity() {
    let document = make();
    let expected = Assignment {
        principal: document.managed_identity.id,
        role: Role::Owner,
        scope: RoleScope::subscription(Uuid::nil()),
    };
    assert_eq!(document.assignments, [expected]);
    assert_eq!(document.all().len(), 1);
}

#[test]
fn a_name_is_one_principals_and_can_be_written_down() {
    let mut document = make();
    let hash = SecretHash::nobodys;
    let now = Timestamp::now();
    let mut add = |name: &str| document.add(PrincipalId::random(), name, hash(), now);
    add("ci").expect("new");
    for taken in ["ci", "CI", "migpool"] {
        let error = add(taken).expect_err("taken");
        assert!(matches!(error, IdentityError::NameTaken(_)), "{error}");
    }
    for wrong in ["", " ci2", "a\nb", &"x".repeat(121)] {
        let error = add(wrong).expect_err("no name");
        assert!(matches!(error, IdentityError::InvalidName(_)), "{error}");
    }
}

#[test]
fn who_goes_takes_all_roles_along_and_the_managed_identity_stays() {
    let mut document = make();
    let id = PrincipalId::random();
    let hash = SecretHash::nobodys();
    document.add(id, "ci", hash, Timestamp::now()).expect("new");
    let role = Assignment {
        principal: id,
        role: Role::Reader,
        scope: RoleScope::subscription(Uuid::nil()),
    };
    document.put(role.clone());
    document.put(role.clone());
    assert_eq!(document.assignments.len(), 2, "the same role twice is one");
    document.remove(id).expect("there");
    assert_eq!(document.assignments.len(), 1);
    assert!(document.known(id).is_none());
    assert!(matches!(
        document.remove(id),
        Err(IdentityError::NoPrincipal(_))
    ));
    assert!(matches!(
        document.take(&role),
        Err(IdentityError::NoAssignment(_))
    ));
    let managed = document.managed_identity.id;
    let error = document.remove(managed).expect_err("stays");
    assert!(matches!(error, IdentityError::ManagedIdentity), "{error}");
}

#[test]
fn another_subscription_and_other_names_are_taken_over_and_nothing_else_is_touched() {
    let mut document = make();
    let now = Timestamp::now();
    let before = text(&document);
    document
        .bring_up_to_date(Uuid::nil(), &names(), now)
        .expect("nothing to do");
    assert_eq!(text(&document), before);
    let names = vec!["other.example".to_owned()];
    let subscription = Uuid::max();
    assert!(document.is_due(subscription, &names, now));
    document
        .bring_up_to_date(subscription, &names, now)
        .expect("changed");
    assert!(!document.is_due(subscription, &names, now));
    assert_eq!(document.server.names, names);
    let scopes: Vec<_> = document
        .assignments
        .iter()
        .map(|assigned| assigned.scope.subscription_id())
        .collect();
    assert_eq!(scopes, [Uuid::nil(), Uuid::max()]);
}

use super::*;

use jiff::SignedDuration;

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn names() -> Vec<String> {
    vec!["hook.migpool.svc".to_owned(), "hook.migpool".to_owned()]
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn made() -> Bundle {
    Bundle::new(&names(), Timestamp::now(), None).unwrap()
}

fn good(bundle: &Bundle, name: &str, days: i32) -> Result<(), Unusable> {
    let now = Timestamp::now() + DAY * days;
    bundle.check(name, now, &provider()).map(|_| ())
}

#[test]
fn a_new_one_is_good_for_its_names_and_two_thirds_of_a_year() {
    let bundle = made();
    for days in [0, 100, 240] {
        assert_eq!(good(&bundle, "hook.migpool.svc", days), Ok(()));
    }
    assert_eq!(good(&bundle, "hook.migpool", 0), Ok(()));
    for (name, days) in [
        ("hook.migpool.svc", 246),
        ("hook.migpool.svc", -5),
        ("hook.other.svc", 0),
        ("", 0),
    ] {
        let error = good(&bundle, name, days);
        assert!(
            matches!(error, Err(Unusable::Untrusted { .. })),
            "{error:?}"
        );
    }
}

#[test]
fn what_does_not_belong_together_is_not_used() {
    let (bundle, other) = (made(), made());
    let name = "hook.migpool.svc";
    let key = Bundle {
        key: other.key.clone(),
        ..bundle.clone()
    };
    assert_eq!(good(&key, name, 0), Err(Unusable::OtherKey));
    let authority = Bundle {
        authorities: other.authorities,
        ..bundle.clone()
    };
    let error = good(&authority, name, 0);
    assert!(
        matches!(error, Err(Unusable::Untrusted { .. })),
        "{error:?}"
    );
    let broken = Bundle {
        certificate: b"-----BEGIN CERTIFICATE-----\nx".to_vec(),
        ..bundle
    };
    assert_eq!(good(&broken, name, 0), Err(Unusable::Unreadable("tls.crt")));
}

#[test]
fn the_last_authority_stays_trusted_and_the_one_before_it_does_not() {
    let first = made();
    let second = Bundle::new(&names(), Timestamp::now(), Some(&first)).unwrap();
    let third = Bundle::new(&names(), Timestamp::now(), Some(&second)).unwrap();
    let trusts = |bundle: &Bundle, of: &Bundle| {
        let mixed = Bundle {
            authorities: bundle.authorities.clone(),
            ..of.clone()
        };
        good(&mixed, "hook.migpool.svc", 0).is_ok()
    };
    assert!(trusts(&second, &second) && trusts(&second, &first));
    assert!(trusts(&third, &third) && trusts(&third, &second));
    assert!(!trusts(&third, &first));
}

#[test]
fn a_secret_gives_back_what_was_written_and_an_empty_one_nothing() {
    let bundle = made();
    let mut secret = Secret::default();
    assert_eq!(Bundle::of(&secret), Err(Unusable::Unreadable("tls.crt")));
    bundle.write(&mut secret);
    assert_eq!(Bundle::of(&secret), Ok(bundle));
}

use super::*;

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn names() -> Vec<String> {
    ["127.0.0.1", "::1", "localhost", "migpool.example.com"]
        .map(str::to_owned)
        .to_vec()
}

fn read(pem: &str) -> Vec<CertificateDer<'static>> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes());
    all.collect::<Result<_, _>>().expect("PEM")
}

/// What a client says that trusts `roots`, shown this chain.
fn client(roots: &str, chain: &str, name: &str, now: Timestamp) -> Result<(), rustls::Error> {
    let mut store = RootCertStore::empty();
    for root in read(roots) {
        store.add(root).expect("a root");
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(store.into(), provider)
        .build()
        .expect("roots");
    let chain = read(chain);
    let (server, rest) = chain.split_first().expect("a certificate");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let now = Duration::from_secs(now.as_second().try_into().expect("after 1970"));
    let now = UnixTime::since_unix_epoch(now);
    verifier
        .verify_server_cert(server, rest, &name, &[], now)
        .map(|_| ())
}

#[test]
fn clients_that_trust_the_authority_take_the_server_by_all_its_names_for_its_90_days() {
    let now = Timestamp::now();
    let authority = Authority::new(now).expect("made");
    let server = authority.certify(&names(), now).expect("made");
    let chain = &server.certificate;
    for name in names() {
        for days in [0, 88] {
            let then = now + DAY * days;
            assert_eq!(client(&authority.trusted(now), chain, &name, then), Ok(()));
        }
    }
    let trusted = authority.trusted(now);
    for (name, days) in [
        ("localhost", 91),
        ("localhost", -3),
        ("other", 0),
        ("127.0.0.2", 0),
    ] {
        let then = now + DAY * days;
        client(&trusted, chain, name, then).expect_err("not good");
    }
    let other = Authority::new(now).expect("made");
    client(&other.trusted(now), chain, "localhost", now).expect_err("not of that authority");
}

#[test]
fn after_a_rotation_old_clients_and_new_ones_take_the_server() {
    let now = Timestamp::now();
    let old = Authority::new(now).expect("made");
    let new = old.successor(now).expect("made");
    let server = new.certify(&names(), now).expect("made");
    let bridge = new.bridge(now).expect("a bridge");
    let chain = format!("{}{bridge}", server.certificate);
    let only_new = &new.certificate;
    for roots in [&old.trusted(now), &new.trusted(now), only_new] {
        assert_eq!(client(roots, &chain, "localhost", now), Ok(()));
    }
    // A server that hasn't followed yet is taken by those who have.
    let late = old.certify(&names(), now).expect("made");
    let trusted = new.trusted(now);
    assert_eq!(
        client(&trusted, &late.certificate, "localhost", now),
        Ok(())
    );
    // After two rotations the first authority is out.
    let newest = new.successor(now).expect("made");
    assert!(!newest.trusted(now).contains(&old.certificate));
    let server = newest.certify(&names(), now).expect("made");
    let bridge = newest.bridge(now).expect("a bridge");
    let chain = format!("{}{bridge}", server.certificate);
    client(&old.certificate, &chain, "localhost", now).expect_err("out");
}

#[test]
fn an_authority_that_has_run_out_builds_no_bridge() {
    let now = Timestamp::now();
    let old = Authority::new(now - DAY * 4000).expect("made");
    let new = old.successor(now).expect("made");
    assert_eq!(new.bridge(now), None);
    assert_eq!(new.trusted(now), new.certificate);
}

#[test]
fn what_runs_out_is_due_in_time() {
    let now = Timestamp::now();
    let authority = Authority::new(now).expect("made");
    let server = authority.certify(&names(), now).expect("made");
    assert!(!server.is_due(&names(), now + DAY * 59));
    assert!(server.is_due(&names(), now + DAY * 61));
    assert!(server.is_due(&names()[1..], now), "other names");
    let turned: Vec<String> = names().into_iter().rev().collect();
    assert!(!server.is_due(&turned, now), "the same names");
    assert!(!authority.is_due(now + DAY * (3652 - 366)));
    // Nothing that an authority signs outlives it.
    assert!(authority.is_due(now + DAY * (3652 - 364)));
}

#[test]
fn names_that_no_certificate_can_have_are_refused() {
    let now = Timestamp::now();
    let authority = Authority::new(now).expect("made");
    let error = authority
        .certify(&[], now)
        .expect_err("no name")
        .to_string();
    assert!(error.contains("there is none"), "{error}");
    let error = authority.certify(&["bücher.example".to_owned()], now);
    let error = error.expect_err("not ASCII").to_string();
    assert!(error.contains("give DNS names and IP addresses"), "{error}");
}

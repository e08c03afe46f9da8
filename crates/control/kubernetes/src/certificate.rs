//! The certificate that the webhook shows the API server: an authority of its own that signs it once, and is then forgotten.

mod keeper;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

pub(crate) use keeper::WebhookIdentity;

/// How long a certificate is good for, in days.
const LIFE: i64 = 365;

/// How much of its life must be left.
const LEFT: Duration = Duration::from_hours(24 * 365 / 3);

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITY: &str = "ca.crt";

/// The certificate that is served now, if there is one. Cheap to clone; all clones serve the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Serving(Arc<RwLock<Option<Arc<CertifiedKey>>>>);

impl Serving {
    /// Serves this one from the next connection on.
    pub(crate) fn set(&self, key: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }

    /// The one that is served.
    pub(crate) fn get(&self) -> Option<Arc<CertifiedKey>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.get()
    }
}

/// A certificate and its key, with the authorities that clients are to trust, as a Secret has them: in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bundle {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
    /// The one that signed the certificate, and behind it the one that signed the last: a replica that still shows the old
    /// certificate is trusted until it has the new one.
    pub(crate) authorities: Vec<u8>,
}

/// Why a certificate is not used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// A part of it is not there or can't be read.
    #[error("its {0} is missing or can't be read")]
    Unreadable(&'static str),
    /// Certificate and key don't belong together.
    #[error("its key is not the certificate's")]
    OtherKey,
    /// A client would not take it now, or soon will not.
    #[error("it is not good for {name} for another four months: {reason}")]
    Untrusted {
        /// The name that clients know the webhook by.
        name: String,
        /// What they would say.
        reason: String,
    },
}

impl Bundle {
    /// What a Secret has in it.
    pub(crate) fn of(secret: &Secret) -> Result<Self, Unusable> {
        let part = |name: &'static str| {
            let data = secret.data.as_ref();
            data.and_then(|data| data.get(name))
                .filter(|part| !part.0.is_empty())
                .map(|part| part.0.clone())
                .ok_or(Unusable::Unreadable(name))
        };
        Ok(Self {
            certificate: part(CERTIFICATE)?,
            key: part(KEY)?,
            authorities: part(AUTHORITY)?,
        })
    }

    /// Puts it into a Secret.
    pub(crate) fn write(&self, secret: &mut Secret) {
        let data = secret.data.get_or_insert_default();
        for (name, part) in [
            (CERTIFICATE, &self.certificate),
            (KEY, &self.key),
            (AUTHORITY, &self.authorities),
        ] {
            data.insert(name.to_owned(), ByteString(part.clone()));
        }
    }

    /// A new one for these names, the first of which is the one that clients ask for; what `last` was trusted by stays trusted.
    pub(crate) fn new(
        names: &[String],
        now: Timestamp,
        last: Option<&Self>,
    ) -> Result<Self, rcgen::Error> {
        let mut authority = parameters(Vec::new(), "migpool webhook authority", now)?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate()?;
        let mut authorities = authority.self_signed(&authority_key)?.pem().into_bytes();
        let issuer = Issuer::new(authority, authority_key);

        let mut server = parameters(names.to_vec(), "migpool webhook", now)?;
        server.use_authority_key_identifier_extension = true;
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &issuer)?.pem().into_bytes();

        if let Some(old) = last.and_then(|last| first_certificate(&last.authorities)) {
            authorities.extend_from_slice(&old);
        }
        Ok(Self {
            certificate,
            key: key.serialize_pem().into_bytes(),
            authorities,
        })
    }

    /// The certificate, ready to be served, if a client that trusts the authorities takes it as that of `name` now, and will for
    /// a third of its life.
    pub(crate) fn check(
        &self,
        name: &str,
        now: Timestamp,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<CertifiedKey>, Unusable> {
        let chain = certificates(&self.certificate, CERTIFICATE)?;
        let key =
            PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| Unusable::Unreadable(KEY))?;
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|_| Unusable::Unreadable(KEY))?;
        let mut roots = RootCertStore::empty();
        for authority in certificates(&self.authorities, AUTHORITY)? {
            roots
                .add(authority)
                .map_err(|_| Unusable::Unreadable(AUTHORITY))?;
        }
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|_| Unusable::OtherKey)?;

        let untrusted = |reason: String| Unusable::Untrusted {
            name: name.to_owned(),
            reason,
        };
        let client = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .map_err(|error| untrusted(error.to_string()))?;
        let subject = ServerName::try_from(name).map_err(|error| untrusted(error.to_string()))?;
        let now = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
        let (certificate, rest) = key
            .cert
            .split_first()
            .ok_or(Unusable::Unreadable(CERTIFICATE))?;
        for time in [now, now + LEFT] {
            let time = UnixTime::since_unix_epoch(time);
            client
                .verify_server_cert(certificate, rest, &subject, &[], time)
                .map_err(|error| untrusted(error.to_string()))?;
        }
        Ok(Arc::new(key))
    }
}

/// Valid from yesterday, since the API server's clock may be behind.
fn parameters(
    names: Vec<String>,
    common_name: &str,
    now: Timestamp,
) -> Result<CertificateParams, rcgen::Error> {
    let today = now.to_zoned(TimeZone::UTC).date();
    let date = |days: i64| {
        let date = today.saturating_add(days.days());
        let part = |part: i8| u8::try_from(part).unwrap_or(1);
        rcgen::date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
    };
    let mut parameters = CertificateParams::new(names)?;
    parameters.not_before = date(-1);
    parameters.not_after = date(LIFE);
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::CommonName, common_name);
    Ok(parameters)
}

fn certificates(pem: &[u8], part: &'static str) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| Unusable::Unreadable(part))?;
    if all.is_empty() {
        return Err(Unusable::Unreadable(part));
    }
    Ok(all)
}

/// The text of the first certificate of a PEM file, if it is one.
fn first_certificate(pem: &[u8]) -> Option<Vec<u8>> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = std::str::from_utf8(pem).ok()?;
    let end = text.find(END)? + END.len();
    let first = text.get(..end)?.trim_start();
    CertificateDer::from_pem_slice(first.as_bytes()).ok()?;
    Some(format!("{first}\n").into_bytes())
}

#[cfg(test)]
mod tests;

//! The certificate that clients are shown: always the one of the document as it is now.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use secrecy::ExposeSecret;
use tokio::sync::watch;

use crate::document::Document;
use crate::error::IdentityError;
use crate::state::State;

/// Follows the state.
pub(crate) struct Serving(pub(crate) watch::Receiver<Arc<State>>);

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.borrow().certificate.clone())
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Serving")
    }
}

fn unusable(error: impl fmt::Display) -> IdentityError {
    IdentityError::Cryptography {
        what: "the server's certificate",
        reason: error.to_string(),
    }
}

/// A document's certificate with its bridge and its key, ready to be shown.
pub(crate) fn certified_key(
    document: &Document,
    now: Timestamp,
) -> Result<CertifiedKey, IdentityError> {
    let server = &document.server;
    let bridge = document.authority.bridge(now).unwrap_or_default();
    let chain = format!("{}{bridge}", server.certificate);
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(unusable)?;
    let key =
        PrivateKeyDer::from_pem_slice(server.key.expose_secret().as_bytes()).map_err(unusable)?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(unusable)
}

/// TLS as a front speaks it: 1.2 and 1.3, HTTP/1.1.
pub(crate) fn server_config(serving: Serving) -> Result<ServerConfig, IdentityError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(unusable)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(serving));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

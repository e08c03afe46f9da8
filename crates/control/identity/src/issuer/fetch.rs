//! Fetching an issuer's discovery document and keys, within a few seconds or not at all.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::TrustedIssuer;
use super::keys::KeySet;

/// How long both documents may take together.
const PATIENCE: Duration = Duration::from_secs(4);

/// The largest document, in bytes.
const LARGEST: usize = 256 * 1024;

/// Why keys can't be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// Not within the time.
    #[error("no answer within {} seconds", PATIENCE.as_secs())]
    Slow,
    /// The file with its authorities can't be used.
    #[error("the file {path} with its authorities can't be used: {reason}")]
    Authority { path: String, reason: String },
    /// The system trusts nobody.
    #[error("this system has no authorities to trust: name a file with the issuer's")]
    NoAuthorities,
    /// It can't be reached.
    #[error("{url} can't be reached: {reason}")]
    Unreachable { url: String, reason: String },
    /// It answered with something else.
    #[error("{url} answers with {status}")]
    Status { url: String, status: StatusCode },
    /// What it says is not what it should be.
    #[error("what {url} says can't be used: {reason}")]
    Unusable { url: String, reason: String },
}

/// The part of a discovery document that matters here.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// The keys of an issuer as it shows them now.
pub(super) async fn keys(trusted: &TrustedIssuer) -> Result<KeySet, FetchError> {
    timeout(PATIENCE, keys_at_leisure(trusted))
        .await
        .unwrap_or(Err(FetchError::Slow))
}

async fn keys_at_leisure(trusted: &TrustedIssuer) -> Result<KeySet, FetchError> {
    let client = client(trusted.authority.as_deref()).await?;
    let base = trusted.issuer.trim_end_matches('/');
    let url = format!("{base}/.well-known/openid-configuration");
    let unusable = |url: &str, reason: String| FetchError::Unusable {
        url: url.to_owned(),
        reason,
    };
    let discovery = get(&client, &url).await?;
    let discovery: Discovery = serde_json::from_slice(&discovery)
        .map_err(|error| unusable(&url, format!("it is no discovery document: {error}")))?;
    if discovery.issuer != trusted.issuer {
        let reason = format!(
            "it is that of issuer {:?}, and {:?} is trusted",
            discovery.issuer, trusted.issuer
        );
        return Err(unusable(&url, reason));
    }
    let url = discovery.jwks_uri;
    let keys = get(&client, &url).await?;
    let keys = KeySet::read(&keys)
        .map_err(|error| unusable(&url, format!("it is no set of keys: {error}")))?;
    if keys.is_empty() {
        let reason = "it has no key for RS256 (2048 bits or more) or ES256".to_owned();
        return Err(unusable(&url, reason));
    }
    Ok(keys)
}

async fn client(authority: Option<&Path>) -> Result<TlsConnector, FetchError> {
    let authority = authority.map(Path::to_owned);
    let roots = tokio::task::spawn_blocking(move || match authority {
        Some(path) => authorities_of_file(&path),
        None => authorities_of_system(),
    })
    .await
    .unwrap_or(Err(FetchError::NoAuthorities))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|_| FetchError::NoAuthorities)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn authorities_of_file(path: &Path) -> Result<RootCertStore, FetchError> {
    let refused = |reason: String| FetchError::Authority {
        path: path.display().to_string(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    let all = CertificateDer::pem_file_iter(path).map_err(|error| refused(error.to_string()))?;
    for certificate in all {
        let certificate = certificate.map_err(|error| refused(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| refused(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refused("it has no certificate".to_owned()));
    }
    Ok(roots)
}

fn authorities_of_system() -> Result<RootCertStore, FetchError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(FetchError::NoAuthorities);
    }
    Ok(roots)
}

/// The body of an https URL. Redirections are not followed.
async fn get(client: &TlsConnector, url: &str) -> Result<Bytes, FetchError> {
    let unusable = |reason: &str| FetchError::Unusable {
        url: url.to_owned(),
        reason: reason.to_owned(),
    };
    let unreachable = |reason: String| FetchError::Unreachable {
        url: url.to_owned(),
        reason,
    };
    let uri: Uri = url.parse().map_err(|_| unusable("it is no URL"))?;
    let (Some("https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(unusable("it does not begin with https://"));
    };
    let host = authority.host();
    // An IPv6 address stands in brackets in a URL, and without them everywhere else.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|_| unusable("it has no host"))?;
    let io_error = |error: io::Error| unreachable(error.to_string());
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(443)))
        .await
        .map_err(io_error)?;
    let stream = client.connect(name, stream).await.map_err(io_error)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(HOST, authority.as_str())
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("migpool/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| unusable(&error.to_string()))?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status {
                url: url.to_owned(),
                status: response.status(),
            });
        }
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| unusable(&error.to_string()))?;
        Ok(body.to_bytes())
    };
    // The connection is driven here and ends here: nothing is left behind when the time is over.
    tokio::pin!(exchange);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut exchange => answer,
        // An answer that came whole before the connection ended is an answer.
        _ = &mut connection => exchange.await,
    }
}
